//! The operations of the random test, and their execution on one directory. The same code runs on
//! the subject and on the reference, so any difference of the outcomes is the subject's.

mod execute;
mod names;

pub use execute::{Side, VAGUE};

use crate::sys::Sys;
use crate::tree::show;
use std::fmt;

/// A path below the directory under test, or a value; printed as text, long ones cut.
#[derive(Clone, PartialEq, Eq)]
pub struct Bytes(pub Vec<u8>);

impl fmt::Debug for Bytes {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "\"{}\"", show(&self.0))
    }
}

impl AsRef<[u8]> for Bytes {
    fn as_ref(&self) -> &[u8] {
        &self.0
    }
}

/// Number of descriptors a run may hold open.
pub const SLOTS: usize = 6;

/// One operation. `slot` is an open descriptor, `fill` the start of the pattern that is written.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Op {
    Open {
        slot: usize,
        path: Bytes,
        flags: i32,
        mode: u32,
    },
    Close {
        slot: usize,
    },
    Write {
        slot: usize,
        len: usize,
        fill: u8,
    },
    Pwrite {
        slot: usize,
        at: u64,
        len: usize,
        fill: u8,
    },
    Writev {
        slot: usize,
        at: Option<u64>,
        lens: [usize; 3],
        fill: u8,
    },
    Read {
        slot: usize,
        len: usize,
    },
    Pread {
        slot: usize,
        at: u64,
        len: usize,
    },
    Seek {
        slot: usize,
        at: i64,
        whence: i32,
    },
    SeekData {
        slot: usize,
        at: u64,
        hole: bool,
    },
    KeepMap {
        slot: usize,
    },
    Store {
        slot: usize,
        at: u64,
        len: usize,
        fill: u8,
        sync: bool,
    },
    Load {
        slot: usize,
        at: u64,
        len: usize,
    },
    Ftruncate {
        slot: usize,
        len: i64,
    },
    Truncate {
        path: Bytes,
        len: i64,
    },
    Fallocate {
        slot: usize,
        mode: i32,
        at: i64,
        len: i64,
    },
    CopyRange {
        from: usize,
        at: u64,
        to: usize,
        to_at: u64,
        len: usize,
    },
    Fsync {
        slot: usize,
    },
    Fdatasync {
        slot: usize,
    },
    Syncfs {
        slot: usize,
    },
    Fstat {
        slot: usize,
    },
    Fchmod {
        slot: usize,
        mode: u32,
    },
    Fchown {
        slot: usize,
        uid: u32,
        gid: u32,
    },
    LinkOpen {
        slot: usize,
        path: Bytes,
    },
    Stat {
        path: Bytes,
    },
    Mkdir {
        path: Bytes,
        mode: u32,
    },
    Rmdir {
        path: Bytes,
    },
    Mknod {
        path: Bytes,
        mode: u32,
        device: u64,
    },
    Symlink {
        target: Bytes,
        path: Bytes,
    },
    Readlink {
        path: Bytes,
    },
    Link {
        from: Bytes,
        to: Bytes,
        follow: bool,
    },
    Unlink {
        path: Bytes,
    },
    Rename {
        from: Bytes,
        to: Bytes,
        flags: u32,
    },
    Chmod {
        path: Bytes,
        mode: u32,
    },
    Chown {
        path: Bytes,
        uid: u32,
        gid: u32,
        follow: bool,
    },
    Utimens {
        path: Bytes,
        seconds: i64,
        nanoseconds: i64,
    },
    SetXattr {
        path: Bytes,
        key: &'static str,
        value: Bytes,
        flags: i32,
    },
    GetXattr {
        path: Bytes,
        key: &'static str,
    },
    RemoveXattr {
        path: Bytes,
        key: &'static str,
    },
    ListXattr {
        path: Bytes,
    },
    Access {
        path: Bytes,
        mode: i32,
    },
    Readdir {
        path: Bytes,
    },
    Statfs {
        path: Bytes,
    },
}

/// What an operation answered besides an error.
#[derive(Clone, PartialEq, Eq)]
pub enum Value {
    Number(u64),
    Bytes(Vec<u8>),
    Text(String),
}

impl fmt::Debug for Value {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Number(number) => write!(f, "{number}"),
            Self::Bytes(bytes) => write!(f, "{} bytes {}", bytes.len(), show(bytes)),
            Self::Text(text) => f.write_str(text),
        }
    }
}

/// What is compared after each operation.
pub type Outcome = Sys<Value>;

fn done(_: ()) -> Outcome {
    Ok(Value::Number(0))
}

/// Bytes that tell where they belong: a block written to the wrong place is noticed.
pub fn pattern(len: usize, fill: u8) -> Vec<u8> {
    (0..len)
        .map(|at| fill.wrapping_add((at % 251) as u8) | 1)
        .collect()
}
