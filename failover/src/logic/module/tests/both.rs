//! What concerns both nodes at once: a fault that both of them find, a split that heals, refusals
//! that are repeated.

use super::*;

fn gateway(world: &mut World, up: bool) {
    world.input(Input::Checker {
        name: "gateway".into(),
        up,
        detail: "no answer".into(),
    });
}

fn serves(world: &World) -> bool {
    let state = world.machine.shown().state;
    state.serves() && world.addresses
}

#[test]
fn what_both_nodes_find_down_does_not_take_the_service_down() {
    let mut world = prim();
    gateway(&mut world, false);
    world.pass(Duration::from_millis(1500));
    // The other one found it, too, and left.
    world.set(State::Alone, None);
    for _ in 0..300 {
        world.pass(Duration::from_millis(100));
        assert!(serves(&world));
    }
    assert!(
        world.scripts.iter().all(|(s, _)| !s.stops()),
        "{:?}",
        world.scripts
    );
    assert_eq!(world.machine.shown().why[0].code, "checker-down");
}

#[test]
fn what_only_the_serving_node_finds_down_moves_the_service_a_little_later() {
    let mut world = prim();
    gateway(&mut world, false);
    world.pass(Duration::from_millis(1500));
    assert!(serves(&world));
    world.pass(Duration::from_millis(600));
    world.settle();
    assert_eq!(world.machine.shown().state, State::Wait);
    assert_eq!(world.daemon, Daemon::Gone);
    gateway(&mut world, true);
    world.settle();
    assert_eq!(world.machine.shown().state, State::Alone);
}

#[test]
fn the_last_node_gives_way_to_one_that_comes_back_whole() {
    let mut world = prim();
    world.set(State::Alone, None);
    gateway(&mut world, false);
    world.pass(Duration::from_secs(30));
    assert!(serves(&world));
    world.set(State::Prim, Some(State::Second));
    world.pass(Duration::from_secs(1));
    world.settle();
    assert_eq!(world.machine.shown().state, State::Wait);
}

fn split(world: &mut World) {
    let mut apart = view(State::Alone, Some(State::Alone));
    apart.reason = Some(refusal("diverged"));
    world.daemon = Daemon::Up(apart);
    world.tell();
}

#[test]
fn who_took_over_gives_way_when_a_split_heals() {
    let mut world = prim();
    world.set(State::Second, Some(State::Prim));
    world.settle();
    world.set(State::Wait, None);
    world.settle();
    assert!(serves(&world), "{:?}", world.machine.shown());
    split(&mut world);
    world.pass(Duration::from_secs(1));
    // What runs is stopped before.
    while world.finish(Ok(())).is_some() {}
    assert_eq!(world.asked, [Ask::Resync { everything: false }]);
}

#[test]
fn who_served_all_the_time_or_by_an_operators_word_does_not() {
    let mut world = prim();
    world.set(State::Alone, None);
    split(&mut world);
    world.pass(Duration::from_secs(5));
    assert!(world.asked.is_empty(), "{:?}", world.asked);
    let mut world = prim();
    world.set(State::Second, Some(State::Prim));
    world.settle();
    world.set(State::Wait, None);
    world.asked.clear();
    world.command(7, Command::Prim { force: true });
    world.settle();
    split(&mut world);
    world.pass(Duration::from_secs(5));
    let resyncs = world
        .asked
        .iter()
        .filter(|a| matches!(a, Ask::Resync { .. }));
    assert_eq!(resyncs.count(), 0);
}

#[test]
fn a_refusal_that_is_repeated_is_no_movement() {
    let mut world = prim();
    world.set(State::Wait, None);
    for _ in 0..50 {
        world.answer(Err(refusal("witness-silent")));
        world.finish(Ok(()));
        world.pass(Duration::from_millis(100));
    }
    for _ in 0..50 {
        let shown = world.machine.shown();
        assert_eq!(
            (shown.state, shown.readiness),
            (State::Wait, Readiness::NotReady)
        );
        assert_eq!(shown.reason.unwrap().code, "witness-silent");
        // The daemon is finding out once more.
        let mut asking = view(State::Wait, None);
        asking.readiness = Readiness::Transient;
        world.daemon = Daemon::Up(asking);
        world.tell();
        world.pass(Duration::from_millis(100));
        world.answer(Err(refusal("witness-silent")));
    }
}

/// How the addresses are taken in the rest of what is under way.
fn taking(world: &mut World) -> Option<Step> {
    for _ in 0..100 {
        match world.finish(Ok(())) {
            Some(step @ (Step::TakeAddresses | Step::SeizeAddresses)) => return Some(step),
            Some(_) => {}
            None => {
                world.answer(Ok(()));
                world.pass(Duration::from_millis(100));
            }
        }
    }
    None
}

/// The kernel of a machine whose processes stand still answers for its addresses as before.
#[test]
fn who_takes_over_does_not_ask_the_lost_node_for_the_addresses() {
    let mut world = prim();
    world.set(State::Second, Some(State::Prim));
    world.settle();
    world.set(State::Wait, None);
    assert_eq!(taking(&mut world), Some(Step::SeizeAddresses));
    // Nor on a planned move: it had them until now, so nobody else has.
    let mut world = prim();
    world.set(State::Second, Some(State::Prim));
    world.settle();
    world.set(State::Alone, None);
    assert_eq!(taking(&mut world), Some(Step::SeizeAddresses));
}

#[test]
fn who_begins_to_serve_asks_whether_somebody_has_the_addresses() {
    let mut world = World::new(config());
    world.command(1, Command::Prim { force: false });
    assert_eq!(taking(&mut world), Some(Step::TakeAddresses));
}

#[test]
fn after_a_short_sleep_the_addresses_come_back_when_the_lease_is_proved() {
    let mut world = prim();
    world.input(Input::Slept(Duration::from_secs(2)));
    assert!(!world.addresses);
    world.pass(Duration::from_millis(400));
    assert!(
        world.steps.is_empty(),
        "what it said may be of before it slept"
    );
    let mut over = view(State::Prim, Some(State::Second));
    over.until = Some(world.now - Duration::from_secs(1));
    world.daemon = Daemon::Up(over);
    world.tell();
    world.pass(Duration::from_millis(200));
    assert!(world.steps.is_empty(), "its lease is over");
    world.set(State::Prim, Some(State::Second));
    world.settle();
    assert!(world.addresses);
}

#[test]
fn failover_and_maintenance_are_words_of_the_module_and_the_newer_counts() {
    let mut here = World::new(config());
    let mut there = World::new(config());
    let exchange = |one: &mut World, two: &mut World| {
        let words = [one.machine.wants().word(), two.machine.wants().word()];
        one.input(Input::Heard(words[1]));
        two.input(Input::Heard(words[0]));
        assert_eq!(one.machine.wants().word(), two.machine.wants().word());
        assert_eq!(one.saved.word(), one.machine.wants().word());
        one.machine.wants().word()
    };
    let say = |world: &mut World, command| {
        let token = world.given.len() as u64 + 1;
        world.command(token, command);
    };
    say(&mut here, Command::Failover(false));
    assert_eq!(exchange(&mut here, &mut there).failover, Some(false));
    // Said there later, while they are apart, and something else here.
    say(&mut there, Command::Failover(true));
    say(&mut here, Command::Maintenance(true));
    let word = exchange(&mut here, &mut there);
    assert_eq!((word.failover, word.maintenance), (Some(true), true));
    // As often on both: less moves by itself.
    say(&mut here, Command::Maintenance(true));
    say(&mut there, Command::Maintenance(false));
    say(&mut here, Command::Failover(true));
    say(&mut there, Command::Failover(false));
    let word = exchange(&mut here, &mut there);
    assert_eq!((word.failover, word.maintenance), (Some(false), true));
    // Heard again it changes nothing.
    let lines = here.log.len();
    exchange(&mut here, &mut there);
    assert_eq!(here.log.len(), lines);
}
