//! Log lines go to standard error, where systemd and people look; standard output is for answers.

use std::io::{self, IsTerminal, Write};

use tracing_subscriber::EnvFilter;

/// Standard error, as far as it takes anything: a full disk below a log file must not end the
/// thread that logs.
struct Lenient;

impl Write for Lenient {
    fn write(&mut self, line: &[u8]) -> io::Result<usize> {
        let _ = io::stderr().write_all(line);
        Ok(line.len())
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}

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
        .with_writer(|| Lenient)
        .with_ansi(io::stderr().is_terminal())
        .init();
    if let Some(error) = fault {
        tracing::warn!("TANDEM_LOG is `{wanted}`: {error}; logging at level info");
    }
}

/// From now on a panic of any thread ends the process: one that goes on without one of its threads
/// would hold its directories and not serve them, and nobody would take over.
pub(crate) fn abort_on_panic() {
    std::panic::set_hook(Box::new(|panic| {
        let _ = writeln!(io::stderr(), "tandem: a defect of this program: {panic}");
        std::process::abort();
    }));
}

fn default() -> EnvFilter {
    EnvFilter::new("info")
}
