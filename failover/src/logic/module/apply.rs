//! The application lane: what runs follows what should.

use super::super::api::{Context, Phase, Step};
use super::super::level::{Next, Role, Running, after, next};
use super::commands::busy;
use super::jobs::Job;
use super::{Doing, Machine, RETRY, What};
use crate::config::{Application, Script};
use tandem_repl::control::{Refusal, State};

impl Machine {
    /// What should run now.
    fn wished(&self) -> Running {
        if let Some(job) = &self.job {
            return job.wish();
        }
        let Some(view) = self.view() else {
            return Running::NOTHING;
        };
        if self.wants.maintenance {
            // Nothing is moved, but for addresses that may not be here.
            return Running {
                doubtful: false,
                ..self.has
            };
        }
        if !self.started() {
            return Running::NOTHING;
        }
        if self.gives_up() {
            return Running::BOTH;
        }
        match view.state {
            State::Alone | State::Prim => Running {
                addresses: self.may_answer(),
                ..Running::PRIM
            },
            State::Second => Running::SECOND,
            State::Wait | State::Stop => Running::NOTHING,
        }
    }

    /// Goes one step further, if none is under way.
    pub(super) fn tend_application(&mut self) {
        if self.unheard.is_some() {
            return;
        }
        let wish = self.wished();
        if wish != self.wish {
            self.wish = wish;
            self.middle = false;
        }
        if self.doing.is_some() {
            return;
        }
        let clean = self.clean.first().copied();
        let Some(step) = next(self.has, self.wish, clean, self.middle) else {
            return self.at_rest();
        };
        match step {
            Next::Middle => {
                self.middle = true;
                self.tell_transition();
            }
            Next::Clean(script) => {
                if script == Script::Prestart {
                    self.tell_transition();
                }
                if self.doing.is_none() {
                    self.script(What::Next(step), script, script.stops());
                }
            }
            Next::Script(script) => {
                // Who may not answer for the module starts nothing that would.
                let waits = script == Script::StartPrim && !self.may_answer();
                if waits || (!script.stops() && self.now < self.retry) {
                    return;
                }
                self.script(What::Next(step), script, false);
            }
            Next::TakeAddresses if self.config.virtual_ips.is_empty() => {
                self.has = after(self.has, step);
            }
            Next::ReleaseAddresses if self.config.virtual_ips.is_empty() => {
                self.has = after(self.has, step);
            }
            Next::TakeAddresses if self.now < self.retry => {}
            Next::TakeAddresses => {
                let others = self.inherits || self.took_over || self.failing_over;
                let take = if others {
                    Step::SeizeAddresses
                } else {
                    Step::TakeAddresses
                };
                self.begin(What::Next(step), take, false);
            }
            Next::ReleaseAddresses => self.begin(What::Next(step), Step::ReleaseAddresses, false),
        }
    }

    /// What should run does.
    fn at_rest(&mut self) {
        if self.job.is_some() {
            return;
        }
        self.tell_transition();
        if self.doing.is_some() || !self.settled() || self.has.role.is_none() {
            return;
        }
        for token in std::mem::take(&mut self.waiting) {
            self.resolve(token, Ok(()));
        }
    }

    /// Calls `transition` if the state is another than it was told last.
    fn tell_transition(&mut self) {
        let state = self.shown().state;
        if state != self.told {
            self.script(What::Told(state), Script::Transition, false);
        }
    }

    /// Calls a script; one that the module does not have is done at once.
    pub(super) fn script(&mut self, what: What, script: Script, force: bool) {
        let there = match &self.config.application {
            Application::Scripts(scripts) => scripts.contains_key(&script),
            Application::Services(_) => matches!(script, Script::StartPrim | Script::StopPrim),
        };
        if !there {
            return self.ended(what);
        }
        let context = Context {
            from: self.told,
            to: self.shown().state,
            action: self.action,
        };
        let step = Step::Script {
            script,
            force,
            context,
        };
        self.begin(what, step, force);
    }

    pub(super) fn begin(&mut self, what: What, step: Step, force: bool) {
        self.doing = Some(Doing {
            id: self.next,
            what,
            force,
        });
        // Before it begins.
        self.remember();
        self.perform(step);
    }

    /// A step ended as it should.
    pub(super) fn ended(&mut self, what: What) {
        match what {
            What::Next(step) => {
                if let Next::Clean(script) = step {
                    self.clean.retain(|s| *s != script);
                }
                self.has = after(self.has, step);
                match step {
                    Next::TakeAddresses => self.mark(Phase::Addresses),
                    Next::Script(Script::StartPrim) => {
                        self.trouble = None;
                        self.mark(Phase::Application);
                    }
                    _ => {}
                }
            }
            What::Told(state) => self.told = state,
            What::Post => self.posted(),
            What::More => self.more_ended(Ok(())),
        }
    }

    pub(super) fn on_done(&mut self, id: u64, result: Result<(), String>) {
        if self.starting == Some(id) {
            return self.daemon_started(result);
        }
        if self.fencing == Some(id) {
            return self.fenced(result);
        }
        let Some(doing) = self.doing.filter(|d| d.id == id) else {
            return;
        };
        self.doing = None;
        match result {
            Ok(()) => self.ended(doing.what),
            Err(why) => self.failed(doing, why),
        }
    }

    fn failed(&mut self, doing: Doing, why: String) {
        match doing.what {
            What::More => self.more_ended(Err(why)),
            What::Next(Next::TakeAddresses) => {
                self.retry = self.now + RETRY;
                self.trouble = Some(Refusal::new(
                    "address",
                    why,
                    "free the address, or correct `virtual_ips`; it is tried again by itself",
                ));
                self.give_up_waiting();
            }
            What::Next(Next::ReleaseAddresses) => {
                // Said again until it is so: an address may not stay.
                self.log(format!("the addresses could not be removed: {why}"));
                self.out.push(super::Output::DropAddresses);
                self.ended(doing.what);
            }
            What::Next(Next::Script(script)) if script.stops() && !doing.force => {
                self.log(format!("{} failed, by force now: {why}", script.name()));
                self.script(doing.what, script, true);
            }
            What::Next(Next::Script(script)) if !script.stops() => {
                self.start_failed(script, why);
            }
            _ => {
                self.log(format!("a script failed: {why}"));
                self.ended(doing.what);
            }
        }
    }

    /// A start script failed: the peer takes over if it can, else it is tried again later.
    fn start_failed(&mut self, script: Script, why: String) {
        self.log(format!("{} failed: {why}", script.name()));
        self.trouble = Some(Refusal::new(
            "start-failed",
            format!("{}: {why}", script.name()),
            "repair what it says; it is tried again by itself, `tandem restart` tries at once",
        ));
        self.give_up_waiting();
        self.retry = self.now + RETRY;
        // How far it came is not known.
        match script {
            Script::StartPrim => self.has.role = Some(Role::Prim),
            Script::StartSecond => self.has.role = Some(Role::Second),
            _ => self.has.both = true,
        }
        if let Some(Job::Swap { token, .. }) = self.job {
            // Nothing is handed over that does not run: first it is brought in order.
            self.swap_over(token, Err(self.trouble.clone().unwrap_or_else(busy)));
        }
        if self.job.is_none() && self.count_restart("a start script failed") {
            let takes_over = self.view().is_some_and(|v| v.peer_can_serve());
            self.begin_job(if takes_over {
                Job::stop(true)
            } else {
                Job::restart()
            });
        }
    }

    /// Who waits for everything to run hears why it does not.
    pub(super) fn give_up_waiting(&mut self) {
        let refusal = self.trouble.clone().unwrap_or_else(busy);
        for token in std::mem::take(&mut self.waiting) {
            self.resolve(token, Err(refusal.clone()));
        }
    }
}
