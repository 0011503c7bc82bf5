//! What fails beside a whole node: the file system daemon, the manager, a script, the application
//! again and again, and failover switched off (acceptance rows M22, M23, M24, M28, M29).

#![allow(
    clippy::unwrap_used,
    reason = "a failed set-up ends the test, with its line"
)]

use std::time::{Duration, Instant};
use tandem_repl::control::{Readiness, State};
use tandem_tests::managed::program::now;
use tandem_tests::managed::scripts::names;
use tandem_tests::managed::{Options, REFERENCE, Service};
use tandem_tests::running::Load;

const SOON: Duration = Duration::from_secs(20);
/// The one that decides where no peer answers.
const PING: [&str; 4] = ["--isolation", "ping", "--ping", REFERENCE];

fn service(test: &str, options: &Options<'_>) -> Option<Service> {
    Service::up(test, env!("CARGO_BIN_EXE_inside"), options)
}

fn kill_daemon(service: &Service, node: &str) {
    let daemon = service.module(node).unwrap().daemon.unwrap();
    service.kill(node, daemon.pid).unwrap();
}

#[test]
fn m22_failover_switched_off_keeps_the_second_waiting() {
    let options = Options {
        lab: &PING,
        ..Options::default()
    };
    let Some(mut service) = service("M22", &options) else {
        return;
    };
    service.ask().unwrap();
    service.tandem("node2", &["failover", "off"]).unwrap();
    assert!(!service.module("node2").unwrap().failover);
    service.cluster.lab("kill", &["node1"]).unwrap();
    let reason = service.waits_for("node2", "failover-off").unwrap();
    assert!(reason.contains("tandem failover on"), "{reason}");
    let since = now();
    std::thread::sleep(Duration::from_secs(3));
    let looks = service.watch.looks(2, since);
    let serves = looks.iter().find(|l| l.address || l.listens);
    assert!(serves.is_none(), "{serves:?}");
    // Nothing else was in its way.
    service.tandem("node2", &["failover", "on"]).unwrap();
    service
        .ready_within("node2", State::Alone, Duration::from_secs(8))
        .unwrap();
    service.client().unwrap().answered_by("node2").unwrap();
    service.cluster.lab("start", &["node1"]).unwrap();
    service.in_sync("node2", "node1").unwrap();
    service.ends_well("node2", false).unwrap();
}

#[test]
fn m23_a_dead_daemon_costs_seconds_and_nothing_acknowledged() {
    let options = Options {
        lab: &PING,
        ..Options::default()
    };
    let Some(mut service) = service("M23", &options) else {
        return;
    };
    service.ask().unwrap();
    // On the following node: the application hardly notices, and it is replicated again.
    let mut load = Load::start(&service.cluster, "node1").unwrap();
    let begin = now();
    kill_daemon(&service, "node2");
    service
        .until("node1", "ALONE", SOON, |m| m.state == State::Alone)
        .unwrap();
    service.in_sync("node1", "node2").unwrap();
    load.goes_on(50).unwrap();
    load.end().unwrap();
    let pause = service.heard().unwrap().longest_pause(begin);
    println!("M23: the follower's daemon died, the longest pause was {pause:?}");
    assert!(pause < Duration::from_secs(5), "{pause:?}");
    let servers = service.heard().unwrap().servers(begin);
    assert_eq!(servers.len(), 1, "{servers:?}");
    load.is_found(&service.replica("node2")).unwrap();

    // On the serving one.
    let mut load = Load::start(&service.cluster, "node1").unwrap();
    let old = ("node1".to_string(), service.application("node1").unwrap());
    let begin = now();
    kill_daemon(&service, "node1");
    load.wait().unwrap();
    let started = Instant::now();
    let serving = loop {
        // Whoever serves now does it with a new process.
        let servers = service.heard().unwrap().servers(begin);
        if let Some((node, _)) = servers.iter().find(|server| **server != old) {
            break if node == "node1" { "node1" } else { "node2" };
        }
        assert!(started.elapsed() < SOON, "nobody serves: {servers:?}");
        std::thread::sleep(Duration::from_millis(50));
    };
    let other = if serving == "node1" { "node2" } else { "node1" };
    let pause = service.heard().unwrap().longest_pause(begin);
    println!("M23: the serving daemon died, {serving} went on after {pause:?}");
    assert!(pause < Duration::from_secs(8), "{pause:?}");
    service.in_sync(serving, other).unwrap();
    for node in ["node1", "node2"] {
        load.is_found(&service.replica(node)).unwrap();
    }
    service.ends_well(serving, false).unwrap();
}

/// What of a node must not change with its manager.
fn picture(service: &Service, node: &str) -> (String, u32, String) {
    let mounts = service
        .cluster
        .exec(node, &["grep", "fuse.tandem", "/proc/self/mountinfo"])
        .unwrap();
    let module = service.module(node).unwrap();
    let shown = format!(
        "{:?} {:?} {:?} {:?} {}",
        module.state,
        module.readiness,
        module.running,
        module.wants,
        module.daemon.unwrap().pid
    );
    (mounts, service.application(node).unwrap(), shown)
}

fn kill_manager(service: &Service, node: &str) {
    let manager = service.manager(node).unwrap().pid;
    service.kill(node, manager).unwrap();
    let started = Instant::now();
    while service.manager(node).is_ok_and(|m| m.pid == manager) || service.manager(node).is_err() {
        assert!(started.elapsed() < SOON, "the manager does not return");
        std::thread::sleep(Duration::from_millis(20));
    }
}

#[test]
fn m24_a_dead_manager_changes_nothing() {
    let Some(mut service) = service("M24", &Options::default()) else {
        return;
    };
    service.ask().unwrap();
    let mut load = Load::start(&service.cluster, "node1").unwrap();
    let begin = now();
    for node in ["node1", "node2"] {
        let before = (node == "node1").then(|| picture(&service, node));
        let shown = service.module(node).unwrap();
        kill_manager(&service, node);
        service.ready(node, shown.state).unwrap();
        if let Some(before) = before {
            assert_eq!(picture(&service, node), before);
        }
    }
    load.goes_on(50).unwrap();
    load.end().unwrap();
    assert_eq!(names(&service.calls("node1", begin).unwrap()), [""; 0]);
    let looks = service.watch.looks(1, begin);
    let away = looks.iter().find(|l| !l.address || !l.listens);
    assert!(away.is_none(), "{away:?}");
    let heard = service.heard().unwrap();
    assert_eq!(heard.servers(begin).len(), 1);
    let pause = heard.longest_pause(begin);
    println!("M24: the longest pause of the application was {pause:?}");
    assert!(pause < Duration::from_secs(1), "{pause:?}");

    // In the middle of a start script: what it had begun is ended, and begun again.
    let slow = service.room.join("node1.start_prim");
    std::fs::write(&slow, "sleep 3\n").unwrap();
    let begin = now();
    let mut restart = service
        .cluster
        .tandem_command("node1", &["restart"])
        .unwrap();
    let mut restart = restart.spawn().unwrap();
    let started = Instant::now();
    let start_prim = || {
        let calls = names(&service.calls("node1", begin).unwrap());
        calls.iter().filter(|c| *c == "start_prim").count()
    };
    while start_prim() == 0 {
        assert!(started.elapsed() < SOON, "start_prim is not called");
        std::thread::sleep(Duration::from_millis(20));
    }
    kill_manager(&service, "node1");
    restart.wait().unwrap();
    std::fs::remove_file(&slow).unwrap();
    service.client().unwrap().answered_by("node1").unwrap();
    service.in_sync("node1", "node2").unwrap();
    assert_eq!(start_prim(), 2);
    assert_eq!(service.heard().unwrap().servers(begin).len(), 2);
    service.ends_well("node1", true).unwrap();
}

#[test]
fn m28_a_stop_script_that_hangs_is_called_by_force_and_then_killed() {
    let options = Options {
        limits: &[("stop_prim", "1s")],
        ..Options::default()
    };
    let Some(mut service) = service("M28", &options) else {
        return;
    };
    service.ask().unwrap();
    // The polite call hangs, with a child that does not listen; the forced one works.
    let hang = "if [ -z \"$2\" ]; then trap '' TERM; (trap '' TERM; sleep 1000.5) & wait; fi\n";
    std::fs::write(service.room.join("node1.stop_prim"), hang).unwrap();
    let begin = now();
    service.tandem("node1", &["swap"]).unwrap();
    service.client().unwrap().answered_by("node2").unwrap();
    service.in_sync("node2", "node1").unwrap();
    let stops: Vec<_> = names(&service.calls("node1", begin).unwrap());
    assert_eq!(stops[..2], ["stop_prim", "stop_prim!"]);
    none_left(&service, "node1");

    // Both hang; the application goes on and holds its file open. The move ends all the same.
    service.tandem("node2", &["swap"]).unwrap();
    service.in_sync("node1", "node2").unwrap();
    let hang = "trap '' TERM; (trap '' TERM; sleep 1000.5) & wait; sleep 1000.5\n";
    std::fs::write(service.room.join("node1.stop_prim"), hang).unwrap();
    let begin = now();
    let started = Instant::now();
    service.tandem("node1", &["stop"]).unwrap();
    println!(
        "M28: a stop with scripts that hang took {:?}",
        started.elapsed()
    );
    let module = service.module("node1").unwrap();
    assert_eq!(module.state, State::Stop);
    service.client().unwrap().answered_by("node2").unwrap();
    let mut stops = service.calls("node1", begin).unwrap();
    stops.retain(|c| c.script == "stop_prim");
    assert_eq!(names(&stops), ["stop_prim", "stop_prim!", "stop_prim!"]);
    none_left(&service, "node1");
    std::fs::remove_file(service.room.join("node1.stop_prim")).unwrap();
    service.tandem("node1", &["start"]).unwrap();
    service.ends_well("node2", false).unwrap();
}

fn none_left(service: &Service, node: &str) {
    let left = service.cluster.exec(node, &["pgrep", "-f", "sleep 1000.5"]);
    assert!(left.is_err(), "processes of the script are left: {left:?}");
}

#[test]
fn m29_one_restart_too_many_stops_the_module_until_a_word() {
    let options = Options {
        settings: "max_restarts: 3, restart_window: \"24h\", checkers: [(name: \"app\", \
                   tcp: \"10.77.0.100:7000\", interval: \"200ms\", timeout: \"1s\", failures: 1, \
                   on_failure: restart)],",
        ..Options::default()
    };
    let Some(mut service) = service("M29", &options) else {
        return;
    };
    service.ask().unwrap();
    for round in 0..2 {
        for _ in 0..3 {
            let pid = service.application("node1").unwrap();
            service.kill("node1", pid).unwrap();
            service.client().unwrap().answered_by("node1").unwrap();
            assert_ne!(service.application("node1").unwrap(), pid);
            service.ready("node1", State::Prim).unwrap();
        }
        let pid = service.application("node1").unwrap();
        service.kill("node1", pid).unwrap();
        let stopped = |m: &tandem_failover::control::ModuleStatus| {
            m.state == State::Stop && m.readiness == Readiness::NotReady
        };
        let module = service.until("node1", "STOP", SOON, stopped).unwrap();
        let reason = module.reason.unwrap();
        assert_eq!(reason.code, "maxloop", "{reason}");
        service.client().unwrap().answered_by("node2").unwrap();
        // It stays stopped, and the counter begins anew with the word.
        if round == 0 {
            std::thread::sleep(Duration::from_secs(2));
            assert!(stopped(&service.module("node1").unwrap()));
        }
        service.tandem("node1", &["start"]).unwrap();
        service.in_sync("node2", "node1").unwrap();
        if round == 0 {
            service.tandem("node2", &["swap"]).unwrap();
            service.in_sync("node1", "node2").unwrap();
        }
    }
    service.ends_well("node2", true).unwrap();
}
