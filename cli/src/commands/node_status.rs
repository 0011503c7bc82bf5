//! `tandem status` where a failover manager runs.

use std::fmt;
use std::thread;
use std::time::Duration;

use anyhow::{Result, bail};
use tandem_failover::control as manager;
use tandem_failover::logic::level::Role;

use super::status::{details, readiness, state_name};
use super::{choose_module, status};
use crate::config::{Dirs, module_names};
use crate::exit::Exit;

/// Between two views of `--watch`.
const REFRESH: Duration = Duration::from_secs(1);

/// Shows it anew every second, until interrupted.
pub(crate) fn watch(dirs: &Dirs, named: Option<&str>, node: Option<&str>) -> Result<Exit> {
    loop {
        // Home, and away with what was there: as terminals have it since the VT100.
        print!("\x1b[H\x1b[J");
        if let Err(error) = status::run(dirs, named, node, false) {
            println!("tandem: {error:#}");
        }
        std::io::Write::flush(&mut std::io::stdout())?;
        thread::sleep(REFRESH);
    }
}

/// What the failover manager says of its node.
pub(super) fn show(
    dirs: &Dirs,
    named: Option<&str>,
    answer: manager::Answer,
    json: bool,
) -> Result<Exit> {
    let mut node = match answer {
        manager::Answer::Status(node) => node,
        manager::Answer::Refused(refusal) => {
            eprintln!("tandem: {refusal}");
            return Ok(Exit::Failed);
        }
        _ => bail!("the manager answered another question"),
    };
    if let Some(named) = named {
        let named = choose_module(&module_names(dirs)?, Some(named))?;
        node.modules.retain(|module| module.module == named);
    }
    if json {
        println!("{}", serde_json::to_string(&node)?);
        return Ok(Exit::Done);
    }
    for module in &node.modules {
        print!("{}", ShownModule(module));
    }
    for peer in &node.peers {
        let alive = if peer.alive { "answers" } else { "is silent" };
        println!("manager of {} {alive}", peer.node);
        if let Some(reason) = &peer.reason {
            println!("  reason       {} ({})", reason.reason, reason.code);
            println!("  remedy       {}", reason.remedy);
        }
        for path in &peer.paths {
            let state = if path.alive { "alive" } else { "silent" };
            println!("  path {} - {}: {state}", path.local, path.remote);
        }
    }
    Ok(Exit::Done)
}

/// A module as its manager sees it, as a few aligned lines, ending in a newline.
pub(crate) struct ShownModule<'s>(pub(crate) &'s manager::ModuleStatus);

impl fmt::Display for ShownModule<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let module = self.0;
        let state = state_name(module.state);
        let readiness = readiness(module.readiness);
        writeln!(
            f,
            "{} on {}: {state}, {readiness}",
            module.module, module.node
        )?;
        for reason in &module.why {
            writeln!(f, "  reason       {} ({})", reason.reason, reason.code)?;
            writeln!(f, "  remedy       {}", reason.remedy)?;
        }
        for note in &module.notes {
            writeln!(f, "  note         {} ({})", note.reason, note.code)?;
            writeln!(f, "  remedy       {}", note.remedy)?;
        }
        if let Some(action) = &module.action {
            writeln!(f, "  under way    {action}")?;
        }
        let runs = match module.running.role {
            Some(Role::Prim) => "runs as the serving one",
            Some(Role::Second) => "runs as the following one",
            None => "does not run",
        };
        writeln!(f, "  application  {runs}")?;
        if !module.virtual_ips.is_empty() {
            let here = if module.running.addresses {
                "here"
            } else {
                "not here"
            };
            writeln!(
                f,
                "  addresses    {} ({here})",
                module.virtual_ips.join(", ")
            )?;
        }
        if !module.failover {
            writeln!(f, "  failover     off")?;
        }
        for checker in &module.checkers {
            let state = match checker.up {
                None => "not looking",
                Some(true) => "up",
                Some(false) => "down",
            };
            writeln!(
                f,
                "  checker      {}: {state} {}",
                checker.name, checker.detail
            )?;
        }
        match &module.daemon {
            Some(status) => details(f, status),
            None => writeln!(f, "  daemon       does not run"),
        }
    }
}
