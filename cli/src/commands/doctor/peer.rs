//! What only both nodes together show, asked through the managers' link: the same program, the same
//! files, clocks, and users of the same numbers.

use std::collections::{BTreeMap, BTreeSet};
use std::fs;
use std::os::unix::fs::MetadataExt;
use std::path::{Path, PathBuf};
use std::time::{SystemTime, UNIX_EPOCH};

use tandem_failover::client::STATUS_LIMIT;
use tandem_failover::control::{Answer, Inspection, Request};
use tandem_failover::io::inspect::MAX_NUMBERS;

use super::Report;
use crate::commands::managed;
use crate::config::{Config, Dirs};

/// Entries of a directory that are looked at for their owners.
const MOST_ENTRIES: usize = 5000;
/// Logs of two nodes are hard to read together from here on.
const CLOCKS_DIFFER: i128 = 2000;

pub(super) fn look(dirs: &Dirs, config: &Config, report: &mut Report) {
    let others = config
        .cluster
        .nodes
        .iter()
        .filter(|n| n.name != config.node);
    for node in others {
        let modules = config
            .modules
            .iter()
            .filter(|m| m.nodes.contains(&config.node));
        let shared = modules.filter(|m| m.nodes.contains(&node.name));
        let directories = shared.flat_map(|m| m.directories.iter().map(|d| d.value.path.clone()));
        let owners = Owners::of(directories.collect());
        let ask = |whom: Option<&str>| {
            let request = Request::Inspect {
                uids: owners.uids.iter().copied().take(MAX_NUMBERS).collect(),
                gids: owners.gids.iter().copied().take(MAX_NUMBERS).collect(),
            };
            match managed::ask(dirs, whom, request, STATUS_LIMIT) {
                Ok(Some(Answer::Inspected(inspection))) => Ok(*inspection),
                Ok(Some(Answer::Refused(refusal))) => Err(refusal.to_string()),
                Ok(Some(_)) => Err("the manager answered another question".into()),
                Ok(None) => Err("no failover manager runs on this node".into()),
                Err(e) => Err(format!("{e:#}")),
            }
        };
        let before = now();
        match (ask(Some(&node.name)), now()) {
            (Ok(there), after) => match ask(None) {
                Ok(here) => compare(&here, &there, (before, after), report),
                Err(why) => report.skip("both nodes", why),
            },
            (Err(why), _) => report.skip(
                "both nodes",
                format!(
                    "clock, files and users of {} are not compared: {why}",
                    node.name
                ),
            ),
        }
    }
}

fn now() -> i128 {
    let since = SystemTime::now().duration_since(UNIX_EPOCH);
    since.map_or(0, |since| since.as_millis() as i128)
}

fn compare(
    here: &Inspection,
    there: &Inspection,
    (before, after): (i128, i128),
    report: &mut Report,
) {
    let node = &there.node;
    let differ = i128::from(there.clock_ms) - before.midpoint(after);
    let found = format!("that of {node} differs by {differ} ms (no decision depends on it)");
    if differ.abs() > CLOCKS_DIFFER {
        let remedy = "run an NTP client on both, so that their logs can be read together";
        report.warn("clock", found, remedy);
    } else {
        report.ok("clock", found);
    }
    if here.version == there.version {
        report.ok("version", format!("{} on both", here.version));
    } else {
        report.warn(
            "version",
            format!("{} here, {} on {node}", here.version, there.version),
            "install the same on both",
        );
    }
    if here.files == there.files {
        report.ok(
            "files",
            format!("cluster.ron and modules are the same on {node}"),
        );
    } else {
        report.warn(
            "files",
            format!("cluster.ron or modules differ from those of {node}"),
            "`tandem config diff` shows where",
        );
    }
    let users = names_differ(&here.users, &there.users);
    let groups = names_differ(&here.groups, &there.groups);
    for (kind, differ, remedy) in [
        ("user", users, "usermod -u"),
        ("group", groups, "groupmod -g"),
    ] {
        if differ.is_empty() {
            report.ok(
                "owners",
                format!("{kind}s of the files mean the same on {node}"),
            );
        }
        for (number, own, other) in differ {
            let name = |name: Option<String>| name.unwrap_or_else(|| "nobody known".into());
            report.warn(
                "owners",
                format!(
                    "{kind} {number} is {} here and {} on {node}",
                    name(own),
                    name(other)
                ),
                format!("give it the same number on both ({remedy})"),
            );
        }
    }
}

/// Numbers with another name there than here. One that neither knows is no difference.
fn names_differ(
    here: &BTreeMap<u32, String>,
    there: &BTreeMap<u32, String>,
) -> Vec<(u32, Option<String>, Option<String>)> {
    let numbers: BTreeSet<&u32> = here.keys().chain(there.keys()).collect();
    numbers
        .into_iter()
        .map(|number| {
            (
                *number,
                here.get(number).cloned(),
                there.get(number).cloned(),
            )
        })
        .filter(|(_, own, other)| own != other)
        .collect()
}

/// Whose files there are.
#[derive(Default)]
struct Owners {
    uids: BTreeSet<u32>,
    gids: BTreeSet<u32>,
}

impl Owners {
    /// Of the first files below these directories.
    fn of(mut directories: Vec<PathBuf>) -> Self {
        let mut owners = Self::default();
        let mut seen = 0;
        for directory in &directories {
            owners.add(directory);
        }
        while let Some(directory) = directories.pop() {
            let Ok(entries) = fs::read_dir(&directory) else {
                continue;
            };
            for entry in entries.flatten() {
                seen += 1;
                if seen > MOST_ENTRIES {
                    return owners;
                }
                owners.add(&entry.path());
                if entry.file_type().is_ok_and(|kind| kind.is_dir()) {
                    directories.push(entry.path());
                }
            }
        }
        owners
    }

    fn add(&mut self, path: &Path) {
        if let Ok(meta) = path.symlink_metadata() {
            self.uids.insert(meta.uid());
            self.gids.insert(meta.gid());
        }
    }
}

#[cfg(test)]
mod tests {
    use super::super::Level;
    use super::*;

    fn inspection(clock_ms: u64, users: &[(u32, &str)]) -> Inspection {
        Inspection {
            node: "b".into(),
            version: "1".into(),
            clock_ms,
            files: BTreeMap::new(),
            users: users.iter().map(|(n, name)| (*n, (*name).into())).collect(),
            groups: BTreeMap::new(),
        }
    }

    fn level(there: &Inspection) -> Level {
        let here = inspection(0, &[(0, "root"), (26, "postgres")]);
        let mut report = Report::default();
        compare(&here, there, (9_000, 11_000), &mut report);
        report.worst()
    }

    #[test]
    fn two_nodes_are_compared() {
        let same = [(0, "root"), (26, "postgres")];
        assert_eq!(level(&inspection(10_500, &same)), Level::Ok);
        assert_eq!(level(&inspection(14_000, &same)), Level::Warn);
        assert_eq!(
            level(&inspection(10_000, &[(0, "root"), (26, "mysql")])),
            Level::Warn
        );
        assert_eq!(level(&inspection(10_000, &[(0, "root")])), Level::Warn);
        let mut other = inspection(10_000, &same);
        other.files.insert("cluster.ron".into(), "x".into());
        assert_eq!(level(&other), Level::Warn);
    }
}
