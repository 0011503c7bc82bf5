//! The target's own marks: it served, or applied what this node has lost. They name files by the
//! way the target has to them; the same file is found here by identity, below what is known.

use super::super::bounded::Name;
use super::super::messages::{Kind, PeerMark, PeerTouch, Reply, Request, Way};
use super::super::{Failure, Feed, Pipe};
use super::look::source_failed;
use super::plan::{WHOLE, ends};
use super::{Engine, is_gone};
use crate::ids::{DirId, Key, Uid};
use std::collections::{BTreeMap, HashSet};

type Keys = BTreeMap<(DirId, Uid), Key>;

impl<P: Pipe, F: Feed> Engine<'_, P, F> {
    /// Adds the target's marks to the plan.
    pub(super) async fn take_peer_marks(&mut self) -> Result<(), Failure> {
        let mut from = Some(0);
        let mut left = Vec::new();
        let mut keys = self.known_keys();
        while let Some(n) = from {
            let Reply::Marks {
                everything,
                marks,
                next,
            } = self.ask(Request::Marks { from: n }).await?
            else {
                return Err(Failure::Protocol);
            };
            if everything {
                self.walk_all();
            }
            for mark in marks {
                self.peer_deep |= mark.what == PeerTouch::Entries { deep: true };
                // Most are found at once; the others may lie below what another mark leads to.
                if !self.adopt(&mut keys, &mark)? {
                    left.push(mark);
                }
            }
            from = next;
        }
        // A file that was in a deep directory is where the earlier resync moved it: at a marked
        // name.
        let resumed = self.resumed && self.order.rules.doubt_when_resumed;
        self.doubtful |= resumed && self.peer_deep;
        let left = self.adopt_more(keys, left)?;
        self.unfound = left.clone();
        left.into_iter().for_each(|mark| self.only_there(mark));
        Ok(())
    }

    /// Adds marks of the target's that led nowhere before. What was renamed here while an earlier
    /// pass looked for it is at a marked name now, and what that pass took for gone has its place.
    pub(super) fn look_for_unfound(&mut self) -> Result<(), Failure> {
        if !self.unfound.is_empty() {
            let left = std::mem::take(&mut self.unfound);
            self.unfound = self.adopt_more(self.known_keys(), left)?;
        }
        Ok(())
    }

    /// Adds the marks whose files are found below what is known, and returns the others.
    fn adopt_more(
        &mut self,
        mut keys: Keys,
        mut left: Vec<PeerMark>,
    ) -> Result<Vec<PeerMark>, Failure> {
        // Of the source's own marks some may be of what it has at another key now.
        let mut listed = HashSet::new();
        loop {
            self.learn(&mut keys)?;
            if !left.is_empty() || self.is_wanting() {
                self.learn_births(&mut keys, &mut listed);
            }
            let found = self.found_again(&keys);
            let count = left.len();
            let mut still = Vec::new();
            for mark in left {
                if !self.adopt(&mut keys, &mark)? {
                    still.push(mark);
                }
            }
            left = still;
            if left.len() == count && !found {
                return Ok(left);
            }
        }
    }

    /// What the source's own marks lead to.
    fn known_keys(&self) -> Keys {
        let dirs = self.plan.dirs.iter();
        let mut keys: Keys = dirs
            .filter_map(|(id, plan)| Some((*id, plan.key?)))
            .collect();
        keys.extend(self.plan.files.iter().map(|(id, plan)| (*id, plan.key)));
        keys
    }

    /// Learns what stands at marked names here.
    fn learn(&self, keys: &mut Keys) -> Result<(), Failure> {
        for ((dir, _), plan) in &self.plan.dirs {
            let Some(key) = plan.key else { continue };
            for name in &plan.names {
                match self.tree.entry(*dir, key, name.bytes()) {
                    Ok(Some(entry)) => {
                        keys.insert((*dir, entry.uid), entry.key);
                    }
                    Ok(None) => {}
                    Err(errno) if is_gone(errno) => {}
                    Err(errno) => return Err(source_failed(errno, name)),
                }
            }
            let mut cookie = plan.all.then_some(0);
            while let Some(at) = cookie {
                let Ok((entries, next)) = self.tree.list(*dir, key, at) else {
                    break;
                };
                for (_, entry) in entries {
                    if entry.kind == Kind::Directory {
                        keys.insert((*dir, entry.uid), entry.key);
                    }
                }
                cookie = next;
            }
        }
        Ok(())
    }

    /// Directories are marked that are gone at the source, or at another key.
    fn is_wanting(&self) -> bool {
        self.plan.dirs.values().any(|plan| plan.key.is_none())
    }

    /// Learns what stands in known directories whose entries were never marked: those born lately.
    fn learn_births(&self, keys: &mut Keys, listed: &mut HashSet<(DirId, Uid)>) {
        let born = |id: &(DirId, Uid)| self.plan.is_birth(id.1);
        let mut todo: Vec<_> = keys.iter().map(|(id, key)| (*id, *key)).collect();
        todo.retain(|(id, _)| born(id));
        while let Some((id, key)) = todo.pop() {
            if !listed.insert(id) {
                continue;
            }
            let mut cookie = Some(0);
            while let Some(at) = cookie {
                // A file, or gone by now.
                let Ok((entries, next)) = self.tree.list(id.0, key, at) else {
                    break;
                };
                for (_, entry) in entries {
                    let child = (id.0, entry.uid);
                    if entry.kind == Kind::Directory {
                        keys.insert(child, entry.key);
                    }
                    if entry.kind == Kind::Directory && born(&child) {
                        todo.push((child, entry.key));
                    }
                }
                cookie = next;
            }
        }
    }

    /// Marked directories that are at another key now. True if there were any.
    fn found_again(&mut self, keys: &Keys) -> bool {
        let mut found = false;
        for (id, plan) in &mut self.plan.dirs {
            if plan.key.is_none() {
                plan.key = keys.get(id).copied();
                found |= plan.key.is_some();
            }
        }
        found
    }

    /// Adds one mark; false if its file is not found here.
    fn adopt(&mut self, keys: &mut Keys, mark: &PeerMark) -> Result<bool, Failure> {
        let Some((uid, key)) = self.follow(keys, mark)? else {
            return Ok(false);
        };
        let place = place_of(mark);
        match &mark.what {
            PeerTouch::Data(ranges) => {
                let ranges = ends(ranges.clone());
                self.plan.want(mark.dir, uid, key, None, ranges);
            }
            PeerTouch::Whole => {
                let whole = vec![WHOLE];
                self.plan.want(mark.dir, uid, key, None, whole);
            }
            PeerTouch::Names(names) => {
                let plan = self.plan.dirs.entry((mark.dir, uid)).or_default();
                plan.key = Some(key);
                plan.names.extend(names.iter().filter_map(|n| Name::new(n)));
                return Ok(true);
            }
            PeerTouch::Entries { deep } => {
                let plan = self.plan.dirs.entry((mark.dir, uid)).or_default();
                plan.key = Some(key);
                plan.all = true;
                plan.deep |= deep;
                return Ok(true);
            }
        }
        // The target finds the file where it has it, unless it is moved there first.
        if let Some((parent, name)) = place {
            let known = if parent == Uid::ROOT {
                Some(self.tree.root(mark.dir))
            } else {
                keys.get(&(mark.dir, parent)).copied()
            };
            if let Some(parent_key) = known {
                let plan = self.plan.dirs.entry((mark.dir, parent)).or_default();
                plan.key.get_or_insert(parent_key);
            }
            if let Some(plan) = self.plan.files.get_mut(&(mark.dir, uid)) {
                plan.add_place((parent, name));
            }
        }
        Ok(true)
    }

    /// Follows the target's way from the deepest file on it that is known here.
    fn follow(&self, keys: &mut Keys, mark: &PeerMark) -> Result<Option<(Uid, Key)>, Failure> {
        let dir = mark.dir;
        let known = mark.way.iter().enumerate().rev();
        let known = known.filter_map(|(n, (uid, _))| Some((n + 1, *keys.get(&(dir, *uid))?)));
        let root = (0, self.tree.root(dir));
        let (start, mut at) = known.into_iter().next().unwrap_or(root);
        let mut uid = match start.checked_sub(1).and_then(|n| mark.way.get(n)) {
            Some((uid, _)) => *uid,
            None => Uid::ROOT,
        };
        for (want, name) in mark.way.iter().skip(start) {
            match self.tree.entry(dir, at, name) {
                Ok(Some(entry)) if entry.uid == *want => {
                    keys.insert((dir, entry.uid), entry.key);
                    (uid, at) = (entry.uid, entry.key);
                }
                Ok(_) => return Ok(None),
                Err(errno) if is_gone(errno) => return Ok(None),
                Err(errno) => {
                    return Err(Failure::Source {
                        errno,
                        what: String::from_utf8_lossy(name).into_owned(),
                    });
                }
            }
        }
        Ok(Some((uid, at)))
    }

    /// A file with several names is marked by the target, which tells one that this node lacks; it
    /// may be here by another, which neither has marked. Then nothing leads to it but looking
    /// everywhere.
    pub(super) fn look_for_linked(&mut self) {
        let linked = std::mem::take(&mut self.linked);
        if linked.iter().any(|id| self.plan.wanted.contains_key(id)) {
            self.walk_all();
        }
    }

    /// A file that is not here, or not found yet.
    fn only_there(&mut self, mark: PeerMark) {
        let way: Option<Way> = mark
            .way
            .iter()
            .map(|(uid, name)| Some((*uid, Name::new(name)?)))
            .collect();
        let (Some(way), Some((uid, _))) = (way, mark.way.last()) else {
            return;
        };
        let id = (mark.dir, *uid);
        if mark.several {
            self.linked.insert(id);
        }
        match mark.what {
            PeerTouch::Data(ranges) => {
                self.plan.wanted.entry(id).or_default().extend(ends(ranges));
            }
            PeerTouch::Whole => {
                let wanted = self.plan.wanted.entry(id).or_default();
                wanted.push(WHOLE);
            }
            PeerTouch::Names(names) => {
                let plan = self.plan.dirs.entry(id).or_default();
                plan.names.extend(names.iter().filter_map(|n| Name::new(n)));
                plan.way = Some(way);
            }
            PeerTouch::Entries { deep } => {
                let plan = self.plan.dirs.entry(id).or_default();
                plan.all = true;
                plan.deep |= deep;
                plan.way = Some(way);
            }
        }
    }
}

/// Directory and name of a marked file, as the target has them.
fn place_of(mark: &PeerMark) -> Option<(Uid, Name)> {
    let (_, name) = mark.way.last()?;
    let above = mark.way.len().checked_sub(2).and_then(|n| mark.way.get(n));
    let parent = above.map_or(Uid::ROOT, |(uid, _)| *uid);
    Some((parent, Name::new(name)?))
}
