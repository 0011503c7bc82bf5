//! Planned moves of a mirror led by failover managers, under load: the addresses and what a client
//! outside sees of them, swaps, the preferred node (acceptance rows M06, M20, M21).

#![allow(
    clippy::unwrap_used,
    reason = "a failed set-up ends the test, with its line"
)]

use std::time::{Duration, Instant};
use tandem_repl::control::State;
use tandem_tests::managed::program::now;
use tandem_tests::managed::scripts::names;
use tandem_tests::managed::{Options, REFERENCE, Service};
use tandem_tests::running::Load;

/// The module's second address, and the outside node's own in the same network.
const ADDRESS6: &str = "fd77::100";
const OUTSIDE6: &str = "fd77::3/64";

fn service(test: &str, options: &Options<'_>) -> Option<Service> {
    Service::up(test, env!("CARGO_BIN_EXE_inside"), options)
}

/// The hardware address of a node's card, as labs give it.
fn card(node: u8) -> String {
    format!("02:54:4e:00:00:0{node}")
}

/// The entry of the outside node for the second address.
fn neighbour6(service: &Service) -> String {
    let show = ["ip", "-6", "neigh", "show", ADDRESS6];
    service.cluster.exec("node3", &show).unwrap()
}

#[test]
fn m06_the_addresses_are_where_the_service_is_and_clients_follow() {
    let second = "(address: \"fd77::100\", prefix: 64, interface: \"eth0\")";
    let options = Options {
        second: Some((second, ADDRESS6)),
        lab: &["--isolation", "ping", "--ping", REFERENCE],
        ..Options::default()
    };
    let Some(mut service) = service("M06", &options) else {
        return;
    };
    let add = ["ip", "-6", "addr", "add", OUTSIDE6, "dev", "eth0", "nodad"];
    service.cluster.exec("node3", &add).unwrap();
    service.ask_at(&[ADDRESS6]).unwrap();
    assert_eq!(service.neighbour(), Some(card(1)));
    assert!(neighbour6(&service).contains(&card(1)));

    // A planned move.
    let begin = now();
    service.tandem("node1", &["swap"]).unwrap();
    follows(&service, begin, 2);
    service.in_sync("node2", "node1").unwrap();

    // One that is not: the daemon dies, the application does not know, its clients are reset.
    let begin = now();
    let daemon = service.module("node2").unwrap().daemon.unwrap().pid;
    let application = service.application("node2").unwrap();
    // It cannot say goodbye to anybody while it is stopped.
    service
        .cluster
        .exec("node2", &["kill", "-STOP", &application.to_string()])
        .unwrap();
    service.kill("node2", daemon).unwrap();
    let started = Instant::now();
    let ends = loop {
        let heard = service.heard().unwrap();
        let ends: Vec<_> = heard.idle_ends(begin).into_iter().cloned().collect();
        if ends.len() >= 2 {
            break ends;
        }
        assert!(started.elapsed() < Duration::from_secs(3), "{ends:?}");
        std::thread::sleep(Duration::from_millis(20));
    };
    for end in &ends {
        assert_eq!(end.how, "ConnectionReset", "{ends:?}");
    }
    service
        .cluster
        .exec("node2", &["kill", "-CONT", &application.to_string()])
        .ok();
    let serving = serving(&service);
    service.client().unwrap().answered_by(serving).unwrap();
    service.ends_well(serving, false).unwrap();
}

/// Whichever serves in the end.
fn serving(service: &Service) -> &'static str {
    let started = Instant::now();
    loop {
        for node in ["node1", "node2"] {
            let module = service.module(node).unwrap();
            if module.state == State::Prim && module.running.addresses {
                return if node == "node1" { "node1" } else { "node2" };
            }
        }
        assert!(started.elapsed() < Duration::from_secs(30), "nobody serves");
        std::thread::sleep(Duration::from_millis(50));
    }
}

/// Within a second after the address came to a node the outside node sends to it.
fn follows(service: &Service, begin: u64, node: u8) {
    let started = Instant::now();
    let limit = Duration::from_secs(20);
    while service.neighbour() != Some(card(node)) {
        assert!(started.elapsed() < limit, "{:?}", service.neighbour());
        std::thread::sleep(Duration::from_millis(5));
    }
    let known = now();
    let came = loop {
        if let Some(came) = service.watch.address_came(node.into(), begin) {
            break came;
        }
        assert!(started.elapsed() < limit, "the address did not come");
        std::thread::sleep(Duration::from_millis(5));
    };
    let took = Duration::from_micros(known.saturating_sub(came));
    println!("M06: the outside node followed after {took:?}");
    assert!(took < Duration::from_secs(1), "{took:?}");
    while !neighbour6(service).contains(&card(node)) {
        let took = now().saturating_sub(came);
        assert!(took < 1_000_000, "{}", neighbour6(service));
    }
    let name = format!("node{node}");
    service.client().unwrap().answered_by(&name).unwrap();
}

#[test]
fn m20_a_swap_under_load_loses_nothing() {
    let Some(mut service) = service("M20", &Options::default()) else {
        return;
    };
    service.ask().unwrap();
    let (mut from, mut to) = ("node1", "node2");
    for round in 0..3 {
        // The second application writes until its node hands over.
        let mut load = Load::start(&service.cluster, from).unwrap();
        load.goes_on(100).unwrap();
        let begin = now();
        // Where it is said makes no difference.
        let said = if round == 1 { to } else { from };
        service.tandem(said, &["swap"]).unwrap();
        load.wait().unwrap();
        service.client().unwrap().answered_by(to).unwrap();
        service.in_sync(to, from).unwrap();
        let heard = service.heard().unwrap();
        let pause = heard.longest_pause(begin);
        println!("M20: nobody answered for {pause:?}");
        assert!(pause < Duration::from_millis(2500), "{pause:?}");
        let names_of = |node| {
            let calls = service.calls(node, begin).unwrap();
            names(&calls)
        };
        assert_eq!(
            names_of(from),
            ["stop_prim", "transition", "start_second"],
            "round {round}"
        );
        assert_eq!(
            names_of(to),
            ["stop_second", "transition", "start_prim"],
            "round {round}"
        );
        let stopped = service.calls(from, begin).unwrap();
        let started = service.calls(to, begin).unwrap();
        let last = started.last().unwrap();
        assert!(stopped[1].at < last.at, "the new one began before the end");
        assert_eq!(last.action, "swap");
        for node in [from, to] {
            load.is_found(&service.replica(node)).unwrap();
        }
        (from, to) = (to, from);
    }
    service.ends_well(from, true).unwrap();
}

#[test]
fn m21_the_preferred_node_serves_again_once_it_can() {
    let options = Options {
        settings: "preferred: \"node1\",",
        ..Options::default()
    };
    let Some(mut service) = service("M21", &options) else {
        return;
    };
    service.ask().unwrap();
    service.tandem("node1", &["stop"]).unwrap();
    service.ready("node2", State::Alone).unwrap();
    service
        .script("node2", "head -c 20000000 /dev/urandom >new; sync")
        .unwrap();
    let begin = now();
    service.tandem("node1", &["start"]).unwrap();
    service.in_sync("node1", "node2").unwrap();
    service.client().unwrap().answered_by("node1").unwrap();
    let calls = names(&service.calls("node1", begin).unwrap());
    let second = calls.iter().position(|c| c == "start_second").unwrap();
    let prim = calls.iter().position(|c| c == "start_prim").unwrap();
    assert!(second < prim, "{calls:?}");
    // And there it stays.
    let since = now();
    std::thread::sleep(Duration::from_secs(2));
    assert_eq!(service.watch.shown(1, since).len(), 1);
    service.ends_well("node1", true).unwrap();
}
