//! What nodes do that are cut off, without a witness: the policies `wait`, `ping` and `alone`
//! (M13, M15, M16), a fence's result, and hearing of it all without asking again and again.

#![allow(
    clippy::unwrap_used,
    reason = "a failed set-up ends the test, with its line"
)]

use std::io::{BufRead, BufReader, Write};
use std::os::unix::net::UnixStream;
use std::time::{Duration, Instant};
use tandem_repl::control::{Answer, CONTROL_VERSION, Envelope, Request, State, Status};
use tandem_tests::cluster::{Cluster, Node, binary};

const STALL_LIMIT: Duration = Duration::from_secs(3);
const NOTICE: Duration = Duration::from_secs(2);
const DECIDE: Duration = Duration::from_secs(5);
const REJOIN: Duration = Duration::from_secs(30);

fn cluster(test: &str, more: &[&str]) -> Option<Cluster> {
    let binary = binary(test)?;
    let more = [&["--managed"], more].concat();
    Some(Cluster::make(binary, env!("CARGO_BIN_EXE_inside"), &more).unwrap())
}

/// The third node is what is pinged.
const PING: [&str; 6] = ["--nodes", "3", "--isolation", "ping", "--ping", "10.77.0.3"];

fn states(cluster: &Cluster, states: [&str; 2], limit: Duration) {
    let what = format!("node1 is {}, node2 is {}", states[0], states[1]);
    let hold = |nodes: &[Node]| nodes.iter().zip(states).all(|(n, s)| n.state == s);
    cluster.wait_until(&what, limit, hold).unwrap();
}

fn writes(cluster: &Cluster, node: &str) -> bool {
    let mount = cluster.node(node).unwrap().mount;
    let write = format!("echo {node} >{mount}/written");
    cluster.exec(node, &["sh", "-c", &write]).is_ok()
}

fn refusal(cluster: &Cluster, node: &str, command: &[&str]) -> String {
    let done = cluster.tandem(node, command);
    format!("{:#}", done.expect_err("it must be refused"))
}

fn ask(cluster: &Cluster, node: &str, request: &Request) -> Answer {
    let socket = cluster.node_dir(node).join("run").join("data.sock");
    let mut stream = UnixStream::connect(socket).unwrap();
    let envelope = Envelope {
        version: CONTROL_VERSION,
        request: request.clone(),
    };
    let line = serde_json::to_string(&envelope).unwrap() + "\n";
    stream.write_all(line.as_bytes()).unwrap();
    let mut answer = String::new();
    BufReader::new(stream).read_line(&mut answer).unwrap();
    serde_json::from_str(&answer).unwrap()
}

fn watch(cluster: &Cluster, node: &str, after: u64, limit: Duration) -> Status {
    let limit_ms = limit.as_millis() as u64;
    match ask(cluster, node, &Request::Watch { after, limit_ms }) {
        Answer::Status(status) => *status,
        other => panic!("{other:?}"),
    }
}

#[test]
fn who_reaches_the_pinged_address_takes_over() {
    let Some(cluster) = cluster("ping, the serving node is cut off", &PING) else {
        return;
    };
    cluster.lab("cut", &["node1"]).unwrap();
    states(&cluster, ["WAIT", "WAIT"], STALL_LIMIT + DECIDE);
    let why = refusal(&cluster, "node1", &["prim"]);
    assert!(why.contains("cut-off"), "{why}");
    cluster.tandem("node2", &["prim"]).unwrap();
    states(&cluster, ["WAIT", "ALONE"], NOTICE);
    assert!(writes(&cluster, "node2") && !writes(&cluster, "node1"));
    cluster.lab("heal", &[]).unwrap();
    cluster.tandem("node1", &["second"]).unwrap();
    states(&cluster, ["SECOND", "PRIM"], REJOIN);
    cluster.replicas_are_equal("node2").unwrap();
}

#[test]
fn who_reaches_the_pinged_address_goes_on() {
    let Some(cluster) = cluster("ping, the follower is cut off", &PING) else {
        return;
    };
    cluster.lab("cut", &["node2"]).unwrap();
    states(&cluster, ["ALONE", "WAIT"], STALL_LIMIT + DECIDE);
    let why = refusal(&cluster, "node2", &["prim"]);
    assert!(why.contains("cut-off"), "{why}");
    assert!(writes(&cluster, "node1") && !writes(&cluster, "node2"));
    cluster.lab("heal", &[]).unwrap();
    cluster.tandem("node2", &["second"]).unwrap();
    states(&cluster, ["PRIM", "SECOND"], REJOIN);
    cluster.replicas_are_equal("node1").unwrap();
}

#[test]
fn nobody_serves_who_reaches_nobody() {
    let Some(cluster) = cluster("ping, both are cut off", &PING) else {
        return;
    };
    cluster.lab("cut", &["node1"]).unwrap();
    cluster.lab("cut", &["node2"]).unwrap();
    states(&cluster, ["WAIT", "WAIT"], STALL_LIMIT + DECIDE);
    for node in ["node1", "node2"] {
        let why = refusal(&cluster, node, &["prim"]);
        assert!(why.contains("cut-off"), "{node}: {why}");
        assert!(!writes(&cluster, node), "{node} acknowledged");
    }
    cluster.lab("heal", &[]).unwrap();
    cluster
        .wait_until("the nodes meet again", REJOIN, |_| {
            cluster.tandem("node1", &["prim"]).is_ok()
        })
        .unwrap();
    cluster.tandem("node2", &["second"]).unwrap();
    states(&cluster, ["PRIM", "SECOND"], REJOIN);
    assert!(writes(&cluster, "node1"));
    cluster.replicas_are_equal("node1").unwrap();
}

#[test]
fn with_policy_alone_both_go_on_and_what_the_loser_wrote_is_kept() {
    let Some(cluster) = cluster("policy alone", &["--isolation", "alone"]) else {
        return;
    };
    cluster.lab("cut", &["node1", "node2"]).unwrap();
    states(&cluster, ["ALONE", "WAIT"], STALL_LIMIT + DECIDE);
    cluster.tandem("node2", &["prim"]).unwrap();
    states(&cluster, ["ALONE", "ALONE"], NOTICE);
    assert!(writes(&cluster, "node1") && writes(&cluster, "node2"));
    cluster.lab("heal", &[]).unwrap();
    let diverged = |nodes: &[Node]| {
        let says = |n: &Node| n.reason.as_ref().is_some_and(|r| r.contains("diverged"));
        nodes.iter().any(says)
    };
    cluster
        .wait_until("the nodes see that they diverged", REJOIN, diverged)
        .unwrap();
    // An operator says whose changes are set aside.
    cluster.tandem("node2", &["resync"]).unwrap();
    states(&cluster, ["PRIM", "SECOND"], REJOIN);
    cluster.replicas_are_equal("node1").unwrap();
    let mount = cluster.node("node1").unwrap().mount;
    let text = cluster.exec("node2", &["cat", &format!("{mount}/written")]);
    assert_eq!(text.unwrap(), "node1\n");
    let kept = cluster.tandem("node2", &["divergence", "list"]).unwrap();
    assert!(kept.contains("written"), "{kept}");
}

#[test]
fn a_fence_proves_the_peer_off_unless_it_answers() {
    let Some(cluster) = cluster("a fence", &[]) else {
        return;
    };
    match ask(&cluster, "node2", &Request::Fenced) {
        Answer::Refused(refusal) => assert_eq!(refusal.code, "peer-answers"),
        other => panic!("{other:?}"),
    }
    cluster.lab("kill", &["node1"]).unwrap();
    states(&cluster, ["DOWN", "WAIT"], STALL_LIMIT + DECIDE);
    let why = refusal(&cluster, "node2", &["prim"]);
    assert!(why.contains("isolated"), "{why}");
    let answer = ask(&cluster, "node2", &Request::Fenced);
    assert!(matches!(answer, Answer::Done(_)), "{answer:?}");
    cluster.tandem("node2", &["prim"]).unwrap();
    states(&cluster, ["DOWN", "ALONE"], NOTICE);
    assert!(writes(&cluster, "node2"));
}

#[test]
fn who_watches_hears_of_changes_when_they_happen() {
    let Some(cluster) = cluster("watching", &[]) else {
        return;
    };
    let before = watch(&cluster, "node1", 0, Duration::from_secs(5));
    assert!(before.version > 0 && before.served, "{before:?}");
    assert_eq!((before.state, before.held_ms), (State::Prim, None));
    let began = Instant::now();
    let limit = Duration::from_millis(700);
    let same = watch(&cluster, "node1", before.version, limit);
    assert_eq!(same.version, before.version, "{same:?}\n{before:?}");
    assert!(began.elapsed() >= limit, "nothing happened");
    cluster.lab("cut", &["node1", "node2"]).unwrap();
    let (began, mut version, mut held) = (Instant::now(), before.version, None);
    let alone = loop {
        let next = watch(&cluster, "node1", version, Duration::from_secs(10));
        assert_ne!(next.version, version, "it waited out: {next:?}");
        version = next.version;
        held = held.or(next.held_ms);
        if next.state == State::Alone && next.held_ms.is_none() {
            break next;
        }
        assert!(began.elapsed() < STALL_LIMIT + DECIDE, "{next:?}");
    };
    assert!(held.is_some(), "it was told that changes are held");
    assert_eq!(alone.in_sync, ["node1"]);
    assert!(!alone.peer.connected && alone.served && !alone.stale);
    assert_eq!(alone.witness, None);
}
