//! Generations, checkpoints, and what is said of the map at each.

use super::file::File;
use super::folder::Folder;
use super::{Births, FileMark, Generation, Level, Map, Marks, Pressure, Record};
use crate::ids::Key;

/// Beginnings of generations that are remembered; of others an earlier one is taken.
const NUMBERS: usize = 1024;

/// Bytes touched.
#[derive(Clone, Copy, Default)]
pub(super) struct Hot {
    /// In generations that ended since the last checkpoint began.
    pub(super) before: u64,
    /// In files not known one by one.
    pub(super) apart: u64,
    /// In others, and the grains they fell into: what differs is no more than either.
    pub(super) written: u64,
    pub(super) grains: u64,
}

impl Hot {
    pub(super) fn sum(self) -> u64 {
        let known = self.written.min(self.grains);
        self.before.saturating_add(self.apart).saturating_add(known)
    }
}

impl Map {
    /// From here on what is touched is of a new generation. No operation may be between its mark
    /// and its local end.
    pub fn begin_generation(&mut self) -> Generation {
        self.generation = self.generation.saturating_add(1);
        if self.numbers.len() >= NUMBERS {
            self.numbers.remove(1);
        }
        self.numbers.push((self.generation, self.next));
        self.crowds.clear();
        self.name_misses = 0;
        self.hot = Hot {
            before: self.hot.sum(),
            ..Hot::default()
        };
        Generation(self.generation)
    }

    pub fn generation(&self) -> Generation {
        Generation(self.generation)
    }

    /// Number of the next birth when a generation began; too low rather than too high.
    fn number_at(&self, generation: u32) -> u64 {
        let known = self.numbers.iter().rev().find(|(g, _)| *g <= generation);
        known.map_or(1, |(_, number)| *number)
    }

    /// A checkpoint that began with this generation is complete: what was touched before is on
    /// both disks. The journal must get a [`Self::snapshot`] before anything else is asked here.
    /// What the journal has and was of use lately stays `warm`, so that it need not be written
    /// again.
    pub fn drop_before(&mut self, generation: Generation, warm: bool) {
        let mut generation = generation.0.min(self.generation);
        let mut warm = match warm {
            true => generation.saturating_sub(1),
            false => u32::MAX,
        };
        if !self.rules.two_generations {
            generation = u32::MAX;
            warm = u32::MAX;
            self.hot = Hot::default();
        }
        if generation >= self.generation {
            self.hot.before = 0;
        }
        self.kept_from = match generation {
            u32::MAX => self.next,
            generation => self.number_at(generation),
        };
        self.floor = generation.min(self.generation);
        let floor = self.floor;
        self.numbers.retain(|(g, _)| *g >= floor);
        self.earlier.retain(|(g, _)| *g >= generation);
        if self.doubtful < generation {
            self.doubtful = 0;
        }
        if self.everything.used < generation {
            self.everything = Default::default();
        }
        let mut room = self.limits.warm;
        self.files
            .retain(|_, file| file.drop_before(generation, warm, &mut room));
        self.dirs
            .retain(|_, folder| folder.drop_before(generation, warm, &mut room));
        self.files.shrink_to(2 * self.files.len());
        self.dirs.shrink_to(2 * self.dirs.len());
        self.count();
    }

    pub(super) fn count(&mut self) {
        self.chunks = self.files.values().map(File::chunks).sum();
        self.names = self.dirs.values().map(Folder::names).sum();
        let is_deep = |f: &&Folder| f.deep.kept || f.deep.used != 0;
        self.deep = self.dirs.values().filter(is_deep).count();
    }

    /// All that the journal must hold from here on, instead of what it has, and the number with
    /// which it is durable. Records put aside before are in it.
    pub fn snapshot(&mut self) -> (Vec<Record>, u64) {
        self.seq += 1;
        let at = (self.floor, self.seq);
        let mut records: Vec<_> = self.own_births().into_iter().collect();
        self.births_seq = self.seq;
        let earlier = self.earlier.iter().map(|(_, births)| *births);
        records.extend(earlier.map(Record::Births));
        let everything = self.everything.kept || self.everything.used >= self.floor;
        self.everything.kept = everything;
        if everything {
            self.everything_seq = self.seq;
            records.push(Record::Everything);
        }
        let mut dirs = std::mem::take(&mut self.dirs);
        dirs.retain(|id, folder| {
            let covered = (everything, self.has_birth(folder.uid));
            folder.snapshot(*id, covered, at, &mut records);
            folder.is_of_use(at.0)
        });
        self.dirs = dirs;
        let mut files = std::mem::take(&mut self.files);
        files.retain(|id, file| {
            let deep = |parent: Key| {
                let folder = self.dirs.get(&(id.0, parent));
                folder.is_some_and(|f| f.deep.kept)
            };
            let deep = self.deep > 0 && file.parent().is_some_and(deep);
            let covered = everything || deep || self.has_birth(file.uid);
            let record = file.snapshot(*id, covered, at);
            let stays = record.is_some() || file.used_since(at.0);
            records.extend(record);
            stays
        });
        self.files = files;
        self.count();
        self.pending.clear();
        (records, self.seq)
    }

    /// All that may differ.
    pub fn marks(&self) -> Marks {
        self.marks_since(Generation(self.floor))
    }

    /// What was touched in this generation or after.
    pub fn marks_since(&self, generation: Generation) -> Marks {
        let since = generation.0.max(self.floor);
        let mut births = Vec::new();
        let from = self.number_at(since);
        if let Some(Record::Births(own)) = self.own_births().filter(|_| from < self.next) {
            births.push(Births { from, ..own });
        }
        let earlier = self.earlier.iter().filter(|(g, _)| *g >= since);
        births.extend(earlier.map(|(_, births)| *births));
        let files = self.files.iter().filter(|(_, f)| f.used_since(since));
        let mut files: Vec<_> = files
            .map(|((dir, key), file)| FileMark {
                dir: *dir,
                key: *key,
                uid: file.uid,
                place: file.place.clone(),
                ranges: file.ranges_since(since),
            })
            .collect();
        let dirs = self.dirs.iter().filter(|(_, f)| f.used_since(since));
        let mut dirs: Vec<_> = dirs.map(|(id, folder)| folder.mark(*id, since)).collect();
        files.sort_unstable_by_key(|mark| (mark.dir, mark.key));
        dirs.sort_unstable_by_key(|mark| (mark.dir, mark.key));
        Marks {
            everything: self.everything.used >= since,
            doubtful: self.doubtful >= since,
            births,
            files,
            dirs,
        }
    }

    /// Nothing is marked, and nothing would be after a crash.
    pub fn is_empty(&self) -> bool {
        let everything = self.everything.kept || self.everything.used >= self.floor;
        let born = self.next > self.kept_from || !self.earlier.is_empty();
        self.files.is_empty() && self.dirs.is_empty() && !everything && !born
    }

    /// Files and directories that are marked, and whether everything is.
    pub fn counts(&self) -> (usize, usize, bool) {
        let everything = self.everything.kept || self.everything.used >= self.floor;
        (self.files.len(), self.dirs.len(), everything)
    }

    /// Bytes written since the last checkpoint, as [`Self::pressure`] says.
    pub fn hot(&self) -> u64 {
        self.hot.sum()
    }

    pub fn pressure(&self) -> Pressure {
        let hot = self.hot.sum();
        let level = match hot {
            _ if self.is_empty() => Level::Quiet,
            hot if hot >= self.limits.hot => Level::Full,
            hot if hot >= self.limits.hot / 2 => Level::Due,
            _ => Level::Marked,
        };
        Pressure {
            level,
            hot,
            limit: self.limits.hot,
            marks: self.files.len() + self.dirs.len(),
        }
    }
}
