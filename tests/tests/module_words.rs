//! What operators say of a module counts on both of its nodes; and waiting for what was ordered.

#![allow(
    clippy::unwrap_used,
    reason = "a failed set-up ends the test, with its line"
)]

use std::time::{Duration, Instant};
use tandem_repl::control::{Readiness, State};
use tandem_tests::managed::{Options, SOON, Service};

fn until(what: &str, holds: impl Fn() -> bool) {
    let started = Instant::now();
    while !holds() {
        assert!(started.elapsed() < SOON, "still not so: {what}");
        std::thread::sleep(Duration::from_millis(10));
    }
}

#[test]
fn failover_and_maintenance_count_on_both_and_the_newer_word_wins() {
    let helper = env!("CARGO_BIN_EXE_inside");
    let Some(mut service) = Service::up("words", helper, &Options::default()) else {
        return;
    };
    service.ask().unwrap();
    // What is said of the module on one node counts on both, and is kept there.
    let failover = |node: &str| service.module(node).is_ok_and(|m| m.failover);
    service.tandem("node1", &["failover", "off"]).unwrap();
    until("the other hears it", || !failover("node2"));
    // Kept there, for the next manager.
    let manager = service.manager("node2").unwrap().pid;
    service.kill("node2", manager).unwrap();
    until("the manager is back", || {
        service.manager("node2").is_ok_and(|m| m.pid != manager)
    });
    assert!(!failover("node2"));
    // Said there while they are apart: the newer word counts when they meet.
    service.cluster.lab("cut", &["node1", "node2"]).unwrap();
    service.tandem("node1", &["failover", "on"]).unwrap();
    assert!(failover("node1") && !failover("node2"));
    service.cluster.lab("heal", &[]).unwrap();
    until("the other hears it", || failover("node2"));
    service.tandem("node2", &["maintenance", "on"]).unwrap();
    until("the other hears it", || {
        service.module("node1").is_ok_and(|m| m.wants.maintenance)
    });
    service.tandem("node1", &["maintenance", "off"]).unwrap();
    until("the other hears it", || {
        service.module("node2").is_ok_and(|m| !m.wants.maintenance)
    });
    service.in_sync("node1", "node2").unwrap();
    service.tandem("node2", &["stop"]).unwrap();
    let begin_wait = Instant::now();
    service
        .tandem("node2", &["start", "--wait", "--timeout", "30s"])
        .unwrap();
    let shown = service.module("node2").unwrap();
    println!(
        "start --wait: {:?} after {:?}",
        shown.state,
        begin_wait.elapsed()
    );
    assert_eq!(
        (shown.state, shown.readiness),
        (State::Second, Readiness::Ready)
    );
    service.ends_well("node1", true).unwrap();
}
