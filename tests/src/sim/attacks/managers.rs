//! Attacks on what the failover managers promise.

use super::plan::Plan;
use super::{MS, SECOND};
use crate::sim::faults::Fault;
use crate::sim::sharp::Case;
use tandem_failover::logic::api::Command;

/// Two nodes with the product's managers, the first of which serves.
fn plan(seed: u64, witness: bool) -> Plan {
    let mut plan = Plan::new(seed, witness);
    plan.options = plan.options.clone().product();
    plan.options.lan_parts = true;
    plan.options.max_restarts = 0;
    plan.options.preferred = None;
    plan.options.quick_scripts = false;
    plan.options.calm = 60 * SECOND;
    plan
}

/// The nodes are parted, and the serving one does not reach the witness.
pub(super) fn managers_parted(seed: u64) -> Case {
    let mut plan = plan(seed, true);
    let length = plan.between(6000, 9000) / MS;
    plan.parted(0, 0, length);
    plan.at(0, 0, Fault::Blind(0, length * MS)).case()
}

/// The daemon that serves stands still, and its manager does not.
pub(super) fn daemon_hangs(seed: u64) -> Case {
    let mut plan = plan(seed, true);
    plan.at(0, 2000, Fault::Hang(0, 9 * SECOND)).case()
}

/// The same with quick scripts, and the peer hears at once that the connection is gone: it waits
/// for nothing but the end of its promise.
pub(super) fn daemon_hangs_apart(seed: u64) -> Case {
    let mut plan = plan(seed, true);
    plan.options.quick_scripts = true;
    plan.at(0, 0, Fault::Hang(0, 9 * SECOND));
    plan.at(5, 400, Fault::Reset);
    // Nobody hears the other's probe, either.
    for n in 0..2 {
        plan.at(600, 700, Fault::Silence(n, 9 * SECOND));
    }
    plan.case()
}

/// The daemon that serves dies; the application is slow to stop.
pub(super) fn daemon_dies(seed: u64) -> Case {
    let mut plan = plan(seed, true);
    plan.at(0, 1000, Fault::Crash(0));
    plan.at(5000, 9000, Fault::Crash(0)).case()
}

/// The serving node stands still as a whole, now and then.
pub(super) fn node_sleeps(seed: u64) -> Case {
    let mut plan = plan(seed, true);
    let time = plan.between(2500, 8000);
    plan.at(0, 2000, Fault::Pause(0, time));
    let time = plan.between(700, 4000);
    plan.at(9000, 11_000, Fault::Pause(1, time)).case()
}

/// Planned moves.
pub(super) fn managers_swap(seed: u64) -> Case {
    let mut plan = plan(seed, true);
    plan.at(0, 1000, Fault::Order(0, Command::Swap));
    plan.at(6000, 7000, Fault::Order(1, Command::Swap)).case()
}

/// Managers die in the middle of what they do.
pub(super) fn managers_die(seed: u64) -> Case {
    let mut plan = plan(seed, true);
    for n in 0..2 {
        plan.at(0, 3000, Fault::Order(n, Command::Restart));
        let outputs = plan.rng.below(8);
        plan.at(0, 3000, Fault::ManagerDies(n, outputs));
        plan.at(4000, 8000, Fault::Order(n, Command::Stopstart));
        let outputs = plan.rng.below(8);
        plan.at(4000, 8000, Fault::ManagerDies(n, outputs));
    }
    plan.case()
}

/// Orders that only have to be kept.
pub(super) fn managers_told(seed: u64) -> Case {
    let mut plan = plan(seed, true);
    plan.at(0, 1000, Fault::Order(0, Command::Failover(false)));
    plan.at(0, 1000, Fault::Order(1, Command::Maintenance(true)));
    plan.case()
}
