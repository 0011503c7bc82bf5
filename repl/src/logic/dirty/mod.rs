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
//! this) and [`Marks`] (this may differ).

use crate::ids::{DirId, Key, Uid};

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
    /// Mode, owner, times, extended attributes, inode flags, size.
    Meta { file: FileRef<'a> },
    /// The entry `name` appears, goes or leads elsewhere.
    Entry { dir: DirRef, name: &'a [u8] },
}

/// Files born in an origin from a number on may differ wholly: no mark of their own is needed.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Births {
    pub origin: u64,
    pub from: u64,
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
    pub births: Vec<Births>,
    pub files: Vec<FileMark>,
    pub dirs: Vec<DirMark>,
}
