//! Whether this machine has what a configuration needs that is to be taken over while everything
//! runs: for the failover manager, which knows no files.

use tandem_failover::config::{CheckerKind, Files, Places, Reading};

use super::{Finding, Level, Report, files, network, programs};
use crate::config::{Dirs, Module, load_with};
use crate::network::Network;

/// Reads these files as if they were this node's, and looks whether the machine has what the named
/// modules need.
///
/// # Errors
/// Every problem, one line each.
pub(crate) fn read_files(
    places: &Places,
    files: &Files,
    modules: &[String],
) -> Result<Reading, String> {
    let dirs = Dirs {
        config: places.config.clone(),
        state: places.state.clone(),
        run: places.run.clone(),
    };
    let config = load_with(&dirs, Some(files)).complete();
    let config = config.map_err(|problems| problems.to_string())?;
    let named =
        |module: &&Module| modules.contains(&module.name) && module.nodes.contains(&config.node);
    let named: Vec<&Module> = config.modules.iter().filter(named).collect();
    let unfit = unfit(&dirs, &named);
    if unfit.is_empty() {
        return Ok(config.reading());
    }
    Err(unfit.join("\n"))
}

fn unfit(dirs: &Dirs, modules: &[&Module]) -> Vec<String> {
    let mut report = Report::default();
    programs::look_at(modules.iter().copied(), &mut report);
    match Network::look() {
        Ok(network) => {
            for ip in modules.iter().flat_map(|m| &m.service.virtual_ips) {
                network::virtual_ip(&ip.value, &network, &mut report);
                if let Some(name) = &ip.value.interface {
                    interface(name, &mut report);
                }
            }
        }
        Err(e) => report.skip("addresses", format!("{e:#}")),
    }
    for checker in modules.iter().flat_map(|m| &m.service.checkers) {
        if let CheckerKind::Interface { name } = &checker.kind {
            interface(name, &mut report);
        }
    }
    for module in modules {
        for directory in &module.directories {
            files::covered(dirs, &module.name, &directory.value.path, &mut report);
        }
    }
    let failed = |f: Finding| {
        let remedy = f.remedy.map(|r| format!("; {r}")).unwrap_or_default();
        (f.level == Level::Fail).then(|| format!("{}: {}{remedy}", f.check, f.found))
    };
    report.0.into_iter().filter_map(failed).collect()
}

fn interface(name: &str, report: &mut Report) {
    // Of this process's network, which /sys need not show.
    let Ok(table) = std::fs::read_to_string("/proc/net/dev") else {
        return report.skip("interface", "/proc/net/dev cannot be read");
    };
    let of_line = |line: &str| {
        line.split_once(':')
            .map(|(name, _)| name.trim().to_string())
    };
    if table.lines().filter_map(of_line).all(|there| there != name) {
        report.fail(
            "interface",
            format!("this machine has no interface {name}"),
            "correct its name; it is needed on both nodes",
        );
    }
}
