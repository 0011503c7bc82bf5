//! One module on one node: what is wanted, what the daemon allows, what runs.
//!
//! The machine keeps three things in step. The *daemon* lane has its process run while the module
//! is started, and asks it to serve or to follow while it waits ([`daemon`]). The *application*
//! lane moves what runs to what should run, one step at a time ([`apply`]). A *job* is an
//! operator's or checker's order that takes several steps: stop, restart, swap ([`jobs`]).
//!
//! What the machine guards:
//! * addresses are taken and `start_prim` is called only while the daemon serves, by what it said
//!   last; when it does not, the addresses go before anything else;
//! * the daemon is asked to swap or to stop only when nothing of the serving role runs any more;
//! * what operators want is durable before they are answered;
//! * every refusal, wait and failure has a reason ([`show`]).

mod apply;
mod commands;
mod daemon;
mod jobs;
mod react;
mod show;
#[cfg(test)]
mod tests;

pub use show::Shown;

use super::api::{Ask, Daemon, Input, Output, Phase, Step, View, Wants};
use super::level::{Next, Running};
use crate::config::{Module, Script};
use jobs::Job;
use std::collections::{BTreeMap, VecDeque};
use std::time::{Duration, Instant};
use tandem_repl::control::{Refusal, State};

/// Changes held so long without anything that allows them: this node may not answer for the
/// module. Less than the difference between a lease and the stall limit at their defaults, so that
/// the addresses are gone before the peer may serve (design I13).
const HELD_LIMIT: Duration = Duration::from_millis(300);
/// After a sleep of this node the daemon, which slept as well, has looked at the clock within this:
/// if it then serves and holds no change back, its lease was renewed since.
const PROOF: Duration = Duration::from_millis(500);
/// Between two questions to a daemon that refused, and between two attempts at what failed.
const AGAIN: Duration = Duration::from_secs(1);
/// Between two attempts at a start script or an address that failed.
const RETRY: Duration = Duration::from_secs(5);

/// The machine. See the module's opening.
#[derive(Debug)]
pub struct Machine {
    config: Module,
    wants: Wants,
    has: Running,
    /// Scripts still to be called by force before what runs is known.
    clean: Vec<Script>,
    /// The step of the application under way.
    doing: Option<Doing>,
    /// The last step between down and up was passed since the wish changed.
    middle: bool,
    wish: Running,
    /// State the `transition` script was told last.
    told: State,
    action: &'static str,
    daemon: Daemon,
    /// The start of the daemon under way.
    starting: Option<u64>,
    daemon_again: Instant,
    deaths: u32,
    /// The question to serve under way.
    asking: Option<Ask>,
    ask_again: Instant,
    fencing: Option<u64>,
    fence_again: Instant,
    /// This node serves because it lost the one that did, by nobody's word but the manager's.
    took_over: bool,
    /// This node followed when it began to serve: the addresses were the other's a moment ago.
    inherits: bool,
    /// The daemon's last refusal to serve.
    refused: Option<Refusal>,
    /// A command that waits for the daemon's answer.
    order: Option<(Option<u64>, Ask)>,
    job: Option<Job>,
    /// Who waits until all runs as it should.
    waiting: Vec<u64>,
    /// Checkers that keep the module waiting, by name.
    blocked: BTreeMap<String, Refusal>,
    /// Checkers for which this node, which serves, is to wait when another can serve: since then.
    yields: BTreeMap<String, (Instant, Refusal)>,
    /// Checkers that are down.
    down: BTreeMap<String, String>,
    /// What failed last here, until it succeeds.
    trouble: Option<Refusal>,
    retry: Instant,
    /// No addresses before: this manager did not run for a while.
    quarantine: Option<Quarantine>,
    restarts: VecDeque<Instant>,
    swap_again: Instant,
    /// The manager ends.
    leaving: bool,
    /// A failover's timeline is under way.
    failing_over: bool,
    next: u64,
    now: Instant,
    out: Vec<Output>,
}

/// After a sleep: what the daemon said is not believed any more.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
struct Quarantine {
    /// When it is over: the daemon has found out what it may.
    end: Instant,
    /// From here on its word that changes flow ends it, too.
    proof: Instant,
}

/// A step of the application.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
struct Doing {
    id: u64,
    what: What,
    force: bool,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum What {
    Next(Next),
    /// The `transition` script.
    Told(State),
    /// `poststop`.
    Post,
}

impl Machine {
    /// A machine with what operators want, and what a predecessor left running on this boot.
    pub fn new(config: Module, wants: Wants, found: Running, now: Instant) -> Self {
        let mut machine = Self {
            config,
            wants,
            has: found,
            clean: Vec::new(),
            doing: None,
            middle: false,
            wish: Running::NOTHING,
            told: State::Stop,
            action: "start",
            daemon: Daemon::Gone,
            starting: None,
            daemon_again: now,
            deaths: 0,
            asking: None,
            ask_again: now,
            fencing: None,
            fence_again: now,
            took_over: false,
            inherits: false,
            refused: None,
            order: None,
            job: None,
            waiting: Vec::new(),
            blocked: BTreeMap::new(),
            yields: BTreeMap::new(),
            down: BTreeMap::new(),
            trouble: None,
            retry: now,
            quarantine: None,
            restarts: VecDeque::new(),
            swap_again: now,
            leaving: false,
            failing_over: false,
            next: 1,
            now,
            out: Vec::new(),
        };
        if found.doubtful || (machine.wants.started && found == Running::NOTHING) {
            machine.doubt(true);
        }
        if !machine.wants.started && found != Running::NOTHING {
            machine.job = Some(Job::stop(false));
            machine.action = "stop";
        }
        machine
    }

    /// Takes one input and returns what to do, in order.
    pub fn handle(&mut self, now: Instant, input: Input) -> Vec<Output> {
        self.now = now;
        let before = self.has;
        match input {
            Input::Tick => {}
            Input::Daemon(daemon) => self.on_daemon(daemon),
            Input::Answered(ask, result) => self.on_answer(ask, result),
            Input::Done(id, result) => self.on_done(id, result),
            Input::Command { token, command } => self.on_command(token, command),
            Input::Checker { name, up, detail } => self.on_checker(&name, up, detail),
            Input::AddressLost(address) => self.on_address_lost(&address),
            Input::Slept(time) => self.on_sleep(time),
        }
        self.guard();
        self.tend();
        if self.has != before {
            self.out.push(Output::Remember(self.has));
        }
        std::mem::take(&mut self.out)
    }

    /// What runs here.
    pub fn running(&self) -> Running {
        self.has
    }

    pub fn wants(&self) -> &Wants {
        &self.wants
    }

    /// Nothing moves, and what should run does.
    pub fn settled(&self) -> bool {
        self.doing.is_none() && self.job.is_none() && self.has == self.wish
    }

    pub(super) fn view(&self) -> Option<&View> {
        match &self.daemon {
            Daemon::Up(view) => Some(view),
            Daemon::Gone => None,
        }
    }

    /// The module is to run here now.
    pub(super) fn started(&self) -> bool {
        self.wants.started && !self.leaving
    }

    fn serves(&self) -> bool {
        self.view().is_some_and(View::serves)
    }

    /// Who may not answer for the module has no addresses, whatever else goes on.
    fn guard(&mut self) {
        let held = self.view().is_some_and(|v| self.is_held(v));
        if self.has.addresses && (!self.serves() || held || self.quarantine.is_some()) {
            self.out.push(Output::DropAddresses);
            self.has.addresses = false;
            self.wish.addresses = false;
        }
        let taking = |d: &Doing| d.what == What::Next(Next::TakeAddresses);
        if self.doing.as_ref().is_some_and(taking) && (!self.serves() || held) {
            // What is being taken goes too; the step ends by itself.
            self.out.push(Output::DropAddresses);
        }
    }

    /// Nothing allows this node's changes now, and the peer is not there to.
    fn is_held(&self, view: &View) -> bool {
        !view.peer_connected && view.held.is_some_and(|time| time >= HELD_LIMIT)
    }

    /// Lets every lane go on.
    fn tend(&mut self) {
        if self.quarantine.is_some_and(|q| self.now >= q.end) {
            self.quarantine = None;
        }
        // A step that needs no time makes room for the next at once.
        for _ in 0..32 {
            let before = (self.next, self.out.len(), self.has, self.middle);
            self.tend_yields();
            self.tend_job();
            self.tend_application();
            self.tend_daemon();
            if before == (self.next, self.out.len(), self.has, self.middle) {
                break;
            }
        }
    }

    fn on_sleep(&mut self, time: Duration) {
        if time < self.config.stall_limit / 3 {
            return;
        }
        self.log(format!(
            "the manager did not run for {} ms",
            time.as_millis()
        ));
        self.quarantine = Some(Quarantine {
            end: self.now + self.config.stall_limit,
            proof: self.now + PROOF,
        });
    }

    fn on_address_lost(&mut self, address: &str) {
        if self.has.addresses {
            self.log(format!(
                "the address {address} was taken from its interface"
            ));
            self.has.addresses = false;
        }
    }

    /// What runs is not known: all is stopped by force. `fresh`: `prestart` first.
    fn doubt(&mut self, fresh: bool) {
        self.has.doubtful = true;
        self.clean = super::level::CLEAN.to_vec();
        if fresh {
            self.clean.insert(0, Script::Prestart);
        }
    }

    fn perform(&mut self, step: Step) -> u64 {
        let id = self.next;
        self.next += 1;
        self.out.push(Output::Do(id, step));
        id
    }

    fn resolve(&mut self, token: u64, result: Result<(), Refusal>) {
        self.out.push(Output::Resolve { token, result });
    }

    fn mark(&mut self, phase: Phase) {
        match phase {
            Phase::Detected => self.failing_over = true,
            _ if !self.failing_over => return,
            Phase::Application => self.failing_over = false,
            _ => {}
        }
        self.out.push(Output::Mark(phase));
    }

    fn log(&mut self, text: impl Into<String>) {
        self.out.push(Output::Log(text.into()));
    }

    fn save(&mut self) {
        self.out.push(Output::Save(self.wants.clone()));
    }
}
