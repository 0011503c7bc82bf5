//! A changed configuration is brought to both nodes of a running mirror, or to none
//! (`tandem config apply`); and nodes that differ are noticed.

#![allow(
    clippy::unwrap_used,
    reason = "a failed set-up ends the test, with its line"
)]

use std::path::PathBuf;
use std::time::{Duration, Instant};
use tandem_repl::control::{Readiness, State};
use tandem_tests::managed::program::now;
use tandem_tests::managed::scripts::names;
use tandem_tests::managed::{ADDRESS, Options, SOON, Service};
use tandem_tests::running::{Load, Running};

const NODES: [&str; 2] = ["node1", "node2"];
/// An address that the configuration does not have at first.
const MORE: &str = "10.77.0.101";
const PAUSE: Duration = Duration::from_millis(10);

fn service(test: &str) -> Option<Service> {
    Service::up(test, env!("CARGO_BIN_EXE_inside"), &Options::default())
}

fn file(service: &Service, node: &str) -> PathBuf {
    service.cluster.node_dir(node).join("etc/modules/data.ron")
}

fn text(service: &Service, node: &str) -> String {
    std::fs::read_to_string(file(service, node)).unwrap()
}

/// Changes the file of one node, as an operator does; what it was before.
fn edit(service: &Service, node: &str, from: &str, to: &str) -> String {
    let old = text(service, node);
    assert!(old.contains(from), "{from} is not in {old}");
    std::fs::write(file(service, node), old.replacen(from, to, 1)).unwrap();
    old
}

fn with_more() -> [String; 2] {
    let one = format!("virtual_ips: [\"{ADDRESS}\"");
    let two = format!("virtual_ips: [\"{ADDRESS}\", \"{MORE}\"");
    [one, two]
}

/// Whether a node has the address that was added.
fn has_more(service: &Service, node: &str) -> bool {
    let show = ["ip", "-4", "addr", "show"];
    service.cluster.exec(node, &show).unwrap().contains(MORE)
}

fn until(what: &str, limit: Duration, mut holds: impl FnMut() -> bool) {
    let started = Instant::now();
    while !holds() {
        assert!(started.elapsed() < limit, "still not so: {what}");
        std::thread::sleep(PAUSE);
    }
}

/// The managers hear each other.
fn meet(service: &Service) {
    for node in NODES {
        until("the managers meet", SOON, || {
            let manager = service.manager(node);
            manager.is_ok_and(|m| m.peers.iter().any(|p| p.alive))
        });
    }
}

fn notes(service: &Service, node: &str) -> Vec<String> {
    let module = service.module(node).unwrap();
    module.notes.iter().map(ToString::to_string).collect()
}

/// Both run by the same files, and nothing is left to be settled.
fn is_settled(service: &Service) {
    for node in NODES {
        until("nothing is to be settled", SOON, || {
            service.module(node).is_ok_and(|m| m.notes.is_empty())
        });
        let rest = file(service, node).with_extension("ron.prepared");
        assert!(!rest.exists(), "{}", rest.display());
        let kept = service
            .cluster
            .node_dir(node)
            .join("disk/state/change.json");
        assert!(!kept.exists(), "{}", kept.display());
    }
    assert_eq!(text(service, "node1"), text(service, "node2"));
}

#[test]
fn a_new_address_and_a_checker_are_taken_over_while_everything_runs() {
    let Some(mut service) = service("apply") else {
        return;
    };
    service.ask().unwrap();
    meet(&service);
    let mut load = Load::start(&service.cluster, "node1").unwrap();
    load.goes_on(100).unwrap();
    let begin = now();
    let application = service.application("node1").unwrap();

    let [one, two] = with_more();
    edit(&service, "node1", &one, &two);
    let checker = "checkers: [(name: \"card\", interface: \"eth0\", on_failure: restart, \
                   interval: \"200ms\")],\n  scrub: \"3d\",\n  variables: (";
    edit(&service, "node1", "variables: (", checker);
    let started = Instant::now();
    let said = service.tandem("node1", &["config", "apply"]).unwrap();
    println!("apply took {:?}: {said}", started.elapsed());
    assert!(said.contains("virtual_ips of modules/data.ron: taken over"));
    assert!(said.contains("checkers of modules/data.ron: taken over"));
    assert!(said.contains("scrub of modules/data.ron: counts when"));
    is_settled(&service);
    assert!(has_more(&service, "node1") && !has_more(&service, "node2"));
    let looks = |m: &tandem_failover::control::ModuleStatus| {
        m.checkers
            .iter()
            .any(|c| c.name == "card" && c.up == Some(true))
    };
    service
        .until("node1", "the checker looks", SOON, looks)
        .unwrap();
    assert_eq!(service.module("node2").unwrap().checkers.len(), 1);

    // Nobody noticed.
    load.goes_on(100).unwrap();
    load.end().unwrap();
    for node in NODES {
        assert_eq!(names(&service.calls(node, begin).unwrap()), [""; 0]);
    }
    assert_eq!(service.application("node1").unwrap(), application);
    let heard = service.heard().unwrap();
    assert_eq!(heard.servers(begin).len(), 1);
    let ends = heard.idle_ends(begin);
    assert!(ends.is_empty(), "{ends:?}");
    let pause = heard.longest_pause(begin);
    println!("the longest pause of the application was {pause:?}");
    assert!(pause < Duration::from_secs(1), "{pause:?}");

    // It is as good as if it had been there from the first.
    service.tandem("node1", &["swap"]).unwrap();
    service.in_sync("node2", "node1").unwrap();
    assert!(has_more(&service, "node2") && !has_more(&service, "node1"));

    // From the other node, and away again.
    let begin = now();
    edit(&service, "node2", &two, &one);
    let said = service
        .tandem(
            "node1",
            &["config", "apply", "data", "--node", "node2", "--json"],
        )
        .unwrap();
    assert!(said.contains("\"applied\""), "{said}");
    is_settled(&service);
    assert!(!has_more(&service, "node2"));
    assert_eq!(names(&service.calls("node2", begin).unwrap()), [""; 0]);
    // A manager that is started again reads the same.
    restart_manager(&service, "node2");
    service.in_sync("node2", "node1").unwrap();
    service.ends_well("node2", true).unwrap();
}

fn restart_manager(service: &Service, node: &str) {
    let manager = service.manager(node).unwrap().pid;
    service.kill(node, manager).unwrap();
    until("the manager is back", SOON, || {
        service.manager(node).is_ok_and(|m| m.pid != manager)
    });
    meet(service);
}

#[test]
fn what_cannot_be_is_refused_with_its_key_and_nothing_changes() {
    let Some(mut service) = service("apply refused") else {
        return;
    };
    service.ask().unwrap();
    meet(&service);
    let begin = now();
    let apply = ["config", "apply", "data"];
    let good = text(&service, "node1");
    let refused = |from: &str, to: &str, says: &[&str]| {
        edit(&service, "node1", from, to);
        let said = service.refused("node1", &apply).unwrap();
        println!("{said}");
        for says in says {
            assert!(said.contains(says), "{says} is not in {said}");
        }
        assert_eq!(text(&service, "node2"), good);
        std::fs::write(file(&service, "node1"), &good).unwrap();
        is_settled(&service);
    };
    let stall = ("stall_limit: \"3s\"", "stall_limit: \"4s\"");
    let stop = "tandem stop data --all";
    refused(
        stall.0,
        stall.1,
        &["`stall_limit` of modules/data.ron", stop, "exit status: 1"],
    );
    let directory = "directories: [\"/mnt/disk/data\"]";
    let other = "directories: [\"/mnt/disk/other\"]";
    service
        .cluster
        .exec("node1", &["mkdir", "/mnt/disk/other"])
        .unwrap();
    service
        .cluster
        .exec("node2", &["mkdir", "/mnt/disk/other"])
        .unwrap();
    refused(
        directory,
        other,
        &["`directories` of modules/data.ron", stop],
    );
    refused(
        "port: 7400",
        "prot: 7400",
        &["did you mean `port`", "exit status: 4"],
    );
    // What the other node does not have.
    let link = [
        "ip", "link", "add", "extra0", "type", "veth", "peer", "name", "extra1",
    ];
    service.cluster.exec("node1", &link).unwrap();
    let [one, _] = with_more();
    let there = format!("{one}, (address: \"10.99.0.9\", prefix: 24, interface: \"extra0\")");
    refused(&one, &there, &["node2", "extra0", "exit status: 4"]);
    // An address that somebody has: it shows when it is taken, and everything goes back.
    let taken = format!("{one}, \"10.77.0.3\"");
    edit(&service, "node1", &one, &taken);
    let said = service.refused("node1", &apply).unwrap();
    assert!(said.contains("10.77.0.3 is in use"), "{said}");
    assert_eq!(text(&service, "node1"), good);
    is_settled(&service);
    let kept = file(&service, "node1").with_extension("ron.refused");
    assert!(std::fs::read_to_string(kept).unwrap().contains(&taken));
    assert_eq!(service.module("node1").unwrap().virtual_ips.len(), 1);
    for node in NODES {
        assert_eq!(names(&service.calls(node, begin).unwrap()), [""; 0]);
    }

    // Stopped, it may change.
    service.tandem("node1", &["stop", "data", "--all"]).unwrap();
    edit(&service, "node1", stall.0, stall.1);
    service.tandem("node1", &apply).unwrap();
    is_settled(&service);
    service
        .tandem("node1", &["start", "data", "--all"])
        .unwrap();
    service
        .until("node1", "it serves or follows", SOON, |m| {
            m.readiness == Readiness::Ready && matches!(m.state, State::Prim | State::Second)
        })
        .unwrap();
    let serving = match service.module("node1").unwrap().state {
        State::Second => "node2",
        _ => "node1",
    };
    service.ends_well(serving, true).unwrap();
}

#[test]
fn a_peer_that_is_lost_half_way_leaves_the_old_files_on_both() {
    let Some(mut service) = service("apply cut") else {
        return;
    };
    service.ask().unwrap();
    meet(&service);
    let old = text(&service, "node1");
    let [one, two] = with_more();
    let prepared = file(&service, "node2").with_extension("ron.prepared");

    // The taking of the address takes a moment: the other has prepared, and nobody has decided.
    edit(&service, "node1", &one, &two);
    let mut apply = begin_apply(&service);
    until("the other has prepared", SOON, || prepared.exists());
    service.cluster.lab("cut", &["node1", "node2"]).unwrap();
    assert_eq!(
        text(&service, "node2"),
        old,
        "it was too late for this test"
    );
    let status = apply.wait(SOON).unwrap();
    println!("cut: {}", apply.output());
    assert!(!status.success(), "{}", apply.output());
    assert_eq!(text(&service, "node1"), old);
    assert_eq!(text(&service, "node2"), old);
    assert!(!has_more(&service, "node1"));
    service.cluster.lab("heal", &[]).unwrap();
    meet(&service);
    service.in_sync("node1", "node2").unwrap();
    until("it is forgotten", SOON, || !prepared.exists());
    is_settled(&service);

    // The other's manager dies at some moment or other: both have the same in the end.
    for wait in [0, 100, 300, 350, 400, 450] {
        until("it can be applied again", SOON, || {
            service.manager("node2").is_ok() && !prepared.exists()
        });
        meet(&service);
        let old = edit(&service, "node1", &one, &two);
        let manager = service.manager("node2").unwrap().pid;
        let mut apply = begin_apply(&service);
        std::thread::sleep(Duration::from_millis(wait));
        service.kill("node2", manager).unwrap();
        let status = apply.wait(SOON).unwrap();
        println!("killed after {wait} ms: {status}: {}", apply.output());
        until("the manager is back", SOON, || {
            service.manager("node2").is_ok()
        });
        meet(&service);
        if apply.output().contains("unreachable") && text(&service, "node2") == old {
            // Refused before anything was put in place: the operator's file is as he left it.
            std::fs::write(file(&service, "node1"), &old).unwrap();
        }
        is_settled(&service);
        let new = status.success();
        assert_eq!(text(&service, "node2") != old, new);
        assert_eq!(has_more(&service, "node1"), new);
        if new {
            edit(&service, "node1", &two, &one);
            service.tandem("node1", &["config", "apply"]).unwrap();
        }
    }
    service.ends_well("node1", true).unwrap();
}

fn begin_apply(service: &Service) -> Running {
    let apply = service
        .cluster
        .tandem_command("node1", &["config", "apply"]);
    Running::start(apply.unwrap(), &service.room.join("apply")).unwrap()
}

#[test]
fn nodes_that_differ_are_noticed_and_healed() {
    let Some(mut service) = service("apply differs") else {
        return;
    };
    service.ask().unwrap();
    meet(&service);
    let begin = now();
    let right = text(&service, "node1");
    let [one, two] = with_more();
    edit(&service, "node2", &one, &two);
    edit(
        &service,
        "node2",
        "variables: (",
        "max_restarts: 5,\n  variables: (",
    );
    restart_manager(&service, "node2");
    for node in NODES {
        until("it is noticed", SOON, || !notes(&service, node).is_empty());
        let notes = notes(&service, node).join("\n");
        assert!(notes.contains("max_restarts, virtual_ips"), "{notes}");
        assert!(notes.contains("tandem config diff"), "{notes}");
        let why = service.tandem(node, &["why"]).unwrap();
        assert!(why.contains("config-differs"), "{why}");
        let status = service.tandem(node, &["status"]).unwrap();
        assert!(
            status.contains("note         the configuration"),
            "{status}"
        );
    }
    // No reason to stop anything.
    service.in_sync("node1", "node2").unwrap();
    service
        .tandem("node1", &["config", "apply", "--all"])
        .unwrap();
    is_settled(&service);
    assert_eq!(text(&service, "node2"), right);
    service
        .tandem("node1", &["config", "diff", "node2"])
        .unwrap();
    for node in NODES {
        assert_eq!(names(&service.calls(node, begin).unwrap()), [""; 0]);
    }
    service.ends_well("node1", true).unwrap();
}
