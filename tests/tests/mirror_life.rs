//! The life of a mirror led by failover managers: first start, later starts, stops, rejoins and
//! restarts (acceptance rows M01 to M05, M07), with a real application and its clients.

#![allow(
    clippy::unwrap_used,
    reason = "a failed set-up ends the test, with its line"
)]

use std::time::Duration;
use tandem_repl::control::{Readiness, State};
use tandem_tests::managed::program::now;
use tandem_tests::managed::scripts::{self, names};
use tandem_tests::managed::watch::Look;
use tandem_tests::managed::{Options, Service};

fn service(test: &str, options: &Options<'_>) -> Option<Service> {
    Service::up(test, env!("CARGO_BIN_EXE_inside"), options)
}

#[test]
fn m01_m02_a_first_start_waits_for_a_word_and_later_ones_do_not() {
    let options = Options {
        no_roles: true,
        ..Options::default()
    };
    let Some(mut service) = service("M01", &options) else {
        return;
    };
    // The good data, and an older copy that is to be replaced.
    std::fs::write(service.replica("node1").join("good"), "good").unwrap();
    std::fs::write(service.replica("node2").join("good"), "old!").unwrap();
    std::fs::write(service.replica("node2").join("gone"), "gone").unwrap();
    for node in ["node1", "node2"] {
        service.tandem(node, &["start"]).unwrap();
    }
    for node in ["node1", "node2"] {
        let reason = service.waits_for(node, "never-synchronised").unwrap();
        assert!(reason.contains("tandem prim"), "{reason}");
    }
    // Nobody guesses meanwhile.
    std::thread::sleep(Duration::from_secs(2));
    for node in [1, 2] {
        let looks = service.watch.looks(node, 0);
        let serves = looks.iter().find(|l| l.address || l.listens);
        assert!(serves.is_none(), "node{node}: {serves:?}");
        service
            .waits_for(&format!("node{node}"), "never-synchronised")
            .unwrap();
    }
    service.tandem("node1", &["prim"]).unwrap();
    service.in_sync("node1", "node2").unwrap();
    let copied = std::fs::read_to_string(service.replica("node2").join("good"));
    assert_eq!(copied.unwrap(), "good");
    assert!(!service.replica("node2").join("gone").exists());
    service.ask().unwrap();

    // M02: whoever served last serves; here the one that was stopped last.
    service.tandem("node1", &["stop"]).unwrap();
    service.ready("node2", State::Alone).unwrap();
    service.client().unwrap().answered_by("node2").unwrap();
    service.tandem("node2", &["stop"]).unwrap();
    let begin = now();
    for node in ["node1", "node2"] {
        service.tandem(node, &["start"]).unwrap();
    }
    service.in_sync("node2", "node1").unwrap();
    let ups = |node| {
        let calls = service.calls(node, begin).unwrap();
        let ups = calls.iter().filter(|c| c.script.starts_with("start"));
        ups.map(|c| c.script.clone()).collect::<Vec<_>>()
    };
    assert_eq!(ups("node2"), ["start_both", "start_prim"]);
    assert_eq!(ups("node1"), ["start_both", "start_second"]);
    service.ends_well("node2", true).unwrap();
}

#[test]
fn m03_m04_a_stop_moves_the_service_at_once_and_a_start_disturbs_nobody() {
    let Some(mut service) = service("M03", &Options::default()) else {
        return;
    };
    service.ask().unwrap();
    service
        .script(
            "node1",
            "head -c 60000000 /dev/urandom >large; echo 1 >removed; mkdir d; echo 1 >d/moved; sync",
        )
        .unwrap();
    let begin = now();
    service.tandem("node1", &["stop"]).unwrap();
    service.client().unwrap().answered_by("node2").unwrap();
    let heard = service.heard().unwrap();
    let pause = heard.longest_pause(begin);
    println!("M03: nobody answered for {pause:?}");
    // The stall limit, by which a silent peer is known, is 3 s.
    assert!(pause < Duration::from_millis(1500), "{pause:?}");
    service.ready("node2", State::Alone).unwrap();
    service
        .until("node1", "STOP", Duration::from_secs(10), |m| {
            m.state == State::Stop
        })
        .unwrap();
    let mut stopped = service.calls("node1", begin).unwrap();
    let told = |c: &scripts::Call| c.script == "transition";
    let moves: Vec<_> = stopped.iter().filter(|c| told(c)).collect();
    assert_eq!((&*moves[0].from, &*moves[0].to), ("PRIM", "WAIT"));
    stopped.retain(|c| !told(c));
    let stopped = names(&stopped);
    let expected = [
        "stop_prim",
        "stop_both",
        "stop_second!",
        "stop_prim!",
        "stop_both!",
        "poststop",
    ];
    assert_eq!(stopped, expected);
    let taken = names(&service.calls("node2", begin).unwrap());
    assert_eq!(taken, ["stop_second", "transition", "start_prim"]);

    // M04, and what of M07 is about a node that was away.
    let change = "head -c 70000000 /dev/urandom >new; rm removed; mv d e; \
                  printf x | dd of=large bs=1 seek=30000000 conv=notrunc 2>&1; sync";
    service.script("node2", change).unwrap();
    let begin = now();
    let process = service.application("node2").unwrap();
    service.tandem("node1", &["start"]).unwrap();
    service.in_sync("node2", "node1").unwrap();
    let looks = service.watch.looks(1, begin);
    let moves = |l: &Look| l.shown == Some((State::Second, Readiness::Transient));
    assert!(looks.iter().any(moves), "the resync was not shown");
    let looks = service.watch.looks(2, begin);
    assert!(
        looks.iter().any(|l| l.resyncs),
        "its progress was not shown"
    );
    let shown = service.watch.shown(2, begin);
    let states: Vec<_> = shown.iter().map(|(state, _)| *state).collect();
    assert!(states.iter().all(|s| s.serves()), "{shown:?}");
    let heard = service.heard().unwrap();
    assert_eq!(heard.servers(begin), [("node2".to_string(), process)]);
    let pause = heard.longest_pause(begin);
    println!("M04: the longest pause of the application was {pause:?}");
    assert!(pause < Duration::from_millis(1500), "{pause:?}");
    service.ends_well("node2", true).unwrap();
}

#[test]
fn m05_a_restart_is_in_place() {
    let Some(mut service) = service("M05", &Options::default()) else {
        return;
    };
    service.ask().unwrap();
    let before = service.application("node1").unwrap();
    let begin = now();
    service.tandem("node1", &["restart"]).unwrap();
    service.client().unwrap().answered_by("node1").unwrap();
    let after = service.application("node1").unwrap();
    assert_ne!(before, after);
    let calls = names(&service.calls("node1", begin).unwrap());
    let scripts: Vec<_> = calls.iter().filter(|c| *c != "transition").collect();
    assert_eq!(
        scripts,
        ["stop_prim", "stop_both", "start_both", "start_prim"]
    );
    assert_eq!(names(&service.calls("node2", begin).unwrap()), [""; 0]);
    assert_eq!(
        service.watch.shown(2, begin),
        [(State::Second, Readiness::Ready)]
    );
    let states = service.watch.shown(1, begin);
    assert!(states.iter().all(|(s, _)| *s == State::Prim), "{states:?}");
    service.ends_well("node1", true).unwrap();
}

#[test]
fn m07_what_changes_here_changes_there_and_only_that_travels() {
    let Some(mut service) = service("M07", &Options::default()) else {
        return;
    };
    service.ask().unwrap();
    let plant = "head -c 50000000 /dev/urandom >large; mkdir a; echo 1 >a/one; echo 2 >a/two";
    service.script("node1", plant).unwrap();
    let change = "echo 3 >>a/one; rm a/two; mv a b; chmod 600 b/one";
    service.script("node1", change).unwrap();
    let seen = service
        .script("node2", "cat b/one; stat -c %a b/one; ls b")
        .unwrap();
    assert_eq!(seen, "1\n3\n600\none\n");
    for write in ["echo 1 >new", "echo 1 >>b/one", "rm b/one", "mkdir c"] {
        let refused = service.script("node2", write);
        let said = format!("{:#}", refused.unwrap_err());
        assert!(said.contains("Read-only file system"), "{write}: {said}");
    }
    service.tandem("node2", &["stop"]).unwrap();
    service.ready("node1", State::Alone).unwrap();
    let change = "for at in 5 20 45; do printf x | dd of=large bs=1 seek=${at}000000 \
                  conv=notrunc 2>&1; done; mkdir c; mv b/one c/one; echo 4 >c/two; sync";
    service.script("node1", change).unwrap();
    let sent = |service: &Service| {
        let daemon = service.module("node1").unwrap().daemon.unwrap();
        daemon.counters.bytes_sent
    };
    let before = sent(&service);
    service.tandem("node2", &["start"]).unwrap();
    service.in_sync("node1", "node2").unwrap();
    let travelled = sent(&service) - before;
    println!("M07: {travelled} bytes travelled");
    assert!(travelled < 5_000_000, "{travelled} bytes travelled");
    let seen = service.script("node2", "cat c/one c/two").unwrap();
    assert_eq!(seen, "1\n3\n4\n");
    service.ends_well("node1", true).unwrap();
}
