//! The failover manager of a node: the product's machine, with what it keeps, what it sees of the
//! daemon ([`eyes`]), what it does ([`hands`]), and the operator who looks after both
//! ([`operator`]).
//! Addresses and applications are of the node, not of the manager: they stay when it dies.

mod config;
mod eyes;
mod hands;
mod operator;

pub use config::CHECKERS;

use super::Time;
use super::node::NAMES;
use super::world::{Event, World};
use std::collections::BTreeMap;
use tandem_failover::config::Script;
use tandem_failover::logic::api::{Ask, Command, Daemon, Input, Output, Step, Wants};
use tandem_failover::logic::level::Running;
use tandem_failover::logic::module::Machine;
use tandem_repl::control::{Refusal, State};

/// How often a manager is told that time passes.
const TICK: Time = 100_000;
/// A loop that was away for longer was not merely busy.
const SLEPT: Time = 600_000;

/// What really runs of the application.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct App {
    pub both: bool,
    pub prim: bool,
    pub second: bool,
}

/// A program under way; it outlives the manager that called it.
#[derive(Clone, Copy, Debug)]
pub struct Program {
    /// Of the manager that called it.
    pub life: u64,
    pub id: u64,
}

/// How a program or a step ends.
#[derive(Clone, Debug)]
pub enum End {
    Script(Script, bool),
    Take,
    Release,
    Daemon,
    Other,
}

/// What happens to a manager.
#[derive(Clone, Debug)]
pub enum Act {
    Start,
    Tick,
    Due,
    /// The daemon answers a watcher, whether or not something is new.
    Status,
    Tell(Box<Daemon>),
    Ends(u64, End, bool),
    /// A question reaches the daemon.
    Asked(Ask),
    Answered(Ask, Result<(), Refusal>),
}

/// The part of a daemon's state whose change is news.
type Seen = Option<(State, bool, Option<State>, bool, bool, Option<String>)>;

#[derive(Default)]
pub struct Seat {
    pub machine: Option<Machine>,
    /// Counts managers.
    pub life: u64,
    /// On the disk, and on the file system that is empty after a boot.
    pub wants: Wants,
    pub remembered: Running,
    pub addresses: bool,
    pub app: App,
    pub program: Option<Program>,
    /// The addresses being taken were given up meanwhile.
    overtaken: bool,
    ran: Time,
    /// It has not run since the node woke up.
    pub is_drowsy: bool,
    /// This manager knows of the daemon.
    pub has_heard: bool,
    seen: Seen,
    /// When the last news arrives: later ones do not overtake them.
    told: Time,
    next_token: u64,
    /// Commands not answered yet.
    pub open: BTreeMap<u64, (Time, Command)>,
    /// Questions by the daemon's life and number.
    asks: BTreeMap<(u64, u64), Ask>,
    /// Questions that a hanging daemon has not read: of which life of it.
    unread: Vec<(u64, Ask)>,
    /// It dies after so many more outputs.
    dies_after: Option<u64>,
}

impl World {
    pub fn seats_begin(&mut self) {
        for n in 0..NAMES.len() {
            let pause = 1000 + self.rng_manager.below(500_000);
            self.act(n, pause, Act::Start);
        }
        self.push(600_000, Event::Operator);
    }

    /// Something for the manager that is there now, after a time.
    fn act(&mut self, n: usize, time: Time, act: Act) {
        let life = self.nodes[n].seat.life;
        let event = Event::Seat { node: n, life, act };
        self.push(self.now + time, event);
    }

    pub fn on_seat(&mut self, n: usize, life: u64, act: Act) {
        let node = &self.nodes[n];
        if !node.is_powered {
            return;
        }
        let mine = node.seat.life == life;
        match act {
            Act::Start if mine => self.manager_starts(n),
            // Programs, started daemons and questions go their way without a manager.
            Act::Ends(id, end, ok) => self.step_ends(n, (life, id), end, ok),
            Act::Asked(ask) => self.asked(n, ask, mine),
            _ if !mine || node.seat.machine.is_none() => {}
            Act::Tick => {
                let jitter = self.rng_manager.below(5000);
                self.act(n, TICK + jitter, Act::Tick);
                self.manager(n, Input::Tick);
            }
            Act::Due => self.manager(n, Input::Tick),
            Act::Status => self.status_answered(n),
            Act::Tell(daemon) => {
                self.nodes[n].seat.has_heard = true;
                self.manager(n, Input::Daemon(*daemon));
            }
            Act::Answered(ask, result) => self.manager(n, Input::Answered(ask, result)),
            Act::Start => {}
        }
    }

    /// A new manager with what the last one kept.
    fn manager_starts(&mut self, n: usize) {
        let now = self.clock(n);
        let config = self.module(n);
        let rules = self.options.rules.seat;
        let seat = &mut self.nodes[n].seat;
        if seat.machine.is_some() {
            return;
        }
        let mut found = seat.remembered;
        if seat.program.take().is_some() {
            // Ended by force; how far it came is not known.
            found.doubtful = true;
        }
        if !found.addresses {
            seat.addresses = false;
        }
        seat.addresses |= found.addresses && !found.doubtful;
        seat.machine = Some(Machine::with_rules(
            config,
            seat.wants.clone(),
            found,
            now,
            rules,
        ));
        (seat.ran, seat.is_drowsy, seat.has_heard) = (self.now, false, false);
        seat.seen = None;
        self.trace(|| format!("{} manager starts, finds {found:?}", NAMES[n]));
        self.act(n, TICK, Act::Tick);
        let first = 200 + self.rng_manager.below(50_000);
        self.act(n, first, Act::Status);
    }

    /// The manager's process dies; systemd starts it again.
    pub fn manager_dies(&mut self, n: usize) {
        let seat = &mut self.nodes[n].seat;
        if seat.machine.take().is_none() {
            return;
        }
        seat.life += 1;
        seat.dies_after = None;
        // Who had asked hears that the connection ended.
        seat.open.clear();
        seat.asks.clear();
        // It reads them no more: nobody waits.
        seat.unread.clear();
        self.trace(|| format!("{} manager dies", NAMES[n]));
        let pause = 100_000 + self.rng_manager.below(2_000_000);
        self.act(n, pause, Act::Start);
    }

    pub fn manager_dies_in(&mut self, n: usize, outputs: u64) {
        if outputs == 0 {
            self.manager_dies(n);
        } else {
            self.nodes[n].seat.dies_after = Some(outputs);
        }
    }

    /// With the node's power.
    pub fn seat_cut(&mut self, n: usize) {
        let seat = &mut self.nodes[n].seat;
        *seat = Seat {
            life: seat.life + 1,
            wants: std::mem::take(&mut seat.wants),
            next_token: seat.next_token,
            ..Seat::default()
        };
    }

    pub fn seat_boots(&mut self, n: usize) {
        if self.options.managed {
            let pause = 100_000 + self.rng_manager.below(1_000_000);
            self.act(n, pause, Act::Start);
        }
    }

    /// One input, and all that follows from it.
    pub(super) fn manager(&mut self, n: usize, input: Input) {
        let now = self.clock(n);
        let away = self.now - self.nodes[n].seat.ran;
        let seat = &mut self.nodes[n].seat;
        (seat.ran, seat.is_drowsy) = (self.now, false);
        if away > SLEPT {
            let time = std::time::Duration::from_micros(away);
            self.machine(n, now, Input::Slept(time));
        }
        self.machine(n, now, input);
        let due = self.nodes[n].seat.machine.as_ref().and_then(Machine::due);
        if let Some(due) = due {
            let left = due.saturating_duration_since(now).as_micros() as Time;
            let late = self.rng_manager.below(30_000);
            self.act(n, left + 1 + late, Act::Due);
        }
    }

    fn machine(&mut self, n: usize, now: std::time::Instant, input: Input) {
        let Some(machine) = self.nodes[n].seat.machine.as_mut() else {
            return;
        };
        let quiet = matches!(input, Input::Tick);
        let shown = (self.tracing && !quiet).then(|| format!("{input:?}"));
        let outputs = machine.handle(now, input);
        if let Some(shown) = shown {
            self.trace(|| format!("{} manager < {shown}", NAMES[n]));
        }
        for output in outputs {
            if !self.output(n, output) {
                return;
            }
        }
    }

    /// False: the manager died over it.
    fn output(&mut self, n: usize, output: Output) -> bool {
        if let Some(left) = &mut self.nodes[n].seat.dies_after {
            if *left == 0 {
                self.manager_dies(n);
                return false;
            }
            *left -= 1;
        }
        self.trace(|| format!("{} manager > {output:?}", NAMES[n]));
        let seat = &mut self.nodes[n].seat;
        match output {
            Output::Do(id, step) => self.begin_step(n, id, step),
            Output::Ask(ask) => self.begin_ask(n, ask),
            Output::DropAddresses => {
                seat.addresses = false;
                seat.overtaken = true;
            }
            Output::KillDaemon => self.crash(n),
            Output::Save(wants) => seat.wants = wants,
            Output::Remember(running) => seat.remembered = running,
            Output::Resolve { token, result } => self.command_answered(n, token, &result),
            // Addresses are where they are, announced or not.
            Output::HoldAddresses | Output::Mark(_) | Output::Log(_) => {}
        }
        true
    }

    /// A step that ends later.
    fn ends(&mut self, n: usize, time: Time, id: u64, end: End, ok: bool) {
        self.act(n, time, Act::Ends(id, end, ok));
    }

    fn begin_step(&mut self, n: usize, id: u64, step: Step) {
        match step {
            Step::Script { script, force, .. } => self.begin_script(n, id, script, force),
            Step::TakeAddresses | Step::SeizeAddresses => {
                self.nodes[n].seat.overtaken = false;
                let time = 200_000 + self.rng_manager.below(200_000);
                let ok = self.goes_well() || !self.rng_manager.chance(4);
                self.ends(n, time, id, End::Take, ok);
            }
            Step::ReleaseAddresses => {
                let time = 500 + self.rng_manager.below(10_000);
                self.ends(n, time, id, End::Release, true);
            }
            Step::StartDaemon => {
                let time = 20_000 + self.rng_manager.below(400_000);
                let ok = self.goes_well() || !self.rng_manager.chance(5);
                self.ends(n, time, id, End::Daemon, ok);
            }
            Step::Fence(_) | Step::Run(_) => {
                let time = 20_000 + self.rng_manager.below(1_000_000);
                self.ends(n, time, id, End::Other, true);
            }
        }
    }
}
