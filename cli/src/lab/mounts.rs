//! What is mounted where, from `/proc/self/mountinfo`.

use std::fs;
use std::io;
use std::os::unix::ffi::OsStringExt;
use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};

use super::sys;

/// How long a mount may stay busy before it is taken out of the tree by force.
const BUSY_LIMIT: Duration = Duration::from_secs(2);
const BUSY_PAUSE: Duration = Duration::from_millis(20);

/// Mount points at or below `dir`, in the order in which they were mounted.
pub(crate) fn below(dir: &Path) -> io::Result<Vec<PathBuf>> {
    Ok(all()?
        .into_iter()
        .filter(|point| point.starts_with(dir))
        .collect())
}

/// Every mount point of this mount namespace.
pub(crate) fn all() -> io::Result<Vec<PathBuf>> {
    let table = fs::read("/proc/self/mountinfo")?;
    let lines = table.split(|&byte| byte == b'\n');
    Ok(lines
        .filter_map(|line| line.split(|&byte| byte == b' ').nth(4))
        .map(unescape)
        .collect())
}

/// The kernel writes blanks, tabs, newlines and backslashes as three octal digits.
fn unescape(field: &[u8]) -> PathBuf {
    let mut plain = Vec::with_capacity(field.len());
    let mut rest = field;
    while let Some((&first, tail)) = rest.split_first() {
        let digits = tail.get(..3).filter(|_| first == b'\\');
        let code = digits.and_then(|digits| std::str::from_utf8(digits).ok());
        match code.and_then(|digits| u8::from_str_radix(digits, 8).ok()) {
            Some(byte) => {
                plain.push(byte);
                rest = &tail[3..];
            }
            None => {
                plain.push(first);
                rest = tail;
            }
        }
    }
    PathBuf::from(std::ffi::OsString::from_vec(plain))
}

/// Unmounts `point`; one that stays busy is detached, and the kernel drops it with its last user.
pub(crate) fn unmount(point: &Path) -> io::Result<()> {
    let start = Instant::now();
    loop {
        match sys::unmount(point, 0) {
            Err(error) if error.raw_os_error() == Some(libc::EBUSY) => {}
            done => return done,
        }
        if start.elapsed() >= BUSY_LIMIT {
            return sys::unmount(point, libc::MNT_DETACH);
        }
        std::thread::sleep(BUSY_PAUSE);
    }
}

#[cfg(test)]
#[allow(clippy::unwrap_used)]
mod tests {
    use super::*;

    #[test]
    fn octal_escapes_are_read() {
        assert_eq!(unescape(br"/a\040b\134c"), PathBuf::from(r"/a b\c"));
        assert_eq!(unescape(br"/end\0"), PathBuf::from(r"/end\0"));
    }

    #[test]
    fn the_root_is_mounted() {
        assert!(all().unwrap().contains(&PathBuf::from("/")));
    }
}
