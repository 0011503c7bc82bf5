//! From two bare servers to a running module, in a lab whose nodes nobody has configured.
#![allow(clippy::unwrap_used)]

mod support;

use std::fs;
use std::process::{Child, Command, Stdio};
use std::time::{Duration, Instant};

use support::Lab;
use support::setup::{Running, text, words};

/// What the issue promises.
const PROMISED: Duration = Duration::from_secs(5 * 60);
/// On a busy machine a step may take long; the sum is what counts.
const STEP: Duration = Duration::from_secs(60);

fn wait_for(what: &str, mut done: impl FnMut() -> bool) {
    let began = Instant::now();
    while !done() {
        assert!(began.elapsed() < STEP, "waited {STEP:?} for {what}");
        std::thread::sleep(Duration::from_millis(50));
    }
}

/// Directories of a node's own, below its disk: nothing that `lab up` made is used.
const OWN: [&str; 6] = [
    "--config-dir",
    "/mnt/disk/own/etc",
    "--state-dir",
    "/mnt/disk/own/state",
    "--run-dir",
    "/mnt/disk/own/run",
];

fn inside(lab: &Lab, node: &str, arguments: &[&str]) -> Command {
    let program = env!("CARGO_BIN_EXE_tandem");
    lab.exec(node, &[&[program][..], &OWN, arguments].concat())
}

fn done(lab: &Lab, node: &str, arguments: &[&str]) -> String {
    let output = inside(lab, node, arguments).output().unwrap();
    let errors = text(&output.stderr);
    assert!(output.status.success(), "{node}: {arguments:?}: {errors}");
    text(&output.stdout)
}

/// Whether the module of a node is in this state and Ready, as its manager sees it: addresses and
/// application included, not only the daemon.
fn is_ready(lab: &Lab, node: &str, state: &str) -> bool {
    let output = inside(lab, node, &["status", "--json"]).output().unwrap();
    let shown: serde_json::Value = serde_json::from_slice(&output.stdout).unwrap_or_default();
    let module = &shown["modules"][0];
    module["state"] == state && module["readiness"] == "Ready"
}

#[test]
fn from_two_bare_servers_to_a_running_module_in_under_five_minutes() {
    let Some(lab) = Lab::up("bare", &[]) else {
        return;
    };
    // As an administrator gets them: a default route, an application's directory with data.
    for node in ["node1", "node2"] {
        lab.shell(
            node,
            "ip route add default via 10.77.0.254; mkdir /mnt/disk/app",
        );
    }
    lab.shell("node1", "echo precious > /mnt/disk/app/data");

    let began = Instant::now();
    let mut host = Running::start(&mut inside(
        &lab,
        "node1",
        &[
            "init",
            "--name",
            "shop",
            "--node",
            "node1=10.77.0.1",
            "--node",
            "node2=10.77.0.2",
            "--directory",
            "/mnt/disk/app",
            "--virtual-ip",
            "10.77.0.100",
        ],
    ));
    let join = host.invitation();
    assert_eq!(join[1], "10.77.0.1");
    assert_eq!(&join[3..], ["--as", "node2"]);
    done(&lab, "node2", &words(&join));
    let (code, rest, errors) = host.end();
    assert_eq!(code, Some(0), "{rest}{errors}");
    let joined = began.elapsed();
    // The policy that two machines can have by themselves is proposed, with the kernel's gateway.
    let module = lab.shell("node2", "cat /mnt/disk/own/etc/modules/shop.ron");
    assert!(module.contains("isolation: ping"), "{module}");
    assert!(module.contains("ping: [\"10.77.0.254\"]"), "{module}");
    assert!(module.contains("Only a witness"), "{module}");

    let looked = done(&lab, "node1", &["doctor"]);
    assert!(looked.contains(", 0 wrong"), "{looked}");
    assert!(
        looked.contains("reached, and no manager listens there"),
        "{looked}"
    );

    let managers = ["node1", "node2"].map(|node| {
        let mut manager = inside(&lab, node, &["failover"]);
        // The log of the node, which goes with it.
        let mut log = fs::OpenOptions::new();
        let log = log
            .append(true)
            .open(lab.path(&format!("{node}/log")))
            .unwrap();
        manager.stdout(Stdio::null()).stderr(log);
        let child = manager.stdin(Stdio::null()).spawn().unwrap();
        Manager(child)
    });
    let status = |node| inside(&lab, node, &["status"]).output().unwrap();
    for node in ["node1", "node2"] {
        wait_for("the manager to answer", || status(node).status.success());
    }
    done(&lab, "node2", &["start", "shop"]);
    // A volume begins where both say that they have none: not before they have met.
    wait_for("the first volume", || {
        let prim = inside(&lab, "node1", &["prim", "shop"]).output().unwrap();
        prim.status.success()
    });
    wait_for("node1 to serve", || is_ready(&lab, "node1", "PRIM"));
    wait_for("node2 to follow", || is_ready(&lab, "node2", "SECOND"));
    lab.shell("node1", "echo new > /mnt/disk/app/more");
    let took = began.elapsed();
    assert_eq!(lab.shell("node2", "cat /mnt/disk/app/data"), "precious");
    assert_eq!(lab.shell("node2", "cat /mnt/disk/app/more"), "new");
    let addresses = lab.shell("node1", "ip -brief address");
    assert!(addresses.contains("10.77.0.100/24"), "{addresses}");
    println!("two bare servers to a running module: {took:?}, of which {joined:?} to the join");
    assert!(took < PROMISED, "{took:?}");

    looks_well(&lab);
    // As its unit is stopped: the module leaves in order, and the other node serves.
    let [first, second] = managers;
    drop(first);
    wait_for("node2 to serve", || is_ready(&lab, "node2", "ALONE"));
    assert_eq!(lab.shell("node2", "cat /mnt/disk/app/more"), "new");
    let mounts = lab.shell("node1", "cat /proc/self/mounts");
    assert!(!mounts.contains("/mnt/disk/app"), "{mounts}");
    drop(second);
}

/// What `doctor` and `config diff` say while both managers run, and when the nodes differ.
fn looks_well(lab: &Lab) {
    let looked = done(lab, "node2", &["doctor"]);
    for found in [
        ", 0 wrong",
        "node1 at 10.77.0.1 (TCP 7401) answers",
        "/mnt/disk/app is replicated by the running module",
        "cluster.ron and modules are the same on node1",
        "users of the files mean the same on node1",
        "that of node1 differs by",
    ] {
        assert!(looked.contains(found), "{found}: {looked}");
    }
    done(lab, "node2", &["config", "diff"]);
    lab.shell(
        "node1",
        "echo // mine >> /mnt/disk/own/etc/modules/shop.ron",
    );
    let output = inside(lab, "node2", &["config", "diff", "node1"])
        .output()
        .unwrap();
    assert_eq!(output.status.code(), Some(1));
    let shown = text(&output.stdout);
    assert!(shown.contains("+// mine"), "{shown}");
    assert!(!shown.contains("PRIVATE KEY"), "{shown}");
    assert!(done(lab, "node2", &["doctor"]).contains("modules differ from those of node1"));
}

/// A manager in a node, ended in order.
struct Manager(Child);

impl Drop for Manager {
    fn drop(&mut self) {
        support::signal(self.0.id(), libc::SIGTERM);
        let _ = self.0.wait();
    }
}
