//! An operator's order to apply a configuration: which files, with which other node.

use crate::config::{Described, Files, Places, Read};
use crate::io::change::ChangeError;
use crate::io::inspect;
use crate::logic::change::keys::{CLUSTER, file_of};
use std::collections::BTreeSet;
use tandem_repl::control::{MAX_LINE, Refusal};

pub(super) fn module_of(file: &str) -> Option<String> {
    let name = file.strip_prefix("modules/")?.strip_suffix(".ron")?;
    Some(name.to_string())
}

/// What an operator wants to have applied: the other node, and the files as they are here.
pub(super) fn ordered(
    places: &Places,
    read: Read,
    running: &Files,
    (node, small): (&str, bool),
    modules: &[String],
) -> Result<(String, Files), Refusal> {
    let unread = |(path, e): (String, std::io::Error)| {
        Refusal::new("unwritten", format!("{path}: {e}"), "repair the directory")
    };
    let there = inspect::files(&places.config).map_err(unread)?;
    let mut files = Files::new();
    for module in modules {
        let name = file_of(module);
        let text = there.get(&name).ok_or_else(|| {
            let why = format!("{node} has no {name}");
            Refusal::new("unknown-module", why, "write it, or name another module")
        })?;
        files.insert(name, text.clone());
    }
    if modules.is_empty() {
        files.extend(there.clone().into_iter().filter(|(f, _)| f != CLUSTER));
    }
    let cluster = there.get(CLUSTER);
    if !small && running.get(CLUSTER) != cluster {
        return Err(Refusal::new(
            "many-nodes",
            format!("{CLUSTER} changed, and the cluster has more than two nodes"),
            "stop the managers of all nodes, write the file on each, and start them again",
        ));
    }
    if small {
        files.extend(cluster.map(|text| (CLUSTER.to_string(), text.clone())));
    }
    let mut all = running.clone();
    all.extend(files.clone());
    let reading = read(places, &all, &[]).map_err(|e| wrong(node, e))?;
    let named = |m: &&Described| files.contains_key(&file_of(&m.module.name));
    let mine: Vec<_> = reading.modules.iter().filter(named).collect();
    let peers: BTreeSet<&String> = mine.iter().map(|m| &m.module.peer).collect();
    let peers: Vec<&String> = peers.into_iter().collect();
    let peer = match peers[..] {
        [only] => only.clone(),
        [] => {
            let why = format!("none of these modules runs on {node}");
            let remedy = "name a module of this node, or run it on one of its nodes";
            return Err(Refusal::new("elsewhere", why, remedy));
        }
        _ => {
            let why = "these modules have different other nodes";
            return Err(Refusal::new(
                "many-nodes",
                why,
                "apply one module after the other",
            ));
        }
    };
    // Modules that the other two of three nodes share are not this node's to change.
    let own = |name: &str| name == CLUSTER || mine.iter().any(|m| file_of(&m.module.name) == name);
    files.retain(|name, _| own(name));
    let length: usize = files.values().map(String::len).sum();
    if length > MAX_LINE / 4 {
        let why = format!("the files are too long together ({length} bytes)");
        return Err(Refusal::new(
            "too-long",
            why,
            "apply one module after the other",
        ));
    }
    Ok((peer, files))
}

pub(super) fn unwritten(error: &ChangeError) -> Refusal {
    let remedy = "repair the directory, then apply it again";
    Refusal::new("unwritten", error.to_string(), remedy)
}

pub(super) fn wrong(node: &str, problems: String) -> Refusal {
    let remedy = format!("correct it; these are the problems on {node}");
    Refusal::new("configuration", problems, remedy)
}

pub(super) fn other_version() -> Refusal {
    Refusal::new(
        "version",
        "the other node's manager does not know this command",
        "bring both nodes to one version",
    )
}
