//! What a machine decides is done.

use super::Event;
use super::module::Runtime;
use crate::config::{Action, Application, Script};
use crate::io::daemon;
use crate::io::events::EventLog;
use crate::io::run::{GRACE, Job, Outcome};
use crate::logic::api::{Ask, Context, Input, Output, Step};
use std::time::Duration;
use tandem_repl::control::{Refusal, State};
use tandem_repl::io::clock;

/// How long a unit may take to start or to stop.
const SERVICE_LIMIT: Duration = Duration::from_secs(300);

impl Runtime {
    pub(super) fn perform(&mut self, outputs: Vec<Output>, log: &mut EventLog) {
        if self.machine.is_exposed() {
            // Before a node serves there is something that ends it if it hangs.
            self.tools.watchdog.borrow_mut().tend(clock::now(), true);
        }
        let mut unsaved = None;
        for output in outputs {
            match output {
                Output::Do(id, step) => self.begin(id, step),
                Output::Ask(ask) => self.ask(ask),
                Output::DropAddresses => self.drop_addresses(log),
                Output::HoldAddresses => self.hold_addresses(),
                Output::KillDaemon => self.kill_daemon(),
                Output::Save(wants) => {
                    if let Err(e) = self.store.save(&wants) {
                        log.write(Some(&self.config.name), &e.to_string());
                        unsaved = Some(Refusal::new(
                            "unsaved",
                            format!("what you want could not be kept: {e}"),
                            "it is so until this machine boots; repair the state directory",
                        ));
                    }
                }
                Output::Remember(running) => {
                    if let Err(e) = self.store.remember(running) {
                        tracing::warn!("module {}: {e}", self.config.name);
                    }
                }
                Output::Resolve { token, result } => {
                    let result = result.and_then(|()| unsaved.clone().map_or(Ok(()), Err));
                    self.resolve(token, result);
                }
                Output::Mark(phase) => {
                    if let Some(failover) = self.timeline.mark(phase, &self.machine) {
                        let text = super::timeline::text(&failover);
                        log.write(Some(&self.config.name), &text);
                        if let Err(e) = self.store.add_failover(failover) {
                            tracing::warn!("module {}: {e}", self.config.name);
                        }
                    }
                }
                Output::Log(text) => log.write(Some(&self.config.name), &text),
            }
        }
    }

    /// The end of a step becomes an input.
    fn done(&self, id: u64) -> impl FnOnce(Result<(), String>) + Send + 'static {
        let (send, name) = (self.tools.send.clone(), self.config.name.clone());
        move |result| {
            // The loop may have ended.
            let _ = send.send(Event::Machine(name, Input::Done(id, result)));
        }
    }

    fn aside(&self, id: u64, work: impl FnOnce() -> Result<(), String> + Send + 'static) {
        let done = self.done(id);
        let spawned = std::thread::Builder::new()
            .name("step".into())
            .spawn(move || done(work()));
        if let Err(e) = spawned {
            self.done(id)(Err(format!("no thread: {e}")));
        }
    }

    fn begin(&mut self, id: u64, step: Step) {
        match step {
            Step::Script {
                script,
                force,
                context,
            } => self.script(id, script, force, context),
            Step::TakeAddresses | Step::SeizeAddresses => {
                let (addresses, list) = self.addresses();
                let ask = step == Step::TakeAddresses;
                self.aside(id, move || {
                    addresses.take(&list, ask).map_err(|e| e.to_string())
                });
            }
            Step::ReleaseAddresses => {
                let (addresses, list) = self.addresses();
                self.aside(id, move || {
                    addresses.release(&list).map_err(|e| e.to_string())
                });
            }
            Step::StartDaemon => {
                let place = self.place.clone();
                self.aside(id, move || daemon::start(&place));
            }
            Step::Fence(action) => self.program(id, "fence", &action, Vec::new()),
            Step::Run(action) => self.program(id, "reaction", &action, Vec::new()),
        }
    }

    fn script(&mut self, id: u64, script: Script, force: bool, context: Context) {
        let state = |s: State| format!("{s:?}").to_uppercase();
        let env = vec![
            ("TANDEM_ACTION".to_string(), context.action.to_string()),
            ("TANDEM_FROM".to_string(), state(context.from)),
            ("TANDEM_TO".to_string(), state(context.to)),
            ("TANDEM_FORCE".to_string(), u8::from(force).to_string()),
        ];
        match &self.config.application {
            Application::Scripts(scripts) => {
                let Some(action) = scripts.get(&script) else {
                    return self.done(id)(Ok(()));
                };
                let mut action = action.clone();
                if force {
                    action.command.push("force".into());
                }
                self.program(id, script.name(), &action, env);
            }
            Application::Services(units) => {
                let (units, services) = (units.clone(), self.tools.services.clone());
                self.aside(id, move || {
                    let start = script == Script::StartPrim;
                    let mut order: Vec<&String> = units.iter().collect();
                    if !start {
                        order.reverse();
                    }
                    for unit in order {
                        let result = if start {
                            services.start(unit, SERVICE_LIMIT)
                        } else {
                            services.stop(unit, SERVICE_LIMIT)
                        };
                        result.map_err(|e| e.to_string())?;
                    }
                    Ok(())
                });
            }
        }
    }

    fn program(&mut self, id: u64, name: &str, action: &Action, env: Vec<(String, String)>) {
        let done = self.done(id);
        let mut all = self.environment();
        all.extend(env);
        self.runner.start(Job {
            name: name.to_string(),
            command: action.command.clone(),
            limit: action.limit,
            grace: GRACE,
            env: all,
            done: Box::new(move |outcome| done(judged(&outcome))),
        });
    }

    fn addresses(&self) -> (crate::io::vip::Addresses, Vec<crate::config::VirtualIp>) {
        (
            self.tools.addresses.clone(),
            self.config.virtual_ips.clone(),
        )
    }

    /// What a predecessor left here is announced and watched again.
    pub(super) fn hold_addresses(&mut self) {
        let (addresses, list) = self.addresses();
        if let Err(e) = addresses.take(&list, false) {
            tracing::warn!("module {}: {e}", self.config.name);
        }
    }

    /// At once, in the loop: nothing is more urgent.
    fn drop_addresses(&mut self, log: &mut EventLog) {
        if self.config.virtual_ips.is_empty() {
            return;
        }
        let (addresses, list) = self.addresses();
        if let Err(e) = addresses.release(&list) {
            log.write(Some(&self.config.name), &format!("addresses: {e}"));
        }
    }

    fn ask(&self, ask: Ask) {
        let (send, name) = (self.tools.send.clone(), self.config.name.clone());
        let socket = self.place.socket.clone();
        let answer = move |result| {
            // The loop may have ended.
            let _ = send.send(Event::Machine(name, Input::Answered(ask, result)));
        };
        let late = answer.clone();
        let spawned = std::thread::Builder::new()
            .name("ask".into())
            .spawn(move || answer(daemon::ask(&socket, ask)));
        if let Err(e) = spawned {
            let refusal = Refusal::new("thread", e.to_string(), "free memory on this node");
            late(Err(refusal));
        }
    }

    fn kill_daemon(&self) {
        if let Some(status) = &self.daemon {
            super::signals::kill(status.pid);
        }
    }
}

fn judged(outcome: &Outcome) -> Result<(), String> {
    if outcome.is_success() {
        return Ok(());
    }
    let output = outcome.output().trim();
    let last = output.lines().last().unwrap_or_default();
    Err(if last.is_empty() {
        outcome.to_string()
    } else {
        format!("{outcome}; it said: {last}")
    })
}
