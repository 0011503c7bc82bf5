//! What is done when disks and nodes fail in ways that are not an end: a sync that fails, a block
//! that cannot be read, a disk that hangs, a daemon that stands still, a damaged record or journal.

#![allow(
    clippy::unwrap_used,
    reason = "a failed set-up ends the test, with its line"
)]

use std::fs::{self, OpenOptions};
use std::os::unix::fs::FileExt;
use std::path::PathBuf;
use std::time::{Duration, Instant};
use tandem_tests::broken_disk::{self, Small};
use tandem_tests::cluster::{Cluster, Node, binary};
use tandem_tests::running::Load;

/// The default, which the labs here have.
const STALL_LIMIT: Duration = Duration::from_secs(3);
const SOON: Duration = Duration::from_secs(30);

fn cluster(test: &str, more: &[&str]) -> Option<Cluster> {
    let binary = binary(test)?;
    Some(Cluster::up(binary, env!("CARGO_BIN_EXE_inside"), more).unwrap())
}

fn is(nodes: &[Node], name: &str, state: &str) -> bool {
    nodes.iter().any(|n| n.name == name && n.state == state)
}

fn becomes(cluster: &Cluster, name: &str, state: &str) {
    let what = format!("{name} is {state}");
    cluster
        .wait_until(&what, SOON, |nodes| is(nodes, name, state))
        .unwrap();
}

fn in_sync(cluster: &Cluster, limit: Duration) {
    let ready = |nodes: &[Node]| {
        let ready = nodes.iter().take(2).all(|n| n.readiness == "Ready");
        ready && is(nodes, "node1", "PRIM") && is(nodes, "node2", "SECOND")
    };
    cluster
        .wait_until("both are in sync", limit, ready)
        .unwrap();
}

fn script(cluster: &Cluster, node: &str, text: &str) -> anyhow::Result<String> {
    let mount = cluster.node(node).unwrap().mount;
    let text = format!("set -e; cd {mount}; {text}");
    cluster.exec(node, &["sh", "-c", &text])
}

fn reason(cluster: &Cluster, name: &str) -> String {
    cluster.node(name).unwrap().reason.unwrap_or_default()
}

fn image(cluster: &Cluster, node: &str) -> PathBuf {
    cluster.node_dir(node).join("disk.img")
}

/// A cluster on a file system that gets full when told to, with a file of a megabyte whose room on
/// one node is gone then.
fn with_a_broken_place(test: &str, node: &str) -> Option<(Small, Cluster)> {
    let binary = binary(test)?;
    let small = Small::new(node, 400).unwrap();
    let size = ["--disk-size", "128MiB"];
    let helper = env!("CARGO_BIN_EXE_inside");
    let cluster = Cluster::make_in(small.path(), binary, helper, &size).unwrap();
    in_sync(&cluster, SOON);
    let plant = "head -c 1048576 /dev/urandom >broken; mkdir other; sync; sleep 1; sync";
    script(&cluster, "node1", plant).unwrap();
    // All that the nodes write from now on has its room, but for one place.
    for name in ["node1", "node2"] {
        broken_disk::take_room(&image(&cluster, name)).unwrap();
    }
    let file = cluster.node(node).unwrap().replica.join("broken");
    broken_disk::punch(&image(&cluster, node), &file).unwrap();
    small.fill().unwrap();
    Some((small, cluster))
}

const OVERWRITE: &str = "dd if=/dev/urandom of=broken bs=64k count=16 conv=notrunc,fsync 2>&1";

/// Design 8: this replica is no longer trusted. The application hears of it, and the other node
/// can serve: it holds what was written.
#[test]
fn a_sync_that_fails_on_the_serving_node_ends_its_service() {
    let Some((_small, cluster)) = with_a_broken_place("a failed sync here", "node1") else {
        return;
    };
    let said = script(&cluster, "node1", OVERWRITE);
    let said = format!("{:#}", said.expect_err("the disk did not take it"));
    assert!(said.contains("fsync failed"), "{said}");
    becomes(&cluster, "node1", "WAIT");
    let why = reason(&cluster, "node1");
    assert!(why.contains("local-disk"), "{why}");
    cluster.tandem("node2", &["prim"]).unwrap();
    becomes(&cluster, "node2", "ALONE");
    script(&cluster, "node2", "sync broken; echo on >other/on; sync").unwrap();
}

#[test]
fn a_sync_that_fails_on_the_peer_is_the_peers_trouble() {
    let Some((small, cluster)) = with_a_broken_place("a failed sync on the peer", "node2") else {
        return;
    };
    let mut load = Load::start(&cluster, "node1").unwrap();
    load.goes_on(50).unwrap();
    script(&cluster, "node1", OVERWRITE).unwrap();
    becomes(&cluster, "node1", "ALONE");
    let why = reason(&cluster, "node1");
    assert!(why.contains("node2"), "{why}");
    load.goes_on(200).unwrap();
    load.end().unwrap();
    assert!(load.longest().unwrap() < STALL_LIMIT, "nobody had to wait");
    let why = reason(&cluster, "node2");
    assert!(
        why.contains("No space left") || why.contains("stale"),
        "{why}"
    );
    // Room again: it is taken back, and what its disk did not take is written once more. In its
    // memory it had it all the time.
    small.empty().unwrap();
    in_sync(&cluster, SOON * 2);
    cluster.replicas_are_equal("node1").unwrap();
    let file = cluster.node("node2").unwrap().replica.join("broken");
    let good = fs::read(cluster.node("node1").unwrap().replica.join("broken")).unwrap();
    broken_disk::forget(&file).unwrap();
    assert!(fs::read(&file).unwrap() == good, "not on the peer's disk");
}

/// Design 8: read from the peer, repaired, alarm.
#[test]
fn what_cannot_be_read_here_is_read_from_the_peer_and_repaired() {
    let Some(cluster) = cluster("an unreadable block", &["--disk-size", "256MiB"]) else {
        return;
    };
    // Small enough for one request: the image grows with what is repaired, so what lies before a
    // repaired place could be read again, as zeros.
    let plant = "head -c 60000 /dev/urandom >broken; sync; sleep 0.5; sync";
    script(&cluster, "node1", plant).unwrap();
    // The application's copy in memory goes with the mount's.
    let file = cluster.node("node1").unwrap().replica.join("broken");
    let good = fs::read(cluster.node("node2").unwrap().replica.join("broken")).unwrap();
    let image = image(&cluster, "node1");
    let length = broken_disk::unreadable_from(&image, &file).unwrap();
    let mount = cluster.mount_path("node1").unwrap();
    script(&cluster, "node1", "dd if=broken iflag=nocache count=0 2>&1").unwrap();
    let read = fs::read(mount.join("broken"));
    let differs = read
        .as_ref()
        .map(|bytes| bytes.iter().zip(&good).position(|(a, b)| a != b));
    println!(
        "read {:?}, of {}; differs at {differs:?}",
        read.as_ref().map(Vec::len),
        good.len()
    );
    assert!(read.is_ok_and(|bytes| bytes == good), "the peer has it");
    let again = fs::File::open(&file).unwrap();
    let mut bytes = vec![0; good.len()];
    again.read_exact_at(&mut bytes, 0).unwrap();
    assert!(bytes == good, "it is repaired here");
    broken_disk::lengthen(&image, length).unwrap();
    let nodes = cluster.status().unwrap();
    assert!(is(&nodes, "node1", "PRIM") && is(&nodes, "node2", "SECOND"));
    script(&cluster, "node1", "echo on >on; sync").unwrap();
    cluster.replicas_are_equal("node1").unwrap();
}

/// Freezes a node's file system, as a disk that hangs would.
struct Frozen(PathBuf);

impl Frozen {
    fn new(cluster: &Cluster, node: &str) -> Self {
        let disk = cluster.node_dir(node).join("disk");
        let frozen = std::process::Command::new("fsfreeze")
            .arg("-f")
            .arg(&disk)
            .status();
        assert!(frozen.unwrap().success(), "fsfreeze");
        Self(disk)
    }
}

impl Drop for Frozen {
    fn drop(&mut self) {
        let _ = std::process::Command::new("fsfreeze")
            .arg("-u")
            .arg(&self.0)
            .status();
    }
}

/// Design 8: a slow peer is left behind at the deadline, and taken back, later each time.
#[test]
fn a_peer_whose_disk_hangs_is_left_behind_and_comes_back() {
    let Some(cluster) = cluster("a disk that hangs", &[]) else {
        return;
    };
    let mut load = Load::start(&cluster, "node1").unwrap();
    let mut back = Vec::new();
    for _ in 0..2 {
        load.goes_on(100).unwrap();
        let frozen = Frozen::new(&cluster, "node2");
        becomes(&cluster, "node1", "ALONE");
        let why = reason(&cluster, "node1");
        assert!(why.contains("node2"), "{why}");
        load.goes_on(100).unwrap();
        drop(frozen);
        let thawed = Instant::now();
        in_sync(&cluster, SOON * 2);
        back.push(thawed.elapsed());
    }
    load.end().unwrap();
    let longest = load.longest().unwrap();
    println!("longest stall {longest:?}, back after {back:?}");
    assert!(
        longest < STALL_LIMIT + Duration::from_secs(1),
        "{longest:?}"
    );
    load.is_found(&cluster.node("node2").unwrap().replica)
        .unwrap();
    cluster.replicas_are_equal("node1").unwrap();
}

/// A signal to a node's daemon.
fn signal(cluster: &Cluster, node: &str, name: &str) {
    let status = cluster.tandem(node, &["status", "--json"]);
    let pid = match status {
        Ok(text) => {
            let answer: serde_json::Value = serde_json::from_str(&text).unwrap();
            let pid = answer["status"]["pid"].to_string();
            fs::write(cluster.node_dir(node).join("daemon.pid"), &pid).unwrap();
            pid
        }
        // It stands still.
        Err(_) => fs::read_to_string(cluster.node_dir(node).join("daemon.pid")).unwrap(),
    };
    cluster.exec(node, &["kill", name, &pid]).unwrap();
}

#[test]
fn a_following_daemon_that_stands_still_is_left_behind_and_comes_back() {
    let Some(cluster) = cluster("a daemon that stands still", &[]) else {
        return;
    };
    let mut load = Load::start(&cluster, "node1").unwrap();
    load.goes_on(100).unwrap();
    signal(&cluster, "node2", "-STOP");
    let alone = |nodes: &[Node]| is(nodes, "node1", "ALONE");
    cluster.wait_until("node1 is alone", SOON, alone).unwrap();
    load.goes_on(100).unwrap();
    signal(&cluster, "node2", "-CONT");
    in_sync(&cluster, SOON * 2);
    load.end().unwrap();
    let longest = load.longest().unwrap();
    assert!(
        longest < STALL_LIMIT + Duration::from_secs(1),
        "{longest:?}"
    );
    cluster.replicas_are_equal("node1").unwrap();
}

/// Where the daemon of a node keeps what must survive, for its module.
fn state_dir(cluster: &Cluster, node: &str) -> PathBuf {
    let found = std::process::Command::new("find")
        .arg(cluster.node_dir(node))
        .args(["-name", "record.0"])
        .output()
        .unwrap();
    let path = String::from_utf8(found.stdout).unwrap();
    PathBuf::from(path.lines().next().expect("a record"))
        .parent()
        .unwrap()
        .into()
}

fn damage(path: &std::path::Path) {
    let file = OpenOptions::new().write(true).open(path).unwrap();
    let length = file.metadata().unwrap().len().min(4096);
    let garbage: Vec<u8> = (0..length).map(|n| (n * 37 % 251) as u8).collect();
    file.write_all_at(&garbage, 12).unwrap();
    file.sync_all().unwrap();
}

/// Never guessed, never reset silently (design 8).
#[test]
fn a_damaged_record_is_said_and_not_guessed() {
    let Some(cluster) = cluster("a damaged record", &[]) else {
        return;
    };
    script(&cluster, "node1", "echo kept >file; sync").unwrap();
    let state = state_dir(&cluster, "node2");
    cluster.lab("kill", &["node2"]).unwrap();
    becomes(&cluster, "node1", "ALONE");
    damage(&state.join("record.0"));
    damage(&state.join("record.1"));
    let said = cluster.lab("start", &["node2"]);
    let said = format!("{:#}", said.expect_err("a damaged record starts nothing"));
    assert!(
        said.contains("damaged") && said.contains("record."),
        "{said}"
    );
    assert!(
        said.contains("restore the state directory"),
        "the remedy: {said}"
    );
    script(&cluster, "node1", "echo on >on; sync").unwrap();
    // The remedy that the message names.
    cluster.lab("kill", &["node2"]).unwrap();
    fs::remove_dir_all(&state).unwrap();
    cluster.lab("start", &["node2"]).unwrap();
    cluster.tandem("node2", &["second"]).unwrap();
    in_sync(&cluster, SOON);
    cluster.replicas_are_equal("node1").unwrap();
}

/// Nothing may be taken for equal that is not known to be.
#[test]
fn a_damaged_journal_of_marks_means_that_all_is_compared() {
    let Some(cluster) = cluster("a damaged journal", &[]) else {
        return;
    };
    script(
        &cluster,
        "node1",
        "for n in $(seq 50); do echo $n >$n; done; sync",
    )
    .unwrap();
    cluster.lab("kill", &["node2"]).unwrap();
    becomes(&cluster, "node1", "ALONE");
    script(
        &cluster,
        "node1",
        "for n in $(seq 20); do echo new >$n; done; sync",
    )
    .unwrap();
    let state = state_dir(&cluster, "node1");
    cluster.lab("kill", &["node1"]).unwrap();
    let mut journals = 0;
    for entry in fs::read_dir(&state).unwrap().flatten() {
        if entry.file_name().to_string_lossy().starts_with("marks") {
            damage(&entry.path());
            journals += 1;
        }
    }
    assert!(journals > 0, "no journal in {}", state.display());
    cluster.lab("start", &["node1"]).unwrap();
    cluster.tandem("node1", &["prim"]).unwrap();
    let status = cluster.tandem("node1", &["status", "--json"]).unwrap();
    let status: serde_json::Value = serde_json::from_str(&status).unwrap();
    assert_eq!(status["status"]["marks"]["everything"], true, "{status}");
    cluster.lab("start", &["node2"]).unwrap();
    cluster.tandem("node2", &["second"]).unwrap();
    in_sync(&cluster, SOON);
    cluster.replicas_are_equal("node1").unwrap();
}

/// What travels after a crash is bounded by what may be written before both disks are brought to a
/// common point.
#[test]
fn who_writes_faster_than_the_disks_waits_at_the_hot_limit() {
    let Some(cluster) = cluster("the hot limit", &[]) else {
        return;
    };
    for node in ["node1", "node2"] {
        let module = cluster.node_dir(node).join("etc/modules");
        let file = fs::read_dir(module)
            .unwrap()
            .flatten()
            .next()
            .unwrap()
            .path();
        let text = fs::read_to_string(&file).unwrap();
        let end = text.rfind(')').unwrap();
        let comma = if text[..end].trim_end().ends_with(',') {
            ""
        } else {
            ","
        };
        let text = format!("{}{comma}\n    hot_limit: \"16MiB\",\n)\n", &text[..end]);
        fs::write(&file, text).unwrap();
        cluster.lab("kill", &[node]).unwrap();
    }
    for node in ["node1", "node2"] {
        cluster.lab("start", &[node]).unwrap();
    }
    cluster.tandem("node1", &["prim"]).unwrap();
    cluster.tandem("node2", &["second"]).unwrap();
    in_sync(&cluster, SOON);
    let write = "for n in 1 2 3; do dd if=/dev/zero of=big$n bs=1M count=200 2>&1 & done; wait";
    let writing = std::thread::scope(|scope| {
        let writing = scope.spawn(|| script(&cluster, "node1", write).map(drop));
        let mut most = 0;
        while !writing.is_finished() {
            let status = cluster.tandem("node1", &["status", "--json"]).unwrap();
            let status: serde_json::Value = serde_json::from_str(&status).unwrap();
            most = most.max(status["status"]["marks"]["hot_bytes"].as_u64().unwrap());
        }
        writing.join().unwrap().unwrap();
        most
    });
    println!("at most {writing} bytes since a checkpoint");
    // One write of each thread that serves the kernel may pass at the same moment.
    assert!(writing <= (16 << 20) + 8 * (1 << 20), "{writing} bytes");
    in_sync(&cluster, SOON);
    cluster.replicas_are_equal("node1").unwrap();
}

/// Design 8: noticed. The serving node's version counts; the other's is kept.
#[test]
fn what_was_changed_while_the_module_was_stopped_is_noticed() {
    let Some(cluster) = cluster("changes while stopped", &[]) else {
        return;
    };
    let plant = "mkdir -p a/b; for n in $(seq 30); do echo $n >a/b/$n; done; sync; sleep 0.3; sync";
    script(&cluster, "node1", plant).unwrap();
    cluster.tandem("node2", &["stop"]).unwrap();
    becomes(&cluster, "node1", "ALONE");
    let replica = cluster.node("node1").unwrap().replica;
    let other = cluster
        .node_dir("node2")
        .join("disk")
        .join(replica.file_name().unwrap());
    assert!(other.join("a/b/7").exists(), "{}", other.display());
    // The same size and modification time: only the change time tells.
    let behind = "touch -r a/b/7 t; printf X | dd of=a/b/7 conv=notrunc 2>&1; touch -r t a/b/7; \
                  rm t a/b/8; echo foreign >a/foreign; chmod 600 a/b/9";
    let changed = std::process::Command::new("sh")
        .args(["-c", behind])
        .current_dir(&other)
        .status();
    assert!(changed.unwrap().success());
    // The node itself is up still; only a new one starts a daemon.
    cluster.lab("kill", &["node2"]).unwrap();
    cluster.lab("start", &["node2"]).unwrap();
    cluster.tandem("node2", &["second"]).unwrap();
    in_sync(&cluster, SOON);
    cluster
        .replicas_are_equal_within("node1", Duration::from_secs(10))
        .unwrap();
    let log = fs::read_to_string(cluster.node_dir("node2").join("log")).unwrap();
    assert!(
        log.contains("a/b/7: changed while the module was stopped"),
        "{log}"
    );
    let aside = cluster.tandem("node2", &["divergence", "list"]).unwrap();
    assert!(
        aside.contains("a/b/7") && aside.contains("a/foreign"),
        "{aside}"
    );
}
