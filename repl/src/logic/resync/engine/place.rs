//! Placing: top down, every entry the target lacks.

use super::super::bounded::Name;
use super::super::messages::{Kind, Placed, Put, Request};
use super::super::{Entry, Failure, Feed, Pipe};
use super::look::{has, source_failed, weight};
use super::plan::WHOLE;
use super::{Dir, ENTRY_COST, Engine, REQUEST, Then, Work, is_gone};
use crate::ids::DirId;

/// Entries in one request.
const ENTRIES: usize = 256;

/// What is known of a directory whose entries are placed.
#[derive(Clone, Copy, Debug, Default)]
pub(super) struct Mode {
    /// The content of its files may differ.
    pub(super) whole: bool,
    /// And all below it.
    pub(super) recurse: bool,
    /// Older files, too, are made if they are not found: see [`Engine::put_of`].
    pub(super) make: bool,
}

impl Mode {
    /// Everything below is compared.
    pub(super) fn walk(make: bool) -> Self {
        Self {
            whole: true,
            recurse: true,
            make,
        }
    }
}

/// Which entries are to be put.
pub(super) enum From {
    Names(Vec<Name>),
    List(u64),
}

/// A directory whose entries are put.
pub(super) struct Putting {
    pub(super) dir: Dir,
    pub(super) node: usize,
    pub(super) mode: Mode,
    pub(super) from: From,
}

/// Entries that were sent.
pub(super) struct Placing {
    pub(super) dir: Dir,
    node: usize,
    mode: Mode,
    entries: Vec<(Name, Entry)>,
}

impl<P: Pipe, F: Feed> Engine<'_, P, F> {
    /// Puts the next entries of a directory.
    pub(super) async fn put_next(&mut self, putting: Putting) -> Result<(), Failure> {
        let Putting {
            dir,
            node,
            mode,
            from,
        } = putting;
        let whole = matches!(from, From::List(_));
        let (entries, rest) = match from {
            From::Names(mut names) => {
                let rest = names.split_off(names.len().min(ENTRIES));
                let rest = (!rest.is_empty()).then_some(From::Names(rest));
                (self.entries(dir, names)?, rest)
            }
            From::List(cookie) => match self.tree.list(dir.dir, dir.key, cookie) {
                Ok((list, next)) => {
                    let named =
                        |(name, entry): (Box<[u8]>, Entry)| Some((Name::new(&name)?, entry));
                    let list = list.into_iter().filter_map(named);
                    (list.collect(), next.map(From::List))
                }
                Err(errno) if is_gone(errno) => (Vec::new(), None),
                Err(errno) => {
                    return Err(Failure::Source {
                        errno,
                        what: "a directory".into(),
                    });
                }
            },
        };
        let ends = rest.is_none();
        if let Some(from) = rest {
            self.work.push(Work::Put(Putting {
                dir,
                node,
                mode,
                from,
            }));
        }
        self.feed.permit(ENTRY_COST * entries.len() as u64).await?;
        self.post_puts(dir, node, mode, entries).await?;
        if ends {
            if whole && self.plan.is_birth(dir.uid) {
                self.known.insert(dir.uid);
            }
            self.release(node)?;
        }
        Ok(())
    }

    fn entries(&self, dir: Dir, names: Vec<Name>) -> Result<Vec<(Name, Entry)>, Failure> {
        let mut entries = Vec::with_capacity(names.len());
        for name in names {
            match self.tree.entry(dir.dir, dir.key, name.bytes()) {
                Ok(Some(entry)) => entries.push((name, entry)),
                Ok(None) => {}
                Err(errno) if is_gone(errno) => {}
                Err(errno) => return Err(source_failed(errno, &name)),
            }
        }
        Ok(entries)
    }

    async fn post_puts(
        &mut self,
        dir: Dir,
        node: usize,
        mode: Mode,
        entries: Vec<(Name, Entry)>,
    ) -> Result<(), Failure> {
        let mut entries = entries.into_iter().peekable();
        while entries.peek().is_some() {
            let mut some = Vec::new();
            let mut puts = Vec::new();
            let mut bytes = 0;
            while some.len() < ENTRIES
                && bytes < REQUEST
                && let Some((name, entry)) = entries.next()
            {
                bytes += 600 + weight(&entry.kind);
                puts.push(self.put_of(dir, mode, &name, &entry));
                some.push((name, entry));
            }
            let placing = Placing {
                dir,
                node,
                mode,
                entries: some,
            };
            let request = Request::Put {
                dir: dir.dir,
                parent: dir.uid,
                entries: puts,
            };
            self.nodes.hold(node);
            self.post(request, Then::Placed(placing)).await?;
        }
        Ok(())
    }

    fn put_of(&self, dir: Dir, mode: Mode, name: &Name, entry: &Entry) -> Put {
        let has = has(entry);
        // What was not born lately is at the target; if it was not found there, it was moved here
        // while this pass went on, and the next one finds it. The last one sees no such moves.
        let missed = self.plan.missing.get(&(dir.dir, entry.uid));
        let missed = missed.is_some_and(|(parent, at)| *parent == dir.uid && at == name);
        // Another name of an older file is there certainly; it was not told where, so all is looked
        // through.
        let lost = has.several && !self.plan.is_birth(entry.uid);
        let make = (self.last || missed || self.plan.is_new(entry.uid)) && !lost;
        let plan = self
            .plan
            .files
            .get(&(dir.dir, entry.uid))
            .filter(|_| has.several);
        let mut places = plan.map_or_else(Vec::new, |plan| plan.places.clone());
        places.retain(|(uid, at)| (*uid, at) != (dir.uid, name));
        Put {
            name: name.clone(),
            has,
            places,
            make: make || mode.make,
        }
    }

    pub(super) fn placed(&mut self, placing: Placing, placed: &[Placed]) -> Result<(), Failure> {
        let Placing {
            dir,
            node,
            mode,
            entries,
        } = placing;
        let mut files = Vec::new();
        for ((name, entry), placed) in entries.into_iter().zip(placed) {
            match placed {
                Placed::Failed(errno) => {
                    self.judge(*errno, &format!("placing {name:?}"))?;
                    self.put_again(dir, node, name);
                }
                Placed::Missing => {
                    let lost = entry.links > 1 && !self.plan.is_birth(entry.uid);
                    if lost && (self.last || self.plan.missing.contains_key(&(dir.dir, entry.uid)))
                    {
                        self.anomaly(dir.dir);
                        continue;
                    }
                    let id = (dir.dir, entry.uid);
                    self.again.missing.insert(id, (dir.uid, name.clone()));
                    self.put_again(dir, node, name);
                }
                _ if entry.kind == Kind::Directory => {
                    self.placed_dir(dir.dir, (node, mode), &entry, *placed);
                }
                _ => files.extend(self.placed_file(dir, (node, mode), name, &entry, *placed)),
            }
        }
        // The first of them is filled first.
        let keys: Vec<_> = files.iter().filter_map(|f| self.key_of(*f)).collect();
        self.tree.ahead(dir.dir, &keys);
        self.work.extend(files.into_iter().rev().map(Work::Fill));
        self.release(node)
    }

    /// The whole request failed.
    pub(super) fn put_failed(
        &mut self,
        placing: Placing,
        errno: i32,
        what: &str,
    ) -> Result<(), Failure> {
        self.judge(errno, what)?;
        for (name, _) in placing.entries {
            self.put_again(placing.dir, placing.node, name);
        }
        self.release(placing.node)
    }

    /// For the next pass.
    fn put_again(&mut self, dir: Dir, node: usize, name: Name) {
        let plan = self.again.dirs.entry((dir.dir, dir.uid)).or_default();
        plan.key = Some(dir.key);
        plan.names.insert(name);
        self.nodes.spoil(node);
    }

    fn placed_dir(
        &mut self,
        dir: DirId,
        (node, mode): (usize, Mode),
        entry: &Entry,
        placed: Placed,
    ) {
        let id = (dir, entry.uid);
        self.away.remove(&id);
        let unknown = self.is_unknown(entry.uid);
        let looked = self.looked.contains(&id);
        let own = self.plan.dirs.get(&id).is_some_and(|p| p.found && p.all);
        let walk = Mode::walk(mode.make);
        let (mode, late) = match placed {
            Placed::Made => {
                // All its entries are put; what is marked in it is among them.
                if self.plan.dirs.get(&id).is_some_and(|plan| !plan.found) {
                    self.plan.dirs.remove(&id);
                }
                let whole = false;
                (Mode { whole, ..mode }, false)
            }
            Placed::Adopted => (walk, !mode.recurse && !looked),
            // It had no identity when it was looked at, or all is compared.
            Placed::Was if looked || mode.recurse => (walk, false),
            Placed::Moved if mode.recurse || self.suspect => (walk, true),
            Placed::Moved if unknown && looked && !own => (Mode::default(), false),
            Placed::Moved if unknown && !own => (walk, true),
            // Where it was, it was looked at, and has work of its own.
            _ => return,
        };
        let child = Dir {
            dir,
            key: entry.key,
            uid: entry.uid,
        };
        let forget = mode.recurse && !self.plan.dirs.contains_key(&id);
        let node = self.nodes.open(child, Some(node), forget);
        if late {
            self.late.push((node, mode));
        } else {
            self.work.push(Work::Put(Putting {
                dir: child,
                node,
                mode,
                from: From::List(0),
            }));
        }
    }

    /// What is to be done about a file that is in its place now.
    fn placed_file(
        &mut self,
        dir: Dir,
        (node, mode): (usize, Mode),
        name: Name,
        entry: &Entry,
        placed: Placed,
    ) -> Option<usize> {
        let id = (dir.dir, entry.uid);
        let place = (dir.uid, name);
        let wanted = self.plan.wanted.remove(&id);
        if placed == Placed::Made {
            self.plan.files.remove(&id);
            return Some(self.start(id, entry, vec![place], Some(node), None));
        }
        let birth = self.plan.is_birth(entry.uid);
        let doubtful = self.suspect || self.doubtful;
        let moved = placed != Placed::Was && self.peer_deep && self.order.rules.compare_moved;
        let all = placed == Placed::Adopted || mode.whole || birth || doubtful || moved;
        if !all {
            if let Some(ranges) = wanted {
                let (dir, uid) = id;
                self.plan.want(dir, uid, entry.key, None, ranges);
            }
            if let Some(plan) = self.plan.files.get_mut(&id) {
                plan.found_at(place);
            }
            return None;
        }
        self.plan.files.remove(&id);
        // By another of its names already.
        if entry.links > 1 && placed != Placed::Adopted && !self.compared.insert(id) {
            return None;
        }
        Some(self.start(id, entry, vec![place], Some(node), Some(vec![WHOLE])))
    }
}
