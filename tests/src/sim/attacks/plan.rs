//! How an attack is put together: two nodes in sync, and faults at times that the seed varies.

use super::{MS, PRIM, SECOND};
use crate::rng::Rng;
use crate::sim::Time;
use crate::sim::faults::{Fault, Schedule};
use crate::sim::options::Options;
use crate::sim::sharp::Case;
use tandem_repl::logic::member::Isolation;

/// Faults of one run, drawn as it goes.
pub(super) struct Plan {
    pub(super) rng: Rng,
    pub(super) seed: u64,
    pub(super) options: Options,
    pub(super) faults: Vec<(Time, Fault)>,
    /// When the attack begins.
    pub(super) at: Time,
}

impl Plan {
    /// Two nodes in sync, the first of which serves, and busy clients.
    pub(super) fn new(seed: u64, witness: bool) -> Self {
        let mut rng = Rng::new(seed ^ 0xa77a);
        let mut options = Options::from_seed(seed).crude();
        options.witness = witness;
        options.isolation = Isolation::Wait;
        options.after_power_loss = None;
        options.operator = false;
        options.delay = (50, 1000);
        options.clients = 4;
        options.think = 20 * MS;
        options.calm = 30 * SECOND;
        let at = 6 * SECOND + rng.below(2 * SECOND);
        options.faults = (3 * SECOND, at + 12 * SECOND);
        Self {
            rng,
            seed,
            options,
            faults: Vec::new(),
            at,
        }
    }

    /// A fault so long after the beginning, in milliseconds, at least and at most.
    pub(super) fn at(&mut self, least: Time, most: Time, fault: Fault) -> &mut Self {
        let after = least + self.rng.below(most - least + 1);
        self.faults.push((self.at + after * MS, fault));
        self
    }

    /// A promise ends with its lease: both nodes then ask the witness at the same moment. With the
    /// grace one has given up when the other begins, and the attack finds nothing. Rare seeds of a
    /// resync were found with it, too; they keep their timing.
    pub(super) fn with_short_promises(seed: u64) -> Self {
        let mut plan = Self::new(seed, true);
        plan.options.rules.member.lease_grace = false;
        plan
    }

    pub(super) fn between(&mut self, least: Time, most: Time) -> Time {
        (least + self.rng.below(most - least + 1)) * MS
    }

    /// The manager of that node wants to serve, all the time.
    pub(super) fn insists(&mut self, n: usize, from: Time, to: Time) -> &mut Self {
        for moment in (from..to).step_by(100) {
            self.at(moment, moment + 90, Fault::Word(n, PRIM));
        }
        self
    }

    /// No message between the nodes.
    pub(super) fn parted(&mut self, least: Time, most: Time, length: Time) -> &mut Self {
        let after = least + self.rng.below(most - least + 1);
        for n in 0..2 {
            self.at(after, after, Fault::Silence(n, length * MS));
        }
        self
    }

    /// Marks are made and dropped as often as can be.
    pub(super) fn busy_marks(&mut self) {
        self.options.limits.hot = 1 << 17;
        self.options.limits.warm = 0;
        self.options.clients = 3;
        self.options.think = 250 * MS;
    }

    pub(super) fn case(&mut self) -> Case {
        let mut faults = std::mem::take(&mut self.faults);
        faults.sort_by_key(|(at, _)| *at);
        Case {
            seed: self.seed,
            options: self.options.clone(),
            schedule: Schedule(faults),
        }
    }
}
