//! A tree as those see it who compare: registers, and places of files.

use super::super::change::{Reg, Value};
use super::{Ino, Name, ROOT, Tree};
use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;
use tandem_repl::ids::Uid;
use tandem_repl::logic::resync::PRIVATE;
use tandem_repl::logic::resync::messages::Kind;

impl Tree {
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
        let names = self.names.get_or_init(|| Arc::new(self.walk(ROOT)));
        names.clone()
    }

    /// Where a resync parks things, if it did.
    pub fn parking(&self) -> Option<Ino> {
        let private = self.lookup(ROOT, PRIVATE).ok()??;
        self.lookup(private, b"parked").ok()?
    }

    /// All names below a directory.
    pub fn walk(&self, from: Ino) -> Vec<(Ino, Name, Ino)> {
        let mut found = Vec::new();
        let mut ways = vec![from];
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
