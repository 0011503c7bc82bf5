//! Two nodes and a witness on a third (M17): whatever is cut, exactly one side serves, or none
//! where nothing can tell; the witness alone does not matter.

#![allow(
    clippy::unwrap_used,
    reason = "a failed set-up ends the test, with its line"
)]

use std::path::Path;
use std::time::{Duration, Instant};
use tandem_tests::cluster::{Cluster, Node, binary};
use tandem_tests::etcd;
use tandem_tests::running::{Load, Running};

/// The default, which the labs here have.
const STALL_LIMIT: Duration = Duration::from_secs(3);
const NOTICE: Duration = Duration::from_secs(2);
/// How long a node may take to ask the witness, and to give up.
const DECIDE: Duration = Duration::from_secs(5);
/// How often a serving node repeats its record at the witness, and some more.
const REPEAT: Duration = Duration::from_secs(13);

fn cluster(test: &str, kind: &str, more: &[&str]) -> Option<Cluster> {
    let binary = binary(test)?;
    let third = ["--nodes", "3", "--witness", kind];
    let more = [&third, more].concat();
    Some(Cluster::make(binary, env!("CARGO_BIN_EXE_inside"), &more).unwrap())
}

fn is(nodes: &[Node], name: &str, state: &str) -> bool {
    nodes.iter().any(|n| n.name == name && n.state == state)
}

fn become_states(cluster: &Cluster, states: [&str; 2], limit: Duration) {
    let what = format!("node1 is {}, node2 is {}", states[0], states[1]);
    let hold = |nodes: &[Node]| is(nodes, "node1", states[0]) && is(nodes, "node2", states[1]);
    cluster.wait_until(&what, limit, hold).unwrap();
}

/// Whether an application's write is answered with success.
fn writes(cluster: &Cluster, node: &str) -> bool {
    let mount = cluster.node(node).unwrap().mount;
    let write = format!("echo {node} >{mount}/written-{node}");
    cluster.exec(node, &["sh", "-c", &write]).is_ok()
}

fn refusal(cluster: &Cluster, node: &str, command: &[&str]) -> String {
    let done = cluster.tandem(node, command);
    format!("{:#}", done.expect_err("it must be refused"))
}

/// Waits until the serving node has told the witness.
fn told(cluster: &Cluster, node: &str) {
    let started = Instant::now();
    loop {
        let status = status(cluster, node);
        let ago = status["witness"]["answered_ago_ms"].as_u64();
        if ago.is_some() && status["witness"]["last_error"].is_null() {
            return;
        }
        assert!(started.elapsed() < REPEAT, "{}", status["witness"]);
        std::thread::sleep(Duration::from_millis(100));
    }
}

fn status(cluster: &Cluster, node: &str) -> serde_json::Value {
    let text = cluster.tandem(node, &["status", "--json"]).unwrap();
    let mut status: serde_json::Value = serde_json::from_str(&text).unwrap();
    status["status"].take()
}

/// The link between the two is cut, both reach the witness: the serving one goes on.
fn the_link_is_cut(cluster: &Cluster) {
    let mut load = Load::start(cluster, "node1").unwrap();
    cluster.lab("cut", &["node1", "node2"]).unwrap();
    become_states(cluster, ["ALONE", "WAIT"], STALL_LIMIT + DECIDE);
    load.goes_on(200).unwrap();
    let why = refusal(cluster, "node2", &["prim"]);
    assert!(why.contains("granted-to-peer"), "{why}");
    assert!(!writes(cluster, "node2"));
    load.goes_on(100).unwrap();
    load.end().unwrap();
    let longest = load.longest().unwrap();
    println!("longest stall {longest:?}");
    assert!(longest < STALL_LIMIT + NOTICE, "{longest:?}");
    cluster.lab("heal", &[]).unwrap();
    cluster.tandem("node2", &["second"]).unwrap();
    become_states(cluster, ["PRIM", "SECOND"], Duration::from_secs(30));
    load.is_found(&cluster.mount_path("node2").unwrap())
        .unwrap();
    cluster.replicas_are_equal("node1").unwrap();
}

/// The serving node is cut off from everybody: it stops, and the other one is granted.
fn the_serving_node_is_cut_off(cluster: &Cluster) {
    let mut load = Load::start(cluster, "node1").unwrap();
    load.goes_on(200).unwrap();
    for other in ["node2", "node3"] {
        cluster.lab("cut", &["node1", other]).unwrap();
    }
    become_states(cluster, ["WAIT", "WAIT"], STALL_LIMIT + DECIDE);
    let why = cluster.node("node1").unwrap().reason.unwrap();
    assert!(why.contains("witness-silent"), "{why}");
    load.wait().unwrap();
    cluster.tandem("node2", &["prim"]).unwrap();
    become_states(cluster, ["WAIT", "ALONE"], NOTICE);
    assert!(writes(cluster, "node2") && !writes(cluster, "node1"));
    load.is_found(&cluster.mount_path("node2").unwrap())
        .unwrap();
    let why = refusal(cluster, "node1", &["prim"]);
    assert!(why.contains("witness-silent"), "{why}");
    cluster.lab("heal", &["node1", "node3"]).unwrap();
    let why = refusal(cluster, "node1", &["prim"]);
    assert!(why.contains("granted-to-peer"), "{why}");
    cluster.lab("heal", &[]).unwrap();
    cluster.tandem("node1", &["second"]).unwrap();
    become_states(cluster, ["SECOND", "PRIM"], Duration::from_secs(30));
    cluster.replicas_are_equal("node2").unwrap();
}

#[test]
fn a_cut_link_leaves_the_serving_node_alone_and_the_other_refused() {
    let Some(cluster) = cluster("a cut link with a witness", "tandem", &[]) else {
        return;
    };
    told(&cluster, "node1");
    the_link_is_cut(&cluster);
}

#[test]
fn a_serving_node_that_is_cut_off_stops_and_the_other_takes_over() {
    let Some(cluster) = cluster("a node cut off with a witness", "tandem", &["--managed"]) else {
        return;
    };
    told(&cluster, "node1");
    the_serving_node_is_cut_off(&cluster);
}

#[test]
fn a_following_node_that_is_cut_off_waits_and_the_other_goes_on() {
    let Some(cluster) = cluster(
        "a follower cut off with a witness",
        "tandem",
        &["--managed"],
    ) else {
        return;
    };
    told(&cluster, "node1");
    let mut load = Load::start(&cluster, "node1").unwrap();
    cluster.lab("cut", &["node2"]).unwrap();
    become_states(&cluster, ["ALONE", "WAIT"], STALL_LIMIT + DECIDE);
    let why = refusal(&cluster, "node2", &["prim"]);
    assert!(why.contains("witness-silent"), "{why}");
    load.goes_on(100).unwrap();
    load.end().unwrap();
}

#[test]
fn the_loss_of_the_witness_changes_nothing_by_itself_and_everything_with_a_cut() {
    let Some(cluster) = cluster("the loss of the witness", "tandem", &["--managed"]) else {
        return;
    };
    told(&cluster, "node1");
    let mut load = Load::start(&cluster, "node1").unwrap();
    cluster.lab("kill", &["node3"]).unwrap();
    let gone = Instant::now();
    let noticed = |status: &serde_json::Value| {
        let why = status["why"].as_array().cloned().unwrap_or_default();
        why.iter().any(|why| why["code"] == "witness-silent")
    };
    while gone.elapsed() < REPEAT + STALL_LIMIT {
        let status = status(&cluster, "node1");
        assert_eq!(status["state"], "PRIM", "{status}");
        assert_eq!(status["readiness"], "Ready", "{status}");
        load.goes_on(20).unwrap();
    }
    assert!(noticed(&status(&cluster, "node1")), "`tandem why` says so");
    assert!(is(&cluster.status().unwrap(), "node2", "SECOND"));
    cluster.lab("cut", &["node1", "node2"]).unwrap();
    become_states(&cluster, ["WAIT", "WAIT"], STALL_LIMIT + DECIDE);
    load.wait().unwrap();
    for node in ["node1", "node2"] {
        let why = refusal(&cluster, node, &["prim"]);
        assert!(why.contains("witness-silent"), "{node}: {why}");
        assert!(!writes(&cluster, node), "{node} acknowledged");
    }
    // It comes back and remembers: the one that served is granted, the other no more.
    cluster.lab("start", &["node3"]).unwrap();
    cluster.tandem("node1", &["prim"]).unwrap();
    become_states(&cluster, ["ALONE", "WAIT"], NOTICE);
    assert!(writes(&cluster, "node1"));
    let why = refusal(&cluster, "node2", &["prim"]);
    assert!(why.contains("granted-to-peer"), "{why}");
    load.is_found(&cluster.mount_path("node1").unwrap())
        .unwrap();
}

#[test]
fn an_etcd_cluster_is_a_witness_too() {
    let test = "etcd as the witness";
    let Some(program) = etcd::program(test) else {
        return;
    };
    let Some(cluster) = cluster(test, "etcd", &["--managed"]) else {
        return;
    };
    let data = etcd::Directory::new().unwrap();
    let program = program.to_str().unwrap();
    let options = etcd::options(
        data.path(),
        "http://10.77.0.3:2379",
        "http://10.77.0.3:2380",
    );
    let options: Vec<&str> = options.iter().map(String::as_str).collect();
    let command = cluster.exec_command("node3", &[], &[&[program], &options[..]].concat());
    let log = Path::new(data.path()).join("log");
    let _etcd = Running::start(command, &log).unwrap();
    told(&cluster, "node1");
    the_link_is_cut(&cluster);
    the_serving_node_is_cut_off(&cluster);
}
