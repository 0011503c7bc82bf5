//! Configurations that cannot work, and nodes that do not belong together: each is refused with its
//! reason, and nothing is touched.

#![allow(
    clippy::unwrap_used,
    reason = "a failed set-up ends the test, with its line"
)]

use std::fs;
use std::process::Command;
use std::time::Duration;
use tandem_tests::cluster::{Cluster, Node, binary};
use tandem_tests::running::Running;

const LIMIT: Duration = Duration::from_secs(10);

/// Nodes without daemons.
fn nodes(test: &str) -> Option<Cluster> {
    let helper = env!("CARGO_BIN_EXE_inside");
    Some(Cluster::make(binary(test)?, helper, &["--no-daemons"]).unwrap())
}

/// Nodes with daemons and roles.
fn cluster(test: &str) -> Option<Cluster> {
    Some(Cluster::up(binary(test)?, env!("CARGO_BIN_EXE_inside"), &[]).unwrap())
}

fn sh(cluster: &Cluster, node: &str, script: &str) -> String {
    cluster.exec(node, &["sh", "-c", script]).unwrap()
}

/// Writes a module's file for one node, as the lab's with these directories and port.
fn module(cluster: &Cluster, node: &str, name: &str, directories: &str, port: u16) {
    let text = format!(
        "(mode: mirror, nodes: [\"node1\", \"node2\"], directories: [{directories}], \
         port: {port}, stall_limit: \"3s\")\n"
    );
    let dir = cluster.node_dir(node).join("etc/modules");
    fs::write(dir.join(name).with_extension("ron"), text).unwrap();
}

/// Mounts, and everything on the node's disk and in its run directory.
fn picture(cluster: &Cluster) -> String {
    let run = cluster.node_dir("node1").join("run");
    let list =
        "find /mnt/disk -printf '%p %y %s %C@\\n' | sort; cut -d' ' -f5- /proc/self/mountinfo";
    sh(
        cluster,
        "node1",
        &format!("{list}; ls -A {}", run.display()),
    )
}

/// The daemon of a module on node1 refuses to run, says all these words, and has touched nothing.
fn refused(cluster: &Cluster, module: &str, words: &[&str]) {
    let before = picture(cluster);
    let binary = cluster.binary().to_str().unwrap();
    let run = cluster.exec("node1", &["timeout", "10", binary, "fs", module]);
    let said = format!("{:#}", run.unwrap_err());
    assert!(!said.contains("exit status: 124"), "it ran: {said}");
    for word in words {
        assert!(said.contains(word), "{word:?} is not in {said}");
    }
    assert_eq!(picture(cluster), before, "it touched something");
}

#[test]
fn a_missing_directory_is_refused() {
    let Some(cluster) = nodes("a missing directory") else {
        return;
    };
    module(&cluster, "node1", "data", "\"/mnt/disk/nothing\"", 7400);
    refused(
        &cluster,
        "data",
        &["/mnt/disk/nothing", "make the directory"],
    );
}

#[test]
fn a_file_is_refused() {
    let Some(cluster) = nodes("a file for a directory") else {
        return;
    };
    sh(&cluster, "node1", "echo kept >/mnt/disk/file");
    module(&cluster, "node1", "data", "\"/mnt/disk/file\"", 7400);
    refused(&cluster, "data", &["/mnt/disk/file", "not a directory"]);
}

#[test]
fn a_directory_that_holds_another_mount_is_refused() {
    let Some(cluster) = nodes("a mount inside") else {
        return;
    };
    let sub = "/mnt/disk/data/sub";
    sh(
        &cluster,
        "node1",
        &format!("mkdir {sub} && mount -t tmpfs none {sub}"),
    );
    refused(&cluster, "data", &[sub, "would not be replicated"]);
}

#[test]
fn a_file_system_without_attributes_is_refused() {
    let Some(cluster) = nodes("a file system without attributes") else {
        return;
    };
    let script = "mkdir /mnt/ram && mount -t ramfs none /mnt/ram && mkdir /mnt/ram/data";
    sh(&cluster, "node1", script);
    module(&cluster, "node1", "data", "\"/mnt/ram/data\"", 7400);
    refused(&cluster, "data", &["/mnt/ram/data", "its file system"]);
}

#[test]
fn a_directory_with_the_records_in_it_is_refused() {
    let Some(cluster) = nodes("the state directory inside") else {
        return;
    };
    let state = cluster.node_dir("node1").join("disk/state");
    let disk = cluster.node_dir("node1").join("disk");
    module(
        &cluster,
        "node1",
        "data",
        &format!("{:?}", disk.display().to_string()),
        7400,
    );
    let state = state.display().to_string();
    refused(
        &cluster,
        "data",
        &["state directory", &state, "must be apart"],
    );
}

/// The same through the node's own name for its disk, which is another path of the same directory.
#[test]
fn a_directory_with_the_records_in_it_by_another_path_is_refused() {
    let Some(cluster) = nodes("the state directory inside, by another path") else {
        return;
    };
    module(&cluster, "node1", "data", "\"/mnt/disk\"", 7400);
    refused(&cluster, "data", &["state directory"]);
}

#[test]
fn one_directory_in_two_modules_is_refused() {
    let Some(cluster) = nodes("two modules, one directory") else {
        return;
    };
    let words = ["a directory belongs to one module once"];
    module(&cluster, "node1", "other", "\"/mnt/disk/data\"", 7401);
    refused(&cluster, "data", &words);
    refused(&cluster, "other", &words);
}

#[test]
fn a_directory_inside_another_modules_is_refused() {
    let Some(cluster) = nodes("two modules, one in the other") else {
        return;
    };
    sh(
        &cluster,
        "node1",
        "mkdir /mnt/disk/data/inner && ln -s data/inner /mnt/disk/link",
    );
    for path in ["\"/mnt/disk/data/inner\"", "\"/mnt/disk/link\""] {
        module(&cluster, "node1", "other", path, 7401);
        refused(&cluster, "other", &["lies inside", "one module once"]);
        refused(&cluster, "data", &["lies inside", "one module once"]);
    }
}

#[test]
fn a_second_daemon_of_a_module_is_refused_and_the_first_goes_on() {
    let Some(cluster) = cluster("a second daemon") else {
        return;
    };
    refused(
        &cluster,
        "data",
        &["already covered", "is the module running?"],
    );
    sh(&cluster, "node1", "echo on >/mnt/disk/data/file");
    let nodes = cluster.status().unwrap();
    assert_eq!((&*nodes[0].state, &*nodes[1].state), ("PRIM", "SECOND"));
    cluster.replicas_are_equal("node1").unwrap();
}

/// Starts both daemons by hand.
fn daemons(cluster: &Cluster) -> Vec<Running> {
    let start = |node: &&str| {
        let command = cluster.tandem_command(node, &["fs", "data"]).unwrap();
        let output = cluster.node_dir(node).join("log");
        Running::start(command, &output).unwrap()
    };
    let running = ["node1", "node2"].iter().map(start).collect();
    let waiting = |nodes: &[Node]| nodes.iter().all(|node| node.state == "WAIT");
    cluster
        .wait_until("both daemons run", LIMIT, waiting)
        .unwrap();
    running
}

/// What `tandem status` says on a node, until it has these words.
fn status_says(cluster: &Cluster, node: &str, word: &str) {
    let mut said = String::new();
    let what = format!("status of {node} says {word:?}");
    let says = |_: &[Node]| {
        said = cluster
            .tandem(node, &["status"])
            .unwrap_or_else(|error| format!("{error:#}"));
        said.contains(word)
    };
    let waited = cluster.wait_until(&what, LIMIT, says);
    assert!(waited.is_ok(), "{what}; it says: {said}");
}

/// Two daemons that must not work together: node1 serves alone, node2 gets nothing.
fn stay_apart(cluster: &Cluster) {
    cluster.tandem("node1", &["prim"]).unwrap();
    cluster.tandem("node2", &["second"]).ok();
    sh(cluster, "node1", "echo here >/mnt/disk/data/file");
    let nodes = cluster.status().unwrap();
    assert_eq!(
        (&*nodes[0].state, &*nodes[1].state),
        ("ALONE", "WAIT"),
        "{nodes:?}"
    );
    assert!(
        !nodes[1].replica.join("file").exists(),
        "node2 got something"
    );
}

#[test]
fn nodes_configured_differently_say_so_and_stay_apart() {
    let Some(cluster) = nodes("different configurations") else {
        return;
    };
    let file = cluster.node_dir("node2").join("etc/modules/data.ron");
    let text = fs::read_to_string(&file)
        .unwrap()
        .replace("\"3s\"", "\"4s\"");
    fs::write(&file, text).unwrap();
    let _running = daemons(&cluster);
    for node in ["node1", "node2"] {
        status_says(&cluster, node, "the configuration of node");
        status_says(&cluster, node, "modules/data.ron on both nodes");
    }
    stay_apart(&cluster);
}

/// Replaces a node's credentials by those of `name`, issued by the authority in `ca`.
fn issue(cluster: &Cluster, node: &str, ca: &str, name: &str) {
    let ca = cluster.node_dir("node1").join(ca);
    let tandem = |arguments: &[&str]| {
        let made = Command::new(cluster.binary())
            .args(arguments)
            .output()
            .unwrap();
        assert!(made.status.success(), "{made:?}");
    };
    let ca_text = ca.to_str().unwrap();
    if !ca.exists() {
        tandem(&["pki", "init", "--cluster", "any", "--out", ca_text]);
    }
    let pki = cluster.node_dir(node).join("etc/pki");
    fs::remove_dir_all(&pki).unwrap();
    tandem(&[
        "pki",
        "issue",
        name,
        "--ca",
        ca_text,
        "--out",
        pki.to_str().unwrap(),
    ]);
}

#[test]
fn a_node_with_a_certificate_of_another_authority_is_kept_out() {
    let Some(cluster) = nodes("another authority") else {
        return;
    };
    issue(&cluster, "node2", "ca", "node2");
    let _running = daemons(&cluster);
    status_says(&cluster, "node1", "certificate");
    status_says(&cluster, "node2", "certificate");
    stay_apart(&cluster);
}

#[test]
fn a_certificate_of_another_node_is_refused() {
    let Some(cluster) = nodes("another node's certificate") else {
        return;
    };
    issue(&cluster, "node1", "ca", "node2");
    refused(
        &cluster,
        "data",
        &["node.pem", "certificate of another node"],
    );
}

#[test]
fn without_its_peer_a_node_serves_alone_or_waits_with_a_reason() {
    let Some(binary) = binary("an unreachable peer") else {
        return;
    };
    let helper = env!("CARGO_BIN_EXE_inside");
    let cluster = Cluster::make(binary, helper, &["--no-roles"]).unwrap();
    cluster.lab("cut", &["node1", "node2"]).unwrap();
    cluster.tandem("node1", &["prim"]).unwrap();
    sh(
        &cluster,
        "node1",
        "echo alone >/mnt/disk/data/file && sync -f /mnt/disk/data",
    );
    cluster.tandem("node2", &["second"]).ok();
    let apart = |nodes: &[Node]| nodes[0].state == "ALONE" && nodes[1].state == "WAIT";
    cluster
        .wait_until("one serves, one waits", LIMIT, apart)
        .unwrap();
    for node in ["node1", "node2"] {
        // The link counts as lost only after the stall limit without a packet.
        let says_so = |_: &[Node]| {
            let text = cluster.tandem(node, &["status"]).unwrap_or_default();
            text.contains("not connected")
        };
        cluster
            .wait_until("the cut link is noticed", LIMIT, says_so)
            .unwrap();
    }
    cluster.lab("heal", &[]).unwrap();
    let equal = "the waiting node says what it needs, or follows";
    let settled = |nodes: &[Node]| nodes[1].reason.is_some() || nodes[1].state == "SECOND";
    cluster.wait_until(equal, LIMIT, settled).unwrap();
}
