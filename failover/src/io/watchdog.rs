//! The kernel's watchdog device: it resets this machine when the manager falls silent.
//!
//! A manager that hangs, or that is dead and is not started again, cannot stop the application nor
//! give the addresses up when another node takes over. So from before a node begins to serve until
//! nothing of a module answers on it any more, the manager's loop feeds the device. A device that
//! another program feeds, and one that could not be switched off again, is left alone.

use nix::{ioctl_read, ioctl_readwrite};
use std::fs::{File, OpenOptions};
use std::io::{self, Write};
use std::os::fd::AsRawFd;
use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};

/// The device of a machine that has one.
pub const DEVICE: &str = "/dev/watchdog";
/// Silence of the manager after which the machine is reset. systemd has started a dead or hanging
/// manager anew by then (`WatchdogSec` of packaging/tandem.service).
const LIMIT: Duration = Duration::from_secs(30);
/// Between two words to the device.
const PACE: Duration = Duration::from_secs(2);
/// Between two attempts to open it.
const AGAIN: Duration = Duration::from_secs(60);
/// Written before the device is closed: it is meant so (kernel: watchdog-api).
const MEANT: &[u8] = b"V";

ioctl_read!(keep_alive, b'W', 5, libc::c_int);
ioctl_readwrite!(set_timeout, b'W', 6, libc::c_int);

/// The device, or none.
pub struct Watchdog {
    path: Option<PathBuf>,
    armed: Option<File>,
    next: Option<Instant>,
}

impl Watchdog {
    /// Touches nothing yet. Without a path there is never anything to do.
    #[must_use]
    pub fn new(path: Option<PathBuf>) -> Self {
        Self {
            path,
            armed: None,
            next: None,
        }
    }

    /// As often as the loop goes round. `needed`: this node answers for a module, or is about to.
    pub fn tend(&mut self, now: Instant, needed: bool) {
        if !needed {
            return self.disarm();
        }
        let Some(path) = &self.path else { return };
        if self.next.is_some_and(|next| now < next) {
            return;
        }
        let fed = match &self.armed {
            Some(device) => feed(device),
            None => arm(path).map(|device| self.armed = Some(device)),
        };
        self.next = Some(now + if fed.is_ok() { PACE } else { AGAIN });
        if let Err(e) = fed {
            let path = path.display();
            tracing::warn!("watchdog {path}: {e}; nothing resets this machine if it hangs");
        }
    }

    fn disarm(&mut self) {
        self.next = None;
        let Some(mut device) = self.armed.take() else {
            return;
        };
        if let Err(e) = device.write_all(MEANT) {
            tracing::warn!("the watchdog could not be switched off: {e}");
        }
    }
}

fn feed(device: &File) -> io::Result<()> {
    let mut unused = 0;
    // SAFETY: the descriptor is open, and the number is valid for writes.
    unsafe { keep_alive(device.as_raw_fd(), &raw mut unused) }?;
    Ok(())
}

/// Opening it starts it.
fn arm(path: &Path) -> io::Result<File> {
    if cannot_be_ended(path) {
        return Err(io::Error::other(
            "it could not be switched off again (nowayout)",
        ));
    }
    let device = OpenOptions::new().write(true).open(path)?;
    let mut seconds = LIMIT.as_secs() as libc::c_int;
    // SAFETY: the descriptor is open, and the number is valid for reads and writes.
    if let Err(e) = unsafe { set_timeout(device.as_raw_fd(), &raw mut seconds) } {
        // It keeps its own, if it is a watchdog at all.
        tracing::warn!("watchdog {}: its time limit stays: {e}", path.display());
    }
    feed(&device)?;
    tracing::info!(
        "watchdog {} resets this machine if the manager is silent for {seconds} s",
        path.display()
    );
    Ok(device)
}

/// What the kernel tells of it, where it does.
fn cannot_be_ended(path: &Path) -> bool {
    let name = path.file_name().and_then(|n| n.to_str()).unwrap_or("");
    let name = if name == "watchdog" {
        "watchdog0"
    } else {
        name
    };
    let told = std::fs::read_to_string(format!("/sys/class/watchdog/{name}/nowayout"));
    told.is_ok_and(|text| text.trim() == "1")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_no_watchdog_is_not_taken_for_one() {
        let name = format!("tandem-watchdog-{}", std::process::id());
        let path = std::env::temp_dir().join(name);
        std::fs::write(&path, "").unwrap();
        let mut watchdog = Watchdog::new(Some(path.clone()));
        let now = Instant::now();
        watchdog.tend(now, true);
        assert!(watchdog.armed.is_none());
        // Nor is it tried all the time, and nothing is written to it.
        assert_eq!(watchdog.next, Some(now + AGAIN));
        watchdog.tend(now, false);
        assert_eq!(std::fs::read(&path).unwrap(), b"");
        std::fs::remove_file(&path).unwrap();
    }
}
