//! `tandem lab` without daemons: the nodes are real (processes, network, disks), can be cut, killed
//! and started, and nothing of a lab is left when it is gone, whatever it died of.
//!
//! Needs root; without it the tests say so and pass.

#![allow(clippy::unwrap_used)]

mod support;

use std::fs;
use std::io::Write;
use std::os::unix::process::ExitStatusExt;
use std::path::Path;
use std::process::{Command, Stdio};
use std::thread;
use std::time::Duration;

use support::{Lab, is_root, listen, tandem, wait_for};

#[test]
fn a_node_has_its_own_name_processes_disk_and_environment() {
    let Some(lab) = Lab::up("identity", &[]) else {
        return;
    };
    assert_eq!(lab.shell("node2", "uname -n"), "node2");
    assert_eq!(
        lab.shell("node1", "tr '\\0' ' ' </proc/1/cmdline | cut -d' ' -f2"),
        "lab-node"
    );
    assert_eq!(lab.shell("node1", "pwd"), "/");
    let config = lab.shell("node1", "cat $TANDEM_CONFIG_DIR/node.ron");
    assert_eq!(config, r#"(name: "node1")"#);
    for file in [
        "cluster.ron",
        "modules/data.ron",
        "pki/ca.pem",
        "pki/node.pem",
        "pki/node-key.pem",
    ] {
        assert!(lab.path(&format!("node2/etc/{file}")).exists(), "{file}");
    }
    lab.shell("node1", "echo written >/mnt/disk/data/file");
    let replica = lab.path("node1/disk/data/file");
    assert_eq!(fs::read_to_string(replica).unwrap(), "written\n");
    assert_eq!(
        lab.shell("node2", "ls /mnt/disk/data"),
        "",
        "the nodes share no disk"
    );
    lab.shell(
        "node1",
        "mkdir /mnt/inner && mount -t tmpfs none /mnt/inner",
    );
    let mounts = fs::read_to_string("/proc/self/mountinfo").unwrap();
    assert!(
        !mounts.contains("/mnt/inner"),
        "a mount inside a node is visible outside"
    );
}

#[test]
fn exec_passes_on_streams_exit_codes_and_signals() {
    let Some(lab) = Lab::up("exec", &[]) else {
        return;
    };
    let code = |program: &[&str]| lab.exec("node1", program).status().unwrap().code();
    assert_eq!(code(&["sh", "-c", "exit 7"]), Some(7));
    assert_eq!(code(&["sh", "-c", "kill -9 $$"]), Some(137));
    assert_eq!(code(&["no-such-program"]), Some(127));

    let mut cat = lab.exec("node1", &["cat"]);
    let mut cat = cat
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .spawn()
        .unwrap();
    cat.stdin.take().unwrap().write_all(b"through").unwrap();
    assert_eq!(cat.wait_with_output().unwrap().stdout, b"through");

    let script = "trap 'exit 9' TERM; echo ready; while :; do sleep 0.05; done";
    let mut child = lab.exec("node1", &["sh", "-c", script]);
    let mut child = child.stdout(Stdio::piped()).spawn().unwrap();
    support::read_line(&mut child);
    support::signal(child.id(), libc::SIGTERM);
    assert_eq!(child.wait().unwrap().code(), Some(9));

    let mut child = lab.exec("node1", &["sh", "-c", "echo ready; exec sleep 777"]);
    let mut child = child.stdout(Stdio::piped()).spawn().unwrap();
    support::read_line(&mut child);
    child.kill().unwrap();
    child.wait().unwrap();
    wait_for("the program to die with its lab exec", || {
        lab.shell("node1", "cat /proc/[0-9]*/cmdline | tr '\\0' ' '")
            .find("sleep 777")
            .is_none()
    });
}

#[test]
fn nodes_reach_each_other_unless_cut() {
    let Some(lab) = Lab::up("network", &[]) else {
        return;
    };
    let _server = listen(&lab, "node2");
    assert!(lab.reaches("node1", "10.77.0.2"));
    for pair in [["node1", "node2"], ["node2", "node1"]] {
        lab.run(&["cut", pair[0], pair[1]]);
        assert!(!lab.reaches("node1", "10.77.0.2"), "cut {pair:?}");
        lab.run(&["heal", pair[0], pair[1]]);
        assert!(lab.reaches("node1", "10.77.0.2"), "heal {pair:?}");
    }
}

#[test]
fn networks_are_cut_one_by_one() {
    let Some(lab) = Lab::up("networks", &["--networks", "2", "--mtu", "9000,1500"]) else {
        return;
    };
    let _server = listen(&lab, "node2");
    let reached = || ["10.77.0.2", "10.78.0.2"].map(|address| lab.reaches("node1", address));
    for (card, mtu) in [("eth0", "mtu 9000"), ("eth1", "mtu 1500")] {
        let shown = lab.shell("node1", &format!("ip link show {card}"));
        assert!(shown.contains(mtu), "{shown}");
    }
    assert_eq!(reached(), [true, true]);
    lab.run(&["cut", "node1", "node2", "--network", "2"]);
    assert_eq!(reached(), [true, false]);
    lab.run(&["cut", "node1"]);
    assert_eq!(reached(), [false, false]);
    lab.run(&["heal", "--network", "2"]);
    assert_eq!(reached(), [false, true]);
    lab.run(&["heal"]);
    assert_eq!(reached(), [true, true]);
}

#[test]
fn of_three_nodes_two_can_be_cut_from_each_other() {
    let Some(lab) = Lab::up("three", &["--nodes", "3"]) else {
        return;
    };
    let _servers = [listen(&lab, "node2"), listen(&lab, "node3")];
    lab.run(&["cut", "node1", "node2"]);
    assert!(!lab.reaches("node1", "10.77.0.2"));
    assert!(lab.reaches("node1", "10.77.0.3"));
    assert!(lab.reaches("node3", "10.77.0.2"));
    lab.run(&["cut", "node3"]);
    assert!(!lab.reaches("node1", "10.77.0.3"));
    lab.run(&["heal"]);
    assert!(lab.reaches("node1", "10.77.0.2"));
    assert!(lab.reaches("node1", "10.77.0.3"));
}

#[test]
fn a_killed_node_loses_its_processes_and_keeps_its_disk() {
    let Some(lab) = Lab::up("kill", &[]) else {
        return;
    };
    lab.shell("node1", "echo kept >/mnt/disk/data/file");
    let mut child = lab.exec("node1", &["sleep", "777"]).spawn().unwrap();
    let mut orphan = lab.exec("node1", &["sh", "-c", "setsid sleep 777 & exit"]);
    assert!(orphan.status().unwrap().success());

    lab.run(&["kill", "node1"]);
    assert_eq!(child.wait().unwrap().code(), Some(137));
    let status = lab.status("node1");
    assert_eq!(status["state"], "DOWN");
    assert!(status["pid"].is_null());
    let replica = status["replica"].as_str().unwrap();
    assert_eq!(
        fs::read_to_string(Path::new(replica).join("file")).unwrap(),
        "kept\n"
    );
    assert_ne!(
        lab.exec("node1", &["true"]).status().unwrap().code(),
        Some(0)
    );
    lab.run(&["kill", "node1"]);

    lab.run(&["start", "node1"]);
    let _server = listen(&lab, "node1");
    assert!(
        lab.reaches("node2", "10.77.0.1"),
        "the network of a node that was started again"
    );
    assert_eq!(lab.shell("node1", "cat /mnt/disk/data/file"), "kept");
    assert_ne!(
        lab.try_run(&["start", "node1"]).status.code(),
        Some(0),
        "it is up"
    );
}

#[test]
fn labs_side_by_side_do_not_meet() {
    let Some(one) = Lab::up("side-a", &[]) else {
        return;
    };
    let two = Lab::up("side-b", &[]).unwrap();
    let _server = listen(&one, "node2");
    assert!(one.reaches("node1", "10.77.0.2"));
    assert!(!two.reaches("node1", "10.77.0.2"));
    let listed = String::from_utf8(tandem(&["lab", "list"]).output().unwrap().stdout).unwrap();
    assert!(
        listed.contains("side-a") && listed.contains("side-b"),
        "{listed}"
    );
    // The nodes of the second lab have copied a mount table with the disks of the first.
    one.down();
    assert_eq!(two.shell("node1", "uname -n"), "node1");
}

#[test]
fn down_removes_a_lab_that_is_broken_or_in_use() {
    let Some(lab) = Lab::up("broken", &[]) else {
        return;
    };
    let pid = lab.status("node1")["pid"].as_u64().unwrap();
    support::signal(u32::try_from(pid).unwrap(), libc::SIGKILL);
    let mut user = Command::new("sleep");
    let mut user = user
        .arg("777")
        .current_dir(lab.path("node2/disk/data"))
        .spawn()
        .unwrap();
    let removed = lab.try_run(&["down"]);
    user.kill().unwrap();
    user.wait().unwrap();
    assert!(
        removed.status.success(),
        "{}",
        String::from_utf8_lossy(&removed.stderr)
    );
    assert!(lab.try_run(&["down"]).status.success(), "the second time");
    lab.assert_nothing_left();
}

#[test]
fn an_interrupted_up_leaves_nothing() {
    if !is_root() {
        return;
    }
    for millis in (0..80).step_by(8) {
        let lab = Lab::new("interrupted");
        let mut up = lab.command(&["up"]);
        let mut up = up.args(["--no-daemons", "--nodes", "4"]);
        up = up.stdout(Stdio::null()).stderr(Stdio::null());
        let mut up = up.spawn().unwrap();
        thread::sleep(Duration::from_millis(millis));
        support::signal(up.id(), libc::SIGINT);
        let ended = up.wait().unwrap();
        if !ended.success() && ended.signal().is_none() {
            lab.assert_nothing_left();
        }
        lab.down();
    }
}

#[test]
fn down_removes_what_a_killed_up_left() {
    if !is_root() {
        return;
    }
    for millis in (0..80).step_by(4) {
        let lab = Lab::new("killed");
        let mut up = lab.command(&["up"]);
        let mut up = up
            .args(["--no-daemons", "--nodes", "4"])
            .stdout(Stdio::null())
            .spawn()
            .unwrap();
        thread::sleep(Duration::from_millis(millis));
        up.kill().unwrap();
        up.wait().unwrap();
        lab.down();
    }
}

#[test]
fn directories_with_other_things_in_them_are_refused() {
    if !is_root() {
        return;
    }
    let lab = Lab::new("refused");
    fs::create_dir_all(lab.path("")).unwrap();
    fs::write(lab.path("precious"), "mine").unwrap();
    assert!(!lab.try_run(&["up", "--no-daemons"]).status.success());
    assert!(!lab.try_run(&["down"]).status.success());
    assert_eq!(fs::read_to_string(lab.path("precious")).unwrap(), "mine");
    fs::remove_file(lab.path("precious")).unwrap();

    assert!(lab.try_run(&["up", "--no-daemons"]).status.success());
    assert!(
        !lab.try_run(&["up", "--no-daemons"]).status.success(),
        "it exists"
    );
    assert_eq!(
        lab.shell("node1", "uname -n"),
        "node1",
        "and was not harmed"
    );
    assert!(lab.try_run(&["down"]).status.success());
    assert!(lab.path("").exists(), "the directory was there before");
    fs::remove_dir(lab.path("")).unwrap();
}

#[test]
fn daemons_that_do_not_start_fail_the_lab_with_their_log() {
    if !is_root() {
        return;
    }
    let lab = Lab::new("no-start");
    // Too short to be a stall limit; the daemon says so and ends.
    let up = lab
        .command(&["up"])
        .args(["--stall-limit", "never"])
        .output()
        .unwrap();
    assert!(!up.status.success());
    let text = String::from_utf8_lossy(&up.stderr);
    let cause = "the daemon of node1 did not start: the daemon ended (exit code";
    assert!(text.contains(cause) && text.contains("end of "), "{text}");
    lab.assert_nothing_left();
}

#[test]
fn daemons_get_their_roles_and_a_started_node_waits() {
    if !is_root() {
        return;
    }
    let lab = Lab::new("roles");
    lab.run(&["up"]);
    let state = |node| {
        let status = lab.status(node);
        format!("{} {}", status["state"], status["readiness"]).replace('"', "")
    };
    assert_eq!(
        (state("node1"), state("node2")),
        ("PRIM Ready".into(), "SECOND Ready".into())
    );
    lab.shell(
        "node1",
        "echo both >/mnt/disk/data/file && sync -f /mnt/disk/data/file",
    );
    for replica in ["node1/disk/data/file", "node2/disk/data/file"] {
        assert_eq!(fs::read_to_string(lab.path(replica)).unwrap(), "both\n");
    }
    lab.run(&["kill", "node1"]);
    assert_eq!(state("node1"), "DOWN NotReady");
    lab.run(&["start", "node1"]);
    assert_eq!(state("node1"), "WAIT NotReady");
    lab.shell("node1", "kill -9 2");
    wait_for("the end of the daemon to be seen", || {
        lab.status("node1")["reason"] == "the daemon ended (signal 9)"
    });
    lab.down();
}

/// Not a test: what [`support::listen`] and [`Lab::reaches`] run inside nodes.
#[test]
fn helper() {
    support::helper();
}
