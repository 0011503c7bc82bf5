//! I8: a resync never replaces newer bytes by older ones.

use super::super::change::{Reg, Value};
use super::super::node::NAMES;
use super::super::tree::Tree;
use super::super::world::World;
use super::{Violation, violation};
use std::collections::BTreeMap;
use std::sync::{Arc, Mutex, PoisonError};

#[derive(Default)]
pub struct Regress;

/// The target before a request.
pub struct Before(BTreeMap<Reg, Value>);

impl Regress {
    pub fn before(&self, tree: &Arc<Mutex<Tree>>) -> Before {
        let tree = tree.lock().unwrap_or_else(PoisonError::into_inner);
        Before(tree.registers())
    }
}

pub(super) fn judge(world: &World, n: usize, before: &Before) -> Result<(), Violation> {
    let now = world.nodes[n].tree().registers();
    for (reg, old) in &before.0 {
        let Reg::Page(..) = reg else { continue };
        let Some(new) = now.get(reg).filter(|new| *new != old) else {
            continue;
        };
        let acked = &world.checks.acked;
        let places = (acked.place(1 - n, reg, *old), acked.place(1 - n, reg, *new));
        if let (Some(was), Some(is)) = places
            && is < was
        {
            return violation(
                "I8 resync never goes back",
                format!("{}: {reg:?} was {old:?} and became {new:?}", NAMES[n]),
            );
        }
    }
    Ok(())
}
