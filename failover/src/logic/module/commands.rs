//! What operators say. Every command in every state is done, or refused with a reason.

use super::super::api::{Ask, Command, Word};
use super::Machine;
use super::jobs::{Job, no_follower};
use tandem_repl::control::{Refusal, State};

impl Machine {
    pub(super) fn on_command(&mut self, token: u64, command: Command) {
        // Whoever looks after it himself may try as often as he likes.
        self.restarts.clear();
        self.deaths = 0;
        self.retry = self.now;
        self.daemon_again = self.now;
        match command {
            Command::Start => self.start(token),
            Command::Stop => self.stop(token),
            Command::Stopstart if !self.started() => self.start(token),
            Command::Stopstart => self.job_for(token, Job::stop(true)),
            Command::Restart => self.restart(token),
            Command::Swap => self.swap(token),
            Command::Prim { force } => self.role(token, Ask::Prim { force }),
            Command::Second { full: false } => self.role(token, Ask::Second),
            Command::Second { full: true } => self.role(token, Ask::Resync { everything: true }),
            Command::Leave => {
                self.leaving = true;
                self.end(token);
            }
            Command::Failover(on) => {
                self.wants.failover = Some(on);
                self.wants.failover_said += 1;
                self.ask_again = self.now;
                self.saved(token);
            }
            Command::Maintenance(on) => {
                self.wants.maintenance = on;
                self.wants.maintenance_said += 1;
                self.saved(token);
            }
            Command::Checkers(on) => {
                self.wants.checkers = on;
                if !on {
                    self.blocked.clear();
                    self.yields.clear();
                    self.down.clear();
                }
                self.saved(token);
            }
        }
    }

    /// Failover and maintenance are words of the module, not of a node.
    pub(super) fn on_word(&mut self, word: Word) {
        if !self.wants.hear(word) {
            return;
        }
        let on = |yes: bool| if yes { "on" } else { "off" };
        let failover = self.wants.failover.unwrap_or(self.config.failover);
        self.log(format!(
            "{} was told: failover {}, maintenance {}",
            self.config.peer,
            on(failover),
            on(self.wants.maintenance)
        ));
        self.ask_again = self.now;
        self.save();
    }

    fn saved(&mut self, token: u64) {
        self.resolve(token, Ok(()));
        self.save();
    }

    fn start(&mut self, token: u64) {
        self.resolve(token, Ok(()));
        let stopping = if let Some(Job::Stop { again, .. }) = &mut self.job {
            *again = true;
            true
        } else {
            false
        };
        if !self.wants.started {
            self.wants.started = true;
            self.wants.stopped = None;
            self.trouble = None;
            self.save();
            if !stopping {
                self.action = "start";
                self.doubt(true);
            }
        }
    }

    fn stop(&mut self, token: u64) {
        if self.wants.started {
            self.wants.started = false;
            self.wants.stopped = None;
            self.save();
        }
        self.end(token);
    }

    fn end(&mut self, token: u64) {
        self.trouble = None;
        self.refused = None;
        self.blocked.clear();
        self.give_up_waiting();
        if let Some((Some(waiting), _)) = self.order.take() {
            self.resolve(waiting, Err(busy()));
        }
        if let Some(Job::Stop { again, tokens, .. }) = &mut self.job {
            *again = false;
            tokens.push(token);
            return;
        }
        self.begin_job(Job::stop(false).answering(token));
    }

    fn restart(&mut self, token: u64) {
        let runs = self.has.role.is_some() || self.wish.role.is_some();
        if !runs {
            let refusal = Refusal::new(
                "not-up",
                "the application does not run here",
                "`tandem start` starts the module; `tandem why` says what it waits for",
            );
            return self.resolve(token, Err(refusal));
        }
        self.job_for(token, Job::restart());
    }

    fn job_for(&mut self, token: u64, job: Job) {
        if self.job.is_some() {
            return self.resolve(token, Err(busy()));
        }
        self.begin_job(job.answering(token));
    }

    fn swap(&mut self, token: u64) {
        let refusal = match self.view() {
            _ if self.job.is_some() => busy(),
            Some(v) if v.peer_can_serve() => {
                return self.begin_job(Job::swap().answering(token));
            }
            Some(v) if v.serves() => no_follower(&self.config.peer),
            _ => Refusal::new(
                "not-serving",
                "this node does not serve",
                format!("run it on {}, if that serves", self.config.peer),
            ),
        };
        self.resolve(token, Err(refusal));
    }

    /// The operator's word to the daemon; the module is started for it.
    fn role(&mut self, token: u64, ask: Ask) {
        let stopping = matches!(self.job, Some(Job::Stop { .. }));
        if stopping || self.order.is_some() {
            return self.resolve(token, Err(busy()));
        }
        if !self.wants.started {
            self.wants.started = true;
            self.wants.stopped = None;
            self.trouble = None;
            self.save();
            self.action = "start";
            self.doubt(true);
        }
        if ask == Ask::Second && self.view().is_some_and(|v| v.state == State::Wait) {
            // What it does by itself; the daemon says what is in its way.
            self.ask_again = self.now;
        }
        // From here on it is the operator's word who serves.
        self.took_over = false;
        self.order = Some((Some(token), ask));
    }
}

pub(super) fn busy() -> Refusal {
    Refusal::new(
        "moving",
        "the module is changing its state",
        "repeat the command in a moment; `tandem status` shows how far it is",
    )
}
