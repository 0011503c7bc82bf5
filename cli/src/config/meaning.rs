//! What each key of a file means, as a text that is equal where the meaning is: for finding what
//! changed, and where two nodes differ. Comments, order, and defaults that are written out make no
//! difference.

use std::fmt::Debug;

use tandem_failover::config::{Application, Keys};

use super::checked::{Cluster, Module};
use super::digest::third;

fn text(value: impl Debug) -> String {
    format!("{value:?}")
}

/// By the keys of a module's file.
pub(super) fn of_module(module: &Module) -> Keys {
    let service = &module.service;
    let policy = &module.policy;
    let (scripts, services) = match &service.application {
        Application::Scripts(scripts) => (text(scripts), text([""; 0])),
        Application::Services(units) => (text([""; 0]), text(units)),
    };
    let directories = module.directories.iter().map(|d| &d.value);
    let addresses = service.virtual_ips.iter().map(|v| &v.value);
    let all = [
        ("mode", text("mirror")),
        ("nodes", text(&module.nodes)),
        ("directories", text(directories.collect::<Vec<_>>())),
        ("port", text(module.port.value)),
        ("ack", text(module.ack)),
        ("stall_limit", text(module.stall_limit)),
        ("hot_limit", text(module.hot_limit)),
        ("aside_limit", text(module.aside_limit)),
        ("resync_slowdown", text(module.resync_slowdown)),
        ("scrub", text(module.scrub)),
        ("devices", text(module.devices)),
        ("isolation", text(policy.isolation)),
        ("ping", text(&policy.ping)),
        ("after_power_loss", text(policy.after_power_loss)),
        (
            "preferred",
            text(service.preferred.as_ref().map(|p| &p.value)),
        ),
        ("failover", text(service.failover)),
        ("boot", text(service.boot)),
        ("max_restarts", text(service.max_restarts)),
        ("restart_window", text(service.restart_window)),
        ("virtual_ips", text(addresses.collect::<Vec<_>>())),
        ("scripts", scripts),
        ("services", services),
        ("variables", text(&service.variables)),
        ("checkers", text(&service.checkers)),
        ("fence", text(&service.fence)),
    ];
    all.into_iter()
        .map(|(key, v)| (key.to_string(), v))
        .collect()
}

/// By the keys of `cluster.ron`.
pub(super) fn of_cluster(cluster: &Cluster) -> Keys {
    let mut nodes: Vec<_> = cluster
        .nodes
        .iter()
        .map(|n| (&n.name, &n.addresses))
        .collect();
    nodes.sort();
    let all = [
        ("name", text(&cluster.name)),
        ("nodes", text(nodes)),
        ("port", text(cluster.port)),
        ("witness", text(cluster.witness.as_ref().map(third))),
    ];
    all.into_iter()
        .map(|(key, v)| (key.to_string(), v))
        .collect()
}

#[cfg(test)]
#[allow(clippy::unwrap_used)]
mod tests {
    use super::super::load;
    use super::super::testing::Example;
    use std::collections::BTreeSet;
    use tandem_failover::config::Keys;

    const SHOP: &str = "(mode: mirror, nodes: [\"a\", \"b\"], directories: [\"/srv/shop\"],";

    fn keys(more: &str) -> Keys {
        let text = format!("{SHOP} {more})");
        let example = Example::new().with("modules/shop.ron", &text);
        let config = load(&example.dirs).complete().unwrap();
        config.reading().modules[0].keys.clone()
    }

    #[test]
    fn every_key_of_a_module_is_compared_and_by_its_meaning() {
        let plain = keys("");
        let same = keys("port: 7400, /* as ever */ failover: on, stall_limit: \"3000ms\",");
        assert_eq!(plain, same);
        let known: BTreeSet<&str> = super::super::raw::module_keys().into_iter().collect();
        let found: BTreeSet<&str> = plain.keys().map(String::as_str).collect();
        assert_eq!(known, found);
        let other = keys("virtual_ips: [\"10.0.0.9\"],");
        let changed: Vec<_> = other.keys().filter(|k| other[*k] != plain[*k]).collect();
        assert_eq!(changed, ["virtual_ips"]);
    }
}
