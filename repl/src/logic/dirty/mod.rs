//! The dirty map: what may differ between the two replicas.
//!
//! One structure for two purposes. While the peer is in the set it holds the *hot* marks: what was
//! touched since the last checkpoint both nodes confirmed, so that a crash of either or both costs
//! comparing just that. While the peer is away nothing is dropped, and the same marks are the
//! per-file modification bitmap from which the resync works.
//!
//! The rule (I6): a mark is durable before the operation it covers is applied or shipped; it is
//! dropped only by a checkpoint that began after every operation it covers had completed on both
//! nodes, and after both had flushed.
//!
//! This file holds the words both sides of the map use: [`Touch`] (an operation is about to change
//! this) and [`Marks`] (this may differ). [`Map`] knows two things of everything it holds, apart:
//!
//! * *used*: the generation in which it was touched last. Exact, in memory only; of it marks are
//!   made for a resync, and by it a checkpoint decides what is dropped.
//! * *kept*: a record in the journal covers it, so that touching it again costs nothing. May be
//!   wider than what was touched: whole grains, whole directories, everything born.
//!
//! After a crash only what was kept is known, and all of it counts as touched.

mod bounds;
mod checkpoint;
mod cover;
mod file;
mod folder;
mod grains;
mod hash;
mod map;
mod record;
mod replay;
#[cfg(test)]
mod tests;
#[cfg(test)]
mod world;

pub use map::Map;
pub use record::Record;

use crate::ids::{DirId, Key, Uid};
use serde::{Deserialize, Serialize};

/// A directory whose entries change.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct DirRef {
    pub key: Key,
    pub uid: Uid,
}

/// A file whose content or attributes change, and one place where it has a name.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct FileRef<'a> {
    pub key: Key,
    pub uid: Uid,
    /// Directory and name; `None` only where the kernel cannot tell either.
    pub place: Option<(Key, &'a [u8])>,
}

/// What an operation is about to change.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Touch<'a> {
    /// `len` bytes from `offset`; `u64::MAX` reaches to the end, wherever that is.
    Data {
        file: FileRef<'a>,
        offset: u64,
        len: u64,
        /// Size of the file before the operation, bytes: decides how fine it is marked.
        size: u64,
    },
    /// All that the file holds, and all that was ever beyond its end: it leaves what stood for its
    /// own marks, and where it was cut before is not known.
    Whole { file: FileRef<'a>, size: u64 },
    /// Mode, owner, times, extended attributes, inode flags, size.
    Meta { file: FileRef<'a> },
    /// The entry `name` appears, goes or leads elsewhere.
    Entry { dir: DirRef, name: &'a [u8] },
}

/// What was born in an origin from a number on may differ wholly, without a mark of its own:
/// content
/// and attributes, and of a directory any entry (and so all below it that is found through it).
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Births {
    pub origin: u64,
    pub from: u64,
}

impl Births {
    pub fn has(&self, uid: Uid) -> bool {
        uid.origin == self.origin && uid.number >= self.from
    }
}

/// Marks of one file.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct FileMark {
    pub dir: DirId,
    pub key: Key,
    pub uid: Uid,
    pub place: Option<(Key, Box<[u8]>)>,
    /// Offset and length, sorted, not overlapping. Empty: only attributes may differ.
    pub ranges: Vec<(u64, u64)>,
}

/// Marks of one directory's entries.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct DirMark {
    pub dir: DirId,
    pub key: Key,
    pub uid: Uid,
    pub names: Vec<Box<[u8]>>,
    /// Any entry may differ.
    pub all: bool,
    /// Any entry, and the content of any file directly in it, may differ.
    pub deep: bool,
}

/// What may differ, for one pass of a resync.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Marks {
    /// Too much was marked, or nothing is known: all must be compared.
    pub everything: bool,
    /// Marks of whole directories were read from a journal. A file may have come into such a
    /// directory, and be back where it was before since the power was lost: the content of all
    /// files at marked names, and of all that are marked, may differ.
    pub doubtful: bool,
    pub births: Vec<Births>,
    pub files: Vec<FileMark>,
    pub dirs: Vec<DirMark>,
}

/// Counts up; begins with 1. Everything touched carries the one of its last use.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Generation(pub u32);

/// Whether an operation may be applied.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Cover {
    /// A durable mark covers it.
    Covered,
    /// When everything up to this number is durable ([`Map::flushed`]).
    Needs(u64),
}

/// Bounds of a map.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Limits {
    /// Bytes that may be touched between two checkpoints.
    pub hot: u64,
    /// Bytes whose marks are kept for use again though nothing differs there.
    pub warm: u64,
    /// Files, directories, names and chunks of 16 grains known one by one.
    pub files: usize,
    pub dirs: usize,
    pub names: usize,
    pub chunks: usize,
    /// Names of one directory that are marked one by one.
    pub names_each: u32,
    /// Files of one directory that are marked one by one, and how many if they are small.
    pub files_each: u32,
    pub small_files_each: u32,
}

impl Limits {
    /// The product's. What a map with these may take is measured by the test `dirty_memory`.
    pub fn new(hot: u64) -> Self {
        Self {
            hot,
            warm: hot.saturating_mul(32),
            files: 64 << 10,
            dirs: 64 << 10,
            names: 128 << 10,
            chunks: 160 << 10,
            names_each: 16,
            files_each: 1024,
            small_files_each: 32,
        }
    }
}

/// Rules the simulator turns off one by one, to see that it would notice.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Rules {
    /// A checkpoint drops only what was not touched since it began.
    pub two_generations: bool,
    /// What was born since the last checkpoint is known from the journal.
    pub births: bool,
}

impl Default for Rules {
    fn default() -> Self {
        Self {
            two_generations: true,
            births: true,
        }
    }
}

/// How much a checkpoint is wanted.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Level {
    /// Nothing is marked, and nothing would be after a crash.
    Quiet,
    /// One every few seconds.
    Marked,
    /// One now: half of what may be touched was.
    Due,
    /// The limit is reached: what writes should wait for it.
    Full,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Pressure {
    pub level: Level,
    /// Bytes touched since the last checkpoint that is complete began; never too low.
    pub hot: u64,
    pub limit: u64,
    /// Files and directories that are marked.
    pub marks: usize,
}
