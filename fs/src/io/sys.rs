//! System calls the standard library does not offer, each a thin wrapper that turns `-1` into an
//! [`io::Error`]. All unsafe code of file access is here.

mod dirents;
mod inode;
mod mount;
mod xattr;

pub(crate) use dirents::{dirents, getdents};
pub(crate) use inode::{
    FS_IOC_FSGETXATTR, FsXattr, get_flags, get_fsxattr, mode_of, protection, set_flags,
    size_and_links,
};
pub(crate) use mount::{mount_fuse, umount};
pub(crate) use xattr::{getxattr, listxattr, removexattr, setxattr, setxattr_at};

use std::ffi::{CStr, CString};
use std::io;
use std::os::fd::{AsRawFd, FromRawFd, OwnedFd, RawFd};
use std::path::Path;
use tandem_repl::ids::{Key, MAX_KEY};

/// Bytes of a file handle kept inline. ext4 needs 8, xfs 12, btrfs 20.
const HANDLE_BYTES: usize = 40;

const _: () = assert!(4 + HANDLE_BYTES <= MAX_KEY, "a key holds every handle");

/// A file system's own name for an inode, valid as long as the inode lives.
#[derive(Clone, Copy, PartialEq, Eq, Hash, Debug)]
pub(crate) struct Handle {
    pub(crate) kind: i32,
    len: u8,
    bytes: [u8; HANDLE_BYTES],
}

impl Handle {
    /// Kind and bytes as one.
    pub(crate) fn key(&self) -> Key {
        let mut bytes = [0; 4 + HANDLE_BYTES];
        bytes[..4].copy_from_slice(&self.kind.to_le_bytes());
        bytes[4..].copy_from_slice(&self.bytes);
        Key::new(&bytes[..4 + usize::from(self.len)]).expect("a key holds every handle")
    }

    /// The handle of a key; `None` if it is not one of [`Self::key`]'s.
    pub(crate) fn of_key(key: &Key) -> Option<Self> {
        let (kind, rest) = key.bytes().split_first_chunk()?;
        let mut bytes = [0; HANDLE_BYTES];
        bytes.get_mut(..rest.len())?.copy_from_slice(rest);
        Some(Self {
            kind: i32::from_le_bytes(*kind),
            len: rest.len() as u8,
            bytes,
        })
    }

    pub(crate) fn bytes(&self) -> &[u8] {
        &self.bytes[..usize::from(self.len)]
    }
}

/// The kernel's `struct file_handle` with room for [`HANDLE_BYTES`].
#[repr(C)]
struct RawHandle {
    len: u32,
    kind: i32,
    bytes: [u8; HANDLE_BYTES],
}

fn check(result: libc::c_int) -> io::Result<libc::c_int> {
    if result < 0 {
        Err(io::Error::last_os_error())
    } else {
        Ok(result)
    }
}

fn check_size(result: isize) -> io::Result<usize> {
    usize::try_from(result).map_err(|_| io::Error::last_os_error())
}

fn owned(result: libc::c_int) -> io::Result<OwnedFd> {
    let fd = check(result)?;
    // SAFETY: a successful open returned this descriptor and nothing else owns it.
    Ok(unsafe { OwnedFd::from_raw_fd(fd) })
}

/// A name or path for the kernel; a zero byte in it is `EINVAL`.
pub(crate) fn cstring(bytes: &[u8]) -> io::Result<CString> {
    CString::new(bytes).map_err(|_| io::Error::from_raw_os_error(libc::EINVAL))
}

pub(crate) fn path_cstring(path: &Path) -> io::Result<CString> {
    use std::os::unix::ffi::OsStrExt;
    cstring(path.as_os_str().as_bytes())
}

/// A private, detached copy of the mount at `path`, without what is mounted below it.
pub(crate) fn open_tree_clone(path: &Path) -> io::Result<OwnedFd> {
    let path = path_cstring(path)?;
    let flags = libc::OPEN_TREE_CLONE | libc::OPEN_TREE_CLOEXEC;
    // SAFETY: the path is a C string; the call takes no other memory.
    let fd = unsafe { libc::syscall(libc::SYS_open_tree, libc::AT_FDCWD, path.as_ptr(), flags) };
    owned(fd as libc::c_int)
}

/// Stops access times from being written through a detached mount. Unsupported before 5.12, then
/// reads may touch access times here and not on the peer.
pub(crate) fn mount_no_atime(mount: &OwnedFd) -> io::Result<()> {
    let attr = libc::mount_attr {
        attr_set: libc::MOUNT_ATTR_NOATIME,
        attr_clr: libc::MOUNT_ATTR__ATIME,
        propagation: 0,
        userns_fd: 0,
    };
    // SAFETY: the structure lives through the call and its size is passed.
    let result = unsafe {
        libc::syscall(
            libc::SYS_mount_setattr,
            mount.as_raw_fd(),
            c"".as_ptr(),
            libc::AT_EMPTY_PATH,
            &raw const attr,
            size_of::<libc::mount_attr>(),
        )
    };
    check(result as libc::c_int).map(|_| ())
}

/// Handle of the entry `name` of `dir`; of `dir` itself if `name` is empty. Links are not followed.
pub(crate) fn handle_at(dir: RawFd, name: &CStr) -> io::Result<Handle> {
    let mut raw = RawHandle {
        len: HANDLE_BYTES as u32,
        kind: 0,
        bytes: [0; HANDLE_BYTES],
    };
    let mut mount_id: libc::c_int = 0;
    let flags = if name.is_empty() {
        libc::AT_EMPTY_PATH
    } else {
        0
    };
    // SAFETY: the structure is laid out as the kernel's and says how much room it has.
    let result = unsafe {
        libc::syscall(
            libc::SYS_name_to_handle_at,
            dir,
            name.as_ptr(),
            &raw mut raw,
            &raw mut mount_id,
            flags,
        )
    };
    check(result as libc::c_int)?;
    let len = u8::try_from(raw.len).map_err(|_| io::Error::from_raw_os_error(libc::EOVERFLOW))?;
    Ok(Handle {
        kind: raw.kind,
        len,
        bytes: raw.bytes,
    })
}

/// Opens the inode a handle names. `ESTALE` if it is gone.
pub(crate) fn open_handle(mount: RawFd, handle: &Handle, flags: i32) -> io::Result<OwnedFd> {
    let mut raw = RawHandle {
        len: handle.len.into(),
        kind: handle.kind,
        bytes: handle.bytes,
    };
    // SAFETY: as in `handle_at`; the kernel only reads the structure.
    let fd = unsafe {
        libc::syscall(
            libc::SYS_open_by_handle_at,
            mount,
            &raw mut raw,
            flags | libc::O_CLOEXEC | libc::O_LARGEFILE,
        )
    };
    owned(fd as libc::c_int)
}

pub(crate) fn openat(dir: RawFd, name: &CStr, flags: i32, mode: u32) -> io::Result<OwnedFd> {
    let flags = flags | libc::O_CLOEXEC | libc::O_LARGEFILE;
    // SAFETY: the name is a C string.
    owned(unsafe { libc::openat(dir, name.as_ptr(), flags, mode) })
}

pub(crate) fn fstat(fd: RawFd) -> io::Result<libc::stat> {
    fstatat(fd, c"")
}

/// Attributes of the entry `name`, of `dir` itself if empty. Links are not followed.
pub(crate) fn fstatat(dir: RawFd, name: &CStr) -> io::Result<libc::stat> {
    // SAFETY: `stat` is plain data for which zero is a value; the kernel fills it.
    let mut stat: libc::stat = unsafe { std::mem::zeroed() };
    let flags = libc::AT_SYMLINK_NOFOLLOW | libc::AT_EMPTY_PATH;
    // SAFETY: name is a C string, stat is valid for writes.
    check(unsafe { libc::fstatat(dir, name.as_ptr(), &raw mut stat, flags) })?;
    Ok(stat)
}

pub(crate) fn mkdirat(dir: RawFd, name: &CStr, mode: u32) -> io::Result<()> {
    // SAFETY: the name is a C string.
    check(unsafe { libc::mkdirat(dir, name.as_ptr(), mode) }).map(|_| ())
}

pub(crate) fn mknodat(dir: RawFd, name: &CStr, mode: u32, rdev: u32) -> io::Result<()> {
    // SAFETY: the name is a C string.
    check(unsafe { libc::mknodat(dir, name.as_ptr(), mode, rdev.into()) }).map(|_| ())
}

pub(crate) fn symlinkat(target: &CStr, dir: RawFd, name: &CStr) -> io::Result<()> {
    // SAFETY: both are C strings.
    check(unsafe { libc::symlinkat(target.as_ptr(), dir, name.as_ptr()) }).map(|_| ())
}

/// Links the inode open as `fd` (any kind, `O_PATH` will do) as `name` of `dir`.
pub(crate) fn link_fd(fd: RawFd, dir: RawFd, name: &CStr) -> io::Result<()> {
    let flags = libc::AT_EMPTY_PATH;
    // SAFETY: names are C strings.
    check(unsafe { libc::linkat(fd, c"".as_ptr(), dir, name.as_ptr(), flags) }).map(|_| ())
}

pub(crate) fn unlinkat(dir: RawFd, name: &CStr, flags: i32) -> io::Result<()> {
    // SAFETY: the name is a C string.
    check(unsafe { libc::unlinkat(dir, name.as_ptr(), flags) }).map(|_| ())
}

pub(crate) fn renameat2(from: (RawFd, &CStr), to: (RawFd, &CStr), flags: u32) -> io::Result<()> {
    // SAFETY: both names are C strings.
    let result = unsafe { libc::renameat2(from.0, from.1.as_ptr(), to.0, to.1.as_ptr(), flags) };
    check(result).map(|_| ())
}

pub(crate) fn readlinkat(fd: RawFd) -> io::Result<Vec<u8>> {
    let mut buf = vec![0u8; libc::PATH_MAX as usize];
    // SAFETY: the buffer is valid for its length.
    let n = unsafe { libc::readlinkat(fd, c"".as_ptr(), buf.as_mut_ptr().cast(), buf.len()) };
    buf.truncate(check_size(n)?);
    Ok(buf)
}

pub(crate) fn pread(fd: RawFd, buf: &mut [u8], offset: u64) -> io::Result<usize> {
    // SAFETY: the buffer is valid for its length.
    let n = unsafe { libc::pread64(fd, buf.as_mut_ptr().cast(), buf.len(), off(offset)?) };
    check_size(n)
}

pub(crate) fn pwrite(fd: RawFd, buf: &[u8], offset: u64) -> io::Result<usize> {
    // SAFETY: the buffer is valid for its length.
    let n = unsafe { libc::pwrite64(fd, buf.as_ptr().cast(), buf.len(), off(offset)?) };
    check_size(n)
}

fn off(value: u64) -> io::Result<i64> {
    i64::try_from(value).map_err(|_| io::Error::from_raw_os_error(libc::EINVAL))
}

pub(crate) fn ftruncate(fd: RawFd, size: u64) -> io::Result<()> {
    // SAFETY: no memory is passed.
    check(unsafe { libc::ftruncate64(fd, off(size)?) }).map(|_| ())
}

pub(crate) fn fallocate(fd: RawFd, mode: i32, offset: u64, len: u64) -> io::Result<()> {
    // SAFETY: no memory is passed.
    check(unsafe { libc::fallocate64(fd, mode, off(offset)?, off(len)?) }).map(|_| ())
}

/// Has what is not dirty read from the disk again.
pub(crate) fn drop_clean_pages(fd: RawFd) -> io::Result<()> {
    // SAFETY: no memory is passed.
    match unsafe { libc::posix_fadvise64(fd, 0, 0, libc::POSIX_FADV_DONTNEED) } {
        0 => Ok(()),
        errno => Err(io::Error::from_raw_os_error(errno)),
    }
}

pub(crate) fn fsync(fd: RawFd, data_only: bool) -> io::Result<()> {
    // SAFETY: no memory is passed.
    check(unsafe {
        if data_only {
            libc::fdatasync(fd)
        } else {
            libc::fsync(fd)
        }
    })
    .map(|_| ())
}

pub(crate) fn syncfs(fd: RawFd) -> io::Result<()> {
    // SAFETY: no memory is passed.
    check(unsafe { libc::syncfs(fd) }).map(|_| ())
}

pub(crate) fn lseek(fd: RawFd, offset: i64, whence: i32) -> io::Result<i64> {
    // SAFETY: no memory is passed.
    let at = unsafe { libc::lseek64(fd, offset, whence) };
    if at < 0 {
        Err(io::Error::last_os_error())
    } else {
        Ok(at)
    }
}

pub(crate) fn fchmod(fd: RawFd, mode: u32) -> io::Result<()> {
    // SAFETY: no memory is passed.
    check(unsafe { libc::fchmod(fd, mode) }).map(|_| ())
}

/// As [`fchmod`] for a descriptor opened with `O_PATH`.
pub(crate) fn chmod_path_fd(fd: RawFd, mode: u32) -> io::Result<()> {
    let path = proc_path(fd);
    // SAFETY: the path is a C string.
    check(unsafe { libc::chmod(path.as_ptr(), mode) }).map(|_| ())
}

pub(crate) fn fchown(fd: RawFd, uid: Option<u32>, gid: Option<u32>) -> io::Result<()> {
    let (uid, gid) = (uid.unwrap_or(u32::MAX), gid.unwrap_or(u32::MAX));
    // SAFETY: the name is a C string.
    check(unsafe { libc::fchownat(fd, c"".as_ptr(), uid, gid, libc::AT_EMPTY_PATH) }).map(|_| ())
}

pub(crate) fn utimens(fd: RawFd, times: &[libc::timespec; 2]) -> io::Result<()> {
    // SAFETY: two timespecs are passed, as the call wants.
    let result = unsafe { libc::utimensat(fd, c"".as_ptr(), times.as_ptr(), libc::AT_EMPTY_PATH) };
    check(result).map(|_| ())
}

/// `/proc/self/fd/N`, which leads to exactly the open inode, also for `O_PATH` descriptors.
fn proc_path(fd: RawFd) -> CString {
    CString::new(format!("/proc/self/fd/{fd}")).expect("digits hold no zero byte")
}

/// Path of an open file from the root of its mount, as the kernel knows it now.
pub(crate) fn path_of_fd(fd: RawFd) -> io::Result<Vec<u8>> {
    use std::os::unix::ffi::OsStringExt;
    let path = std::fs::read_link(format!("/proc/self/fd/{fd}"))?;
    Ok(path.into_os_string().into_vec())
}

pub(crate) fn fstatvfs(fd: RawFd) -> io::Result<libc::statvfs> {
    // SAFETY: `statvfs` is plain data for which zero is a value; the kernel fills it.
    let mut stat: libc::statvfs = unsafe { std::mem::zeroed() };
    // SAFETY: stat is valid for writes.
    check(unsafe { libc::fstatvfs(fd, &raw mut stat) })?;
    Ok(stat)
}

/// Attributes of nothing.
pub(crate) fn no_stat() -> libc::stat {
    // SAFETY: `stat` is plain data for which zero is a value.
    unsafe { std::mem::zeroed() }
}
