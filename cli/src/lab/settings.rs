//! The configuration files of a lab's nodes, as `tandem init` would leave them on real machines.

use std::fs;
use std::path::Path;

use anyhow::{Context, Result};

use crate::pki::{self, Ca};

use super::place::{MODULE, MOUNT, NodePlace};
use super::state::NodeState;

/// The replication port of the module.
const PORT: u16 = 7400;

/// What the user may choose about the module.
#[derive(Clone, Debug, PartialEq, Eq, clap::Args)]
pub(crate) struct ModuleSettings {
    /// When a write is acknowledged: written (the peer holds it) or durable (on the peer's disk)
    #[arg(long, default_value = "written", value_parser = ["written", "durable"])]
    pub(crate) ack: String,
    /// Pattern of files that bypass the page cache (several allowed)
    #[arg(long, value_name = "PATTERN")]
    pub(crate) direct: Vec<String>,
    /// Longest wait for a silent peer, such as 3s or 500ms
    #[arg(long, default_value = "3s", value_name = "DURATION")]
    pub(crate) stall_limit: String,
}

impl Default for ModuleSettings {
    fn default() -> Self {
        Self {
            ack: "written".into(),
            direct: Vec::new(),
            stall_limit: "3s".into(),
        }
    }
}

/// What is the same on all nodes of a lab.
pub(crate) struct Cluster<'a> {
    pub(crate) name: &'a str,
    pub(crate) nodes: &'a [NodeState],
    pub(crate) networks: std::ops::Range<u8>,
    /// The nodes that hold the module.
    pub(crate) members: &'a [&'a str],
    pub(crate) module: &'a ModuleSettings,
    pub(crate) ca: Ca,
}

/// Writes everything a node's `etc` holds.
pub(crate) fn write(place: &NodePlace, node: &NodeState, cluster: &Cluster<'_>) -> Result<()> {
    let etc = place.etc();
    let (pki, modules) = (etc.join("pki"), etc.join("modules"));
    for dir in [&pki, &modules] {
        fs::create_dir_all(dir).with_context(|| format!("create {}", dir.display()))?;
    }
    put(
        &etc.join("node.ron"),
        &format!("(name: {})\n", quoted(&node.name)?),
    )?;
    put(&etc.join("cluster.ron"), &cluster_ron(cluster)?)?;
    if cluster.members.contains(&node.name.as_str()) {
        put(
            &modules.join(MODULE).with_extension("ron"),
            &module_ron(cluster)?,
        )?;
    }
    let own = pki::issue(&cluster.ca, &node.name)?;
    pki::write_public(&pki.join("ca.pem"), &cluster.ca.cert_pem)?;
    pki::write_public(&pki.join("node.pem"), &own.cert_pem)?;
    pki::write_private(&pki.join("node-key.pem"), &own.key_pem)
}

fn put(path: &Path, text: &str) -> Result<()> {
    fs::write(path, text).with_context(|| format!("write {}", path.display()))
}

fn quoted(text: &str) -> Result<String> {
    ron::to_string(text).with_context(|| format!("write {text:?} as RON"))
}

fn list<T>(items: &[T], item: impl Fn(&T) -> Result<String>) -> Result<String> {
    Ok(format!(
        "[{}]",
        items
            .iter()
            .map(item)
            .collect::<Result<Vec<_>>>()?
            .join(", ")
    ))
}

fn cluster_ron(cluster: &Cluster<'_>) -> Result<String> {
    let networks: Vec<_> = cluster.networks.clone().collect();
    let node = |node: &NodeState| {
        Ok(format!(
            "\n    (name: {}, addresses: {})",
            quoted(&node.name)?,
            list(&networks, |network| quoted(
                &node.address(*network).to_string()
            ))?
        ))
    };
    let nodes = list(cluster.nodes, node)?;
    Ok(format!(
        "(\n  name: {},\n  nodes: {nodes},\n)\n",
        quoted(cluster.name)?
    ))
}

fn module_ron(cluster: &Cluster<'_>) -> Result<String> {
    let ModuleSettings {
        ack,
        direct,
        stall_limit,
    } = cluster.module;
    let nodes = list(cluster.members, |name| quoted(name))?;
    let directory = if direct.is_empty() {
        quoted(MOUNT)?
    } else {
        let patterns = list(direct, |pattern| quoted(pattern))?;
        format!("(path: {}, direct: {patterns})", quoted(MOUNT)?)
    };
    let stall_limit = quoted(stall_limit)?;
    Ok(format!(
        "(\n  mode: mirror,\n  nodes: {nodes},\n  directories: [{directory}],\n  port: {PORT},\n  \
         ack: {ack},\n  stall_limit: {stall_limit},\n  devices: true,\n)\n"
    ))
}

#[cfg(test)]
#[allow(clippy::unwrap_used)]
mod tests {
    use super::*;

    fn cluster<'a>(nodes: &'a [NodeState], module: &'a ModuleSettings) -> Cluster<'a> {
        let members = &["node1", "node2"];
        Cluster {
            name: "lab",
            nodes,
            networks: 0..2,
            members,
            module,
            ca: pki::create_ca("lab").unwrap(),
        }
    }

    #[test]
    fn the_module_file_names_directory_and_patterns() {
        let mut module = ModuleSettings::default();
        let text = module_ron(&cluster(&[], &module)).unwrap();
        assert!(
            text.contains(r#"directories: ["/mnt/disk/data"]"#),
            "{text}"
        );
        assert!(text.contains("ack: written"), "{text}");
        module.direct = vec!["*.\"db\"".into()];
        let text = module_ron(&cluster(&[], &module)).unwrap();
        assert!(
            text.contains(r#"[(path: "/mnt/disk/data", direct: ["*.\"db\""])]"#),
            "{text}"
        );
        ron::from_str::<ron::Value>(&text).unwrap();
    }

    #[test]
    fn the_cluster_file_lists_every_node() {
        let node = |number: u8| NodeState {
            name: format!("node{number}"),
            number,
            daemon: false,
            init: None,
        };
        let (nodes, module) = ([node(1), node(2)], ModuleSettings::default());
        let text = cluster_ron(&cluster(&nodes, &module)).unwrap();
        assert!(
            text.contains(r#"(name: "node2", addresses: ["10.77.0.2", "10.78.0.2"])"#),
            "{text}"
        );
        ron::from_str::<ron::Value>(&text).unwrap();
    }
}
