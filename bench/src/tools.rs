//! Programs that the bench uses when they are there, and never installs.

use std::process::{Command, Stdio};
use std::sync::OnceLock;

/// A program in PATH.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Tool {
    Fio,
    /// Of GNU findutils; others make other system calls.
    Find,
}

impl Tool {
    pub(crate) fn name(self) -> &'static str {
        match self {
            Self::Fio => "fio",
            Self::Find => "find",
        }
    }

    pub(crate) fn is_installed(self) -> bool {
        self.version().is_some()
    }

    /// What it says of itself; `None`: it is not there, does not run, or is another program.
    /// Asked for once: nobody installs anything while a bench runs.
    pub(crate) fn version(self) -> Option<&'static str> {
        static FIO: OnceLock<Option<String>> = OnceLock::new();
        static FIND: OnceLock<Option<String>> = OnceLock::new();
        let (found, sign) = match self {
            Self::Fio => (&FIO, "fio-"),
            Self::Find => (&FIND, "findutils"),
        };
        found.get_or_init(|| ask(self.name(), sign)).as_deref()
    }
}

/// The first line of a program's `--version`, if it has `sign` in it.
fn ask(name: &str, sign: &str) -> Option<String> {
    let mut command = Command::new(name);
    command.arg("--version").env("LC_ALL", "C");
    let answer = command.stdin(Stdio::null()).output().ok()?;
    let text = String::from_utf8_lossy(&answer.stdout).into_owned();
    let line = text.lines().next().filter(|line| line.contains(sign))?;
    answer.status.success().then(|| line.to_owned())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_program_that_is_missing_or_another_has_no_version() {
        assert_eq!(ask("tandem-no-such-program", ""), None);
        assert_eq!(ask("true", "findutils"), None);
    }
}
