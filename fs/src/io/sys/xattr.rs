//! Extended attributes. Descriptors opened with `O_PATH` have none by themselves; there the way
//! leads through `/proc/self/fd`.

use super::{check, check_size, proc_path};
use std::ffi::{CStr, CString};
use std::io;
use std::os::fd::RawFd;

/// Does it by descriptor, or by path where the descriptor is not for such use.
fn either<T>(
    fd: RawFd,
    by_fd: impl FnOnce() -> io::Result<T>,
    by_path: impl FnOnce(&CStr) -> io::Result<T>,
) -> io::Result<T> {
    match by_fd() {
        Err(e) if e.raw_os_error() == Some(libc::EBADF) => by_path(&proc_path(fd)),
        result => result,
    }
}

pub(crate) fn setxattr(fd: RawFd, name: &CStr, value: &[u8], flags: i32) -> io::Result<()> {
    let (bytes, len) = (value.as_ptr().cast(), value.len());
    either(
        fd,
        // SAFETY: the name is a C string, the value is valid for its length.
        || check(unsafe { libc::fsetxattr(fd, name.as_ptr(), bytes, len, flags) }).map(|_| ()),
        |path| {
            // SAFETY: strings are C strings, the value is valid for its length.
            let set = unsafe { libc::setxattr(path.as_ptr(), name.as_ptr(), bytes, len, flags) };
            check(set).map(|_| ())
        },
    )
}

/// As [`setxattr`] of the entry `entry` of `dir`, links not followed.
pub(crate) fn setxattr_at(dir: RawFd, entry: &CStr, name: &CStr, value: &[u8]) -> io::Result<()> {
    let mut path = format!("/proc/self/fd/{dir}/").into_bytes();
    path.extend_from_slice(entry.to_bytes());
    let path = CString::new(path)?;
    let (bytes, len) = (value.as_ptr().cast(), value.len());
    // SAFETY: strings are C strings, the value is valid for its length.
    check(unsafe { libc::lsetxattr(path.as_ptr(), name.as_ptr(), bytes, len, 0) }).map(|_| ())
}

pub(crate) fn removexattr(fd: RawFd, name: &CStr) -> io::Result<()> {
    either(
        fd,
        // SAFETY: the name is a C string.
        || check(unsafe { libc::fremovexattr(fd, name.as_ptr()) }).map(|_| ()),
        // SAFETY: both are C strings.
        |path| check(unsafe { libc::removexattr(path.as_ptr(), name.as_ptr()) }).map(|_| ()),
    )
}

/// Value of an attribute into `buf`; its length if `buf` is empty.
pub(crate) fn getxattr(fd: RawFd, name: &CStr, buf: &mut [u8]) -> io::Result<usize> {
    let (bytes, len) = (buf.as_mut_ptr().cast(), buf.len());
    either(
        fd,
        // SAFETY: the name is a C string, the buffer is valid for its length.
        || check_size(unsafe { libc::fgetxattr(fd, name.as_ptr(), bytes, len) }),
        // SAFETY: strings are C strings, the buffer is valid for its length.
        |path| check_size(unsafe { libc::getxattr(path.as_ptr(), name.as_ptr(), bytes, len) }),
    )
}

/// Names of the attributes, each ended by a zero byte; the length if `buf` is empty.
pub(crate) fn listxattr(fd: RawFd, buf: &mut [u8]) -> io::Result<usize> {
    let (bytes, len) = (buf.as_mut_ptr().cast(), buf.len());
    either(
        fd,
        // SAFETY: the buffer is valid for its length.
        || check_size(unsafe { libc::flistxattr(fd, bytes, len) }),
        // SAFETY: the path is a C string, the buffer is valid for its length.
        |path| check_size(unsafe { libc::listxattr(path.as_ptr(), bytes, len) }),
    )
}
