//! What an operation is about to change, in the words of the dirty map.

use super::super::names::Entries;
use super::super::nodes::Node;
use super::super::service::Volume;
use super::super::sys::{self, cstring};
use super::Marks;
use super::place::{Place, Whereabouts, known_place, whereabouts};
use std::io;
use std::os::fd::AsRawFd;
use tandem_repl::ids::{FileId, Key, Uid};
use tandem_repl::logic::dirty::{Cover, DirRef, FileRef, Touch};
use tandem_repl::op::{Checked, Op};

/// A change of a file.
#[derive(Clone, Copy)]
enum Change {
    Meta,
    /// Offset and length; `u64::MAX`: to the end.
    Data(u64, u64),
    /// The size becomes this.
    Size(u64),
    /// It leaves a directory that stood for its marks.
    Leaves,
}

/// The later of two.
fn both(one: Cover, two: Cover) -> Cover {
    match (one, two) {
        (Cover::Needs(a), Cover::Needs(b)) => Cover::Needs(a.max(b)),
        (Cover::Covered, needs) | (needs, Cover::Covered) => needs,
    }
}

impl Marks {
    /// Marks what an operation is about to change; durable when this returns. The caller holds the
    /// gate until the operation is done here.
    ///
    /// # Errors
    /// `EIO` where nothing can be marked any more.
    pub(crate) fn mark(&self, volume: &Volume, op: &Op<'_>) -> Result<(), i32> {
        if self.off {
            return Ok(());
        }
        let cover = match *op {
            // With the name it has, by which the peer will find it.
            Op::Link { id, parent, name } => {
                let file = self.file(volume, id, Change::Meta);
                both(self.entry(volume, parent, name), file)
            }
            Op::Make { parent, name, .. } | Op::Unlink { parent, name } => {
                both(self.entry(volume, parent, name), self.leaving(volume, op))
            }
            Op::Rmdir { parent, name } => self.entry(volume, parent, name),
            Op::Rename {
                parent,
                name,
                new_parent,
                new_name,
                ..
            } => {
                let old = self.entry(volume, parent, name);
                let new = self.entry(volume, new_parent, new_name);
                both(both(old, new), self.leaving(volume, op))
            }
            Op::Write {
                id, offset, data, ..
            } if !data.is_empty() => self.file(volume, id, Change::Data(offset, data.len() as u64)),
            Op::Fallocate {
                id,
                mode,
                offset,
                len,
                ..
            } => {
                let shifts = libc::FALLOC_FL_COLLAPSE_RANGE | libc::FALLOC_FL_INSERT_RANGE;
                let len = if mode & shifts != 0 { u64::MAX } else { len };
                self.file(volume, id, Change::Data(offset, len))
            }
            Op::SetAttr { id, set, .. } => {
                self.file(volume, id, set.size.map_or(Change::Meta, Change::Size))
            }
            Op::SetXattr { id, .. } | Op::RemoveXattr { id, .. } | Op::SetFlags { id, .. } => {
                self.file(volume, id, Change::Meta)
            }
            _ => Cover::Covered,
        };
        self.wait(cover)
    }

    fn entry(&self, volume: &Volume, parent: FileId, name: &[u8]) -> Cover {
        // Unknown, the operation is refused.
        let Some(dir) = volume.nodes.get(parent) else {
            return Cover::Covered;
        };
        let dir = dir_ref(volume, &dir);
        self.cover(volume.id, &Touch::Entry { dir, name })
    }

    fn file(&self, volume: &Volume, id: FileId, change: Change) -> Cover {
        let Some(node) = volume.nodes.get(id) else {
            return Cover::Covered;
        };
        self.node(volume, &node, change, None)
    }

    /// Marks a file, as if it were at `place`.
    fn node(&self, volume: &Volume, node: &Node, change: Change, at: Option<&Place>) -> Cover {
        let key = node.handle.key();
        let uid = volume.nodes.uid(node).unwrap_or(Uid::NONE);
        let file = FileRef {
            uid,
            ..nameless(key)
        };
        if at.is_none() {
            let quick = match change {
                Change::Meta => Some(Touch::Meta { file }),
                Change::Data(offset, len) => Some(Touch::Data {
                    file,
                    offset,
                    len,
                    size: 0,
                }),
                Change::Size(_) | Change::Leaves => None,
            };
            if quick.is_some_and(|touch| self.covered(volume.id, &touch)) {
                return Cover::Covered;
            }
        }
        let place = match at {
            Some((parent, name)) => Whereabouts::At((*parent, name.clone())),
            None => whereabouts(volume, node),
        };
        let place = match &place {
            Whereabouts::At((parent, name)) => Some((*parent, &**name)),
            Whereabouts::Root => None,
            // Its holders are all that it has; the peer does not know it.
            Whereabouts::Gone => return Cover::Covered,
            Whereabouts::Unknown => {
                tracing::warn!("a changed file has no known name: everything will be compared");
                self.map().set_everything();
                None
            }
        };
        let size = match volume.nodes.fd(node) {
            Ok(fd) if node.is_file() => {
                sys::size_and_links(fd.as_raw_fd()).map_or(0, |(size, _)| size)
            }
            _ => 0,
        };
        let file = FileRef { place, ..file };
        let touch = match change {
            Change::Data(offset, len) => Touch::Data {
                file,
                offset,
                len,
                size,
            },
            // What is beyond the new end is gone, also if the file grows again.
            Change::Size(new) if new < size => Touch::Data {
                file,
                offset: new,
                len: size - new,
                size,
            },
            Change::Leaves => Touch::Whole { file, size },
            Change::Size(_) | Change::Meta => Touch::Meta { file },
        };
        self.cover(volume.id, &touch)
    }

    /// Files that leave a directory which marks all that is in it are marked by themselves.
    fn leaving(&self, volume: &Volume, op: &Op<'_>) -> Cover {
        let (from, to) = match *op {
            Op::Unlink { parent, name } => ((parent, name), None),
            Op::Rename {
                parent,
                name,
                new_parent,
                new_name,
                flags,
                ..
            } => {
                let (old, new) = ((parent, name), (new_parent, new_name));
                let exchanged = (flags & libc::RENAME_EXCHANGE != 0).then_some(old);
                let other = self.leaves(volume, new, exchanged);
                return both(other, self.leaves(volume, old, Some(new)));
            }
            _ => return Cover::Covered,
        };
        self.leaves(volume, from, to)
    }

    fn leaves(
        &self,
        volume: &Volume,
        (parent, name): (FileId, &[u8]),
        to: Option<(FileId, &[u8])>,
    ) -> Cover {
        let Some(dir) = volume.nodes.get(parent) else {
            return Cover::Covered;
        };
        let map = self.map();
        if !map.is_deep(volume.id, dir.handle.key()) {
            return map.cover_everything();
        }
        drop(map);
        let found = volume.nodes.fd(&dir).and_then(|fd| {
            let name = cstring(name)?;
            let handle = sys::handle_at(fd.as_raw_fd(), &name)?;
            Ok((handle, sys::fstatat(fd.as_raw_fd(), &name)?))
        });
        // Without an entry there is nothing that leaves.
        let Ok((handle, stat)) = found else {
            return Cover::Covered;
        };
        if stat.st_mode & libc::S_IFMT == libc::S_IFDIR || (to.is_none() && stat.st_nlink < 2) {
            return Cover::Covered;
        }
        let node = volume.nodes.find(&handle);
        let place = match to {
            Some((parent, name)) => volume
                .nodes
                .get(parent)
                .map(|d| (d.handle.key(), name.into())),
            None => node
                .as_ref()
                .and_then(|node| other_name(volume, node, (parent, name))),
        };
        match (node, place) {
            (Some(node), Some(place)) => self.node(volume, &node, Change::Leaves, Some(&place)),
            _ => {
                tracing::warn!("a changed file lost its known name: everything will be compared");
                let mut map = self.map();
                map.set_everything();
                let dir = dir.handle.key();
                map.cover(
                    volume.id,
                    &Touch::Meta {
                        file: nameless(dir),
                    },
                )
            }
        }
    }

    /// After an operation: files that are marked by a name have another now.
    pub(crate) fn moved(&self, volume: &Volume, op: &Op<'_>, entries: &Entries) {
        if self.off {
            return;
        }
        let tell = |node: &Node| {
            let place = known_place(&volume.nodes, node);
            let place = place.as_ref().map(|(parent, name)| (*parent, &**name));
            self.map().moved(volume.id, node.handle.key(), place);
        };
        if matches!(op, Op::Unlink { .. } | Op::Rename { .. }) {
            entries
                .nodes()
                .filter(|node| !node.orphan())
                .for_each(|node| tell(node));
        }
    }

    /// Marks what was found to differ, though nothing changes there now.
    ///
    /// # Errors
    /// As of [`Self::mark`].
    pub(crate) fn mark_found(
        &self,
        volume: &Volume,
        node: &Node,
        what: Checked,
    ) -> Result<(), i32> {
        let cover = match what {
            Checked::Data { offset, len } => {
                self.node(volume, node, Change::Data(offset, len.into()), None)
            }
            Checked::Attrs { .. } => self.node(volume, node, Change::Meta, None),
            Checked::Names => {
                let dir = dir_ref(volume, node);
                self.map().cover_entries(volume.id, &dir)
            }
        };
        self.wait(cover)
    }
}

impl Marks {
    /// Marks a file that was changed by somebody else: all of it.
    ///
    /// # Errors
    /// `EIO` where nothing can be marked any more.
    pub(crate) fn mark_outside(
        &self,
        volume: &Volume,
        file: FileRef<'_>,
        size: Option<u64>,
    ) -> io::Result<()> {
        let touch = match size {
            Some(size) => Touch::Data {
                file,
                offset: 0,
                len: u64::MAX,
                size,
            },
            None => Touch::Meta { file },
        };
        let cover = self.cover(volume.id, &touch);
        self.wait(cover).map_err(io::Error::from_raw_os_error)
    }

    /// Marks any entry of a directory.
    ///
    /// # Errors
    /// As of [`Self::mark_outside`].
    pub(crate) fn mark_outside_names(&self, volume: &Volume, dir: &DirRef) -> io::Result<()> {
        let cover = self.map().cover_entries(volume.id, dir);
        self.wait(cover).map_err(io::Error::from_raw_os_error)
    }
}

fn nameless(key: Key) -> FileRef<'static> {
    FileRef {
        key,
        uid: Uid::NONE,
        place: None,
    }
}

/// Another name of a file than this, if one is known.
fn other_name(volume: &Volume, node: &Node, not: (FileId, &[u8])) -> Option<Place> {
    let names = node.state().names.clone();
    let mut others = names.into_iter().filter(|(p, n)| (*p, &**n) != not);
    others.find_map(|(parent, name)| Some((volume.nodes.get(parent)?.handle.key(), name)))
}

fn dir_ref(volume: &Volume, dir: &Node) -> DirRef {
    DirRef {
        key: dir.handle.key(),
        uid: volume.nodes.uid(dir).unwrap_or(Uid::NONE),
    }
}
