//! I6: whatever differs between the replicas is covered by the union of both nodes' durable marks,
//! at every moment since they were equal for the first time.

use super::super::change::{DIR, Reg};
use super::super::tree::{PAGE, Tree};
use super::super::world::World;
use super::{Violation, violation};
use std::sync::PoisonError;
use tandem_repl::ids::Uid;
use tandem_repl::logic::dirty::{Map, Marks};

/// What a node's journal says, as it would be read after a power cut.
fn marks(world: &World, n: usize) -> Marks {
    let (limits, rules) = (world.options.limits, world.options.rules.dirty);
    let mut map = Map::new(2, limits, rules);
    map.replay(&world.nodes[n].journal.durable());
    map.marks()
}

/// The marks of both. Where a resync of a node with deep marks was interrupted, what stands at any
/// name that either has marked is compared.
fn with_doubts(world: &World) -> [Marks; 2] {
    let mut both = [marks(world, 0), marks(world, 1)];
    let doubt = (0..2).any(|n| {
        let node = &world.nodes[n];
        let notes = node.notes.lock().unwrap_or_else(PoisonError::into_inner);
        notes.unfinished.is_some() && both[n].dirs.iter().any(|dir| dir.deep)
    });
    let walked = world.nodes.iter().any(|node| {
        let notes = node.notes.lock().unwrap_or_else(PoisonError::into_inner);
        notes.unfinished.is_some_and(|(_, _, walked)| walked)
    });
    for marks in &mut both {
        marks.doubtful |= doubt;
        marks.everything |= walked;
    }
    both
}

pub(super) fn judge(world: &World, when: &str) -> Result<(), Violation> {
    let trees = [world.nodes[0].tree(), world.nodes[1].tree()];
    let found = [trees[0].registers(), trees[1].registers()];
    let mut both: Option<[Marks; 2]> = None;
    let regs = found[0].keys().chain(found[1].keys());
    for reg in regs {
        let values = [found[0].get(reg), found[1].get(reg)];
        if values[0] == values[1] {
            continue;
        }
        let mode = Reg::Mode(reg.uid());
        if !found[0].contains_key(&mode) || !found[1].contains_key(&mode) {
            // One of them has it nowhere: a name above it differs.
            continue;
        }
        let both = both.get_or_insert_with(|| with_doubts(world));
        // Bytes behind the end of the file on one node go with its size.
        let size = Reg::Size(reg.uid());
        let beyond = |n: usize| match (reg, found[n].get(&size)) {
            (Reg::Page(_, page), Some(Some((size, _)))) => page * PAGE >= *size,
            _ => false,
        };
        let reg = if beyond(0) || beyond(1) { &size } else { reg };
        let covered = |n: usize| covers(&both[n], &trees[n], reg);
        if !covered(0) && !covered(1) {
            return violation(
                "I6 marks cover what differs",
                format!(
                    "when {when}: {reg:?} is {:?} and {:?}; marked are {:?} and {:?}",
                    values[0], values[1], both[0], both[1]
                ),
            );
        }
    }
    Ok(())
}

fn is_born(marks: &Marks, uid: Uid) -> bool {
    marks
        .births
        .iter()
        .any(|b| b.origin == uid.origin && uid.number >= b.from)
}

fn covers(marks: &Marks, tree: &Tree, reg: &Reg) -> bool {
    let uid = reg.uid();
    if marks.everything || is_born(marks, uid) {
        return true;
    }
    if let Reg::Entry(_, name) = reg {
        // A node names what it marks by its own keys; the identity may not be known.
        let key = tree.find(uid).map(Tree::key);
        let mut dirs = marks.dirs.iter().filter(|d| d.dir == DIR);
        return dirs.any(|d| {
            let this = d.uid == uid || Some(d.key) == key;
            this && (d.all || d.deep || d.names.iter().any(|n| n == name))
        });
    }
    let own = marks.files.iter().any(|file| {
        (file.uid == uid || tree.find(uid).map(Tree::key) == Some(file.key))
            && match reg {
                Reg::Page(..) if marks.doubtful => true,
                Reg::Page(_, page) => file
                    .ranges
                    .iter()
                    .any(|(at, len)| *at <= page * PAGE && (page + 1) * PAGE <= at + len),
                _ => true,
            }
    });
    own || in_deep(marks, tree, uid)
}

/// Any name of the file is in a directory all of whose files are marked, or may be: then at a
/// marked name.
fn in_deep(marks: &Marks, tree: &Tree, uid: Uid) -> bool {
    let Some(ino) = tree.find(uid) else {
        return false;
    };
    let places = tree.places();
    marks.dirs.iter().any(|dir| {
        let at = Tree::ino(dir.key);
        places.iter().any(|(p, name, child)| {
            let named = dir.all || dir.names.contains(name);
            *p == at && *child == ino && (dir.deep || (marks.doubtful && named))
        })
    })
}
