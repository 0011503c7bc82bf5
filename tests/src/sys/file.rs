//! Calls on an open file.

use super::{Errno, Sys, c, call, raw};
use std::os::fd::{AsRawFd, FromRawFd, OwnedFd};

/// `open(2)`, always with `O_CLOEXEC`: a test that starts a program must not lend it descriptors.
pub fn open(name: impl AsRef<[u8]>, flags: i32, mode: u32) -> Sys<OwnedFd> {
    openat(libc::AT_FDCWD, name, flags, mode)
}

/// `openat(2)`.
pub fn openat(dir: i32, name: impl AsRef<[u8]>, flags: i32, mode: u32) -> Sys<OwnedFd> {
    let name = c(name);
    let fd = call!(openat(dir, name.as_ptr(), flags | libc::O_CLOEXEC, mode))?;
    // SAFETY: the kernel has just given us this descriptor; nobody else owns it.
    Ok(unsafe { OwnedFd::from_raw_fd(fd as i32) })
}

/// `close(2)` with its answer, which dropping an `OwnedFd` hides.
pub fn close(fd: OwnedFd) -> Sys<()> {
    use std::os::fd::IntoRawFd;
    call!(close(fd.into_raw_fd())).map(drop)
}

pub fn read(fd: &OwnedFd, into: &mut [u8]) -> Sys<usize> {
    call_len(call!(read(
        fd.as_raw_fd(),
        into.as_mut_ptr().cast(),
        into.len()
    )))
}

pub fn pread(fd: &OwnedFd, into: &mut [u8], at: u64) -> Sys<usize> {
    let (pointer, len) = (into.as_mut_ptr().cast(), into.len());
    call_len(call!(pread(fd.as_raw_fd(), pointer, len, at as i64)))
}

pub fn write(fd: &OwnedFd, data: &[u8]) -> Sys<usize> {
    call_len(call!(write(
        fd.as_raw_fd(),
        data.as_ptr().cast(),
        data.len()
    )))
}

pub fn pwrite(fd: &OwnedFd, data: &[u8], at: u64) -> Sys<usize> {
    call_len(call!(pwrite(
        fd.as_raw_fd(),
        data.as_ptr().cast(),
        data.len(),
        at as i64
    )))
}

/// `writev(2)`; with a position `pwritev(2)`.
pub fn writev(fd: &OwnedFd, parts: &[&[u8]], at: Option<u64>) -> Sys<usize> {
    let vector: Vec<libc::iovec> = parts
        .iter()
        .map(|part| libc::iovec {
            iov_base: part.as_ptr() as *mut _,
            iov_len: part.len(),
        })
        .collect();
    let (pointer, count) = (vector.as_ptr(), vector.len() as i32);
    call_len(match at {
        None => call!(writev(fd.as_raw_fd(), pointer, count)),
        Some(at) => call!(pwritev(fd.as_raw_fd(), pointer, count, at as i64)),
    })
}

fn call_len(answer: Sys<i64>) -> Sys<usize> {
    answer.map(|len| len as usize)
}

/// The whole of `data`, or the first error: for tests whose subject is not the short write.
pub fn write_all(fd: &OwnedFd, data: &[u8], at: u64) -> Sys<()> {
    let mut done = 0;
    while done < data.len() {
        match pwrite(fd, &data[done..], at + done as u64)? {
            0 => return Err(Errno(libc::EIO)),
            len => done += len,
        }
    }
    Ok(())
}

/// Everything from `at` on, at most `limit` bytes.
pub fn read_all(fd: &OwnedFd, at: u64, limit: usize) -> Sys<Vec<u8>> {
    let mut data = vec![0; limit];
    let mut done = 0;
    while done < limit {
        match pread(fd, &mut data[done..], at + done as u64)? {
            0 => break,
            len => done += len,
        }
    }
    data.truncate(done);
    Ok(data)
}

pub fn lseek(fd: &OwnedFd, at: i64, whence: i32) -> Sys<u64> {
    call!(lseek(fd.as_raw_fd(), at, whence)).map(|at| at as u64)
}

pub fn ftruncate(fd: &OwnedFd, len: i64) -> Sys<()> {
    call!(ftruncate(fd.as_raw_fd(), len)).map(drop)
}

/// Where the first piece of a file lies on its disk, and how long that piece is; bytes.
pub fn first_extent(fd: &OwnedFd) -> Sys<(u64, u64)> {
    /// `struct fiemap` of the kernel, with room for one piece.
    #[repr(C)]
    struct Fiemap {
        start: u64,
        length: u64,
        flags: u32,
        mapped: u32,
        room: u32,
        reserved: u32,
        logical: u64,
        physical: u64,
        piece: u64,
        more: [u64; 2],
        piece_flags: u32,
        rest: [u32; 3],
    }
    /// `FS_IOC_FIEMAP`.
    const REQUEST: u64 = 0xc020_660b;
    /// `FIEMAP_FLAG_SYNC`.
    const SYNC: u32 = 1;
    // SAFETY: plain data for which zero is a value.
    let mut map: Fiemap = unsafe { std::mem::zeroed() };
    (map.length, map.flags, map.room) = (u64::MAX, SYNC, 1);
    call!(ioctl(fd.as_raw_fd(), REQUEST, &raw mut map))?;
    Ok((map.physical, map.piece))
}

pub fn fallocate(fd: &OwnedFd, mode: i32, at: i64, len: i64) -> Sys<()> {
    call!(fallocate(fd.as_raw_fd(), mode, at, len)).map(drop)
}

/// `copy_file_range(2)` between given positions.
pub fn copy_file_range(
    from: &OwnedFd,
    at: u64,
    to: &OwnedFd,
    to_at: u64,
    len: usize,
) -> Sys<usize> {
    let (mut at, mut to_at) = (at as i64, to_at as i64);
    call_len(call!(copy_file_range(
        from.as_raw_fd(),
        &mut at,
        to.as_raw_fd(),
        &mut to_at,
        len,
        0
    )))
}

pub fn fsync(fd: &OwnedFd) -> Sys<()> {
    call!(fsync(fd.as_raw_fd())).map(drop)
}

pub fn fdatasync(fd: &OwnedFd) -> Sys<()> {
    call!(fdatasync(fd.as_raw_fd())).map(drop)
}

pub fn syncfs(fd: &OwnedFd) -> Sys<()> {
    call!(syncfs(fd.as_raw_fd())).map(drop)
}

pub fn fstat(fd: &OwnedFd) -> Sys<libc::stat64> {
    // SAFETY: all-zero bytes are a valid `stat64`: it has only integers.
    let mut stat: libc::stat64 = unsafe { std::mem::zeroed() };
    call!(fstat64(fd.as_raw_fd(), &mut stat))?;
    Ok(stat)
}

pub fn fstatfs(fd: &OwnedFd) -> Sys<libc::statfs64> {
    // SAFETY: all-zero bytes are a valid `statfs64`: it has only integers.
    let mut stat: libc::statfs64 = unsafe { std::mem::zeroed() };
    call!(fstatfs64(fd.as_raw_fd(), &mut stat))?;
    Ok(stat)
}

pub fn fchmod(fd: &OwnedFd, mode: u32) -> Sys<()> {
    call!(fchmod(fd.as_raw_fd(), mode)).map(drop)
}

pub fn fchown(fd: &OwnedFd, uid: u32, gid: u32) -> Sys<()> {
    call!(fchown(fd.as_raw_fd(), uid, gid)).map(drop)
}

pub fn fchdir(fd: &OwnedFd) -> Sys<()> {
    call!(fchdir(fd.as_raw_fd())).map(drop)
}

/// `futimens(2)`: access and modification time.
pub fn futimens(fd: &OwnedFd, times: [libc::timespec; 2]) -> Sys<()> {
    call!(futimens(fd.as_raw_fd(), times.as_ptr())).map(drop)
}

pub fn fsetxattr(fd: &OwnedFd, key: &str, value: &[u8], flags: i32) -> Sys<()> {
    let key = c(key);
    let (pointer, len) = (value.as_ptr().cast(), value.len());
    call!(fsetxattr(fd.as_raw_fd(), key.as_ptr(), pointer, len, flags)).map(drop)
}

/// `flock(2)`.
pub fn flock(fd: &OwnedFd, how: i32) -> Sys<()> {
    call!(flock(fd.as_raw_fd(), how)).map(drop)
}

/// Takes, tests or drops a record lock (`F_SETLK`, `F_GETLK`, `F_OFD_SETLK`); answers the type the
/// kernel left in the structure.
pub fn record_lock(fd: &OwnedFd, command: i32, kind: i32, start: i64, len: i64) -> Sys<i32> {
    // SAFETY: all-zero bytes are a valid `flock64`: it has only integers.
    let mut lock: libc::flock64 = unsafe { std::mem::zeroed() };
    lock.l_type = kind as i16;
    lock.l_whence = libc::SEEK_SET as i16;
    lock.l_start = start;
    lock.l_len = len;
    call!(fcntl(fd.as_raw_fd(), command, &mut lock))?;
    Ok(i32::from(lock.l_type))
}

/// Sets or clears inode flags such as append-only; the others stay.
pub fn change_inode_flags(fd: &OwnedFd, flags: libc::c_int, on: bool) -> Sys<()> {
    let mut now: libc::c_int = 0;
    call!(ioctl(fd.as_raw_fd(), libc::FS_IOC_GETFLAGS, &mut now))?;
    now = if on { now | flags } else { now & !flags };
    call!(ioctl(fd.as_raw_fd(), libc::FS_IOC_SETFLAGS, &now)).map(drop)
}

/// Gives an open file without a name one (`linkat` of `/proc/self/fd/N`, which needs no rights).
pub fn link_open(fd: &OwnedFd, name: impl AsRef<[u8]>) -> Sys<()> {
    let from = c(format!("/proc/self/fd/{}", fd.as_raw_fd()));
    let name = c(name);
    let here = libc::AT_FDCWD;
    raw!(SYS_linkat(
        here,
        from.as_ptr(),
        here,
        name.as_ptr(),
        libc::AT_SYMLINK_FOLLOW
    ))
    .map(drop)
}

/// A write whose data is at an address that does not exist.
pub fn write_from_nowhere(fd: &OwnedFd) -> Sys<usize> {
    let nowhere = std::ptr::without_provenance::<u8>(8);
    call_len(call!(write(fd.as_raw_fd(), nowhere.cast(), 100)))
}
