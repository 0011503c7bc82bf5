//! Random histories: whatever happens, in the end the trees are equal.
#![allow(
    clippy::disallowed_methods,
    reason = "a test may be told how long to go on"
)]

use super::super::messages::Kind;
use super::World;

/// `TANDEM_RESYNC_SEEDS` names others: `FROM..TO`.
fn seeds() -> std::ops::Range<u64> {
    let given = std::env::var("TANDEM_RESYNC_SEEDS").unwrap_or_default();
    let range = given.split_once("..");
    let range = range.and_then(|(from, to)| Some(from.parse().ok()?..to.parse().ok()?));
    range.unwrap_or(0..60)
}

/// The first synchronisation of a tree that exists.
fn synchronised(seed: u64, size: usize) -> World {
    let world = World::new(seed);
    world.app.borrow_mut().changes(size);
    world.app.borrow_mut().marking.mark_everything();
    world.passes.set(1);
    world.resync();
    world
}

#[test]
fn a_first_synchronisation() {
    for seed in seeds() {
        let world = World::new(seed);
        world.app.borrow_mut().changes(60);
        world.app.borrow_mut().marking.mark_everything();
        world.busy.set((seed % 3) as usize);
        world.passes.set(1 + (seed % 4) as u32);
        println!("seed {seed}");
        world.resync();
    }
}

#[test]
fn changes_while_the_target_was_away() {
    for seed in seeds() {
        println!("seed {seed}");
        let world = synchronised(seed, 60);
        for round in 0..3 {
            println!("seed {seed} round {round}");
            world.app.borrow_mut().changes(30);
            let outcome = world.resync();
            assert_eq!(outcome.anomalies, 0, "seed {seed}");
        }
    }
}

#[test]
fn changes_while_the_resync_runs() {
    for seed in seeds() {
        println!("seed {seed}");
        let world = synchronised(seed, 60);
        world.busy.set(1 + (seed % 3) as usize);
        world.passes.set(3);
        for round in 0..3 {
            println!("seed {seed} round {round}");
            world.app.borrow_mut().changes(20);
            world.resync();
        }
    }
}

#[test]
fn the_link_breaks_now_and_then() {
    for seed in seeds() {
        println!("seed {seed}");
        let world = synchronised(seed, 60);
        world.passes.set(3);
        world.busy.set((seed % 2) as usize);
        for round in 0..3 {
            println!("seed {seed} round {round}");
            world.app.borrow_mut().changes(25);
            for _ in 0..4 {
                let breaks = world.app.borrow_mut().below(30);
                world.breaks.set(breaks);
                if world.session().is_ok() {
                    world.assert_equal();
                }
                world.app.borrow_mut().changes(3);
            }
            world.breaks.set(usize::MAX);
            world.resync();
        }
    }
}

#[test]
fn a_first_synchronisation_that_breaks() {
    for seed in seeds() {
        println!("seed {seed}");
        let world = World::new(seed);
        world.app.borrow_mut().changes(60);
        world.app.borrow_mut().marking.mark_everything();
        world.passes.set(3);
        world.busy.set(1);
        for _ in 0..6 {
            let breaks = world.app.borrow_mut().below(60);
            world.breaks.set(breaks);
            if world.session().is_ok() {
                world.assert_equal();
                break;
            }
        }
        world.breaks.set(usize::MAX);
        world.resync();
    }
}

#[test]
fn a_tree_that_was_copied_by_other_means() {
    for seed in seeds() {
        println!("seed {seed}");
        let first = synchronised(seed, 60);
        // As rsync leaves it: no identities, and somewhat old.
        let target = first.target.clone();
        for (_, _, key) in target.places() {
            target.lose_uid(key).unwrap();
        }
        first.app.borrow_mut().changes(20);
        first.app.borrow_mut().marking.mark_everything();
        let before = target.written();
        first.resync();
        let bytes: u64 = target
            .places()
            .iter()
            .map(|p| target.stat(p.2).unwrap().1)
            .sum();
        let sent = target.written() - before;
        assert!(sent <= bytes, "seed {seed}: {sent} of {bytes}");
    }
}

#[test]
fn nothing_is_sent_when_nothing_has_changed() {
    let world = synchronised(7, 200);
    let before = world.target.written();
    world.app.borrow_mut().marking.mark_everything();
    let outcome = world.resync();
    assert_eq!((outcome.sent, outcome.anomalies), (0, 0));
    assert_eq!(world.target.written(), before);
    assert_eq!(world.target.swept(), 0);
    let kinds = world.source().places();
    assert!(
        kinds
            .iter()
            .any(|p| world.source().stat(p.2).unwrap().2 == Kind::Directory)
    );
}
