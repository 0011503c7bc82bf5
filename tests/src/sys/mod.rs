//! The only unsafe code of the test crate: one thin wrapper per system call, so that a test sees
//! exactly what the kernel answered (std retries, adds flags and hides errno). Names are bytes and
//! relative to the calling thread's own working directory, see [`who::private_fs`].

pub mod boot;
pub mod clock;
pub mod dir;
pub mod file;
pub mod map;
pub mod name;
pub mod who;

use std::ffi::CString;
use std::fmt;

pub use boot::*;
pub use clock::*;
pub use dir::*;
pub use file::*;
pub use map::*;
pub use name::*;
pub use who::*;

/// An error number as the kernel gave it.
#[derive(Clone, Copy, PartialEq, Eq, Hash)]
pub struct Errno(pub i32);

/// What every wrapper returns.
pub type Sys<T> = Result<T, Errno>;

macro_rules! errno_names {
    ($($name:ident)*) => {
        /// The symbolic name, or nothing for the rare ones.
        fn errno_name(number: i32) -> Option<&'static str> {
            match number {
                $(libc::$name => Some(stringify!($name)),)*
                _ => None,
            }
        }
    };
}

errno_names!(EPERM ENOENT EINTR EIO ENXIO E2BIG ENOEXEC EBADF EAGAIN ENOMEM EACCES EFAULT EBUSY
    EEXIST EXDEV ENODEV ENOTDIR EISDIR EINVAL ENFILE EMFILE ENOTTY ETXTBSY EFBIG ENOSPC ESPIPE
    EROFS EMLINK EPIPE ERANGE EDEADLK ENAMETOOLONG ENOLCK ENOSYS ENOTEMPTY ELOOP ENODATA
    EOVERFLOW EOPNOTSUPP ESTALE EDQUOT ENOTCONN ETIMEDOUT);

impl fmt::Debug for Errno {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match errno_name(self.0) {
            Some(name) => f.write_str(name),
            None => write!(f, "errno {}", self.0),
        }
    }
}

impl fmt::Display for Errno {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Debug::fmt(self, f)
    }
}

impl std::error::Error for Errno {}

impl Errno {
    /// The error the calling thread saw last.
    pub fn last() -> Self {
        Self(
            std::io::Error::last_os_error()
                .raw_os_error()
                .unwrap_or(libc::EIO),
        )
    }
}

/// -1 means "look at errno".
pub(crate) fn check(answer: i64) -> Sys<i64> {
    if answer == -1 {
        Err(Errno::last())
    } else {
        Ok(answer)
    }
}

/// A name for the kernel. No test uses a NUL byte inside a name.
pub(crate) fn c(name: impl AsRef<[u8]>) -> CString {
    CString::new(name.as_ref()).expect("test names have no NUL byte")
}

/// Calls a libc function and turns -1 into the error number.
macro_rules! call {
    ($function:ident($($argument:expr),* $(,)?)) => {
        // SAFETY: the wrappers hand over only scalars, open descriptors, and pointers into a
        // C string, slice or struct that lives until the call has returned, with its true length;
        // the kernel keeps none of them.
        $crate::sys::check(unsafe { libc::$function($($argument),*) } as i64)
    };
}

/// The same for calls that libc does not offer, or offers only for all threads of the process.
macro_rules! raw {
    ($number:ident($($argument:expr),* $(,)?)) => {
        // SAFETY: as in `call!`.
        $crate::sys::check(unsafe { libc::syscall(libc::$number, $($argument),*) })
    };
}

pub(crate) use {call, raw};
