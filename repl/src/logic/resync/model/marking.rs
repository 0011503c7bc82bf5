//! Marks as the dirty map leaves them: what an operation touches, gathered by generation.

use super::Model;
use crate::ids::{DirId, Key, Uid};
use crate::logic::dirty::{Births, DirMark, FileMark, Marks, Touch};
use std::collections::HashMap;

/// Marks of one generation, and what it takes to give identities to new files.
#[derive(Debug)]
pub struct Marking {
    origin: u64,
    /// Number of the last file born.
    born: u64,
    /// Files from this number on need no mark of their own.
    from: u64,
    files: HashMap<Key, FileMark>,
    dirs: HashMap<Key, DirMark>,
    /// Names in a directory after which it is marked as a whole.
    pub names: usize,
    everything: bool,
}

impl Marking {
    /// For the node that gives identities of this origin (even: they are births).
    pub fn new(origin: u64) -> Self {
        Self {
            origin,
            born: 0,
            from: 1,
            files: HashMap::new(),
            dirs: HashMap::new(),
            names: 8,
            everything: false,
        }
    }

    /// The identity of the next file.
    pub fn birth(&mut self) -> Uid {
        self.born += 1;
        Uid {
            origin: self.origin,
            number: self.born,
        }
    }

    /// All must be compared.
    pub fn mark_everything(&mut self) {
        self.everything = true;
    }

    /// Marks what an operation is about to change.
    pub fn cover(&mut self, touch: Touch<'_>) {
        let is_birth = |uid: Uid| uid.origin == self.origin && uid.number >= self.from;
        match touch {
            Touch::Data {
                file, offset, len, ..
            } if !is_birth(file.uid) => {
                let mark = self.files.entry(file.key).or_insert_with(|| blank(&file));
                mark.ranges.push((offset, len));
            }
            Touch::Meta { file } if !is_birth(file.uid) => {
                self.files.entry(file.key).or_insert_with(|| blank(&file));
            }
            Touch::Entry { dir, name } if !is_birth(dir.uid) => {
                let mark = self.dirs.entry(dir.key).or_insert_with(|| DirMark {
                    dir: DirId(0),
                    key: dir.key,
                    uid: dir.uid,
                    names: Vec::new(),
                    all: false,
                    deep: false,
                });
                if !mark.names.iter().any(|n| **n == *name) {
                    mark.names.push(name.into());
                }
                if mark.names.len() > self.names {
                    mark.all = true;
                    mark.names.clear();
                }
            }
            _ => {}
        }
    }

    /// The marks of this generation; the next one begins.
    pub fn take(&mut self) -> Marks {
        let marks = self.peek();
        self.files.clear();
        self.dirs.clear();
        self.from = self.born + 1;
        self.everything = false;
        marks
    }

    /// The marks of this generation, which goes on.
    pub fn peek(&self) -> Marks {
        let mut files: Vec<_> = self.files.values().cloned().collect();
        let mut dirs: Vec<_> = self.dirs.values().cloned().collect();
        files.sort_by_key(|mark| mark.key);
        dirs.sort_by_key(|mark| mark.key);
        Marks {
            doubtful: false,
            everything: self.everything,
            births: vec![Births {
                origin: self.origin,
                from: self.from,
            }],
            files,
            dirs,
        }
    }
}

fn blank(file: &crate::logic::dirty::FileRef<'_>) -> FileMark {
    FileMark {
        dir: DirId(0),
        key: file.key,
        uid: file.uid,
        place: file.place.map(|(parent, name)| (parent, name.into())),
        ranges: Vec::new(),
    }
}

/// All marks of two generations.
pub fn joined(mut one: Marks, two: Marks) -> Marks {
    one.everything |= two.everything;
    for birth in two.births {
        match one.births.iter_mut().find(|b| b.origin == birth.origin) {
            Some(known) => known.from = known.from.min(birth.from),
            None => one.births.push(birth),
        }
    }
    one.files.extend(two.files);
    one.dirs.extend(two.dirs);
    one
}

impl Model {
    /// The identity of a file, the root's included.
    pub fn uid_of(&self, key: Key) -> Uid {
        let inner = self.inner();
        if key == inner.root {
            return Uid::ROOT;
        }
        let uid = inner.inodes.get(&key).and_then(|i| i.uid);
        uid.unwrap_or_default()
    }
}
