//! What goes wrong, and when. The schedule is drawn before the run, so that it can be shortened
//! when a run fails.

use super::Time;
use super::manager::Word;
use super::net::Packet;
use super::node::NAMES;
use super::options::Options;
use super::seat::CHECKERS;
use super::world::{Event, World};
use crate::rng::Rng;
use tandem_failover::logic::api::Command;

#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Fault {
    Crash(usize),
    /// Power is gone for so long.
    Cut(usize, Time),
    Power(usize),
    Pause(usize, Time),
    Resume(usize),
    /// What this node sends does not arrive.
    Silence(usize, Time),
    Hear(usize),
    Loss(u64, Time),
    Delay(Time, Time),
    /// What this node sends takes longer, at most so long.
    Lag(usize, Time, Time),
    /// The node does not reach the witness.
    Blind(usize, Time),
    Sight(usize),
    WitnessDown(Time),
    WitnessUp,
    WitnessRestored,
    WitnessLoss(u64, Time),
    /// Its answers to this node take longer, at most so long.
    WitnessLag(usize, Time, Time),
    Full(usize, Time),
    SyncFails(usize, Time),
    RecordFails(usize, Time),
    SlowDisk(usize, u64, Time),
    Well(usize),
    DamageRecord(usize),
    DamageJournal(usize),
    Word(usize, Word),
    /// The failover manager dies, after so many more outputs.
    ManagerDies(usize, u64),
    /// Only the daemon stands still for so long.
    Hang(usize, Time),
    Unhang(usize),
    Order(usize, Command),
    Checker(usize, usize, bool),
    /// The connection ends, nothing else.
    Reset,
    NetWell,
}

/// Faults with their times.
#[derive(Clone, Debug, Default)]
pub struct Schedule(pub Vec<(Time, Fault)>);

impl Schedule {
    pub fn draw(seed: u64, options: &Options) -> Self {
        let mut rng = Rng::new(seed ^ 0xfa17);
        let (begin, end) = options.faults;
        let mut list = Vec::new();
        for _ in 0..options.fault_count {
            let at = begin + rng.below(end - begin);
            // Some come together.
            list.push((at, draw(&mut rng, options)));
            if options.managed && rng.chance(60) {
                let near = at + rng.below(3_000_000);
                list.push((near.min(end), draw_managed(&mut rng)));
            }
            while rng.chance(35) {
                let near = at + rng.below(3_000_000);
                list.push((near.min(end), draw(&mut rng, options)));
            }
        }
        list.sort_by_key(|(at, _)| *at);
        Self(list)
    }
}

fn draw(rng: &mut Rng, options: &Options) -> Fault {
    let n = rng.index(2);
    let short = 50_000 + rng.below(1_500_000);
    let long = 500_000 + rng.below(8_000_000);
    let roll = rng.below(100);
    match roll {
        0..14 => Fault::Crash(n),
        14..30 => Fault::Cut(n, long),
        30..37 => Fault::Pause(n, if rng.chance(50) { short } else { long }),
        37..50 => Fault::Silence(n, if rng.chance(40) { short } else { long }),
        50..55 => Fault::Reset,
        55..59 => Fault::Loss(10 + rng.below(40), long),
        59..62 => Fault::Delay(20_000 + rng.below(200_000), long),
        62..67 => Fault::Blind(n, long),
        67..70 => Fault::WitnessDown(long),
        70..71 => Fault::WitnessRestored,
        71..74 => Fault::WitnessLoss(20 + rng.below(60), long),
        74..78 => Fault::Full(n, long),
        78..81 => Fault::SyncFails(n, short),
        81..83 => Fault::RecordFails(n, short),
        83..87 => Fault::SlowDisk(n, 5 + rng.below(100), long),
        87..88 => Fault::DamageRecord(n),
        88..90 => Fault::DamageJournal(n),
        _ => Fault::Word(n, word(rng, options)),
    }
}

/// What only the failover manager knows.
fn draw_managed(rng: &mut Rng) -> Fault {
    let n = rng.index(2);
    match rng.below(20) {
        0..5 => Fault::ManagerDies(n, rng.below(6)),
        5..8 => Fault::Hang(n, 200_000 + rng.below(8_000_000)),
        8..12 => Fault::Checker(n, rng.index(4), rng.chance(30)),
        roll => Fault::Order(
            n,
            match roll {
                12 => Command::Stop,
                13 => Command::Stopstart,
                14 => Command::Restart,
                15 | 16 => Command::Start,
                17 => Command::Swap,
                18 => Command::Maintenance(rng.chance(50)),
                _ => Command::Failover(rng.chance(50)),
            },
        ),
    }
}

fn word(rng: &mut Rng, options: &Options) -> Word {
    match rng.below(10) {
        0..3 => Word::Stop,
        3..7 => Word::Swap,
        7 => Word::Resync { everything: true },
        8 => Word::Resync { everything: false },
        _ => Word::Prim {
            force: options.operator && rng.chance(30),
        },
    }
}

impl World {
    pub fn on_fault(&mut self, fault: &Fault) {
        if self.calm && !matches!(fault, Fault::Resume(_) | Fault::Power(_) | Fault::Unhang(_)) {
            return;
        }
        self.trace(|| format!("-- {fault:?}"));
        let now = self.now;
        match *fault {
            Fault::Crash(n) => self.crash(n),
            Fault::Cut(n, time) => {
                self.cut(n);
                self.push(now + time, Event::Fault(Fault::Power(n)));
            }
            Fault::Power(n) => self.power(n),
            Fault::Pause(n, time) => {
                if self.nodes[n].is_powered {
                    self.nodes[n].seat.is_drowsy = true;
                    self.nodes[n].paused = Some(now + time);
                    self.push(now + time, Event::Fault(Fault::Resume(n)));
                }
            }
            Fault::Resume(n) => {
                if self.nodes[n].paused.is_some_and(|until| until <= now) {
                    self.nodes[n].paused = None;
                }
            }
            Fault::Silence(n, time) => {
                self.lanes[n].is_open = false;
                self.push(now + time, Event::Fault(Fault::Hear(n)));
            }
            Fault::Hear(n) => self.open_lane(n),
            Fault::Loss(percent, time) => {
                self.lanes.iter_mut().for_each(|l| l.loss = percent);
                self.push(now + time, Event::Fault(Fault::NetWell));
            }
            Fault::Delay(most, time) => {
                self.lanes.iter_mut().for_each(|l| l.delay.1 = most);
                self.push(now + time, Event::Fault(Fault::NetWell));
            }
            Fault::Lag(n, most, time) => {
                self.lanes[n].delay.1 = most;
                self.push(now + time, Event::Fault(Fault::NetWell));
            }
            Fault::NetWell => self.net_well(),
            Fault::Reset => self.reset_link(),
            Fault::Word(n, word) => {
                if self.stats.serves > 0 && self.options.managed {
                    self.command(n, word.command());
                } else if self.stats.serves > 0 {
                    self.order(n, word);
                }
            }
            _ => self.on_other_fault(fault),
        }
    }

    fn on_other_fault(&mut self, fault: &Fault) {
        let now = self.now;
        match *fault {
            Fault::Blind(n, time) => {
                self.third.reach[n] = false;
                self.push(now + time, Event::Fault(Fault::Sight(n)));
            }
            Fault::Sight(n) => self.third.reach[n] = true,
            Fault::WitnessDown(time) => {
                self.third.is_up = false;
                self.push(now + time, Event::Fault(Fault::WitnessUp));
            }
            Fault::WitnessUp => self.third.is_up = true,
            Fault::WitnessRestored => {
                let options = self.options.clone();
                self.third.restore(&options);
            }
            Fault::WitnessLoss(percent, time) => {
                self.third.loss = percent;
                self.push(now + time, Event::Fault(Fault::NetWell));
            }
            Fault::WitnessLag(n, most, time) => {
                self.third.lag[n] = most;
                self.push(now + time, Event::Fault(Fault::NetWell));
            }
            Fault::ManagerDies(n, outputs) => self.manager_dies_in(n, outputs),
            Fault::Hang(n, time) if self.nodes[n].daemon.is_some() => {
                self.nodes[n].hung = Some(now + time);
                self.push(now + time, Event::Fault(Fault::Unhang(n)));
            }
            Fault::Unhang(n) if self.nodes[n].hung.is_some_and(|until| until <= now) => {
                self.nodes[n].hung = None;
                self.reads_on(n);
            }
            Fault::Order(n, ref command) if self.stats.serves > 0 => {
                self.command(n, command.clone());
            }
            Fault::Checker(n, which, up) => self.checker(n, CHECKERS[which % 4], up),
            Fault::Full(n, time) => {
                self.nodes[n].ills.is_full = true;
                self.push(now + time, Event::Fault(Fault::Well(n)));
            }
            Fault::SyncFails(n, time) => {
                self.nodes[n].ills.sync_fails = true;
                self.push(now + time, Event::Fault(Fault::Well(n)));
            }
            Fault::RecordFails(n, time) => {
                self.nodes[n].ills.record_fails = true;
                self.push(now + time, Event::Fault(Fault::Well(n)));
            }
            Fault::SlowDisk(n, factor, time) => {
                self.nodes[n].ills.slow = factor;
                self.push(now + time, Event::Fault(Fault::Well(n)));
            }
            Fault::Well(n) => self.nodes[n].ills = Default::default(),
            Fault::DamageRecord(n) => self.nodes[n].record.damage_older(),
            Fault::DamageJournal(n) if self.nodes[n].daemon.is_none() => {
                self.nodes[n].journal.damage();
            }
            _ => {}
        }
    }

    fn net_well(&mut self) {
        let delay = self.options.delay;
        for lane in &mut self.lanes {
            lane.loss = 0;
            lane.delay = delay;
        }
        self.third.loss = 0;
        self.third.lag = [0; 2];
    }

    /// Both ends lose the connection; each hears of it by itself.
    fn reset_link(&mut self) {
        for n in 0..2 {
            let conn = self.nodes[n].daemon.as_ref().and_then(|d| d.end.conn);
            if let Some(conn) = conn {
                let at = self.now + self.rng_fault.below(100_000);
                let packet = Packet::Close(conn, "reset".into());
                self.push(at, Event::Packet { to: n, packet });
            }
        }
    }

    /// Nothing goes wrong from here on.
    pub fn calm_down(&mut self) {
        self.trace(|| "-- all faults end".into());
        self.calm = true;
        self.net_well();
        self.third.is_up = true;
        self.third.reach = [true; 2];
        for n in 0..NAMES.len() {
            self.nodes[n].ills = Default::default();
            if !self.lanes[n].is_open {
                self.open_lane(n);
            }
            self.power(n);
            if let Some(until) = self.nodes[n].paused {
                self.push(until, Event::Fault(Fault::Resume(n)));
            }
        }
    }
}
