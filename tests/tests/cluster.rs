//! The harness for two nodes is itself tested: it sees replicas that differ and programs that fail.

#![allow(
    clippy::unwrap_used,
    reason = "a failed set-up ends the test, with its line"
)]

use std::os::unix::fs::FileExt;
use std::time::Duration;
use tandem_tests::cluster::{Cluster, binary};

#[test]
fn a_byte_that_differs_below_is_found_and_a_failed_program_told() {
    let Some(binary) = binary("the harness for two nodes") else {
        return;
    };
    let cluster = Cluster::up(binary, env!("CARGO_BIN_EXE_inside"), &[]).unwrap();
    let mount = cluster.node("node1").unwrap().mount;
    let file = format!("{mount}/file");
    cluster
        .exec("node1", &["sh", "-c", &format!("echo same >{file}")])
        .unwrap();
    cluster.replicas_are_equal("node1").unwrap();

    let replica = cluster.node("node2").unwrap().replica;
    let below = std::fs::OpenOptions::new()
        .write(true)
        .open(replica.join("file"))
        .unwrap();
    below.write_at(b"S", 0).unwrap();
    let found = cluster.replicas_are_equal_within("node1", Duration::from_millis(300));
    let text = format!("{:#}", found.unwrap_err());
    assert!(
        text.contains("replicas differ") && text.contains("file: data"),
        "{text}"
    );

    let failed = cluster
        .exec("node1", &["sh", "-c", "echo why >&2; exit 3"])
        .unwrap_err();
    let text = format!("{failed:#}");
    assert!(
        text.contains("exit status: 3") && text.contains("why"),
        "{text}"
    );
}

#[test]
fn the_second_node_reads_and_refuses_writes() {
    let Some(binary) = binary("reading on the second node") else {
        return;
    };
    let cluster = Cluster::up(binary, env!("CARGO_BIN_EXE_inside"), &[]).unwrap();
    let mount = cluster.node("node1").unwrap().mount;
    let file = format!("{mount}/file");
    cluster
        .exec("node1", &["sh", "-c", &format!("echo written >{file}")])
        .unwrap();
    assert_eq!(cluster.exec("node2", &["cat", &file]).unwrap(), "written\n");
    for change in [
        format!("echo x >>{file}"),
        format!("rm {file}"),
        format!("mkdir {mount}/dir"),
        format!("chmod 600 {file}"),
        format!("mv {file} {mount}/other"),
        format!("touch {file}"),
    ] {
        let refused = cluster.exec("node2", &["sh", "-c", &change]).unwrap_err();
        assert!(
            format!("{refused:#}").contains("Read-only"),
            "{change}: {refused:#}"
        );
    }
    cluster.replicas_are_equal("node1").unwrap();
}
