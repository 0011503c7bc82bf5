//! Many runs: until one fails, or the seeds or the time are used up.

use super::faults::Schedule;
use super::options::{Options, Rules};
use super::run::{Outcome, run_with};
use std::time::{Duration, Instant};

/// Who is looked for, and for how long.
#[derive(Clone, Copy, Debug)]
pub struct Hunt {
    pub first: u64,
    pub seeds: u64,
    pub limit: Duration,
    pub rules: Rules,
}

/// What was found.
pub struct Bag {
    pub runs: u64,
    pub found: Option<Outcome>,
}

impl Hunt {
    /// Runs seeds one after the other; `change` may set the options of each.
    pub fn go(&self, change: impl Fn(&mut Options)) -> Bag {
        let begun = Instant::now();
        let mut runs = 0;
        for seed in self.first..self.first.saturating_add(self.seeds) {
            if begun.elapsed() > self.limit {
                break;
            }
            let mut options = Options::from_seed(seed);
            options.rules = self.rules;
            change(&mut options);
            let schedule = Schedule::draw(seed, &options);
            let outcome = run_with(seed, options, schedule, false);
            runs += 1;
            if outcome.violation.is_some() {
                return Bag {
                    runs,
                    found: Some(outcome),
                };
            }
        }
        Bag { runs, found: None }
    }
}
