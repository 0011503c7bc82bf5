//! systemd's units, over the system bus: started, stopped and looked at by the interface that
//! systemd promises to keep, `org.freedesktop.systemd1`.
//!
//! Starting and stopping end when systemd's job has ended, and say how. Every call has a limit and
//! every error names the unit.

mod bus;

use std::fmt;
use std::time::{Duration, Instant};

/// systemd's units, by the bus that leads to it. A connection is made for each call: nothing must
/// be noticed and mended when the bus is started anew, and calls are few.
#[derive(Clone, Debug, Default)]
pub struct Services {
    /// `None`: the system bus.
    address: Option<String>,
}

/// What systemd says of a unit.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct UnitState {
    /// It runs, or has done what it is for and counts as running.
    pub active: bool,
    /// systemd's words: `active`, `reloading`, `inactive`, `failed`, `activating`, …
    pub state: String,
    /// In more detail: `running`, `dead`, `exited`, …
    pub sub: String,
    /// Why it ended, if it did: `success`, `exit-code`, `timeout`, …
    pub result: String,
}

impl fmt::Display for UnitState {
    fn fmt(&self, out: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(out, "{} ({})", self.state, self.sub)?;
        match self.result.as_str() {
            "" | "success" => Ok(()),
            result => write!(out, ", result {result}"),
        }
    }
}

/// Why something was not done with a unit.
#[derive(Debug, thiserror::Error)]
pub enum ServiceError {
    #[error("unit {unit}: no connection to systemd ({reason}); is this system run by systemd?")]
    NoBus { unit: String, reason: String },
    #[error("there is no unit {unit}; install it, or correct its name")]
    NoUnit { unit: String },
    #[error("unit {unit}: masked; systemctl unmask {unit}")]
    Masked { unit: String },
    #[error("unit {unit}: {action} was refused: {reason}")]
    Refused {
        unit: String,
        action: &'static str,
        reason: String,
    },
    #[error("unit {unit}: {action} ended with {result}; see journalctl -u {unit}")]
    Failed {
        unit: String,
        action: &'static str,
        result: String,
    },
    #[error("unit {unit}: {action} did not end within {} ms", limit.as_millis())]
    TimedOut {
        unit: String,
        action: &'static str,
        limit: Duration,
    },
}

impl Services {
    /// Of the system this runs on.
    pub fn new() -> Self {
        Self::default()
    }

    /// Behind another bus, by its D-Bus address.
    pub fn at(address: &str) -> Self {
        Self {
            address: Some(address.to_owned()),
        }
    }

    /// Starts a unit and waits until it is up. Does nothing when it is.
    ///
    /// # Errors
    /// [`ServiceError`]; when the time is over, systemd's job is cancelled.
    pub fn start(&self, unit: &str, limit: Duration) -> Result<(), ServiceError> {
        self.ask(unit, "starting", limit).job("StartUnit")
    }

    /// Stops a unit and waits until all its processes are gone, as the unit says. Does nothing when
    /// it is stopped.
    ///
    /// # Errors
    /// [`ServiceError`]; when the time is over, systemd goes on stopping it.
    pub fn stop(&self, unit: &str, limit: Duration) -> Result<(), ServiceError> {
        self.ask(unit, "stopping", limit).job("StopUnit")
    }

    /// Kills all processes of a unit that does not stop, and waits until it is down.
    ///
    /// # Errors
    /// [`ServiceError`]
    pub fn kill(&self, unit: &str, limit: Duration) -> Result<(), ServiceError> {
        self.ask(unit, "killing", limit).kill()
    }

    /// What a unit does now.
    ///
    /// # Errors
    /// [`ServiceError`]
    pub fn is_active(&self, unit: &str, limit: Duration) -> Result<UnitState, ServiceError> {
        self.ask(unit, "asking for its state", limit).state()
    }

    fn ask(&self, unit: &str, action: &'static str, limit: Duration) -> bus::Ask {
        bus::Ask {
            address: self.address.clone(),
            unit: full_name(unit),
            action,
            limit,
            deadline: Instant::now() + limit,
        }
    }
}

/// As `systemctl` does: a name without a kind is a service.
fn full_name(unit: &str) -> String {
    const KINDS: [&str; 11] = [
        "service",
        "socket",
        "target",
        "mount",
        "automount",
        "timer",
        "path",
        "slice",
        "scope",
        "swap",
        "device",
    ];
    match unit.rsplit_once('.') {
        Some((_, kind)) if KINDS.contains(&kind) => unit.to_owned(),
        _ => format!("{unit}.service"),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_name_without_a_kind_is_a_service() {
        assert_eq!(full_name("nginx"), "nginx.service");
        assert_eq!(full_name("nginx.service"), "nginx.service");
        assert_eq!(full_name("php8.2-fpm"), "php8.2-fpm.service");
        assert_eq!(full_name("shop.target"), "shop.target");
    }
}
