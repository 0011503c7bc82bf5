//! The kernel's setting for what happens to the other addresses of a network when its first goes.

/// A setting that was changed, and its old value.
pub(super) struct Kept {
    path: String,
    before: String,
}

impl Kept {
    pub(super) fn restore(self) {
        if let Err(error) = std::fs::write(&self.path, &self.before) {
            tracing::warn!("{}: back to {}: {error}", self.path, self.before.trim());
        }
    }
}

/// Makes another IPv4 address of the network its first when the first is removed. `None` if it is
/// so already, or cannot be made so.
pub(super) fn keep_secondaries(interface: &str) -> Option<Kept> {
    let path = format!("/proc/sys/net/ipv4/conf/{interface}/promote_secondaries");
    let before = std::fs::read_to_string(&path).ok()?;
    if before.trim() == "1" {
        return None;
    }
    match std::fs::write(&path, "1") {
        Ok(()) => Some(Kept { path, before }),
        Err(error) => {
            tracing::warn!(
                "{path}: {error}: other addresses of {interface} in the network of the virtual \
                 address may go with it"
            );
            None
        }
    }
}
