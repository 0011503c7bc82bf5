//! `watchdog` of `cluster.ron`: the device that resets a node whose manager hangs.

use super::problem::{At, Problem};
use std::path::PathBuf;
use tandem_failover::io::watchdog::DEVICE;

/// Which of the kernel's watchdog devices resets a node whose manager hangs.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum Watchdog {
    /// That of the machine, if systemd started the manager: it starts a dead one again.
    Auto,
    Off,
    Device(PathBuf),
}

impl Watchdog {
    pub(super) fn check(raw: Option<At<String>>, problems: &mut Vec<Problem>) -> Self {
        let Some(raw) = raw else {
            return Self::Auto;
        };
        match &*raw.value {
            "auto" => Self::Auto,
            "off" => Self::Off,
            path if path.starts_with("/dev/") => Self::Device(path.into()),
            other => {
                let found = format!("found `{other}`");
                let message = format!("{found}, expected \"auto\", \"off\" or a path below /dev");
                problems.push(Problem::new(raw.place, message));
                Self::Off
            }
        }
    }

    /// The device, if there is one to be used.
    pub(super) fn device(&self) -> Option<PathBuf> {
        match self {
            Self::Off => None,
            Self::Device(path) => Some(path.clone()),
            Self::Auto => {
                let device = PathBuf::from(DEVICE);
                let is_unit = std::env::var_os("NOTIFY_SOCKET").is_some();
                (is_unit && device.exists()).then_some(device)
            }
        }
    }
}
