//! What the module looks like from outside, with the reason whenever it is not Ready.

use super::super::level::Running;
use super::Machine;
use super::jobs::Job;
use tandem_repl::control::{Readiness, Refusal, State};

/// State of a module on this node.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Shown {
    pub state: State,
    pub readiness: Readiness,
    /// The most important one; present when not Ready.
    pub reason: Option<Refusal>,
    /// All that blocks or degrades.
    pub why: Vec<Refusal>,
    /// What is being done, in a word.
    pub action: Option<&'static str>,
}

impl Machine {
    pub fn shown(&self) -> Shown {
        let why = self.reasons();
        let reason = why.first().cloned();
        let (state, readiness) = self.state();
        let moves = self.job.is_some() || self.moves();
        Shown {
            state,
            readiness,
            reason: reason.filter(|_| readiness != Readiness::Ready),
            why,
            action: moves.then_some(self.action),
        }
    }

    fn state(&self) -> (State, Readiness) {
        if let Some(Job::Stop { .. }) = self.job {
            return (State::Wait, Readiness::Transient);
        }
        if !self.started() {
            return match self.view() {
                // Led by hand.
                Some(view) => (view.state, view.readiness),
                None if self.has == Running::NOTHING => (State::Stop, Readiness::NotReady),
                None => (State::Wait, Readiness::Transient),
            };
        }
        let Some(view) = self.view() else {
            let blocked = !self.blocked.is_empty() || self.trouble.is_some();
            return (State::Wait, transient_unless(blocked));
        };
        match view.state {
            State::Wait | State::Stop => {
                // That it is asked again, in vain, is no movement.
                let waits = self.asking.is_none() && view.readiness == Readiness::NotReady;
                let blocked = self.refused.is_some() || waits;
                (State::Wait, transient_unless(blocked))
            }
            state if self.job.is_none() && !self.moves() && self.has == self.wish => {
                let whole = self.has.role.is_some() && (!state.serves() || self.has.addresses);
                let ready = if whole || self.wants.maintenance {
                    view.readiness
                } else {
                    Readiness::Transient
                };
                (state, ready)
            }
            state => {
                let failed = self.trouble.is_some() && self.now < self.retry;
                (state, transient_unless(failed))
            }
        }
    }

    /// Everything that blocks or degrades, the most important first.
    fn reasons(&self) -> Vec<Refusal> {
        let mut all = Vec::new();
        if !self.started() {
            all.push(self.wants.stopped.clone().unwrap_or_else(|| {
                Refusal::new(
                    "stopped",
                    "an operator stopped the module here, or it was never started",
                    "run `tandem start`",
                )
            }));
        }
        all.extend(self.blocked.values().cloned());
        all.extend(self.trouble.clone());
        if let Some(view) = self.view().filter(|_| self.started()) {
            let waits = matches!(view.state, State::Wait);
            if waits && view.has_epoch && !view.peer_serves() && self.keeps_back(view) {
                all.push(Refusal::new(
                    "failover-off",
                    "failover is switched off, and the other node served last",
                    format!(
                        "start {}, or run `tandem failover on` or `tandem prim`",
                        self.config.peer
                    ),
                ));
            }
            if waits && view.has_epoch && self.is_meeting() {
                all.push(Refusal::new(
                    "meeting",
                    format!(
                        "{} was not heard of yet, it may be serving",
                        self.config.peer
                    ),
                    "wait a few seconds; then this node decides by itself",
                ));
            }
            if waits {
                all.extend(self.refused.clone());
            }
            // What the daemon says of a role that nobody gave it is no news here.
            let own = view.reason.clone().filter(|r| r.code != "no-role");
            all.extend(own.filter(|r| !all.iter().any(|a| a.code == r.code)));
        }
        if self.wants.maintenance {
            all.push(Refusal::new(
                "maintenance",
                "maintenance: the manager starts, stops and moves nothing by itself",
                "run `tandem maintenance off`",
            ));
        }
        for (name, detail) in &self.down {
            if !self.blocked.contains_key(name) {
                all.push(Refusal::new(
                    "checker-down",
                    format!("checker {name}: {detail}"),
                    "repair what it looks at",
                ));
            }
        }
        all
    }
}

fn transient_unless(blocked: bool) -> Readiness {
    if blocked {
        Readiness::NotReady
    } else {
        Readiness::Transient
    }
}
