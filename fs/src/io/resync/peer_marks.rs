//! This node's marks in words the peer understands: ways of identities and names from the root.

use super::super::sys::handle_at;
use super::ground::{Ground, names};
use super::parking;
use std::collections::HashMap;
use std::os::fd::AsRawFd;
use tandem_repl::ids::{DirId, Key, Uid};
use tandem_repl::logic::dirty::Marks;
use tandem_repl::logic::resync::messages::{Kind, PeerMark, PeerTouch};

/// Names of one mark.
const NAMES: usize = 64;
/// Ranges of one mark.
const RANGES: usize = 512;

type Way = Vec<(Uid, Vec<u8>)>;

struct Walk<'a> {
    ground: &'a Ground,
    /// Ways of directories; `None`: it is gone.
    known: HashMap<(DirId, Key), Option<Way>>,
    /// Where an interrupted resync parked things.
    parking: HashMap<DirId, Option<Key>>,
    told: Vec<PeerMark>,
}

/// Everything marked here; true: everything may differ. What is gone is told by the name that led
/// to it.
pub(super) fn of(ground: &Ground, marks: &Marks) -> (bool, Vec<PeerMark>) {
    if marks.everything {
        return (true, Vec::new());
    }
    let mut walk = Walk {
        ground,
        known: HashMap::new(),
        parking: HashMap::new(),
        told: Vec::new(),
    };
    for mark in &marks.dirs {
        let Some(way) = walk.way(mark.dir, mark.key) else {
            continue;
        };
        let (dir, deep) = (mark.dir, mark.deep || marks.doubtful);
        if mark.all || mark.deep {
            walk.tell(dir, &way, PeerTouch::Entries { deep });
        }
        for some in mark.names.chunks(NAMES) {
            let names = some.iter().map(|n| n.to_vec()).collect();
            walk.tell(dir, &way, PeerTouch::Names(names));
        }
        let some: &[_] = if mark.all || mark.deep {
            &[]
        } else {
            &mark.names
        };
        walk.births(marks, mark.dir, mark.key, &way, some);
        if marks.doubtful {
            walk.files(mark.dir, mark.key, &way, some);
        }
    }
    for n in 0..ground.volumes.len() {
        // And what an interrupted resync took away from there.
        let Ok(dir) = u16::try_from(n).map(DirId) else {
            break;
        };
        if let Some(parking) = walk.parking(dir) {
            walk.births(marks, dir, parking, &Way::new(), &[]);
        }
    }
    for mark in &marks.files {
        let Some((way, several)) = walk.file_way(mark.dir, mark.key, mark.place.as_ref()) else {
            if ground.is_alive(mark.dir, mark.key) {
                // It lost the name it was known by, and has another.
                return (true, Vec::new());
            }
            continue;
        };
        let dir = mark.dir;
        if marks.doubtful && mark.place.is_some() {
            walk.tell_file(dir, &way, several, PeerTouch::Whole);
            continue;
        }
        for some in mark.ranges.chunks(RANGES) {
            walk.tell_file(dir, &way, several, PeerTouch::Data(some.to_vec()));
        }
        if mark.ranges.is_empty() {
            walk.tell_file(dir, &way, several, PeerTouch::Data(Vec::new()));
        }
    }
    (false, walk.told)
}

impl Walk<'_> {
    /// Of a file.
    fn tell_file(&mut self, dir: DirId, way: &Way, several: bool, what: PeerTouch) {
        self.tell(dir, way, what);
        if let Some(mark) = self.told.last_mut() {
            mark.several = several;
        }
    }

    fn tell(&mut self, dir: DirId, way: &Way, what: PeerTouch) {
        let way = way.clone();
        self.told.push(PeerMark {
            dir,
            way,
            several: false,
            what,
        });
    }

    /// What was born here since the last checkpoint has no marks of its own: it is behind marked
    /// names, and, without any mark, below directories that were born. No names: all of the
    /// directory.
    fn births(&mut self, marks: &Marks, dir: DirId, key: Key, way: &Way, some: &[Box<[u8]>]) {
        if marks.births.is_empty() {
            return;
        }
        let mut born = vec![(key, way.clone(), some.to_vec())];
        while let Some((key, way, some)) = born.pop() {
            let listed = match &some[..] {
                [] => {
                    let opened = self.ground.open(dir, key);
                    let all = opened.ok().and_then(|fd| names(&fd, 0, usize::MAX).ok());
                    all.map(|(names, _)| names).unwrap_or_default()
                }
                some => some.to_vec(),
            };
            for name in listed {
                let Ok(Some(entry)) = self.ground.look(dir, key, &name) else {
                    continue;
                };
                let is_birth = |uid| marks.births.iter().any(|births| births.has(uid));
                let Some(uid) = entry.uid.filter(|uid| is_birth(*uid)) else {
                    continue;
                };
                let mut way = way.clone();
                way.push((uid, name.to_vec()));
                self.tell(dir, &way, PeerTouch::Whole);
                if entry.kind == Kind::Directory {
                    self.tell(dir, &way, PeerTouch::Entries { deep: false });
                    born.push((entry.handle.key(), way, Vec::new()));
                }
            }
        }
    }

    /// The content of what is at these names may differ.
    fn files(&mut self, dir: DirId, key: Key, way: &Way, some: &[Box<[u8]>]) {
        for name in some {
            let Ok(Some(entry)) = self.ground.look(dir, key, name) else {
                continue;
            };
            if let Some(uid) = entry.uid.filter(|_| entry.kind == Kind::File) {
                let mut way = way.clone();
                way.push((uid, name.to_vec()));
                self.tell_file(dir, &way, entry.links > 1, PeerTouch::Whole);
            }
        }
    }

    /// The way to a file, and whether it has other names.
    fn file_way(
        &mut self,
        dir: DirId,
        key: Key,
        place: Option<&(Key, Box<[u8]>)>,
    ) -> Option<(Way, bool)> {
        let Some((parent, name)) = place else {
            // A directory's own attributes.
            return Some((self.way(dir, key)?, false));
        };
        let entry = self.ground.look(dir, *parent, name).ok()??;
        if entry.handle.key() != key {
            return None;
        }
        let mut way = self.way(dir, *parent)?;
        way.push((entry.uid?, name.to_vec()));
        let several = entry.kind != Kind::Directory && entry.links > 1;
        Some((way, several))
    }

    /// Where things are parked.
    fn parking(&mut self, dir: DirId) -> Option<Key> {
        let ground = self.ground;
        let found = self.parking.entry(dir).or_insert_with(|| {
            let fd = parking::parked(ground.volume(dir).ok()?, false).ok()??;
            Some(handle_at(fd.as_raw_fd(), c"").ok()?.key())
        });
        *found
    }

    /// The way to a directory. What an interrupted resync parked will be placed again, and no
    /// mark of the peer tells what differs in it: its way begins there, by an identity that both
    /// ends find.
    fn way(&mut self, dir: DirId, key: Key) -> Option<Way> {
        let root = self.ground.volume(dir).ok()?.nodes.root_key();
        let parking = self.parking(dir);
        // Upwards to one that is known, then down again.
        let mut steps = Vec::new();
        let mut at = key;
        let mut way = loop {
            if at == root || Some(at) == parking {
                break Some(Vec::new());
            }
            if let Some(known) = self.known.get(&(dir, at)) {
                break known.clone();
            }
            let step = self.ground.above(dir, at).ok().and_then(|(parent, name)| {
                let entry = self.ground.look(dir, parent, &name).ok()??;
                Some((at, parent, entry.uid?, name.to_vec()))
            });
            match step {
                Some(step) => {
                    at = step.1;
                    steps.push(step);
                }
                None => break None,
            }
        };
        for (key, _, uid, name) in steps.into_iter().rev() {
            if let Some(way) = &mut way {
                way.push((uid, name));
            }
            self.known.insert((dir, key), way.clone());
        }
        if way.is_none() {
            self.known.insert((dir, key), None);
        }
        way
    }
}
