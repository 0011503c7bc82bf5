//! Orders that take several steps: stop, restart in place, swap.

use super::super::api::{Ask, Output};
use super::super::level::Running;
use super::{AGAIN, Machine, What};
use crate::config::Script;
use std::time::{Duration, Instant};
use tandem_repl::control::Refusal;

/// How long a daemon may take to drain, flush both nodes and unmount before it is killed.
const STOP_LIMIT: Duration = Duration::from_secs(120);
/// Between two swaps of its own accord, when one did not come off.
const SWAP_PAUSE: Duration = Duration::from_secs(60);
/// Between the daemon's word that the roles changed sides and its new state.
pub(super) const NEW_STATE: Duration = Duration::from_secs(5);

/// An order under way.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) enum Job {
    Stop {
        step: StopStep,
        /// It is started again afterwards.
        again: bool,
        tokens: Vec<u64>,
    },
    /// Everything is stopped; then what should run is started again.
    Restart { tokens: Vec<u64> },
    Swap {
        /// The daemon was asked, and is given up then.
        asked: Option<Instant>,
        token: Option<u64>,
    },
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum StopStep {
    /// What runs is stopped in order.
    Application,
    /// Everything is stopped once more, by force.
    Clean,
    Post,
    /// The daemon was asked at this time to end.
    Daemon(Option<Instant>),
}

impl Job {
    pub(super) fn stop(again: bool) -> Self {
        Self::Stop {
            step: StopStep::Application,
            again,
            tokens: Vec::new(),
        }
    }

    pub(super) fn restart() -> Self {
        Self::Restart { tokens: Vec::new() }
    }

    pub(super) fn swap() -> Self {
        Self::Swap {
            asked: None,
            token: None,
        }
    }

    /// Somebody waits for its end.
    pub(super) fn answering(mut self, order: u64) -> Self {
        match &mut self {
            Self::Stop { tokens, .. } | Self::Restart { tokens } => tokens.push(order),
            Self::Swap { token, .. } => *token = Some(order),
        }
        self
    }

    pub(super) fn wish(&self) -> Running {
        match self {
            Self::Stop { .. } | Self::Restart { .. } => Running::NOTHING,
            Self::Swap { .. } => Running::BOTH,
        }
    }

    fn name(&self) -> &'static str {
        match self {
            Self::Stop { again: true, .. } => "stopstart",
            Self::Stop { .. } => "stop",
            Self::Restart { .. } => "restart",
            Self::Swap { .. } => "swap",
        }
    }
}

impl Machine {
    pub(super) fn begin_job(&mut self, job: Job) {
        self.action = job.name();
        // A job that takes another's place answers for it.
        let before = self.job.take();
        if let Some(Job::Swap {
            token: Some(token), ..
        }) = before
        {
            self.resolve(token, Err(super::commands::busy()));
        }
        let old = match before {
            Some(Job::Stop { tokens, .. } | Job::Restart { tokens }) => tokens,
            _ => Vec::new(),
        };
        let job = old.into_iter().fold(job, Job::answering);
        self.log(format!("{} begins", job.name()));
        self.job = Some(job);
    }

    pub(super) fn tend_job(&mut self) {
        let reached = |m: &Self| m.doing.is_none() && m.has == m.wish && m.middle;
        let ended = self.wish == Running::NOTHING && reached(self);
        match self.job.clone() {
            Some(Job::Restart { tokens }) if ended => {
                self.job = None;
                self.waiting.extend(tokens);
            }
            Some(Job::Swap { asked, token }) => self.tend_swap(asked, token),
            Some(Job::Stop { step, .. }) if ended || step == StopStep::Post => self.tend_stop(step),
            _ => {}
        }
    }

    fn stop_step(&mut self, to: StopStep) {
        if let Some(Job::Stop { step, .. }) = &mut self.job {
            *step = to;
        }
    }

    fn tend_stop(&mut self, step: StopStep) {
        match step {
            StopStep::Application => {
                self.stop_step(StopStep::Clean);
                self.doubt(false);
            }
            StopStep::Clean => {
                self.stop_step(StopStep::Post);
                self.script(What::Post, Script::Poststop, false);
            }
            // Ends by `posted`.
            StopStep::Post => {}
            StopStep::Daemon(None) => {
                if self.view().is_none() && self.starting.is_none() {
                    return self.stopped();
                }
                self.stop_step(StopStep::Daemon(Some(self.now)));
                self.out.push(Output::Ask(Ask::Stop));
            }
            StopStep::Daemon(Some(since)) => {
                if self.view().is_none() && self.starting.is_none() {
                    self.stopped();
                } else if self.now.saturating_duration_since(since) > STOP_LIMIT {
                    self.log("the daemon does not end, it is killed");
                    self.stop_step(StopStep::Daemon(Some(self.now)));
                    self.out.push(Output::KillDaemon);
                }
            }
        }
    }

    /// `poststop` ended.
    pub(super) fn posted(&mut self) {
        self.stop_step(StopStep::Daemon(None));
    }

    /// The daemon refused to stop: it is changing its role, so it is asked again.
    pub(super) fn stop_refused(&mut self, why: &Refusal) {
        self.log(format!("stop: {why}"));
        if let Some(Job::Stop { step, .. }) = &mut self.job
            && let StopStep::Daemon(Some(_)) = step
        {
            // At the next tick, not at once.
            self.ask_again = self.now + AGAIN;
            *step = StopStep::Daemon(None);
        }
    }

    fn stopped(&mut self) {
        let Some(Job::Stop { again, tokens, .. }) = self.job.take() else {
            return;
        };
        self.asking = None;
        self.deaths = 0;
        self.failing_over = false;
        if again && self.started() {
            self.action = "start";
            self.doubt(true);
            self.waiting.extend(tokens);
        } else {
            for token in tokens {
                self.resolve(token, Ok(()));
            }
        }
        self.log("stopped");
    }

    fn tend_swap(&mut self, asked: Option<Instant>, token: Option<u64>) {
        let possible = self.view().is_some_and(|v| v.peer_can_serve());
        if let Some(end) = asked {
            if self.now >= end {
                self.swap_over(token, Err(super::commands::busy()));
            }
            return;
        }
        if !possible {
            return self.swap_over(token, Err(no_follower(&self.config.peer)));
        }
        let idle = self.doing.is_none() && self.wish == Running::BOTH && self.has == self.wish;
        if idle || !self.rules.asks_when_idle {
            let end = Some(self.now + STOP_LIMIT);
            self.job = Some(Job::Swap { asked: end, token });
            self.out.push(Output::Ask(Ask::Swap));
        }
    }

    pub(super) fn swap_over(&mut self, token: Option<u64>, result: Result<(), Refusal>) {
        self.job = None;
        if let Err(refusal) = &result {
            self.swap_again = self.now + SWAP_PAUSE;
            self.log(format!("swap: {refusal}"));
        }
        if let Some(token) = token {
            self.resolve(token, result);
        }
    }

    /// Counts a restart of the manager's own. False: it was one too many, and the module stops.
    pub(super) fn count_restart(&mut self, why: &str) -> bool {
        let window = self.config.restart_window;
        while let Some(first) = self.restarts.front() {
            if self.now.saturating_duration_since(*first) <= window {
                break;
            }
            self.restarts.pop_front();
        }
        let count = self.restarts.len() as u32;
        if self.config.max_restarts == 0 || count < self.config.max_restarts {
            self.restarts.push_back(self.now);
            return true;
        }
        self.stop_for(Refusal::new(
            "maxloop",
            format!("restarted {count} times by itself, and again: {why}"),
            "repair the cause, then `tandem start`; any command of yours resets the counter",
        ));
        false
    }

    /// The module stops, and stays so until an operator starts it.
    pub(super) fn stop_for(&mut self, reason: Refusal) {
        self.log(format!("stops: {reason}"));
        self.wants.started = false;
        self.wants.stopped = Some(reason);
        self.save();
        self.begin_job(Job::stop(false));
    }
}

pub(super) fn no_follower(peer: &str) -> Refusal {
    Refusal::new(
        "no-follower",
        format!("{peer} does not follow, or not yet"),
        format!("start the module on {peer} and wait until it is SECOND, ready"),
    )
}
