//! How an entry or a file is covered: by what stands for it already, or by a record of its own.

use super::file::{File, Touched};
use super::folder::Folder;
use super::grains::END;
use super::{Cover, DirRef, FileRef, Map, Record};
use crate::ids::{DirId, Key, Uid};

/// Files of so many bytes are small: to compare all of a directory costs little.
const SMALL: u64 = 256 << 10;
/// What a file counts as whose size is not known.
const LARGE: u64 = 4 << 20;

impl Map {
    pub(super) fn data(
        &mut self,
        dir: DirId,
        file: &FileRef<'_>,
        range: (u64, u64, u64),
        whole: bool,
    ) -> Option<Cover> {
        let (offset, end, _) = range;
        self.file(dir, file, (end > offset).then_some(range), whole)
    }

    pub(super) fn entry(&mut self, dir: DirId, parent: &DirRef, name: &[u8]) -> Cover {
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
    pub(super) fn file(
        &mut self,
        dir: DirId,
        file: &FileRef<'_>,
        range: Option<(u64, u64, u64)>,
        whole: bool,
    ) -> Option<Cover> {
        let generation = self.generation;
        let len = range.map_or(0, |(offset, end, size)| match end {
            END => size,
            end => end - offset,
        });
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
            // Of attributes the size is not said.
            let size = range.map_or(LARGE, |(_, end, size)| match end {
                END => size,
                end => end.max(size),
            });
            let (count, bytes) = self.crowds.entry((id.0, parent)).or_insert((0, 0));
            *count += 1;
            *bytes = bytes.saturating_add(size);
            let small = *bytes / u64::from(*count) <= SMALL;
            let limits = &self.limits;
            if *count > limits.files_each || (small && *count > limits.small_files_each) {
                self.crowds.remove(&(id.0, parent));
                self.deepen((id.0, parent), false);
            }
        }
        seq
    }
}
