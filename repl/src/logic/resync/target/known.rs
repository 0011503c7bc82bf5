//! Which file an identity names, as far as this session knows.

use crate::ids::{DirId, Key, Uid};
use std::collections::{HashMap, VecDeque};

/// Files with one name that are remembered; others are found by their place again.
const RECENT: usize = 32 * 1024;

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Entry {
    pub(super) key: Key,
    /// Made or adopted here and not complete yet: its attribute does not say its identity.
    pub(super) unfinished: bool,
    /// Made in this session: nothing of it was here before.
    pub(super) made: bool,
    /// A directory, or a file with several names: kept.
    lasting: bool,
}

#[derive(Default)]
pub(super) struct Known {
    by_uid: HashMap<(DirId, Uid), Entry>,
    /// Of those unfinished.
    by_key: HashMap<(DirId, Key), Uid>,
    recent: VecDeque<(DirId, Uid)>,
}

impl Known {
    pub(super) fn get(&self, dir: DirId, uid: Uid) -> Option<Entry> {
        self.by_uid.get(&(dir, uid)).copied()
    }

    /// The identity an unfinished file is to have.
    pub(super) fn unfinished(&self, dir: DirId, key: Key) -> Option<Uid> {
        self.by_key.get(&(dir, key)).copied()
    }

    /// A whole file was seen.
    pub(super) fn saw(&mut self, dir: DirId, uid: Uid, key: Key, lasting: bool) {
        if let Some(entry) = self.by_uid.get_mut(&(dir, uid)) {
            if entry.key == key {
                entry.lasting |= lasting;
                return;
            }
            if entry.unfinished {
                self.by_key.remove(&(dir, entry.key));
            }
        }
        let entry = Entry {
            key,
            unfinished: false,
            made: false,
            lasting,
        };
        if self.by_uid.insert((dir, uid), entry).is_none() && !lasting {
            self.recent.push_back((dir, uid));
            self.trim();
        }
    }

    /// A file was made, or taken for the source's.
    pub(super) fn began(&mut self, dir: DirId, uid: Uid, key: Key, lasting: bool) {
        self.saw(dir, uid, key, lasting);
        if let Some(entry) = self.by_uid.get_mut(&(dir, uid)) {
            entry.unfinished = true;
            self.by_key.insert((dir, key), uid);
        }
    }

    /// What began was made, not taken over.
    pub(super) fn made(&mut self, dir: DirId, uid: Uid) {
        if let Some(entry) = self.by_uid.get_mut(&(dir, uid)) {
            entry.made = true;
        }
    }

    /// It is complete. False if it was already.
    pub(super) fn finish(&mut self, dir: DirId, uid: Uid) -> bool {
        match self.by_uid.get_mut(&(dir, uid)) {
            Some(entry) if entry.unfinished => {
                entry.unfinished = false;
                self.by_key.remove(&(dir, entry.key));
                true
            }
            _ => false,
        }
    }

    /// Unless it is unfinished.
    pub(super) fn forget(&mut self, dir: DirId, uid: Uid) {
        if self.get(dir, uid).is_some_and(|e| !e.unfinished) {
            self.by_uid.remove(&(dir, uid));
        }
    }

    fn trim(&mut self) {
        while self.recent.len() > RECENT {
            let Some((dir, uid)) = self.recent.pop_front() else {
                return;
            };
            match self.get(dir, uid) {
                // It stays until it is finished; then it is looked at again.
                Some(entry) if entry.unfinished => {
                    self.recent.push_back((dir, uid));
                    return;
                }
                Some(entry) if !entry.lasting => {
                    self.by_uid.remove(&(dir, uid));
                }
                _ => {}
            }
        }
    }
}
