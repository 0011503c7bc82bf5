//! What was damaged or changed behind the daemon's back while it did not run: its record, its
//! journal of marks, the directory itself.

#![allow(
    clippy::unwrap_used,
    reason = "a failed set-up ends the test, with its line"
)]

use std::fs::{self, OpenOptions};
use std::os::unix::fs::FileExt;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::time::Duration;
use tandem_tests::cluster::{Cluster, Node, binary};
use tandem_tests::mirror::{SOON, becomes, image, in_sync, script, state_dir, status};

fn cluster(test: &str) -> Option<Cluster> {
    let binary = binary(test)?;
    Some(Cluster::up(binary, env!("CARGO_BIN_EXE_inside"), &[]).unwrap())
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
    let Some(cluster) = cluster("a damaged record") else {
        return;
    };
    script(&cluster, "node1", "echo kept >file; sync").unwrap();
    let state = state_dir(&cluster, "node2").unwrap();
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
    let Some(cluster) = cluster("a damaged journal") else {
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
    let state = state_dir(&cluster, "node1").unwrap();
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
    let status = status(&cluster, "node1").unwrap();
    assert_eq!(status["marks"]["everything"], true, "{status}");
    cluster.lab("start", &["node2"]).unwrap();
    cluster.tandem("node2", &["second"]).unwrap();
    in_sync(&cluster, SOON);
    cluster.replicas_are_equal("node1").unwrap();
}

/// Design 8: noticed. The serving node's version counts; the other's is kept.
#[test]
fn what_was_changed_while_the_module_was_stopped_is_noticed() {
    let Some(cluster) = cluster("changes while stopped") else {
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

fn run(command: &mut Command) {
    assert!(command.status().unwrap().success(), "{command:?}");
}

/// Removed when it is dropped.
struct Backup(PathBuf);

impl Drop for Backup {
    fn drop(&mut self) {
        let _ = fs::remove_file(&self.0);
    }
}

/// A virtual machine that is put back to a snapshot: record, marks and data are all of one moment,
/// and of an earlier one than what both nodes agreed on last.
#[test]
fn a_node_that_is_restored_from_a_backup_is_compared_wholly() {
    let Some(cluster) = cluster("a restored node") else {
        return;
    };
    let plant = |n| format!("mkdir -p d; for n in $(seq 20); do echo {n} $n >d/$n; done; sync");
    script(&cluster, "node1", &plant(1)).unwrap();
    cluster.lab("kill", &["node2"]).unwrap();
    becomes(&cluster, "node1", "ALONE");
    let image = image(&cluster, "node2");
    let name = format!("tandem-backup-{}.img", std::process::id());
    let backup = Backup(std::env::temp_dir().join(name));
    let disk = cluster.node_dir("node2").join("disk");
    let copy = |from: &Path, to: &Path| {
        // A killed node's disk stays mounted, and what is mounted is not to be copied.
        run(Command::new("umount").arg(&disk));
        run(Command::new("cp").arg("--sparse=always").args([from, to]));
        run(Command::new("mount")
            .args(["-o", "loop,noatime"])
            .args([&image, &disk]));
    };
    copy(&image, &backup.0);
    cluster.lab("start", &["node2"]).unwrap();
    cluster.tandem("node2", &["second"]).unwrap();
    in_sync(&cluster, SOON);
    // Some checkpoints: what was written is marked no more.
    for n in 2..5 {
        script(&cluster, "node1", &plant(n)).unwrap();
        let idle = |_: &[Node]| status(&cluster, "node1").unwrap()["marks"]["hot_bytes"] == 0;
        cluster.wait_until("nothing is marked", SOON, idle).unwrap();
    }
    cluster.lab("kill", &["node2"]).unwrap();
    becomes(&cluster, "node1", "ALONE");
    copy(&backup.0, &image);
    cluster.lab("start", &["node2"]).unwrap();
    cluster.tandem("node2", &["second"]).unwrap();
    in_sync(&cluster, SOON);
    cluster.replicas_are_equal("node1").unwrap();
    let log = fs::read_to_string(cluster.node_dir("node1").join("log")).unwrap();
    assert!(
        log.contains("node2 was put back to an earlier state"),
        "{log}"
    );
}
