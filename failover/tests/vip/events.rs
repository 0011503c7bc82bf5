//! What is told about addresses that are held, and what is done about it.

use std::sync::mpsc::Receiver;
use std::time::Duration;

use tandem_failover::io::vip::{Mac, VipEvent};

use super::connections::touch;
use super::net::{Switch, within};
use super::{SECOND, V4, V6, both, node, runs, vip};

/// The next thing that is told, in the time a watcher may take.
fn next(events: &Receiver<VipEvent>) -> Option<VipEvent> {
    events.recv_timeout(SECOND).ok()
}

/// Nothing more is told for longer than a look takes to come round.
fn quiet(events: &Receiver<VipEvent>) {
    let told = events.recv_timeout(Duration::from_millis(2500));
    assert!(told.is_err(), "{told:?}");
}

fn lost(address: &str) -> Option<VipEvent> {
    Some(VipEvent::Lost {
        address: address.parse().unwrap(),
    })
}

#[test]
fn a_removal_behind_our_back_is_told_once() {
    if !runs("a_removal_behind_our_back_is_told_once") {
        return;
    }
    let switch = Switch::new();
    let one = node(&switch, "one", 1);
    let (addresses, events) = one.manager();
    addresses.take(&both(), false).unwrap();
    for address in [V4, V6] {
        one.strip(address);
        assert_eq!(next(&events), lost(address));
    }
    quiet(&events);
    addresses.take(&both(), false).unwrap();
    assert!(one.has(V4) && one.has(V6));
    one.strip(V4);
    assert_eq!(next(&events), lost(V4), "also after it was taken again");
    addresses.release(&both()).unwrap();
    // A release is no loss, and what is not held is nobody's business.
    one.give("eth0", V4, 24);
    one.strip(V4);
    quiet(&events);
}

#[test]
fn an_interface_that_goes_down_and_comes_up_is_told_and_announced() {
    if !runs("an_interface_that_goes_down_and_comes_up_is_told_and_announced") {
        return;
    }
    let switch = Switch::new();
    let (one, client) = (node(&switch, "one", 1), node(&switch, "client", 9));
    let (addresses, events) = one.manager();
    addresses.take(&both(), false).unwrap();
    let interface = || "eth0".to_string();
    let down = Some(VipEvent::LinkDown {
        interface: interface(),
    });
    let up = Some(VipEvent::LinkUp {
        interface: interface(),
    });
    touch(&client, V4);
    touch(&client, V6);
    // The burst of the take is over, and the next announcement by itself far.
    std::thread::sleep(Duration::from_millis(5500));

    switch.plug("one", false);
    assert_eq!(next(&events), down, "the cable is pulled");
    client.mislead("eth0", V4);
    client.mislead("eth0", V6);
    switch.plug("one", true);
    assert_eq!(next(&events), up);
    let mac = Some(one.mac("eth0"));
    for address in [V4, V6] {
        let learned = within(SECOND, || client.neighbour(address) == mac);
        assert!(learned, "{address} was not announced again");
    }
    one.set_up("eth0", false);
    let mut told = vec![next(&events), next(&events)];
    // The kernel removes addresses of IPv6 from an interface that is switched off.
    told.sort_by_key(|event| matches!(event, Some(VipEvent::Lost { .. })));
    assert_eq!(told, [down.clone(), lost(V6)]);
    addresses.release(&both()).unwrap();
    one.set_up("eth0", true);
    quiet(&events);

    one.set_up("eth0", false);
    addresses.take(&[vip(V4)], true).unwrap();
    assert_eq!(next(&events), down, "known from the beginning");
}

#[test]
fn a_new_hardware_address_is_announced() {
    if !runs("a_new_hardware_address_is_announced") {
        return;
    }
    let switch = Switch::new();
    let (one, client) = (node(&switch, "one", 1), node(&switch, "client", 9));
    let (addresses, _events) = one.manager();
    addresses.take(&both(), false).unwrap();
    touch(&client, V4);
    touch(&client, V6);
    // The burst of the take is over.
    std::thread::sleep(Duration::from_millis(5500));
    let new = Mac([2, 0x54, 0x4e, 0, 0, 0x77]);
    one.set_mac("eth0", new);
    for address in [V4, V6] {
        let learned = within(SECOND, || client.neighbour(address) == Some(new));
        assert!(learned, "{address} was not announced again");
    }
}

#[test]
fn somebody_elses_claim_is_told_and_answered() {
    if !runs("somebody_elses_claim_is_told_and_answered") {
        return;
    }
    let switch = Switch::new();
    let (one, client) = (node(&switch, "one", 1), node(&switch, "client", 9));
    let stranger = node(&switch, "stranger", 7);
    let (addresses, events) = one.manager();
    addresses.take(&both(), true).unwrap();
    touch(&client, V4);
    touch(&client, V6);
    let (mac, wrong) = (Some(one.mac("eth0")), stranger.mac("eth0"));
    // The burst of the take is over.
    std::thread::sleep(Duration::from_millis(5500));
    assert_eq!(
        events.try_iter().count(),
        0,
        "own announcements are no conflict"
    );
    let (claims, _events) = stranger.manager();
    for address in [V4, V6] {
        claims.take(&[vip(address)], false).unwrap();
        let told = next(&events);
        claims.release(&[vip(address)]).unwrap();
        let conflict = VipEvent::Conflict {
            address: address.parse().unwrap(),
            mac: wrong,
        };
        assert_eq!(told, Some(conflict));
        let back = within(SECOND, || client.neighbour(address) == mac);
        assert!(back, "{address} was not announced again");
    }
    // A probe is a question: it is answered by the kernel and told to nobody.
    std::thread::sleep(SECOND);
    let _ = events.try_iter().count();
    assert!(claims.take(&both(), true).is_err());
    assert_eq!(events.try_iter().count(), 0);
}
