//! The machine: who runs this, the kernel, FUSE, limits.

use std::fs;
use std::io::ErrorKind;
use std::os::unix::fs::MetadataExt;

use super::Report;

/// Oldest kernel that is supported.
const KERNEL: (u32, u32) = (6, 1);
/// Files that a daemon may have open for an application that has many.
const OPEN_FILES: u64 = 65_536;

pub(super) fn look(report: &mut Report) {
    let root = fs::metadata("/proc/self").is_ok_and(|meta| meta.uid() == 0);
    if root {
        report.ok("root", "this runs as root");
    } else {
        let found = "this does not run as root: much cannot be seen";
        report.fail("root", found, "run it as root");
    }
    kernel(report);
    fuse(report);
    limits(root, report);
}

fn kernel(report: &mut Report) {
    let release = fs::read_to_string("/proc/sys/kernel/osrelease").unwrap_or_default();
    let release = release.trim();
    let (major, minor) = KERNEL;
    match version(release) {
        Some(found) if found >= KERNEL => report.ok("kernel", release),
        Some(_) => report.fail(
            "kernel",
            format!("{release} is too old"),
            format!("run Linux {major}.{minor} or later"),
        ),
        None => report.skip(
            "kernel",
            format!("its version is not understood: {release:?}"),
        ),
    }
}

/// The first two numbers of `6.1.0-18-amd64`.
fn version(release: &str) -> Option<(u32, u32)> {
    let mut numbers = release.split(|c: char| !c.is_ascii_digit());
    Some((numbers.next()?.parse().ok()?, numbers.next()?.parse().ok()?))
}

fn fuse(report: &mut Report) {
    let device = fs::OpenOptions::new()
        .read(true)
        .write(true)
        .open("/dev/fuse");
    match device {
        Ok(_) => report.ok("fuse", "/dev/fuse opens"),
        Err(e) if e.kind() == ErrorKind::NotFound => report.fail(
            "fuse",
            "there is no /dev/fuse",
            "modprobe fuse; and name it in /etc/modules-load.d/",
        ),
        Err(e) => report.fail(
            "fuse",
            format!("/dev/fuse: {e}"),
            "run this as root, and in a container allow the device",
        ),
    }
}

fn limits(root: bool, report: &mut Report) {
    let text = fs::read_to_string("/proc/self/limits").unwrap_or_default();
    match hard_limit(&text, "Max locked memory") {
        _ if root => report.ok("locked memory", "root is not limited"),
        Some(u64::MAX) => report.ok("locked memory", "not limited"),
        Some(bytes) => report.warn(
            "locked memory",
            format!("at most {bytes} bytes"),
            "run as root, or set LimitMEMLOCK=infinity in the unit",
        ),
        None => report.skip("locked memory", "the limit is not shown"),
    }
    match hard_limit(&text, "Max open files") {
        Some(files) if files >= OPEN_FILES => report.ok("open files", format!("up to {files}")),
        Some(files) => report.warn(
            "open files",
            format!("at most {files}, and an application may need {OPEN_FILES}"),
            "raise it (ulimit -Hn), or run by the unit, which does",
        ),
        None => report.skip("open files", "the limit is not shown"),
    }
}

/// The second column of a line of `/proc/PID/limits`.
fn hard_limit(text: &str, name: &str) -> Option<u64> {
    let line = text.lines().find_map(|line| line.strip_prefix(name))?;
    match line.split_whitespace().nth(1)? {
        "unlimited" => Some(u64::MAX),
        number => number.parse().ok(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn kernel_versions_are_read() {
        assert_eq!(version("6.1.0-18-amd64"), Some((6, 1)));
        assert_eq!(version("5.15-rc1"), Some((5, 15)));
        assert_eq!(version("7.0"), Some((7, 0)));
        assert_eq!(version("unknown"), None);
        assert!(version("5.15.2").is_some_and(|v| v < KERNEL));
    }

    #[test]
    fn limits_are_read() {
        let text = "Limit                     Soft Limit           Hard Limit           Units\n\
                    Max locked memory         8388608              unlimited            bytes\n\
                    Max open files            1024                 524288               files\n";
        assert_eq!(hard_limit(text, "Max locked memory"), Some(u64::MAX));
        assert_eq!(hard_limit(text, "Max open files"), Some(524_288));
        assert_eq!(hard_limit(text, "Max nice priority"), None);
    }
}
