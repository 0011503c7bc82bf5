//! Signals: a flag for commands that must clean up when interrupted, and waiting for signals in the
//! two processes that exist to pass them on (`lab exec` and a node's init).

use std::io;
use std::mem::MaybeUninit;
use std::sync::atomic::{AtomicI32, Ordering};

use anyhow::{Result, bail};
use libc::c_int;

/// The first signal that asked us to end; zero if none did.
static INTERRUPTED_BY: AtomicI32 = AtomicI32::new(0);

extern "C" fn note(signal: c_int) {
    let _ = INTERRUPTED_BY.compare_exchange(0, signal, Ordering::Relaxed, Ordering::Relaxed);
}

/// From now on SIGINT, SIGTERM and SIGHUP only make [`interrupted`] fail, so that what was begun
/// can be removed in order.
pub(crate) fn catch_interrupts() {
    for signal in [libc::SIGINT, libc::SIGTERM, libc::SIGHUP] {
        // SAFETY: the handler does nothing but store a number, which is allowed in a handler.
        unsafe { libc::signal(signal, note as extern "C" fn(c_int) as libc::sighandler_t) };
    }
}

/// An error if somebody asked us to end. Called between the steps of everything that takes time.
pub(crate) fn interrupted() -> Result<()> {
    match INTERRUPTED_BY.load(Ordering::Relaxed) {
        0 => Ok(()),
        signal => bail!("interrupted by signal {signal}"),
    }
}

/// A set of blocked signals that can be waited for.
pub(crate) struct Blocked(libc::sigset_t);

/// A signal that arrived.
pub(crate) struct Arrived {
    pub(crate) signal: c_int,
    /// Sent by the kernel, such as Ctrl-C on a terminal: the whole process group has got it.
    pub(crate) by_kernel: bool,
}

impl Blocked {
    /// Blocks `signals` in this thread. Children inherit that, but for those made with
    /// [`super::sys::unblock_signals`].
    pub(crate) fn new(signals: &[c_int]) -> io::Result<Self> {
        let mut set = MaybeUninit::<libc::sigset_t>::uninit();
        // SAFETY: sigemptyset fills the set which the others read; no old mask is asked for.
        unsafe {
            libc::sigemptyset(set.as_mut_ptr());
            for &signal in signals {
                libc::sigaddset(set.as_mut_ptr(), signal);
            }
            let set = set.assume_init();
            match libc::pthread_sigmask(libc::SIG_BLOCK, &raw const set, std::ptr::null_mut()) {
                0 => Ok(Self(set)),
                error => Err(io::Error::from_raw_os_error(error)),
            }
        }
    }

    /// Waits for the next of the signals.
    pub(crate) fn wait(&self) -> io::Result<Arrived> {
        let mut info = MaybeUninit::<libc::siginfo_t>::zeroed();
        loop {
            // SAFETY: the set was filled in `new`, and the buffer has the size the call fills.
            let signal = unsafe { libc::sigwaitinfo(&raw const self.0, info.as_mut_ptr()) };
            if signal > 0 {
                // SAFETY: the call succeeded, and the buffer was zeroed before.
                let code = unsafe { info.assume_init() }.si_code;
                return Ok(Arrived {
                    signal,
                    by_kernel: code == libc::SI_KERNEL,
                });
            }
            let error = io::Error::last_os_error();
            if error.kind() != io::ErrorKind::Interrupted {
                return Err(error);
            }
        }
    }
}
