//! I2, I13: at most one node acknowledges in an epoch, and with a witness never two serve at all.
//! A node serves while its gate is open and its lease is good.

use super::super::node::NAMES;
use super::super::world::World;
use super::{Held, Violation, violation};
use std::collections::BTreeMap;
use tandem_repl::ids::Id128;
use tandem_repl::logic::member::Gate;

#[derive(Default)]
pub struct Servers {
    /// Who acknowledged in an epoch.
    acknowledged: BTreeMap<Id128, usize>,
    /// Gate open, since it was last closed.
    pub serves: [bool; 2],
}

pub(super) fn judge_ack(world: &mut World, ack: &Held) -> Result<(), Violation> {
    let n = ack.node;
    // A sync ends when this node's disk has done it, whatever became of the node meanwhile; it
    // belongs to the epoch in which it was sent.
    if let Some(epoch) = world.nodes[n].record.read().epoch.filter(|_| !ack.sync) {
        let servers = &mut world.checks.servers;
        let first = *servers.acknowledged.entry(epoch.id).or_insert(n);
        if first != n {
            return violation(
                "I2 one server in an epoch",
                format!(
                    "{} answers {} in epoch {}, in which {} did before",
                    NAMES[n], ack.id, epoch.id, NAMES[first]
                ),
            );
        }
    }
    judge_two(world)
}

/// Both serve now?
pub(super) fn judge_two(world: &World) -> Result<(), Violation> {
    let serves = |n: usize| {
        let node = &world.nodes[n];
        let daemon = node.daemon.as_ref();
        let awake = node.is_powered && node.paused.is_none() && node.hung.is_none();
        let open = daemon.is_some_and(|d| matches!(d.gate, Gate::Alone | Gate::Replicated));
        let lease = daemon.is_some_and(|d| d.member.may_acknowledge(world.clock(n)));
        awake && open && lease
    };
    if serves(0) && serves(1) && !world.options.may_split() && !world.checks.promote.was_forced() {
        return violation(
            "I13 two nodes serve",
            format!("{} and {}", world.describe(0), world.describe(1)),
        );
    }
    Ok(())
}
