//! What the tests on two nodes ask and say again and again.

use crate::cluster::{Cluster, Node};
use anyhow::{Context, Result};
use std::path::PathBuf;
use std::time::Duration;

/// How long anything may take that needs no waiting for a deadline of the product.
pub const SOON: Duration = Duration::from_secs(30);

/// Whether a node is in a state.
pub fn is(nodes: &[Node], name: &str, state: &str) -> bool {
    nodes.iter().any(|n| n.name == name && n.state == state)
}

/// Waits until a node is in a state.
///
/// # Panics
/// It does not get there.
pub fn becomes(cluster: &Cluster, name: &str, state: &str) {
    let what = format!("{name} is {state}");
    let is = |nodes: &[Node]| is(nodes, name, state);
    let reached = cluster.wait_until(&what, SOON, is);
    if let Err(e) = reached {
        panic!("{e:#}");
    }
}

/// Waits until node1 serves, node2 follows, and both are ready.
///
/// # Panics
/// They do not get there.
pub fn in_sync(cluster: &Cluster, limit: Duration) {
    let ready = |nodes: &[Node]| {
        let ready = nodes.iter().take(2).all(|n| n.readiness == "Ready");
        ready && is(nodes, "node1", "PRIM") && is(nodes, "node2", "SECOND")
    };
    let reached = cluster.wait_until("both are in sync", limit, ready);
    if let Err(e) = reached {
        panic!("{e:#}");
    }
}

/// Runs a script in the replicated directory, as the application of a node.
///
/// # Errors
/// What it says if it fails.
pub fn script(cluster: &Cluster, node: &str, text: &str) -> Result<String> {
    let mount = cluster.node(node)?.mount;
    let text = format!("set -e; cd {mount}; {text}");
    cluster.exec(node, &["sh", "-c", &text])
}

/// Why a node is not what it should be; empty if it is.
///
/// # Errors
/// Those of `tandem lab status`.
pub fn reason(cluster: &Cluster, name: &str) -> Result<String> {
    Ok(cluster.node(name)?.reason.unwrap_or_default())
}

/// What the daemon of a node tells of itself.
///
/// # Errors
/// It does not answer.
pub fn status(cluster: &Cluster, node: &str) -> Result<serde_json::Value> {
    let text = cluster.tandem(node, &["status", "--json"])?;
    let answer: serde_json::Value = serde_json::from_str(&text)?;
    Ok(answer["status"].clone())
}

/// The image of a node's disk.
pub fn image(cluster: &Cluster, node: &str) -> PathBuf {
    cluster.node_dir(node).join("disk.img")
}

/// Where the daemon of a node keeps what must survive.
///
/// # Errors
/// It keeps nothing.
pub fn state_dir(cluster: &Cluster, node: &str) -> Result<PathBuf> {
    let state = cluster.node_dir(node).join("disk/state");
    let modules = std::fs::read_dir(&state)?.flatten();
    let mut found = modules.filter(|m| m.path().join("record.0").exists());
    let found = found.next().map(|module| module.path());
    found.with_context(|| format!("no record below {}", state.display()))
}
