//! The daemon lane: its process runs while the module is started; while it waits it is asked to
//! follow a serving peer, or else to serve. It decides.

use super::super::api::{Ask, Daemon, Output, Phase, Step, View};
use super::super::level::{Role, Running};
use super::jobs::{Job, NEW_STATE, StopStep};
use super::{AGAIN, Machine};
use std::time::Duration;
use tandem_repl::control::{Refusal, State};

/// The longest pause before a daemon that keeps ending is started again.
const LONGEST_PAUSE: Duration = Duration::from_secs(30);
/// Between two calls of the fence command.
const FENCE_PAUSE: Duration = Duration::from_secs(10);
/// Stall limits after which a daemon that says nothing is killed.
const HANGS: u32 = 5;
/// Stall limits for which a daemon that has just begun is given time to meet its peer.
const MEETING: u32 = 2;
/// What a fence proves: refusals that rest on not knowing whether the peer serves.
const FENCED_BY: [&str; 4] = ["isolated", "cut-off", "witness-silent", "witness-empty"];

impl Machine {
    pub(super) fn on_daemon(&mut self, daemon: Daemon) {
        self.heard = self.now;
        self.unheard = None;
        let before = std::mem::replace(&mut self.daemon, daemon);
        let first = !std::mem::replace(&mut self.looked, true);
        if first && self.has.addresses && self.serves() {
            // A predecessor took them.
            self.out.push(Output::HoldAddresses);
        }
        if before == Daemon::Gone {
            self.met = (self.now, false);
        }
        self.met.1 |= self.view().is_some_and(|v| v.peer_connected);
        let (was, is) = (state(&before), state(&self.daemon));
        if first {
            self.adopt(is);
        }
        let served = was.serves();
        let follows = was == State::Second;
        let expected = matches!(self.job, Some(Job::Swap { .. } | Job::Stop { .. }));
        if matches!((&before, &self.daemon), (Daemon::Up(_), Daemon::Gone)) {
            self.daemon_gone(served);
        }
        if (served || follows) && matches!(is, State::Wait | State::Stop) && !expected {
            self.mark(Phase::Detected);
        }
        if self.serves() && !served {
            self.mark(Phase::Promoted);
            self.deaths = 0;
            if let Some(Job::Stop { .. }) = self.job {
            } else if follows {
                let swaps = self.view().is_some_and(|v| v.peer_connected);
                self.action = if swaps && is == State::Prim {
                    "swap"
                } else {
                    "failover"
                };
            } else if self.action != "swap" {
                self.action = if self.failing_over {
                    "failover"
                } else {
                    "start"
                };
            }
        }
        if matches!(is, State::Second | State::Prim) {
            self.took_over = false;
        }
        self.inherits = self.serves() && (follows || self.inherits);
        let proved = self.serves() && self.lapse().is_none_or(|lapse| self.now < lapse);
        if proved && self.quarantine.is_some_and(|q| self.now >= q.proof) {
            self.quarantine = None;
        }
        if is == State::Second {
            // Somebody else serves: nothing fails over to here.
            self.failing_over = false;
        }
        let matters = |d: &Daemon| match d {
            Daemon::Gone => None,
            Daemon::Up(v) => Some((v.state, v.peer_connected, v.peer_state)),
        };
        if matters(&before) != matters(&self.daemon) {
            self.ask_again = self.now;
        }
        if peer(&before) != peer(&self.daemon) {
            // It was refused in another situation.
            self.refused = None;
        }
        if let Some(Job::Swap {
            asked: Some(_),
            token,
        }) = self.job
            && self.view().is_some_and(|v| !v.serves())
        {
            self.swap_over(token, Ok(()));
            self.action = "swap";
        }
    }

    /// The first word of a daemon above which a predecessor of this manager left something: scripts
    /// were told the state that fits what runs.
    fn adopt(&mut self, is: State) {
        self.told = match self.has.role {
            Some(Role::Prim) if is == State::Alone => is,
            Some(Role::Prim) => State::Prim,
            Some(Role::Second) => State::Second,
            None => return,
        };
    }

    fn daemon_gone(&mut self, served: bool) {
        self.asking = None;
        if let Some((Some(token), _)) = self.order.take() {
            self.resolve(token, Err(ended()));
        }
        if let Some(Job::Swap { token, .. }) = self.job {
            self.swap_over(token, Err(ended()));
        }
        let stopping = matches!(
            self.job,
            Some(Job::Stop {
                step: StopStep::Daemon(Some(_)),
                ..
            })
        );
        if stopping || !self.started() {
            return;
        }
        self.deaths += 1;
        let pause = if self.deaths <= 1 {
            Duration::ZERO
        } else {
            AGAIN * 2u32.saturating_pow(self.deaths.min(6) - 2)
        };
        self.daemon_again = self.now + pause.min(LONGEST_PAUSE);
        self.trouble = Some(ended());
        let role = if served { "that served " } else { "" };
        self.log(format!("the file system daemon {role}ended by itself"));
        if self.job.is_none() {
            self.action = "lost";
            self.count_restart("the file system daemon ended by itself");
        }
    }

    pub(super) fn daemon_started(&mut self, result: Result<(), String>) {
        self.starting = None;
        if let Err(why) = result {
            self.deaths += 1;
            let pause = AGAIN * 2u32.saturating_pow(self.deaths.min(6) - 1);
            self.daemon_again = self.now + pause.min(LONGEST_PAUSE);
            self.log(format!("the file system daemon cannot run: {why}"));
            self.trouble = Some(Refusal::new(
                "daemon",
                format!("the file system daemon cannot run: {why}"),
                "repair what it says; it is started again by itself",
            ));
            self.give_up_waiting();
            if let Some((Some(token), _)) = self.order.take() {
                let refusal = self.trouble.clone().unwrap_or_else(ended);
                self.resolve(token, Err(refusal));
            }
            return;
        }
        // It is heard of in a moment.
        self.daemon_again = self.now + AGAIN * 5;
        if self.trouble.as_ref().is_some_and(|t| t.code == "daemon") {
            self.trouble = None;
        }
    }

    pub(super) fn tend_daemon(&mut self) {
        if !self.started() || matches!(self.job, Some(Job::Stop { .. })) {
            return;
        }
        if self.unheard.is_some() {
            return;
        }
        let Some(view) = self.view().cloned() else {
            return self.start_daemon();
        };
        if self.silent() >= self.config.stall_limit * HANGS && self.now >= self.daemon_again {
            self.log("the file system daemon hangs, it is killed");
            self.daemon_again = self.now + AGAIN * 5;
            self.out.push(Output::KillDaemon);
        }
        if let Some((token, ask)) = self.order {
            let idle = self.wish == Running::BOTH && self.settled();
            if self.asking.is_none() && (idle || !self.gives_up() || !self.rules.asks_when_idle) {
                self.asking = Some(ask);
                self.out.push(Output::Ask(ask));
                self.order = Some((token, ask));
            }
            return;
        }
        if view.state == State::Wait && self.job.is_none() {
            self.ask(&view);
        }
        self.yield_after_a_split(&view);
        self.go_home(&view);
    }

    /// The operator chose the other replica of two that went apart, and this one serves: it is to
    /// follow, so nothing of the serving role may run when the daemon is asked.
    pub(super) fn gives_up(&self) -> bool {
        let resync = matches!(self.order, Some((_, Ask::Resync { .. })));
        let code = |v: &View| v.reason.as_ref().is_some_and(|r| r.code == "diverged");
        resync && self.view().is_some_and(|v| v.serves() && code(v))
    }

    /// Both served, apart from each other, as policy `alone` has them; now they meet (M13). Who
    /// served before stays, who took over gives way: what only this node has is kept aside. By
    /// any other policy the former one may have been away meanwhile, and an operator chooses.
    fn yield_after_a_split(&mut self, view: &View) {
        let split = view.reason.as_ref().is_some_and(|r| r.code == "diverged");
        let both = self.config.splits && view.state == State::Alone && view.peer_serves();
        let free = self.job.is_none() && self.asking.is_none() && self.now >= self.ask_again;
        if split && both && free && self.took_over && !self.wants.maintenance {
            self.log(format!(
                "{} served all the time and goes on: what was written here is kept aside",
                self.config.peer
            ));
            self.ask_again = self.now + AGAIN;
            self.order = Some((None, Ask::Resync { everything: false }));
        }
    }

    fn start_daemon(&mut self) {
        // Nobody may find the directory bare, or covered by a dead mount.
        let idle = self.has == Running::NOTHING && self.doing.is_none();
        let may = self.starting.is_none() && self.now >= self.daemon_again;
        if idle && may && self.blocked.is_empty() && !self.wants.maintenance {
            self.starting = Some(self.perform(Step::StartDaemon));
        }
    }

    /// A waiting daemon is asked for a role.
    fn ask(&mut self, view: &View) {
        if self.asking.is_some() || self.now < self.ask_again || self.wants.maintenance {
            return;
        }
        let ask = if view.peer_serves() {
            Ask::Second
        } else if !view.has_epoch || self.keeps_back(view) || self.is_meeting() {
            return;
        } else {
            Ask::Prim { force: false }
        };
        self.ask_again = self.now + AGAIN;
        self.asking = Some(ask);
        if ask != Ask::Second {
            self.took_over = !view.served;
            self.mark(Phase::Decided);
        }
        self.out.push(Output::Ask(ask));
    }

    /// The daemon has just begun, and its peer may be there and serve: it may still hold a former
    /// session, whose end it sees no earlier than after the stall limit.
    pub(super) fn is_meeting(&self) -> bool {
        let (since, met) = self.met;
        let waited = self.now.saturating_duration_since(since);
        !met && waited < self.config.stall_limit * MEETING
    }

    /// Failover is off, and this node is not the one that served.
    pub(super) fn keeps_back(&self, view: &View) -> bool {
        let on = self.wants.failover.unwrap_or(self.config.failover);
        !on && !view.served
    }

    /// The preferred node is ready to serve again.
    fn go_home(&mut self, view: &View) {
        let preferred = self.config.preferred.as_ref() == Some(&self.config.peer);
        let quiet = self.settled() && self.now >= self.swap_again && !self.wants.maintenance;
        if preferred && quiet && view.peer_can_serve() {
            self.log(format!("{} is preferred and ready", self.config.peer));
            self.swap_again = self.now + AGAIN * 60;
            self.begin_job(Job::swap());
        }
    }

    pub(super) fn on_answer(&mut self, ask: Ask, result: Result<(), Refusal>) {
        if self.asking == Some(ask) {
            self.asking = None;
        }
        if let Some((token, ordered)) = self.order
            && ordered == ask
        {
            self.order = None;
            if let Some(token) = token {
                self.resolve(token, result.clone());
            }
        }
        match (ask, result) {
            (Ask::Swap, Err(refusal)) => {
                if let Some(Job::Swap { token, .. }) = self.job {
                    self.swap_over(token, Err(refusal));
                }
            }
            (Ask::Swap, Ok(())) => {
                if let Some(Job::Swap { asked, .. }) = &mut self.job {
                    *asked = Some(self.now + NEW_STATE);
                }
            }
            (Ask::Stop, Err(refusal)) => self.stop_refused(&refusal),
            (Ask::Prim { .. }, Err(refusal)) => {
                self.fence(&refusal);
                self.refused = Some(refusal);
            }
            (Ask::Prim { .. } | Ask::Second, Ok(())) => {
                self.refused = None;
                // Its new state is heard in a moment.
                self.ask_again = self.now + AGAIN;
            }
            (Ask::Fenced, Ok(())) => self.ask_again = self.now,
            _ => {}
        }
    }

    /// Asks for proof that the peer is off, where that is what is missing.
    fn fence(&mut self, refusal: &Refusal) {
        let apart = self.view().is_some_and(|v| !v.peer_connected);
        let Some(command) = &self.config.fence else {
            return;
        };
        let due = self.fencing.is_none() && self.now >= self.fence_again;
        if apart && due && FENCED_BY.contains(&refusal.code.as_str()) {
            let step = Step::Fence(command.clone());
            self.log(format!("the fence command is called: {refusal}"));
            self.fencing = Some(self.perform(step));
        }
    }

    pub(super) fn fenced(&mut self, result: Result<(), String>) {
        self.fencing = None;
        self.fence_again = self.now + FENCE_PAUSE;
        match result {
            Ok(()) => {
                self.log(format!("{} is proved off", self.config.peer));
                self.out.push(Output::Ask(Ask::Fenced));
            }
            Err(why) => self.log(format!("the fence command failed: {why}")),
        }
    }
}

fn state(daemon: &Daemon) -> State {
    match daemon {
        Daemon::Gone => State::Stop,
        Daemon::Up(view) => view.state,
    }
}

fn peer(daemon: &Daemon) -> Option<(bool, Option<State>)> {
    match daemon {
        Daemon::Gone => None,
        Daemon::Up(v) => Some((v.peer_connected, v.peer_state)),
    }
}

fn ended() -> Refusal {
    Refusal::new(
        "daemon-ended",
        "the module's file system daemon ended by itself",
        "it is started again by itself; its log says why it ended",
    )
}
