//! I1, I4 at the moment of the answer: every node of the recorded set holds the change, and counts
//! itself into that set durably; a change answered without the peer is answered under a durable
//! record that does not name it.

use super::super::node::NAMES;
use super::super::world::World;
use super::{Held, Violation, violation};
use std::collections::BTreeSet;

/// Changes each node applied for its peer. That it may lose them before the answer arrives is the
/// loss of one node, which the other survives.
#[derive(Default)]
pub struct HeldBy {
    applied: [BTreeSet<u64>; 2],
}

impl HeldBy {
    pub fn applied(&mut self, n: usize, id: u64) {
        self.applied[n].insert(id);
    }
}

pub(super) fn judge(world: &World, ack: &Held) -> Result<(), Violation> {
    let own = world.nodes[ack.node].record.read();
    let peer = world.nodes[1 - ack.node].record.read();
    let (node, other) = (NAMES[ack.node], NAMES[1 - ack.node]);
    let id = ack.id;
    if ack.sync {
        // It ends when this node's disk has done it, whatever became of the set meanwhile.
        return Ok(());
    }
    if ack.alone {
        if own.set_size() != 1 || !own.set_has(node) {
            return violation(
                "I4 shrinking is durable first",
                format!("{node} answers {id} alone, its record says {own:?}"),
            );
        }
        return Ok(());
    }
    if !world.checks.held.applied[1 - ack.node].contains(&id) {
        return violation(
            "I1 the set holds it",
            format!("{node} answers {id}, which {other} does not hold"),
        );
    }
    let Some(epoch) = own.epoch else {
        return violation("I2 epoch", format!("{node} answers {id} without an epoch"));
    };
    let counts = peer.epoch.as_ref().is_some_and(|e| e.id == epoch.id);
    if !counts && !peer.ended.contains(&epoch.id) {
        return violation(
            "I5 growth",
            format!(
                "{node} answers {id} in epoch {}, of which {other} has no record",
                epoch.id
            ),
        );
    }
    Ok(())
}
