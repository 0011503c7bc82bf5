//! What the manager is to start and ask: scripts, commands, units of systemd.

use std::fs;
use std::os::unix::fs::PermissionsExt;
use std::path::Path;
use std::time::Duration;

use tandem_failover::config::{Application, CheckerKind, Reaction};
use tandem_failover::io::services::{ServiceError, Services};

use super::Report;
use crate::config::{Config, Module};

const LIMIT: Duration = Duration::from_secs(5);

pub(super) fn look(config: &Config, report: &mut Report) {
    let mine = |module: &&Module| module.nodes.contains(&config.node);
    look_at(config.modules.iter().filter(mine), report);
}

/// What these modules need.
pub(super) fn look_at<'m>(modules: impl Iterator<Item = &'m Module>, report: &mut Report) {
    let (mut programs, mut units) = (Vec::new(), Vec::new());
    for module in modules {
        let service = &module.service;
        match &service.application {
            Application::Scripts(scripts) => {
                programs.extend(scripts.values().filter_map(|action| action.command.first()));
            }
            Application::Services(names) => units.extend(names),
        }
        programs.extend(service.fence.iter().filter_map(|f| f.command.first()));
        for checker in &service.checkers {
            match &checker.kind {
                CheckerKind::Command(command) => programs.extend(command.first()),
                CheckerKind::Service(unit) => units.push(unit),
                _ => {}
            }
            if let Reaction::Run(action) = &checker.on_failure {
                programs.extend(action.command.first());
            }
        }
    }
    programs.sort();
    programs.dedup();
    for path in programs {
        program(Path::new(path), report);
    }
    units.sort();
    units.dedup();
    for name in units {
        unit(name, report);
    }
}

fn program(path: &Path, report: &mut Report) {
    let shown = path.display();
    match fs::metadata(path) {
        Ok(meta) if meta.is_file() && meta.permissions().mode() & 0o111 != 0 => {
            report.ok("scripts", format!("{shown} can be run"));
        }
        Ok(meta) if meta.is_file() => report.fail(
            "scripts",
            format!("{shown} cannot be run"),
            format!("chmod +x {shown}"),
        ),
        Ok(_) => report.fail("scripts", format!("{shown} is no file"), "correct its path"),
        Err(e) => report.fail(
            "scripts",
            format!("{shown}: {e}"),
            "write it, or correct its path; it is needed on both nodes",
        ),
    }
}

fn unit(name: &str, report: &mut Report) {
    match Services::new().is_active(name, LIMIT) {
        Ok(state) => report.ok("units", format!("{name} is {state}")),
        Err(error @ ServiceError::NoBus { .. }) => report.skip("units", error.to_string()),
        Err(error) => {
            let text = error.to_string();
            let (found, remedy) = text.rsplit_once("; ").unwrap_or((&text, "see systemctl"));
            report.fail("units", found, remedy);
        }
    }
}

#[cfg(test)]
#[allow(clippy::unwrap_used)]
mod tests {
    use super::super::Level;
    use super::*;
    use crate::config::testing::Directory;

    #[test]
    fn a_script_must_be_there_and_be_executable() {
        let directory = Directory::new();
        let path = directory.path().join("start");
        let level = || {
            let mut report = Report::default();
            program(&path, &mut report);
            report.worst()
        };
        assert_eq!(level(), Level::Fail);
        fs::write(&path, "#!/bin/sh\n").unwrap();
        assert_eq!(level(), Level::Fail);
        fs::set_permissions(&path, fs::Permissions::from_mode(0o755)).unwrap();
        assert_eq!(level(), Level::Ok);
    }
}
