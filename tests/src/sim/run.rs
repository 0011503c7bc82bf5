//! One run: a seed, its faults, the calm after them, and what was found.

use super::check::Violation;
use super::faults::Schedule;
use super::options::Options;
use super::world::{Stats, World};

/// What a run was.
pub struct Outcome {
    pub seed: u64,
    pub violation: Option<Violation>,
    pub stats: Stats,
    pub fingerprint: u64,
    pub trace: Vec<String>,
    pub schedule: Schedule,
}

/// Runs a seed as it is.
pub fn run(seed: u64, tracing: bool) -> Outcome {
    let options = Options::from_seed(seed);
    let schedule = Schedule::draw(seed, &options);
    run_with(seed, options, schedule, tracing)
}

/// Runs a seed with the crude manager, which was the only one when the kept seeds were found.
pub fn run_crude(seed: u64) -> Outcome {
    let options = Options::from_seed(seed).crude();
    let schedule = Schedule::draw(seed, &options);
    run_with(seed, options, schedule, false)
}

pub fn run_with(seed: u64, options: Options, schedule: Schedule, tracing: bool) -> Outcome {
    let (end, calm) = (options.faults.1, options.calm);
    let mut world = World::new(seed, options, tracing);
    world.schedule(&schedule);
    world.run_until(end);
    world.calm_down();
    world.run_until(end + calm);
    if world.violation.is_none() {
        world.look_at_the_end();
    }
    Outcome {
        seed,
        violation: world.violation.clone(),
        stats: world.stats,
        fingerprint: world.fingerprint(),
        trace: std::mem::take(&mut world.lines),
        schedule,
    }
}

/// Faults without which the run still fails in the same way are taken out of the schedule.
pub fn shrink(seed: u64, options: &Options, schedule: &Schedule, oracle: &str) -> Schedule {
    let mut best = schedule.clone();
    let mut at = 0;
    while at < best.0.len() {
        let mut fewer = best.clone();
        fewer.0.remove(at);
        let outcome = run_with(seed, options.clone(), fewer.clone(), false);
        if outcome.violation.is_some_and(|v| v.oracle == oracle) {
            best = fewer;
        } else {
            at += 1;
        }
    }
    best
}
