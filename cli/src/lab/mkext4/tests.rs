//! Formats images of several sizes and lets others judge: `e2fsck` where it is installed, and as
//! root the kernel's own driver, which also gets files written through it.

#![allow(clippy::unwrap_used)]

use std::fs::{self, File, OpenOptions};
use std::io::{Seek, SeekFrom, Write};
use std::os::unix::fs::MetadataExt;
use std::path::{Path, PathBuf};
use std::process::Command;

use super::super::{loopdev, mounts, sys};

const MIB: u64 = 1 << 20;

/// A directory that disappears with the test, mounted file system included.
struct Scratch(PathBuf);

impl Scratch {
    fn new(name: &str) -> Self {
        let dir = std::env::temp_dir().join(format!("tandem-mkext4-{name}-{}", std::process::id()));
        fs::create_dir_all(&dir).unwrap();
        Self(dir)
    }
}

impl Drop for Scratch {
    fn drop(&mut self) {
        for point in mounts::below(&self.0).unwrap_or_default().iter().rev() {
            let _ = mounts::unmount(point);
        }
        let _ = fs::remove_dir_all(&self.0);
    }
}

fn new_image(dir: &Path, size: u64) -> PathBuf {
    let path = dir.join("image");
    let image = OpenOptions::new()
        .read(true)
        .write(true)
        .create_new(true)
        .open(&path)
        .unwrap();
    super::format(&image, size, "lab").unwrap();
    path
}

/// True if the checker is there; panics with its findings if it has any.
fn fsck(image: &Path) -> bool {
    let Ok(output) = Command::new("e2fsck").arg("-fn").arg(image).output() else {
        eprintln!("e2fsck is not installed: the image is only checked by mounting it");
        return false;
    };
    let text = String::from_utf8_lossy(&output.stdout);
    let errors = String::from_utf8_lossy(&output.stderr);
    assert!(
        output.status.success(),
        "e2fsck {}: {text}{errors}",
        image.display()
    );
    true
}

fn check_size(name: &str, size: u64) {
    let scratch = Scratch::new(name);
    let image = new_image(&scratch.0, size);
    let stored = fs::metadata(&image).unwrap().blocks() * 512;
    assert!(
        stored < 2 * MIB,
        "an image of {size} bytes takes {stored}; it should be sparse"
    );
    fsck(&image);
    if !sys::is_root() {
        eprintln!("not root: the image is not mounted");
        return;
    }
    let point = scratch.0.join("mounted");
    fs::create_dir(&point).unwrap();
    mount(&image, &point);
    fill(&point);
    mounts::unmount(&point).unwrap();
    fsck(&image);
    mount(&image, &point);
    assert_eq!(fs::read_dir(point.join("many")).unwrap().count(), 3000);
    assert_eq!(
        fs::metadata(point.join("sparse")).unwrap().len(),
        (8 << 30) + 4
    );
}

fn mount(image: &Path, point: &Path) {
    let device = loopdev::attach(image).unwrap();
    sys::mount(&device.path, point, "ext4", libc::MS_NOATIME).unwrap();
    let mounted = fs::read_to_string("/proc/self/mountinfo").unwrap();
    let line = mounted
        .lines()
        .find(|line| line.contains(point.to_str().unwrap()))
        .unwrap();
    assert!(
        !line.contains("errors=") && !line.contains("noacl"),
        "{line}"
    );
}

/// Small files in one directory (it becomes hashed), a large file, a sparse file, attributes.
fn fill(point: &Path) {
    fs::create_dir(point.join("many")).unwrap();
    for number in 0..3000 {
        fs::write(point.join(format!("many/file-{number}")), vec![b'x'; 100]).unwrap();
    }
    let mut large = File::create(point.join("large")).unwrap();
    for _ in 0..20 {
        large.write_all(&vec![7u8; MIB as usize]).unwrap();
    }
    large.sync_all().unwrap();
    let mut sparse = File::create(point.join("sparse")).unwrap();
    sparse.seek(SeekFrom::Start(8 << 30)).unwrap();
    sparse.write_all(b"tail").unwrap();
    assert!(sparse.metadata().unwrap().blocks() < 1000);
    for name in [c"user.note", c"trusted.note", c"security.note"] {
        set_attribute(&point.join("large"), name, b"value");
    }
    // Version 2, then the entries user::rw- user:1:r-- group::r-- mask::r-- other::---.
    let entries: [(u16, u16, u32); 5] = [
        (1, 6, !0),
        (2, 4, 1),
        (4, 4, !0),
        (0x10, 4, !0),
        (0x20, 0, !0),
    ];
    let mut acl = 2u32.to_le_bytes().to_vec();
    for (tag, rights, id) in entries {
        acl.extend(
            tag.to_le_bytes()
                .iter()
                .chain(&rights.to_le_bytes())
                .chain(&id.to_le_bytes()),
        );
    }
    set_attribute(&point.join("large"), c"system.posix_acl_access", &acl);
}

fn set_attribute(path: &Path, name: &std::ffi::CStr, value: &[u8]) {
    let text = std::ffi::CString::new(path.to_str().unwrap()).unwrap();
    let (pointer, length) = (value.as_ptr().cast(), value.len());
    // SAFETY: two strings that end in zero, and a value with its length.
    let result = unsafe { libc::setxattr(text.as_ptr(), name.as_ptr(), pointer, length, 0) };
    assert_eq!(result, 0, "{name:?}: {}", std::io::Error::last_os_error());
}

#[test]
fn one_short_group() {
    check_size("64m", 64 * MIB);
}

#[test]
fn last_group_too_small_to_use() {
    check_size("short", 256 * MIB + 3 * MIB);
}

#[test]
fn size_not_in_whole_blocks() {
    check_size("odd", 300 * MIB + 1234);
}

#[test]
fn eight_groups() {
    check_size("1g", 1024 * MIB);
}

#[test]
fn forty_groups_sparse() {
    check_size("5g", 5 * 1024 * MIB);
}

#[test]
fn several_descriptor_blocks() {
    let scratch = Scratch::new("40g");
    fsck(&new_image(&scratch.0, 40 * 1024 * MIB));
}

#[test]
fn sizes_out_of_range_are_refused() {
    let scratch = Scratch::new("refused");
    for size in [0, MIB, 16 << 40] {
        let image = File::create(scratch.0.join("image")).unwrap();
        assert!(super::format(&image, size, "lab").is_err(), "{size}");
    }
}

#[test]
fn a_file_with_content_is_refused() {
    let scratch = Scratch::new("full");
    let path = scratch.0.join("image");
    fs::write(&path, "precious").unwrap();
    let image = OpenOptions::new()
        .read(true)
        .write(true)
        .open(&path)
        .unwrap();
    assert!(super::format(&image, 64 * MIB, "lab").is_err());
    assert_eq!(fs::read(&path).unwrap(), b"precious");
}
