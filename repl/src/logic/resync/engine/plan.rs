//! What one pass has to look at: marks, by identity, with what an earlier pass left over.

use super::super::bounded::Name;
use super::super::messages::{BLOCK, Place, Way};
use crate::ids::{DirId, Key, Uid};
use crate::logic::dirty::{Births, DirMark, FileMark, Marks};
use std::collections::{BTreeMap, BTreeSet};

/// Passes after which a directory that is not found is no coincidence any more.
pub(super) const TRIES: u8 = 2;

/// Places of a file that are remembered.
const PLACES: usize = 4;

/// A directory whose entries may differ.
#[derive(Clone, Debug, Default)]
pub(super) struct DirPlan {
    /// `None`: it is gone at the source.
    pub(super) key: Option<Key>,
    pub(super) names: BTreeSet<Name>,
    /// Any entry may differ.
    pub(super) all: bool,
    /// And the content of all files in it.
    pub(super) deep: bool,
    /// All below it is to be compared, if the target has it.
    pub(super) walk: bool,
    /// Its own attributes may differ.
    pub(super) meta: bool,
    /// The target knows it.
    pub(super) found: bool,
    /// Where the target says it has it, if only the target has marked it.
    pub(super) way: Option<Way>,
    /// Names at which the target lacks something.
    pub(super) put: Vec<Name>,
    /// Passes that did not find it.
    pub(super) tries: u8,
}

/// A file whose content or attributes may differ.
#[derive(Clone, Debug)]
pub(super) struct FilePlan {
    pub(super) key: Key,
    /// Where it may be found, the likeliest first.
    pub(super) places: Vec<Place>,
    /// Offset and end, sorted, whole blocks.
    pub(super) ranges: Vec<(u64, u64)>,
    pub(super) tries: u8,
}

impl FilePlan {
    pub(super) fn add_place(&mut self, place: Place) {
        if !self.places.contains(&place) && self.places.len() < PLACES {
            self.places.push(place);
        }
    }

    /// Where it was found just now.
    pub(super) fn found_at(&mut self, place: Place) {
        self.places.retain(|known| *known != place);
        self.places.truncate(PLACES - 1);
        self.places.insert(0, place);
    }
}

/// What a mark's key leads to at the source.
#[derive(Clone, Copy, Debug)]
pub(super) enum Leads {
    /// This file; whether it is a directory.
    To(Uid, bool),
    /// It is gone. A resync may have made the file anew since, when this node was the target: then
    /// its identity is at another key.
    Nowhere,
    Unknown,
}

#[derive(Debug, Default)]
pub(super) struct Plan {
    /// Of the marks of this pass.
    born: Vec<Births>,
    /// Of all marks of this session. A file that is renamed while a pass runs may be met in a later
    /// one only, so these grow.
    births: Vec<Births>,
    pub(super) dirs: BTreeMap<(DirId, Uid), DirPlan>,
    pub(super) files: BTreeMap<(DirId, Uid), FilePlan>,
    /// Marked by the target, and not found at the source yet.
    pub(super) wanted: BTreeMap<(DirId, Uid), Vec<(u64, u64)>>,
    /// Where the target lacked a file, though an older one: from the next pass on it is made.
    pub(super) missing: BTreeMap<(DirId, Uid), Place>,
    /// Directories to be compared with all below them.
    pub(super) walks: Vec<(DirId, Key, Uid)>,
}

impl Plan {
    pub(super) fn is_empty(&self) -> bool {
        self.dirs.is_empty() && self.files.is_empty() && self.walks.is_empty()
    }

    /// The file was born since the replicas were equal: all of it may differ.
    pub(super) fn is_birth(&self, uid: Uid) -> bool {
        is_among(&self.births, uid)
    }

    /// The file was born since the marks before these were taken: the target can have it only at a
    /// marked name.
    pub(super) fn is_new(&self, uid: Uid) -> bool {
        is_among(&self.born, uid)
    }

    /// What the next pass needs of this plan.
    pub(super) fn take_births(&mut self) -> Vec<Births> {
        std::mem::take(&mut self.births)
    }

    pub(super) fn set_births(&mut self, births: Vec<Births>) {
        self.births = births;
        self.add_births(&self.born.clone());
    }

    pub(super) fn add_births(&mut self, births: &[Births]) {
        for born in births {
            let same = self.births.iter_mut().find(|b| b.origin == born.origin);
            match same {
                Some(same) => same.from = same.from.min(born.from),
                None => self.births.push(*born),
            }
        }
    }

    /// Adds marks of the source's; `what` tells what is at a key.
    pub(super) fn add(&mut self, marks: Marks, mut what: impl FnMut(DirId, Key) -> Leads) {
        self.born.extend(marks.births);
        let doubtful = marks.doubtful;
        for mut mark in marks.dirs {
            let leads = what(mark.dir, mark.key);
            if let Some(uid) = identity(mark.uid, leads) {
                mark.uid = uid;
                self.add_dir(mark, leads);
            }
        }
        for mut mark in marks.files {
            let leads = what(mark.dir, mark.key);
            let Some(uid) = identity(mark.uid, leads) else {
                continue;
            };
            mark.uid = uid;
            match leads {
                Leads::To(_, true) if mark.ranges.is_empty() => {
                    let plan = self.dirs.entry((mark.dir, mark.uid)).or_default();
                    plan.key = Some(mark.key);
                    plan.meta = true;
                }
                Leads::Nowhere => {
                    let wanted = self.wanted.entry((mark.dir, mark.uid)).or_default();
                    wanted.extend(ends(mark.ranges));
                }
                _ => {
                    let place = self.place_of(&mark, &mut what);
                    let ranges = if doubtful {
                        // It had another name, in a directory that is marked with all its files.
                        vec![WHOLE]
                    } else {
                        ends(mark.ranges)
                    };
                    self.want(mark.dir, mark.uid, mark.key, place, ranges);
                }
            }
        }
    }

    fn add_dir(&mut self, mark: DirMark, leads: Leads) {
        let plan = self.dirs.entry((mark.dir, mark.uid)).or_default();
        if !matches!(leads, Leads::Nowhere) {
            plan.key = Some(mark.key);
        }
        plan.all |= mark.all || mark.deep;
        plan.deep |= mark.deep;
        plan.names
            .extend(mark.names.iter().filter_map(|n| Name::new(n)));
    }

    /// Where a marked file was; its directory is found on the way.
    fn place_of(
        &mut self,
        mark: &FileMark,
        mut what: impl FnMut(DirId, Key) -> Leads,
    ) -> Option<Place> {
        let (parent, name) = mark.place.as_ref()?;
        let Leads::To(uid, _) = what(mark.dir, *parent) else {
            return None;
        };
        let plan = self.dirs.entry((mark.dir, uid)).or_default();
        plan.key.get_or_insert(*parent);
        Some((uid, Name::new(name)?))
    }

    /// A file is to be compared in these ranges.
    pub(super) fn want(
        &mut self,
        dir: DirId,
        uid: Uid,
        key: Key,
        place: Option<Place>,
        ranges: Vec<(u64, u64)>,
    ) {
        let plan = self.files.entry((dir, uid)).or_insert_with(|| FilePlan {
            key,
            places: Vec::new(),
            ranges: Vec::new(),
            tries: 0,
        });
        plan.key = key;
        place.into_iter().for_each(|place| plan.add_place(place));
        plan.ranges.extend(ranges);
        plan.ranges = merged(std::mem::take(&mut plan.ranges));
    }

    /// What the target has marked and no pass has met yet: it may have been renamed while they
    /// went on.
    pub(super) fn carry_wanted(&mut self, left: BTreeMap<(DirId, Uid), Vec<(u64, u64)>>) {
        for (id, ranges) in left {
            self.wanted.entry(id).or_default().extend(ranges);
        }
    }

    /// What an earlier pass left over.
    pub(super) fn carry(&mut self, left: Self) {
        for (id, left) in left.dirs {
            let plan = self.dirs.entry(id).or_default();
            plan.key = plan.key.or(left.key);
            plan.all |= left.all;
            plan.deep |= left.deep;
            plan.meta |= left.meta;
            plan.walk |= left.walk;
            plan.names.extend(left.names);
            plan.way = plan.way.take().or(left.way);
            plan.tries = plan.tries.max(left.tries);
        }
        for ((dir, uid), left) in left.files {
            let tries = left.tries;
            self.want(dir, uid, left.key, None, left.ranges);
            if let Some(plan) = self.files.get_mut(&(dir, uid)) {
                plan.tries = tries;
                left.places
                    .into_iter()
                    .for_each(|place| plan.add_place(place));
            }
        }
        self.walks.extend(left.walks);
        self.missing.extend(left.missing);
    }
}

/// Of a marked file. Where the map did not know it the tree does; what is gone needs no mark then.
fn identity(marked: Uid, leads: Leads) -> Option<Uid> {
    match (marked, leads) {
        (Uid::NONE, Leads::To(uid, _)) => Some(uid),
        (Uid::NONE, _) => None,
        (uid, _) => Some(uid),
    }
}

/// Offsets and ends, of offsets and lengths.
pub(super) fn ends(ranges: Vec<(u64, u64)>) -> Vec<(u64, u64)> {
    let ranges = ranges.into_iter();
    let ranges = ranges.map(|(offset, len)| (offset, offset.saturating_add(len)));
    ranges.collect()
}

fn is_among(births: &[Births], uid: Uid) -> bool {
    let mut births = births.iter();
    births.any(|b| b.origin == uid.origin && uid.number >= b.from)
}

/// Sorted, whole blocks, not touching each other.
pub(super) fn merged(mut ranges: Vec<(u64, u64)>) -> Vec<(u64, u64)> {
    for (start, end) in &mut ranges {
        *start = *start / BLOCK * BLOCK;
        *end = end
            .checked_next_multiple_of(BLOCK)
            .unwrap_or(u64::MAX / BLOCK * BLOCK);
    }
    ranges.sort_unstable();
    let mut out: Vec<(u64, u64)> = Vec::with_capacity(ranges.len());
    for (start, end) in ranges {
        match out.last_mut() {
            Some(last) if start <= last.1 => last.1 = last.1.max(end),
            _ if start < end => out.push((start, end)),
            _ => {}
        }
    }
    out
}

/// All of a file.
pub(super) const WHOLE: (u64, u64) = (0, u64::MAX / BLOCK * BLOCK);
