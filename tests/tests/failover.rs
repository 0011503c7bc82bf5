//! What happens to an application and its data when a node, the link, a daemon or a disk fails, or
//! the operator stops a node, all of it while the application writes.

#![allow(
    clippy::unwrap_used,
    reason = "a failed set-up ends the test, with its line"
)]

use std::path::Path;
use std::time::{Duration, Instant};
use tandem_tests::cluster::{Cluster, Node, binary};
use tandem_tests::load::WRITERS;
use tandem_tests::running::Load;
use tandem_tests::scratch::inside;
use tandem_tests::sys::{self, Errno, Sys};

/// The default, which the labs here have.
const STALL_LIMIT: Duration = Duration::from_secs(3);
/// How long the nodes may take to notice what needs no waiting.
const NOTICE: Duration = Duration::from_secs(2);

fn cluster(test: &str, more: &[&str]) -> Option<Cluster> {
    let binary = binary(test)?;
    Some(Cluster::up(binary, env!("CARGO_BIN_EXE_inside"), more).unwrap())
}

fn is(nodes: &[Node], name: &str, state: &str) -> bool {
    nodes.iter().any(|n| n.name == name && n.state == state)
}

fn becomes(cluster: &Cluster, name: &str, state: &str, limit: Duration) {
    let what = format!("{name} is {state}");
    cluster
        .wait_until(&what, limit, |nodes| is(nodes, name, state))
        .unwrap();
}

fn reason(cluster: &Cluster, name: &str) -> String {
    cluster.node(name).unwrap().reason.unwrap_or_default()
}

#[test]
fn after_the_loss_of_a_node_everything_acknowledged_is_on_the_other() {
    let Some(cluster) = cluster("the loss of a node", &[]) else {
        return;
    };
    let mut load = Load::start(&cluster, "node1").unwrap();
    load.goes_on(300).unwrap();
    cluster.lab("kill", &["node1"]).unwrap();
    load.wait().unwrap();
    becomes(&cluster, "node2", "WAIT", STALL_LIMIT + NOTICE);
    cluster.tandem("node2", &["prim"]).unwrap();
    becomes(&cluster, "node2", "ALONE", NOTICE);
    load.is_found(&cluster.mount_path("node2").unwrap())
        .unwrap();
    load.is_found(&cluster.node("node2").unwrap().replica)
        .unwrap();
    let mut next = Load::start(&cluster, "node2").unwrap();
    next.end().unwrap();
}

#[test]
fn a_cut_link_stalls_the_application_no_longer_than_promised() {
    let Some(cluster) = cluster("a cut link", &[]) else {
        return;
    };
    let mut load = Load::start(&cluster, "node1").unwrap();
    cluster.lab("cut", &["node1", "node2"]).unwrap();
    let limit = STALL_LIMIT + Duration::from_secs(1);
    becomes(&cluster, "node1", "ALONE", limit);
    load.goes_on(200).unwrap();
    becomes(&cluster, "node2", "WAIT", limit);
    assert!(reason(&cluster, "node1").contains("node2"));
    assert!(reason(&cluster, "node2").contains("node1"));
    load.end().unwrap();
    let longest = load.longest().unwrap();
    println!("longest stall {longest:?}");
    assert!(
        longest < STALL_LIMIT + Duration::from_secs(2),
        "{longest:?}"
    );
    load.is_found(&cluster.node("node1").unwrap().replica)
        .unwrap();
}

#[test]
fn a_short_stall_limit_is_kept_too() {
    let Some(cluster) = cluster("a short stall limit", &["--stall-limit", "1s"]) else {
        return;
    };
    let mut load = Load::start(&cluster, "node1").unwrap();
    cluster.lab("cut", &["node1", "node2"]).unwrap();
    becomes(&cluster, "node1", "ALONE", Duration::from_secs(2));
    load.goes_on(200).unwrap();
    load.end().unwrap();
    let longest = load.longest().unwrap();
    assert!(longest < Duration::from_secs(3), "{longest:?}");
}

#[test]
fn the_serving_node_stops_under_load_and_the_other_has_everything() {
    let Some(cluster) = cluster("a stop of the serving node", &[]) else {
        return;
    };
    let mut load = Load::start(&cluster, "node1").unwrap();
    let started = Instant::now();
    cluster.tandem("node1", &["stop"]).unwrap();
    becomes(&cluster, "node1", "STOP", Duration::from_secs(15));
    let took = started.elapsed();
    assert!(took < Duration::from_secs(15), "{took:?}");
    load.wait().unwrap();
    cluster.tandem("node2", &["prim"]).unwrap();
    load.is_found(&cluster.mount_path("node2").unwrap())
        .unwrap();
    cluster.replicas_are_equal("node2").unwrap();
}

#[test]
fn the_following_node_stops_under_load_and_nobody_notices() {
    let Some(cluster) = cluster("a stop of the following node", &[]) else {
        return;
    };
    let mut load = Load::start(&cluster, "node1").unwrap();
    cluster.tandem("node2", &["stop"]).unwrap();
    becomes(&cluster, "node1", "ALONE", NOTICE);
    becomes(&cluster, "node2", "STOP", Duration::from_secs(15));
    load.goes_on(200).unwrap();
    load.end().unwrap();
    let longest = load.longest().unwrap();
    println!("longest stall {longest:?}");
    assert!(longest < Duration::from_secs(2), "not at once: {longest:?}");
    let why = reason(&cluster, "node1");
    assert!(why.contains("peer-left"), "{why}");
}

#[test]
fn the_following_daemon_dies_and_the_application_goes_on() {
    let Some(cluster) = cluster("the death of the following daemon", &[]) else {
        return;
    };
    let mut load = Load::start(&cluster, "node1").unwrap();
    kill_daemon(&cluster, "node2");
    becomes(
        &cluster,
        "node1",
        "ALONE",
        STALL_LIMIT + Duration::from_secs(1),
    );
    load.goes_on(200).unwrap();
    load.end().unwrap();
    load.is_found(&cluster.node("node1").unwrap().replica)
        .unwrap();
    let longest = load.longest().unwrap();
    assert!(
        longest < STALL_LIMIT + Duration::from_secs(2),
        "{longest:?}"
    );
}

#[test]
fn the_serving_daemon_dies_and_everything_acknowledged_is_on_the_other() {
    let Some(cluster) = cluster("the death of the serving daemon", &[]) else {
        return;
    };
    let mut load = Load::start(&cluster, "node1").unwrap();
    kill_daemon(&cluster, "node1");
    load.wait().unwrap();
    becomes(&cluster, "node2", "WAIT", STALL_LIMIT + NOTICE);
    cluster.tandem("node2", &["prim"]).unwrap();
    load.is_found(&cluster.mount_path("node2").unwrap())
        .unwrap();
}

/// Kills the daemon of a node and nothing else.
fn kill_daemon(cluster: &Cluster, node: &str) {
    let text = cluster.tandem(node, &["status", "--json"]).unwrap();
    let status: serde_json::Value = serde_json::from_str(&text).unwrap();
    let pid = status["status"]["pid"].as_u64().unwrap().to_string();
    cluster.exec(node, &["kill", "-KILL", &pid]).unwrap();
    becomes(cluster, node, "STOP", NOTICE);
}

#[test]
fn the_following_node_reads_what_the_serving_one_writes_and_changes_nothing() {
    let Some(cluster) = cluster("reading while the peer writes", &[]) else {
        return;
    };
    let mut load = Load::start(&cluster, "node1").unwrap();
    let mount = cluster.node("node1").unwrap().mount;
    let plant = format!("echo planted >{mount}/file && mkdir {mount}/dir");
    cluster.exec("node1", &["sh", "-c", &plant]).unwrap();
    let seen = cluster.mount_dir("node2").unwrap();
    for _ in 0..50 {
        for (change, result) in inside(&seen, changes) {
            assert_eq!(result, Err(Errno(libc::EROFS)), "{change}");
        }
        let content = inside(&seen, || {
            let file = sys::open("file", libc::O_RDONLY, 0)?;
            sys::read_all(&file, 0, 100)
        });
        assert_eq!(content, Ok(b"planted\n".to_vec()));
    }
    load.goes_on(50).unwrap();
    load.end().unwrap();
    load.is_found(&cluster.mount_path("node2").unwrap())
        .unwrap();
    cluster.replicas_are_equal("node1").unwrap();
    // As the applications of the following node see it, not only below.
    let list = format!("cd {mount} && find . -type f -exec md5sum {{}} + | sort");
    let read = |node| cluster.exec(node, &["sh", "-c", &list]).unwrap();
    assert_eq!(read("node1"), read("node2"));
}

/// One of every kind of change.
fn changes() -> Vec<(&'static str, Sys<()>)> {
    let open = |flags| sys::open("file", flags, 0).map(drop);
    vec![
        (
            "create",
            sys::open("new", libc::O_CREAT | libc::O_WRONLY, 0o600).map(drop),
        ),
        ("write", open(libc::O_WRONLY)),
        ("truncate", sys::truncate("file", 0)),
        ("chmod", sys::chmod("file", 0o600)),
        ("chown", sys::chown("file", 1, 1)),
        ("unlink", sys::unlink("file")),
        ("rename", sys::rename("file", "other")),
        ("link", sys::link("file", "other")),
        ("symlink", sys::symlink("file", "other")),
        ("mkdir", sys::mkdir("other", 0o700)),
        ("rmdir", sys::rmdir("dir")),
        ("mkfifo", sys::mkfifo("other", 0o600)),
        ("setxattr", sys::setxattr("file", "user.a", b"b", 0)),
        (
            "utimens",
            sys::utimens("file", [sys::time(1, 0), sys::time(1, 0)]),
        ),
    ]
}

#[test]
fn with_durable_acknowledgements_the_application_works_and_fails_over() {
    let durable = ["--ack", "durable"];
    let Some(cluster) = cluster("durable acknowledgements", &durable) else {
        return;
    };
    let mut load = Load::start(&cluster, "node1").unwrap();
    load.end().unwrap();
    cluster.replicas_are_equal("node1").unwrap();
    load.is_found(&cluster.mount_path("node2").unwrap())
        .unwrap();
    assert_eq!(load.told().unwrap().len(), WRITERS);
}

#[test]
fn a_stop_gives_the_plain_directory_back_as_it_was() {
    let Some(cluster) = cluster("the directory after a stop", &[]) else {
        return;
    };
    let mut load = Load::start(&cluster, "node1").unwrap();
    load.end().unwrap();
    cluster.replicas_are_equal("node1").unwrap();
    let mount = cluster.node("node1").unwrap().mount;
    // What a resync keeps for itself is not seen through the mount.
    let find = "find . -path ./.tandem -prune -o";
    let list =
        format!("cd {mount} && {find} -type f -exec md5sum {{}} + | sort && {find} -print | sort");
    for node in ["node2", "node1"] {
        let kind = || {
            cluster
                .exec(node, &["stat", "-f", "-c", "%T", &mount])
                .unwrap()
        };
        let before = cluster.exec(node, &["sh", "-c", &list]).unwrap();
        assert!(kind().contains("fuse"), "{}", kind());
        cluster.tandem(node, &["stop"]).unwrap();
        becomes(&cluster, node, "STOP", Duration::from_secs(15));
        let table = cluster
            .exec(node, &["cat", "/proc/self/mountinfo"])
            .unwrap();
        assert!(!table.contains("fuse.tandem"), "{table}");
        assert!(kind().contains("ext"), "{}", kind());
        assert_eq!(cluster.exec(node, &["sh", "-c", &list]).unwrap(), before);
        load.is_found(Path::new(&cluster.mount_path(node).unwrap()))
            .unwrap();
        let write = format!("echo plain >{mount}/plain && rm {mount}/plain");
        cluster.exec(node, &["sh", "-c", &write]).unwrap();
    }
}
