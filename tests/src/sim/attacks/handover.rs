//! Attacks on the order of words between the nodes and the witness when a role or the set changes.

use super::plan::Plan;
use super::{MS, SECOND};
use crate::sim::faults::Fault;
use crate::sim::manager::Word;
use crate::sim::sharp::Case;

/// The follower asks for a swap and is stopped for a while; it reads the handover when the old
/// server has long gone on alone.
pub(super) fn handover_read_late(seed: u64) -> Case {
    let mut plan = Plan::new(seed, true);
    plan.at(0, 0, Fault::Word(1, Word::Swap));
    plan.at(1, 25, Fault::Pause(1, 7 * SECOND));
    plan.insists(0, 3000, 6500).case()
}

/// A swap while much is being written, on a slow line.
pub(super) fn swaps_under_load(seed: u64) -> Case {
    let mut plan = Plan::new(seed, false);
    plan.options.delay = (5 * MS, 30 * MS);
    plan.at(0, 100, Fault::Word(0, Word::Swap)).case()
}

/// The follower has left when the handover arrives that was sent before.
pub(super) fn leaves_in_a_swap(seed: u64) -> Case {
    let mut plan = Plan::new(seed, false);
    plan.options.delay = (5 * MS, 20 * MS);
    plan.at(0, 0, Fault::Word(1, Word::Stop));
    plan.at(0, 60, Fault::Word(0, Word::Swap)).case()
}

/// Both are stopped at once: the words that they leave cross.
pub(super) fn both_leave(seed: u64) -> Case {
    let mut plan = Plan::new(seed, false);
    plan.options.delay = (20 * MS, 40 * MS);
    // The server waits for the follower's flush first.
    plan.at(0, 10, Fault::Word(0, Word::Stop));
    plan.at(40, 160, Fault::Word(1, Word::Stop)).case()
}

/// The nodes are parted, and the witness comes back from a backup when it has granted one of them.
pub(super) fn witness_forgets(seed: u64) -> Case {
    let mut plan = Plan::new(seed, true);
    plan.parted(0, 0, 7000);
    plan.at(2000, 4500, Fault::WitnessRestored);
    plan.insists(1, 1500, 6000).case()
}
