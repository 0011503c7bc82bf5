//! One switch per rule of a module's machine, so that a test can take a single rule away and show
//! that a promise then breaks. The product runs with [`Rules::default`], which has all of them.

/// All rules are on by default. Each field is asked at the one place where its rule lives.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Rules {
    /// Addresses go at once where nothing allows this node to serve. Off: when the application has
    /// been stopped, in order.
    pub addresses_first: bool,
    /// Addresses go when the lease is over that the daemon told of, and a daemon that tells nothing
    /// more. Off: only when the daemon says that it does not serve.
    pub addresses_by_lease: bool,
    /// The daemon is asked to swap or to stop when nothing of the serving role runs any more. Off:
    /// at once.
    pub asks_when_idle: bool,
    /// What was left half way is stopped by force before it counts as known. Off: it is believed.
    pub cleans_doubt: bool,
    /// After a sleep the addresses are away until the daemon has found out what it may. Off: not.
    pub quarantine: bool,
    /// What is wanted is on the disk before the command is answered. Off: after.
    pub save_first: bool,
    /// What a predecessor left running is touched only when the daemon was heard of. Off: at once.
    pub hears_first: bool,
}

impl Default for Rules {
    fn default() -> Self {
        Self {
            addresses_first: true,
            addresses_by_lease: true,
            asks_when_idle: true,
            cleans_doubt: true,
            quarantine: true,
            save_first: true,
            hears_first: true,
        }
    }
}
