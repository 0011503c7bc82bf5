//! An application: random changes of a tree, each with the marks it causes.

use super::super::messages::Kind;
use super::super::model::Model;
use super::super::model::marking::Marking;
use crate::ids::{Key, Uid};
use crate::logic::dirty::{DirRef, FileRef, Touch};
use std::sync::Arc;

pub(in super::super) struct App {
    pub(super) tree: Arc<Model>,
    pub(super) marking: Marking,
    state: u64,
    time: i64,
    /// Largest file, bytes.
    pub(super) largest: u64,
}

/// A place of the tree.
pub(super) type Place = (Key, Box<[u8]>, Key);

impl App {
    pub(super) fn new(tree: Arc<Model>, marking: Marking, seed: u64) -> Self {
        Self {
            tree,
            marking,
            state: seed.wrapping_mul(0x9e37_79b9_7f4a_7c15) | 1,
            time: 1,
            largest: 100_000,
        }
    }

    pub(super) fn below(&mut self, limit: usize) -> usize {
        self.state ^= self.state << 13;
        self.state ^= self.state >> 7;
        self.state ^= self.state << 17;
        (self.state >> 11) as usize % limit.max(1)
    }

    pub(super) fn now(&mut self) -> (i64, u32) {
        self.time += 1;
        (self.time, 5)
    }

    pub(super) fn root(&self) -> Key {
        self.tree.root_key()
    }

    fn dir_ref(&self, key: Key) -> DirRef {
        DirRef {
            key,
            uid: self.tree.uid_of(key),
        }
    }

    fn touch_entry(&mut self, parent: Key, name: &[u8]) {
        let dir = self.dir_ref(parent);
        self.marking.cover(Touch::Entry { dir, name });
    }

    fn touch_file(&mut self, place: &Place, range: Option<(u64, u64)>) {
        let file = FileRef {
            key: place.2,
            uid: self.tree.uid_of(place.2),
            place: Some((place.0, &place.1)),
        };
        let size = self.tree.stat(place.2).map_or(0, |s| s.1);
        self.marking.cover(match range {
            Some((offset, len)) => Touch::Data {
                file,
                offset,
                len,
                size,
            },
            None => Touch::Meta { file },
        });
    }

    pub(super) fn make(&mut self, parent: Key, name: &[u8], kind: Kind) -> Option<Key> {
        self.touch_entry(parent, name);
        let uid: Uid = self.marking.birth();
        let now = self.now();
        self.tree.make((parent, name), kind, Some(uid), now).ok()
    }

    pub(super) fn mkdir(&mut self, parent: Key, name: &str) -> Key {
        self.make(parent, name.as_bytes(), Kind::Directory).unwrap()
    }

    /// Makes a file with this content.
    pub(super) fn file(&mut self, parent: Key, name: &str, data: &[u8]) -> Key {
        let key = self.make(parent, name.as_bytes(), Kind::File).unwrap();
        self.write(&(parent, name.as_bytes().into(), key), 0, data);
        key
    }

    pub(super) fn write(&mut self, place: &Place, offset: u64, data: &[u8]) {
        if !matches!(self.tree.stat(place.2), Ok((_, _, Kind::File, _))) {
            return;
        }
        self.touch_file(place, Some((offset, data.len() as u64)));
        let now = self.now();
        let _ = self.tree.write_at(place.2, offset, data, now);
    }

    pub(super) fn truncate(&mut self, place: &Place, size: u64) {
        let Ok((_, before, Kind::File, _)) = self.tree.stat(place.2) else {
            return;
        };
        self.touch_file(place, Some((size.min(before), u64::MAX)));
        let now = self.now();
        let _ = self.tree.set_size(place.2, size, now);
    }

    pub(super) fn link(&mut self, place: &Place, parent: Key, name: &[u8]) {
        self.touch_file(place, None);
        self.touch_entry(parent, name);
        let now = self.now();
        let _ = self.tree.hard_link(place.2, parent, name, now);
    }

    pub(super) fn remove(&mut self, parent: Key, name: &[u8]) {
        self.touch_entry(parent, name);
        let now = self.now();
        let _ = self.tree.remove(parent, name, now);
    }

    /// Removes a directory with all below it.
    pub(super) fn remove_all(&mut self, parent: Key, name: &[u8]) {
        let Ok(Some(key)) = self.tree.key_at(parent, name) else {
            return;
        };
        let below: Vec<_> = self.tree.places();
        for (dir, child, _) in below.iter().filter(|p| p.0 == key) {
            self.remove_all(*dir, child);
        }
        self.remove(parent, name);
    }

    pub(super) fn rename(&mut self, from: (Key, &[u8]), to: (Key, &[u8]), exchange: bool) {
        self.touch_entry(from.0, from.1);
        self.touch_entry(to.0, to.1);
        let now = self.now();
        let _ = self.tree.rename(from, to, exchange, now);
    }

    pub(super) fn chmod(&mut self, place: &Place, mode: u32) {
        self.touch_file(place, None);
        let _ = self.tree.set_mode(place.2, mode);
    }

    fn some_place(&mut self) -> Option<Place> {
        let mut places = self.tree.places();
        if places.is_empty() {
            return None;
        }
        let n = self.below(places.len());
        Some(places.swap_remove(n))
    }

    fn some_dir(&mut self) -> Key {
        for _ in 0..4 {
            if let Some((_, _, key)) = self.some_place()
                && self.tree.stat(key).is_ok_and(|s| s.2 == Kind::Directory)
            {
                return key;
            }
        }
        self.root()
    }

    fn some_name(&mut self) -> Vec<u8> {
        let n = self.below(12);
        match n {
            0 => vec![0xff, b'\n', 0x80],
            n => format!("n{n}").into_bytes(),
        }
    }

    pub(super) fn changes(&mut self, count: usize) {
        (0..count).for_each(|_| self.change());
    }

    /// One random change.
    pub(super) fn change(&mut self) {
        let (parent, name) = (self.some_dir(), self.some_name());
        let Some(place) = self.some_place() else {
            self.make(parent, &name, Kind::Directory);
            return;
        };
        let size = self.tree.stat(place.2).map_or(0, |s| s.1);
        match self.below(20) {
            0..=3 => {
                if let Some(key) = self.make(parent, &name, Kind::File) {
                    let len = [0, 10, 5000, 70_000][self.below(4)];
                    let byte = self.below(256) as u8;
                    let data: Vec<u8> = (0..len).map(|n| byte ^ (n / 7) as u8).collect();
                    self.write(&(parent, name.into(), key), 0, &data);
                }
            }
            4 | 5 => {
                self.make(parent, &name, Kind::Directory);
            }
            6 => {
                self.make(parent, &name, Kind::Symlink(b"to/there".to_vec()));
            }
            7 => {
                let pipe = Kind::Node {
                    format: 0o010_000,
                    rdev: 0,
                };
                self.make(parent, &name, pipe);
            }
            8 => self.link(&place, parent, &name),
            9 | 10 => self.remove(place.0, &place.1),
            11 => self.remove_all(place.0, &place.1),
            12..=14 => {
                let exchange = self.below(4) == 0;
                self.rename((place.0, &place.1), (parent, &name), exchange);
            }
            15 | 16 => {
                let largest = self.largest as usize;
                let offset = self.below(largest) as u64;
                let len = [1, 100, 9000, 30_000][self.below(4)];
                let byte = self.below(256) as u8;
                self.write(&place, offset, &vec![byte; len]);
            }
            17 => {
                let size = self.below(size as usize * 2 + 10) as u64;
                self.truncate(&place, size);
            }
            18 => {
                let mode = self.below(0o10000) as u32;
                self.chmod(&place, mode);
            }
            _ => {
                let offset = self.below(size as usize) as u64;
                self.touch_file(&place, None);
                if size > 0 {
                    self.touch_file(&place, Some((offset, 20_000)));
                    let now = self.now();
                    let _ = self.tree.punch(place.2, offset, 20_000, now);
                }
                let value = self.below(1000).to_string();
                let _ = self.tree.set_xattr(place.2, b"user.a", value.as_bytes());
            }
        }
    }
}
