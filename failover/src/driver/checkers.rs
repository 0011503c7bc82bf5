//! The checkers of a module: each looks only while what it looks at should be there.

use super::Manager;
use super::module::Runtime;
use crate::config::{Checker, CheckerKind, Module};
use crate::control::CheckerStatus;
use crate::io::check::{Context, Report, Watch};
use crate::io::events::EventLog;
use crate::logic::api::Input;
use std::collections::BTreeMap;
use tandem_repl::control::{Readiness, State};

/// What is known of a module's checkers.
#[derive(Default)]
pub(super) struct Looks {
    watches: BTreeMap<String, Watch>,
    last: BTreeMap<String, (bool, String)>,
}

impl Looks {
    pub(super) fn status(&self, config: &Module) -> Vec<CheckerStatus> {
        let one = |checker: &Checker| {
            let last = self.last.get(&checker.name);
            CheckerStatus {
                name: checker.name.clone(),
                up: last.map(|(up, _)| *up),
                detail: last.map(|(_, detail)| detail.clone()).unwrap_or_default(),
            }
        };
        config.checkers.iter().map(one).collect()
    }
}

impl Runtime {
    /// Begins and ends looking, as what runs has changed.
    pub(super) fn tend_looks(&mut self) {
        for checker in self.config.checkers.clone() {
            if matches!(
                checker.kind,
                CheckerKind::VirtualIp | CheckerKind::Module(_)
            ) {
                continue;
            }
            let should = self.machine.looks(checker.when);
            let does = self.looks.watches.contains_key(&checker.name);
            if should && !does {
                self.start_look(checker);
            } else if !should && does {
                self.looks.watches.remove(&checker.name);
                self.looks.last.remove(&checker.name);
            }
        }
    }

    /// What was changed is looked at anew.
    pub(super) fn forget_looks(&mut self, old: &Module) {
        let new = &self.config;
        let all = old.variables != new.variables || old.virtual_ips != new.virtual_ips;
        let is_kept = |name: &String| {
            let find = |config: &Module| config.checkers.iter().find(|c| c.name == *name).cloned();
            let is_same = find(old).is_some() && find(old) == find(new);
            let told = find(new).is_some_and(|c| matches!(c.kind, CheckerKind::Command(_)));
            is_same && !(all && told)
        };
        self.looks.watches.retain(|name, _| is_kept(name));
        self.looks.last.retain(|name, _| is_kept(name));
    }

    fn start_look(&mut self, checker: Checker) {
        let context = Context {
            module: self.config.name.clone(),
            runner: self.runner.clone(),
            env: self.environment(),
            services: self.tools.services.clone(),
        };
        let name = checker.name.clone();
        match Watch::start(checker, context, self.tools.reports.clone()) {
            Ok(watch) => {
                self.looks.watches.insert(name, watch);
            }
            Err(e) => tracing::warn!("module {}: checker {name}: {e}", self.config.name),
        }
    }

    pub(super) fn on_report(&mut self, report: &Report, log: &mut EventLog) {
        // One that was under way when the looking ended says nothing any more.
        let watch = self.looks.watches.get(&report.checker);
        if watch.is_some_and(|w| w.round() == report.round) {
            self.found(&report.checker, report.up, &report.detail, log);
        }
    }

    fn found(&mut self, name: &str, up: bool, detail: &str, log: &mut EventLog) {
        let now = (up, detail.to_string());
        let before = self.looks.last.insert(name.to_string(), now);
        if before.is_none_or(|(was, _)| was != up) {
            let input = Input::Checker {
                name: name.to_string(),
                up,
                detail: detail.to_string(),
            };
            self.handle(input, log);
        }
    }

    fn inside(&self) -> Vec<Checker> {
        let own = |c: &&Checker| matches!(c.kind, CheckerKind::Module(_) | CheckerKind::VirtualIp);
        self.config.checkers.iter().filter(own).cloned().collect()
    }
}

impl Manager {
    /// The checkers that the manager itself can answer.
    pub(super) fn look_inside(&mut self) {
        let up = |m: &Runtime| {
            let shown = m.machine.shown();
            let runs = !matches!(shown.state, State::Stop | State::Wait);
            (
                m.config.name.clone(),
                runs && shown.readiness == Readiness::Ready,
            )
        };
        let states: BTreeMap<String, bool> = self.modules.iter().map(up).collect();
        for module in &mut self.modules {
            for checker in module.inside() {
                if !module.machine.looks(checker.when) {
                    module.looks.last.remove(&checker.name);
                    continue;
                }
                let (up, detail) = match &checker.kind {
                    CheckerKind::Module(other) => (
                        states.get(other).copied().unwrap_or(false),
                        format!("module {other} is not up on this node"),
                    ),
                    _ => (
                        module.machine.running().addresses,
                        "an address is gone".to_string(),
                    ),
                };
                let detail = if up { String::new() } else { detail };
                module.found(&checker.name, up, &detail, &mut self.log);
            }
        }
    }
}
