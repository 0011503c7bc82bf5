//! From the journal to the map and, at an end in order, back; and what became of a file's place.

use super::file::File;
use super::folder::Folder;
use super::{Cover, Map, Record};
use crate::ids::{DirId, Key, Uid};

/// Starts of the daemon without a checkpoint between them, before everything is marked.
const EARLIER: usize = 64;

impl Map {
    /// As [`Self::snapshot`] when nothing will be touched any more: what was touched, without
    /// anything wider that stood for it.
    pub fn exact(&self) -> Vec<Record> {
        let marks = self.marks();
        let mut records = Vec::new();
        if marks.everything {
            records.push(Record::Everything);
        }
        records.extend(marks.births.into_iter().map(Record::Births));
        for mark in marks.dirs {
            let (dir, key, uid) = (mark.dir, mark.key, mark.uid);
            if mark.all {
                let deep = mark.deep;
                records.push(Record::Folder {
                    dir,
                    key,
                    uid,
                    deep,
                });
            } else {
                let names = mark.names;
                records.push(Record::Names {
                    dir,
                    key,
                    uid,
                    names,
                });
            }
        }
        records.extend(marks.files.into_iter().map(|mark| Record::File {
            dir: mark.dir,
            key: mark.key,
            uid: mark.uid,
            place: mark.place,
            ranges: mark.ranges,
        }));
        records
    }

    /// Takes over what a journal says. All of it counts as touched in this generation.
    pub fn replay(&mut self, records: &[Record]) {
        let generation = self.generation;
        for record in records {
            match record {
                Record::Everything => self.set_everything(),
                Record::Births(births) => {
                    if self.earlier.len() >= EARLIER {
                        self.set_everything();
                    } else if !self.earlier.iter().any(|(_, b)| b == births) {
                        self.earlier.push((generation, *births));
                    }
                }
                Record::File {
                    dir,
                    key,
                    uid,
                    place,
                    ranges,
                } => {
                    let extent = ranges
                        .iter()
                        .map(|(offset, len)| offset.saturating_add(*len));
                    let extent = extent.max().unwrap_or(0);
                    let known = self.files.entry((*dir, *key));
                    let known = known.or_insert_with(|| File::new(*uid, extent));
                    let place = place.as_ref().map(|(parent, name)| (*parent, &**name));
                    known.replay(generation, place, ranges);
                }
                Record::Names {
                    dir,
                    key,
                    uid,
                    names,
                } => {
                    let folder = self.folder((*dir, *key), *uid);
                    for name in names {
                        folder.touch(generation, name);
                    }
                }
                Record::Folder {
                    dir,
                    key,
                    uid,
                    deep,
                } => {
                    let folder = self.folder((*dir, *key), *uid);
                    folder.collapse(generation);
                    if *deep {
                        folder.deep.use_now(generation);
                        self.doubtful = generation;
                    }
                }
            }
        }
        self.count();
        self.tighten();
    }

    /// After a [`Self::replay`] files are looked for: they may have been renamed since the journal
    /// was told of their place. `find` is given that and returns where the file is, if it finds it.
    pub fn settle(
        &mut self,
        mut find: impl FnMut(DirId, Key, &(Key, Box<[u8]>)) -> Option<(Key, Box<[u8]>)>,
    ) {
        for ((dir, key), file) in self.files.iter_mut().filter(|(_, f)| f.doubt) {
            if let Some(place) = file.place.take() {
                file.place = find(*dir, *key, &place);
                file.doubt = false;
            }
        }
    }

    fn folder(&mut self, id: (DirId, Key), uid: Uid) -> &mut Folder {
        let folder = self.dirs.entry(id).or_insert_with(|| Folder::new(uid));
        folder.uid = uid;
        folder
    }

    /// Whether files of this directory are marked by being in it. A file that leaves such a
    /// directory needs a mark of its own, made as at the place it goes to.
    pub fn is_deep(&self, dir: DirId, key: Key) -> bool {
        let folder = (self.deep > 0)
            .then(|| self.dirs.get(&(dir, key)))
            .flatten();
        folder.is_some_and(|f| f.deep.kept || f.deep.used >= self.floor)
    }

    /// Where everything is marked directories need no marks of their own, once that is durable: for
    /// what would otherwise need one.
    pub fn cover_everything(&self) -> Cover {
        match self.everything.kept || self.everything.used >= self.floor {
            true => self.wait(self.everything_seq),
            false => Cover::Covered,
        }
    }

    /// A file lost or changed the name at which it was marked; `None`: another is not known.
    pub fn moved(&mut self, dir: DirId, key: Key, place: Option<(Key, &[u8])>) {
        if let Some(file) = self.files.get_mut(&(dir, key)) {
            file.place = None;
            file.set_place(place);
        }
    }
}
