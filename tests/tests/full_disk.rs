//! A disk that is full, on either node.

#![allow(
    clippy::unwrap_used,
    reason = "a failed set-up ends the test, with its line"
)]

use std::time::Duration;
use tandem_tests::cluster::{Cluster, Node, binary};
use tandem_tests::mirror::{becomes, is, reason};
use tandem_tests::running::{Filler, Load};

/// The default, which the labs here have.
const STALL_LIMIT: Duration = Duration::from_secs(3);
/// How long the nodes may take to notice what needs no waiting.
const NOTICE: Duration = Duration::from_secs(2);

fn cluster(test: &str, more: &[&str]) -> Option<Cluster> {
    let binary = binary(test)?;
    Some(Cluster::up(binary, env!("CARGO_BIN_EXE_inside"), more).unwrap())
}

#[test]
fn the_peers_full_disk_is_the_peers_trouble() {
    let small = ["--disk-size", "128MiB"];
    let Some(cluster) = cluster("the peer's full disk", &small) else {
        return;
    };
    let mut load = Load::start(&cluster, "node1").unwrap();
    let _filler = Filler::new(&cluster.node_dir("node2").join("disk"), 0).unwrap();
    becomes(&cluster, "node1", "ALONE");
    load.goes_on(200).unwrap();
    load.end().unwrap();
    let why = reason(&cluster, "node1").unwrap();
    assert!(
        why.contains("node2") && why.contains("No space left"),
        "{why}"
    );
    // At first it may say that it lost its peer.
    let says = |nodes: &[Node]| {
        let why = reason(&cluster, "node2").unwrap();
        is(nodes, "node2", "WAIT") && (why.contains("No space") || why.contains("stale"))
    };
    let stale = "node2 waits and says that it is stale or why it failed";
    cluster
        .wait_until(stale, Duration::from_secs(5), says)
        .unwrap();
    cluster.lab("kill", &["node1"]).unwrap();
    let gone = |nodes: &[Node]| is(nodes, "node1", "DOWN");
    cluster.wait_until("node1 is down", NOTICE, gone).unwrap();
    // Until it has noticed, it refuses because node1 serves.
    let mut refused = String::new();
    let stale = |_: &[Node]| {
        let said = cluster.tandem("node2", &["prim"]);
        refused = format!("{:#}", said.expect_err("it lacks what was acknowledged"));
        refused.contains("(stale)") || refused.contains("(state-directory)")
    };
    let limit = STALL_LIMIT + NOTICE;
    let waited = cluster.wait_until("node2 refuses", limit, stale);
    assert!(waited.is_ok(), "{refused}");
}

/// What the application was told after the peer's disk filled up is not on the peer; so the peer
/// must know for good that it is stale, although its records are on that disk.
#[test]
fn a_peer_with_a_full_disk_is_stale_even_after_its_restart() {
    let small = ["--disk-size", "128MiB"];
    let Some(cluster) = cluster("staleness on a full disk", &small) else {
        return;
    };
    let mut load = Load::start(&cluster, "node1").unwrap();
    let filler = Filler::new(&cluster.node_dir("node2").join("disk"), 0).unwrap();
    becomes(&cluster, "node1", "ALONE");
    load.goes_on(200).unwrap();
    cluster.lab("kill", &["node1"]).unwrap();
    cluster.lab("kill", &["node2"]).unwrap();
    // The operator makes room and starts it again.
    drop(filler);
    cluster.lab("start", &["node2"]).unwrap();
    let refused = cluster.tandem("node2", &["prim"]);
    let refused = format!("{:#}", refused.expect_err("it lacks what was acknowledged"));
    assert!(refused.contains("(stale)"), "{refused}");
}

/// The record of a smaller set is the condition for going on (I4); where it cannot be written the
/// application gets errors, never a promise.
#[test]
fn a_node_that_cannot_record_the_loss_of_its_peer_acknowledges_nothing() {
    let small = ["--disk-size", "128MiB"];
    let Some(cluster) = cluster("a full disk when the peer is lost", &small) else {
        return;
    };
    let load = Load::start(&cluster, "node1").unwrap();
    let _filler = Filler::new(&cluster.node_dir("node1").join("disk"), 0).unwrap();
    cluster.lab("cut", &["node1", "node2"]).unwrap();
    let decided = |nodes: &[Node]| nodes[0].state == "ALONE" || nodes[0].state == "WAIT";
    cluster
        .wait_until("node1 decides", STALL_LIMIT + NOTICE, decided)
        .unwrap();
    if is(&cluster.status().unwrap(), "node1", "WAIT") {
        let why = reason(&cluster, "node1").unwrap();
        assert!(why.contains("record"), "{why}");
    }
    load.is_found(&cluster.node("node1").unwrap().replica)
        .unwrap();
}

#[test]
fn the_own_full_disk_is_told_to_the_application_and_to_nobody_else() {
    let small = ["--disk-size", "128MiB"];
    let Some(cluster) = cluster("the own full disk", &small) else {
        return;
    };
    let mount = cluster.node("node1").unwrap().mount;
    cluster
        .exec("node1", &["mkdir", &format!("{mount}/dir")])
        .unwrap();
    let filler = Filler::new(&cluster.node_dir("node1").join("disk"), 1 << 20).unwrap();
    let fill = format!(
        "for n in $(seq 40); do head -c 65536 /dev/urandom >{mount}/dir/$n || exit 7; done"
    );
    let full = cluster.exec("node1", &["sh", "-c", &fill]).unwrap_err();
    let full = format!("{full:#}");
    assert!(full.contains("No space left"), "{full}");
    let nodes = cluster.status().unwrap();
    assert!(
        is(&nodes, "node1", "PRIM") && is(&nodes, "node2", "SECOND"),
        "{nodes:?}"
    );
    cluster.replicas_are_equal("node1").unwrap();
    drop(filler);
    let again = format!("echo again >{mount}/dir/again");
    cluster.exec("node1", &["sh", "-c", &again]).unwrap();
    cluster.replicas_are_equal("node1").unwrap();
}
