//! Power cuts of nodes that are led by managers (M09 to M12): the application moves, or goes on, or
//! waits with the reason, and nothing that was answered is missing. A cut here takes all processes
//! of a node, its memory by its boot id, and leaves the disk what the kernel had; what a disk
//! itself loses is the subject of `tests/power`.

#![allow(
    clippy::unwrap_used,
    reason = "a failed set-up ends the test, with its line"
)]

use std::time::Duration;
use tandem_tests::managed_world::{SOON, STALL_LIMIT, World};
use tandem_tests::sys::boot_clock;

/// From a power cut to the application on the other node, beyond the detection.
const TAKEN_OVER: Duration = Duration::from_secs(1);
const WITNESS: [&str; 2] = ["--witness", "tandem"];
/// What must not travel when a node returns.
const PLANTED: u64 = 48 << 20;

fn world(test: &str, more: &[&str], keys: &str) -> Option<World> {
    World::up(test, env!("CARGO_BIN_EXE_inside"), more, keys)
}

fn since(at: u64) -> Duration {
    Duration::from_micros(boot_clock() - at)
}

fn stays(world: &World, node: &str, state: &str, time: Duration) {
    let began = boot_clock();
    while since(began) < time {
        assert_eq!(world.node(node).unwrap().state, state);
        assert!(!world.eyes().has(node) || state != "WAIT");
        std::thread::sleep(Duration::from_millis(50));
    }
}

/// Bytes that a node's daemon has sent since it started.
fn sent(world: &World, node: &str) -> u64 {
    let module = world.module(node).unwrap();
    module["daemon"]["counters"]["bytes_sent"].as_u64().unwrap()
}

#[test]
fn m09_the_serving_node_loses_power_and_the_other_goes_on() {
    let Some(mut world) = world("M09", &WITNESS, "") else {
        return;
    };
    let plant = format!("head -c {PLANTED} /dev/urandom >/mnt/disk/data/planted; sync");
    world.exec("node1", &["sh", "-c", &plant]).unwrap();
    let cut = boot_clock();
    world.power_off("node1").unwrap();
    world.is_answered_by("node2", SOON).unwrap();
    world.is_in("node2", "ALONE", SOON).unwrap();
    let before = sent(&world, "node2");
    world.power_on("node1").unwrap();
    world.is_settled("node2", "node1", SOON).unwrap();
    let travelled = sent(&world, "node2") - before;
    let notes = world.ends_well("node2").unwrap();
    world.everything_is_found("node1", &[]).unwrap();
    let started = Duration::from_micros(notes.when("node2", "start", cut).unwrap() - cut);
    println!("application after {started:?}, {travelled} bytes travelled");
    println!("pause {:?}", notes.pause(cut, cut + 10_000_000));
    assert!(started < STALL_LIMIT + TAKEN_OVER, "{started:?}");
    assert!(travelled < PLANTED / 2, "{travelled} bytes");
}

fn the_following_node_loses_power(world: &mut World) {
    let cut = boot_clock();
    world.power_off("node2").unwrap();
    world.is_in("node1", "ALONE", SOON).unwrap();
    world.is_answered_by("node1", SOON).unwrap();
    world.power_on("node2").unwrap();
    world.is_settled("node1", "node2", SOON).unwrap();
    let notes = world.ends_well("node1").unwrap();
    world.everything_is_found("node2", &[]).unwrap();
    let pause = notes.pause(cut, boot_clock());
    println!("pause {pause:?}");
    assert!(pause < STALL_LIMIT + TAKEN_OVER, "{pause:?}");
    assert_eq!(notes.instances.len(), 1, "it was never started again");
}

#[test]
fn m10_the_following_node_loses_power_and_the_application_goes_on() {
    if let Some(mut world) = world("M10", &[], "") {
        the_following_node_loses_power(&mut world);
    }
}

#[test]
fn m10_with_a_silent_witness_the_application_stops_with_the_reason() {
    let Some(mut world) = world("M10, a silent witness", &WITNESS, "") else {
        return;
    };
    world.end_witness().unwrap();
    let cut = boot_clock();
    world.power_off("node2").unwrap();
    world.says("node1", "witness-silent", SOON).unwrap();
    world.is_in("node1", "WAIT", SOON).unwrap();
    assert!(!world.eyes().has("node1"));
    stays(&world, "node1", "WAIT", Duration::from_secs(2));
    let _witness = world.start_witness("node1").unwrap();
    world.is_in("node1", "ALONE", SOON).unwrap();
    world.power_on("node2").unwrap();
    world.is_settled("node1", "node2", SOON).unwrap();
    let notes = world.ends_well("node1").unwrap();
    notes.when("node1", "stopped", cut).unwrap();
    world.everything_is_found("node2", &[]).unwrap();
}

#[test]
fn m11_both_lose_power_and_return_in_their_roles() {
    let Some(mut world) = world("M11", &[], "") else {
        return;
    };
    for first in ["node1", "node2"] {
        let second = if first == "node1" { "node2" } else { "node1" };
        world.power_off(first).unwrap();
        world.power_off(second).unwrap();
        world.power_on(second).unwrap();
        world.power_on(first).unwrap();
        world.is_settled("node1", "node2", SOON).unwrap();
        world.is_answered_by("node1", SOON).unwrap();
    }
    world.ends_well("node1").unwrap();
    world.everything_is_found("node1", &[]).unwrap();
    world.everything_is_found("node2", &[]).unwrap();
}

#[test]
fn m12_both_lose_power_and_one_returns_it_waits() {
    let Some(mut world) = world("M12", &["--isolation", "alone"], "") else {
        return;
    };
    world.power_off("node2").unwrap();
    world.power_off("node1").unwrap();
    for node in ["node1", "node2"] {
        world.power_on(node).unwrap();
        world.says(node, "lost", SOON).unwrap();
        stays(&world, node, "WAIT", Duration::from_secs(5));
        let shown = world
            .tandem(node, &["why"])
            .unwrap_or_else(|e| format!("{e:#}"));
        assert!(shown.contains("lost"), "{shown}");
        if node == "node1" {
            world.power_off(node).unwrap();
        }
    }
    world.power_on("node1").unwrap();
    world.is_settled("node1", "node2", SOON).unwrap();
    world.is_answered_by("node1", SOON).unwrap();
    world.ends_well("node1").unwrap();
    world.everything_is_found("node2", &[]).unwrap();
}

/// Both lose power, one alone returns, and serves after its time; then the other returns.
fn one_returns_and_serves(world: &mut World, (one, other): (&str, &str)) {
    world.power_off("node1").unwrap();
    world.power_off("node2").unwrap();
    let returned = boot_clock();
    world.power_on(one).unwrap();
    stays(world, one, "WAIT", AFTER - Duration::from_millis(500));
    world.is_in(one, "ALONE", SOON).unwrap();
    let served = since(returned);
    println!("serves after {served:?}");
    assert!(served > AFTER && served < AFTER + STALL_LIMIT, "{served:?}");
    world.is_answered_by(one, SOON).unwrap();
    world.power_on(other).unwrap();
    world.is_settled(one, other, SOON).unwrap();
    world.ends_well(one).unwrap();
    world.everything_is_found(other, &[]).unwrap();
}

/// `after_power_loss` of these tests.
const AFTER: Duration = Duration::from_secs(4);
const AFTER_WORDS: [&str; 2] = ["--after-power-loss", "4s"];

#[test]
fn m12_with_a_witness_the_one_that_returns_serves_after_a_time() {
    let more = [WITNESS, AFTER_WORDS].concat();
    if let Some(mut world) = world("M12, a witness", &more, "") {
        one_returns_and_serves(&mut world, ("node2", "node1"));
    }
}

/// By policy `wait` that is the one that served.
#[test]
fn m12_with_a_time_set_the_one_that_returns_serves_after_it() {
    if let Some(mut world) = world("M12, a time", &AFTER_WORDS, "") {
        one_returns_and_serves(&mut world, ("node1", "node2"));
    }
}
