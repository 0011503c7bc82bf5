//! Looking: which of the marked directories the target has, what it has at the marked names, and
//! parking what the source does not have there.

mod ways;

use super::super::bounded::Name;
use super::super::messages::{Expect, Found, Has, Kind, Request, Seen};
use super::super::{Entry, Failure, Feed, Pipe};
use super::plan::WHOLE;
use super::{ENTRY_COST, Engine, REQUEST, Then, Work, is_gone};
use crate::ids::{DirId, Key, Uid};

/// Names in one request.
const NAMES: usize = 256;

/// A directory that is looked at.
#[derive(Clone, Copy, Debug)]
pub(super) struct Look {
    pub(super) dir: DirId,
    pub(super) uid: Uid,
    /// `None`: it is gone at the source.
    pub(super) key: Option<Key>,
    /// And all below it.
    pub(super) recurse: bool,
}

/// Names that the target is asked to check.
pub(super) struct Checking {
    pub(super) look: Look,
    /// They were marked one by one.
    pub(super) named: bool,
    pub(super) entries: Vec<(Name, Option<Entry>)>,
}

impl<P: Pipe, F: Feed> Engine<'_, P, F> {
    /// Looks at everything that is marked. Directories that were moved are found in rounds: below
    /// what the round before has found.
    pub(super) async fn look(&mut self) -> Result<(), Failure> {
        // Parked by the pass before, when it seemed to know their entries.
        for (dir, uid) in self.away.clone() {
            self.empty(dir, &[uid]);
        }
        self.work().await?;
        loop {
            let plan = self.plan.dirs.iter().filter(|(_, plan)| !plan.found);
            let missing: Vec<_> = plan.map(|(id, _)| *id).collect();
            if missing.is_empty() {
                return Ok(());
            }
            let count = missing.len();
            self.resolve(missing).await?;
            let left = self.plan.dirs.values().filter(|plan| !plan.found);
            if left.count() >= count {
                return Ok(());
            }
        }
    }

    /// The target has found directories, or not.
    pub(super) fn resolved(
        &mut self,
        dirs: &[(DirId, Uid)],
        steps: &[Option<u16>],
    ) -> Result<(), Failure> {
        for (id, step) in dirs.iter().zip(steps) {
            let (dir, uid) = *id;
            let unknown = self.is_unknown(uid);
            let Some(plan) = self.plan.dirs.get_mut(id) else {
                continue;
            };
            plan.found = step.is_none();
            if step.is_some() {
                continue;
            }
            plan.all |= unknown;
            if let Some(key) = plan.key.filter(|_| plan.walk) {
                self.plan.walks.push((dir, key, uid));
            }
            let look = Look {
                dir,
                uid,
                key: plan.key,
                recurse: false,
            };
            if !self.order.rules.park_first {
                plan.put = plan.names.iter().cloned().collect();
                continue;
            }
            self.report.looked += 1;
            if plan.all {
                self.work.push(Work::List(look, 0));
                continue;
            }
            let names: Vec<_> = plan.names.iter().cloned().collect();
            for some in names.chunks(NAMES) {
                self.work.push(Work::Names(look, some.to_vec()));
            }
        }
        Ok(())
    }

    /// What the source has at some names.
    pub(super) async fn look_up(&mut self, look: Look, names: Vec<Name>) -> Result<(), Failure> {
        self.feed.permit(ENTRY_COST * names.len() as u64).await?;
        let mut entries = Vec::with_capacity(names.len());
        for name in names {
            let entry = self.entry(&look, &name)?;
            entries.push((name, entry));
        }
        self.post_check(Checking {
            look,
            named: true,
            entries,
        })
        .await
    }

    /// An entry at the source now; none if the directory is gone.
    pub(super) fn entry(&self, look: &Look, name: &Name) -> Result<Option<Entry>, Failure> {
        let Some(key) = look.key else {
            return Ok(None);
        };
        match self.tree.entry(look.dir, key, name.bytes()) {
            Ok(entry) => Ok(entry),
            Err(errno) if is_gone(errno) => Ok(None),
            Err(errno) => Err(source_failed(errno, name)),
        }
    }

    pub(super) async fn post_check(&mut self, mut checking: Checking) -> Result<(), Failure> {
        let mut bytes = 0;
        let fits = checking.entries.iter().take_while(|(_, entry)| {
            bytes += entry.as_ref().map_or(300, |e| 300 + weight(&e.kind));
            bytes < REQUEST
        });
        let fits = fits.count().clamp(1, NAMES).min(checking.entries.len());
        let rest = checking.entries.split_off(fits);
        if !rest.is_empty() {
            self.work.push(Work::Check(Checking {
                entries: rest,
                ..checking
            }));
        }
        if checking.entries.is_empty() {
            return Ok(());
        }
        self.report.looked += checking.entries.len() as u64;
        let adopt = |entry: &Entry| checking.look.recurse || self.plan.is_birth(entry.uid);
        let entries = checking.entries.iter().map(|(name, entry)| Expect {
            name: name.clone(),
            there: entry.as_ref().map(has),
            adopt: entry.as_ref().is_some_and(adopt),
        });
        let request = Request::Check {
            dir: checking.look.dir,
            parent: checking.look.uid,
            entries: entries.collect(),
        };
        self.post(request, Then::Checked(checking)).await
    }

    /// Entries of a directory of the target: those the source has, too, need no checking, but for
    /// directories that are to be entered and files with several names.
    pub(super) fn listed(
        &mut self,
        look: Look,
        list: Vec<(Name, Found)>,
        next: Option<u64>,
    ) -> Result<(), Failure> {
        match next {
            Some(next) => self.work.push(Work::List(look, next)),
            None if look.recurse => self.work.push(Work::Forget(look.dir, look.uid)),
            None => {}
        }
        let mut entries = Vec::new();
        let deep = self.plan.dirs.get(&(look.dir, look.uid));
        let deep = deep.is_some_and(|plan| plan.deep);
        for (name, found) in list {
            let entry = self.entry(&look, &name)?;
            let same = |e: &&Entry| Some(e.uid) == found.uid && e.kind == found.kind;
            // A file that only the target has in a deep directory is compared where it is placed.
            if let Some(uid) = found.uid.filter(|_| deep && found.kind == Kind::File)
                && entry.as_ref().filter(same).is_none()
            {
                self.plan.wanted.insert((look.dir, uid), vec![WHOLE]);
                if found.several {
                    self.linked.insert((look.dir, uid));
                }
            }
            let needed = match entry.as_ref().filter(same) {
                Some(e) if e.kind == Kind::Directory => {
                    look.recurse || self.suspect || self.is_unknown(e.uid)
                }
                Some(e) => e.links > 1,
                None => true,
            };
            if needed {
                entries.push((name, entry));
            }
        }
        if !entries.is_empty() {
            self.work.push(Work::Check(Checking {
                look,
                named: false,
                entries,
            }));
        }
        Ok(())
    }

    pub(super) fn checked(&mut self, checking: Checking, seen: &[Seen]) -> Result<(), Failure> {
        let Checking {
            look,
            named,
            entries,
        } = checking;
        for ((name, entry), seen) in entries.into_iter().zip(seen) {
            match (seen, entry) {
                (Seen::Failed(errno), _) => {
                    self.missed(&look, Some(vec![name]), *errno, "an entry")?;
                }
                (Seen::Same, Some(entry)) => self.same(&look, named, name, &entry),
                (_, Some(entry)) => {
                    let adopted = look.recurse || self.plan.is_birth(entry.uid);
                    let strange = *seen == Seen::Strange && entry.kind == Kind::Directory;
                    if strange && adopted {
                        self.looked.insert((look.dir, entry.uid));
                        self.work.push(Work::List(below(&look, &entry, true), 0));
                    }
                    if named && let Some(plan) = self.plan.dirs.get_mut(&(look.dir, look.uid)) {
                        plan.put.push(name);
                    }
                }
                (_, None) => {}
            }
        }
        Ok(())
    }

    /// The target has the very file at a name. That need not mean that its content is equal.
    fn same(&mut self, look: &Look, named: bool, name: Name, entry: &Entry) {
        let dir = look.dir;
        if entry.kind == Kind::Directory {
            if look.recurse {
                self.work.push(Work::List(below(look, entry, true), 0));
                return;
            }
            if self.suspect {
                self.plan.walks.push((dir, entry.key, entry.uid));
            }
            // Looked at now, so that what was moved out of it is found when its place comes.
            if self.is_unknown(entry.uid) {
                let plan = self.plan.dirs.entry((dir, entry.uid)).or_default();
                let known = plan.found && plan.all;
                plan.key = Some(entry.key);
                plan.all = true;
                plan.found = true;
                if !known {
                    self.work.push(Work::List(below(look, entry, false), 0));
                }
            }
        } else if named && (self.suspect || self.doubtful || self.plan.is_birth(entry.uid)) {
            let place = Some((look.uid, name));
            self.plan
                .want(dir, entry.uid, entry.key, place, vec![WHOLE]);
        }
    }

    /// A directory could not be listed or checked: the next pass tries again.
    pub(super) fn missed(
        &mut self,
        look: &Look,
        names: Option<Vec<Name>>,
        errno: i32,
        what: &str,
    ) -> Result<(), Failure> {
        if look.key.is_none() && is_gone(errno) {
            return Ok(());
        }
        self.judge(errno, what)?;
        let plan = self.again.dirs.entry((look.dir, look.uid)).or_default();
        plan.key = look.key;
        match names {
            Some(names) => plan.names.extend(names),
            None => plan.all = true,
        }
        plan.walk |= look.recurse;
        Ok(())
    }

    /// The target had two files of one identity. Only the one in its place is used from now on,
    /// but which one had the newer content is not known.
    pub(super) fn doubled(&mut self, dir: DirId, doubles: &[Uid]) {
        // Of those born lately the content is compared anyway.
        let mut old = doubles.iter().filter(|uid| !self.plan.is_birth(**uid));
        if old.next().is_some() && !self.walking {
            self.anomaly(dir);
        }
    }

    /// A directory whose entries need not have been marked when they changed.
    pub(super) fn is_unknown(&self, uid: Uid) -> bool {
        self.plan.is_birth(uid) && !self.known.contains(&uid)
    }

    /// Directories were parked. If their entries may have changed without a mark, these are parked
    /// one by one, so that each is found when its place comes.
    pub(super) fn empty(&mut self, dir: DirId, parked: &[Uid]) {
        for uid in parked {
            if self.plan.is_birth(*uid) {
                self.away.insert((dir, *uid));
            }
            if self.is_unknown(*uid) && self.looked.insert((dir, *uid)) {
                let look = Look {
                    dir,
                    uid: *uid,
                    key: None,
                    recurse: false,
                };
                self.work.push(Work::List(look, 0));
            }
        }
    }

    pub(super) async fn forget(&mut self, dir: DirId, uid: Uid) -> Result<(), Failure> {
        if self.forgets.first().is_some_and(|(first, _)| *first != dir)
            || self.forgets.len() >= NAMES
        {
            self.post_forgets().await?;
        }
        let id = (dir, uid);
        let known = self.plan.dirs.contains_key(&id) || self.held.contains(&id);
        if self.forgetful && uid != Uid::ROOT && !known {
            self.forgets.push((dir, uid));
        }
        Ok(())
    }

    pub(super) async fn post_forgets(&mut self) -> Result<(), Failure> {
        let forgets = std::mem::take(&mut self.forgets);
        let Some((dir, _)) = forgets.first().copied() else {
            return Ok(());
        };
        let uids = forgets.into_iter().map(|(_, uid)| uid).collect();
        self.post(Request::Forget { dir, uids }, Then::Done).await
    }
}

pub(super) fn has(entry: &Entry) -> Has {
    Has {
        uid: entry.uid,
        kind: entry.kind.clone(),
        several: entry.links > 1 && entry.kind != Kind::Directory,
    }
}

fn below(look: &Look, entry: &Entry, recurse: bool) -> Look {
    Look {
        dir: look.dir,
        uid: entry.uid,
        key: Some(entry.key),
        recurse,
    }
}

/// Bytes a kind takes in a request, beside its number.
pub(super) fn weight(kind: &Kind) -> usize {
    match kind {
        Kind::Symlink(target) => target.len(),
        _ => 0,
    }
}

pub(super) fn source_failed(errno: i32, name: &Name) -> Failure {
    Failure::Source {
        errno,
        what: format!("{name:?}"),
    }
}
