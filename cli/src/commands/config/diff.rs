//! `tandem config diff`: the files that must be the same on both nodes, compared line by line. They
//! come over the managers' link; nothing of `pki/` is asked or sent.

use std::collections::{BTreeMap, BTreeSet};

use anyhow::{Result, bail};
use tandem_failover::client::STATUS_LIMIT;
use tandem_failover::control::{Answer, Request};
use tandem_failover::io::inspect::inspect;

use crate::commands::managed;
use crate::config::{Dirs, load};
use crate::exit::{Exit, UsageError};

type Files = BTreeMap<String, String>;

pub(super) fn run(dirs: &Dirs, node: Option<&str>) -> Result<Exit> {
    let config = load(dirs).complete()?;
    let others = config.cluster.nodes.iter().map(|n| n.name.as_str());
    let others: Vec<&str> = others.filter(|name| *name != config.node).collect();
    let other = match (node, others.as_slice()) {
        (Some(node), _) if others.contains(&node) => node,
        (None, [only]) => *only,
        _ => {
            let message = format!("name one of the other nodes: {}", others.join(", "));
            return Err(UsageError(message).into());
        }
    };
    let here = match inspect(&config.node, &dirs.config, &[], &[]) {
        Answer::Inspected(inspection) => inspection.files,
        Answer::Refused(refusal) => bail!("{refusal}"),
        _ => bail!("the files of this node cannot be read"),
    };
    let request = Request::Inspect {
        uids: Vec::new(),
        gids: Vec::new(),
    };
    let there = match managed::ask(dirs, Some(other), request, STATUS_LIMIT)? {
        Some(Answer::Inspected(inspection)) => inspection.files,
        Some(Answer::Refused(refusal)) => bail!("{refusal}"),
        Some(_) => bail!("the manager answered another question"),
        None => {
            eprintln!("tandem: no failover manager runs on this node, so {other} cannot be asked");
            return Ok(Exit::NotRunning);
        }
    };
    // Modules that the other node has no part in need not be there.
    let foreign = |name: &&String| {
        let module = config
            .modules
            .iter()
            .find(|m| **name == format!("modules/{}.ron", m.name));
        module.is_some_and(|module| !module.nodes.iter().any(|node| node == other))
    };
    let skipped: Vec<String> = here.keys().filter(foreign).cloned().collect();
    let here = here.into_iter().filter(|(name, _)| !skipped.contains(name));
    let differences = differences(&here.collect(), &there, &config.node, other);
    print!("{differences}");
    if differences.is_empty() {
        println!(
            "cluster.ron and the modules are the same on {} and {other}",
            config.node
        );
        return Ok(Exit::Done);
    }
    Ok(Exit::Failed)
}

/// What differs, file by file, for reading; nothing where nothing does.
fn differences(here: &Files, there: &Files, node: &str, other: &str) -> String {
    let names: BTreeSet<&String> = here.keys().chain(there.keys()).collect();
    let mut text = String::new();
    for name in names {
        match (here.get(name), there.get(name)) {
            (Some(one), Some(two)) if one == two => {}
            (Some(one), Some(two)) => {
                text += &format!("--- {name} on {node}\n+++ {name} on {other}\n");
                text += &lines(one, two);
            }
            (Some(_), None) => text += &format!("{name} is only on {node}\n"),
            _ => text += &format!("{name} is only on {other}\n"),
        }
    }
    text
}

/// Everything between the first and the last line that differ.
fn lines(one: &str, two: &str) -> String {
    let (one, two): (Vec<_>, Vec<_>) = (one.lines().collect(), two.lines().collect());
    let same = |a: &(&&str, &&str)| a.0 == a.1;
    let head = one.iter().zip(&two).take_while(same).count();
    let (one, two) = (&one[head..], &two[head..]);
    let tail = one
        .iter()
        .rev()
        .zip(two.iter().rev())
        .take_while(same)
        .count();
    let mut text = format!("@@ line {}\n", head + 1);
    for line in &one[..one.len() - tail] {
        text += &format!("-{line}\n");
    }
    for line in &two[..two.len() - tail] {
        text += &format!("+{line}\n");
    }
    text
}

#[cfg(test)]
mod tests {
    use super::*;

    fn files(all: &[(&str, &str)]) -> Files {
        all.iter()
            .map(|(name, text)| ((*name).into(), (*text).into()))
            .collect()
    }

    #[test]
    fn what_differs_is_shown_and_nothing_else() {
        let here = files(&[("a", "1\n2\n3\n"), ("b", "same"), ("c", "x")]);
        assert_eq!(differences(&here, &here, "n", "m"), "");
        let there = files(&[("a", "1\ntwo\nand\n3\n"), ("b", "same"), ("d", "y")]);
        let shown = differences(&here, &there, "n", "m");
        assert_eq!(
            shown,
            "--- a on n\n+++ a on m\n@@ line 2\n-2\n+two\n+and\nc is only on n\nd is only on m\n"
        );
    }

    #[test]
    fn repeated_lines_are_not_counted_twice() {
        assert_eq!(lines("a\na\n", "a\n"), "@@ line 2\n-a\n");
        assert_eq!(lines("", "a\n"), "@@ line 1\n+a\n");
    }
}
