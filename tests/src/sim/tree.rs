//! One node's replica: a tree of files in memory with the page cache of a journaling file system.
//!
//! What was done is visible at once and survives the death of the process. A power cut keeps what
//! was synced, of the changes of names and attributes after it a prefix (they are journaled in
//! order), and of the written pages any subset. A page holds one number, so that every write is
//! told from every other; 0 is a hole.

use super::change::{Reg, Value};
use crate::rng::Rng;
use std::collections::{BTreeMap, BTreeSet};
use std::sync::{Arc, OnceLock};
use tandem_repl::ids::{Key, Uid};
use tandem_repl::logic::resync::PRIVATE;
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

    /// The journal of the file system reaches the disk, up to a number of changes.
    fn commit(&mut self, changes: usize) {
        self.committed += changes as u64;
        for transaction in self.log.drain(..changes) {
            for (ino, image) in transaction {
                let size = image.as_ref().map_or(0, |m| m.size);
                match image {
                    Some(meta) => drop(self.disk.insert(ino, meta)),
                    None => drop(self.disk.remove(&ino)),
                }
                let beyond = (ino, size.div_ceil(PAGE))..(ino + 1, 0);
                let gone: Vec<_> = self.disk_pages.range(beyond).map(|(k, _)| *k).collect();
                for key in gone {
                    // What was written since, and is on the disk, stays.
                    let live = self.live.get(&ino);
                    let newer = live.is_some_and(|i| i.pages.contains_key(&key.1));
                    if !newer || self.dirty.contains(&key) {
                        self.disk_pages.remove(&key);
                    }
                }
            }
        }
    }

    fn write_back(&mut self, ino: Ino, page: u64) {
        let Some(inode) = self.live.get(&ino) else {
            // Removed, but perhaps not on the disk yet.
            return;
        };
        match inode.pages.get(&page) {
            Some(value) => drop(self.disk_pages.insert((ino, page), *value)),
            None => drop(self.disk_pages.remove(&(ino, page))),
        }
    }

    /// As the kernel does now and then.
    pub fn write_back_some(&mut self, rng: &mut Rng) {
        let some: Vec<_> = self.dirty.iter().copied().collect();
        for (ino, page) in some {
            if rng.chance(30) {
                self.write_back(ino, page);
                self.dirty.remove(&(ino, page));
            }
        }
        let changes = rng.below(self.log.len() as u64 + 1) as usize;
        self.commit(changes);
    }

    pub fn sync_file(&mut self, ino: Ino) {
        self.commit(self.log.len());
        let pages: Vec<_> = self.dirty.range((ino, 0)..(ino + 1, 0)).copied().collect();
        for (ino, page) in pages {
            self.write_back(ino, page);
            self.dirty.remove(&(ino, page));
        }
    }

    pub fn sync_all(&mut self) {
        self.commit(self.log.len());
        for (ino, page) in std::mem::take(&mut self.dirty) {
            self.write_back(ino, page);
        }
    }

    /// A flush begins: it covers what was done up to now.
    pub fn begin_sync(&self) -> SyncToken {
        SyncToken {
            upto: self.committed + self.log.len() as u64,
            pages: self.dirty.iter().copied().collect(),
        }
    }

    pub fn end_sync(&mut self, token: &SyncToken) {
        let changes = token.upto.saturating_sub(self.committed);
        self.commit((changes as usize).min(self.log.len()));
        for (ino, page) in &token.pages {
            self.write_back(*ino, *page);
            self.dirty.remove(&(*ino, *page));
        }
    }

    /// A flush failed: the kernel calls the pages clean though the disk never took some of them.
    pub fn sync_fails(&mut self, rng: &mut Rng) {
        self.commit(self.log.len());
        for (ino, page) in std::mem::take(&mut self.dirty) {
            if rng.chance(50) {
                self.write_back(ino, page);
            }
        }
    }

    /// Clean pages are read from the disk again: where a flush failed they are not what it has.
    pub fn reread(&mut self, ino: Ino, pages: std::ops::Range<u64>) {
        let Some(inode) = self.live.get_mut(&ino) else {
            return;
        };
        let clean: Vec<_> = inode.pages.range(pages).map(|(page, _)| *page).collect();
        for page in clean
            .into_iter()
            .filter(|p| !self.dirty.contains(&(ino, *p)))
        {
            match self.disk_pages.get(&(ino, page)) {
                Some(value) => drop(inode.pages.insert(page, *value)),
                None => drop(inode.pages.remove(&page)),
            }
        }
    }

    /// Power is gone: what the disk has is what there is.
    pub fn cut(&mut self, rng: &mut Rng) {
        let changes = rng.below(self.log.len() as u64 + 1) as usize;
        self.commit(changes);
        self.log.clear();
        for (ino, page) in std::mem::take(&mut self.dirty) {
            if rng.chance(50) {
                self.write_back(ino, page);
            }
        }
        self.live.clear();
        self.by_uid.clear();
        self.names = OnceLock::new();
        for (ino, meta) in &self.disk {
            let to = meta.size.div_ceil(PAGE);
            let range = self.disk_pages.range((*ino, 0)..(*ino, to));
            let pages = range.map(|((_, page), value)| (*page, *value)).collect();
            let meta = meta.clone();
            if let Some(uid) = meta.uid {
                self.by_uid.entry(uid).or_default().push(*ino);
            }
            self.live.insert(*ino, Inode { meta, pages });
        }
        let live = &self.live;
        self.disk_pages
            .retain(|(ino, page), _| live.get(ino).is_some_and(|i| i.pages.contains_key(page)));
    }

    /// Whether all of it is on the disk.
    pub fn is_clean(&self) -> bool {
        self.log.is_empty() && self.dirty.is_empty()
    }

    /// Everything that can be seen from the root, but for what is the product's own. Files without
    /// an identity are passed over.
    pub fn registers(&self) -> BTreeMap<Reg, Value> {
        let mut found = BTreeMap::new();
        let mut ways = vec![ROOT];
        let mut seen = BTreeSet::new();
        while let Some(ino) = ways.pop() {
            let Some(inode) = self.live.get(&ino) else {
                continue;
            };
            let Some(uid) = inode.meta.uid.filter(|_| seen.insert(ino)) else {
                continue;
            };
            found.insert(Reg::Mode(uid), Some((u64::from(inode.meta.mode), 0)));
            if inode.meta.kind == Kind::File {
                found.insert(Reg::Size(uid), Some((inode.meta.size, 0)));
            }
            for (page, value) in &inode.pages {
                found.insert(Reg::Page(uid, *page), Some((*value, 0)));
            }
            for (name, child) in &inode.meta.entries {
                if ino == ROOT && **name == *PRIVATE {
                    continue;
                }
                let child_uid = self.live.get(child).and_then(|c| c.meta.uid);
                let value = child_uid.map_or((u64::MAX, *child), |u| (u.origin, u.number));
                found.insert(Reg::Entry(uid, name.clone()), Some(value));
                ways.push(*child);
            }
        }
        found
    }

    /// An identity that two files share.
    pub fn double(&self) -> Option<Uid> {
        let mut seen = BTreeMap::new();
        let places = self.places();
        let mut uids = places
            .iter()
            .filter_map(|(_, _, ino)| Some((self.live.get(ino)?.meta.uid?, *ino)));
        uids.find(|(uid, ino)| *seen.entry(*uid).or_insert(*ino) != *ino)
            .map(|(uid, _)| uid)
    }

    /// One of [`Self::registers`], wherever the file is.
    pub fn value(&self, reg: &Reg) -> Value {
        let inode = |uid: &Uid| self.live.get(&self.find(*uid)?);
        match reg {
            Reg::Page(uid, page) => Some((*inode(uid)?.pages.get(page)?, 0)),
            Reg::Size(uid) => Some((inode(uid)?.meta.size, 0)),
            Reg::Mode(uid) => Some((u64::from(inode(uid)?.meta.mode), 0)),
            Reg::Entry(uid, name) => {
                let child = inode(uid)?.meta.entries.get(name)?;
                let uid = self.live.get(child)?.meta.uid;
                Some(uid.map_or((u64::MAX, *child), |u| (u.origin, u.number)))
            }
        }
    }

    /// One place where the file has a name, visible from the root.
    pub fn place(&self, ino: Ino) -> Option<(Ino, Name)> {
        let places = self.places();
        let place = places.iter().find(|(_, _, child)| *child == ino);
        place.map(|(at, name, _)| (*at, name.clone()))
    }

    /// Everything that can be seen gets an identity.
    pub fn identify(&mut self) {
        for (_, _, ino) in self.places().iter() {
            let _ = self.uid(*ino);
        }
    }

    /// All names below the root: directory, name, file.
    pub fn places(&self) -> Arc<Vec<(Ino, Name, Ino)>> {
        let names = self.names.get_or_init(|| Arc::new(self.walk()));
        names.clone()
    }

    fn walk(&self) -> Vec<(Ino, Name, Ino)> {
        let mut found = Vec::new();
        let mut ways = vec![ROOT];
        while let Some(at) = ways.pop() {
            let Some(inode) = self.live.get(&at) else {
                continue;
            };
            for (name, child) in &inode.meta.entries {
                if at == ROOT && **name == *PRIVATE {
                    continue;
                }
                found.push((at, name.clone(), *child));
                let child_meta = self.live.get(child).map(|c| &c.meta);
                if child_meta.is_some_and(|m| m.kind == Kind::Directory) {
                    ways.push(*child);
                }
            }
        }
        found
    }
}
