//! What brings a node that was away up again: from marks, under load, after changes of every kind,
//! after crashes of either and of both, and the first synchronisation of two trees that exist.

#![allow(
    clippy::unwrap_used,
    reason = "a failed set-up ends the test, with its line"
)]

use std::time::Duration;
use tandem_tests::cluster::{Cluster, Node, binary};
use tandem_tests::running::Load;

/// How long a resync of the little that is here may take.
const SOON: Duration = Duration::from_secs(30);

fn cluster(test: &str, more: &[&str]) -> Option<Cluster> {
    let binary = binary(test)?;
    Some(Cluster::up(binary, env!("CARGO_BIN_EXE_inside"), more).unwrap())
}

fn ready(nodes: &[Node], serving: usize) -> bool {
    let is = |n: &Node, state: &str| n.state == state && n.readiness == "Ready";
    is(&nodes[serving], "PRIM") && is(&nodes[1 - serving], "SECOND")
}

fn in_sync(cluster: &Cluster, serving: usize) {
    cluster
        .wait_until("both are in sync", SOON, |nodes| ready(nodes, serving))
        .unwrap();
}

fn becomes(cluster: &Cluster, name: &str, state: &str) {
    let is = |nodes: &[Node]| nodes.iter().any(|n| n.name == name && n.state == state);
    cluster
        .wait_until(&format!("{name} is {state}"), SOON, is)
        .unwrap();
}

/// Runs a script in the replicated directory, as the application of a node.
fn script(cluster: &Cluster, node: &str, text: &str) -> String {
    let mount = cluster.node(node).unwrap().mount;
    let text = format!("set -e; cd {mount}; {text}");
    cluster.exec(node, &["sh", "-c", &text]).unwrap()
}

fn status(cluster: &Cluster, node: &str) -> serde_json::Value {
    let text = cluster.tandem(node, &["status", "--json"]).unwrap();
    let answer: serde_json::Value = serde_json::from_str(&text).unwrap();
    answer["status"].clone()
}

fn bytes_sent(cluster: &Cluster, node: &str) -> u64 {
    status(cluster, node)["counters"]["bytes_sent"]
        .as_u64()
        .unwrap()
}

/// Takes node2 away, lets node1 go on alone.
fn take_away(cluster: &Cluster) {
    cluster.lab("kill", &["node2"]).unwrap();
    becomes(cluster, "node1", "ALONE");
}

/// Switches node2 on again; it follows. Returns the bytes that travelled for that.
fn bring_back(cluster: &Cluster) -> u64 {
    let before = bytes_sent(cluster, "node1");
    cluster.lab("start", &["node2"]).unwrap();
    cluster.tandem("node2", &["second"]).unwrap();
    in_sync(cluster, 0);
    bytes_sent(cluster, "node1") - before
}

/// Attributes of a directory tree that is large enough to tell renaming from copying.
const PLANT: &str = "mkdir -p big/deep/deeper moved/away keep; \
    for n in $(seq 40); do head -c 100000 /dev/urandom >big/deep/$n; done; \
    head -c 4000000 /dev/urandom >large; head -c 300000 /dev/urandom >holes; \
    echo one >hard; ln hard hard2; echo two >keep/victim; mkdir -p gone/below; \
    echo three >gone/below/file; ln -s large symlink; echo four >becomes-directory; \
    mkdir becomes-file; echo five >swap-a; echo six >swap-b; echo seven >truncated; \
    head -c 100000 /dev/zero >sparse; sync";

/// Every kind of change while the other node is away.
const CHANGE: &str = "mv big/deep moved/away/deep; mv big renamed; mkdir big; echo new >big/new; \
    printf x | dd of=large bs=1 seek=2000000 conv=notrunc 2>&1; \
    fallocate -p -o 65536 -l 131072 holes; ln hard hard3; rm hard; rm keep/victim; \
    echo other >keep/victim; rm -r gone; rm becomes-directory; mkdir becomes-directory; \
    echo in >becomes-directory/in; rmdir becomes-file; echo file >becomes-file; \
    mv swap-a t; mv swap-b swap-a; mv t swap-b; : >truncated; truncate -s 5000000 sparse; \
    chmod 4750 large; chown 1:2 holes; touch -d 2001-02-03 keep; ln -sf other symlink; \
    mkfifo fifo; mkdir -p new/er/est; for n in $(seq 50); do echo $n >new/er/est/$n; done; \
    setfattr -n user.kept -v value large; setfattr -n user.big -v $(seq -s, 500) renamed; \
    setfacl -m u:1:rw large; setfacl -d -m u:2:rx new; sync";

#[test]
fn changes_of_every_kind_are_brought_over_and_what_moved_is_not_copied() {
    let Some(cluster) = cluster("changes of every kind", &[]) else {
        return;
    };
    script(&cluster, "node1", PLANT);
    take_away(&cluster);
    script(&cluster, "node1", CHANGE);
    let travelled = bring_back(&cluster);
    cluster.replicas_are_equal("node1").unwrap();
    println!("{travelled} bytes travelled");
    // Four megabytes moved, one byte of four more changed.
    assert!(travelled < 1_500_000, "{travelled} bytes travelled");
    script(&cluster, "node1", "rm -r renamed new; echo after >after");
    cluster.replicas_are_equal("node1").unwrap();
}

#[test]
fn a_node_returns_under_load_again_and_again() {
    let Some(cluster) = cluster("returning under load", &[]) else {
        return;
    };
    let mut load = Load::start(&cluster, "node1").unwrap();
    for _ in 0..3 {
        take_away(&cluster);
        load.goes_on(300).unwrap();
        bring_back(&cluster);
        load.goes_on(100).unwrap();
    }
    load.end().unwrap();
    load.is_found(&cluster.node("node2").unwrap().replica)
        .unwrap();
    cluster.replicas_are_equal("node1").unwrap();
    println!("longest stall {:?}", load.longest().unwrap());
}

#[test]
fn the_node_that_served_and_died_is_brought_up_by_the_other() {
    let Some(cluster) = cluster("the return of the dead server", &[]) else {
        return;
    };
    script(&cluster, "node1", PLANT);
    let mut load = Load::start(&cluster, "node1").unwrap();
    load.goes_on(100).unwrap();
    cluster.lab("kill", &["node1"]).unwrap();
    load.wait().unwrap();
    becomes(&cluster, "node2", "WAIT");
    cluster.tandem("node2", &["prim"]).unwrap();
    script(&cluster, "node2", CHANGE);
    let mut next = Load::start(&cluster, "node2").unwrap();
    cluster.lab("start", &["node1"]).unwrap();
    cluster.tandem("node1", &["second"]).unwrap();
    in_sync(&cluster, 1);
    next.end().unwrap();
    cluster.replicas_are_equal("node2").unwrap();
    cluster.tandem("node2", &["swap"]).unwrap();
    in_sync(&cluster, 0);
    script(&cluster, "node1", "echo back >back");
    cluster.replicas_are_equal("node1").unwrap();
}

#[test]
fn after_the_death_of_both_only_what_was_hot_is_compared() {
    let Some(cluster) = cluster("the death of both", &[]) else {
        return;
    };
    script(&cluster, "node1", PLANT);
    let mut load = Load::start(&cluster, "node1").unwrap();
    load.goes_on(300).unwrap();
    cluster.lab("kill", &["node1"]).unwrap();
    cluster.lab("kill", &["node2"]).unwrap();
    load.wait().unwrap();
    cluster.lab("start", &["node1"]).unwrap();
    cluster.lab("start", &["node2"]).unwrap();
    cluster.tandem("node1", &["prim"]).unwrap();
    cluster.tandem("node2", &["second"]).unwrap();
    in_sync(&cluster, 0);
    load.is_found(&cluster.node("node2").unwrap().replica)
        .unwrap();
    cluster.replicas_are_equal("node1").unwrap();
}

#[test]
fn two_trees_that_exist_are_compared_not_copied() {
    let Some(binary) = binary("the first synchronisation") else {
        return;
    };
    let more = ["--no-roles"];
    let cluster = Cluster::make(binary, env!("CARGO_BIN_EXE_inside"), &more).unwrap();
    for node in ["node1", "node2"] {
        let dir = cluster.node(node).unwrap().replica;
        // The same in most, different in some.
        let text = format!(
            "set -e; cd {}; mkdir -p a/b c; for n in $(seq 30); do seq $n 20000 >a/b/$n; done; \
             echo {node} >differs; echo {node} >a/{node}; echo x >c/same; ln c/same c/link; \
             mkdir only-{node}; echo y >only-{node}/y; touch -d 2020-01-01 a/b/* c/same",
            dir.display()
        );
        let done = std::process::Command::new("sh")
            .args(["-c", &text])
            .status();
        assert!(done.unwrap().success());
    }
    cluster.tandem("node1", &["prim"]).unwrap();
    let before = bytes_sent(&cluster, "node1");
    cluster.tandem("node2", &["second"]).unwrap();
    in_sync(&cluster, 0);
    let travelled = bytes_sent(&cluster, "node1") - before;
    cluster.replicas_are_equal("node1").unwrap();
    println!("{travelled} bytes travelled");
    assert!(
        travelled < 1_000_000,
        "{travelled} bytes travelled of 3,300,000"
    );
    let kept = cluster.tandem("node2", &["divergence", "list"]).unwrap();
    for path in ["differs", "a/node2", "only-node2/y"] {
        assert!(kept.contains(path), "{path} is not kept aside:\n{kept}");
    }
}

#[test]
fn a_lost_link_interrupts_a_resync_and_it_is_finished_later() {
    let Some(cluster) = cluster("an interrupted resync", &[]) else {
        return;
    };
    take_away(&cluster);
    script(
        &cluster,
        "node1",
        "for n in $(seq 8); do head -c 30000000 /dev/urandom >big$n; done; mkdir d; \
         for n in $(seq 3000); do echo $n >d/$n; done",
    );
    cluster.lab("start", &["node2"]).unwrap();
    cluster.tandem("node2", &["second"]).unwrap();
    for _ in 0..3 {
        std::thread::sleep(Duration::from_millis(150));
        cluster.lab("cut", &["node1", "node2"]).unwrap();
        std::thread::sleep(Duration::from_millis(3500));
        cluster.lab("heal", &[]).unwrap();
        std::thread::sleep(Duration::from_millis(400));
    }
    in_sync(&cluster, 0);
    cluster.replicas_are_equal("node1").unwrap();
}

#[test]
fn split_brain_keeps_what_the_loser_wrote() {
    let Some(cluster) = cluster("split brain", &[]) else {
        return;
    };
    script(&cluster, "node1", "echo common >file; echo old >both");
    cluster.lab("cut", &["node1", "node2"]).unwrap();
    becomes(&cluster, "node1", "ALONE");
    becomes(&cluster, "node2", "WAIT");
    cluster.tandem("node2", &["prim"]).unwrap();
    script(&cluster, "node1", "echo from1 >both; echo one >one");
    script(
        &cluster,
        "node2",
        "echo from2 >both; echo two >two; mkdir dir; echo in >dir/in",
    );
    cluster.lab("heal", &[]).unwrap();
    // The operator decides that node1 goes on.
    std::thread::sleep(Duration::from_secs(1));
    let said = cluster.tandem("node2", &["why"]).unwrap_err();
    assert!(format!("{said:#}").contains("diverged"), "{said:#}");
    cluster.tandem("node2", &["resync"]).unwrap();
    in_sync(&cluster, 0);
    cluster.replicas_are_equal("node1").unwrap();
    let kept = cluster.tandem("node2", &["divergence", "list"]).unwrap();
    for path in ["both", "two", "dir/in"] {
        assert!(kept.contains(path), "{path} is not kept aside:\n{kept}");
    }
    let mount = cluster.node("node2").unwrap().mount;
    let parent = std::path::Path::new(&mount)
        .parent()
        .unwrap()
        .display()
        .to_string();
    let to = format!("{parent}/exported");
    cluster
        .tandem("node2", &["divergence", "export", &to])
        .unwrap();
    let said = cluster
        .exec("node2", &["grep", "-r", "from2", &to])
        .unwrap();
    assert!(said.contains("from2"), "{said}");
    cluster.tandem("node2", &["divergence", "discard"]).unwrap();
    let kept = cluster.tandem("node2", &["divergence", "list"]).unwrap();
    assert!(kept.contains("nothing was kept"), "{kept}");
}

/// Flips a byte of the follower's copy behind everybody's back; a verification finds it under
/// load and finds nothing else.
#[test]
fn a_verification_under_load_finds_what_differs_and_nothing_else() {
    let Some(cluster) = cluster("verification", &[]) else {
        return;
    };
    script(&cluster, "node1", PLANT);
    let mut load = Load::start(&cluster, "node1").unwrap();
    cluster.tandem("node1", &["verify"]).unwrap();
    let verify = &status(&cluster, "node1")["verify"];
    assert_eq!(verify["differences"], 0, "{verify}");
    assert!(verify["files"].as_u64().unwrap() > 40, "{verify}");

    let replica = cluster.node("node2").unwrap().replica;
    let flip = format!(
        "set -e; cd {}; printf Z | dd of=big/deep/7 bs=1 seek=777 conv=notrunc 2>/dev/null; \
         rm keep/victim; chmod 600 large",
        replica.display()
    );
    let done = std::process::Command::new("sh")
        .args(["-c", &flip])
        .status();
    assert!(done.unwrap().success());
    let found = cluster.tandem("node1", &["verify"]).unwrap_err();
    let found = format!("{found:#}");
    for path in ["/big/deep/7", "/keep", "/large"] {
        assert!(found.contains(path), "{path}: {found}");
    }
    in_sync(&cluster, 0);
    load.goes_on(50).unwrap();
    load.end().unwrap();
    cluster.replicas_are_equal("node1").unwrap();
    cluster.tandem("node1", &["verify"]).unwrap();
}
