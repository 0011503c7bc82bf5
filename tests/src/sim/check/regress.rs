//! I8: a resync never replaces newer bytes by older ones.

use super::super::change::Reg;
use super::super::node::NAMES;
use super::super::tree::{Ino, Tree};
use super::super::world::World;
use super::{Violation, violation};
use std::collections::BTreeMap;
use std::sync::{Arc, Mutex, PoisonError};

#[derive(Default)]
pub struct Regress;

/// The target before a request.
pub struct Before(BTreeMap<(Ino, u64), u64>);

impl Regress {
    pub fn before(&self, tree: &Arc<Mutex<Tree>>) -> Before {
        let tree = tree.lock().unwrap_or_else(PoisonError::into_inner);
        Before(tree.contents())
    }
}

pub(super) fn judge(world: &World, n: usize, before: &Before) -> Result<(), Violation> {
    let tree = world.nodes[n].tree();
    for (at, new) in tree.contents() {
        let Some(old) = before.0.get(&at).filter(|old| **old != new) else {
            continue;
        };
        let Some(uid) = tree.get(at.0).ok().and_then(|i| i.meta.uid) else {
            continue;
        };
        let reg = Reg::Page(uid, at.1);
        let place = |value: u64| world.checks.acked.place(1 - n, &reg, Some((value, 0)));
        if let (Some(was), Some(is)) = (place(*old), place(new))
            && is < was
        {
            return violation(
                "I8 resync never goes back",
                format!("{}: {reg:?} was {old} and became {new}", NAMES[n]),
            );
        }
    }
    Ok(())
}
