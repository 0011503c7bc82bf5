//! Reading directories.

use super::check_size;
use std::ffi::CStr;
use std::io;
use std::os::fd::RawFd;

/// One directory entry as `getdents64` gives it.
pub(crate) struct Dirent<'a> {
    /// Bytes the entry takes in the buffer.
    pub(crate) len: usize,
    pub(crate) next: i64,
    pub(crate) kind: u8,
    pub(crate) name: &'a CStr,
}

/// Fills `buf` with entries from the descriptor's position; 0 at the end.
pub(crate) fn getdents(fd: RawFd, buf: &mut [u8]) -> io::Result<usize> {
    // SAFETY: the buffer is valid for its length.
    let n = unsafe { libc::syscall(libc::SYS_getdents64, fd, buf.as_mut_ptr(), buf.len()) };
    check_size(n as isize)
}

/// Walks entries in a buffer that [`getdents`] filled.
pub(crate) fn dirents(mut buf: &[u8]) -> impl Iterator<Item = Dirent<'_>> {
    // struct linux_dirent64: u64 ino, i64 off, u16 reclen, u8 type, name
    std::iter::from_fn(move || {
        let next = i64::from_ne_bytes(buf.get(8..16)?.try_into().ok()?);
        let len = usize::from(u16::from_ne_bytes(buf.get(16..18)?.try_into().ok()?));
        let kind = *buf.get(18)?;
        let name = CStr::from_bytes_until_nul(buf.get(19..len)?).ok()?;
        buf = &buf[len..];
        Some(Dirent {
            len,
            next,
            kind,
            name,
        })
    })
}
