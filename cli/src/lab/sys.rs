//! The system calls of a lab that the standard library does not offer, each behind a safe function.
//! All `unsafe` code of the lab is here, in `signals.rs` and in `loopdev.rs`.

use std::ffi::CString;
use std::fs::{File, OpenOptions};
use std::io;
use std::os::fd::{AsFd, AsRawFd, FromRawFd, OwnedFd};
use std::os::unix::ffi::OsStrExt;
use std::os::unix::process::CommandExt;
use std::path::Path;
use std::process::Command;
use std::time::Duration;

use libc::{c_int, c_ulong};

/// The program itself, also after its file was replaced or hidden by a mount.
pub(crate) const SELF: &str = "/proc/self/exe";

fn check(result: c_int) -> io::Result<c_int> {
    if result < 0 {
        Err(io::Error::last_os_error())
    } else {
        Ok(result)
    }
}

fn text(path: &Path) -> io::Result<CString> {
    CString::new(path.as_os_str().as_bytes()).map_err(io::Error::other)
}

/// Gives this process (and, for `CLONE_NEWPID`, its later children) namespaces of its own.
pub(crate) fn unshare(flags: c_int) -> io::Result<()> {
    // SAFETY: takes no pointer; the kernel refuses what a process with threads must not do.
    check(unsafe { libc::unshare(flags) }).map(drop)
}

/// Enters the namespaces of the process or namespace that `fd` names.
pub(crate) fn setns(fd: impl AsFd, flags: c_int) -> io::Result<()> {
    // SAFETY: the descriptor is open for the length of the call.
    check(unsafe { libc::setns(fd.as_fd().as_raw_fd(), flags) }).map(drop)
}

/// A descriptor that means this one process, whatever becomes of its number.
pub(crate) fn pidfd_open(pid: u32) -> io::Result<OwnedFd> {
    // SAFETY: takes numbers only.
    let fd = unsafe { libc::syscall(libc::SYS_pidfd_open, pid as libc::pid_t, 0) };
    let fd = check(c_int::try_from(fd).map_err(io::Error::other)?)?;
    // SAFETY: the kernel has just given this descriptor to us, and nobody else knows it.
    Ok(unsafe { OwnedFd::from_raw_fd(fd) })
}

/// Sends SIGKILL to the process behind a pidfd.
pub(crate) fn pidfd_kill(pidfd: impl AsFd) -> io::Result<()> {
    let fd = pidfd.as_fd().as_raw_fd();
    let no_info = std::ptr::null::<libc::siginfo_t>();
    // SAFETY: a null siginfo is allowed and means "as kill(2) would".
    let result =
        unsafe { libc::syscall(libc::SYS_pidfd_send_signal, fd, libc::SIGKILL, no_info, 0) };
    check(c_int::try_from(result).map_err(io::Error::other)?).map(drop)
}

/// Waits until `fd` is readable (a pidfd is when its process has ended). False: time is up.
pub(crate) fn wait_readable(fd: impl AsFd, limit: Duration) -> io::Result<bool> {
    let mut poll = libc::pollfd {
        fd: fd.as_fd().as_raw_fd(),
        events: libc::POLLIN,
        revents: 0,
    };
    let millis = c_int::try_from(limit.as_millis()).unwrap_or(c_int::MAX);
    // SAFETY: one valid pollfd, and the count says one.
    match check(unsafe { libc::poll(&raw mut poll, 1, millis) }) {
        Ok(ready) => Ok(ready > 0),
        Err(error) if error.kind() == io::ErrorKind::Interrupted => Ok(false),
        Err(error) => Err(error),
    }
}

/// `mount(2)`. Pass empty strings where a kind of mount has no source or type.
pub(crate) fn mount(source: &Path, target: &Path, kind: &str, flags: c_ulong) -> io::Result<()> {
    let (source, target) = (text(source)?, text(target)?);
    let kind = CString::new(kind).map_err(io::Error::other)?;
    let (source, target, kind) = (source.as_ptr(), target.as_ptr(), kind.as_ptr());
    // SAFETY: three strings that end in zero and live until the call returns; no data.
    check(unsafe { libc::mount(source, target, kind, flags, std::ptr::null()) }).map(drop)
}

pub(crate) fn unmount(target: &Path, flags: c_int) -> io::Result<()> {
    let target = text(target)?;
    // SAFETY: a string that ends in zero and lives until the call returns.
    check(unsafe { libc::umount2(target.as_ptr(), flags) }).map(drop)
}

/// Free bytes and file system magic number at `path`.
pub(crate) fn free_space(path: &Path) -> io::Result<(u64, i64)> {
    let path = text(path)?;
    let mut found = std::mem::MaybeUninit::<libc::statfs>::uninit();
    // SAFETY: the path ends in zero, and the buffer has the size the call fills.
    check(unsafe { libc::statfs(path.as_ptr(), found.as_mut_ptr()) })?;
    // SAFETY: the call succeeded, so it filled the buffer.
    let found = unsafe { found.assume_init() };
    let block = u64::try_from(found.f_bsize).unwrap_or(0);
    #[allow(
        clippy::unnecessary_cast,
        reason = "the type differs between architectures"
    )]
    Ok((found.f_bavail.saturating_mul(block), found.f_type as i64))
}

pub(crate) fn set_hostname(name: &str) -> io::Result<()> {
    // SAFETY: pointer and length describe the same string.
    check(unsafe { libc::sethostname(name.as_ptr().cast(), name.len()) }).map(drop)
}

/// Leaves the caller's session, so that its terminal no longer sends us signals.
pub(crate) fn setsid() -> io::Result<()> {
    // SAFETY: takes nothing.
    check(unsafe { libc::setsid() }).map(drop)
}

pub(crate) fn kill(pid: u32, signal: c_int) -> io::Result<()> {
    let pid = libc::pid_t::try_from(pid).map_err(io::Error::other)?;
    // SAFETY: takes numbers only.
    check(unsafe { libc::kill(pid, signal) }).map(drop)
}

/// Reaps one dead child of any kind: its process number and raw wait status.
pub(crate) fn reap() -> Option<(u32, c_int)> {
    let mut status = 0;
    // SAFETY: the status lives until the call returns.
    let pid = unsafe { libc::waitpid(-1, &raw mut status, libc::WNOHANG) };
    u32::try_from(pid)
        .ok()
        .filter(|&pid| pid > 0)
        .map(|pid| (pid, status))
}

/// Whether this process has all rights a lab needs.
pub(crate) fn is_root() -> bool {
    // SAFETY: takes nothing and cannot fail.
    unsafe { libc::geteuid() == 0 }
}

/// Closes standard input and output in favour of `/dev/null`, when nobody listens any more.
pub(crate) fn drop_stdio() -> io::Result<()> {
    let null: File = OpenOptions::new()
        .read(true)
        .write(true)
        .open("/dev/null")?;
    for fd in [libc::STDIN_FILENO, libc::STDOUT_FILENO] {
        // SAFETY: both are open descriptors, and the library takes 0 and 1 as they come.
        check(unsafe { libc::dup2(null.as_raw_fd(), fd) })?;
    }
    Ok(())
}

/// Makes the future child start with no signal blocked: a shell that waits for its children hangs
/// without SIGCHLD.
pub(crate) fn unblock_signals(command: &mut Command) {
    let request = || {
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
    };
    // SAFETY: between fork and exec the closure makes one system call and allocates nothing.
    unsafe { command.pre_exec(request) };
}

/// Makes the future child die by SIGKILL when the thread that starts it ends.
pub(crate) fn die_with_parent(command: &mut Command) {
    let request = || {
        // SAFETY: takes numbers only.
        check(unsafe { libc::prctl(libc::PR_SET_PDEATHSIG, libc::SIGKILL) }).map(drop)
    };
    // SAFETY: between fork and exec the closure makes one system call and allocates nothing.
    unsafe { command.pre_exec(request) };
}
