//! What an inode is beside its ordinary attributes.

use super::check;
use std::io;
use std::os::fd::RawFd;

pub(crate) fn get_flags(fd: RawFd) -> io::Result<u32> {
    let mut flags: libc::c_int = 0;
    // SAFETY: the request writes one int.
    check(unsafe { libc::ioctl(fd, libc::FS_IOC_GETFLAGS, &raw mut flags) })?;
    Ok(flags.cast_unsigned())
}

/// Mode bits alone; asking for times too would make the next write dirty the inode.
pub(crate) fn mode_of(fd: RawFd) -> io::Result<u32> {
    // SAFETY: `statx` is plain data for which zero is a value; the kernel fills it.
    let mut stat: libc::statx = unsafe { std::mem::zeroed() };
    let flags = libc::AT_EMPTY_PATH;
    // SAFETY: the name is a C string, the structure is valid for writes.
    check(unsafe { libc::statx(fd, c"".as_ptr(), flags, libc::STATX_MODE, &raw mut stat) })?;
    Ok(stat.stx_mode.into())
}

/// Size and number of links, without asking for times.
pub(crate) fn size_and_links(fd: RawFd) -> io::Result<(u64, u32)> {
    // SAFETY: `statx` is plain data for which zero is a value; the kernel fills it.
    let mut stat: libc::statx = unsafe { std::mem::zeroed() };
    let (flags, mask) = (libc::AT_EMPTY_PATH, libc::STATX_SIZE | libc::STATX_NLINK);
    // SAFETY: the name is a C string, the structure is valid for writes.
    check(unsafe { libc::statx(fd, c"".as_ptr(), flags, mask, &raw mut stat) })?;
    Ok((stat.stx_size, stat.stx_nlink))
}

/// Whether the inode is immutable, and whether it is append-only.
pub(crate) fn protection(fd: RawFd) -> io::Result<(bool, bool)> {
    // SAFETY: `statx` is plain data for which zero is a value; the kernel fills it.
    let mut stat: libc::statx = unsafe { std::mem::zeroed() };
    let flags = libc::AT_EMPTY_PATH;
    // SAFETY: the name is a C string, the structure is valid for writes.
    check(unsafe { libc::statx(fd, c"".as_ptr(), flags, libc::STATX_TYPE, &raw mut stat) })?;
    let has = |bit: libc::c_int| stat.stx_attributes & bit as u64 != 0;
    Ok((
        has(libc::STATX_ATTR_IMMUTABLE),
        has(libc::STATX_ATTR_APPEND),
    ))
}

/// `struct fsxattr`, as it is.
pub(crate) type FsXattr = [u8; 28];
/// `FS_IOC_FSGETXATTR`, which the C library does not name.
pub(crate) const FS_IOC_FSGETXATTR: libc::c_ulong = 0x801c_581f;

pub(crate) fn get_fsxattr(fd: RawFd) -> io::Result<FsXattr> {
    let mut attr: FsXattr = [0; 28];
    // SAFETY: the request writes the 28 bytes its number encodes.
    check(unsafe { libc::ioctl(fd, FS_IOC_FSGETXATTR, attr.as_mut_ptr()) })?;
    Ok(attr)
}

pub(crate) fn set_flags(fd: RawFd, flags: u32) -> io::Result<()> {
    let flags: libc::c_int = flags.cast_signed();
    // SAFETY: the request reads one int.
    check(unsafe { libc::ioctl(fd, libc::FS_IOC_SETFLAGS, &raw const flags) }).map(|_| ())
}
