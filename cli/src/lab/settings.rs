//! The configuration files of a lab's nodes, as `tandem init` would leave them on real machines.

use std::fs;
use std::net::IpAddr;
use std::path::Path;

use anyhow::{Context, Result};

use crate::pki::{self, Ca};

use super::place::{MODULE, MOUNT, NodePlace};
use super::state::NodeState;

/// The replication port of the module.
const PORT: u16 = 7400;
/// Where `tandem witness` listens unless told otherwise, and where etcd does.
const WITNESS_PORT: u16 = 7402;
const ETCD_PORT: u16 = 2379;

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
    /// What a node does that lost its peer, where no witness decides
    #[arg(long, default_value = "wait", value_parser = ["wait", "ping", "alone"])]
    pub(crate) isolation: String,
    /// Address that isolation `ping` asks (several allowed)
    #[arg(long, value_name = "ADDRESS")]
    pub(crate) ping: Vec<IpAddr>,
    /// Time after which a node that lost power may serve alone, or off
    #[arg(long, value_name = "DURATION")]
    pub(crate) after_power_loss: Option<String>,
    /// More keys of the module's file, such as 'virtual_ips: ["10.77.0.100"],'
    #[arg(
        long,
        default_value = "",
        value_name = "RON",
        hide_default_value = true
    )]
    pub(crate) settings: String,
    /// Make the last node the witness: `tandem witness` runs on it, or an etcd that you start there
    #[arg(long, value_enum)]
    pub(crate) witness: Option<WitnessKind>,
}

/// What the witness of a lab is.
#[derive(Clone, Copy, Debug, PartialEq, Eq, clap::ValueEnum)]
pub(crate) enum WitnessKind {
    Tandem,
    Etcd,
}

impl Default for ModuleSettings {
    fn default() -> Self {
        Self {
            ack: "written".into(),
            direct: Vec::new(),
            stall_limit: "3s".into(),
            isolation: "wait".into(),
            ping: Vec::new(),
            after_power_loss: None,
            witness: None,
            settings: String::new(),
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

impl Cluster<'_> {
    /// The last node, where a witness is wanted.
    fn witness(&self) -> Option<(&NodeState, WitnessKind)> {
        self.nodes.last().zip(self.module.witness)
    }
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
    if cluster
        .witness()
        .is_some_and(|(witness, _)| witness.name == node.name)
    {
        let clients = etc.join("clients");
        fs::create_dir(&clients).with_context(|| format!("create {}", clients.display()))?;
        let of_cluster = clients.join(format!("{}.pem", cluster.name));
        pki::write_public(&of_cluster, &cluster.ca.cert_pem)?;
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
    let witness = match cluster.witness() {
        None => String::new(),
        Some((node, WitnessKind::Tandem)) => format!(
            "  witness: (tandem: [\"{}:{WITNESS_PORT}\"], name: {}),\n",
            node.address(0),
            quoted(&node.name)?
        ),
        Some((node, WitnessKind::Etcd)) => format!(
            "  witness: (etcd: [\"http://{}:{ETCD_PORT}\"]),\n",
            node.address(0)
        ),
    };
    Ok(format!(
        // The machine's own is not a lab's.
        "(\n  name: {},\n  nodes: {nodes},\n  watchdog: \"off\",\n{witness})\n",
        quoted(cluster.name)?
    ))
}

fn module_ron(cluster: &Cluster<'_>) -> Result<String> {
    let ModuleSettings {
        ack,
        direct,
        stall_limit,
        isolation,
        ping,
        after_power_loss,
        witness: _,
        settings,
    } = cluster.module;
    let nodes = list(cluster.members, |name| quoted(name))?;
    let directory = if direct.is_empty() {
        quoted(MOUNT)?
    } else {
        let patterns = list(direct, |pattern| quoted(pattern))?;
        format!("(path: {}, direct: {patterns})", quoted(MOUNT)?)
    };
    let stall_limit = quoted(stall_limit)?;
    let mut apart = format!("  isolation: {isolation},\n");
    if !ping.is_empty() {
        apart += &format!("  ping: {},\n", list(ping, |ip| quoted(&ip.to_string()))?);
    }
    if let Some(time) = after_power_loss {
        apart += &format!("  after_power_loss: {},\n", quoted(time)?);
    }
    if !settings.is_empty() {
        apart += &format!("  {settings}\n");
    }
    Ok(format!(
        "(\n  mode: mirror,\n  nodes: {nodes},\n  directories: [{directory}],\n  port: {PORT},\n  \
         ack: {ack},\n  stall_limit: {stall_limit},\n  devices: true,\n{apart})\n"
    ))
}

#[cfg(test)]
#[allow(clippy::unwrap_used)]
mod tests {
    use super::super::state::Runs;
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
            runs: Runs::Nothing,
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
