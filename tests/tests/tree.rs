//! The tree comparison must be sharp: equal trees give no finding, and every single difference that
//! can be made in a tree is found and named. An oracle that cannot fail would make every other
//! test of this crate worthless.

#![allow(
    clippy::unwrap_used,
    reason = "a failed set-up ends the test, with its line"
)]

use std::os::fd::OwnedFd;
use tandem_tests::scratch::{Scratch, inside, subdir};
use tandem_tests::sys::{self, Sys, time};
use tandem_tests::tree::{Holes, Options, report};

/// A tree with one thing of every kind; all times are set, so two of them are equal.
fn plant() -> Sys<()> {
    let file = sys::open("file", libc::O_CREAT | libc::O_RDWR, 0o640)?;
    sys::write_all(&file, &[7; 200_000], 0)?;
    let sparse = sys::open("sparse", libc::O_CREAT | libc::O_RDWR, 0o600)?;
    sys::ftruncate(&sparse, 4 << 20)?;
    sys::write_all(&sparse, b"x", 2 << 20)?;
    sys::fsync(&sparse)?;
    sys::link("file", "second name")?;
    sys::mkdir("dir", 0o750)?;
    sys::mkdir("dir/inner", 0o700)?;
    sys::symlink("file", "dir/link")?;
    sys::mkfifo("dir/fifo", 0o600)?;
    sys::open(b"dir/\xff\n", libc::O_CREAT | libc::O_WRONLY, 0o600)?;
    sys::setxattr("file", "user.color", b"blue", 0)?;
    settle()
}

/// Sets every time, innermost first.
fn settle() -> Sys<()> {
    for dir in ["dir/inner", "dir", "."] {
        for name in sys::names(dir)? {
            let path = [dir.as_bytes(), b"/", &name].concat();
            sys::utimens(path, [time(1, 0), time(123_456, 789)])?;
        }
    }
    sys::utimens(".", [time(1, 0), time(99, 0)])
}

/// Plants two trees, changes one, and expects the report to have all these words (none: equal).
fn expect(name: &str, change: impl Fn() -> Sys<()> + Send, words: &[&str]) {
    expect_with(
        name,
        &Options {
            holes: Holes::Equal,
            ..Options::replicas()
        },
        change,
        words,
    );
}

fn expect_with(name: &str, options: &Options, change: impl Fn() -> Sys<()> + Send, words: &[&str]) {
    let scratch = Scratch::new().unwrap();
    let make = |side| -> OwnedFd {
        let dir = subdir(scratch.dir(), side).unwrap();
        inside(&dir, plant).unwrap();
        dir
    };
    let (left, right) = (make("left"), make("right"));
    inside(&right, change).unwrap_or_else(|error| panic!("{name}: {error}"));
    let found = report(&left, &right, options).unwrap();
    assert_eq!(
        words.is_empty(),
        found.is_empty(),
        "{name}: found {found:?}"
    );
    for word in words {
        assert!(found.contains(word), "{name}: {word:?} is not in {found}");
    }
}

#[test]
fn equal_trees_have_no_difference() {
    expect("nothing", || Ok(()), &[]);
}

#[test]
fn every_metadata_difference_is_found() {
    expect(
        "mode",
        || sys::chmod("dir/inner", 0o701),
        &["dir/inner: mode: 40700 | 40701"],
    );
    expect("sgid", || sys::chmod("dir", 0o2750), &["dir: mode"]);
    let touch = || sys::utimens("dir", [time(1, 0), time(123_456, 790)]);
    expect(
        "one nanosecond",
        touch,
        &["dir: mtime: 123456.000000789 | 123456.000000790"],
    );
    expect(
        "root",
        || sys::utimens(".", [time(1, 0), time(98, 0)]),
        &["(root): mtime"],
    );
    let link = || sys::utimens("dir/link", [time(1, 0), time(5, 0)]);
    expect("link time", link, &["dir/link: mtime"]);
    expect(
        "xattr value",
        || sys::setxattr("file", "user.color", b"red", 0),
        &["blue | red"],
    );
    expect(
        "xattr",
        || sys::removexattr("file", "user.color"),
        &["xattr user.color: blue | none"],
    );
    if sys::is_root() {
        expect(
            "uid",
            || sys::lchown("dir/link", 1, u32::MAX),
            &["dir/link: uid: 0 | 1"],
        );
        expect(
            "gid",
            || sys::chown("file", u32::MAX, 7),
            &["gid: 0 | 7", "second name: gid"],
        );
        let trusted = || sys::setxattr("dir/link", "trusted.t", b"\x00\xff", 0);
        expect(
            "trusted",
            trusted,
            &[r"dir/link: xattr trusted.t: none | \x00\xff"],
        );
        let device = || {
            sys::unlink("dir/fifo")?;
            sys::mknod("dir/fifo", libc::S_IFCHR | 0o600, libc::makedev(1, 3))?;
            settle()
        };
        expect(
            "device",
            device,
            &["dir/fifo: mode", "dir/fifo: device: 0 | 103"],
        );
    }
}

#[test]
fn every_name_difference_is_found() {
    let rename = || {
        sys::rename("dir/fifo", "dir/other")?;
        settle()
    };
    expect(
        "rename",
        rename,
        &[
            "dir/fifo: name: exists | missing",
            "dir/other: name: missing",
        ],
    );
    let bytes = || {
        sys::rename(b"dir/\xff\n", b"dir/\xfe\n")?;
        settle()
    };
    expect(
        "bytes",
        bytes,
        &[r"dir/\xff\n: name: exists", r"dir/\xfe\n: name: missing"],
    );
    let target = || {
        sys::unlink("dir/link")?;
        sys::symlink("filf", "dir/link")?;
        settle()
    };
    expect("target", target, &["dir/link: target: file | filf"]);
    let copy = || {
        sys::unlink("second name")?;
        let file = sys::open("second name", libc::O_CREAT | libc::O_RDWR, 0o640)?;
        sys::write_all(&file, &[7; 200_000], 0)?;
        sys::setxattr("second name", "user.color", b"blue", 0)?;
        settle()
    };
    expect(
        "a copy is no link",
        copy,
        &["links: 2 | 1", "second name: same file as: file | alone"],
    );
}

#[test]
fn every_data_difference_is_found() {
    let byte = || {
        let file = sys::open("file", libc::O_WRONLY, 0)?;
        sys::write_all(&file, b"8", 199_999)?;
        settle()
    };
    expect(
        "one byte",
        byte,
        &["file: data: differs first in 196608..262144"],
    );
    let longer = || {
        sys::truncate("file", 200_001)?;
        settle()
    };
    expect("one byte more", longer, &["file: size: 200000 | 200001"]);
    let filled = || {
        let file = sys::open("sparse", libc::O_WRONLY, 0)?;
        sys::write_all(&file, &[0; 4096], 8192)?;
        settle()
    };
    expect(
        "a filled hole",
        filled,
        &["sparse: data blocks: 512..513 | 2..3 512..513"],
    );
    let solid = || {
        let file = sys::open("sparse", libc::O_WRONLY, 0)?;
        sys::write_all(&file, &vec![0; 2 << 20], 0)?;
        sys::fsync(&file)?;
        settle()
    };
    // The lenient rule too sees a file that has lost its sparseness.
    expect_with("solid", &Options::replicas(), solid, &["sparse: allocated"]);
    expect_with(
        "a filled hole, leniently",
        &Options::replicas(),
        filled,
        &[],
    );
}

#[test]
fn set_times_are_compared_between_executions() {
    let options = Options::executions();
    let write = || {
        let file = sys::open("file", libc::O_WRONLY, 0)?;
        sys::write_all(&file, &[7], 0)
    };
    expect_with("a time that moved on", &options, write, &["file: mtime"]);
    let both = || sys::utimens("dir/link", [time(1, 0), time(2, 0)]);
    expect_with(
        "another set time",
        &options,
        both,
        &["dir/link: mtime: 123456.000000789 | 2.0"],
    );
}
