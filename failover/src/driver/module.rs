//! One module at run time: its machine, and what belongs to it in the world.

use super::checkers::Looks;
use super::timeline::Timeline;
use super::{Event, ManagerError, Settings};
use crate::config::{Boot, Module, VirtualIp};
use crate::control::{Answer, Failover, ModuleStatus};
use crate::io::check::Report;
use crate::io::daemon::{Place, Watch};
use crate::io::events::EventLog;
use crate::io::peers::Reply;
use crate::io::run::{self, Runner};
use crate::io::services::Services;
use crate::io::store::{Store, StoreError};
use crate::io::vip::{Addresses, VipEvent};
use crate::io::watchdog::Watchdog;
use crate::logic::api::{Command, Daemon, Input};
use crate::logic::level::Running;
use crate::logic::module::{Machine, Shown};
use std::cell::RefCell;
use std::collections::HashMap;
use std::path::{Path, PathBuf};
use std::rc::Rc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::mpsc::Sender;
use tandem_repl::control::{Refusal, State, Status};
use tandem_repl::io::clock;

/// What all modules share.
#[derive(Clone)]
pub(super) struct Tools {
    pub(super) send: Sender<Event>,
    pub(super) reports: Sender<Report>,
    pub(super) addresses: Addresses,
    pub(super) services: Services,
    pub(super) watchdog: Rc<RefCell<Watchdog>>,
}

/// A module at run time.
pub(super) struct Runtime {
    pub(super) config: Module,
    pub(super) node: String,
    pub(super) machine: Machine,
    pub(super) store: Store,
    pub(super) place: Place,
    pub(super) runner: Runner,
    pub(super) tools: Tools,
    pub(super) daemon: Option<Box<Status>>,
    pub(super) replies: HashMap<u64, Reply>,
    pub(super) looks: Looks,
    pub(super) timeline: Timeline,
    watch: Watch,
}

/// Whether this is the first manager since the machine booted: the run directory is empty then.
pub(super) fn fresh_boot(run_dir: &Path) -> Result<bool, StoreError> {
    let path = run_dir.join("failover.booted");
    let io = |source| StoreError::Io {
        path: path.clone(),
        source,
    };
    if path.exists() {
        return Ok(false);
    }
    std::fs::create_dir_all(run_dir).map_err(io)?;
    std::fs::write(&path, "").map_err(io)?;
    Ok(true)
}

/// Tells the loop what a module's daemon says.
fn watch(config: &Module, socket: PathBuf, tools: &Tools) -> std::io::Result<Watch> {
    let (send, module) = (tools.send.clone(), config.name.clone());
    Watch::start(socket, config.stall_limit, move |daemon, status| {
        let status = status.map(Box::new);
        // The loop may have ended.
        let _ = send.send(Event::Status(module.clone(), daemon, status));
    })
}

impl Runtime {
    pub(super) fn start(
        settings: &Settings,
        config: Module,
        tools: Tools,
        fresh_boot: bool,
    ) -> Result<Self, ManagerError> {
        let name = config.name.clone();
        let state_dir = settings.state_dir.join(&name);
        let store = Store::open(&state_dir, &settings.run_dir, &name)?;
        let mut wants = store.wants()?;
        if fresh_boot {
            match config.boot {
                Boot::On => wants.started = true,
                Boot::Off => wants.started = false,
                Boot::Auto => {}
            }
            store.save(&wants)?;
        }
        let mut found = store.running();
        let runner = Runner::new(settings.run_dir.join(format!("{name}.scripts")));
        let leftovers = run::leftovers(runner.dir()).unwrap_or_else(|e| {
            tracing::warn!("module {name}: programs of a former manager: {e}");
            Vec::new()
        });
        for leftover in leftovers {
            // Whatever it had begun, it is not known how far it came.
            let pid = leftover.pid();
            tracing::warn!("module {name}: process {pid} of a former manager is ended");
            leftover.kill(run::GRACE);
            found.doubtful = true;
        }
        if !found.addresses {
            // Nobody knows of them, so they do not belong here.
            if let Err(e) = tools.addresses.release(&config.virtual_ips) {
                tracing::warn!("module {name}: {e}");
            }
        }
        let socket = settings.run_dir.join(format!("{name}.sock"));
        let watch = watch(&config, socket.clone(), &tools).map_err(ManagerError::Thread)?;
        let machine = Machine::new(config.clone(), wants, found, clock::now());
        Ok(Self {
            node: settings.node.clone(),
            machine,
            store,
            place: Place {
                module: name,
                socket,
                program: settings.program.clone(),
            },
            runner,
            tools,
            daemon: None,
            replies: HashMap::new(),
            looks: Looks::default(),
            timeline: Timeline::default(),
            config,
            watch,
        })
    }

    /// Takes a changed configuration over; see [`Input::Configure`].
    pub(super) fn configure(&mut self, config: Module, reply: Reply, log: &mut EventLog) {
        let old = std::mem::replace(&mut self.config, config.clone());
        let kept = |v: &VirtualIp| config.virtual_ips.iter().any(|n| n.address == v.address);
        let removed = old.virtual_ips.iter().filter(|v| !kept(v)).cloned();
        let removed: Vec<VirtualIp> = removed.collect();
        if !removed.is_empty()
            && let Err(e) = self.tools.addresses.release(&removed)
        {
            log.write(Some(&config.name), &format!("addresses: {e}"));
        }
        if old.stall_limit != config.stall_limit {
            match watch(&config, self.place.socket.clone(), &self.tools) {
                Ok(watch) => self.watch = watch,
                Err(e) => tracing::warn!("module {}: {e}", config.name),
            }
        }
        self.forget_looks(&old);
        let token = self.new_token();
        self.replies.insert(token, reply);
        let config = Box::new(config);
        self.handle(Input::Configure { token, config }, log);
    }

    pub(super) fn name(&self) -> &str {
        &self.config.name
    }

    pub(super) fn new_token(&self) -> u64 {
        static NEXT: AtomicU64 = AtomicU64::new(1);
        NEXT.fetch_add(1, Ordering::Relaxed)
    }

    /// One input to the machine, and all it decides.
    pub(super) fn handle(&mut self, input: Input, log: &mut EventLog) {
        let before = self.machine.shown();
        let outputs = self.machine.handle(clock::now(), input);
        self.perform(outputs, log);
        let after = self.machine.shown();
        let code = |shown: &Shown| shown.reason.as_ref().map(|r| r.code.clone());
        let as_before = (before.state, before.readiness) == (after.state, after.readiness);
        if !as_before || code(&before) != code(&after) {
            let reason = after.reason.as_ref().map(|r| format!(": {r}"));
            let text = format!(
                "{:?} {:?} -> {:?} {:?}{}",
                before.state,
                before.readiness,
                after.state,
                after.readiness,
                reason.unwrap_or_default()
            );
            log.write(Some(&self.config.name), &text);
        }
        self.tend_looks();
    }

    pub(super) fn order(&mut self, command: Command, reply: Reply, log: &mut EventLog) {
        let token = self.new_token();
        self.replies.insert(token, reply);
        self.handle(Input::Command { token, command }, log);
    }

    pub(super) fn resolve(&mut self, token: u64, result: Result<(), Refusal>) {
        let Some(reply) = self.replies.remove(&token) else {
            return;
        };
        let answer = match result {
            Ok(()) => Answer::Done(Box::new(self.status())),
            Err(refusal) => Answer::Refused(refusal),
        };
        reply(answer);
    }

    pub(super) fn on_status(
        &mut self,
        daemon: Daemon,
        status: Option<Box<Status>>,
        log: &mut EventLog,
    ) {
        self.daemon = status;
        self.handle(Input::Daemon(daemon), log);
    }

    pub(super) fn on_vip(&mut self, event: &VipEvent, log: &mut EventLog) {
        let held = self.machine.running().addresses;
        let mine = |address| self.config.virtual_ips.iter().any(|v| v.address == address);
        match event {
            VipEvent::Lost { address } if held && mine(*address) => {
                self.handle(Input::AddressLost(address.to_string()), log);
            }
            VipEvent::Conflict { address, mac } if held && mine(*address) => {
                let text = format!("{mac} claims the address {address} as well");
                log.write(Some(&self.config.name), &text);
            }
            _ => {}
        }
    }

    /// It is to run, or something of it does.
    pub(super) fn runs(&self) -> bool {
        self.machine.wants().started || !self.is_stopped()
    }

    /// Nothing runs, and nothing is about to.
    pub(super) fn is_stopped(&self) -> bool {
        let nothing = self.machine.running() == Running::NOTHING;
        nothing && self.machine.settled() && self.daemon.is_none()
    }

    pub(super) fn failovers(&self) -> Vec<Failover> {
        self.store.failovers()
    }

    pub(super) fn status(&self) -> ModuleStatus {
        let shown = self.machine.shown();
        let wants = self.machine.wants().clone();
        ModuleStatus {
            module: self.config.name.clone(),
            node: self.node.clone(),
            state: shown.state,
            readiness: shown.readiness,
            reason: shown.reason,
            why: shown.why,
            notes: Vec::new(),
            action: shown.action.map(str::to_string),
            failover: wants.failover.unwrap_or(self.config.failover),
            wants,
            running: self.machine.running(),
            virtual_ips: self
                .config
                .virtual_ips
                .iter()
                .map(|v| v.address.to_string())
                .collect(),
            checkers: self.looks.status(&self.config),
            daemon: self.daemon.clone(),
        }
    }

    /// What scripts and commands get to know.
    pub(super) fn environment(&self) -> Vec<(String, String)> {
        let mut all: Vec<_> = self.config.variables.clone().into_iter().collect();
        let state = |s: State| format!("{s:?}").to_uppercase();
        let addresses: Vec<_> = self
            .config
            .virtual_ips
            .iter()
            .map(|v| v.address.to_string())
            .collect();
        let own = [
            ("TANDEM_MODULE", self.config.name.clone()),
            ("TANDEM_NODE", self.node.clone()),
            ("TANDEM_PEER", self.config.peer.clone()),
            ("TANDEM_STATE", state(self.machine.shown().state)),
            ("TANDEM_VIRTUAL_IPS", addresses.join(" ")),
        ];
        all.extend(own.map(|(key, value)| (key.to_string(), value)));
        all
    }
}
