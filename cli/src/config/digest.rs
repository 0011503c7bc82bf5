//! A hash of everything that must be equal on both nodes of a module. The daemons compare it when
//! they meet: two nodes that disagree about the directories must not replicate.
//!
//! What is hashed is the validated meaning, so comments, spelling of defaults, and the order of
//! nodes make no difference. Left out are each node's private part (node.ron, paths of state and
//! run), and `hot_limit`, `aside_limit`, `resync_slowdown` and `scrub`, about which they need not
//! agree.

use serde::Serialize;
use tandem_fs::config::{Ack, Isolation};

use super::checked::{Cluster, Module};
use super::problem::At;
use super::witness::{Way, Witness};

/// Raised when the meaning of a hashed field changes.
const VERSION: u32 = 2;

/// The hashed text is the JSON of this; the order of fields is part of the format.
#[derive(Serialize)]
struct Agreed<'a> {
    version: u32,
    cluster: &'a str,
    nodes: Vec<(&'a str, Vec<String>)>,
    module: &'a str,
    mode: &'static str,
    directories: Vec<(&'a str, &'a [String])>,
    port: u16,
    ack: &'static str,
    stall_limit_ms: u128,
    devices: bool,
    isolation: &'static str,
    ping: Vec<String>,
    after_power_loss_ms: Option<u128>,
    witness: Option<Third<'a>>,
}

/// The witness; where its certificates lie is each node's own matter.
#[derive(Debug, Serialize)]
#[serde(rename_all = "snake_case")]
pub(super) enum Third<'a> {
    Tandem(Vec<String>, &'a str),
    Etcd(&'a [String], &'a str),
}

/// What nodes must agree on about their witness.
pub(super) fn third(witness: &Witness) -> Third<'_> {
    match &witness.way {
        Way::Tandem { addresses, name } => Third::Tandem(
            addresses.iter().map(|a| a.value.to_string()).collect(),
            name,
        ),
        Way::Etcd { endpoints, prefix } => Third::Etcd(endpoints, prefix),
    }
}

/// The digest of one module. Only the module's own nodes count: a third node may join the cluster
/// without a stop of this module.
pub(crate) fn digest(cluster: &Cluster, module: &Module) -> [u8; 32] {
    let address = |name: &'_ String| {
        let node = cluster.nodes.iter().find(|node| node.name == *name);
        node.map(|n| n.addresses.iter().map(ToString::to_string).collect())
            .unwrap_or_default()
    };
    let agreed = Agreed {
        version: VERSION,
        cluster: &cluster.name,
        nodes: module
            .nodes
            .iter()
            .map(|name| (name.as_str(), address(name)))
            .collect(),
        module: &module.name,
        mode: "mirror",
        directories: module
            .directories
            .iter()
            .map(|At { value, .. }| {
                let path = value.path.to_str().expect("configuration files are UTF-8");
                (path, value.direct.as_slice())
            })
            .collect(),
        port: module.port.value,
        ack: match module.ack {
            Ack::Written => "written",
            Ack::Durable => "durable",
        },
        stall_limit_ms: module.stall_limit.as_millis(),
        devices: module.devices,
        isolation: match module.policy.isolation {
            Isolation::Wait => "wait",
            Isolation::Ping => "ping",
            Isolation::Alone => "alone",
        },
        ping: module.policy.ping.iter().map(ToString::to_string).collect(),
        after_power_loss_ms: module.policy.after_power_loss.map(|time| time.as_millis()),
        witness: cluster.witness.as_ref().map(third),
    };
    let text = serde_json::to_vec(&agreed).expect("texts and numbers can be written as JSON");
    *blake3::hash(&text).as_bytes()
}
