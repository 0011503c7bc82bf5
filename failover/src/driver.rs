//! The manager's process: feeds each module's machine with what happens, and performs what it
//! decides.
//!
//! One loop owns all machines; nothing in it waits. What takes time (programs, addresses, questions
//! to a daemon) runs in threads of its own and comes back as an event.

mod change;
mod checkers;
mod clients;
mod control;
mod module;
mod notify;
mod perform;
mod settings;
mod signals;
mod timeline;

use crate::control::{Brief, Envelope};
use crate::io::check::Report;
use crate::io::events::EventLog;
use crate::io::peers::{Peers, Reply};
use crate::io::services::Services;
use crate::io::vip::{Addresses, VipEvent};
use crate::io::watchdog::Watchdog;
use crate::logic::api::{Command, Daemon, Input};
use change::Changes;
use module::{Runtime, Tools};
use notify::Notifier;
pub use settings::{ManagerError, Node, Settings};
use std::cell::RefCell;
use std::rc::Rc;
use std::sync::mpsc::{Receiver, RecvTimeoutError, Sender, channel};
use std::time::{Duration, Instant};
use tandem_repl::control::Status;
use tandem_repl::io::clock;

/// How often machines are told that time passes.
const TICK: Duration = Duration::from_millis(100);
/// A loop that was away for longer was not merely busy.
const SLEPT: Duration = Duration::from_millis(600);
/// How long modules may take to stop when the manager is told to end.
const LEAVE_LIMIT: Duration = Duration::from_secs(300);

/// Something that happened.
enum Event {
    Machine(String, Input),
    Status(String, Daemon, Option<Box<Status>>),
    /// Of another node's manager, or of a program here.
    Client(Option<String>, Box<Envelope>, Reply),
    Change(change::Step),
    Report(Report),
    Vip(VipEvent),
    /// The manager is told to end in order.
    End,
}

/// The process.
struct Manager {
    settings: Settings,
    modules: Vec<Runtime>,
    changes: Changes,
    tools: Tools,
    peers: Peers,
    log: EventLog,
    notifier: Notifier,
    watchdog: Rc<RefCell<Watchdog>>,
    /// Since when it ends.
    ending: Option<Instant>,
}

/// Runs until told to end. Modules go on when it is killed; when it is told to end they are
/// stopped in order, and started again with it.
///
/// # Errors
/// What makes it impossible to run, with its place and remedy.
pub fn run(settings: Settings) -> Result<(), ManagerError> {
    let signals = signals::Signals::catch();
    let (send, events) = channel();
    let listener = control::listen(&settings.run_dir)?;
    let (vip_send, vip_events) = channel();
    let addresses = Addresses::start(vip_send)?;
    forward(vip_events, send.clone(), Event::Vip)?;
    let (report_send, reports) = channel();
    forward(reports, send.clone(), Event::Report)?;
    let log = EventLog::open(&settings.state_dir.join("events.log"));
    let fresh_boot = module::fresh_boot(&settings.run_dir)?;
    let watchdog = Rc::new(RefCell::new(Watchdog::new(settings.watchdog.clone())));
    let mut modules = Vec::new();
    let tools = Tools {
        send: send.clone(),
        reports: report_send,
        addresses,
        services: Services::default(),
        watchdog: watchdog.clone(),
    };
    for config in settings.modules().cloned() {
        modules.push(Runtime::start(
            &settings,
            config,
            tools.clone(),
            fresh_boot,
        )?);
    }
    let changes = Changes::new(&settings)?;
    control::serve(listener, send.clone()).map_err(ManagerError::Thread)?;
    let asked = send.clone();
    let peers = Peers::start(&settings, move |from, envelope, reply| {
        // The loop may have ended.
        let _ = asked.send(Event::Client(Some(from), Box::new(envelope), reply));
    })?;
    peers.say_facts(changes.facts());
    let ended = send;
    signals.forward(move || ended.send(Event::End).is_ok());
    let mut manager = Manager {
        settings,
        modules,
        changes,
        tools,
        peers,
        log,
        notifier: Notifier::start(),
        watchdog,
        ending: None,
    };
    tracing::info!("failover manager of {} is ready", manager.settings.node);
    manager.run(&events);
    manager.notifier.finish();
    let _ = std::fs::remove_file(crate::control::socket(&manager.settings.run_dir));
    Ok(())
}

/// Turns what a part says into events of the loop.
fn forward<T: Send + 'static>(
    from: Receiver<T>,
    to: Sender<Event>,
    make: fn(T) -> Event,
) -> Result<(), ManagerError> {
    let run = move || {
        for item in from {
            if to.send(make(item)).is_err() {
                return;
            }
        }
    };
    let spawned = std::thread::Builder::new()
        .name("forward".into())
        .spawn(run);
    spawned.map(|_| ()).map_err(ManagerError::Thread)
}

impl Manager {
    fn run(&mut self, events: &Receiver<Event>) {
        let mut last = clock::now();
        let mut next_tick = last + TICK;
        self.notifier.ready();
        loop {
            let dues = self.modules.iter().filter_map(|m| m.machine.due());
            let due = dues.fold(next_tick, Instant::min);
            let wait = due.saturating_duration_since(clock::now());
            let event = events.recv_timeout(wait);
            let now = clock::now();
            let away = now.saturating_duration_since(last);
            last = now;
            if away > SLEPT {
                // Before anything that was true when it fell asleep is believed.
                self.all(|_| Input::Slept(away));
            }
            match event {
                Ok(event) => self.on_event(event),
                Err(RecvTimeoutError::Timeout) => {}
                Err(RecvTimeoutError::Disconnected) => return,
            }
            if now >= due && now < next_tick {
                self.all(|_| Input::Tick);
            }
            if now >= next_tick {
                self.all(|_| Input::Tick);
                self.look_inside();
                self.hear();
                self.tend_changes();
                next_tick = now + TICK;
            }
            self.say();
            let modules = &self.modules;
            self.notifier.turn(now, || in_a_line(modules));
            let exposed = modules.iter().any(|m| m.machine.is_exposed());
            self.watchdog.borrow_mut().tend(now, exposed);
            if self.has_ended() {
                return;
            }
        }
    }

    fn all(&mut self, input: impl Fn(&Runtime) -> Input) {
        for module in &mut self.modules {
            let input = input(module);
            module.handle(input, &mut self.log);
        }
    }

    fn module(&mut self, name: &str) -> Option<(&mut Runtime, &mut EventLog)> {
        let module = self.modules.iter_mut().find(|m| m.name() == name)?;
        Some((module, &mut self.log))
    }

    fn on_event(&mut self, event: Event) {
        match event {
            Event::Machine(name, input) => {
                if let Some((module, log)) = self.module(&name) {
                    module.handle(input, log);
                }
            }
            Event::Status(name, daemon, status) => {
                if let Some((module, log)) = self.module(&name) {
                    module.on_status(daemon, status, log);
                }
            }
            Event::Client(from, envelope, reply) => self.on_client(from, *envelope, reply),
            Event::Change(step) => self.on_change(step),
            Event::Report(report) => {
                if let Some((module, log)) = self.module(&report.module) {
                    module.on_report(&report, log);
                }
            }
            Event::Vip(event) => {
                for module in &mut self.modules {
                    module.on_vip(&event, &mut self.log);
                }
            }
            Event::End => {
                if self.ending.is_none() {
                    tracing::info!("told to end: the modules are stopped in order");
                    self.notifier.stopping();
                    self.ending = Some(clock::now());
                    self.all(|module| Input::Command {
                        token: module.new_token(),
                        command: Command::Leave,
                    });
                }
            }
        }
    }

    fn has_ended(&self) -> bool {
        let Some(since) = self.ending else {
            return false;
        };
        let late = clock::now().saturating_duration_since(since) > LEAVE_LIMIT;
        late || self.modules.iter().all(Runtime::is_stopped)
    }

    /// Tells the other managers what the modules are, if that changed.
    fn say(&self) {
        let brief = |m: &Runtime| {
            let shown = m.machine.shown();
            let brief = Brief {
                state: shown.state,
                readiness: shown.readiness,
                reason: shown.reason,
                word: Some(m.machine.wants().word()),
            };
            (m.name().to_string(), brief)
        };
        self.peers.say(self.modules.iter().map(brief).collect());
    }
}

/// All modules, for systemd.
fn in_a_line(modules: &[Runtime]) -> String {
    let one = |module: &Runtime| {
        let shown = module.machine.shown();
        let state = format!("{:?}", shown.state).to_uppercase();
        format!("{} {state} {:?}", module.name(), shown.readiness)
    };
    match modules {
        [] => "no modules".into(),
        _ => modules.iter().map(one).collect::<Vec<_>>().join(", "),
    }
}
