//! What is done when disks and nodes fail in ways that are not an end: a sync that fails, a block
//! that cannot be read, a disk that hangs, a daemon that stands still, a damaged record or journal.

#![allow(
    clippy::unwrap_used,
    reason = "a failed set-up ends the test, with its line"
)]

use std::fs;
use std::os::unix::fs::FileExt;
use std::path::PathBuf;
use std::time::{Duration, Instant};
use tandem_tests::broken_disk::{self, Small};
use tandem_tests::cluster::{Cluster, Node, binary};
use tandem_tests::mirror::{SOON, becomes, image, in_sync, is, reason, script, status};
use tandem_tests::running::Load;

/// The default, which the labs here have.
const STALL_LIMIT: Duration = Duration::from_secs(3);
fn cluster(test: &str, more: &[&str]) -> Option<Cluster> {
    let binary = binary(test)?;
    Some(Cluster::up(binary, env!("CARGO_BIN_EXE_inside"), more).unwrap())
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
    let why = reason(&cluster, "node1").unwrap();
    assert!(why.contains("local-disk"), "{why}");
    // The moment in which one has said that it waits, and not yet that its copy is bad, passes.
    let start = Instant::now();
    while let Err(e) = cluster.tandem("node2", &["prim"]) {
        let why = reason(&cluster, "node2").unwrap_or_default();
        assert!(!why.contains("stale"), "node2's copy is good: {why}");
        assert!(start.elapsed() < SOON, "{e:#}");
    }
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
    let why = reason(&cluster, "node1").unwrap();
    assert!(why.contains("node2"), "{why}");
    load.goes_on(200).unwrap();
    load.end().unwrap();
    assert!(load.longest().unwrap() < STALL_LIMIT, "nobody had to wait");
    let why = reason(&cluster, "node2").unwrap();
    assert!(!why.is_empty(), "it says why it waits");
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
    // A few bytes first: they must not cost the rest of their block.
    let few = "dd if=broken iflag=direct bs=100 count=1 2>/dev/null | wc -c";
    assert_eq!(script(&cluster, "node1", few).unwrap().trim(), "100");
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
        let why = reason(&cluster, "node1").unwrap();
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
    let pid = match status(cluster, node) {
        Ok(status) => {
            let pid = status["pid"].to_string();
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
            let status = status(&cluster, "node1").unwrap();
            most = most.max(status["marks"]["hot_bytes"].as_u64().unwrap());
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
