//! Two nodes and the networks between them, which lose what the test says.

#![allow(
    clippy::disallowed_methods,
    reason = "tests need some instant to begin with"
)]

use super::*;
use std::collections::BTreeMap;

const MS: Duration = Duration::from_millis(1);

/// SplitMix64: the same sequence for the same seed.
struct Rng(u64);

impl Rng {
    fn below(&mut self, n: u64) -> u64 {
        self.0 = self.0.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let mut z = self.0;
        z = (z ^ (z >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        z = (z ^ (z >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        (z ^ (z >> 31)) % n
    }
}

/// One direction of a network.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
struct Wire {
    loss_percent: u64,
    delay_ms: u64,
}

const GOOD: Wire = Wire {
    loss_percent: 0,
    delay_ms: 0,
};
const DEAD: Wire = Wire {
    loss_percent: 100,
    delay_ms: 0,
};

const fn lossy(loss_percent: u64) -> Wire {
    Wire {
        loss_percent,
        delay_ms: 0,
    }
}

struct World {
    rng: Rng,
    now: Instant,
    pace: Pace,
    nodes: [Paths; 2],
    /// By sender, then path.
    wires: [Vec<Wire>; 2],
    /// Under way: by arrival and order, to whom, on which path.
    flying: BTreeMap<(Instant, u64), (usize, Probe)>,
    order: u64,
    /// Does not read: what arrives stays where it is.
    stalled: [bool; 2],
    unread: [Vec<Probe>; 2],
    /// How often each node's way changed.
    changes: [u32; 2],
}

impl World {
    fn new(count: usize, seed: u64) -> Self {
        let now = Instant::now();
        let pace = Pace::of(Duration::from_secs(3));
        let node = || Paths::new(count, pace, now);
        Self {
            rng: Rng(seed),
            now,
            pace,
            nodes: [node(), node()],
            wires: [vec![GOOD; count], vec![GOOD; count]],
            flying: BTreeMap::new(),
            order: 0,
            stalled: [false; 2],
            unread: [Vec::new(), Vec::new()],
            changes: [0; 2],
        }
    }

    /// A world whose session has stood for a while.
    fn running(count: usize) -> Self {
        let mut world = Self::new(count, 1);
        world.begin();
        world.run(MS * 5000);
        assert_eq!(world.ways(), [Way::One(0); 2]);
        world.changes = [0; 2];
        world
    }

    fn begin(&mut self) {
        for node in &mut self.nodes {
            node.begin(self.now);
        }
    }

    fn set(&mut self, path: usize, wire: Wire) {
        self.wires[0][path] = wire;
        self.wires[1][path] = wire;
    }

    fn ways(&self) -> [Way; 2] {
        [self.nodes[0].way(), self.nodes[1].way()]
    }

    fn run(&mut self, time: Duration) {
        let end = self.now + time;
        while self.now < end {
            self.now += MS;
            for n in [0, 1] {
                self.send(n);
            }
            while let Some(first) = self.flying.first_entry() {
                if first.key().0 > self.now {
                    break;
                }
                let (to, probe) = first.remove();
                self.unread[to].push(probe);
            }
            for n in [0, 1] {
                if !self.stalled[n] {
                    for probe in std::mem::take(&mut self.unread[n]) {
                        let on = probe.path.into();
                        let changed = self.nodes[n].heard(self.now, on, &probe);
                        self.changes[n] += u32::from(changed);
                    }
                }
                let changed = self.nodes[n].tick(self.now);
                self.changes[n] += u32::from(changed);
            }
        }
    }

    fn send(&mut self, n: usize) {
        let mut behind = vec![false; self.wires[n].len()];
        for probe in &self.unread[n] {
            behind[usize::from(probe.path)] = true;
        }
        for probe in self.nodes[n].probes(self.now, &behind) {
            let wire = self.wires[n][usize::from(probe.path)];
            if self.rng.below(100) < wire.loss_percent {
                continue;
            }
            self.order += 1;
            let at = self.now + MS * wire.delay_ms as u32;
            self.flying.insert((at, self.order), (1 - n, probe));
        }
    }

    /// Whether what node `n` sends gets to the other.
    fn gets_through(&self, n: usize) -> bool {
        match self.nodes[n].way() {
            Way::All => self.wires[n].contains(&GOOD),
            Way::One(path) => self.wires[n][path] != DEAD,
        }
    }

    /// Runs until what node `n` sends gets through.
    fn time_until_through(&mut self, n: usize) -> Duration {
        let from = self.now;
        while !self.gets_through(n) {
            self.run(MS);
            assert!(self.now - from < MS * 10_000, "it never gets through");
        }
        self.now - from
    }
}

#[test]
fn a_new_session_begins_on_all_paths_and_settles_on_the_first() {
    let mut world = World::new(2, 1);
    assert_eq!(world.ways(), [Way::All; 2], "before there is a session");
    world.begin();
    world.run(MS * 100);
    assert_eq!(world.ways(), [Way::One(0); 2]);
    world.nodes[0].end();
    assert_eq!(world.nodes[0].way(), Way::All);
    assert_eq!(world.nodes[0].next_probe(), None);
}

#[test]
fn a_session_that_begins_without_the_first_path_settles_on_the_second() {
    let mut world = World::new(2, 1);
    world.set(0, DEAD);
    world.begin();
    world.run(MS * 100);
    assert_eq!(world.ways(), [Way::All; 2], "the first still has its time");
    world.run(MS * 200);
    assert_eq!(world.ways(), [Way::One(1); 2]);
}

#[test]
fn a_dead_path_is_left_well_before_the_lease_ends() {
    for stall in [500, 1000, 3000, 60_000] {
        let mut world = World::new(2, 1);
        world.pace = Pace::of(MS * stall);
        let node = || Paths::new(2, world.pace, world.now);
        world.nodes = [node(), node()];
        world.begin();
        world.run(MS * 3000);
        world.set(0, DEAD);
        for n in [0, 1] {
            let took = world.time_until_through(n);
            assert!(took <= world.pace.silence, "{stall}: {took:?}");
            assert!(took <= MS * stall * 2 / 3 / 2, "{stall}: {took:?}");
        }
        assert_eq!(world.ways(), [Way::One(1); 2]);
    }
}

#[test]
fn a_path_that_is_dead_in_one_direction_is_left_in_that_direction() {
    let mut world = World::running(2);
    world.wires[0][0] = DEAD;
    world.run(MS * 300);
    assert_eq!(world.ways(), [Way::One(1), Way::One(0)]);
}

#[test]
fn without_any_path_everything_is_sent_everywhere() {
    let mut world = World::running(2);
    world.set(0, DEAD);
    world.set(1, DEAD);
    world.run(MS * 400);
    assert_eq!(world.ways(), [Way::All; 2]);
    world.set(1, GOOD);
    world.run(MS * 200);
    assert_eq!(world.ways(), [Way::One(1); 2]);
}

#[test]
fn the_first_path_is_taken_again_only_when_it_has_proved_itself() {
    let mut world = World::running(2);
    world.set(0, DEAD);
    world.run(MS * 2000);
    world.set(0, GOOD);
    world.run(world.pace.steady);
    assert_eq!(world.ways(), [Way::One(1); 2], "not yet");
    world.run(MS * 4000);
    assert_eq!(world.ways(), [Way::One(0); 2]);
    // One that breaks every time is taken again later and later.
    let mut shortest = Duration::ZERO;
    for _ in 0..4 {
        world.set(0, DEAD);
        world.run(MS * 500);
        world.set(0, GOOD);
        let from = world.now;
        while world.nodes[0].way() != Way::One(0) {
            world.run(MS * 10);
        }
        let took = world.now - from;
        assert!(took > shortest + MS * 500, "{took:?} after {shortest:?}");
        shortest = took;
    }
}

#[test]
fn a_lossy_path_is_left_for_a_good_one_and_stays_left() {
    for seed in 0..50 {
        let mut world = World::running(2);
        world.rng = Rng(seed);
        world.set(0, lossy(30));
        world.run(MS * 6000);
        assert_eq!(world.ways(), [Way::One(1); 2], "seed {seed}");
        world.changes = [0; 2];
        world.run(MS * 60_000);
        assert_eq!(world.changes, [0; 2], "seed {seed}");
        let health = world.nodes[0].health(world.now);
        // Now and then so many stay out in a row that it counts as dead.
        let shown = health[0].loss_percent;
        assert!((10..60).contains(&shown) || shown == 100, "{health:?}");
        assert_eq!(health[1].loss_percent, 0);
    }
}

#[test]
fn a_little_loss_changes_nothing() {
    let mut world = World::running(2);
    world.set(0, lossy(1));
    world.run(MS * 600_000);
    assert!(world.changes.iter().all(|n| *n <= 4), "{:?}", world.changes);
    assert_eq!(world.ways(), [Way::One(0); 2]);
}

/// A disk that hangs for a moment must not send everything over the slower network.
#[test]
fn a_peer_that_does_not_read_is_not_taken_for_a_dead_path() {
    let mut world = World::running(2);
    world.stalled[1] = true;
    world.run(MS * 1500);
    assert_eq!(
        world.ways()[0],
        Way::One(0),
        "it says that it does not keep up"
    );
    world.stalled[1] = false;
    world.run(MS * 1000);
    assert_eq!(world.ways(), [Way::One(0); 2]);
    assert_eq!(world.changes, [0; 2]);
}

#[test]
fn a_path_with_a_delay_is_as_good_as_another() {
    let mut world = World::running(2);
    let slow = Wire {
        loss_percent: 0,
        delay_ms: 50,
    };
    world.set(0, slow);
    world.run(MS * 10_000);
    assert_eq!(world.ways(), [Way::One(0); 2]);
    let health = world.nodes[0].health(world.now);
    let round_trip = health[0].round_trip.expect("it is alive");
    assert!((MS * 95..MS * 110).contains(&round_trip), "{health:?}");
    assert!(health[0].current && !health[1].current, "{health:?}");
}

#[test]
fn nonsense_is_no_news() {
    let mut world = World::running(2);
    let report = Report {
        echo: u64::MAX,
        held: u32::MAX,
        lost: 255,
        of: 1,
        behind: true,
    };
    let probe = |path, number, count| Probe {
        path,
        number,
        sent: u64::MAX,
        reports: vec![report; count],
    };
    for (on, path, number, count) in [
        (0, 0, 1, 2),
        (0, 1, u64::MAX - 1, 2),
        (7, 7, u64::MAX, 2),
        (1, 1, u64::MAX, 0),
        (1, 1, u64::MAX, 9),
    ] {
        let probe = probe(path, number, count);
        assert!(!world.nodes[0].heard(world.now, on, &probe), "{probe:?}");
    }
    let before = world.nodes[0].health(world.now);
    assert_eq!(before[0].loss_percent, 0);
    world.nodes[0].heard(world.now, 1, &probe(1, u64::MAX, 2));
    assert_eq!(world.nodes[0].way(), Way::One(0));
}

/// Whatever is lost in whichever direction: while a path is good in a direction, what is sent that
/// way gets through again within the bound.
#[test]
fn any_pattern_of_losses_ends_on_a_living_path() {
    for seed in 0..150 {
        let mut rng = Rng(seed);
        let count = 2 + rng.below(3) as usize;
        let mut world = World::new(count, seed);
        world.begin();
        for _ in 0..30 {
            for wires in &mut world.wires {
                for wire in wires.iter_mut() {
                    *wire = match rng.below(6) {
                        0..2 => GOOD,
                        2 => lossy(5 + rng.below(90)),
                        3 => Wire {
                            loss_percent: 0,
                            delay_ms: rng.below(30),
                        },
                        _ => DEAD,
                    };
                }
                let good = rng.below(count as u64) as usize;
                wires[good] = GOOD;
            }
            // The bound: silence shows, and the report of it comes back.
            let bound = world.pace.silence + world.pace.interval * 2;
            world.run(bound);
            for _ in 0..rng.below(40) {
                for n in [0, 1] {
                    assert!(world.gets_through(n), "seed {seed}: {:?}", world.ways());
                }
                world.run(MS * 50);
            }
        }
    }
}
