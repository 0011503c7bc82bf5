//! The map: is this covered, and if not, by which record will it be.

use super::checkpoint::Hot;
use super::file::File;
use super::folder::{Folder, Umbrella};
use super::grains::END;
use super::hash::Table;
use super::{Births, Cover, Limits, Record, Rules, Touch};
use crate::ids::{DirId, Key, Uid};

/// What may differ between the replicas, and what the journal has of it. Records are put aside
/// for the journal ([`Self::take_pending`]); it says when they are durable ([`Self::flushed`]).
pub struct Map {
    pub(super) limits: Limits,
    pub(super) rules: Rules,
    /// Of the identities given here.
    origin: u64,
    /// The next one.
    pub(super) next: u64,
    pub(super) generation: u32,
    /// What was touched before this generation is on both disks.
    pub(super) floor: u32,
    /// Own births: what number came next when a generation began.
    pub(super) numbers: Vec<(u32, u64)>,
    /// Own births that the journal has, from this number on.
    pub(super) kept_from: u64,
    pub(super) births_seq: u64,
    /// Births of earlier starts, with the generation in which they were learned.
    pub(super) earlier: Vec<(u32, Births)>,
    /// In which generation deep directories were read from a journal; 0: in none.
    pub(super) doubtful: u32,
    pub(super) everything: Umbrella,
    pub(super) everything_seq: u64,
    pub(super) files: Table<(DirId, Key), File>,
    pub(super) dirs: Table<(DirId, Key), Folder>,
    /// Sums over all of them.
    pub(super) names: usize,
    pub(super) chunks: usize,
    pub(super) deep: usize,
    /// Directories, how many of their files were marked in this generation, and the bytes of
    /// these files.
    pub(super) crowds: Table<(DirId, Key), (u32, u64)>,
    /// Names marked in this generation.
    pub(super) name_misses: u32,
    pub(super) pending: Vec<Record>,
    pub(super) seq: u64,
    flushed: u64,
    pub(super) hot: Hot,
}

impl Map {
    /// An empty map. `origin` is random and even, and not 0.
    pub fn new(origin: u64, limits: Limits, rules: Rules) -> Self {
        let mut map = Self {
            limits,
            rules,
            origin,
            next: 1,
            generation: 1,
            floor: 1,
            numbers: vec![(1, 1)],
            kept_from: 1,
            births_seq: 1,
            earlier: Vec::new(),
            doubtful: 0,
            everything: Umbrella::default(),
            everything_seq: 0,
            files: Table::default(),
            dirs: Table::default(),
            names: 0,
            chunks: 0,
            deep: 0,
            crowds: Table::default(),
            name_misses: 0,
            pending: Vec::new(),
            seq: 1,
            flushed: 0,
            hot: Hot::default(),
        };
        map.pending.extend(map.own_births());
        map
    }

    /// What the journal says of own births; they are covered by it from the beginning.
    pub(super) fn own_births(&self) -> Option<Record> {
        let births = Births {
            origin: self.origin,
            from: self.kept_from,
        };
        self.rules.births.then_some(Record::Births(births))
    }

    /// The identity of a file that is about to be made here.
    pub fn next_uid(&mut self) -> Uid {
        let uid = Uid {
            origin: self.origin,
            number: self.next,
        };
        self.next += 1;
        uid
    }

    /// Records that are to be made durable, and the number they reach up to.
    pub fn take_pending(&mut self) -> (Vec<Record>, u64) {
        (std::mem::take(&mut self.pending), self.seq)
    }

    /// All records up to this number are durable.
    pub fn flushed(&mut self, seq: u64) {
        self.flushed = self.flushed.max(seq);
    }

    pub(super) fn wait(&self, seq: u64) -> Cover {
        if seq <= self.flushed {
            Cover::Covered
        } else {
            Cover::Needs(seq)
        }
    }

    /// Puts a record aside and returns its number.
    pub(super) fn append(&mut self, record: Record) -> u64 {
        self.seq += 1;
        self.pending.push(record);
        self.seq
    }

    /// An operation is about to change this. It may be applied when it is covered.
    pub fn cover(&mut self, dir: DirId, touch: &Touch<'_>) -> Cover {
        let cover = match touch {
            Touch::Entry { dir: parent, name } => self.entry(dir, parent, name),
            Touch::Meta { file } => self.file(dir, file, None, true).unwrap_or(Cover::Covered),
            Touch::Whole { file, size } => {
                let cover = self.data(dir, file, (0, END, *size), true);
                cover.unwrap_or(Cover::Covered)
            }
            Touch::Data {
                file,
                offset,
                len,
                size,
            } => {
                let end = match *len {
                    u64::MAX => (*size).max(*offset),
                    len => offset.saturating_add(len),
                };
                let range = (*offset, end.min(END), *size);
                let cover = self.data(dir, file, range, true);
                cover.unwrap_or(Cover::Covered)
            }
        };
        self.bound();
        cover
    }

    pub(super) fn bound(&mut self) {
        let limits = &self.limits;
        if self.files.len() > limits.files
            || self.dirs.len() > limits.dirs
            || self.names > limits.names
            || self.chunks > limits.chunks
        {
            self.tighten();
        }
    }

    /// As [`Self::cover`] where place and size are not known yet: true if the touch is covered,
    /// false if the question has to be asked again with both.
    pub fn covered(&mut self, dir: DirId, touch: &Touch<'_>) -> bool {
        let cover = match touch {
            Touch::Data {
                file, offset, len, ..
            } if *len != u64::MAX => {
                let end = offset.saturating_add(*len).min(END);
                self.data(dir, file, (*offset, end, 0), false)
            }
            Touch::Data { .. } | Touch::Whole { .. } => None,
            Touch::Meta { file } => self.file(dir, file, None, false),
            Touch::Entry { .. } => return self.cover(dir, touch) == Cover::Covered,
        };
        self.bound();
        cover == Some(Cover::Covered)
    }

    /// Whether all of a file counts as touched in this generation because it was born in it.
    pub(super) fn is_born(&self, uid: Uid) -> bool {
        let from = self.numbers.last().map_or(1, |(_, number)| *number);
        uid.origin == self.origin && uid.number >= from
    }

    /// Whether the journal has it as born.
    pub(super) fn has_birth(&self, uid: Uid) -> bool {
        (uid.origin == self.origin && uid.number >= self.kept_from)
            || self.earlier.iter().any(|(_, births)| births.has(uid))
    }
}
