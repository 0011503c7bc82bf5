//! Who a thread is and what it sees: ids, groups, umask, working directory, mount namespace.
//! All of these belong to a thread in Linux (libc spreads them over the process, so raw calls are
//! used); therefore a test needs no child process to be somebody else or to stand on another node.

use super::{Sys, call, raw};
use std::os::fd::{AsRawFd, OwnedFd};

/// Ids a test acts under.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Who {
    pub uid: u32,
    pub gid: u32,
    pub groups: &'static [u32],
}

/// The superuser without supplementary groups.
pub const ROOT: Who = Who {
    uid: 0,
    gid: 0,
    groups: &[],
};

/// Whether this process may become anybody.
pub fn is_root() -> bool {
    call!(geteuid()) == Ok(0)
}

/// Gives the calling thread its own working directory and umask. Needs no right. Every thread that
/// uses the name calls of this module does it first, or it would move the whole process.
pub fn private_fs() -> Sys<()> {
    call!(unshare(libc::CLONE_FS)).map(drop)
}

/// Gives the calling thread its own descriptor table: it then owns its record locks like another
/// process would.
pub fn private_files() -> Sys<()> {
    call!(unshare(libc::CLONE_FILES)).map(drop)
}

/// Gives the calling thread its own mount namespace, into which later mounts of this thread go.
pub fn private_mounts() -> Sys<()> {
    call!(unshare(libc::CLONE_NEWNS)).map(drop)
}

/// Gives the calling thread, and those it starts, an empty network of their own.
pub fn private_network() -> Sys<()> {
    call!(unshare(libc::CLONE_NEWNET)).map(drop)
}

/// Moves the calling thread into a mount namespace (`/proc/PID/ns/mnt`).
pub fn enter_mounts(namespace: &OwnedFd) -> Sys<()> {
    private_fs()?;
    call!(setns(namespace.as_raw_fd(), libc::CLONE_NEWNS)).map(drop)
}

pub fn umask(mask: u32) -> u32 {
    call!(umask(mask)).map_or(0, |old| old as u32)
}

/// Runs `act` as somebody else, in this thread only. Without root only "myself" (uid 0 of the table
/// means whoever runs the tests) is possible and the ids are left alone.
pub fn acting_as<T>(who: Who, act: impl FnOnce() -> T) -> T {
    if who == ROOT || !is_root() {
        return act();
    }
    let _back = Become::new(who);
    act()
}

/// Returns to root when dropped, also by a panic of the test.
struct Become;

impl Become {
    fn new(who: Who) -> Self {
        set_ids(who.groups, who.gid, who.uid);
        Self
    }
}

impl Drop for Become {
    fn drop(&mut self) {
        raw!(SYS_setresuid(u32::MAX, 0_u32, u32::MAX)).expect("the saved uid is root");
        set_ids(&[], 0, 0);
    }
}

/// Groups, gid, then uid: changing the uid away from root drops the right to do the other two.
/// The saved ids stay root's, so that the way back exists.
fn set_ids(groups: &[u32], gid: u32, uid: u32) {
    raw!(SYS_setgroups(groups.len(), groups.as_ptr())).expect("root may set its groups");
    raw!(SYS_setresgid(u32::MAX, gid, u32::MAX)).expect("root may set its gid");
    raw!(SYS_setresuid(u32::MAX, uid, u32::MAX)).expect("root may set its uid");
}

/// Sends a signal to a process this test has started.
pub fn kill(pid: u32, signal: i32) -> Sys<()> {
    call!(kill(pid as i32, signal)).map(drop)
}
