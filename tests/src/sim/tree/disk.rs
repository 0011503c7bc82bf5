//! What of a tree is on its disk, and what a power cut leaves.

use super::{Ino, Inode, PAGE, SyncToken, Tree};
use crate::rng::Rng;
use std::sync::OnceLock;

impl Tree {
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

    /// As of a file that has no name any more: with it goes what removed it.
    pub fn sync_names(&mut self) {
        self.commit(self.log.len());
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
}
