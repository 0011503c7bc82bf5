//! Nodes that are led by managers and do not reach each other, or stand still (M13 to M17, M25):
//! what each policy and the witness make of it, where the address and the application are, and
//! that all is one again when it heals.

#![allow(
    clippy::unwrap_used,
    reason = "a failed set-up ends the test, with its line"
)]

use std::time::Duration;
use tandem_tests::cluster::Node;
use tandem_tests::managed_world::{SOON, STALL_LIMIT, World, notes};
use tandem_tests::sys::boot_clock;

const WITNESS: [&str; 2] = ["--witness", "tandem"];
/// An address on the third node, which neither of the two is.
const PING: [&str; 4] = ["--isolation", "ping", "--ping", "10.77.0.3"];

fn world(test: &str, more: &[&str]) -> Option<World> {
    World::up(test, env!("CARGO_BIN_EXE_inside"), more, "")
}

fn pass(time: Duration) {
    std::thread::sleep(time);
}

fn states(nodes: &[Node]) -> [&str; 2] {
    [&nodes[0].state, &nodes[1].state]
}

fn are(world: &World, wanted: [&str; 2]) {
    let what = format!("the nodes are {wanted:?}");
    let hold = |nodes: &[Node]| states(nodes) == wanted;
    world.wait_until(&what, SOON, hold).unwrap();
}

/// Starts of the application so far.
fn starts(world: &World) -> usize {
    let events = notes::events(world.notes()).unwrap();
    events.iter().filter(|e| e.what == "started").count()
}

#[test]
fn m13_with_policy_alone_both_serve_and_one_yields() {
    let Some(mut world) = world("M13", &["--isolation", "alone"]) else {
        return;
    };
    world.lab("cut", &["node1"]).unwrap();
    are(&world, ["ALONE", "ALONE"]);
    world.is_answered_by("node2", SOON).unwrap();
    // On both sides somebody writes the same file.
    for node in ["node1", "node2"] {
        let write = format!("echo {node} >/mnt/disk/data/split; sync");
        world.exec(node, &["sh", "-c", &write]).unwrap();
    }
    let healed = boot_clock();
    world.lab("heal", &[]).unwrap();
    world.is_settled("node1", "node2", SOON).unwrap();
    world.is_answered_by("node1", SOON).unwrap();
    assert!(world.eyes().has("node1") && !world.eyes().has("node2"));
    let last = *world.eyes().two().last().unwrap();
    println!(
        "one address {} ms after the healing",
        last.saturating_sub(healed) / 1000
    );
    let kept = world
        .exec("node1", &["cat", "/mnt/disk/data/split"])
        .unwrap();
    assert_eq!(kept, "node1\n", "the former PRIM stays");
    let listed = world.tandem("node2", &["divergence", "list"]).unwrap();
    assert!(listed.contains("split"), "{listed}");
    // The count of the other side is among what was kept aside.
    assert!(listed.contains("counter"), "{listed}");
    world.settles_after_a_split("node1").unwrap();
    world.everything_is_found("node2", &["node2-1"]).unwrap();
}

#[test]
fn m14_with_a_second_network_the_application_notices_nothing() {
    let Some(mut world) = world("M14", &["--networks", "2"]) else {
        return;
    };
    let cut = boot_clock();
    for network in ["1", "2"] {
        let pair = ["node1", "node2", "--network", network];
        world.lab("cut", &pair).unwrap();
        for _ in 0..40 {
            assert_eq!(states(&world.status().unwrap()), ["PRIM", "SECOND"]);
            pass(Duration::from_millis(100));
        }
        world.lab("heal", &pair).unwrap();
        // It is seen again.
        world.is_settled("node1", "node2", SOON).unwrap();
        pass(Duration::from_secs(3));
    }
    let notes = world.ends_well("node1").unwrap();
    let pause = notes.pause(cut, boot_clock());
    println!("pause {pause:?}");
    assert!(pause < Duration::from_secs(1), "{pause:?}");
    assert_eq!(notes.instances.len(), 1);
    world.everything_is_found("node2", &[]).unwrap();
}

#[test]
fn m15_with_ping_the_side_that_reaches_the_address_serves() {
    let Some(mut world) = world("M15", &PING) else {
        return;
    };
    world.lab("cut", &["node1"]).unwrap();
    are(&world, ["WAIT", "ALONE"]);
    world.is_answered_by("node2", SOON).unwrap();
    assert!(!world.eyes().has("node1"));
    assert!(!world.reason("node1").unwrap().is_empty());
    world.lab("heal", &[]).unwrap();
    world.is_settled("node2", "node1", SOON).unwrap();
    world.ends_well("node2").unwrap();
    world.everything_is_found("node1", &[]).unwrap();
}

#[test]
fn m16_with_ping_and_no_answer_both_wait_and_go_on_when_it_heals() {
    let Some(mut world) = world("M16", &PING) else {
        return;
    };
    for node in ["node1", "node2"] {
        world.lab("cut", &[node]).unwrap();
    }
    are(&world, ["WAIT", "WAIT"]);
    pass(Duration::from_secs(2));
    for node in ["node1", "node2"] {
        world.is_in(node, "WAIT", SOON).unwrap();
        assert!(!world.eyes().has(node));
    }
    world.lab("heal", &[]).unwrap();
    world.is_settled("node1", "node2", SOON).unwrap();
    world.is_answered_by("node1", SOON).unwrap();
    world.ends_well("node1").unwrap();
    world.everything_is_found("node2", &[]).unwrap();
}

#[test]
fn m17_with_a_witness_exactly_one_side_serves_whatever_is_cut() {
    let Some(mut world) = world("M17", &WITNESS) else {
        return;
    };
    // The witness alone matters to nobody.
    world.end_witness().unwrap();
    let until = boot_clock() + 2 * STALL_LIMIT.as_micros() as u64;
    while boot_clock() < until {
        assert_eq!(states(&world.status().unwrap()), ["PRIM", "SECOND"]);
        pass(Duration::from_millis(50));
    }
    assert_eq!(starts(&world), 1);
    let _witness = world.start_witness("node1").unwrap();
    // Between the two; both reach the witness.
    world.lab("cut", &["node1", "node2"]).unwrap();
    let one = |nodes: &[Node]| matches!(states(nodes), ["ALONE", "WAIT"] | ["WAIT", "ALONE"]);
    world.wait_until("one is alone", SOON, one).unwrap();
    let serves = |world: &World| {
        let nodes = world.status().unwrap();
        let nodes: Vec<String> = if nodes[0].state == "ALONE" {
            vec!["node1".into(), "node2".into()]
        } else {
            vec!["node2".into(), "node1".into()]
        };
        nodes
    };
    let now = serves(&world);
    world.is_answered_by(&now[0], SOON).unwrap();
    world.lab("heal", &[]).unwrap();
    world.is_settled(&now[0], &now[1], SOON).unwrap();
    // The serving node from both.
    world.lab("cut", &[&now[0]]).unwrap();
    world.is_in(&now[1], "ALONE", SOON).unwrap();
    world.is_in(&now[0], "WAIT", SOON).unwrap();
    world.is_answered_by(&now[1], SOON).unwrap();
    world.lab("heal", &[]).unwrap();
    world.is_settled(&now[1], &now[0], SOON).unwrap();
    // The following node from both.
    world.lab("cut", &[&now[0]]).unwrap();
    world.is_in(&now[1], "ALONE", SOON).unwrap();
    world.is_in(&now[0], "WAIT", SOON).unwrap();
    world.is_answered_by(&now[1], SOON).unwrap();
    world.lab("heal", &[]).unwrap();
    world.is_settled(&now[1], &now[0], SOON).unwrap();
    world.ends_well(&now[1]).unwrap();
    world.everything_is_found(&now[0], &[]).unwrap();
}

#[test]
fn m25_a_frozen_node_that_wakes_up_answers_nobody() {
    let Some(mut world) = world("M25", &WITNESS) else {
        return;
    };
    world.signal_all("node1", libc::SIGSTOP).unwrap();
    world.is_answered_by("node2", SOON).unwrap();
    world.is_in("node2", "ALONE", SOON).unwrap();
    // Nobody could take it from the frozen one.
    assert!(world.eyes().has("node1") && world.eyes().has("node2"));
    let woken = boot_clock();
    world.signal_all("node1", libc::SIGCONT).unwrap();
    world.is_settled("node2", "node1", SOON).unwrap();
    world.is_answered_by("node2", SOON).unwrap();
    let both = world.eyes().forget();
    let kept = both.last().unwrap().saturating_sub(woken);
    println!("the address stayed {kept} us after the waking");
    assert!(kept < 300_000, "{kept} us");
    let notes = world.ends_well("node2").unwrap();
    let stopped = notes.when("node1", "stopped", woken).unwrap() - woken;
    println!("the application was stopped {stopped} us after the waking");
    let by_node1 = notes
        .instances
        .iter()
        .filter(|i| i.name.starts_with("node1"));
    for instance in by_node1 {
        let (_, last) = instance.began.unwrap();
        assert!(last < woken, "{instance:?} was answered after {woken}");
    }
    world.everything_is_found("node1", &[]).unwrap();
}
