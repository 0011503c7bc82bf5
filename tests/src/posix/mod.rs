//! What a file system promises to an application, as a table of small cases.
//!
//! A case stands in an empty directory of its own, open to everybody, with umask 022. All cases
//! must pass on a plain ext4; on a replicated directory exactly the same cases must pass.

#![allow(
    clippy::too_many_lines,
    reason = "the functions are tables; one case is short"
)]

mod acl;
mod content;
mod entries;
mod errors;
mod handles;
mod open;
mod owners;
mod programs;
mod ranges;
mod rename;
mod times;
mod xattr;

use crate::scratch::Place;
use crate::sys::{self, Errno, Sys, Who};
use std::fmt::{self, Debug};
use std::os::fd::OwnedFd;
use std::panic::{AssertUnwindSafe, Location, catch_unwind};

/// An ordinary user with one supplementary group.
pub const A: Who = Who {
    uid: 1001,
    gid: 1001,
    groups: &[3001],
};
/// Another, who also belongs to A's group.
pub const B: Who = Who {
    uid: 1002,
    gid: 1002,
    groups: &[1001],
};

/// Why a case failed, with the line that says so.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Fail(String);

/// What a case answers.
pub type Check = Result<(), Fail>;

impl fmt::Display for Fail {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

impl Fail {
    #[track_caller]
    fn new(what: impl fmt::Display) -> Self {
        let at = Location::caller();
        let file = at.file().rsplit('/').next().unwrap_or("");
        Self(format!("{what} ({file}:{})", at.line()))
    }
}

impl From<Errno> for Fail {
    #[track_caller]
    fn from(error: Errno) -> Self {
        Self::new(format!("unexpected {error}"))
    }
}

impl From<std::io::Error> for Fail {
    #[track_caller]
    fn from(error: std::io::Error) -> Self {
        Self::new(format!("unexpected {error}"))
    }
}

/// One case of the table.
pub struct Case {
    pub group: &'static str,
    pub name: String,
    run: Box<dyn Fn() -> Check + Send + Sync>,
}

impl Case {
    /// `group: name in words`
    pub fn full_name(&self) -> String {
        format!("{}: {}", self.group, self.name.replace('_', " "))
    }

    fn new(group: &'static str, name: impl Into<String>, run: Run) -> Self {
        Self {
            group,
            name: name.into(),
            run: Box::new(run),
        }
    }
}

type Run = fn() -> Check;

/// A list of cases: `name { statements }`; each may use `?` on system calls and checks.
macro_rules! cases {
    ($group:literal; $($name:ident $body:block)*) => {
        vec![$($crate::posix::Case::new($group, stringify!($name), || {
            $body
            Ok(())
        })),*]
    };
}
use cases;

/// The whole table.
pub fn table() -> Vec<Case> {
    [
        acl::cases(),
        content::cases(),
        entries::cases(),
        errors::cases(),
        handles::cases(),
        open::cases(),
        owners::cases(),
        programs::cases(),
        ranges::cases(),
        rename::cases(),
        times::cases(),
        xattr::cases(),
    ]
    .into_iter()
    .flatten()
    .collect()
}

/// A case's full name and how it ended.
pub type Ended = (String, Check);

/// Runs the cases whose full name contains `filter`, each in a fresh directory there.
pub fn run_all(place: &Place, filter: &str) -> Vec<Ended> {
    let mut ended = Vec::new();
    for (number, case) in table().iter().enumerate() {
        let name = case.full_name();
        if name.contains(filter) {
            // A panic is a failed case too, not the end of the table.
            let run = AssertUnwindSafe(|| place.inside(|| run_one(number, case)));
            let result = catch_unwind(run).unwrap_or_else(|_| Err(Fail("panicked".into())));
            ended.push((name, result));
        }
    }
    ended
}

fn run_one(number: usize, case: &Case) -> Check {
    let place = format!("case-{number}");
    sys::mkdir(&place, 0o777)?;
    sys::chmod(&place, 0o777)?;
    sys::chdir(&place)?;
    (case.run)()
}

/// The cases that ended differently on the two sides, as lines to print.
pub fn differing(subject: &[Ended], bare: &[Ended]) -> Vec<String> {
    let text = |result: &Check| {
        result
            .as_ref()
            .err()
            .map_or("passes".into(), ToString::to_string)
    };
    let pairs = subject.iter().zip(bare);
    pairs
        .filter(|((_, one), (_, two))| one.is_ok() != two.is_ok())
        .map(|((name, one), (_, two))| format!("{name}: {}; bare: {}", text(one), text(two)))
        .collect()
}

/// Cases that differ from a bare file system, each with the reason; `docs/semantics.md` tells
/// users. A case of this list that does pass is reported, too, so that the list stays true.
pub const KNOWN: &[(&str, &str)] = &[
    ("fallocate: collapse moves the tail forward", SHIFTS),
    ("fallocate: collapse unaligned or to the end", SHIFTS),
    ("fallocate: insert moves the tail back", SHIFTS),
    ("fallocate: insert unaligned or at the end", SHIFTS),
    (
        "clearing: chown of nothing clears as the local file system does",
        NO_OWNER,
    ),
    ("default acl: a temporary file inherits", TMPFILE),
    ("open: temporary file without a name", TMPFILE),
    ("open: temporary file gets a name", TMPFILE),
    (
        "open: temporary file made exclusively gets no name",
        TMPFILE,
    ),
    ("direct: unaligned direct write is refused", ALIGNMENT),
    ("seek data: stored page is data before it is synced", MAPPED),
];
const SHIFTS: &str = "fuse_file_fallocate lets no mode pass that moves data; programs fall back";
const TMPFILE: &str = "the FUSE library (0.18) does not pass the request on; programs fall back";
const ALIGNMENT: &str = "the file below is used through its page cache, which takes any place";
const MAPPED: &str = "the kernel asks for data without writing mapped pages back first";
const NO_OWNER: &str = "the kernel asks a FUSE file system for a change of nothing";

/// What is wrong besides [`KNOWN`]: lines to print, none if all is well.
pub fn unexpected(differing: &[String]) -> Vec<String> {
    let is = |line: &String, name: &str| line.starts_with(&format!("{name}: "));
    let known = |line: &&String| KNOWN.iter().any(|(name, _)| is(line, name));
    let mut lines: Vec<_> = differing
        .iter()
        .filter(|line| !known(line))
        .cloned()
        .collect();
    for (name, reason) in KNOWN {
        if !differing.iter().any(|line| is(line, name)) {
            lines.push(format!(
                "{name}: passes, but is listed as impossible ({reason})"
            ));
        }
    }
    lines
}

// The words the cases are written in.

/// Expects exactly this error.
#[track_caller]
fn fails<T: Debug>(error: i32, answer: Sys<T>) -> Check {
    match answer {
        Err(Errno(found)) if found == error => Ok(()),
        other => Err(Fail::new(format!("{other:?} instead of {}", Errno(error)))),
    }
}

/// Expects two equal values.
#[track_caller]
fn same<T: PartialEq + Debug>(found: T, expected: T) -> Check {
    if found == expected {
        return Ok(());
    }
    Err(Fail::new(format!("{found:?} instead of {expected:?}")))
}

/// Expects something to hold.
#[track_caller]
fn holds(condition: bool, what: &str) -> Check {
    if condition {
        Ok(())
    } else {
        Err(Fail::new(format!("not so: {what}")))
    }
}

/// Does something as somebody else.
fn by<T>(who: Who, act: impl FnOnce() -> T) -> T {
    sys::acting_as(who, act)
}

/// A new empty file with exactly this mode, open for reading and writing.
fn file(name: &str, mode: u32) -> Sys<OwnedFd> {
    let fd = sys::open(name, libc::O_CREAT | libc::O_EXCL | libc::O_RDWR, 0o600)?;
    sys::fchmod(&fd, mode)?;
    Ok(fd)
}

/// A new file with this content.
fn filled(name: &str, data: &[u8]) -> Sys<OwnedFd> {
    let fd = file(name, 0o644)?;
    sys::write_all(&fd, data, 0)?;
    Ok(fd)
}

/// A new directory with exactly this mode.
fn dir(name: &str, mode: u32) -> Sys<()> {
    sys::mkdir(name, 0o700)?;
    sys::chmod(name, mode)
}

/// The whole content.
fn content(name: &str) -> Sys<Vec<u8>> {
    sys::read_all(&sys::open(name, libc::O_RDONLY, 0)?, 0, 1 << 20)
}

/// Type and permission bits.
fn mode(name: &str) -> Sys<u32> {
    Ok(sys::lstat(name)?.st_mode & 0o7777)
}

fn kind(name: &str) -> Sys<u32> {
    Ok(sys::lstat(name)?.st_mode & libc::S_IFMT)
}

fn owner(name: &str) -> Sys<(u32, u32)> {
    let stat = sys::lstat(name)?;
    Ok((stat.st_uid, stat.st_gid))
}

fn size(name: &str) -> Sys<i64> {
    Ok(sys::lstat(name)?.st_size)
}

fn links(name: &str) -> Sys<u64> {
    Ok(sys::lstat(name)?.st_nlink)
}

/// Modification and change time.
fn times_of(name: &str) -> Sys<[(i64, i64); 2]> {
    let stat = sys::lstat(name)?;
    Ok([
        (stat.st_mtime, stat.st_mtime_nsec),
        (stat.st_ctime, stat.st_ctime_nsec),
    ])
}

/// Does something and tells whether the modification and the change time of `name` moved. The
/// pause is longer than the tick with which a kernel stamps files.
fn moved<T>(name: &str, act: impl FnOnce() -> Sys<T>) -> Sys<[bool; 2]> {
    let before = times_of(name)?;
    std::thread::sleep(std::time::Duration::from_millis(12));
    act()?;
    let after = times_of(name)?;
    Ok([before[0] != after[0], before[1] != after[1]])
}

/// What [`moved`] says.
const BOTH: [bool; 2] = [true, true];
const CHANGE_ONLY: [bool; 2] = [false, true];
const NEITHER: [bool; 2] = [false, false];
