//! Virtual addresses on real interfaces: nodes in network namespaces, a switch between them, and a
//! client whose memory of its neighbours is looked at. Needs root.
#![allow(clippy::unwrap_used)]

mod connections;
mod events;
mod net;

use std::io::Write;
use std::net::UdpSocket;
use std::time::{Duration, Instant};

use net::{Node, Switch, within};
use tandem_failover::config::VirtualIp;
use tandem_failover::io::vip::VipError;

const V4: &str = "10.66.0.50";
const V6: &str = "fd66::50";
const SECOND: Duration = Duration::from_secs(1);

/// Says why a test cannot run here; where all must run that is a failure.
fn runs(test: &str) -> bool {
    if nix::unistd::geteuid().is_root() {
        return true;
    }
    let required = std::env::var_os("TANDEM_REQUIRE_CLUSTER").is_some();
    assert!(!required, "{test} cannot run: it needs root");
    writeln!(std::io::stderr(), "skipped: {test}: it needs root").ok();
    false
}

fn vip(address: &str) -> VirtualIp {
    VirtualIp {
        address: address.parse().unwrap(),
        prefix: None,
        interface: None,
    }
}

fn both() -> Vec<VirtualIp> {
    vec![vip(V4), vip(V6)]
}

/// A node at the switch with the number in its addresses.
fn node(switch: &Switch, port: &'static str, number: u8) -> Node {
    let v4 = format!("10.66.0.{number}");
    let v6 = format!("fd66::{number}");
    switch.node(port, &[(&v4, 24), (&v6, 64)])
}

/// The address a node speaks from when it speaks to another.
fn source(node: &Node, to: &'static str) -> String {
    node.run(move || {
        let socket = UdpSocket::bind(if to.starts_with('[') {
            "[::]:0"
        } else {
            "0.0.0.0:0"
        });
        let socket = socket.unwrap();
        socket.connect(to).unwrap();
        socket.local_addr().unwrap().ip().to_string()
    })
}

#[test]
fn addresses_come_to_the_interface_of_their_network_and_go() {
    if !runs("addresses_come_to_the_interface_of_their_network_and_go") {
        return;
    }
    let switch = Switch::new();
    let one = node(&switch, "one", 1);
    let other = Switch::new();
    other.cable(&one, "other", "eth1");
    one.give("eth1", "10.67.0.1", 24);
    let alone = one.addresses();
    let (addresses, events) = one.manager();
    assert_eq!(addresses.present(&both()).unwrap(), [false, false]);

    let begin = Instant::now();
    addresses.take(&both(), true).unwrap();
    let took = begin.elapsed();
    assert!(took < Duration::from_millis(600), "{took:?}");
    assert_eq!(addresses.present(&both()).unwrap(), [true, true]);
    let mut expected = alone.clone();
    expected.push(format!("eth0 {V4}/24"));
    expected.push(format!("eth0 {V6}/64"));
    expected.sort();
    assert_eq!(one.addresses(), expected);

    // What is there is not asked for again, so this is quick, too.
    let begin = Instant::now();
    addresses.take(&both(), true).unwrap();
    let took = begin.elapsed();
    assert!(took < Duration::from_millis(150), "{took:?}");
    assert_eq!(one.addresses(), expected);

    // What the node begins by itself does not come from an address that may go.
    assert_eq!(source(&one, "10.66.0.51:9"), "10.66.0.1");
    assert_eq!(source(&one, "[fd66::51]:9"), "fd66::1");

    let mut elsewhere = both();
    elsewhere[0].interface = Some("eth1".into());
    assert_eq!(addresses.present(&elsewhere).unwrap(), [false, true]);

    let begin = Instant::now();
    addresses.release(&both()).unwrap();
    let took = begin.elapsed();
    assert!(took < Duration::from_millis(150), "{took:?}");
    assert_eq!(one.addresses(), alone);
    addresses.release(&both()).unwrap();
    assert_eq!(addresses.present(&both()).unwrap(), [false, false]);
    let told: Vec<_> = events.try_iter().collect();
    assert_eq!(told, [], "nothing happened to the addresses");
}

#[test]
fn a_place_that_is_not_clear_is_refused_with_the_remedy() {
    if !runs("a_place_that_is_not_clear_is_refused_with_the_remedy") {
        return;
    }
    let switch = Switch::new();
    let one = node(&switch, "one", 1);
    let before = one.addresses();
    let (addresses, _events) = one.manager();
    let mut wanted = both();
    wanted.push(vip("192.168.77.1"));
    let refused = addresses.take(&wanted, false).unwrap_err();
    assert!(matches!(refused, VipError::NoNetwork { .. }), "{refused}");
    assert_eq!(one.addresses(), before, "none of them was taken");

    let mut named = vip("192.168.77.1");
    named.interface = Some("eth7".into());
    let refused = addresses.take(&[named.clone()], false).unwrap_err();
    assert!(refused.to_string().contains("eth7"), "{refused}");
    named.interface = Some("eth0".into());
    let refused = addresses.take(&[named.clone()], false).unwrap_err();
    assert!(refused.to_string().contains("`prefix`"), "{refused}");
    named.prefix = Some(32);
    addresses.take(&[named], true).unwrap();
    assert!(one.has("192.168.77.1"));

    let setting = "/proc/sys/net/ipv6/conf/eth0/disable_ipv6";
    one.run(move || std::fs::write(setting, "1").unwrap());
    let mut off = vip(V6);
    off.interface = Some("eth0".into());
    off.prefix = Some(64);
    let refused = addresses.take(&[off], true).unwrap_err();
    assert!(refused.to_string().contains("switch IPv6 on"), "{refused}");
}

#[test]
fn an_address_on_the_wrong_interface_is_moved() {
    if !runs("an_address_on_the_wrong_interface_is_moved") {
        return;
    }
    let switch = Switch::new();
    let one = node(&switch, "one", 1);
    let other = Switch::new();
    other.cable(&one, "other", "eth1");
    one.give("eth1", V4, 32);
    one.give("eth1", V6, 128);
    let (addresses, _events) = one.manager();
    addresses.take(&both(), true).unwrap();
    let found = one.addresses();
    assert!(
        found.iter().all(|line| line.starts_with("eth0 ")),
        "{found:?}"
    );
    assert!(one.has(V4) && one.has(V6), "{found:?}");
}

#[test]
fn neighbours_follow_a_move_within_a_second() {
    if !runs("neighbours_follow_a_move_within_a_second") {
        return;
    }
    let switch = Switch::new();
    let (one, two) = (node(&switch, "one", 1), node(&switch, "two", 2));
    let client = node(&switch, "client", 9);
    let (first, _events) = one.manager();
    let (second, _events) = two.manager();
    first.take(&both(), true).unwrap();
    let follows = |node: &Node| {
        let mac = Some(node.mac("eth0"));
        within(SECOND, || {
            client.neighbour(V4) == mac && client.neighbour(V6) == mac
        })
    };
    connections::touch(&client, V4);
    connections::touch(&client, V6);
    assert!(follows(&one), "the client talked to it");

    // From here on the client asks nobody: it believes what it hears.
    first.release(&both()).unwrap();
    second.take(&both(), true).unwrap();
    assert!(
        follows(&two),
        "{:?} {:?}",
        client.neighbour(V4),
        client.neighbour(V6)
    );
    second.release(&both()).unwrap();
    first.take(&both(), false).unwrap();
    assert!(follows(&one), "and back");

    // As after the loss of a node: it has not given up anything.
    switch.plug("one", false);
    second.take(&both(), true).unwrap();
    assert!(follows(&two), "the other one is cut off");
}

#[test]
fn an_address_in_use_is_refused() {
    if !runs("an_address_in_use_is_refused") {
        return;
    }
    let switch = Switch::new();
    let (one, stranger) = (node(&switch, "one", 1), node(&switch, "stranger", 7));
    let mac = stranger.mac("eth0");
    let before = one.addresses();
    let (addresses, _events) = one.manager();
    for used in [V4, V6] {
        let prefix = if used == V4 { 24 } else { 64 };
        stranger.give("eth0", used, prefix);
        let refused = addresses.take(&both(), true).unwrap_err();
        match &refused {
            VipError::InUse {
                address,
                mac: found,
                interface,
            } => {
                assert_eq!(address.to_string(), used);
                assert_eq!((*found, interface.as_str()), (mac, "eth0"));
            }
            _ => panic!("{refused}"),
        }
        assert!(refused.to_string().contains(&mac.to_string()), "{refused}");
        assert_eq!(one.addresses(), before, "none of them was taken");
        stranger.strip(used);
    }
    addresses.take(&both(), true).unwrap();
    addresses.release(&both()).unwrap();
    stranger.give("eth0", V4, 24);
    // Asked for without a probe it is taken.
    addresses.take(&both(), false).unwrap();
    assert!(one.has(V4) && one.has(V6));
}

#[test]
fn a_release_overtakes_the_probe() {
    if !runs("a_release_overtakes_the_probe") {
        return;
    }
    let switch = Switch::new();
    let one = node(&switch, "one", 1);
    let (addresses, _events) = one.manager();
    let slow = addresses.clone();
    let taking = std::thread::spawn(move || slow.take(&both(), true));
    std::thread::sleep(Duration::from_millis(100));
    let begin = Instant::now();
    addresses.release(&both()).unwrap();
    assert!(
        begin.elapsed() < Duration::from_millis(150),
        "it waits for nothing"
    );
    let taken = taking.join().unwrap();
    assert!(
        matches!(taken, Err(VipError::Overtaken { .. })),
        "{taken:?}"
    );
    assert!(!one.has(V4) && !one.has(V6));
}

#[test]
fn what_a_killed_manager_left_is_found_and_removed() {
    if !runs("what_a_killed_manager_left_is_found_and_removed") {
        return;
    }
    let switch = Switch::new();
    let one = node(&switch, "one", 1);
    let (addresses, _events) = one.manager();
    addresses.take(&both(), false).unwrap();
    // Nothing is done at the end of a worker: for the kernel this is as if it was killed.
    drop(addresses);
    std::thread::sleep(Duration::from_millis(100));
    assert!(one.has(V4) && one.has(V6));
    let (addresses, _events) = one.manager();
    assert_eq!(addresses.present(&both()).unwrap(), [true, true]);
    addresses.release(&both()).unwrap();
    assert!(!one.has(V4) && !one.has(V6));
}

#[test]
fn many_ask_at_once_on_a_node_with_many_addresses() {
    if !runs("many_ask_at_once_on_a_node_with_many_addresses") {
        return;
    }
    let switch = Switch::new();
    let one = node(&switch, "one", 1);
    // More than the kernel lists in one piece.
    one.give_many("eth0", 600);
    let (addresses, events) = one.manager();
    addresses.take(&both(), true).unwrap();
    let ask = || {
        let addresses = addresses.clone();
        std::thread::spawn(move || {
            for _ in 0..20 {
                assert_eq!(addresses.present(&both()).unwrap(), [true, true]);
                addresses.release(&[vip("10.66.0.99")]).unwrap();
            }
        })
    };
    let asking: Vec<_> = (0..6).map(|_| ask()).collect();
    asking.into_iter().for_each(|thread| thread.join().unwrap());
    assert_eq!(events.try_iter().count(), 0);
}

#[test]
fn the_nodes_own_address_stays_when_the_virtual_one_was_first() {
    if !runs("the_nodes_own_address_stays_when_the_virtual_one_was_first") {
        return;
    }
    let switch = Switch::new();
    let one = switch.node("one", &[]);
    let setting = "/proc/sys/net/ipv4/conf/eth0/promote_secondaries";
    one.run(move || std::fs::write(setting, "0").unwrap());
    let (addresses, _events) = one.manager();
    let mut first = vip(V4);
    first.interface = Some("eth0".into());
    first.prefix = Some(24);
    addresses.take(&[first.clone()], false).unwrap();
    one.give("eth0", "10.66.0.1", 24);
    addresses.release(&[first]).unwrap();
    assert_eq!(one.addresses(), ["eth0 10.66.0.1/24"]);
    let after = one.run(move || std::fs::read_to_string(setting).unwrap());
    assert_eq!(after.trim(), "0", "the setting is as before");
}
