//! What of a configuration may change while a module runs; and where two nodes differ.

use crate::config::{Keys, Reading};
use serde::{Deserialize, Serialize};
use std::collections::{BTreeMap, BTreeSet};
use tandem_repl::control::Refusal;

/// The file of the cluster, by its name.
pub const CLUSTER: &str = "cluster.ron";

/// When a changed key takes effect.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Effect {
    /// At once: it is the manager's.
    Now,
    /// It is the file system daemon's: when that starts the next time.
    NextStart,
    /// Both nodes and what runs depend on it: it may change while the module is stopped.
    Stopped,
    /// Not by this way.
    Never,
}

/// Of a module's key. One that is not known here is treated with care.
fn of_module(key: &str) -> Effect {
    match key {
        "preferred" | "failover" | "boot" | "max_restarts" | "restart_window" | "virtual_ips"
        | "scripts" | "variables" | "checkers" | "fence" => Effect::Now,
        "hot_limit" | "aside_limit" | "resync_slowdown" | "scrub" => Effect::NextStart,
        "mode" | "nodes" => Effect::Never,
        _ => Effect::Stopped,
    }
}

fn of_cluster(key: &str) -> Effect {
    match key {
        "witness" => Effect::Stopped,
        _ => Effect::Never,
    }
}

/// A key whose meaning is another than before.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Changed {
    /// Its file.
    pub file: String,
    pub key: String,
    pub effect: Effect,
}

/// The name of a module's file.
pub fn file_of(module: &str) -> String {
    format!("modules/{module}.ron")
}

/// All keys that change, in the order of files and names.
pub fn changes(old: &Reading, new: &Reading) -> Vec<Changed> {
    let changed = |file: &str, one: &Keys, two: &Keys, effect: fn(&str) -> Effect| {
        let names: BTreeSet<&String> = one.keys().chain(two.keys()).collect();
        let names = names.into_iter().filter(|n| one.get(*n) != two.get(*n));
        let make = |key: &String| Changed {
            file: file.into(),
            key: key.clone(),
            effect: effect(key),
        };
        names.map(make).collect::<Vec<_>>()
    };
    let mut all = changed(CLUSTER, &old.cluster, &new.cluster, of_cluster);
    for described in &new.modules {
        let name = &described.module.name;
        // A module that is new here has nothing that runs.
        if let Some(before) = old.module(name) {
            all.extend(changed(
                &file_of(name),
                &before.keys,
                &described.keys,
                of_module,
            ));
        }
    }
    all
}

/// What stands in the way of the changes on a node where these modules run.
///
/// # Errors
/// The keys that cannot change now, and what helps.
pub fn allowed(changes: &[Changed], running: &BTreeSet<String>, node: &str) -> Result<(), Refusal> {
    let list = |all: &[&Changed]| {
        let one = |c: &&Changed| format!("`{}` of {}", c.key, c.file);
        all.iter().map(one).collect::<Vec<_>>().join(", ")
    };
    let never = changes.iter().filter(|c| c.effect == Effect::Never);
    let never: Vec<&Changed> = never.collect();
    if !never.is_empty() {
        return Err(Refusal::new(
            "fixed-key",
            format!("{} cannot be changed by an apply", list(&never)),
            "stop the managers of all nodes, write the file on each, and start them again",
        ));
    }
    let runs = |c: &&Changed| {
        let mut running = running.iter();
        let all = c.file == CLUSTER && running.len() > 0;
        c.effect == Effect::Stopped && (all || running.any(|m| file_of(m) == c.file))
    };
    let stopped: Vec<&Changed> = changes.iter().filter(runs).collect();
    if stopped.is_empty() {
        return Ok(());
    }
    let mine = |m: &&String| {
        stopped
            .iter()
            .any(|c| [CLUSTER, &file_of(m)].contains(&&*c.file))
    };
    let modules: Vec<_> = running.iter().filter(mine).cloned().collect();
    Err(Refusal::new(
        "running",
        format!(
            "{} cannot be changed while {} runs on {node}",
            list(&stopped),
            modules.join(", ")
        ),
        format!(
            "run `tandem stop {} --all` first, or change the other keys only",
            modules.join(" --all`, `tandem stop ")
        ),
    ))
}

/// What a node tells of its configuration, short: a number for each key of each module. Numbers of
/// other versions of the program may differ without a difference.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Facts {
    pub version: String,
    /// By module, then by key; those of `cluster.ron` are in each.
    pub modules: BTreeMap<String, BTreeMap<String, u32>>,
}

impl Facts {
    /// `number`: of a text, equal for equal ones.
    pub fn of(reading: &Reading, number: impl Fn(&str) -> u32) -> Self {
        let module = |described: &crate::config::Described| {
            let all = reading.cluster.iter().map(|(key, v)| (cluster_key(key), v));
            let own = described.keys.iter().map(|(key, v)| (key.clone(), v));
            let numbers = all.chain(own).map(|(key, v)| (key, number(v)));
            (described.module.name.clone(), numbers.collect())
        };
        Self {
            version: env!("CARGO_PKG_VERSION").into(),
            modules: reading.modules.iter().map(module).collect(),
        }
    }

    /// Keys of a module that are another on the other node; none where that cannot be said.
    pub fn differing(&self, other: &Self, module: &str) -> Vec<String> {
        let both = (self.modules.get(module), other.modules.get(module));
        let (Some(one), Some(two)) = both else {
            return Vec::new();
        };
        if self.version != other.version {
            return Vec::new();
        }
        let names: BTreeSet<&String> = one.keys().chain(two.keys()).collect();
        let names = names.into_iter().filter(|n| one.get(*n) != two.get(*n));
        names.cloned().collect()
    }
}

fn cluster_key(key: &str) -> String {
    format!("{CLUSTER}:{key}")
}

/// What is shown where two nodes differ.
pub fn note(module: &str, peer: &str, keys: &[String]) -> Option<Refusal> {
    if keys.is_empty() {
        return None;
    }
    Some(Refusal::new(
        "config-differs",
        format!(
            "the configuration of {module} is another on {peer}: {}",
            keys.join(", ")
        ),
        format!(
            "`tandem config diff {peer}` shows it; `tandem config apply {module}` on the node that \
             is right brings it to both"
        ),
    ))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::config::Described;

    fn keys(all: &[(&str, &str)]) -> Keys {
        let one = |(key, value): &(&str, &str)| ((*key).to_string(), (*value).to_string());
        all.iter().map(one).collect()
    }

    fn reading(all: &[(&str, &str)], cluster: &[(&str, &str)]) -> Reading {
        let module = crate::logic::module::example();
        Reading {
            cluster: keys(cluster),
            modules: vec![Described {
                module,
                keys: keys(all),
            }],
        }
    }

    #[test]
    fn what_cannot_change_while_it_runs_is_named_with_the_remedy() {
        let old = reading(
            &[("directories", "/a"), ("checkers", "1")],
            &[("port", "1")],
        );
        let runs = BTreeSet::from(["shop".to_string()]);
        let none = BTreeSet::new();
        let new = reading(
            &[("directories", "/a"), ("checkers", "2")],
            &[("port", "1")],
        );
        let found = changes(&old, &new);
        let expected = Changed {
            file: "modules/shop.ron".into(),
            key: "checkers".into(),
            effect: Effect::Now,
        };
        assert_eq!(found, [expected]);
        allowed(&found, &runs, "a").expect("allowed");

        let new = reading(
            &[("directories", "/b"), ("checkers", "2")],
            &[("port", "1")],
        );
        let found = changes(&old, &new);
        let refusal = allowed(&found, &runs, "a").expect_err("refused");
        assert_eq!(refusal.code, "running");
        assert!(refusal.reason.contains("`directories` of modules/shop.ron"));
        assert!(
            refusal.remedy.contains("tandem stop shop --all"),
            "{refusal}"
        );
        allowed(&found, &none, "a").expect("allowed: it is stopped");

        let found = changes(&old, &reading(&[], &[("port", "2")]));
        let refusal = allowed(&found, &none, "a").expect_err("refused");
        assert_eq!(refusal.code, "fixed-key");
    }

    #[test]
    fn differing_keys_are_named_and_versions_are_not_compared() {
        let number = |text: &str| text.len() as u32;
        let one = Facts::of(&reading(&[("checkers", "1")], &[("witness", "x")]), number);
        let two = Facts::of(
            &reading(&[("checkers", "22")], &[("witness", "xx")]),
            number,
        );
        assert_eq!(
            one.differing(&two, "shop"),
            ["checkers", "cluster.ron:witness"]
        );
        assert!(one.differing(&one, "shop").is_empty());
        assert!(one.differing(&two, "other").is_empty());
        let other = Facts {
            version: "0".into(),
            ..two
        };
        assert!(one.differing(&other, "shop").is_empty());
        let shown = note("shop", "b", &one.differing(&one, "shop"));
        assert_eq!(shown, None);
    }
}
