//! I12: no wait without an end.

use super::super::Time;
use super::super::node::NAMES;
use super::super::world::World;
use super::{Violation, violation};

const ORACLE: &str = "I12 every wait ends";
/// Longest time of an application's change: the stall limit, the lease, the witness' patience, the
/// records, and some room.
const CHANGE: Time = 20_000_000;
/// Longest time of an order.
const ORDER: Time = 60_000_000;

pub(super) fn judge(world: &World) -> Result<(), Violation> {
    for (n, node) in world.nodes.iter().enumerate() {
        let Some(daemon) = &node.daemon else { continue };
        if node.paused.is_some() || node.hung.is_some() || node.ills.slow > 1 {
            continue;
        }
        for job in daemon.jobs.values() {
            if world.now.saturating_sub(job.issued) > CHANGE {
                let text = format!(
                    "{}: change {} waits since {} ms in {:?}\n{}",
                    NAMES[n],
                    job.id,
                    job.issued / 1000,
                    job.stage,
                    world.state()
                );
                return violation(ORACLE, text);
            }
        }
        for (since, word) in daemon.waiters.values() {
            if world.now.saturating_sub(*since) > ORDER {
                let text = format!(
                    "{}: order {word:?} waits since {} ms\n{}",
                    NAMES[n],
                    since / 1000,
                    world.state()
                );
                return violation(ORACLE, text);
            }
        }
    }
    Ok(())
}

/// After the calm nothing waits at all.
pub(super) fn judge_end(world: &World) -> Result<(), Violation> {
    for (n, node) in world.nodes.iter().enumerate() {
        let Some(daemon) = &node.daemon else { continue };
        if !daemon.jobs.is_empty() || !daemon.waiters.is_empty() {
            let text = format!("{} still waits\n{}", NAMES[n], world.state());
            return violation(ORACLE, text);
        }
    }
    Ok(())
}
