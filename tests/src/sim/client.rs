//! Applications: clients that do one change after the other on whichever node serves. Each write
//! has a value of its own, names and files are few, so that changes meet.

use super::Time;
use super::change::Change;
use super::node::{Node, name};
use super::serve::locks;
use super::tree::{Ino, Name, PAGE, ROOT, Tree};
use super::world::{Event, World};
use crate::rng::Rng;
use tandem_repl::ids::Uid;
use tandem_repl::logic::resync::messages::Kind;

/// Pages that are written: neighbours, and some far apart, so that grains are left out.
const PAGES: [u64; 8] = [0, 1, 2, 7, 8, 9, 40, 41];

#[derive(Clone, Debug, Default)]
pub struct Client {
    /// Waits for an answer.
    pub is_waiting: bool,
}

/// What was in the directory before the product came: files without identities.
pub fn furnish(tree: &mut Tree, rng: &mut Rng) {
    let mut dirs = vec![ROOT];
    for number in 0..6 {
        let parent = *rng.pick(&dirs);
        let kind = if rng.chance(40) {
            Kind::Directory
        } else {
            Kind::File
        };
        let Ok(ino) = tree.make(parent, &name(number), kind.clone(), None) else {
            continue;
        };
        if kind == Kind::Directory {
            dirs.push(ino);
        } else {
            let _ = tree.write(ino, 0, 1_000_000_000 + number);
        }
    }
    tree.sync_all();
}

impl World {
    pub fn on_client(&mut self, client: usize) {
        if self.clients[client].is_waiting || self.is_quiet() {
            return;
        }
        let again = self.now + 30_000;
        let serving: Vec<usize> = (0..2)
            .filter(|n| self.is_serving(*n) && self.nodes[*n].paused.is_none())
            .collect();
        if serving.is_empty() {
            return self.push(again, Event::Client(client));
        }
        let n = *self.rng_client.pick(&serving);
        let value = self.next_value;
        let makes = self.now < self.options.makes_until;
        let Some(change) = choose(&mut self.nodes[n], &mut self.rng_client, (makes, value)) else {
            return self.push(again, Event::Client(client));
        };
        self.next_value += 1;
        self.clients[client].is_waiting = true;
        self.stats.issued += 1;
        self.issue(n, client, change);
    }

    /// The applications are still, so that the map can empty.
    fn is_quiet(&self) -> bool {
        self.calm && self.now > self.options.faults.1 + self.options.calm / 4
    }

    pub fn client_answered(&mut self, client: usize, _n: usize, _: Result<(), i32>, _: Time) {
        self.clients[client].is_waiting = false;
        let think = 1000 + self.rng_client.below(self.options.think);
        self.push(self.now + think, Event::Client(client));
    }

    /// The daemon died under it: it will never know what became of its change.
    pub fn client_lost(&mut self, client: usize) {
        self.clients[client].is_waiting = false;
        let pause = 10_000 + self.rng_client.below(200_000);
        self.push(self.now + pause, Event::Client(client));
    }
}

/// The next change, if what it needs is free.
fn choose(node: &mut Node, rng: &mut Rng, what: (bool, u64)) -> Option<Change> {
    let locked = &node.daemon.as_ref()?.locked;
    let mut tree = node.tree.lock().ok()?;
    let change = pick(&mut tree, rng, what)?;
    if let (
        false,
        Change::Rename {
            new_dir, new_name, ..
        },
    ) = (what.0, &change)
    {
        // It would take the place of another.
        let at = tree.find(*new_dir)?;
        tree.lookup(at, new_name).ok()?.is_none().then_some(())?;
    }
    let needed = locks(&change, &tree);
    needed
        .iter()
        .all(|uid| !locked.contains(uid))
        .then_some(change)
}

fn pick(tree: &mut Tree, rng: &mut Rng, (makes, value): (bool, u64)) -> Option<Change> {
    let places = tree.places();
    let is_dir = |tree: &Tree, ino: Ino| {
        let inode = tree.get(ino);
        inode.is_ok_and(|i| i.meta.kind == Kind::Directory)
    };
    let dirs: Vec<(Ino, Name, Ino)> = places
        .iter()
        .filter(|(_, _, ino)| is_dir(tree, *ino))
        .cloned()
        .collect();
    let files: Vec<(Ino, Name, Ino)> = places
        .iter()
        .filter(|(_, _, ino)| !is_dir(tree, *ino))
        .cloned()
        .collect();
    let mut parents: Vec<Ino> = dirs.iter().map(|(_, _, ino)| *ino).collect();
    parents.push(ROOT);
    let parent = *rng.pick(&parents);
    let dir = tree.uid(parent).ok()?;
    let new_name = name(rng.next_u64());
    let roll = match rng.below(100) {
        roll if makes => roll,
        roll @ 0..12 => 12 + roll,
        79..88 => 88,
        98.. => 12,
        roll => roll,
    };
    if files.is_empty() || roll < 12 {
        let dirs_allowed = dirs.len() < 5;
        let kind = if dirs_allowed && rng.chance(25) {
            Kind::Directory
        } else {
            Kind::File
        };
        let uid = Uid::NONE;
        let name = new_name;
        return Some(Change::Make {
            uid,
            dir,
            name,
            kind,
        });
    }
    let (at, old, ino) = rng.pick(&files).clone();
    let uid = tree.uid(ino).ok()?;
    let at = tree.uid(at).ok()?;
    Some(match roll {
        12..58 => Change::Write {
            uid,
            page: *rng.pick(&PAGES),
            value,
        },
        58..63 => Change::Truncate {
            uid,
            size: PAGE * *rng.pick(&PAGES),
        },
        63..67 => Change::Mode {
            uid,
            mode: (value % 0o777) as u32,
        },
        67..77 => Change::Fsync { uid },
        77..79 => Change::SyncAll,
        79..83 => Change::Link {
            uid,
            dir,
            name: new_name,
        },
        83..88 => Change::Unlink { dir: at, name: old },
        88..94 => Change::Rename {
            dir: at,
            name: old,
            new_dir: dir,
            new_name,
        },
        94..98 if !dirs.is_empty() => {
            let (above, name, _) = rng.pick(&dirs).clone();
            Change::Rename {
                dir: tree.uid(above).ok()?,
                name,
                new_dir: dir,
                new_name,
            }
        }
        98.. if !dirs.is_empty() => {
            let (above, name, _) = rng.pick(&dirs).clone();
            let dir = tree.uid(above).ok()?;
            Change::Rmdir { dir, name }
        }
        _ => Change::SyncAll,
    })
}
