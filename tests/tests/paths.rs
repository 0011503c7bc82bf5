//! Two networks between the nodes: the replication link goes on while one of them is left.

#![allow(
    clippy::unwrap_used,
    reason = "a failed set-up ends the test, with its line"
)]

use serde_json::Value;
use std::time::{Duration, Instant};
use tandem_tests::cluster::{Cluster, Node, binary};
use tandem_tests::mirror::{SOON, becomes, in_sync, is, script, status};
use tandem_tests::running::Load;

/// The default, which the labs here have.
const STALL_LIMIT: Duration = Duration::from_secs(3);
/// How long the link may take to leave a network that has died, with what a busy machine adds.
const MOVED: Duration = Duration::from_secs(1);

fn cluster(test: &str, more: &[&str]) -> Option<Cluster> {
    let arguments = [&["--networks", "2"], more].concat();
    let helper = env!("CARGO_BIN_EXE_inside");
    Some(Cluster::up(binary(test)?, helper, &arguments).unwrap())
}

/// A network, counted from 1, as one node's status shows it.
fn network(cluster: &Cluster, node: &str, number: usize) -> Value {
    let status = status(cluster, node).unwrap();
    status["peer"]["paths"][number - 1].clone()
}

/// Waits until both nodes send in this network only.
fn uses(cluster: &Cluster, number: usize, limit: Duration) {
    let started = Instant::now();
    let used = |node: &str, n: usize| network(cluster, node, n)["current"] == true;
    let only = |node: &str| used(node, number) && !used(node, 3 - number);
    while !(only("node1") && only("node2")) {
        let networks = [1, 2].map(|n| ["node1", "node2"].map(|node| network(cluster, node, n)));
        assert!(
            started.elapsed() < limit,
            "not network {number}: {networks:?}"
        );
        std::thread::sleep(Duration::from_millis(20));
    }
}

/// What changes with any change of roles or of the set.
fn epoch(cluster: &Cluster) -> Value {
    status(cluster, "node1").unwrap()["epoch"].clone()
}

fn roles_are_kept(nodes: &[Node]) -> bool {
    is(nodes, "node1", "PRIM") && is(nodes, "node2", "SECOND")
}

/// Ends the load: nobody noticed more than a pause, and nothing that was answered is missing.
fn nothing_happened(cluster: &Cluster, load: &mut Load, pause: Duration, before: &Value) {
    load.end().unwrap();
    let longest = load.longest().unwrap();
    println!("longest pause {longest:?}");
    assert!(longest < pause, "{longest:?}");
    assert_eq!(epoch(cluster), *before, "nobody left the set meanwhile");
    let nodes = cluster.status().unwrap();
    assert!(roles_are_kept(&nodes), "{nodes:?}");
    load.is_found(&cluster.node("node2").unwrap().replica)
        .unwrap();
    cluster.replicas_are_equal("node1").unwrap();
}

/// What arrives at a node's card is lost with this probability, from now on.
fn lose(cluster: &Cluster, node: &str, card: &str, percent: u64) {
    // A program of four instructions for the packet filter: draw a number; less than the limit is
    // dropped (2), the rest passes (0).
    const RANDOM: u32 = 0xffff_f038;
    let limit = u64::from(u32::MAX) * percent / 100;
    let program = format!("4,32 0 0 {RANDOM},53 0 1 {limit},6 0 0 0,6 0 0 2");
    let filter = ["tc", "filter", "add", "dev", card, "ingress", "bpf"];
    let filter = [&filter[..], &["da", "bytecode", &program]].concat();
    cluster
        .exec(node, &["tc", "qdisc", "add", "dev", card, "clsact"])
        .unwrap();
    cluster.exec(node, &filter).unwrap();
}

fn lose_no_more(cluster: &Cluster, node: &str, card: &str) {
    cluster
        .exec(node, &["tc", "qdisc", "del", "dev", card, "clsact"])
        .unwrap();
}

#[test]
fn m14_the_first_network_dies_and_comes_back_without_a_change_of_roles() {
    let Some(cluster) = cluster("M14, the first network dies", &[]) else {
        return;
    };
    uses(&cluster, 1, SOON);
    let before = epoch(&cluster);
    let mut load = Load::start(&cluster, "node1").unwrap();
    for _ in 0..2 {
        cluster.lab("cut", &["node1", "--network", "1"]).unwrap();
        uses(&cluster, 2, MOVED);
        let dead = network(&cluster, "node1", 1);
        assert_eq!(
            (&dead["alive"], &dead["current"]),
            (&false.into(), &false.into())
        );
        let living = network(&cluster, "node1", 2);
        assert_eq!(living["remote"], "10.78.0.2", "{living}");
        assert!(living["round_trip_us"].as_u64() > Some(0), "{living}");
        let shown = cluster.tandem("node1", &["status"]).unwrap();
        assert!(shown.contains("10.77.0.1 to 10.77.0.2: silent"), "{shown}");
        assert!(shown.contains("10.78.0.1 to 10.78.0.2: used"), "{shown}");
        load.goes_on(200).unwrap();
        cluster.lab("heal", &["--network", "1"]).unwrap();
        uses(&cluster, 1, SOON);
        load.goes_on(100).unwrap();
    }
    nothing_happened(&cluster, &mut load, MOVED, &before);
}

#[test]
fn m14_with_a_short_stall_limit_it_is_faster() {
    let stall_limit = Duration::from_secs(1);
    let Some(cluster) = cluster("M14, a short stall limit", &["--stall-limit", "1s"]) else {
        return;
    };
    uses(&cluster, 1, SOON);
    let before = epoch(&cluster);
    let mut load = Load::start(&cluster, "node1").unwrap();
    cluster.lab("cut", &["node2", "--network", "1"]).unwrap();
    uses(&cluster, 2, MOVED);
    load.goes_on(200).unwrap();
    nothing_happened(&cluster, &mut load, stall_limit, &before);
}

#[test]
fn m14_the_second_network_dies_and_nothing_moves() {
    let Some(cluster) = cluster("M14, the second network dies", &[]) else {
        return;
    };
    uses(&cluster, 1, SOON);
    let before = epoch(&cluster);
    let mut load = Load::start(&cluster, "node1").unwrap();
    cluster.lab("cut", &["node1", "--network", "2"]).unwrap();
    let until = Instant::now() + Duration::from_secs(2);
    while Instant::now() < until {
        assert_eq!(network(&cluster, "node1", 1)["current"], true);
        std::thread::sleep(Duration::from_millis(50));
    }
    assert_eq!(network(&cluster, "node1", 2)["alive"], false);
    load.goes_on(100).unwrap();
    nothing_happened(&cluster, &mut load, MOVED, &before);
}

/// As with one network: the serving node goes on alone after the stall limit, and is joined again.
#[test]
fn m14_both_networks_die_and_one_node_serves() {
    let Some(cluster) = cluster("M14, both networks die", &[]) else {
        return;
    };
    let mut load = Load::start(&cluster, "node1").unwrap();
    cluster.lab("cut", &["node1", "node2"]).unwrap();
    becomes(&cluster, "node1", "ALONE");
    becomes(&cluster, "node2", "WAIT");
    load.goes_on(100).unwrap();
    cluster.lab("heal", &["--network", "2"]).unwrap();
    cluster.tandem("node2", &["second"]).unwrap();
    in_sync(&cluster, SOON);
    uses(&cluster, 2, SOON);
    load.end().unwrap();
    let longest = load.longest().unwrap();
    assert!(longest < STALL_LIMIT + MOVED, "{longest:?}");
    load.is_found(&cluster.node("node2").unwrap().replica)
        .unwrap();
    cluster.replicas_are_equal("node1").unwrap();
}

#[test]
fn m14_a_network_that_loses_a_third_is_left_for_the_good_one() {
    let Some(cluster) = cluster("M14, a lossy network", &[]) else {
        return;
    };
    uses(&cluster, 1, SOON);
    let before = epoch(&cluster);
    let mut load = Load::start(&cluster, "node1").unwrap();
    for node in ["node1", "node2"] {
        lose(&cluster, node, "eth0", 30);
    }
    uses(&cluster, 2, SOON);
    // It is not tried again while it loses.
    let until = Instant::now() + Duration::from_secs(6);
    while Instant::now() < until {
        assert_eq!(network(&cluster, "node1", 2)["current"], true);
        std::thread::sleep(Duration::from_millis(100));
    }
    let lossy = network(&cluster, "node1", 1);
    assert!(lossy["loss_percent"].as_u64() > Some(9), "{lossy}");
    load.goes_on(200).unwrap();
    for node in ["node1", "node2"] {
        lose_no_more(&cluster, node, "eth0");
    }
    uses(&cluster, 1, SOON);
    nothing_happened(&cluster, &mut load, STALL_LIMIT, &before);
}

/// What node1 sends is lost, what node2 sends arrives: each chooses for itself.
#[test]
fn m14_a_network_that_carries_in_one_direction_only_is_used_in_that_direction() {
    let Some(cluster) = cluster("M14, one direction", &[]) else {
        return;
    };
    uses(&cluster, 1, SOON);
    let before = epoch(&cluster);
    let mut load = Load::start(&cluster, "node1").unwrap();
    // Neighbours that are not found again must not make it a loss in both directions.
    for (node, other) in [("node1", 2), ("node2", 1)] {
        let (address, card) = (
            format!("10.77.0.{other}"),
            format!("02:54:4e:00:00:0{other}"),
        );
        let permanent = ["lladdr", &card, "dev", "eth0", "nud", "permanent"];
        let replace = [&["ip", "neighbour", "replace", &address], &permanent[..]].concat();
        cluster.exec(node, &replace).unwrap();
    }
    lose(&cluster, "node2", "eth0", 100);
    let started = Instant::now();
    while network(&cluster, "node1", 2)["current"] == false {
        assert!(started.elapsed() < MOVED, "node1 goes on sending there");
    }
    load.goes_on(200).unwrap();
    let back = network(&cluster, "node2", 1);
    assert_eq!(
        (&back["alive"], &back["current"]),
        (&true.into(), &true.into())
    );
    assert_eq!(network(&cluster, "node1", 1)["alive"], false);
    nothing_happened(&cluster, &mut load, MOVED, &before);
}

/// Writes a file of 64 MiB and tells what it holds.
fn write_much(cluster: &Cluster, name: &str) -> std::thread::JoinHandle<String> {
    let mount = cluster.node("node1").unwrap().mount;
    let text = format!(
        "cd {mount}; for n in 1 2 3 4; do dd if=/dev/urandom of={name}.$n bs=1M count=16 \
         conv=fsync 2>/dev/null; done; cat {name}.? | sha256sum"
    );
    let mut command = cluster.exec_command("node1", &[], &["sh", "-ec", &text]);
    std::thread::spawn(move || {
        let output = command.output().unwrap();
        assert!(output.status.success(), "{output:?}");
        String::from_utf8(output.stdout).unwrap()
    })
}

fn same_on_node2(cluster: &Cluster, name: &str, sum: &str) {
    let there = script(cluster, "node2", &format!("cat {name}.? | sha256sum")).unwrap();
    assert_eq!(there, sum, "{name}");
}

#[test]
fn m14_the_second_network_carries_smaller_packets() {
    let mtu = ["--mtu", "9000,1500"];
    let Some(cluster) = cluster("M14, networks of different packet sizes", &mtu) else {
        return;
    };
    uses(&cluster, 1, SOON);
    let before = epoch(&cluster);
    let mut load = Load::start(&cluster, "node1").unwrap();
    let much = write_much(&cluster, "much");
    std::thread::sleep(Duration::from_millis(200));
    cluster.lab("cut", &["node1", "--network", "1"]).unwrap();
    uses(&cluster, 2, MOVED);
    let sum = much.join().unwrap();
    let sum_after = write_much(&cluster, "more").join().unwrap();
    nothing_happened(&cluster, &mut load, STALL_LIMIT, &before);
    same_on_node2(&cluster, "much", &sum);
    same_on_node2(&cluster, "more", &sum_after);
}

/// The cards say 9000, but on the way, and later at node2's card itself, there is less.
#[test]
fn m14_the_second_network_carries_less_than_its_cards_say() {
    let Some(cluster) = cluster("M14, a network that swallows large packets", &[]) else {
        return;
    };
    uses(&cluster, 1, SOON);
    let before = epoch(&cluster);
    cluster
        .exec("node2", &["ip", "link", "set", "eth1", "mtu", "1500"])
        .unwrap();
    let mut load = Load::start(&cluster, "node1").unwrap();
    let much = write_much(&cluster, "much");
    std::thread::sleep(Duration::from_millis(200));
    cluster.lab("cut", &["node1", "--network", "1"]).unwrap();
    uses(&cluster, 2, MOVED);
    let sum = much.join().unwrap();
    load.goes_on(200).unwrap();
    nothing_happened(&cluster, &mut load, STALL_LIMIT, &before);
    same_on_node2(&cluster, "much", &sum);
}

#[test]
fn m14_a_node_that_returns_while_the_first_network_is_dead_comes_by_the_second() {
    let Some(cluster) = cluster("M14, a return by the second network", &[]) else {
        return;
    };
    cluster.lab("kill", &["node2"]).unwrap();
    becomes(&cluster, "node1", "ALONE");
    cluster.lab("cut", &["node1", "--network", "1"]).unwrap();
    cluster.lab("start", &["node2"]).unwrap();
    cluster.tandem("node2", &["second"]).unwrap();
    in_sync(&cluster, SOON);
    uses(&cluster, 2, SOON);
    script(&cluster, "node1", "echo on >on; sync").unwrap();
    cluster.lab("heal", &[]).unwrap();
    uses(&cluster, 1, SOON);
    cluster.replicas_are_equal("node1").unwrap();
}
