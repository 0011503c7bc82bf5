//! Mounting and unmounting.

use super::{check, cstring};
use std::ffi::CStr;
use std::io;
use std::os::fd::{AsRawFd, BorrowedFd};

/// Mounts FUSE session `device` at `target`.
pub(crate) fn mount_fuse(
    source: &CStr,
    target: &CStr,
    device: BorrowedFd<'_>,
    flags: libc::c_ulong,
) -> io::Result<()> {
    let options = format!(
        "fd={},rootmode=40000,user_id=0,group_id=0,allow_other,default_permissions",
        device.as_raw_fd()
    );
    let options = cstring(options.as_bytes())?;
    // SAFETY: all are C strings that live through the call.
    let result = unsafe {
        libc::mount(
            source.as_ptr(),
            target.as_ptr(),
            c"fuse.tandem".as_ptr(),
            flags,
            options.as_ptr().cast(),
        )
    };
    check(result).map(|_| ())
}

pub(crate) fn umount(target: &CStr, flags: i32) -> io::Result<()> {
    // SAFETY: the target is a C string.
    check(unsafe { libc::umount2(target.as_ptr(), flags) }).map(|_| ())
}
