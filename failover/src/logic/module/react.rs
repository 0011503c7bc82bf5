//! What follows when a checker says that something is down.

use super::super::api::{Step, View};
use super::super::level::Role;
use super::jobs::Job;
use super::{AGAIN, Machine};
use crate::config::{CheckerKind, Reaction, When};
use std::time::Duration;
use tandem_repl::control::Refusal;

impl Machine {
    pub(super) fn on_checker(&mut self, name: &str, up: bool, detail: String) {
        if up {
            if self.down.remove(name).is_some() {
                self.log(format!("checker {name}: up again"));
            }
            self.yields.remove(name);
            if self.blocked.remove(name).is_some() && self.blocked.is_empty() {
                self.daemon_again = self.now;
            }
            return;
        }
        let checker = self.config.checkers.iter().find(|c| c.name == name);
        let Some(reaction) = checker.map(|c| c.on_failure.clone()) else {
            return;
        };
        self.log(format!("checker {name}: {detail}"));
        self.down.insert(name.to_string(), detail.clone());
        if !self.heeds_checkers() {
            return;
        }
        let reason = Refusal::new(
            "checker",
            format!("checker {name}: {detail}"),
            "repair what it looks at; `tandem checker off` ignores all checkers",
        );
        match reaction {
            Reaction::Wait => self.wait_for(name, reason),
            _ if self.job.is_some() => {}
            Reaction::Restart => {
                if self.count_restart(&reason.reason) {
                    self.begin_job(Job::restart());
                }
            }
            Reaction::Stopstart => {
                if self.count_restart(&reason.reason) {
                    self.begin_job(Job::stop(true));
                }
            }
            Reaction::Stop => self.stop_for(reason),
            Reaction::Swap => {
                let possible = self.view().is_some_and(|v| v.peer_can_serve());
                if self.count_restart(&reason.reason) {
                    self.begin_job(if possible {
                        Job::swap()
                    } else {
                        Job::restart()
                    });
                }
            }
            Reaction::Run(action) => {
                // Its end changes nothing.
                self.perform(Step::Run(action));
            }
        }
    }

    /// What checkers find has consequences.
    fn heeds_checkers(&self) -> bool {
        self.wants.checkers && !self.wants.maintenance && self.started()
    }

    /// Whether a checker of this kind looks now: only while what it looks at should be there.
    pub fn looks(&self, when: When) -> bool {
        let runs = |role| self.settled() && self.has.role == role;
        self.heeds_checkers()
            && match when {
                When::Prim => runs(Some(Role::Prim)),
                When::Second => runs(Some(Role::Second)),
                When::Both => self.settled() && self.has.role.is_some(),
                When::Started => true,
            }
    }

    /// The module waits until the checker is up. The last node that serves goes on: if what it
    /// looks at is down everywhere, waiting everywhere would help nobody (C07). So where it may be
    /// the same for both nodes, the serving one leaves the other the time to find it, too.
    fn wait_for(&mut self, name: &str, reason: Refusal) {
        let Some(checker) = self.config.checkers.iter().find(|c| c.name == name) else {
            return;
        };
        let shared = looks_outside(&checker.kind);
        let patience = if shared {
            checker.interval + AGAIN
        } else {
            Duration::ZERO
        };
        if self.view().is_some_and(View::serves) {
            if !self.view().is_some_and(View::peer_can_serve) {
                self.log("this is the last node that serves, it goes on");
            }
            let due = self.now + patience;
            self.yields.insert(name.to_string(), (due, reason));
            return;
        }
        self.blocked.insert(name.to_string(), reason);
        if self.job.is_none() && self.view().is_some() {
            self.begin_job(Job::stop(true));
        }
    }

    /// A serving node whose checker is down leaves the application to a node that can have it.
    pub(super) fn tend_yields(&mut self) {
        if self.yields.is_empty() || self.job.is_some() {
            return;
        }
        let active = self.heeds_checkers();
        let serves = self.view().is_some_and(View::serves);
        if !active || !serves {
            // Not by this; and a node that does not serve waits at once.
            let all = std::mem::take(&mut self.yields);
            if active && self.view().is_some() {
                all.into_iter()
                    .for_each(|(name, (_, reason))| self.wait_for(&name, reason));
            }
            return;
        }
        if !self.view().is_some_and(View::peer_can_serve) {
            // Who joins now has its own checkers to say whether it can.
            let patience = self.now + AGAIN;
            for (due, _) in self.yields.values_mut() {
                *due = (*due).max(patience);
            }
            return;
        }
        if self.yields.values().any(|(due, _)| self.now >= *due) {
            let all = std::mem::take(&mut self.yields);
            self.blocked
                .extend(all.into_iter().map(|(name, (_, reason))| (name, reason)));
            self.begin_job(Job::stop(true));
        }
    }
}

/// What the other node may find as well.
fn looks_outside(kind: &CheckerKind) -> bool {
    match kind {
        CheckerKind::Tcp { .. }
        | CheckerKind::Http { .. }
        | CheckerKind::Ping { .. }
        | CheckerKind::Command(_) => true,
        CheckerKind::Process { .. }
        | CheckerKind::Service(_)
        | CheckerKind::Interface { .. }
        | CheckerKind::VirtualIp
        | CheckerKind::Module(_) => false,
    }
}
