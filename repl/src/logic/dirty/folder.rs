//! Marks of one directory: its entries, one by one or all, and all of the files in it.

use super::hash::Table;
use super::{DirMark, Record};
use crate::ids::{DirId, Key, Uid};

#[derive(Clone, Copy, Default)]
struct Name {
    used: u32,
    kept: bool,
}

/// A mark that stands for many.
#[derive(Clone, Copy, Default)]
pub(super) struct Umbrella {
    /// Generation in which it took the place of what was touched; 0: in none.
    pub(super) used: u32,
    /// Generation in which it was of use last.
    last: u32,
    pub(super) kept: bool,
}

impl Umbrella {
    /// Everything below it may have been touched in this generation.
    pub(super) fn use_now(&mut self, generation: u32) {
        self.used = generation;
        self.last = generation;
    }

    pub(super) fn of_use(&mut self, generation: u32) {
        self.last = generation;
    }

    fn drop_before(&mut self, generation: u32, warm: u32) {
        let last = self.last.max(self.used);
        if self.used < generation {
            self.used = 0;
            self.kept &= last >= warm;
        }
    }

    fn snapshot(&mut self, floor: u32, covered: bool) -> bool {
        self.kept = !covered && (self.kept || self.used >= floor);
        self.kept
    }
}

pub(super) struct Folder {
    pub(super) uid: Uid,
    names: Table<Box<[u8]>, Name>,
    /// Names in the journal.
    kept: u32,
    /// Any entry.
    pub(super) all: Umbrella,
    /// Any entry, and all of any file directly in it.
    pub(super) deep: Umbrella,
    /// The journal's number of the last record about this directory.
    pub(super) seq: u64,
}

impl Folder {
    pub(super) fn new(uid: Uid) -> Self {
        Self {
            uid,
            names: Table::default(),
            kept: 0,
            all: Umbrella::default(),
            deep: Umbrella::default(),
            seq: 0,
        }
    }

    pub(super) fn names(&self) -> usize {
        self.names.len()
    }

    pub(super) fn kept_names(&self) -> u32 {
        self.kept
    }

    /// An entry is about to change. True if the journal has it; the number is [`Self::seq`].
    pub(super) fn touch(&mut self, generation: u32, name: &[u8]) -> bool {
        self.all.of_use(generation);
        if self.deep.kept {
            self.deep.of_use(generation);
        }
        let whole = self.all.kept || self.deep.kept;
        if self.all.used == generation || self.deep.used == generation {
            // No need to know which.
            return whole;
        }
        if let Some(known) = self.names.get_mut(name) {
            known.used = generation;
            return known.kept || whole;
        }
        let new = Name {
            used: generation,
            kept: false,
        };
        self.names.insert(name.into(), new);
        whole
    }

    /// The journal gets a name that was touched. False if it is not known which were.
    pub(super) fn keep(&mut self, name: &[u8]) -> bool {
        let Some(known) = self.names.get_mut(name) else {
            return false;
        };
        known.kept = true;
        self.kept += 1;
        true
    }

    /// Which names were touched is not known any more.
    pub(super) fn collapse(&mut self, generation: u32) {
        self.names = Table::default();
        self.kept = 0;
        self.all.use_now(generation);
    }

    pub(super) fn used_since(&self, generation: u32) -> bool {
        self.all.used >= generation
            || self.deep.used >= generation
            || self.names.values().any(|n| n.used >= generation)
    }

    /// Forgets what was last touched before `generation`. Of what the journal has, names and
    /// umbrellas of use in the generation `warm` or after stay. False if nothing is left.
    pub(super) fn drop_before(&mut self, generation: u32, warm: u32, room: &mut u64) -> bool {
        self.names.retain(|_, name| {
            if name.used >= generation {
                return true;
            }
            let stays = name.kept && name.used >= warm && *room >= NAME;
            *room -= if stays { NAME } else { 0 };
            stays
        });
        self.names.shrink_to(2 * self.names.len());
        self.kept = self.names.values().filter(|n| n.kept).count() as u32;
        self.all.drop_before(generation, warm);
        self.deep.drop_before(generation, warm);
        let umbrellas = [self.all, self.deep];
        !self.names.is_empty() || umbrellas.iter().any(|u| u.kept || u.used >= generation)
    }

    /// As of [`super::file::File::snapshot`]. Everything covers all of a directory; that it was
    /// born covers its entries.
    pub(super) fn snapshot(
        &mut self,
        (dir, key): (DirId, Key),
        (everything, born): (bool, bool),
        (floor, seq): (u32, u64),
        records: &mut Vec<Record>,
    ) {
        let uid = self.uid;
        self.seq = seq;
        let deep = self.deep.snapshot(floor, everything);
        let all = self.all.snapshot(floor, everything || born || deep);
        if deep || all {
            records.push(Record::Folder {
                dir,
                key,
                uid,
                deep,
            });
        }
        let covered = everything || born || deep || all;
        self.kept = 0;
        let mut names = Vec::new();
        for (name, known) in &mut self.names {
            known.kept = !covered && (known.kept || known.used >= floor);
            if known.kept {
                self.kept += 1;
                names.push(name.clone());
            }
        }
        if !names.is_empty() {
            names.sort_unstable();
            records.push(Record::Names {
                dir,
                key,
                uid,
                names,
            });
        }
    }

    /// Whether there is anything to know about it.
    pub(super) fn is_of_use(&self, floor: u32) -> bool {
        self.all.kept || self.deep.kept || self.kept > 0 || self.used_since(floor)
    }

    /// What was touched in this generation or after.
    pub(super) fn mark(&self, (dir, key): (DirId, Key), generation: u32) -> DirMark {
        let names = self.names.iter().filter(|(_, n)| n.used >= generation);
        let mut names: Vec<_> = names.map(|(name, _)| name.clone()).collect();
        names.sort_unstable();
        let deep = self.deep.used >= generation;
        DirMark {
            dir,
            key,
            uid: self.uid,
            names,
            all: deep || self.all.used >= generation,
            deep,
        }
    }
}

/// What keeping the mark of a name counts as, bytes.
const NAME: u64 = 4096;
