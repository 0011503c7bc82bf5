//! Strangers who speak to a running daemon, on its port and on its control socket: the module goes
//! on, and nobody but root is obeyed.

#![allow(
    clippy::unwrap_used,
    reason = "a failed set-up ends the test, with its line"
)]

use std::fs;
use std::io::{BufRead, BufReader, Write};
use std::os::unix::fs::PermissionsExt;
use std::os::unix::net::UnixStream;
use std::time::Duration;
use tandem_repl::control::MAX_LINE;
use tandem_tests::cluster::{Cluster, binary};
use tandem_tests::running::Load;

const LIMIT: Duration = Duration::from_secs(10);

fn cluster(test: &str, more: &[&str]) -> Option<Cluster> {
    Some(Cluster::up(binary(test)?, env!("CARGO_BIN_EXE_inside"), more).unwrap())
}

#[test]
fn datagrams_of_strangers_do_not_disturb_the_load() {
    let Some(cluster) = cluster("datagrams of strangers", &["--networks", "2"]) else {
        return;
    };
    let mut load = Load::start(&cluster, "node1").unwrap();
    // Those with a source are from the peer itself, as far as anybody can see.
    for (round, (node, target, source)) in [
        ("node2", "10.77.0.1:7400", None),
        ("node1", "10.77.0.1:7400", None),
        ("node1", "10.77.0.2:7400", None),
        ("node2", "10.77.0.1:7400", Some("10.77.0.2:7400")),
        ("node2", "10.78.0.1:7400", Some("10.78.0.2:7400")),
        ("node1", "10.77.0.2:7400", Some("10.77.0.1:7400")),
    ]
    .into_iter()
    .enumerate()
    {
        let seed = (round + 7).to_string();
        cluster
            .inside(
                node,
                "datagrams",
                &[&[target, &seed, "20000"], source.as_slice()].concat(),
            )
            .unwrap();
        load.goes_on(50).unwrap();
    }
    load.end().unwrap();
    let nodes = cluster.status().unwrap();
    assert_eq!(
        (&*nodes[0].state, &*nodes[1].state),
        ("PRIM", "SECOND"),
        "{nodes:?}"
    );
    let longest = load.longest().unwrap();
    assert!(longest < Duration::from_secs(2), "{longest:?}");
    cluster.replicas_are_equal("node1").unwrap();
}

/// Sends bytes to the control socket of node1; the first line of the answer.
fn control(cluster: &Cluster, bytes: &[u8]) -> String {
    let socket = cluster.node_dir("node1").join("run/data.sock");
    let mut stream = UnixStream::connect(socket).unwrap();
    stream.set_read_timeout(Some(LIMIT)).unwrap();
    // A daemon that lets go in the middle of a line is right too.
    stream.write_all(bytes).ok();
    stream.shutdown(std::net::Shutdown::Write).ok();
    let mut line = String::new();
    BufReader::new(stream).read_line(&mut line).ok();
    line
}

#[test]
fn nonsense_on_the_control_socket_is_refused() {
    let Some(cluster) = cluster("nonsense on the control socket", &[]) else {
        return;
    };
    let refused = |bytes: &[u8]| {
        let answer = control(&cluster, bytes);
        assert!(answer.is_empty() || answer.contains("refused"), "{answer}");
        let status = control(&cluster, b"{\"version\":1,\"request\":\"status\"}\n");
        assert!(status.contains("\"state\":\"PRIM\""), "{status}");
        answer
    };
    let garbage = refused(b"\xff\x00 not json\n");
    assert!(garbage.contains("not understood"), "{garbage}");
    let version = refused(b"{\"version\":99,\"request\":\"status\"}\n");
    assert!(version.contains("version 99 is not spoken"), "{version}");
    refused(b"{\"version\":1,\"request\":{\"prim\":{}}}\n");
    refused(b"{\"version\":1,\"request\":\"status\"");
    refused(&vec![b'['; MAX_LINE - 1]);
    refused(&vec![b'x'; 3 * MAX_LINE]);
    // Beyond the limit nothing may be taken for a request of its own.
    let mut hidden = vec![b' '; MAX_LINE];
    hidden.extend_from_slice(b"{\"version\":1,\"request\":\"stop\"}\n");
    refused(&hidden);
}

#[test]
fn nobody_but_root_controls_a_module() {
    let Some(cluster) = cluster("control by nobody", &[]) else {
        return;
    };
    let binary = cluster.binary().to_str().unwrap();
    let as_nobody = || {
        let options = ["--user", "65534"];
        let said = cluster
            .exec_command("node1", &options, &[binary, "stop", "data"])
            .output();
        let said = said.unwrap();
        assert!(!said.status.success(), "{said:?}");
        String::from_utf8_lossy(&said.stderr).into_owned()
    };
    let said = as_nobody();
    assert!(said.contains("run the command as root"), "{said}");
    // Not by the file's mode alone.
    for (path, mode) in [("run", 0o755), ("run/data.sock", 0o666)] {
        let path = cluster.node_dir("node1").join(path);
        fs::set_permissions(path, fs::Permissions::from_mode(mode)).unwrap();
    }
    let said = as_nobody();
    assert!(said.contains("only root may control"), "{said}");
    assert_eq!(cluster.node("node1").unwrap().state, "PRIM");
}
