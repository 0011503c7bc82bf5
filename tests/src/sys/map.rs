//! Memory that the kernel fills or shares: mapped files, and aligned buffers for `O_DIRECT`.

use super::{Errno, Sys, call, check};
use std::os::fd::{AsRawFd, OwnedFd};
use std::ptr::NonNull;

/// A shared mapping of the head of a file.
pub struct Map {
    start: NonNull<u8>,
    len: usize,
}

// SAFETY: the mapping is plain memory owned by this value; every access goes through raw copies,
// which is what two processes sharing a file do too.
unsafe impl Send for Map {}
// SAFETY: as above; the tests that share one never rely on a data race's result.
unsafe impl Sync for Map {}

impl Map {
    /// Maps `len` bytes from the start of the file, shared, for reading and if asked for writing.
    pub fn new(fd: &OwnedFd, len: usize, writable: bool) -> Sys<Self> {
        let access = libc::PROT_READ | if writable { libc::PROT_WRITE } else { 0 };
        let (anywhere, fd) = (std::ptr::null_mut(), fd.as_raw_fd());
        // SAFETY: a new mapping at an address of the kernel's choice touches no memory of ours.
        let start = unsafe { libc::mmap(anywhere, len, access, libc::MAP_SHARED, fd, 0) };
        if start == libc::MAP_FAILED {
            return Err(Errno::last());
        }
        let start = NonNull::new(start.cast()).ok_or(Errno(libc::ENOMEM))?;
        Ok(Self { start, len })
    }

    pub fn len(&self) -> usize {
        self.len
    }

    pub fn is_empty(&self) -> bool {
        self.len == 0
    }

    /// Stores bytes. The range must be inside the file, or the kernel sends SIGBUS.
    pub fn store(&self, at: usize, data: &[u8]) {
        assert!(at + data.len() <= self.len, "store outside the mapping");
        // SAFETY: the range is inside the mapping (asserted) and `data` is no part of it.
        unsafe {
            let to = self.start.as_ptr().add(at);
            to.copy_from_nonoverlapping(data.as_ptr(), data.len());
        };
    }

    /// Loads bytes, with the same condition.
    pub fn load(&self, at: usize, len: usize) -> Vec<u8> {
        assert!(at + len <= self.len, "load outside the mapping");
        let mut data = vec![0; len];
        // SAFETY: the range is inside the mapping (asserted) and `data` is no part of it.
        unsafe {
            let from = self.start.as_ptr().add(at);
            from.copy_to_nonoverlapping(data.as_mut_ptr(), len);
        };
        data
    }

    /// `msync(2)` of the whole mapping.
    pub fn sync(&self, how: i32) -> Sys<()> {
        call!(msync(self.start.as_ptr().cast(), self.len, how)).map(drop)
    }
}

impl Drop for Map {
    fn drop(&mut self) {
        // SAFETY: the range is exactly the one mapped in `new`, and nobody keeps a pointer into it.
        let answer = check(i64::from(unsafe {
            libc::munmap(self.start.as_ptr().cast(), self.len)
        }));
        debug_assert!(answer.is_ok(), "munmap: {answer:?}");
    }
}

/// Bytes at an address and of a length that `O_DIRECT` accepts on every disk (4 KiB).
pub struct Aligned {
    bytes: Vec<u8>,
    skip: usize,
    len: usize,
}

impl Aligned {
    pub const UNIT: usize = 4096;

    /// A buffer of `len` bytes, all `fill`.
    pub fn new(len: usize, fill: u8) -> Self {
        let bytes = vec![fill; len + Self::UNIT];
        let skip = bytes.as_ptr().align_offset(Self::UNIT);
        Self { bytes, skip, len }
    }

    /// A copy of `data` at an aligned address.
    pub fn of(data: &[u8]) -> Self {
        let mut copy = Self::new(data.len(), 0);
        copy.as_mut().copy_from_slice(data);
        copy
    }
}

impl AsRef<[u8]> for Aligned {
    fn as_ref(&self) -> &[u8] {
        &self.bytes[self.skip..self.skip + self.len]
    }
}

impl AsMut<[u8]> for Aligned {
    fn as_mut(&mut self) -> &mut [u8] {
        &mut self.bytes[self.skip..self.skip + self.len]
    }
}
