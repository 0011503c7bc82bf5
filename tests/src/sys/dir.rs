//! Reading directories, with the positions that std hides.

use super::{Errno, Sys, openat};
use std::ffi::CStr;
use std::os::fd::{AsRawFd, IntoRawFd, OwnedFd};
use std::ptr::NonNull;

/// An open directory stream.
pub struct Dir {
    stream: NonNull<libc::DIR>,
}

/// One directory entry.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct DirEntry {
    pub name: Vec<u8>,
    pub inode: u64,
    pub kind: u8,
}

impl Dir {
    /// Opens the directory `name`.
    pub fn open(name: impl AsRef<[u8]>) -> Sys<Self> {
        Self::from_fd(openat(
            libc::AT_FDCWD,
            name,
            libc::O_RDONLY | libc::O_DIRECTORY,
            0,
        )?)
    }

    /// Opens it a second time from a descriptor, so that positions are not shared.
    pub fn reopen(fd: &OwnedFd) -> Sys<Self> {
        Self::from_fd(openat(
            fd.as_raw_fd(),
            ".",
            libc::O_RDONLY | libc::O_DIRECTORY,
            0,
        )?)
    }

    fn from_fd(fd: OwnedFd) -> Sys<Self> {
        // SAFETY: the descriptor is ours and goes into the stream, which closes it.
        let stream = unsafe { libc::fdopendir(fd.into_raw_fd()) };
        NonNull::new(stream)
            .map(|stream| Self { stream })
            .ok_or_else(Errno::last)
    }

    /// The next entry, with `.` and `..`.
    pub fn next_entry(&mut self) -> Sys<Option<DirEntry>> {
        // SAFETY: errno belongs to this thread; it must be cleared to tell the end from an error.
        unsafe { *libc::__errno_location() = 0 };
        // SAFETY: the stream is open until drop and only this value uses it.
        let entry = unsafe { libc::readdir64(self.stream.as_ptr()) };
        if entry.is_null() {
            return match Errno::last() {
                Errno(0) => Ok(None),
                error => Err(error),
            };
        }
        // SAFETY: readdir's answer is valid until the next call on the stream; it is copied here.
        let (entry, name) = unsafe { (&*entry, CStr::from_ptr((*entry).d_name.as_ptr())) };
        Ok(Some(DirEntry {
            name: name.to_bytes().to_vec(),
            inode: entry.d_ino,
            kind: entry.d_type,
        }))
    }

    /// All the rest, without `.` and `..`, in the order of the file system.
    pub fn rest(&mut self) -> Sys<Vec<DirEntry>> {
        let mut all = Vec::new();
        while let Some(entry) = self.next_entry()? {
            if entry.name != b"." && entry.name != b".." {
                all.push(entry);
            }
        }
        Ok(all)
    }

    /// `telldir(3)`.
    pub fn tell(&mut self) -> i64 {
        // SAFETY: the stream is open until drop.
        unsafe { libc::telldir(self.stream.as_ptr()) }
    }

    /// `seekdir(3)` to a position given by `tell`.
    pub fn seek(&mut self, position: i64) {
        // SAFETY: the stream is open until drop.
        unsafe { libc::seekdir(self.stream.as_ptr(), position) };
    }

    /// `rewinddir(3)`.
    pub fn rewind(&mut self) {
        // SAFETY: the stream is open until drop.
        unsafe { libc::rewinddir(self.stream.as_ptr()) };
    }
}

impl Drop for Dir {
    fn drop(&mut self) {
        // SAFETY: the stream is open and nobody uses it after this.
        unsafe { libc::closedir(self.stream.as_ptr()) };
    }
}

/// The names in a directory, sorted.
pub fn names(dir: impl AsRef<[u8]>) -> Sys<Vec<Vec<u8>>> {
    let mut names: Vec<_> = Dir::open(dir)?
        .rest()?
        .into_iter()
        .map(|entry| entry.name)
        .collect();
    names.sort();
    Ok(names)
}
