//! Both servers with their clients.

use super::asker::Asker;
use super::installed::{self, Application, Module};
use crate::managed::program::JOURNAL;
use crate::power::engine::First;
use crate::power::machine::Machine;
use crate::power::setup::Scratch;
use anyhow::{Context, Result, bail, ensure};
use std::fs;
use std::path::PathBuf;
use std::time::Duration;
use tandem_failover::control::{ModuleStatus, NodeStatus};
use tandem_repl::control::{Readiness, State};

/// How long anything may take that waits for no deadline of the product but the stall limit.
pub const SOON: Duration = Duration::from_secs(60);
/// Lines of a console that show how it came to a failure.
const LAST: usize = 60;

/// The servers.
pub struct World {
    pub machines: [Machine; 2],
    pub modules: &'static [Module],
    askers: Vec<(&'static str, Asker)>,
    dir: PathBuf,
}

impl World {
    /// Both servers are up and in sync, and every module serves on the first.
    pub fn begin(scratch: &Scratch, modules: &'static [Module]) -> Result<Self> {
        let seed = scratch.dir.join("seed");
        for module in modules {
            fs::create_dir_all(seed.join(module.name))?;
        }
        for (node, number) in [("a", 1), ("b", 2)] {
            installed::install(node, number, &scratch.dir.join(node).join("root"), modules)?;
        }
        let texts: Vec<_> = modules.iter().map(|m| (m.name, m.text())).collect();
        let machines = scratch.assemble(First::Systemd, &seed, "root/etc/tandem", &texts)?;
        let mut world = Self {
            machines,
            modules,
            askers: Vec::new(),
            dir: scratch.dir.clone(),
        };
        let began = world.serve_first();
        began.inspect_err(|_| println!("{}", world.last_words()))?;
        Ok(world)
    }

    fn serve_first(&mut self) -> Result<()> {
        self.machines.iter_mut().try_for_each(Machine::switch_on)?;
        for node in [0, 1] {
            self.is_up(node)?;
        }
        for module in self.modules {
            self.machines[1].tandem(&["start", module.name])?;
            // Refused until the nodes have met.
            self.machines[0].wait_until("prim is obeyed", SOON, || {
                Ok(self.machines[0].tandem(&["prim", module.name]).is_ok())
            })?;
        }
        for module in self.modules {
            self.in_sync(module.name, (0, 1))?;
            if module.application != Application::None {
                let logs = self.dir.join(format!("client-{}", module.name));
                let asker = Asker::start(&logs, &module.address())?;
                asker.answered_by("a", SOON)?;
                self.askers.push((module.name, asker));
            }
        }
        Ok(())
    }

    /// Waits until a server has booted and its manager answers.
    pub fn is_up(&mut self, node: usize) -> Result<()> {
        self.machines[node].is_up()?;
        let machine = &self.machines[node];
        machine.wait_until("the manager answers", SOON, || {
            Ok(self.status(node).is_ok())
        })
    }

    /// What a server's manager says.
    pub fn status(&self, node: usize) -> Result<NodeStatus> {
        let text = self.machines[node].tandem(&["status", "--json"])?;
        serde_json::from_str(text.trim()).with_context(|| text.clone())
    }

    pub fn module(&self, node: usize, name: &str) -> Result<ModuleStatus> {
        let found = self.status(node)?.modules;
        let found = found.into_iter().find(|m| m.module == name);
        found.with_context(|| format!("module {name}"))
    }

    /// Waits until a module is in a state, and ready.
    pub fn shows(&self, node: usize, name: &str, state: State) -> Result<ModuleStatus> {
        let mut found = None;
        let machine = &self.machines[node];
        let what = format!("{name} is {state:?} and ready");
        let waited = machine.wait_until(&what, SOON, || {
            found = self.module(node, name).ok();
            let ready = |m: &ModuleStatus| m.state == state && m.readiness == Readiness::Ready;
            Ok(found.as_ref().is_some_and(ready))
        });
        match (waited, found) {
            (Ok(()), Some(found)) => Ok(found),
            (waited, found) => bail!("{waited:?}: it shows {found:?}"),
        }
    }

    /// Waits until a module serves on the first of two servers, and the second follows.
    pub fn in_sync(&self, name: &str, (serves, follows): (usize, usize)) -> Result<()> {
        self.shows(follows, name, State::Second)?;
        self.shows(serves, name, State::Prim).map(drop)
    }

    /// Waits until a module serves on one server and the other follows, and answers its client;
    /// who serves.
    pub fn settles(&self, name: &str) -> Result<usize> {
        let mut serves = 0;
        self.machines[0].wait_until(&format!("{name} is in sync"), SOON, || {
            let shown = [0, 1].map(|node| self.module(node, name).ok());
            let is = |node: usize, state| {
                let shown = shown[node].as_ref();
                shown.is_some_and(|m| m.state == state && m.readiness == Readiness::Ready)
            };
            serves = usize::from(is(1, State::Prim));
            Ok(is(serves, State::Prim) && is(1 - serves, State::Second))
        })?;
        if let Ok(asker) = self.asker(name) {
            asker.answered_by(&self.machines[serves].name, SOON)?;
        }
        Ok(serves)
    }

    /// The client of a module.
    pub fn asker(&self, name: &str) -> Result<&Asker> {
        let found = self.askers.iter().find(|(module, _)| *module == name);
        let (_, asker) = found.with_context(|| format!("client of {name}"))?;
        Ok(asker)
    }

    /// Runs a line of a shell on a server.
    pub fn shell(&self, node: usize, line: &str) -> Result<String> {
        let said = self.machines[node].remote().run(&["/bin/sh", "-c", line])?;
        Ok(said.trim_end().to_owned())
    }

    /// A property of a unit.
    pub fn property(&self, node: usize, unit: &str, name: &str) -> Result<String> {
        self.shell(node, &format!("systemctl show -P {name} {unit}"))
    }

    /// The clients end; what they were told is on both servers, which are equal.
    pub fn ends_well(&mut self) -> Result<()> {
        for (name, mut asker) in std::mem::take(&mut self.askers) {
            asker.end()?;
            let heard = asker.heard()?;
            let module = self.modules.iter().find(|m| m.name == name);
            let directory = module.context("a module")?.directory();
            let mut copies = Vec::new();
            for node in [0, 1] {
                let text = self.shell(node, &format!("cat {directory}/{JOURNAL}"))?;
                let copy = self.dir.join(format!("journal-{name}-{node}"));
                fs::write(&copy, &text)?;
                heard.is_found(&copy)?;
                copies.push(text);
            }
            ensure!(copies[0] == copies[1], "the copies of {name} differ");
            let count = heard.acks.len();
            println!("{name}: {count} answers, all of them on both servers");
        }
        self.machines.iter().try_for_each(Machine::is_sound)
    }

    /// The last lines of both consoles, and what the managers say.
    pub fn last_words(&self) -> String {
        let mut words = String::new();
        for (node, machine) in self.machines.iter().enumerate() {
            let said = machine.said().unwrap_or_default();
            let lines: Vec<_> = said.lines().collect();
            let from = lines.len().saturating_sub(LAST);
            let status = if machine.is_on() {
                self.status(node).map(|s| format!("{s:?}"))
            } else {
                Ok("switched off".to_owned())
            };
            let status = status.unwrap_or_else(|error| format!("{error:#}"));
            let (name, lines) = (&machine.name, lines[from..].join("\n  "));
            words.push_str(&format!(
                "console of {name}:\n  {lines}\n{name}: {status}\n"
            ));
        }
        words
    }
}
