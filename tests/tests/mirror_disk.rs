//! Disks that are full or fail below nodes that are led by managers (M26, M27): the application
//! moves to the good disk, or is told; the other node's trouble is nobody else's.

#![allow(
    clippy::unwrap_used,
    reason = "a failed set-up ends the test, with its line"
)]

use std::fs;
use std::time::Duration;
use tandem_tests::broken_disk::{self, Small};
use tandem_tests::managed_world::{MOUNT, SOON, STALL_LIMIT, World};
use tandem_tests::mirror::image;
use tandem_tests::running::Filler;
use tandem_tests::sys::boot_clock;

const SMALL: [&str; 2] = ["--disk-size", "128MiB"];
const OVERWRITE: &str = "dd if=/dev/urandom of=broken bs=64k count=16 conv=notrunc,fsync 2>&1";

fn world(test: &str) -> Option<World> {
    World::up(test, env!("CARGO_BIN_EXE_inside"), &SMALL, "")
}

fn script(world: &World, node: &str, text: &str) -> Result<String, String> {
    let text = format!("set -e; cd {MOUNT}; {text}");
    let said = world.exec(node, &["sh", "-c", &text]);
    said.map_err(|e| format!("{e:#}"))
}

#[test]
fn m26_the_following_nodes_disk_is_full() {
    let Some(mut world) = world("M26, the following node") else {
        return;
    };
    let full = boot_clock();
    let filler = Filler::new(&world.node_dir("node2").join("disk"), 0).unwrap();
    world.is_in("node1", "ALONE", SOON).unwrap();
    world.is_answered_by("node1", SOON).unwrap();
    world.says("node2", "No space left", SOON).unwrap();
    // It asks to be taken in again, in vain, and less and less often.
    let until = boot_clock() + 2_000_000;
    while boot_clock() < until {
        let node2 = world.node("node2").unwrap();
        assert!(node2.readiness != "Ready", "{node2:?}");
        assert!(node2.reason.is_some(), "{node2:?}");
        std::thread::sleep(Duration::from_millis(50));
    }
    drop(filler);
    world.is_settled("node1", "node2", SOON).unwrap();
    let notes = world.ends_well("node1").unwrap();
    let pause = notes.pause(full, boot_clock());
    println!("pause {pause:?}");
    assert!(pause < STALL_LIMIT, "nobody had to wait: {pause:?}");
    assert_eq!(notes.instances.len(), 1, "it was never started again");
    world.everything_is_found("node2", &[]).unwrap();
}

#[test]
fn m26_the_serving_nodes_disk_is_full() {
    let Some(mut world) = world("M26, the serving node") else {
        return;
    };
    let filler = Filler::new(&world.node_dir("node1").join("disk"), 4 << 20).unwrap();
    let fill = "for n in $(seq 200); do head -c 65536 /dev/urandom >fill$n || exit 7; done";
    let said = script(&world, "node1", fill).expect_err("there is no room");
    assert!(said.contains("No space left"), "{said}");
    let nodes = world.status().unwrap();
    assert_eq!([&*nodes[0].state, &*nodes[1].state], ["PRIM", "SECOND"]);
    script(&world, "node1", "rm fill*").unwrap();
    drop(filler);
    world.is_answered_by("node1", SOON).unwrap();
    let notes = world.ends_well("node1").unwrap();
    assert_eq!(notes.instances.len(), 1, "it was told, not moved");
    world.everything_is_found("node2", &[]).unwrap();
}

/// A world on a file system that gets full when told to, with a file of a megabyte whose room on
/// one node is gone then: writing it back fails.
fn with_a_broken_place(test: &str, node: &str) -> Option<(Small, World)> {
    let binary = tandem_tests::cluster::binary(test)?;
    let small = Small::new(&format!("managed-{node}"), 400).unwrap();
    let helper = env!("CARGO_BIN_EXE_inside");
    let world = World::make_in(small.path(), binary, helper, &SMALL, "").unwrap();
    let plant = "head -c 1048576 /dev/urandom >broken; sync; sleep 1; sync";
    script(&world, "node1", plant).unwrap();
    for name in ["node1", "node2"] {
        broken_disk::take_room(&image(&world, name)).unwrap();
    }
    let file = world.node(node).unwrap().replica.join("broken");
    broken_disk::punch(&image(&world, node), &file).unwrap();
    small.fill().unwrap();
    Some((small, world))
}

#[test]
fn m27_a_sync_fails_on_the_serving_node_and_the_application_moves() {
    let Some((small, mut world)) = with_a_broken_place("M27, the serving node", "node1") else {
        return;
    };
    let failed = boot_clock();
    let said = script(&world, "node1", OVERWRITE).expect_err("the disk did not take it");
    assert!(said.contains("fsync"), "{said}");
    world.is_in("node2", "ALONE", SOON).unwrap();
    world.is_answered_by("node2", SOON).unwrap();
    world.says("node1", "disk", SOON).unwrap();
    assert!(!world.eyes().has("node1"));
    // A disk that is good again, and a daemon that is started anew: the operator's word.
    small.empty().unwrap();
    world.tandem("node1", &["stopstart"]).unwrap();
    world.is_settled("node2", "node1", SOON).unwrap();
    let notes = world.ends_well("node2").unwrap();
    let moved = notes.when("node2", "started", failed).unwrap() - failed;
    println!("moved after {:?}", Duration::from_micros(moved));
    world.everything_is_found("node1", &[]).unwrap();
}

#[test]
fn m27_a_sync_fails_on_the_following_node_and_nobody_else_notices() {
    let Some((small, mut world)) = with_a_broken_place("M27, the following node", "node2") else {
        return;
    };
    let failed = boot_clock();
    script(&world, "node1", OVERWRITE).unwrap();
    world.is_in("node1", "ALONE", SOON).unwrap();
    world.is_answered_by("node1", SOON).unwrap();
    let why = world.reason("node2").unwrap();
    assert!(!why.is_empty(), "it says why it waits");
    small.empty().unwrap();
    world.is_settled("node1", "node2", SOON * 2).unwrap();
    let notes = world.ends_well("node1").unwrap();
    let pause = notes.pause(failed, boot_clock());
    println!("pause {pause:?}");
    assert!(pause < STALL_LIMIT, "nobody had to wait: {pause:?}");
    assert_eq!(notes.instances.len(), 1);
    world.everything_is_found("node2", &[]).unwrap();
}

/// Design 8: read from the peer, repaired, alarm; the application stays where it is.
#[test]
fn m27_what_cannot_be_read_is_read_from_the_peer_and_nothing_moves() {
    let Some(mut world) = world("M27, an unreadable block") else {
        return;
    };
    script(
        &world,
        "node1",
        "head -c 60000 /dev/urandom >broken; sync; sleep 0.5; sync",
    )
    .unwrap();
    let good = fs::read(world.node("node2").unwrap().replica.join("broken")).unwrap();
    // The writers would read and write beyond the place where the disk ends now.
    world.tandem("node1", &["maintenance", "on"]).unwrap();
    world.stops_writers().unwrap();
    let file = world.node("node1").unwrap().replica.join("broken");
    let image = image(&world, "node1");
    let length = broken_disk::unreadable_from(&image, &file).unwrap();
    let mount = world.mount_path("node1").unwrap();
    script(&world, "node1", "dd if=broken iflag=nocache count=0 2>&1").unwrap();
    let read = fs::read(mount.join("broken"));
    broken_disk::lengthen(&image, length).unwrap();
    assert!(read.unwrap() == good, "the peer has it");
    world.tandem("node1", &["maintenance", "off"]).unwrap();
    world.is_settled("node1", "node2", SOON).unwrap();
    let notes = world.ends_well("node1").unwrap();
    assert_eq!(notes.instances.len(), 1);
    world.everything_is_found("node2", &[]).unwrap();
}
