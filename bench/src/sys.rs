//! System calls that the standard library does not offer, each behind a safe function. All
//! `unsafe` code of the bench is here and in `sys/net.rs`.
//!
//! The bench has one thread in every process: only so is code after a fork ordinary code.

pub(crate) mod net;

use std::fs::File;
use std::io;
use std::os::fd::{AsFd, AsRawFd};
use std::os::unix::process::CommandExt;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::process::Command;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::{Duration, Instant};

use libc::{c_int, c_ulong, pid_t};

static INTERRUPTED: AtomicBool = AtomicBool::new(false);
const STOP_SIGNALS: [c_int; 3] = [libc::SIGINT, libc::SIGTERM, libc::SIGHUP];
/// Exit code of a child that panicked, as the Rust runtime has it.
const PANICKED: c_int = 101;

pub(crate) fn check(result: c_int) -> io::Result<c_int> {
    if result < 0 {
        Err(io::Error::last_os_error())
    } else {
        Ok(result)
    }
}

extern "C" fn note_signal(_signal: c_int) {
    INTERRUPTED.store(true, Ordering::Relaxed);
}

/// From now on a request to stop only sets a flag, so that everything made can be removed first.
pub(crate) fn catch_stop_signals() {
    set_handlers(note_signal as *const () as libc::sighandler_t);
}

/// Whether the bench was asked to stop.
pub(crate) fn interrupted() -> bool {
    INTERRUPTED.load(Ordering::Relaxed)
}

fn set_handlers(handler: libc::sighandler_t) {
    for signal in STOP_SIGNALS {
        // SAFETY: the structure is plain data for which zero is valid (no flags, an empty mask);
        // `handler` is SIG_DFL or `note_signal`, which does one atomic store.
        unsafe {
            let mut action: libc::sigaction = std::mem::zeroed();
            action.sa_sigaction = handler;
            libc::sigaction(signal, &raw const action, std::ptr::null_mut());
        }
    }
}

/// What becomes of a child when others end.
#[derive(Clone, Copy, PartialEq, Eq)]
pub(crate) enum Kind {
    /// Leads a process group of its own, so that it and its workers are killed together.
    Leader,
    /// Belongs to its leader.
    Worker,
    /// As a leader, but outlives its parent: it has something to put back first.
    Service,
}

/// A forked process. Dropping it kills it, and its group if it leads one.
pub(crate) struct Child {
    pid: pid_t,
    kind: Kind,
    ended: bool,
}

/// Runs `work` in a copy of this process; its result is the exit code.
pub(crate) fn fork(kind: Kind, work: impl FnOnce() -> c_int) -> io::Result<Child> {
    let parent = std::process::id();
    // SAFETY: this process has one thread, so no lock can be held by a thread the copy lacks.
    let pid = check(unsafe { libc::fork() })?;
    if pid == 0 {
        let code = catch_unwind(AssertUnwindSafe(|| {
            set_handlers(libc::SIG_DFL);
            if kind != Kind::Service && !follow_parent(parent, libc::SIGKILL) {
                return PANICKED;
            }
            if kind != Kind::Worker {
                lead_group(0);
            }
            work()
        }));
        // SAFETY: ends the copy without running the clean-up that belongs to its parent.
        unsafe { libc::_exit(code.unwrap_or(PANICKED)) }
    }
    if kind != Kind::Worker {
        // In the child as well: whoever is first.
        lead_group(pid);
    }
    Ok(Child {
        pid,
        kind,
        ended: false,
    })
}

fn lead_group(pid: pid_t) {
    // SAFETY: takes numbers only. It fails if the child has done it and gone on to exec.
    unsafe { libc::setpgid(pid, 0) };
}

/// Makes the kernel signal this process when its parent ends. False: it has ended.
fn follow_parent(parent: u32, signal: c_int) -> bool {
    // SAFETY: takes numbers only.
    unsafe { libc::prctl(libc::PR_SET_PDEATHSIG, signal as c_ulong) };
    std::os::unix::process::parent_id() == parent
}

/// Makes the kernel kill the command when this process ends.
pub(crate) fn die_with_parent(command: &mut Command) {
    signal_with_parent(command, libc::SIGKILL);
}

/// Makes the kernel send the command a signal when this process ends.
pub(crate) fn signal_with_parent(command: &mut Command, signal: c_int) {
    let parent = std::process::id();
    let follow = move || {
        if follow_parent(parent, signal) {
            Ok(())
        } else {
            Err(io::ErrorKind::NotFound.into())
        }
    };
    // SAFETY: between fork and exec it makes two system calls and allocates nothing.
    unsafe { command.pre_exec(follow) };
}

impl Child {
    /// Waits for the end; the exit code, or -1 if it was killed. Workers it left are killed.
    pub(crate) fn wait(mut self) -> io::Result<c_int> {
        self.reap()
    }

    fn reap(&mut self) -> io::Result<c_int> {
        let id = self.pid.cast_unsigned();
        if self.kind == Kind::Leader {
            // Until the leader is reaped nobody else's group can have its number.
            wait_for(libc::P_PID, id, libc::WNOWAIT)?;
            kill(-self.pid, libc::SIGKILL);
        }
        self.ended = true;
        let code = wait_for(libc::P_PID, id, 0)?;
        // Workers that their leader left to us.
        while self.kind == Kind::Leader && wait_for(libc::P_PGID, id, 0).is_ok() {}
        code.ok_or_else(|| io::Error::from(io::ErrorKind::NotFound))
    }
}

/// Waits for the end of a child and reaps it: its exit code, or -1 if it was killed. `None`: none
/// has ended, if `flags` say not to wait.
fn wait_for(kind: libc::idtype_t, id: libc::id_t, flags: c_int) -> io::Result<Option<c_int>> {
    loop {
        // SAFETY: plain data for which zero is valid.
        let mut end: libc::siginfo_t = unsafe { std::mem::zeroed() };
        // SAFETY: the place for the answer is valid for the length of the call.
        let result = unsafe { libc::waitid(kind, id, &raw mut end, libc::WEXITED | flags) };
        match check(result) {
            Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
            Err(error) => return Err(error),
            Ok(_) if end.si_signo == 0 => return Ok(None),
            Ok(_) if end.si_code != libc::CLD_EXITED => return Ok(Some(-1)),
            // SAFETY: the kernel has filled the structure for the end of a child.
            Ok(_) => return Ok(Some(unsafe { end.si_status() })),
        }
    }
}

/// From now on processes whose parents end become our children, so that none is left behind.
pub(crate) fn adopt_orphans() -> io::Result<()> {
    let yes: c_ulong = 1;
    // SAFETY: takes numbers only.
    check(unsafe { libc::prctl(libc::PR_SET_CHILD_SUBREAPER, yes) }).map(drop)
}

/// Waits until no child is left, at most for `limit`.
pub(crate) fn reap_all(limit: Duration) {
    const PAUSE: Duration = Duration::from_millis(10);
    let start = Instant::now();
    while start.elapsed() < limit {
        match wait_for(libc::P_ALL, 0, libc::WNOHANG) {
            Ok(Some(_)) => {}
            Ok(None) => std::thread::sleep(PAUSE),
            Err(_) => return,
        }
    }
}

impl Drop for Child {
    fn drop(&mut self) {
        if self.ended {
            return;
        }
        match self.kind {
            Kind::Leader => kill(-self.pid, libc::SIGKILL),
            Kind::Worker => kill(self.pid, libc::SIGKILL),
            // It ends when it has put back what it changed.
            Kind::Service => {}
        }
        // Nothing to be done about an error.
        let _ = self.reap();
    }
}

/// Errors mean that nobody is there any more.
pub(crate) fn kill(pid: pid_t, signal: c_int) {
    // SAFETY: takes numbers only.
    unsafe { libc::kill(pid, signal) };
}

/// Enters one namespace, given by an open `/proc/PID/ns/*`.
pub(crate) fn setns(namespace: &File) -> io::Result<()> {
    // SAFETY: the descriptor is open for the length of the call; 0 means "whatever it is".
    check(unsafe { libc::setns(namespace.as_raw_fd(), 0) }).map(drop)
}

/// Leaves the mount namespace for a copy of it, and shows there the network interfaces of the
/// network namespace this process is in.
pub(crate) fn mount_own_sysfs() -> io::Result<()> {
    let (root, sys, kind) = (c"/", c"/sys", c"sysfs");
    let none = std::ptr::null();
    let private = libc::MS_REC | libc::MS_PRIVATE;
    // SAFETY: all strings end in zero and live for the length of the calls.
    unsafe {
        check(libc::unshare(libc::CLONE_NEWNS))?;
        check(libc::mount(none, root.as_ptr(), none, private, none.cast()))?;
        check(libc::mount(
            kind.as_ptr(),
            sys.as_ptr(),
            kind.as_ptr(),
            0,
            none.cast(),
        ))?;
    }
    Ok(())
}

/// Waits until one of the descriptors can be read (or has ended), a signal arrives, or `limit` is
/// over; says which can be read.
pub(crate) fn wait_readable<const N: usize>(
    fds: [&dyn AsFd; N],
    limit: Duration,
) -> io::Result<[bool; N]> {
    let mut polled = fds.map(|fd| {
        let fd = fd.as_fd().as_raw_fd();
        libc::pollfd {
            fd,
            events: libc::POLLIN,
            revents: 0,
        }
    });
    let limit = libc::timespec {
        tv_sec: limit.as_secs().try_into().unwrap_or(libc::time_t::MAX),
        tv_nsec: limit.subsec_nanos().into(),
    };
    let count = N as libc::nfds_t;
    // SAFETY: `polled` has `count` elements; the limit is valid; no signal mask is given.
    let found = unsafe {
        libc::ppoll(
            polled.as_mut_ptr(),
            count,
            &raw const limit,
            std::ptr::null(),
        )
    };
    match check(found) {
        Err(error) if error.kind() == io::ErrorKind::Interrupted => Ok([false; N]),
        other => other.map(|_| polled.map(|fd| fd.revents != 0)),
    }
}

/// Timers of this process may be late by `slack` at most (50 microseconds otherwise).
pub(crate) fn set_timer_slack(slack: Duration) {
    let nanos = slack.as_nanos() as c_ulong;
    // SAFETY: takes numbers only.
    unsafe { libc::prctl(libc::PR_SET_TIMERSLACK, nanos) };
}

/// Writes back everything of the file system that holds `file`.
pub(crate) fn syncfs(file: &File) -> io::Result<()> {
    // SAFETY: the descriptor is open for the length of the call.
    check(unsafe { libc::syncfs(file.as_raw_fd()) }).map(drop)
}

/// Length of a clock tick in `/proc/PID/stat`.
pub(crate) fn clock_tick() -> Duration {
    // SAFETY: takes a number only.
    let per_second = unsafe { libc::sysconf(libc::_SC_CLK_TCK) };
    Duration::from_secs(1) / u32::try_from(per_second).unwrap_or(100).max(1)
}

/// Whether this process may do everything.
pub(crate) fn is_root() -> bool {
    // SAFETY: has no arguments and cannot fail.
    unsafe { libc::geteuid() == 0 }
}
