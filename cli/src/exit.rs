//! What the program's exit code means. Scripts rely on it: a code keeps its meaning for ever, new
//! ones are added at the end.

use std::process::ExitCode;

use tandem_failover::client::ClientError;

use crate::config::Problems;

#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
#[repr(u8)]
pub(crate) enum Exit {
    /// What was asked is done.
    Done = 0,
    /// Refused by the daemon, or failed; the reason is on standard error.
    Failed = 1,
    /// The command line cannot be understood, or names a module that is not configured.
    Usage = 2,
    /// The module's daemon does not run on this node.
    NotRunning = 3,
    /// The configuration has problems.
    Configuration = 4,
    /// The daemon did not answer in time; what was asked may still happen.
    NoAnswer = 5,
}

/// For the end of `tandem --help`.
pub(crate) const HELP: &str = "Exit codes: 0 done; 1 refused or failed; 2 usage; \
    3 the daemon is not running; 4 the configuration has problems; 5 no answer in time";

/// A mistake in what was typed, found after the arguments were parsed.
#[derive(Debug, thiserror::Error)]
#[error("{0}")]
pub(crate) struct UsageError(pub(crate) String);

impl Exit {
    /// The code for an error that ends the program.
    pub(crate) fn of(error: &anyhow::Error) -> Self {
        if error.is::<UsageError>() {
            Self::Usage
        } else if error.is::<Problems>() {
            Self::Configuration
        } else {
            match error.downcast_ref::<ClientError>() {
                Some(ClientError::NotRunning { .. }) => Self::NotRunning,
                Some(ClientError::TimedOut { .. }) => Self::NoAnswer,
                _ => Self::Failed,
            }
        }
    }
}

impl From<Exit> for ExitCode {
    fn from(exit: Exit) -> Self {
        Self::from(exit as u8)
    }
}

#[cfg(test)]
mod tests {
    use anyhow::Context;

    use super::*;

    #[test]
    fn an_error_keeps_its_code_under_context() {
        let error = ClientError::NotRunning {
            socket: "/run/x.sock".into(),
        };
        let error = Err::<(), _>(error)
            .context("asking module x")
            .expect_err("an error");
        assert_eq!(Exit::of(&error), Exit::NotRunning);
        assert_eq!(Exit::of(&anyhow::anyhow!("other")), Exit::Failed);
    }
}
