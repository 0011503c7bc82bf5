//! Attacks on what is on a disk: flushes that fail or do not happen, and marks of what a power cut
//! took.

use super::plan::Plan;
use super::{MS, SECOND};
use crate::sim::faults::Fault;
use crate::sim::manager::Word;
use crate::sim::sharp::Case;

/// The serving node is alone when its disk fails for a moment; the other comes back, they make a
/// checkpoint, and the power of the first fails.
pub(super) fn flush_fails_alone(seed: u64) -> Case {
    let mut plan = Plan::new(seed, true);
    plan.busy_marks();
    plan.at(0, 0, Fault::Blind(1, 5 * SECOND));
    plan.parted(0, 0, 4500);
    plan.at(2800, 3500, Fault::SyncFails(0, 900 * MS));
    plan.at(5500, 9500, Fault::Cut(0, 400 * MS));
    plan.case()
}

/// The serving node loses its power, and pages of files in directories that it marked as a whole.
/// The other renames some of them; resyncs that move them are interrupted.
pub(super) fn moved_then_interrupted(seed: u64) -> Case {
    let mut plan = Plan::with_short_promises(seed);
    plan.options.delay = (5 * MS, 30 * MS);
    plan.options.think = *plan.rng.pick(&[200, 400]) * MS;
    plan.options.calm = 16 * SECOND;
    plan.at = 12 * SECOND + plan.rng.below(SECOND);
    plan.options.faults.1 = plan.at + 12 * SECOND;
    plan.options.makes_until = 5 * SECOND;
    // One checkpoint after the last file was made, and none while few directories are marked.
    plan.options.limits.hot = 1 << 22;
    plan.options.limits.warm = 0;
    plan.options.limits.files = 64;
    plan.options.limits.dirs = 16;
    plan.options.limits.names = 64;
    plan.options.limits.names_each = 6;
    let each = 1 + plan.rng.below(3) as u32;
    plan.options.limits.files_each = each;
    plan.options.limits.small_files_each = each;
    let gone = 2000 + plan.rng.below(1500);
    plan.at(0, 0, Fault::Cut(0, gone * MS));
    plan.insists(1, 2000, 5000);
    for round in 0..2 {
        let at = gone + 500 + round * 600;
        plan.at(at, at + 600, Fault::Reset);
    }
    plan.case()
}

/// Both are stopped at once, so that neither goes on; then power fails.
pub(super) fn cut_after_a_stop(seed: u64) -> Case {
    let mut plan = Plan::new(seed, true);
    plan.at(0, 40, Fault::Word(0, Word::Stop));
    plan.at(0, 40, Fault::Word(1, Word::Stop));
    plan.at(3050, 3500, Fault::Cut(0, 400 * MS));
    plan.at(3050, 3500, Fault::Cut(1, 400 * MS));
    plan.case()
}
