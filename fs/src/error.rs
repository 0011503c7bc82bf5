//! The one place that turns errors into what the kernel is told.

use fuser::Errno;
use std::io;

/// The errno of a failed system call; `EIO` for an error that has none.
pub(crate) fn errno_of(error: &io::Error) -> i32 {
    error.raw_os_error().unwrap_or(libc::EIO)
}

/// For an answer to the kernel.
pub(crate) fn to_fuse(errno: i32) -> Errno {
    Errno::from_i32(errno)
}
