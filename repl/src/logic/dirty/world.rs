//! For the tests: a tree that changes, its map, and a disk for the journal.

use super::*;
use std::collections::BTreeMap;

pub(super) const DIR: DirId = DirId(0);

/// SplitMix64: the same sequence for the same seed.
pub(super) struct Rng(pub(super) u64);

impl Rng {
    pub(super) fn below(&mut self, n: u64) -> u64 {
        self.0 = self.0.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let mut z = self.0;
        z = (z ^ (z >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        z = (z ^ (z >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        (z ^ (z >> 31)) % n
    }
}

pub(super) fn key(n: u64) -> Key {
    Key::new(&n.to_le_bytes()).unwrap()
}

pub(super) fn small() -> Limits {
    Limits {
        hot: 1 << 30,
        warm: 1 << 24,
        files: 24,
        dirs: 12,
        names: 40,
        chunks: 200,
        names_each: 4,
        files_each: 6,
        small_files_each: 4,
    }
}

pub(super) fn large() -> Limits {
    Limits::new(1 << 30)
}

/// A file or directory of the model.
#[derive(Clone, Copy)]
struct Thing {
    uid: Uid,
    /// Directory and name.
    place: (u64, u64),
    size: u64,
}

#[derive(Clone, Debug)]
enum Change {
    Data(u64, u64, u64),
    Meta(u64),
    Entry(u64, u64),
}

/// A tree, its map, and a disk for the journal.
pub(super) struct World {
    pub(super) rng: Rng,
    pub(super) map: Map,
    rules: Rules,
    limits: Limits,
    pub(super) disk: Vec<Record>,
    files: BTreeMap<u64, Thing>,
    dirs: BTreeMap<u64, Uid>,
    next: u64,
    origin: u64,
    /// What was applied, with its generation.
    applied: Vec<(u32, Change)>,
    /// Not applied before the number is durable.
    waiting: Vec<(u64, u32, Change)>,
}

pub(super) fn name(n: u64) -> [u8; 8] {
    n.to_le_bytes()
}

impl World {
    pub(super) fn new(seed: u64, limits: Limits, rules: Rules) -> Self {
        let mut world = Self {
            rng: Rng(seed),
            map: Map::new(2, limits, rules),
            rules,
            limits,
            disk: Vec::new(),
            files: BTreeMap::new(),
            dirs: BTreeMap::from([(0, Uid::ROOT)]),
            next: 1,
            origin: 2,
            applied: Vec::new(),
            waiting: Vec::new(),
        };
        for _ in 0..4 {
            let n = world.fresh();
            world.dirs.insert(n, Uid::NONE);
        }
        for _ in 0..12 {
            let n = world.fresh();
            let place = (world.any_dir(), n);
            let size = world.rng.below(1 << 32);
            let uid = Uid::NONE;
            world.files.insert(n, Thing { uid, place, size });
        }
        world.flush();
        world
    }

    fn fresh(&mut self) -> u64 {
        self.next += 1;
        self.next
    }

    fn any_dir(&mut self) -> u64 {
        let at = self.rng.below(self.dirs.len() as u64);
        *self.dirs.keys().nth(at as usize).unwrap()
    }

    fn any_file(&mut self) -> Option<u64> {
        let at = self.rng.below(self.files.len().max(1) as u64);
        self.files.keys().nth(at as usize).copied()
    }

    pub(super) fn flush(&mut self) {
        let (records, seq) = self.map.take_pending();
        self.disk.extend(records);
        self.map.flushed(seq);
        let done = |(needs, generation, change): (u64, u32, Change)| {
            assert!(needs <= seq, "all that is needed is in the journal");
            (generation, change)
        };
        self.applied.extend(self.waiting.drain(..).map(done));
    }

    fn cover(&mut self, change: Change, at: Option<(u64, u64)>) {
        let generation = self.map.generation().0;
        let cover = {
            let n = match change {
                Change::Data(n, ..) | Change::Meta(n) | Change::Entry(n, _) => n,
            };
            let thing = self.files.get(&n).copied();
            let place = at.or(thing.map(|t| t.place));
            let bytes = place.map(|(_, n)| name(n)).unwrap_or_default();
            let place = place.map(|(parent, _)| (key(parent), &bytes[..]));
            let uid = thing.map_or(Uid::ROOT, |t| t.uid);
            let file = |place| FileRef {
                key: key(n),
                uid,
                place,
            };
            let entry = match change {
                Change::Entry(_, entry) => name(entry),
                _ => name(0),
            };
            let touch = |place, size| match change {
                Change::Data(_, offset, len) => Touch::Data {
                    file: file(place),
                    offset,
                    len,
                    size,
                },
                Change::Meta(_) => Touch::Meta { file: file(place) },
                Change::Entry(..) => Touch::Entry {
                    dir: DirRef {
                        key: key(n),
                        uid: self.dirs[&n],
                    },
                    name: &entry,
                },
            };
            let quick = at.is_none() && self.rng.below(2) == 0;
            if quick && self.map.covered(DIR, &touch(None, 0)) {
                Cover::Covered
            } else {
                self.map
                    .cover(DIR, &touch(place, thing.map_or(0, |t| t.size)))
            }
        };
        // To the end is to where it is now.
        let change = match change {
            Change::Data(n, offset, u64::MAX) => {
                let size = self.files.get(&n).map_or(0, |f| f.size);
                Change::Data(n, offset, size.saturating_sub(offset))
            }
            change => change,
        };
        match cover {
            Cover::Covered => self.applied.push((generation, change)),
            Cover::Needs(seq) => self.waiting.push((seq, generation, change)),
        }
        if self.rng.below(3) > 0 {
            self.flush();
        }
    }

    pub(super) fn step(&mut self) {
        match self.rng.below(16) {
            0..5 => {
                let Some(n) = self.any_file() else { return };
                let offset = self.rng.below(self.files[&n].size + (1 << 20));
                let len = match self.rng.below(10) {
                    0 => u64::MAX,
                    1 => self.rng.below(1 << 30),
                    _ => self.rng.below(1 << 18),
                };
                self.cover(Change::Data(n, offset, len), None);
                let file = self.files.get_mut(&n).unwrap();
                if len != u64::MAX {
                    file.size = file.size.max(offset + len);
                }
            }
            5..7 => {
                if let Some(n) = self.any_file() {
                    self.cover(Change::Meta(n), None);
                }
            }
            7..10 => {
                let (dir, n) = (self.any_dir(), self.fresh());
                let uid = self.map.next_uid();
                self.cover(Change::Entry(dir, n), None);
                if self.rng.below(4) == 0 {
                    self.dirs.insert(n, uid);
                } else {
                    let place = (dir, n);
                    let size = 0;
                    self.files.insert(n, Thing { uid, place, size });
                }
            }
            10..13 => {
                let Some(n) = self.any_file() else { return };
                let (from, to) = (self.files[&n].place, (self.any_dir(), self.fresh()));
                self.cover(Change::Entry(from.0, from.1), None);
                self.cover(Change::Entry(to.0, to.1), None);
                if self.map.is_deep(DIR, key(from.0)) {
                    self.cover(Change::Data(n, 0, u64::MAX), Some(to));
                }
                self.flush();
                self.files.get_mut(&n).unwrap().place = to;
                self.map.moved(DIR, key(n), Some((key(to.0), &name(to.1))));
            }
            13 => {
                let Some(n) = self.any_file().filter(|_| self.files.len() > 20) else {
                    return;
                };
                let place = self.files[&n].place;
                self.cover(Change::Entry(place.0, place.1), None);
                self.flush();
                self.files.remove(&n);
            }
            14 => {
                self.flush();
                self.map.begin_generation();
            }
            _ => self.checkpoint(),
        }
    }

    fn checkpoint(&mut self) {
        self.flush();
        let generation = self.map.begin_generation();
        for _ in 0..self.rng.below(8) {
            if self.rng.below(16) < 13 {
                let before = self.map.generation();
                self.step_without_checkpoint();
                assert_eq!(before, self.map.generation());
            }
        }
        self.flush();
        self.map.drop_before(generation, true);
        self.rewrite();
        self.applied.retain(|(g, _)| *g >= generation.0);
    }

    fn step_without_checkpoint(&mut self) {
        let (dir, n) = (self.any_dir(), self.fresh());
        self.cover(Change::Entry(dir, n), None);
        if let Some(n) = self.any_file() {
            let offset = self.rng.below(1 << 32);
            self.cover(Change::Data(n, offset, 4096), None);
            let file = self.files.get_mut(&n).unwrap();
            file.size = file.size.max(offset + 4096);
        }
    }

    pub(super) fn rewrite(&mut self) {
        let (records, seq) = self.map.snapshot();
        self.disk = records;
        self.map.flushed(seq);
    }

    /// What is missing in the marks after it, if anything.
    pub(super) fn crash(&mut self) -> Option<String> {
        self.waiting.clear();
        self.origin += 2;
        let mut map = Map::new(self.origin, self.limits, self.rules);
        map.replay(&self.disk);
        // All of it is of the first generation now.
        self.applied.iter_mut().for_each(|(g, _)| *g = 1);
        self.map = map;
        let missing = self.missing();
        let files = &self.files;
        self.map.settle(|_, found, _| {
            let (_, file) = files.iter().find(|(n, _)| key(**n) == found)?;
            Some((key(file.place.0), name(file.place.1).into()))
        });
        self.rewrite();
        missing.or_else(|| self.missing())
    }

    /// What was applied in some generation or after and is not in the marks since then.
    pub(super) fn missing(&mut self) -> Option<String> {
        let now = u64::from(self.map.generation().0);
        let since = Generation(self.rng.below(now + 1) as u32);
        let marks = self.map.marks_since(since);
        let lost = self.applied.iter().filter(|(g, _)| *g >= since.0);
        let lost = lost.filter(|(_, change)| !self.contains(&marks, change));
        lost.map(|(g, change)| format!("{change:?} of {g} since {since:?}"))
            .next()
    }

    fn contains(&self, marks: &Marks, change: &Change) -> bool {
        let born = |uid: Uid| marks.births.iter().any(|b| b.has(uid));
        let all = |n: u64, deep: bool| {
            let mut dirs = marks.dirs.iter().filter(|d| d.key == key(n));
            dirs.any(|d| if deep { d.deep } else { d.all })
        };
        let file = |n: u64, range: Option<(u64, u64)>| {
            // Of a file that is gone nothing need be known.
            let Some(thing) = self.files.get(&n) else {
                return true;
            };
            let mark = marks.files.iter().find(|f| f.key == key(n));
            let has = mark.is_some_and(|mark| {
                let Some((offset, end)) = range else {
                    return true;
                };
                let mut at = offset;
                for (from, len) in &mark.ranges {
                    if *from <= at && at < from + len {
                        at = from + len;
                    }
                }
                at >= end
            });
            has || born(thing.uid) || all(thing.place.0, true)
        };
        marks.everything
            || match *change {
                Change::Meta(n) => file(n, None),
                Change::Data(n, _, 0) => file(n, None),
                Change::Data(n, offset, len) => file(n, Some((offset, offset + len))),
                Change::Entry(n, entry) => {
                    let named = marks.dirs.iter().filter(|d| d.key == key(n));
                    let mut named = named.flat_map(|d| &d.names);
                    let found = named.any(|found| **found == name(entry));
                    found || all(n, false) || born(self.dirs[&n])
                }
            }
    }
}
