//! Names: finding, parking, placing.

use super::super::MAX_LISTED;
use super::super::bounded::Name;
use super::super::messages::{Expect, Found, Has, Kind, Place, Placed, Put, Reply, Seen, Way};
use super::{EEXIST, EIO, ENOENT, ESTALE, Session, Target, TargetTree, There};
use crate::ids::{DirId, Key, Uid};
use std::sync::MutexGuard;

/// Where a file was found.
enum Lies {
    /// In the parking directory, under this name.
    Parked(Vec<u8>),
    /// In the tree.
    Tree,
}

/// What was moved out of the way.
#[derive(Default)]
struct Away {
    directories: Vec<Uid>,
    /// Of which there is another one.
    doubles: Vec<Uid>,
}

impl<T: TargetTree + ?Sized> Target<T> {
    /// The directory an identity names; `ESTALE` if it was not found in this session.
    pub(super) fn dir_key(&self, dir: DirId, uid: Uid) -> Result<Key, i32> {
        if uid == Uid::ROOT {
            return Ok(self.tree.root(dir));
        }
        let known = self.session().known.get(dir, uid);
        match known {
            Some(entry) => Ok(entry.key),
            None => match self.parked(dir, uid)? {
                Some(there) if there.kind == Kind::Directory && there.uid == Some(uid) => {
                    self.session().known.saw(dir, uid, there.key, true);
                    Ok(there.key)
                }
                _ => Err(ESTALE),
            },
        }
    }

    fn parked(&self, dir: DirId, uid: Uid) -> Result<Option<There>, i32> {
        let Some(parking) = self.tree.parking(dir, false)? else {
            return Ok(None);
        };
        self.tree.look(dir, parking, &parked_name(uid))
    }

    /// What an entry is, with the identity it is to have if it is unfinished.
    fn look(&self, dir: DirId, parent: Key, name: &[u8]) -> Result<Option<There>, i32> {
        let mut there = self.tree.look(dir, parent, name)?;
        if let Some(there) = &mut there
            && let Some(uid) = self.session().known.unfinished(dir, there.key)
        {
            there.uid = Some(uid);
        }
        Ok(there)
    }

    pub(super) fn resolve(&self, dir: DirId, ways: &[Way]) -> Result<Reply, i32> {
        let found: Result<Vec<_>, i32> = ways.iter().map(|w| self.follow(dir, w)).collect();
        Ok(Reply::Resolved(found?))
    }

    /// `None` if the way was found, or the step that leads elsewhere.
    fn follow(&self, dir: DirId, way: &Way) -> Result<Option<u16>, i32> {
        // From the deepest step that is known, downwards. What is parked comes last: the directory
        // may be here twice, and the way leads to the one that counts.
        let known = |uid: &Uid| self.session().known.get(dir, *uid).map(|k| k.key);
        let steps = way.iter().enumerate().rev();
        let mut steps = steps.filter_map(|(step, (uid, _))| Some((step + 1, known(uid)?)));
        let from = steps.next().unwrap_or((0, self.tree.root(dir)));
        let Some(step) = self.walk_down(dir, way, from)? else {
            return Ok(None);
        };
        for (deep, (uid, _)) in way.iter().enumerate().rev() {
            match self.dir_key(dir, *uid) {
                Ok(key) => return self.walk_down(dir, way, (deep + 1, key)),
                Err(ESTALE) => {}
                Err(errno) => return Err(errno),
            }
        }
        Ok(Some(step))
    }

    /// As [`Self::follow`], from a step on that is known.
    fn walk_down(
        &self,
        dir: DirId,
        way: &Way,
        (start, mut at): (usize, Key),
    ) -> Result<Option<u16>, i32> {
        for (step, (uid, name)) in way.iter().enumerate().skip(start) {
            match self.look(dir, at, name.bytes())? {
                Some(there) if there.uid == Some(*uid) && there.kind == Kind::Directory => {
                    self.session().known.saw(dir, *uid, there.key, true);
                    at = there.key;
                }
                _ => return Ok(Some(u16::try_from(step).unwrap_or(u16::MAX))),
            }
        }
        Ok(None)
    }

    pub(super) fn list(&self, dir: DirId, parent: Uid, cookie: u64) -> Result<Reply, i32> {
        let key = self.dir_key(dir, parent)?;
        let (list, next) = self.tree.list(dir, key, cookie)?;
        debug_assert!(list.len() <= MAX_LISTED);
        let session = self.session();
        let entries = list.into_iter().filter_map(|(name, there)| {
            let uid = session.known.unfinished(dir, there.key).or(there.uid);
            let found = Found {
                uid,
                several: there.kind != Kind::Directory && there.links > 1,
                kind: there.kind,
            };
            Some((Name::new(&name)?, found))
        });
        Ok(Reply::Listed {
            entries: entries.collect(),
            next,
        })
    }

    pub(super) fn check(&self, dir: DirId, parent: Uid, entries: &[Expect]) -> Result<Reply, i32> {
        let key = self.dir_key(dir, parent)?;
        let mut away = Away::default();
        let seen = entries.iter().map(|expect| {
            let checked = self.check_one(dir, key, expect, &mut away);
            checked.unwrap_or_else(Seen::Failed)
        });
        Ok(Reply::Checked {
            seen: seen.collect(),
            parked: away.directories,
            doubles: away.doubles,
        })
    }

    fn check_one(
        &self,
        dir: DirId,
        parent: Key,
        expect: &Expect,
        away: &mut Away,
    ) -> Result<Seen, i32> {
        let name = expect.name.bytes();
        let Some(there) = self.look(dir, parent, name)? else {
            return Ok(Seen::Nothing);
        };
        if let Some(has) = &expect.there
            && has.kind == there.kind
        {
            if there.uid == Some(has.uid) && !self.is_second(dir, has, &there) {
                let lasting = has.several || there.links > 1 || has.kind == Kind::Directory;
                self.session().known.saw(dir, has.uid, there.key, lasting);
                return Ok(Seen::Same);
            }
            if self.is_adoptable(dir, has, &there) {
                if has.kind == Kind::Directory
                    && expect.adopt
                    && self.parked(dir, has.uid)?.is_none()
                {
                    self.session().known.began(dir, has.uid, there.key, true);
                }
                return Ok(Seen::Strange);
            }
        }
        self.park(dir, (parent, name), &there, away)?;
        Ok(Seen::Parked)
    }

    /// Another file of this identity is known already.
    fn is_second(&self, dir: DirId, has: &Has, there: &There) -> bool {
        let known = self.session().known.get(dir, has.uid);
        known.is_some_and(|k| k.key != there.key)
    }

    /// An entry of the right kind that nothing says to be another file.
    fn is_adoptable(&self, dir: DirId, has: &Has, there: &There) -> bool {
        let known = self.session().known.get(dir, has.uid);
        there.uid.is_none() && known.is_none_or(|k| k.key == there.key)
    }

    /// Moves an entry out of the way, under its identity.
    fn park(
        &self,
        dir: DirId,
        (parent, name): (Key, &[u8]),
        there: &There,
        away: &mut Away,
    ) -> Result<(), i32> {
        let parking = self.tree.parking(dir, true)?.ok_or(EIO)?;
        let known = there.uid.and_then(|uid| self.session().known.get(dir, uid));
        let mut parked = match there.uid {
            // A second file of an identity must not be found under it.
            Some(uid) if known.is_none_or(|k| k.key == there.key) => parked_name(uid),
            _ => self.nameless(),
        };
        if known.is_some_and(|k| k.key != there.key) {
            away.doubles.extend(there.uid);
        }
        if there.kind == Kind::Directory {
            away.directories.extend(there.uid);
        }
        if self.session().aside {
            self.tree.note_parked(dir, (parent, name), &parked)?;
        }
        if let Some(uid) = there.uid {
            let mut session = self.session();
            // So that it is found there.
            if session
                .known
                .get(dir, uid)
                .is_none_or(|k| k.key == there.key)
                && there.links > 1
            {
                session.known.saw(dir, uid, there.key, true);
            }
        }
        loop {
            match self.tree.rename(dir, (parent, name), (parking, &parked)) {
                Ok(()) => return Ok(()),
                Err(EEXIST) => {}
                Err(errno) => return Err(errno),
            }
            let first = self.tree.look(dir, parking, &parked)?;
            if first.is_some_and(|f| f.key == there.key) {
                return self.tree.unlink(dir, parent, name);
            }
            away.doubles.extend(there.uid);
            parked = self.nameless();
        }
    }

    fn nameless(&self) -> Vec<u8> {
        let mut session = self.session();
        session.nameless += 1;
        format!("nameless-{}", session.nameless).into_bytes()
    }

    pub(super) fn put(&self, dir: DirId, parent: Uid, entries: &[Put]) -> Result<Reply, i32> {
        let key = self.dir_key(dir, parent)?;
        let mut away = Away::default();
        let placed = entries.iter().map(|put| {
            let placed = self.put_one(dir, key, put, &mut away);
            placed.unwrap_or_else(Placed::Failed)
        });
        Ok(Reply::Placed {
            placed: placed.collect(),
            parked: away.directories,
            doubles: away.doubles,
        })
    }

    fn put_one(&self, dir: DirId, parent: Key, put: &Put, away: &mut Away) -> Result<Placed, i32> {
        let (name, has) = (put.name.bytes(), &put.has);
        let mut lasting = has.several || has.kind == Kind::Directory;
        if let Some(there) = self.look(dir, parent, name)? {
            lasting |= there.links > 1;
            if has.kind == there.kind {
                if there.uid == Some(has.uid) && !self.is_second(dir, has, &there) {
                    self.session().known.saw(dir, has.uid, there.key, lasting);
                    return Ok(Placed::Was);
                }
                if put.make
                    && self.is_adoptable(dir, has, &there)
                    && self.parked(dir, has.uid)?.is_none()
                {
                    self.session().known.began(dir, has.uid, there.key, lasting);
                    return Ok(Placed::Adopted);
                }
            }
            self.park(dir, (parent, name), &there, away)?;
        }
        if let Some(placed) = self.place(dir, (parent, name), put)? {
            return Ok(placed);
        }
        if !put.make {
            return Ok(Placed::Missing);
        }
        let key = self.tree.make(dir, parent, name, &has.kind)?;
        if !self.rules.whole_when_settled {
            self.tree.set_uid(dir, key, has.uid)?;
        }
        self.session().known.began(dir, has.uid, key, lasting);
        self.session().known.made(dir, has.uid);
        Ok(Placed::Made)
    }

    /// Brings a file from where it is to where it is to be, if it is anywhere.
    fn place(&self, dir: DirId, to: (Key, &[u8]), put: &Put) -> Result<Option<Placed>, i32> {
        let Some((there, lies)) = self.find(dir, put)? else {
            return Ok(None);
        };
        let has = &put.has;
        let is_dir = has.kind == Kind::Directory;
        match lies {
            Lies::Parked(name) => {
                let parking = self.tree.parking(dir, false)?.ok_or(ESTALE)?;
                self.tree.rename(dir, (parking, &name), to)?;
            }
            Lies::Tree if is_dir => {
                // It was moved at the source while this pass went on.
                let (above, name) = self.tree.above(dir, there.key)?;
                self.tree.rename(dir, (above, &name), to)?;
            }
            Lies::Tree => self.tree.link(dir, there.key, to.0, to.1)?,
        }
        let lasting = is_dir || has.several || there.links > 1;
        let mut session = self.session();
        let unfinished = session
            .known
            .get(dir, has.uid)
            .is_some_and(|k| k.unfinished);
        if unfinished || there.uid == Some(has.uid) {
            session.known.saw(dir, has.uid, there.key, lasting);
            return Ok(Some(Placed::Moved));
        }
        session.known.began(dir, has.uid, there.key, lasting);
        Ok(Some(Placed::Adopted))
    }

    /// Finds a file by its identity: in parking, in the table, at the place the source names.
    fn find(&self, dir: DirId, put: &Put) -> Result<Option<(There, Lies)>, i32> {
        let has = &put.has;
        let known = self.session().known.get(dir, has.uid);
        let fits =
            |there: &There| there.kind == has.kind && known.is_none_or(|k| k.key == there.key);
        if let Some(there) = self.parked(dir, has.uid)?.filter(|t| fits(t)) {
            return Ok(Some((there, Lies::Parked(parked_name(has.uid)))));
        }
        if let Some(known) = known {
            let there = There {
                key: known.key,
                uid: Some(has.uid),
                kind: has.kind.clone(),
                links: 1,
            };
            return Ok(Some((there, Lies::Tree)));
        }
        for (above, name) in &put.places {
            let there = self.at_place(dir, *above, name)?;
            if let Some(there) = there.filter(|t| t.uid == Some(has.uid) && t.kind == has.kind) {
                return Ok(Some((there, Lies::Tree)));
            }
        }
        Ok(None)
    }

    /// What stands at a place, if its directory is known.
    fn at_place(&self, dir: DirId, above: Uid, name: &Name) -> Result<Option<There>, i32> {
        match self.dir_key(dir, above) {
            Ok(above) => self.look(dir, above, name.bytes()),
            Err(ESTALE) => Ok(None),
            Err(errno) => Err(errno),
        }
    }

    /// The file a request is about.
    pub(super) fn file(&self, dir: DirId, uid: Uid, places: &[Place]) -> Result<Key, i32> {
        if uid == Uid::ROOT {
            return Ok(self.tree.root(dir));
        }
        if let Some(known) = self.session().known.get(dir, uid) {
            return Ok(known.key);
        }
        for (above, name) in places {
            let there = self.at_place(dir, *above, name)?;
            if let Some(there) = there.filter(|t| t.uid == Some(uid)) {
                let lasting = there.links > 1;
                self.session().known.saw(dir, uid, there.key, lasting);
                return Ok(there.key);
            }
        }
        match self.parked(dir, uid)? {
            Some(there) if there.uid == Some(uid) => Ok(there.key),
            _ => Err(ENOENT),
        }
    }

    pub(super) fn lock(&self) -> MutexGuard<'_, Session> {
        self.session()
    }
}

/// Under which something is parked.
fn parked_name(uid: Uid) -> Vec<u8> {
    format!("{:016x}-{:x}", uid.origin, uid.number).into_bytes()
}
