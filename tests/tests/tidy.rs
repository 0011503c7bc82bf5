//! The house rules hold in this workspace, and each rule sees what it is for.

#![allow(
    clippy::unwrap_used,
    reason = "a failed set-up ends the test, with its line"
)]

use std::path::Path;
use tandem_tests::tidy::{Source, check, check_source};

#[test]
fn the_workspace_keeps_the_house_rules() {
    let root = Path::new(env!("CARGO_MANIFEST_DIR")).parent().unwrap();
    let findings = check(root).unwrap();
    assert!(
        findings.is_empty(),
        "{} findings:\n{}",
        findings.len(),
        findings.join("\n")
    );
}

fn findings(path: &str, text: &str) -> Vec<String> {
    let source = Source {
        path: path.into(),
        text: text.into(),
    };
    check_source(&source, &|path| path == Path::new("docs/there.md"))
}

/// Expects exactly one finding, at this line, with these words.
fn finds(path: &str, text: &str, line: usize, words: &str) {
    let found = findings(path, text);
    assert_eq!(found.len(), 1, "{found:?}");
    assert!(
        found[0].starts_with(&format!("{path}:{line}: ")),
        "{found:?}"
    );
    assert!(found[0].contains(words), "{found:?}");
}

const GOOD: &str = "//! Why.\n\nfn f() {}\n";

#[test]
fn a_good_file_has_no_findings() {
    assert_eq!(findings("fs/src/a.rs", GOOD), Vec::<String>::new());
}

#[test]
fn long_files_are_found() {
    let full = format!("//! Why.\n{}", "x\n".repeat(399));
    assert_eq!(findings("fs/src/a.rs", &full), Vec::<String>::new());
    finds(
        "fs/src/a.rs",
        &format!("{full}x\n"),
        401,
        "more than 400 lines",
    );
}

#[test]
fn files_without_a_reason_are_found() {
    finds("fs/src/a.rs", "fn f() {}\n", 1, "opens without");
    finds("fs/src/a.rs", "// Why.\n", 1, "opens without");
}

#[test]
fn unfinished_work_is_found() {
    for mark in [
        "TO\u{44}O",
        "FIX\u{4d}E",
        "db\u{67}!(1)",
        "tod\u{6f}!()",
        "unimplemente\u{64}!()",
    ] {
        finds("fs/src/a.rs", &format!("{GOOD}// {mark}\n"), 4, "is left");
    }
}

#[test]
fn wide_lines_are_found() {
    let line = |len| format!("{GOOD}{}\n", "ü".repeat(len));
    assert_eq!(findings("fs/src/a.rs", &line(100)), Vec::<String>::new());
    finds("fs/src/a.rs", &line(101), 4, "longer than 100");
}

#[test]
fn impure_logic_is_found() {
    let impure = [
        "let now = Instant::now();",
        "use std::time::SystemTime;",
        "std::fs::read(path)",
        "use std::net::UdpSocket;",
        "use std::net::TcpStream;",
        "std::thread::sleep(x)",
        "use tokio::time;",
        "rand::random()",
        "libc::EIO",
    ];
    for line in impure {
        finds(
            "repl/src/logic/a.rs",
            &format!("{GOOD}{line}\n"),
            4,
            "in logic/",
        );
        assert_eq!(
            findings("repl/src/io/a.rs", &format!("{GOOD}{line}\n")),
            Vec::<String>::new()
        );
    }
    let in_comment = format!("{GOOD}// not like std::fs\n");
    assert_eq!(
        findings("repl/src/logic/a.rs", &in_comment),
        Vec::<String>::new()
    );
    let in_test = format!("{GOOD}#[cfg(test)]\nmod tests {{ use std::fs; }}\n");
    assert_eq!(
        findings("repl/src/logic/a.rs", &in_test),
        Vec::<String>::new()
    );
}

#[test]
fn dependencies_against_the_direction_are_found() {
    let manifest = |line: &str| format!("[package]\nname = \"x\"\n\n[dependencies]\n{line}\n");
    let uses = "tandem-fs.workspace = true";
    finds(
        "repl/Cargo.toml",
        &manifest(uses),
        5,
        "repl must not depend on tandem-fs",
    );
    finds(
        "failover/Cargo.toml",
        &manifest("tandem-fs = { path = \"../fs\" }"),
        5,
        "must not",
    );
    let tested = "[dev-dependencies]\ntandem.workspace = true\n";
    finds("fs/Cargo.toml", tested, 2, "fs must not depend on tandem:");
    finds("new/Cargo.toml", &manifest(uses), 5, "unknown crate");
    assert_eq!(
        findings("cli/Cargo.toml", &manifest(uses)),
        Vec::<String>::new()
    );
    let workspace = "[workspace.dependencies]\ntandem-fs = { path = \"fs\" }\n";
    assert_eq!(findings("Cargo.toml", workspace), Vec::<String>::new());
}

#[test]
fn links_to_nowhere_are_found() {
    finds(
        "docs/a.md",
        "see [it](gone.md)\n",
        1,
        "gone.md leads nowhere",
    );
    finds(
        "docs/deep/a.md",
        "[ok](../there.md#part) [bad](there.md)\n",
        1,
        "to there.md leads",
    );
    let fine = "[a](there.md) [b](https://example.org/x) [c](#here)\n```\n[d](gone.md)\n```\n";
    assert_eq!(findings("docs/a.md", fine), Vec::<String>::new());
}
