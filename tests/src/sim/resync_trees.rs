//! The simulated tree as the resync of the product sees it, from both ends. A page is a block, and
//! its number its hash.

mod target;

use super::change::DIR;
use super::tree::{Ino, PAGE, ROOT, Tree};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use tandem_repl::ids::{DirId, Key, Uid};
use tandem_repl::logic::dirty::Marks;
use tandem_repl::logic::resync::bounded::Name;
use tandem_repl::logic::resync::messages::{Attrs, HOLE, Hash, Kind, PeerMark, PeerTouch};
use tandem_repl::logic::resync::{Entry, Listing, Loaded, PRIVATE, Piece, SourceTree};
pub use target::TargetSide;

type Shared = Arc<Mutex<Tree>>;

fn lock(tree: &Shared) -> MutexGuard<'_, Tree> {
    tree.lock().unwrap_or_else(PoisonError::into_inner)
}

fn hash(value: u64) -> Hash {
    let mut hash = HOLE;
    hash[..8].copy_from_slice(&value.to_le_bytes());
    hash
}

fn hashes_of(tree: &Tree, ino: Ino, offset: u64, count: usize) -> Result<Vec<Hash>, i32> {
    let inode = tree.get(ino)?;
    let first = offset / PAGE;
    let page = |at: u64| inode.pages.get(&at).copied().unwrap_or(0);
    Ok((first..first + count as u64)
        .map(|at| hash(page(at)))
        .collect())
}

fn attrs_of(tree: &Tree, ino: Ino) -> Result<Attrs, i32> {
    let meta = &tree.get(ino)?.meta;
    Ok(Attrs {
        mode: meta.mode,
        uid: 0,
        gid: 0,
        size: if meta.kind == Kind::File {
            meta.size
        } else {
            0
        },
        atime: (0, 0),
        mtime: (0, 0),
        flags: 0,
        xattrs: Vec::new(),
    })
}

pub struct SourceSide {
    pub tree: Shared,
}

impl SourceSide {
    fn entry_of(tree: &mut Tree, ino: Ino) -> Result<Entry, i32> {
        let uid = tree.uid(ino)?;
        let meta = &tree.get(ino)?.meta;
        Ok(Entry {
            key: Tree::key(ino),
            uid,
            kind: meta.kind.clone(),
            links: meta.links,
        })
    }
}

impl SourceTree for SourceSide {
    fn root(&self, _: DirId) -> Key {
        Tree::key(ROOT)
    }

    fn dirs(&self) -> u16 {
        1
    }

    fn entry(&self, _: DirId, parent: Key, name: &[u8]) -> Result<Option<Entry>, i32> {
        let mut tree = lock(&self.tree);
        let ino = tree.lookup(Tree::ino(parent), name)?;
        ino.map(|ino| Self::entry_of(&mut tree, ino)).transpose()
    }

    fn file(&self, _: DirId, key: Key) -> Result<Entry, i32> {
        Self::entry_of(&mut lock(&self.tree), Tree::ino(key))
    }

    fn list(&self, _: DirId, parent: Key, _: u64) -> Result<Listing, i32> {
        let mut tree = lock(&self.tree);
        let parent = Tree::ino(parent);
        let entries = tree.get(parent)?.meta.entries.clone();
        let mut list = Vec::new();
        for (name, ino) in entries {
            if parent != ROOT || *name != *PRIVATE {
                list.push((name, Self::entry_of(&mut tree, ino)?));
            }
        }
        Ok((list, None))
    }

    fn above(&self, _: DirId, key: Key) -> Result<(Key, Box<[u8]>), i32> {
        let (parent, name) = lock(&self.tree).above(Tree::ino(key))?;
        Ok((Tree::key(parent), name))
    }

    fn attrs(&self, _: DirId, key: Key) -> Result<Attrs, i32> {
        attrs_of(&lock(&self.tree), Tree::ino(key))
    }

    fn read(&self, _: DirId, key: Key, offset: u64, buf: &mut [u8]) -> Result<Piece, i32> {
        let tree = lock(&self.tree);
        let inode = tree.get(Tree::ino(key))?;
        if offset >= inode.meta.size {
            return Ok(Piece::End);
        }
        let (page, within) = (offset / PAGE, offset % PAGE);
        if within == 0
            && let Some(value) = inode.pages.get(&page)
        {
            let len = (PAGE.min(inode.meta.size - offset) as usize).min(buf.len());
            let buf = &mut buf[..len];
            buf.fill(0);
            buf[..8].copy_from_slice(&value.to_le_bytes());
            return Ok(Piece::Data(len));
        }
        let next = inode.pages.range(page + 1..).next();
        let end = next.map_or(inode.meta.size, |(next, _)| next * PAGE);
        Ok(Piece::Hole(end.min(inode.meta.size) - offset))
    }

    fn load(&self, _: DirId, key: Key, limit: usize) -> Result<Loaded, i32> {
        let tree = lock(&self.tree);
        let ino = Tree::ino(key);
        let attrs = attrs_of(&tree, ino)?;
        let inode = tree.get(ino)?;
        let pages = inode.meta.size / PAGE;
        let whole = inode.meta.kind == Kind::File
            && pages > 0
            && inode.meta.size <= limit as u64
            && inode.pages.len() as u64 == pages;
        let data = whole.then(|| {
            let mut data = vec![0; inode.meta.size as usize];
            for (page, value) in &inode.pages {
                let at = (page * PAGE) as usize;
                data[at..at + 8].copy_from_slice(&value.to_le_bytes());
            }
            data
        });
        Ok(Loaded { attrs, data })
    }

    fn hashes(
        &self,
        _: DirId,
        key: Key,
        offset: u64,
        count: usize,
    ) -> Result<(Vec<Hash>, u64), i32> {
        let tree = lock(&self.tree);
        let ino = Tree::ino(key);
        let size = tree.get(ino)?.meta.size;
        let left = size.saturating_sub(offset).div_ceil(PAGE);
        let count = count.min(usize::try_from(left).unwrap_or(usize::MAX));
        Ok((hashes_of(&tree, ino, offset, count)?, size))
    }
}

/// The target's marks as it tells them to the source.
pub fn peer_marks(marks: &Marks, tree: &Shared) -> (bool, Vec<PeerMark>) {
    let tree = lock(tree);
    let mut found = Vec::new();
    let mut everything = marks.everything;
    let mut push = |ino: Ino, name: Option<(Ino, Box<[u8]>)>, what: PeerTouch| {
        if let Some(way) = way_to(&tree, ino, name) {
            found.push(PeerMark {
                dir: DIR,
                way,
                several: tree.get(ino).is_ok_and(|i| i.meta.kind == Kind::File)
                    && tree
                        .places()
                        .iter()
                        .filter(|(_, _, child)| *child == ino)
                        .count()
                        > 1,
                what,
            });
        }
    };
    for dir in &marks.dirs {
        let what = if dir.all || dir.deep {
            let deep = dir.deep || marks.doubtful;
            PeerTouch::Entries { deep }
        } else {
            for name in dir.names.iter().filter(|_| marks.doubtful) {
                let at = Tree::ino(dir.key);
                let file = tree.lookup(at, name).ok().flatten();
                let is_file = |ino: &Ino| tree.get(*ino).is_ok_and(|i| i.meta.kind == Kind::File);
                if let Some(ino) = file.filter(is_file) {
                    push(ino, Some((at, name.clone())), PeerTouch::Whole);
                }
            }
            let names = dir.names.iter().map(|n| n.to_vec());
            PeerTouch::Names(names.collect())
        };
        push(Tree::ino(dir.key), None, what);
    }
    for file in &marks.files {
        let ino = Tree::ino(file.key);
        let what = if marks.doubtful && file.place.is_some() {
            PeerTouch::Whole
        } else {
            PeerTouch::Data(file.ranges.clone())
        };
        // Parked, and known by no name.
        everything |= tree.get(ino).is_ok() && way_to(&tree, ino, None).is_none();
        push(ino, None, what);
    }
    // What was born is found by looking at everything that is there, or parked.
    let parked = tree.parking().map(|parking| tree.walk(parking));
    for (at, name, ino) in tree.places().iter().chain(parked.iter().flatten()) {
        let Ok(inode) = tree.get(*ino) else { continue };
        let born = |uid: &Uid| {
            let mut births = marks.births.iter();
            births.any(|b| b.origin == uid.origin && uid.number >= b.from)
        };
        if inode.meta.uid.as_ref().is_some_and(born) {
            let what = if inode.meta.kind == Kind::Directory {
                PeerTouch::Entries { deep: false }
            } else {
                PeerTouch::Whole
            };
            push(*ino, Some((*at, name.clone())), what);
        }
        everything |= inode.meta.uid.is_none() && tree.place(*ino).is_some();
    }
    (everything, found)
}

/// From the root, or from where things are parked, down to the file, by identity and name.
fn way_to(tree: &Tree, ino: Ino, at: Option<(Ino, Box<[u8]>)>) -> Option<Vec<(Uid, Vec<u8>)>> {
    let mut way = Vec::new();
    let mut here = ino;
    let mut place = at;
    let parking = tree.parking();
    while here != ROOT && Some(here) != parking {
        let is_dir = tree.get(here).ok()?.meta.kind == Kind::Directory;
        let (parent, name) = match place.take() {
            Some(place) => place,
            None if is_dir => tree.above(here).ok()?,
            None => tree.place(here)?,
        };
        way.push((tree.get(here).ok()?.meta.uid?, name.to_vec()));
        here = parent;
    }
    way.reverse();
    Some(way)
}

/// Whether these bytes may be a name on the wire.
pub fn is_name(bytes: &[u8]) -> bool {
    Name::new(bytes).is_some()
}
