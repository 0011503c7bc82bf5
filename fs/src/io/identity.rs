//! Whose rights a thread acts with.
//!
//! What an application creates must get its owner, group, default ACL and quota charge as on a
//! local file system, so the creating call is made with the caller's file system identity and
//! umask. What the kernel has already checked (it runs with `default_permissions`) is not checked
//! again here: the thread keeps the capabilities that override permission checks. It does not
//! keep `CAP_FSETID` where the caller lacks it, so that set-user-id bits are cleared by the local
//! file system itself.
//!
//! Identity is per thread and kept until the next operation needs another, so that a run of
//! operations of one user costs no system call.

use std::cell::Cell;
use tandem_repl::op::{Cred, Privileges};

#[derive(Clone, Copy, PartialEq, Eq)]
struct Identity {
    uid: u32,
    gid: u32,
    umask: u32,
    keeps_setid: bool,
}

const ROOT: Identity = Identity {
    uid: 0,
    gid: 0,
    umask: 0,
    keeps_setid: true,
};

thread_local! {
    static CURRENT: Cell<Option<Identity>> = const { Cell::new(None) };
}

/// Acts as the caller of an operation from here on, in this thread.
pub(crate) fn assume(cred: Cred, umask: u32) {
    let keeps_setid = !matches!(cred.privileges, Privileges::Drop | Privileges::DropAsMember);
    switch(Identity {
        uid: cred.uid,
        gid: cred.gid,
        umask: umask & 0o777,
        keeps_setid,
    });
}

/// Acts as root from here on, in this thread.
pub(crate) fn assume_root() {
    switch(ROOT);
}

fn switch(wanted: Identity) {
    let current = CURRENT.get();
    if current == Some(wanted) {
        return;
    }
    let current = current.unwrap_or_else(|| {
        own_umask();
        // The first switch sets everything.
        Identity {
            uid: u32::MAX,
            gid: u32::MAX,
            umask: u32::MAX,
            keeps_setid: false,
        }
    });
    // SAFETY: these calls take numbers only; the raw system calls act on this thread alone, which
    // the C library's wrappers would not guarantee.
    unsafe {
        if wanted.gid != current.gid {
            libc::syscall(libc::SYS_setfsgid, wanted.gid);
        }
        if wanted.uid != current.uid {
            libc::syscall(libc::SYS_setfsuid, wanted.uid);
        }
        if wanted.umask != current.umask {
            libc::umask(wanted.umask);
        }
    }
    set_capabilities(wanted.keeps_setid);
    CURRENT.set(Some(wanted));
}

/// Gives this thread an umask of its own.
fn own_umask() {
    // SAFETY: takes a number only. A failure leaves the umask shared with other threads, which the
    // kernel never answers to a privileged process.
    unsafe { libc::unshare(libc::CLONE_FS) };
}

const CAP_VERSION_3: u32 = 0x2008_0522;
const CAP_FSETID: u32 = 4;
const CAP_SYS_RESOURCE: u32 = 24;

#[repr(C)]
struct CapHeader {
    version: u32,
    pid: i32,
}

#[repr(C)]
#[derive(Clone, Copy, Default)]
struct CapData {
    effective: u32,
    permitted: u32,
    inheritable: u32,
}

/// Everything permitted becomes effective, but for `CAP_SYS_RESOURCE` (it would let every user
/// into the blocks reserved for root and past quotas) and, if the caller lacks it, `CAP_FSETID`.
fn set_capabilities(keeps_setid: bool) {
    let mut header = CapHeader {
        version: CAP_VERSION_3,
        pid: 0,
    };
    let mut data = [CapData::default(); 2];
    // SAFETY: version 3 uses two data structures, and two are passed.
    unsafe {
        if libc::syscall(libc::SYS_capget, &raw mut header, data.as_mut_ptr()) != 0 {
            return;
        }
        data[0].effective = data[0].permitted & !(1 << CAP_SYS_RESOURCE);
        data[1].effective = data[1].permitted;
        if !keeps_setid {
            data[0].effective &= !(1 << CAP_FSETID);
        }
        libc::syscall(libc::SYS_capset, &raw mut header, data.as_ptr());
    }
}
