//! I3: a node that lacks an epoch in which changes were acknowledged never begins to serve by
//! itself, nor one that is stale, or lost its page cache without leave to go on.

use super::super::node::NAMES;
use super::super::world::World;
use super::{Violation, violation};
use std::collections::BTreeMap;
use tandem_repl::ids::Id128;

#[derive(Default)]
pub struct Promote {
    acked: BTreeMap<Id128, usize>,
    was_forced: bool,
}

impl Promote {
    pub fn acked(&mut self, epoch: Id128, n: usize) {
        self.acked.insert(epoch, n);
    }

    /// An operator gave something up.
    pub fn forget(&mut self) {
        self.acked.clear();
        self.was_forced = true;
    }

    pub fn was_forced(&self) -> bool {
        self.was_forced
    }
}

pub(super) fn judge(world: &World, n: usize) -> Result<(), Violation> {
    let record = world.nodes[n].record.read();
    if record.stale {
        let what = format!("{} serves with a stale record {record:?}", NAMES[n]);
        return violation("I3 stale is not promoted", what);
    }
    if world.options.may_split() || world.checks.promote.was_forced {
        return Ok(());
    }
    let own = record.epoch.as_ref().map(|e| e.id);
    for (epoch, by) in &world.checks.promote.acked {
        if own != Some(*epoch) && !record.ended.contains(epoch) {
            return violation(
                "I3 who lacks changes is not promoted",
                format!(
                    "{} begins to serve without epoch {epoch}, in which {} answered",
                    NAMES[n], NAMES[*by]
                ),
            );
        }
    }
    Ok(())
}

/// Where nodes may not serve apart, nobody is ever asked to choose between their replicas.
pub(super) fn judge_choice(world: &World) -> Result<(), Violation> {
    if world.options.may_split() || world.checks.promote.was_forced {
        return Ok(());
    }
    let text = world.state();
    violation("I3 nothing to choose between", text)
}
