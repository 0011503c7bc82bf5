//! System calls for running programs, each behind a safe function. All unsafe code of running
//! programs is here.

use std::ffi::CStr;
use std::io;
use std::os::fd::{AsRawFd, BorrowedFd, FromRawFd, OwnedFd};
use std::os::unix::process::CommandExt;
use std::process::Command;
use std::time::Duration;

use libc::c_int;

fn check(result: c_int) -> io::Result<c_int> {
    if result < 0 {
        return Err(io::Error::last_os_error());
    }
    Ok(result)
}

fn owned(result: libc::c_long) -> io::Result<OwnedFd> {
    let fd = check(c_int::try_from(result).map_err(io::Error::other)?)?;
    // SAFETY: the kernel has just given this descriptor to us, and nobody else knows it.
    Ok(unsafe { OwnedFd::from_raw_fd(fd) })
}

/// A descriptor that means this one process, whatever becomes of its number. It is closed in
/// programs that are started, and readable when the process has ended.
pub(crate) fn pidfd_open(pid: u32) -> io::Result<OwnedFd> {
    // SAFETY: takes numbers only.
    owned(unsafe { libc::syscall(libc::SYS_pidfd_open, pid as libc::pid_t, 0) })
}

pub(crate) fn pidfd_signal(pidfd: BorrowedFd<'_>, signal: c_int) -> io::Result<()> {
    let no_info = std::ptr::null::<libc::siginfo_t>();
    let fd = pidfd.as_raw_fd();
    // SAFETY: a null siginfo is allowed and means "as kill(2) would"; the descriptor is open.
    let result = unsafe { libc::syscall(libc::SYS_pidfd_send_signal, fd, signal, no_info, 0) };
    check(c_int::try_from(result).map_err(io::Error::other)?).map(drop)
}

/// Signals a whole process group. The caller knows that the group is still the one it means: its
/// leader is a child that was not waited for yet.
pub(crate) fn signal_group(group: u32, signal: c_int) -> io::Result<()> {
    let group = libc::pid_t::try_from(group).map_err(io::Error::other)?;
    if group <= 1 {
        return Err(io::Error::other("not a process group of ours"));
    }
    // SAFETY: takes numbers only.
    check(unsafe { libc::kill(-group, signal) }).map(drop)
}

/// Something one thread raises and another one waits for beside other descriptors.
pub(crate) fn event() -> io::Result<OwnedFd> {
    // SAFETY: takes numbers only.
    let fd = unsafe { libc::eventfd(0, libc::EFD_CLOEXEC | libc::EFD_NONBLOCK) };
    owned(fd.into())
}

pub(crate) fn raise(event: BorrowedFd<'_>) {
    let one = 1u64.to_ne_bytes();
    // SAFETY: the buffer lives until the call returns and has the eight bytes an event takes. It
    // fails only when it is raised already.
    unsafe { libc::write(event.as_raw_fd(), one.as_ptr().cast(), one.len()) };
}

/// Waits until one of `fds` is readable; which are. None are when the time is up.
pub(crate) fn wait_readable<const N: usize>(
    fds: [BorrowedFd<'_>; N],
    limit: Duration,
) -> io::Result<[bool; N]> {
    let mut polls = fds.map(|fd| libc::pollfd {
        fd: fd.as_raw_fd(),
        events: libc::POLLIN,
        revents: 0,
    });
    // Rounded up, or the last part of a millisecond would be waited for without sleeping.
    let millis = limit.as_micros().div_ceil(1000);
    let millis = c_int::try_from(millis).unwrap_or(c_int::MAX);
    // SAFETY: an array of valid pollfds, and the count is its length.
    match check(unsafe { libc::poll(polls.as_mut_ptr(), N as libc::nfds_t, millis) }) {
        Ok(_) => Ok(polls.map(|poll| poll.revents != 0)),
        Err(error) if error.kind() == io::ErrorKind::Interrupted => Ok([false; N]),
        Err(error) => Err(error),
    }
}

/// Gives back the room of the first `length` bytes of a file, which keeps its size.
pub(crate) fn punch_hole(file: BorrowedFd<'_>, length: u64) -> io::Result<()> {
    let length = libc::off_t::try_from(length).map_err(io::Error::other)?;
    let mode = libc::FALLOC_FL_PUNCH_HOLE | libc::FALLOC_FL_KEEP_SIZE;
    // SAFETY: takes numbers only; the descriptor is open.
    check(unsafe { libc::fallocate(file.as_raw_fd(), mode, 0, length) }).map(drop)
}

/// Whether this process may execute the file.
pub(crate) fn may_execute(path: &CStr) -> bool {
    // SAFETY: a string that ends in zero and lives until the call returns.
    unsafe { libc::access(path.as_ptr(), libc::X_OK) == 0 }
}

/// Lets the future child begin as a daemon of its own would: own session and process group, no
/// signal blocked or ignored, no descriptor of ours, ordinary file rights, and not protected from
/// the out-of-memory killer where we are.
pub(crate) fn detach(command: &mut Command) {
    let protected = std::fs::read_to_string("/proc/self/oom_score_adj")
        .is_ok_and(|value| value.trim().starts_with('-'));
    let request = move || {
        // SAFETY: takes nothing.
        check(unsafe { libc::setsid() })?;
        default_signals()?;
        // SAFETY: takes a number, and cannot fail.
        unsafe { libc::umask(0o022) };
        let (from, to) = (3 as libc::c_uint, libc::c_uint::MAX);
        let flags = libc::CLOSE_RANGE_CLOEXEC as libc::c_uint;
        // SAFETY: takes numbers only. Marks all descriptors, also those that a library or our own
        // parent left open; nothing is closed before the program begins. A kernel that cannot do
        // this leaves what Rust marks anyway.
        unsafe { libc::syscall(libc::SYS_close_range, from, to, flags) };
        if protected {
            ordinary_for_oom();
        }
        Ok(())
    };
    // SAFETY: between fork and exec the closure makes system calls only and allocates nothing.
    unsafe { command.pre_exec(request) };
}

fn default_signals() -> io::Result<()> {
    // The kernel's own structure: whatever its order, zeros are the default action, no flags, no
    // mask. The library's function would leave out the two signals it keeps for itself.
    let default = [0u64; 8];
    let none = std::ptr::null_mut::<u64>();
    for signal in 1..=64 {
        // SAFETY: the structure is longer than the kernel's and lives until the call returns; no
        // old action is asked for. Refused for those that cannot be changed.
        unsafe {
            libc::syscall(
                libc::SYS_rt_sigaction,
                signal,
                default.as_ptr(),
                none,
                8usize,
            )
        };
    }
    let mut none = std::mem::MaybeUninit::<libc::sigset_t>::uninit();
    // SAFETY: sigemptyset fills the set that the other call reads; no old mask is asked for.
    let errno = unsafe {
        libc::sigemptyset(none.as_mut_ptr());
        libc::pthread_sigmask(libc::SIG_SETMASK, none.as_ptr(), std::ptr::null_mut())
    };
    match errno {
        0 => Ok(()),
        errno => Err(io::Error::from_raw_os_error(errno)),
    }
}

/// An application must not be harder to kill than the manager is just because this one started it.
fn ordinary_for_oom() {
    let path = c"/proc/self/oom_score_adj";
    // SAFETY: strings that end in zero and live for ever; a failed open gives -1, which write and
    // close refuse.
    unsafe {
        let fd = libc::open(path.as_ptr(), libc::O_WRONLY | libc::O_CLOEXEC);
        libc::write(fd, c"0".as_ptr().cast(), 1);
        libc::close(fd);
    }
}
