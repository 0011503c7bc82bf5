//! Signals to the manager, and the one it sends.

use signal_hook::consts::{SIGINT, SIGTERM};
use signal_hook::iterator::Signals as Incoming;

/// The signals that ask the manager to end, caught from now on.
pub(super) struct Signals(Option<Incoming>);

impl Signals {
    pub(super) fn catch() -> Self {
        let incoming = Incoming::new([SIGTERM, SIGINT]);
        Self(incoming.map_err(|e| tracing::warn!("signals: {e}")).ok())
    }

    /// Calls `tell` at each, until it returns false.
    pub(super) fn forward(self, tell: impl Fn() -> bool + Send + 'static) {
        let Some(mut incoming) = self.0 else { return };
        let run = move || {
            for _ in incoming.forever() {
                if !tell() {
                    return;
                }
            }
        };
        let spawned = std::thread::Builder::new()
            .name("signals".into())
            .spawn(run);
        if let Err(e) = spawned {
            tracing::warn!("signals: {e}");
        }
    }
}

/// Ends a process at once.
pub(super) fn kill(pid: u32) {
    let Ok(pid) = i32::try_from(pid) else { return };
    let signal = nix::sys::signal::Signal::SIGKILL;
    if let Err(e) = nix::sys::signal::kill(nix::unistd::Pid::from_raw(pid), signal) {
        tracing::warn!("process {pid} could not be killed: {e}");
    }
}
