//! What follows when a checker says that something is down.

use super::super::api::Step;
use super::Machine;
use super::jobs::Job;
use crate::config::Reaction;
use tandem_repl::control::Refusal;

impl Machine {
    pub(super) fn on_checker(&mut self, name: &str, up: bool, detail: String) {
        if up {
            if self.down.remove(name).is_some() {
                self.log(format!("checker {name}: up again"));
            }
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
        if !self.wants.checkers || self.wants.maintenance || !self.started() {
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
                        Job::Swap {
                            asked: None,
                            token: None,
                        }
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

    /// The module waits until the checker is up. The last node that serves goes on: if what it
    /// looks at is down everywhere, waiting everywhere would help nobody (C07).
    fn wait_for(&mut self, name: &str, reason: Refusal) {
        let last = self
            .view()
            .is_some_and(|v| v.serves() && !v.peer_can_serve());
        if last {
            return self.log("this is the last node that serves, it goes on");
        }
        self.blocked.insert(name.to_string(), reason);
        if self.job.is_none() && self.view().is_some() {
            self.begin_job(Job::stop(true));
        }
    }
}
