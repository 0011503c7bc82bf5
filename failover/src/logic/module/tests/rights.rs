//! Who may answer for the module, and until when; what a manager that slept, or took another's
//! place, does before it knows.

use super::*;

#[test]
fn a_lease_that_is_over_costs_the_addresses_and_a_new_one_brings_them_back() {
    let mut world = prim();
    let lease = Duration::from_millis(500);
    let mut leased = view(State::Prim, Some(State::Second));
    leased.until = Some(world.now + lease);
    world.daemon = Daemon::Up(leased.clone());
    world.tell();
    let lapse = world.now + lease + grace(config().stall_limit) / 2;
    assert_eq!(
        world.machine.due(),
        Some(lapse),
        "the driver wakes up for it"
    );
    world.now = lapse - Duration::from_millis(1);
    world.tell();
    assert!(world.addresses, "the witness is being asked");
    world.now = lapse;
    // Nothing was heard of the daemon, which may be stopped.
    world.input(Input::Tick);
    assert!(!world.addresses);
    leased.until = Some(world.now + lease);
    world.daemon = Daemon::Up(leased);
    world.tell();
    while world.finish(Ok(())).is_some() {}
    assert!(world.addresses, "{:#?} {:?}", world.machine, world.steps);
    world.set(State::Alone, None);
    world.settle();
    assert!(world.addresses, "alone there is no lease");
    let called = names(&world);
    assert!(called.iter().all(|s| s == "transition"), "{called:?}");
}

#[test]
fn a_script_under_way_is_in_doubt_for_a_successor_until_it_ends() {
    let mut world = started();
    for _ in 0..600 {
        let script = |s: &(u64, Step)| {
            matches!(&s.1, Step::Script { script, .. }
            if !matches!(script, Script::Transition))
        };
        let under_way = world.steps.iter().any(script);
        assert!(!under_way || world.remembered.doubtful, "{:?}", world.steps);
        if world.finish(Ok(())).is_none() && world.answer(Ok(())).is_none() {
            world.pass(Duration::from_millis(100));
        }
    }
    assert_eq!(world.remembered, Running::PRIM);
    world.command(2, Command::Restart);
    assert!(world.remembered.doubtful, "stop_prim is under way");
}

#[test]
fn who_gives_up_a_replica_that_serves_stops_the_application_first() {
    let mut world = started();
    world.settle();
    // By an operator's word, so that it does not give way by itself.
    world.command(3, Command::Prim { force: true });
    world.settle();
    let mut apart = view(State::Alone, Some(State::Alone));
    apart.reason = Some(refusal("diverged"));
    world.daemon = Daemon::Up(apart);
    world.tell();
    world.settle();
    world.command(2, Command::Second { full: true });
    assert!(world.asked.is_empty());
    while world.finish(Ok(())).is_some() {}
    assert_eq!(world.asked.front(), Some(&Ask::Resync { everything: true }));
    assert_eq!(world.machine.running(), Running::BOTH);
}
