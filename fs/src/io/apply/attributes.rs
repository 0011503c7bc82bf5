//! Setting attributes, and what writing does to them.

use super::super::identity::{assume, assume_root};
use super::super::nodes::Node;
use super::super::sys;
use std::ffi::CStr;
use std::io;
use std::os::fd::RawFd;
use tandem_repl::op::{AttrSet, Cred, Privileges, TimeSet, Timespec};

/// Does what may clear set-id bits, with the caller's rights, and gives back what stays.
pub(super) fn with_rights<T>(
    fd: RawFd,
    cred: Cred,
    work: impl FnOnce() -> io::Result<T>,
) -> io::Result<T> {
    assume(cred, 0);
    if cred.privileges != Privileges::DropAsMember {
        return work();
    }
    let before = sys::mode_of(fd)?;
    let result = work();
    let after = sys::mode_of(fd)?;
    if before & libc::S_ISGID != 0 && after & libc::S_ISGID == 0 {
        assume_root();
        sys::fchmod(fd, (after & 0o7777) | libc::S_ISGID)?;
    }
    result
}

/// A file's capability, which every `pwrite` takes away and a store through a mapping does not.
pub(super) struct Capability(Vec<u8>);

impl Capability {
    const NAME: &CStr = c"security.capability";

    pub(super) fn of(fd: RawFd) -> Option<Self> {
        let mut value = vec![0; 64];
        let n = sys::getxattr(fd, Self::NAME, &mut value).ok()?;
        value.truncate(n);
        Some(Self(value))
    }

    pub(super) fn restore(&self, fd: RawFd) -> io::Result<()> {
        sys::setxattr(fd, Self::NAME, &self.0, 0)
    }
}

/// Allocates. A file system that runs full halfway may have grown the file; then it is cut back,
/// because a refused operation leaves both replicas as they were.
pub(super) fn fallocate(fd: RawFd, mode: i32, offset: u64, len: u64) -> io::Result<()> {
    let before = sys::fstat(fd)?.st_size;
    sys::fallocate(fd, mode, offset, len).inspect_err(|_| {
        if sys::fstat(fd).is_ok_and(|s| s.st_size != before) {
            let _ = sys::ftruncate(fd, before.cast_unsigned());
        }
    })
}

/// Size first (it may clear set-user-id bits), then owner (so may this), then mode, then times. The
/// kernel has decided who may; size is set with the caller's rights for quota and for those bits.
pub(super) fn set_attr(fd: RawFd, node: &Node, set: &AttrSet, cred: Cred) -> io::Result<()> {
    if let Some(size) = set.size {
        with_rights(fd, cred, || sys::ftruncate(fd, size))?;
    }
    if set.uid.is_some() || set.gid.is_some() {
        with_rights(fd, cred, || sys::fchown(fd, set.uid, set.gid))?;
    }
    assume_root();
    if let Some(mode) = set.mode {
        chmod(fd, node, mode & 0o7777)?;
    }
    if set.atime != TimeSet::Keep || set.mtime != TimeSet::Keep {
        sys::utimens(fd, &[timespec(set.atime), timespec(set.mtime)])?;
    }
    Ok(())
}

pub(super) fn chmod(fd: RawFd, node: &Node, mode: u32) -> io::Result<()> {
    if node.is_file() || node.is_dir() {
        sys::fchmod(fd, mode)
    } else {
        sys::chmod_path_fd(fd, mode)
    }
}

/// Both times as the system call wants them.
pub(crate) fn timespecs(atime: (i64, u32), mtime: (i64, u32)) -> [libc::timespec; 2] {
    [atime, mtime].map(|(sec, nsec)| libc::timespec {
        tv_sec: sec,
        tv_nsec: nsec.into(),
    })
}

fn timespec(set: TimeSet) -> libc::timespec {
    match set {
        TimeSet::Keep => libc::timespec {
            tv_sec: 0,
            tv_nsec: libc::UTIME_OMIT,
        },
        TimeSet::Now => libc::timespec {
            tv_sec: 0,
            tv_nsec: libc::UTIME_NOW,
        },
        TimeSet::To(t) => libc::timespec {
            tv_sec: t.sec,
            tv_nsec: t.nsec.into(),
        },
    }
}

/// The times of a file as an operation that sets them.
pub(crate) fn times_of(stat: &libc::stat) -> AttrSet {
    let time = |sec: i64, nsec: i64| {
        TimeSet::To(Timespec {
            sec,
            nsec: nsec as u32,
        })
    };
    AttrSet {
        atime: time(stat.st_atime, stat.st_atime_nsec),
        mtime: time(stat.st_mtime, stat.st_mtime_nsec),
        ..AttrSet::default()
    }
}
