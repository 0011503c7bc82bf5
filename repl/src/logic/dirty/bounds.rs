//! What the map does when there is too much of something: names become directories, directories of
//! many files become deep, and in the end everything is marked.

use super::Map;
use super::Record;
use super::file::File;
use super::folder::Folder;
use super::hash::Table;
use crate::ids::{DirId, Key, Uid};

impl Map {
    /// All may differ, and it is not known what.
    pub fn set_everything(&mut self) {
        self.everything_seq = self.append(Record::Everything);
        self.everything.use_now(self.generation);
        self.everything.kept = true;
        self.files = Table::default();
        self.dirs = Table::default();
        self.crowds = Table::default();
        (self.names, self.chunks, self.deep) = (0, 0, 0);
    }

    /// Makes a directory deep: in the journal, and with `forget` here as well.
    pub(super) fn deepen(&mut self, id: (DirId, Key), forget: bool) {
        let generation = self.generation;
        let folder = self.dirs.entry(id);
        let folder = folder.or_insert_with(|| Folder::new(Uid::NONE));
        if !folder.deep.kept && folder.deep.used == 0 {
            self.deep += 1;
        }
        if forget {
            folder.deep.use_now(generation);
        }
        folder.deep.of_use(generation);
        if folder.deep.kept {
            return;
        }
        folder.deep.kept = true;
        self.seq += 1;
        folder.seq = self.seq;
        let (dir, key) = id;
        self.pending.push(Record::Folder {
            dir,
            key,
            uid: folder.uid,
            deep: true,
        });
    }

    /// Forgets single things until there are few enough.
    pub(super) fn tighten(&mut self) {
        if self.chunks > self.limits.chunks {
            self.enlarge_grains();
        }
        if self.names > self.limits.names {
            self.gather_names();
        }
        // What is left may be so many files that they have too many chunks even so.
        if self.files.len() > self.limits.files || self.chunks > self.limits.chunks {
            self.gather_files();
        }
        if self.dirs.len() > self.limits.dirs {
            self.set_everything();
        }
    }

    fn enlarge_grains(&mut self) {
        let enough = self.limits.chunks / 4 * 3;
        for most in [4096, 1024, 256, 64, 16, 4, 1] {
            for file in self.files.values_mut() {
                let before = file.chunks();
                file.shrink(most);
                self.chunks = self.chunks + file.chunks() - before;
            }
            if self.chunks <= enough {
                return;
            }
        }
    }

    fn gather_names(&mut self) {
        let generation = self.generation;
        let mut most: Vec<_> = self.dirs.iter().map(|(id, f)| (f.names(), *id)).collect();
        most.sort_unstable_by(|a, b| b.cmp(a));
        for (count, id) in most {
            if self.names <= self.limits.names / 2 {
                return;
            }
            let Some(folder) = self.dirs.get_mut(&id) else {
                continue;
            };
            folder.collapse(generation);
            self.names -= count;
            if !folder.all.kept {
                folder.all.kept = true;
                self.seq += 1;
                folder.seq = self.seq;
                self.pending.push(Record::Folder {
                    dir: id.0,
                    key: id.1,
                    uid: folder.uid,
                    deep: false,
                });
            }
        }
    }

    fn gather_files(&mut self) {
        let mut counts: Table<(DirId, Key), usize> = Table::default();
        for ((dir, _), file) in &self.files {
            if let Some(parent) = file.parent() {
                *counts.entry((*dir, parent)).or_insert(0) += 1;
            }
        }
        let mut most: Vec<_> = counts.into_iter().map(|(id, count)| (count, id)).collect();
        most.sort_unstable_by(|a, b| b.cmp(a));
        let mut left = self.files.len();
        let mut gone = Table::default();
        for (count, id) in most {
            if left <= self.limits.files / 2 {
                break;
            }
            left -= count;
            gone.insert(id, ());
            self.deepen(id, true);
        }
        let below = |dir: DirId, file: &File| {
            let parent = file.parent();
            parent.is_some_and(|parent| gone.contains_key(&(dir, parent)))
        };
        self.files.retain(|(dir, _), file| !below(*dir, file));
        self.chunks = self.files.values().map(File::chunks).sum();
        if self.files.len() > self.limits.files || self.chunks > self.limits.chunks {
            self.set_everything();
        }
    }
}
