//! One node's replica: a tree of files in memory with the page cache of a journaling file system.
//!
//! What was done is visible at once and survives the death of the process. A power cut keeps what
//! was synced, of the changes of names and attributes after it a prefix (they are journaled in
//! order), and of the written pages any subset. A page holds one number, so that every write is
//! told from every other; 0 is a hole.

mod disk;
mod shown;

use std::collections::{BTreeMap, BTreeSet};
use std::sync::{Arc, OnceLock};
use tandem_repl::ids::{Key, Uid};
use tandem_repl::logic::resync::messages::{BLOCK, Kind};

pub type Ino = u64;
pub type Name = Box<[u8]>;

pub const ROOT: Ino = 1;
/// Bytes of a page: a block of the resync, so that its hash is the page's number.
pub const PAGE: u64 = BLOCK;

pub const ENOENT: i32 = 2;
pub const EIO: i32 = 5;
pub const EEXIST: i32 = 17;
pub const ENOTDIR: i32 = 20;
pub const EISDIR: i32 = 21;
pub const EINVAL: i32 = 22;
pub const ENOSPC: i32 = 28;
pub const ENOTEMPTY: i32 = 39;
pub const ESTALE: i32 = 116;

/// Everything of a file but its pages.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Meta {
    pub uid: Option<Uid>,
    pub kind: Kind,
    pub links: u64,
    pub mode: u32,
    /// Bytes.
    pub size: u64,
    pub entries: BTreeMap<Name, Ino>,
    /// Of a directory: the one above.
    pub parent: Ino,
}

#[derive(Clone, Debug)]
pub struct Inode {
    pub meta: Arc<Meta>,
    pub pages: BTreeMap<u64, u64>,
}

/// What a flush that has begun will cover.
pub struct SyncToken {
    upto: u64,
    pages: Vec<(Ino, u64)>,
}

/// Images of what one change touched, in the file system's own journal; `None`: gone.
type Transaction = Vec<(Ino, Option<Arc<Meta>>)>;

pub struct Tree {
    live: BTreeMap<Ino, Inode>,
    /// Usually one each; a resync may have a second one set aside.
    by_uid: BTreeMap<Uid, Vec<Ino>>,
    next: Ino,
    disk: BTreeMap<Ino, Arc<Meta>>,
    disk_pages: BTreeMap<(Ino, u64), u64>,
    log: Vec<Transaction>,
    dirty: BTreeSet<(Ino, u64)>,
    /// Changes that reached the disk so far.
    committed: u64,
    /// All names, until one changes.
    names: OnceLock<Arc<Vec<(Ino, Name, Ino)>>>,
    /// Pages written with another value, for who wants to know: file, page, old, new.
    pub written: Option<Vec<(Ino, u64, u64, u64)>>,
    /// Gives identities to files that have none.
    found: u64,
    found_origin: u64,
}

impl Tree {
    pub fn new(found_origin: u64) -> Self {
        let root = Arc::new(Meta {
            uid: Some(Uid::ROOT),
            kind: Kind::Directory,
            links: 1,
            mode: 0o755,
            size: 0,
            entries: BTreeMap::new(),
            parent: ROOT,
        });
        let inode = Inode {
            meta: root.clone(),
            pages: BTreeMap::new(),
        };
        Self {
            live: BTreeMap::from([(ROOT, inode)]),
            by_uid: BTreeMap::from([(Uid::ROOT, vec![ROOT])]),
            next: ROOT + 1,
            disk: BTreeMap::from([(ROOT, root)]),
            disk_pages: BTreeMap::new(),
            log: Vec::new(),
            dirty: BTreeSet::new(),
            committed: 0,
            names: OnceLock::new(),
            written: None,
            found: 0,
            found_origin: found_origin | 1,
        }
    }

    pub fn key(ino: Ino) -> Key {
        Key::new(&ino.to_le_bytes()).expect("eight bytes fit a key")
    }

    pub fn ino(key: Key) -> Ino {
        key.bytes()
            .first_chunk()
            .map_or(0, |b| u64::from_le_bytes(*b))
    }

    pub fn get(&self, ino: Ino) -> Result<&Inode, i32> {
        self.live.get(&ino).ok_or(ESTALE)
    }

    pub fn find(&self, uid: Uid) -> Option<Ino> {
        let found = self.by_uid.get(&uid)?;
        match found[..] {
            [] => None,
            [one] => Some(one),
            _ => found.iter().copied().find(|ino| self.is_visible(*ino)),
        }
    }

    /// Some way leads from the root to it, not through what is the product's own.
    fn is_visible(&self, ino: Ino) -> bool {
        ino == ROOT || self.place(ino).is_some()
    }

    fn index(&mut self, uid: Uid, ino: Ino) {
        self.by_uid.entry(uid).or_default().push(ino);
    }

    fn unindex(&mut self, uid: Uid, ino: Ino) {
        if let Some(found) = self.by_uid.get_mut(&uid) {
            found.retain(|i| *i != ino);
        }
    }

    pub fn lookup(&self, parent: Ino, name: &[u8]) -> Result<Option<Ino>, i32> {
        let dir = self.dir(parent)?;
        Ok(dir.entries.get(name).copied())
    }

    fn dir(&self, ino: Ino) -> Result<&Meta, i32> {
        let meta = &self.get(ino)?.meta;
        if meta.kind == Kind::Directory {
            Ok(meta)
        } else {
            Err(ENOTDIR)
        }
    }

    /// A directory's own name and the one above it.
    pub fn above(&self, ino: Ino) -> Result<(Ino, Name), i32> {
        let parent = self.dir(ino)?.parent;
        let above = self.dir(parent)?;
        let found = above.entries.iter().find(|(_, child)| **child == ino);
        found.map(|(name, _)| (parent, name.clone())).ok_or(ESTALE)
    }

    fn meta_mut(&mut self, ino: Ino) -> Result<&mut Meta, i32> {
        let inode = self.live.get_mut(&ino).ok_or(ESTALE)?;
        Ok(Arc::make_mut(&mut inode.meta))
    }

    /// Notes what a change touched in the file system's journal.
    fn note(&mut self, touched: &[Ino]) {
        if touched.len() > 1 {
            self.names = OnceLock::new();
        }
        let image = |ino: &Ino| (*ino, self.live.get(ino).map(|i| i.meta.clone()));
        self.log.push(touched.iter().map(image).collect());
    }

    pub fn set_uid(&mut self, ino: Ino, uid: Uid) -> Result<(), i32> {
        let meta = self.meta_mut(ino)?;
        if let Some(old) = meta.uid.replace(uid) {
            self.unindex(old, ino);
        }
        self.index(uid, ino);
        self.note(&[ino]);
        Ok(())
    }

    /// The file's identity, given now if it has none.
    pub fn uid(&mut self, ino: Ino) -> Result<Uid, i32> {
        if let Some(uid) = self.get(ino)?.meta.uid {
            return Ok(uid);
        }
        self.found += 1;
        let uid = Uid {
            origin: self.found_origin,
            number: self.found,
        };
        self.set_uid(ino, uid)?;
        Ok(uid)
    }

    pub fn make(
        &mut self,
        parent: Ino,
        name: &[u8],
        kind: Kind,
        uid: Option<Uid>,
    ) -> Result<Ino, i32> {
        if self.dir(parent)?.entries.contains_key(name) {
            return Err(EEXIST);
        }
        let ino = self.next;
        self.next += 1;
        let meta = Arc::new(Meta {
            uid,
            kind,
            links: 1,
            mode: 0o644,
            size: 0,
            entries: BTreeMap::new(),
            parent,
        });
        let pages = BTreeMap::new();
        self.live.insert(ino, Inode { meta, pages });
        if let Some(uid) = uid {
            self.index(uid, ino);
        }
        self.meta_mut(parent)?.entries.insert(name.into(), ino);
        self.note(&[parent, ino]);
        Ok(ino)
    }

    pub fn link(&mut self, ino: Ino, parent: Ino, name: &[u8]) -> Result<(), i32> {
        if self.dir(parent)?.entries.contains_key(name) {
            return Err(EEXIST);
        }
        if self.get(ino)?.meta.kind == Kind::Directory {
            return Err(EISDIR);
        }
        self.meta_mut(ino)?.links += 1;
        self.meta_mut(parent)?.entries.insert(name.into(), ino);
        self.note(&[parent, ino]);
        Ok(())
    }

    /// Takes one link away; what has none is gone.
    fn drop_link(&mut self, ino: Ino) {
        let Ok(meta) = self.meta_mut(ino) else { return };
        meta.links -= 1;
        let (links, uid) = (meta.links, meta.uid);
        if links == 0 {
            self.live.remove(&ino);
            if let Some(uid) = uid {
                self.unindex(uid, ino);
            }
        }
    }

    pub fn unlink(&mut self, parent: Ino, name: &[u8]) -> Result<(), i32> {
        let ino = self.lookup(parent, name)?.ok_or(ENOENT)?;
        if self.get(ino)?.meta.kind == Kind::Directory {
            return Err(EISDIR);
        }
        self.meta_mut(parent)?.entries.remove(name);
        self.drop_link(ino);
        self.note(&[parent, ino]);
        Ok(())
    }

    pub fn rmdir(&mut self, parent: Ino, name: &[u8]) -> Result<(), i32> {
        let ino = self.lookup(parent, name)?.ok_or(ENOENT)?;
        if !self.dir(ino)?.entries.is_empty() {
            return Err(ENOTEMPTY);
        }
        self.meta_mut(parent)?.entries.remove(name);
        self.drop_link(ino);
        self.note(&[parent, ino]);
        Ok(())
    }

    fn is_below(&self, mut ino: Ino, above: Ino) -> bool {
        while ino != above {
            match self.live.get(&ino) {
                Some(i) if ino != ROOT => ino = i.meta.parent,
                _ => return false,
            }
        }
        true
    }

    pub fn rename(&mut self, from: (Ino, &[u8]), to: (Ino, &[u8])) -> Result<(), i32> {
        let ino = self.lookup(from.0, from.1)?.ok_or(ENOENT)?;
        let is_dir = self.get(ino)?.meta.kind == Kind::Directory;
        if is_dir && self.is_below(to.0, ino) {
            return Err(EINVAL);
        }
        let mut touched = vec![from.0, to.0, ino];
        if let Some(old) = self.lookup(to.0, to.1)? {
            if old == ino {
                return Ok(());
            }
            let old_meta = &self.get(old)?.meta;
            match (is_dir, old_meta.kind == Kind::Directory) {
                (true, false) => return Err(ENOTDIR),
                (false, true) => return Err(EISDIR),
                (true, true) if !old_meta.entries.is_empty() => return Err(ENOTEMPTY),
                _ => {}
            }
            self.drop_link(old);
            touched.push(old);
        }
        self.meta_mut(from.0)?.entries.remove(from.1);
        self.meta_mut(to.0)?.entries.insert(to.1.into(), ino);
        if is_dir {
            self.meta_mut(ino)?.parent = to.0;
        }
        self.note(&touched);
        Ok(())
    }

    pub fn write(&mut self, ino: Ino, page: u64, value: u64) -> Result<(), i32> {
        let inode = self.live.get_mut(&ino).ok_or(ESTALE)?;
        if inode.meta.kind != Kind::File {
            return Err(EISDIR);
        }
        let old = if value == 0 {
            inode.pages.remove(&page)
        } else {
            inode.pages.insert(page, value)
        };
        if let (Some(written), Some(old)) = (&mut self.written, old) {
            written.push((ino, page, old, value));
        }
        self.dirty.insert((ino, page));
        let end = (page + 1) * PAGE;
        if inode.meta.size < end {
            Arc::make_mut(&mut inode.meta).size = end;
            self.note(&[ino]);
        }
        Ok(())
    }

    pub fn truncate(&mut self, ino: Ino, size: u64) -> Result<(), i32> {
        let inode = self.live.get_mut(&ino).ok_or(ESTALE)?;
        if inode.meta.kind != Kind::File {
            return Err(EISDIR);
        }
        inode.pages.retain(|page, _| page * PAGE < size);
        self.dirty
            .retain(|(of, page)| *of != ino || page * PAGE < size);
        Arc::make_mut(&mut inode.meta).size = size;
        self.note(&[ino]);
        Ok(())
    }

    pub fn set_mode(&mut self, ino: Ino, mode: u32) -> Result<(), i32> {
        self.meta_mut(ino)?.mode = mode;
        self.note(&[ino]);
        Ok(())
    }
}
