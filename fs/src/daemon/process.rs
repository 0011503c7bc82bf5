//! What concerns the process as a whole: its groups, its limits, its signals.

/// Open files the daemon may need: one per file that applications hold open, and its caches.
const OPEN_FILES: u64 = 1 << 20;

/// The daemon's own groups must not be taken for those of the callers it acts for.
pub(super) fn drop_groups() {
    // SAFETY: no groups are passed, so no memory is read.
    if unsafe { libc::setgroups(0, std::ptr::null()) } != 0 {
        tracing::debug!("the daemon keeps its groups");
    }
}

/// As many open files as the system lets root have.
pub(super) fn raise_open_files() {
    let limit = libc::rlimit {
        rlim_cur: OPEN_FILES,
        rlim_max: OPEN_FILES,
    };
    // SAFETY: the structure lives through the call.
    if unsafe { libc::setrlimit(libc::RLIMIT_NOFILE, &raw const limit) } != 0 {
        tracing::debug!("the limit of open files stays as it is");
    }
}

/// Signals that mean "stop in order".
pub(super) struct Signals {
    set: libc::sigset_t,
}

impl Signals {
    /// Blocks them in this thread and those it starts.
    pub(super) fn block() -> Self {
        // SAFETY: a signal set is plain data; the calls initialise and use it.
        unsafe {
            let mut set: libc::sigset_t = std::mem::zeroed();
            libc::sigemptyset(&raw mut set);
            libc::sigaddset(&raw mut set, libc::SIGTERM);
            libc::sigaddset(&raw mut set, libc::SIGINT);
            libc::pthread_sigmask(libc::SIG_BLOCK, &raw const set, std::ptr::null_mut());
            Self { set }
        }
    }

    pub(super) fn pending(&self) -> bool {
        let none = libc::timespec {
            tv_sec: 0,
            tv_nsec: 0,
        };
        // SAFETY: set and time live through the call.
        unsafe {
            libc::sigtimedwait(&raw const self.set, std::ptr::null_mut(), &raw const none) > 0
        }
    }
}
