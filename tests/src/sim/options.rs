//! How a run is set up: what the seed decides before anything happens, and which rules are off.

use super::Time;
use crate::rng::Rng;
use std::time::Duration;
use tandem_repl::logic::dirty;
use tandem_repl::logic::member::{Isolation, MemberConfig};
use tandem_repl::logic::{resync, rules};

/// Every rule that can be taken away for a test.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Rules {
    pub member: rules::Rules,
    pub dirty: dirty::Rules,
    pub resync: resync::Rules,
    /// A mark is durable before what it covers is applied.
    pub mark_first: bool,
    /// A checkpoint's generation begins when no operation is between its mark and its local end.
    pub generation_waits: bool,
    /// The same for the marks of a resync: no copy of what has an operation not yet applied.
    pub no_half_done: bool,
    /// What an earlier session brought and nobody took is not taken in the next one.
    pub sessions_apart: bool,
    pub seat: tandem_failover::logic::rules::Rules,
}

impl Default for Rules {
    fn default() -> Self {
        Self {
            member: rules::Rules::default(),
            dirty: dirty::Rules::default(),
            resync: resync::Rules::default(),
            mark_first: true,
            generation_waits: true,
            no_half_done: true,
            sessions_apart: true,
            seat: Default::default(),
        }
    }
}

#[derive(Clone, Debug)]
pub struct Options {
    pub rules: Rules,
    pub witness: bool,
    pub isolation: Isolation,
    pub after_power_loss: Option<Duration>,
    pub stall_limit: Duration,
    pub lease: Duration,
    /// Microseconds on the wire, at least and at most.
    pub delay: (Time, Time),
    /// The same to the witness and back.
    pub witness_delay: (Time, Time),
    pub clients: usize,
    /// Pause of a client between two changes, at most.
    pub think: Time,
    /// No file is made or removed any more from then on, only written and renamed.
    pub makes_until: Time,
    /// When faults begin and stop.
    pub faults: (Time, Time),
    /// How many.
    pub fault_count: u64,
    /// Time to come together after the faults.
    pub calm: Time,
    /// Each clock runs faster by so many ten-thousandths.
    pub pace: [u64; 2],
    pub limits: dirty::Limits,
    /// An operator gives orders of his own now and then.
    pub operator: bool,
    /// Orders to serve are an operator's word.
    pub by_hand: bool,
    /// Not a rule of the product but what the network promises it: what is sent in a session
    /// arrives in order. Requests to flush overtake operations.
    pub overtakes: bool,
    /// The product's failover manager looks after the nodes, not the crude one.
    pub managed: bool,
    /// The clients' network is parted where the nodes' is.
    pub lan_parts: bool,
    pub preferred: Option<usize>,
    pub max_restarts: u32,
    /// Scripts take next to no time, and do not fail.
    pub quick_scripts: bool,
}

impl Options {
    pub fn from_seed(seed: u64) -> Self {
        let mut rng = Rng::new(seed ^ 0x5eed);
        let witness = rng.chance(60);
        let isolation = *rng.pick(&[Isolation::Wait, Isolation::Wait, Isolation::Alone]);
        let after_power_loss = match rng.below(3) {
            0 => None,
            _ if witness => Some(Duration::from_secs(1 + rng.below(8))),
            _ => None,
        };
        let slow = rng.chance(20);
        let small = rng.chance(50);
        let limits = dirty::Limits {
            hot: 4 << 20,
            warm: if small { 0 } else { 64 << 20 },
            files: if small { 4 } else { 64 },
            dirs: if small { 2 } else { 16 },
            names: if small { 6 } else { 64 },
            chunks: 64,
            names_each: if small { 2 } else { 6 },
            files_each: if small { 2 } else { 6 },
            small_files_each: 2,
        };
        let end = 4_000_000 + rng.below(16_000_000);
        Self {
            rules: Rules::default(),
            witness,
            isolation,
            after_power_loss,
            stall_limit: Duration::from_secs(3),
            lease: Duration::from_millis(2000),
            delay: if slow { (2000, 40_000) } else { (50, 1000) },
            witness_delay: (200, 20_000),
            clients: 1 + rng.index(4),
            think: *rng.pick(&[40_000, 200_000, 600_000]),
            makes_until: Time::MAX,
            faults: (3_000_000, end),
            fault_count: 1 + rng.below(12),
            calm: 40_000_000,
            pace: [0, rng.below(2)],
            limits,
            operator: rng.chance(20),
            by_hand: false,
            overtakes: false,
            managed: false,
            lan_parts: true,
            preferred: None,
            max_restarts: 0,
            quick_scripts: false,
        }
        .with_manager(seed)
    }

    /// Which manager is drawn apart, so that everything else of a seed is as it would be without.
    fn with_manager(mut self, seed: u64) -> Self {
        let mut rng = Rng::new(seed ^ 0x3a7a6e);
        self = self.product();
        if rng.chance(50) {
            self = self.crude();
        }
        self.lan_parts = rng.chance(70);
        self.preferred = rng.chance(15).then(|| rng.index(2));
        self.max_restarts = *rng.pick(&[0, 0, 3]);
        self.quick_scripts = rng.chance(40);
        self
    }

    /// The crude manager.
    pub fn crude(mut self) -> Self {
        self.managed = false;
        self.calm = 40_000_000;
        self
    }

    /// The product's manager, which may have to repeat things after a while.
    pub fn product(mut self) -> Self {
        self.managed = true;
        self.calm = 90_000_000;
        self
    }

    /// Whether two nodes may serve apart without anybody having been told to.
    pub fn may_split(&self) -> bool {
        !self.witness && self.isolation != Isolation::Wait
    }

    pub fn member(&self, n: usize) -> MemberConfig {
        let names = super::node::NAMES;
        MemberConfig {
            local: names[n].into(),
            peer: names[1 - n].into(),
            stall_limit: self.stall_limit,
            lease: self.lease,
            witness: self.witness,
            isolation: self.isolation,
            after_power_loss: self.after_power_loss,
            by_hand: self.by_hand,
            rules: self.rules.member,
        }
    }
}
