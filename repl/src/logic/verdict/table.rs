//! The table of verdicts that `docs/verdict.md` shows, made from the code.
