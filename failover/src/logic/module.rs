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
mod configure;
mod daemon;
mod jobs;
mod react;
mod rights;
mod show;
#[cfg(test)]
mod tests;

pub use show::Shown;
#[cfg(test)]
pub(in crate::logic) use tests::{config as example, origin};

use super::api::{Ask, Daemon, Input, Output, Phase, Step, View, Wants};
use super::level::{Next, Role, Running};
use super::rules::Rules;
use crate::config::{Module, Script};
use jobs::Job;
use std::collections::{BTreeMap, VecDeque};
use std::time::{Duration, Instant};
use tandem_repl::control::{Refusal, State};

/// After a sleep of this node the daemon, which slept as well, has looked at the clock within this:
/// the lease that it tells of then is good.
const PROOF: Duration = Duration::from_millis(500);
/// A predecessor's application goes on so long while nothing is heard of the daemon.
const UNHEARD: Duration = Duration::from_secs(1);
/// Between two questions to a daemon that refused, and between two attempts at what failed.
const AGAIN: Duration = Duration::from_secs(1);
/// Between two attempts at a start script or an address that failed.
const RETRY: Duration = Duration::from_secs(5);

/// The machine. See the module's opening.
#[derive(Clone, Debug)]
pub struct Machine {
    config: Module,
    rules: Rules,
    wants: Wants,
    has: Running,
    /// What a successor would find.
    kept: Option<Running>,
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
    /// When the daemon told of itself last.
    heard: Instant,
    /// It was looked for at least once.
    looked: bool,
    /// A predecessor left something running, and the daemon is not heard of yet; not longer.
    unheard: Option<Instant>,
    /// When the daemon that runs was first heard of, and whether it has met its peer since.
    met: (Instant, bool),
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
    /// Who waits until addresses were taken that the configuration has more.
    more: Option<u64>,
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
    /// Addresses beside those that are here.
    More,
}

impl Machine {
    /// A machine with what operators want, and what a predecessor left running on this boot.
    pub fn new(config: Module, wants: Wants, found: Running, now: Instant) -> Self {
        Self::with_rules(config, wants, found, now, Rules::default())
    }

    /// The same, for tests that take a rule away.
    pub fn with_rules(
        config: Module,
        wants: Wants,
        found: Running,
        now: Instant,
        rules: Rules,
    ) -> Self {
        let knows = found == Running::NOTHING || found.doubtful || !rules.hears_first;
        let mut machine = Self {
            config,
            rules,
            wants,
            has: found,
            // A doubt that arose by looking was not kept by anybody.
            kept: (!found.doubtful).then_some(found),
            clean: Vec::new(),
            doing: None,
            middle: false,
            wish: Running::NOTHING,
            told: State::Stop,
            action: "start",
            daemon: Daemon::Gone,
            heard: now,
            looked: false,
            unheard: (!knows).then(|| now + UNHEARD),
            met: (now, false),
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
            more: None,
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
        if !machine.rules.cleans_doubt {
            machine.has.doubtful = false;
        } else if found.doubtful || (machine.wants.started && found == Running::NOTHING) {
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
        if self.unheard.is_some_and(|end| now >= end) {
            self.unheard = None;
        }
        match input {
            Input::Tick => {}
            Input::Daemon(daemon) => self.on_daemon(daemon),
            Input::Answered(ask, result) => self.on_answer(ask, result),
            Input::Done(id, result) => self.on_done(id, result),
            Input::Command { token, command } => self.on_command(token, command),
            Input::Checker { name, up, detail } => self.on_checker(&name, up, detail),
            Input::AddressLost(address) => self.on_address_lost(&address),
            Input::Slept(time) => self.on_sleep(time),
            Input::Heard(word) => self.on_word(word),
            Input::Configure { token, config } => self.configure(token, *config),
        }
        self.guard();
        self.tend();
        self.remember();
        let mut out = std::mem::take(&mut self.out);
        if self.rules.save_first {
            // What is wanted is kept before anybody hears that it will be so.
            out.sort_by_key(|output| !matches!(output, Output::Save(_)));
        }
        out
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
        !self.moves() && self.job.is_none() && self.has == self.wish
    }

    /// Something of the module answers here, or is about to: somebody must see to its end.
    pub fn is_exposed(&self) -> bool {
        let serving = |running: &Running| running.addresses || running.role == Some(Role::Prim);
        let asks = matches!(self.asking, Some(Ask::Prim { .. }));
        asks || self.serves() || serving(&self.has) || serving(&self.wish)
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

    /// Lets every lane go on.
    fn tend(&mut self) {
        if self.quarantine.is_some_and(|q| self.now >= q.end) {
            self.quarantine = None;
        }
        // A step that needs no time makes room for the next at once.
        for _ in 0..32 {
            let before = self.standing();
            self.tend_yields();
            self.tend_job();
            self.tend_application();
            self.tend_more();
            self.tend_daemon();
            if before == self.standing() {
                break;
            }
        }
    }

    /// What changes while there is still something to do now.
    fn standing(&self) -> (u64, usize, Running, Running, bool) {
        (self.next, self.out.len(), self.has, self.wish, self.middle)
    }

    fn on_sleep(&mut self, time: Duration) {
        if time < self.config.stall_limit / 3 || !self.rules.quarantine {
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
        if !self.rules.cleans_doubt {
            return;
        }
        self.has.doubtful = true;
        self.clean = super::level::CLEAN.to_vec();
        if fresh {
            self.clean.insert(0, Script::Prestart);
        }
    }

    /// Tells a successor what runs. Should this manager die in the middle of a script, it is not
    /// known how far that came, also when it ends before the successor starts.
    fn remember(&mut self) {
        let script = |d: &Doing| matches!(d.what, What::Next(Next::Script(_)));
        let half = self.rules.cleans_doubt && self.doing.as_ref().is_some_and(script);
        let kept = Running {
            doubtful: self.has.doubtful || half,
            ..self.has
        };
        if self.kept != Some(kept) {
            self.kept = Some(kept);
            self.out.push(Output::Remember(kept));
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
