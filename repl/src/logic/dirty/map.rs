//! The map: is this covered, and if not, by which record will it be.

use super::checkpoint::Hot;
use super::file::{File, Touched};
use super::folder::{Folder, Umbrella};
use super::grains::END;
use super::hash::Table;
use super::{Births, Cover, DirRef, FileRef, Limits, Record, Rules, Touch};
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
    pub(super) everything: Umbrella,
    pub(super) everything_seq: u64,
    pub(super) files: Table<(DirId, Key), File>,
    pub(super) dirs: Table<(DirId, Key), Folder>,
    /// Sums over all of them.
    pub(super) names: usize,
    pub(super) chunks: usize,
    pub(super) deep: usize,
    /// Directories and how many of their files were marked in this generation.
    pub(super) crowds: Table<(DirId, Key), u32>,
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

    fn bound(&mut self) {
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
            Touch::Data { .. } => None,
            Touch::Meta { file } => self.file(dir, file, None, false),
            Touch::Entry { .. } => return self.cover(dir, touch) == Cover::Covered,
        };
        self.bound();
        cover == Some(Cover::Covered)
    }

    fn data(
        &mut self,
        dir: DirId,
        file: &FileRef<'_>,
        range: (u64, u64, u64),
        whole: bool,
    ) -> Option<Cover> {
        let (offset, end, _) = range;
        self.file(dir, file, (end > offset).then_some(range), whole)
    }

    /// Whether all of a file counts as touched in this generation because it was born in it.
    fn is_born(&self, uid: Uid) -> bool {
        let from = self.numbers.last().map_or(1, |(_, number)| *number);
        uid.origin == self.origin && uid.number >= from
    }

    /// Whether the journal has it as born.
    pub(super) fn has_birth(&self, uid: Uid) -> bool {
        (uid.origin == self.origin && uid.number >= self.kept_from)
            || self.earlier.iter().any(|(_, births)| births.has(uid))
    }

    fn entry(&mut self, dir: DirId, parent: &DirRef, name: &[u8]) -> Cover {
        let generation = self.generation;
        if self.is_born(parent.uid) {
            return self.wait(self.births_seq);
        }
        if self.everything.used == generation {
            return self.wait(self.everything_seq);
        }
        let born = self.has_birth(parent.uid);
        let folder = self.dirs.entry((dir, parent.key));
        let folder = folder.or_insert_with(|| Folder::new(parent.uid));
        folder.uid = parent.uid;
        let before = folder.names();
        let kept = folder.touch(generation, name);
        self.names += folder.names() - before;
        if born {
            return self.wait(self.births_seq);
        }
        if self.everything.kept {
            self.everything.of_use(generation);
            return self.wait(self.everything_seq);
        }
        let seq = folder.seq;
        if kept {
            return self.wait(seq);
        }
        // One after the other for a few; where many change, whole directories.
        self.name_misses += 1;
        self.seq += 1;
        folder.seq = self.seq;
        let (key, uid) = (parent.key, parent.uid);
        let each = (self.limits.names_each >> (self.name_misses / 64).min(31)).max(1);
        let record = if folder.kept_names() < each && folder.keep(name) {
            let names = vec![name.into()];
            Record::Names {
                dir,
                key,
                uid,
                names,
            }
        } else {
            folder.all.kept = true;
            let deep = false;
            Record::Folder {
                dir,
                key,
                uid,
                deep,
            }
        };
        self.pending.push(record);
        Cover::Needs(self.seq)
    }

    /// As [`Self::cover`] for any entry of a directory.
    pub fn cover_entries(&mut self, dir: DirId, parent: &DirRef) -> Cover {
        let folder = self.dirs.entry((dir, parent.key));
        let folder = folder.or_insert_with(|| Folder::new(parent.uid));
        self.names -= folder.names();
        folder.collapse(self.generation);
        folder.all.kept = true;
        self.seq += 1;
        folder.seq = self.seq;
        self.pending.push(Record::Folder {
            dir,
            key: parent.key,
            uid: parent.uid,
            deep: false,
        });
        self.bound();
        Cover::Needs(self.seq)
    }

    /// A file's attributes or a range of its data (offset, end, size of the file). `whole`: what
    /// the caller says of place and size is true; else the answer may be that it is needed.
    fn file(
        &mut self,
        dir: DirId,
        file: &FileRef<'_>,
        range: Option<(u64, u64, u64)>,
        whole: bool,
    ) -> Option<Cover> {
        let generation = self.generation;
        let len = range.map_or(0, |(offset, end, _)| end - offset);
        if self.is_born(file.uid) || self.everything.used == generation {
            self.hot.apart = self.hot.apart.saturating_add(len);
            let seq = if self.is_born(file.uid) {
                self.births_seq
            } else {
                self.everything_seq
            };
            return Some(self.wait(seq));
        }
        let id = (dir, file.key);
        let mut umbrella = None;
        if self.deep > 0 {
            let known = || self.files.get(&id)?.parent();
            let parent = file.place.map(|p| p.0).or_else(known);
            if parent.is_none() && !whole {
                return None;
            }
            let folder = parent.and_then(|key| self.dirs.get_mut(&(dir, key)));
            if let Some(folder) = folder.filter(|f| f.deep.kept) {
                folder.deep.of_use(generation);
                if folder.deep.used == generation {
                    self.hot.apart = self.hot.apart.saturating_add(len);
                    let seq = folder.seq;
                    return Some(self.wait(seq));
                }
                umbrella = Some(folder.seq);
            }
        }
        if self.has_birth(file.uid) {
            umbrella = Some(self.births_seq);
        } else if self.everything.kept {
            self.everything.of_use(generation);
            umbrella = Some(self.everything_seq);
        }
        let touched = self.touch(id, file, range, whole)?;
        if let Some(seq) = umbrella.or((!touched.missing).then_some(touched.seq)) {
            self.hot.written = self.hot.written.saturating_add(len);
            return Some(self.wait(seq));
        }
        if !whole {
            return None;
        }
        self.hot.written = self.hot.written.saturating_add(len);
        Some(Cover::Needs(self.mark(id, file, range)))
    }

    /// Notes the use. Nothing if the file is not known and its place not said.
    fn touch(
        &mut self,
        id: (DirId, Key),
        file: &FileRef<'_>,
        range: Option<(u64, u64, u64)>,
        whole: bool,
    ) -> Option<Touched> {
        let known = self.files.get_mut(&id);
        let placed = |f: &File| f.parent().is_some() || f.uid == Uid::ROOT;
        let known = match known {
            Some(known) if whole || placed(known) => known,
            _ if !whole => return None,
            _ => {
                let extent = range.map_or(0, |(_, end, size)| end.max(size));
                let new = File::new(file.uid, extent);
                self.files.entry(id).or_insert(new)
            }
        };
        if whole {
            known.set_place(file.place);
            if file.uid != Uid::NONE {
                known.uid = file.uid;
            }
        }
        let Some((offset, end, _)) = range else {
            return Some(known.touch_meta(self.generation));
        };
        let before = known.chunks();
        let touched = known.touch(self.generation, offset, end);
        self.chunks = self.chunks + known.chunks() - before;
        self.hot.grains = self.hot.grains.saturating_add(touched.fresh);
        Some(touched)
    }

    /// Makes a mark and returns its number.
    fn mark(
        &mut self,
        id: (DirId, Key),
        file: &FileRef<'_>,
        range: Option<(u64, u64, u64)>,
    ) -> u64 {
        self.seq += 1;
        let seq = self.seq;
        let Some(known) = self.files.get_mut(&id) else {
            return seq;
        };
        let before = known.chunks();
        let ranges = match range {
            Some(range) => vec![known.mark(range, seq)],
            None => {
                known.keep_meta(seq);
                Vec::new()
            }
        };
        self.chunks = self.chunks + known.chunks() - before;
        self.pending.push(Record::File {
            dir: id.0,
            key: id.1,
            uid: file.uid,
            place: known.place.clone(),
            ranges,
        });
        if let Some((parent, _)) = file.place {
            let crowd = self.crowds.entry((id.0, parent)).or_insert(0);
            *crowd += 1;
            if *crowd > self.limits.files_each {
                *crowd = 0;
                self.deepen((id.0, parent), false);
            }
        }
        seq
    }
}
