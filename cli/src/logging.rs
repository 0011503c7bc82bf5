//! Log lines go to standard error, where systemd and people look; standard output is for answers.

use std::io::IsTerminal;

use tracing_subscriber::EnvFilter;

/// Starts logging at the level in `TANDEM_LOG` (such as `debug`, or `info,tandem_repl=trace`;
/// default `info`). A value that is none is itself reported, not obeyed in part.
pub(crate) fn start() {
    let wanted = std::env::var("TANDEM_LOG").unwrap_or_default();
    let parsed = if wanted.is_empty() {
        Ok(default())
    } else {
        EnvFilter::try_new(&wanted)
    };
    let (filter, fault) = match parsed {
        Ok(filter) => (filter, None),
        Err(error) => (default(), Some(error)),
    };
    tracing_subscriber::fmt()
        .with_env_filter(filter)
        .with_writer(std::io::stderr)
        .with_ansi(std::io::stderr().is_terminal())
        .init();
    if let Some(error) = fault {
        tracing::warn!("TANDEM_LOG is `{wanted}`: {error}; logging at level info");
    }
}

fn default() -> EnvFilter {
    EnvFilter::new("info")
}
