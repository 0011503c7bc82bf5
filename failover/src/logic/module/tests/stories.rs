//! What an operator of the acceptance table sees, step by step.

use super::*;

#[test]
fn a_start_cleans_up_asks_to_serve_and_starts_in_order() {
    let mut world = started();
    assert_eq!(world.resolved[&1], Ok(()));
    assert!(world.saved.started);
    world.settle();
    let scripts = names(&world);
    assert_eq!(scripts[..2], ["transition", "prestart"]);
    let scripts: Vec<_> = scripts.iter().filter(|s| *s != "transition").collect();
    assert_eq!(
        scripts,
        [
            "prestart",
            "stop_second!",
            "stop_prim!",
            "stop_both!",
            "start_both",
            "start_prim"
        ]
    );
    let shown = world.machine.shown();
    assert_eq!(
        (shown.state, shown.readiness),
        (State::Alone, Readiness::Ready)
    );
    assert_eq!(world.remembered, Running::PRIM);
}

#[test]
fn a_volume_never_synchronised_waits_for_the_operators_word() {
    let mut world = started();
    while !matches!(world.daemon, Daemon::Up(_)) {
        if let Some((id, Step::StartDaemon)) = world.steps.front().cloned() {
            world.steps.pop_front();
            let mut fresh = view(State::Wait, None);
            fresh.has_epoch = false;
            fresh.reason = Some(refusal("never-synchronised"));
            world.daemon = Daemon::Up(fresh);
            world.input(Input::Done(id, Ok(())));
            world.tell();
        } else if world.finish(Ok(())).is_none() {
            world.pass(Duration::from_millis(100));
        }
    }
    world.settle();
    let shown = world.machine.shown();
    assert_eq!(shown.state, State::Wait);
    assert_eq!(shown.reason.unwrap().code, "never-synchronised");
    world.command(2, Command::Prim { force: false });
    world.settle();
    assert_eq!(world.machine.shown().state, State::Alone);
    assert_eq!(world.resolved[&2], Ok(()));
}

#[test]
fn a_refused_swap_starts_the_application_again() {
    let mut world = prim();
    world.command(2, Command::Swap);
    while world.asked.is_empty() {
        world.finish(Ok(())).unwrap();
    }
    world.answer(Err(refusal("busy")));
    world.settle();
    assert_eq!(world.resolved[&2], Err("busy".into()));
    assert_eq!(world.machine.shown().state, State::Prim);
    assert_eq!(world.machine.shown().readiness, Readiness::Ready);
}

#[test]
fn what_did_not_start_is_not_handed_over() {
    let mut world = prim();
    world.command(2, Command::Restart);
    while names(&world).last().map(String::as_str) != Some("start_both") {
        world.finish(Ok(())).unwrap();
    }
    world.command(3, Command::Swap);
    world.finish(Err("it failed".into())).unwrap();
    world.settle();
    assert!(world.resolved[&3].is_err());
    assert_eq!(world.machine.shown().readiness, Readiness::Ready);
    let starts = names(&world).iter().filter(|s| *s == "start_both").count();
    assert_eq!(
        starts,
        2,
        "again, and not taken for done: {:?}",
        names(&world)
    );
}

#[test]
fn a_restart_stays_in_place() {
    let mut world = prim();
    world.command(2, Command::Restart);
    world.settle();
    assert_eq!(
        names(&world),
        ["stop_prim", "stop_both", "start_both", "start_prim"]
    );
    assert_eq!(world.resolved[&2], Ok(()));
    assert!(matches!(&world.daemon, Daemon::Up(v) if v.state == State::Prim));
}

#[test]
fn who_may_not_serve_any_more_loses_the_addresses_before_a_script_runs() {
    let mut world = prim();
    world.daemon = Daemon::Up(view(State::Wait, None));
    let input = Input::Daemon(world.daemon.clone());
    let outputs = world.machine.handle(world.now, input);
    let first = outputs
        .iter()
        .find(|o| !matches!(o, Output::Log(_) | Output::Mark(_)));
    assert_eq!(first, Some(&Output::DropAddresses), "{outputs:?}");
}

#[test]
fn the_follower_takes_over_and_the_timeline_has_its_phases() {
    let mut world = started();
    world.settle();
    world.set(State::Second, Some(State::Prim));
    world.settle();
    world.marks.clear();
    world.set(State::Wait, None);
    world.settle();
    assert_eq!(world.machine.shown().state, State::Alone);
    assert_eq!(
        world.marks,
        [
            Phase::Detected,
            Phase::Decided,
            Phase::Promoted,
            Phase::Addresses,
            Phase::Application
        ]
    );
}

#[test]
fn failover_off_keeps_the_follower_back_until_it_is_on() {
    let mut off = config();
    off.failover = false;
    let mut world = World::new(off);
    world.command(1, Command::Start);
    world.settle();
    let shown = world.machine.shown();
    assert_eq!(shown.state, State::Wait);
    assert_eq!(shown.reason.unwrap().code, "failover-off");
    world.command(2, Command::Failover(true));
    world.settle();
    assert_eq!(world.machine.shown().state, State::Alone);
    assert_eq!(world.saved.failover, Some(true));
}

#[test]
fn a_hanging_stop_script_is_forced_once() {
    let mut world = prim();
    world.command(2, Command::Restart);
    world.finish(Err("took too long".into()));
    world.finish(Err("took too long".into()));
    world.settle();
    assert_eq!(names(&world)[..3], ["stop_prim", "stop_prim!", "stop_both"]);
    assert_eq!(world.machine.shown().readiness, Readiness::Ready);
}

#[test]
fn the_fourth_restart_stops_the_module_and_a_command_resets_the_count() {
    let mut world = prim();
    for _ in 0..3 {
        checker(&mut world, "restart", false);
        checker(&mut world, "restart", true);
        assert_eq!(world.machine.shown().state, State::Prim);
    }
    checker(&mut world, "restart", false);
    let shown = world.machine.shown();
    assert_eq!(shown.state, State::Stop);
    assert_eq!(shown.reason.unwrap().code, "maxloop");
    world.command(2, Command::Start);
    world.settle();
    assert_eq!(world.machine.shown().state, State::Alone);
    checker(&mut world, "restart", false);
    assert_eq!(world.machine.shown().state, State::Alone);
}

#[test]
fn a_checker_that_waits_gives_the_service_away_but_not_the_last_one() {
    let mut world = prim();
    checker(&mut world, "wait", false);
    let shown = world.machine.shown();
    assert_eq!(
        (shown.state, shown.readiness),
        (State::Wait, Readiness::NotReady)
    );
    assert_eq!(world.daemon, Daemon::Gone);
    checker(&mut world, "wait", true);
    assert_eq!(world.machine.shown().state, State::Alone);
    checker(&mut world, "wait", false);
    let shown = world.machine.shown();
    assert_eq!(
        (shown.state, shown.readiness),
        (State::Alone, Readiness::Ready)
    );
    assert_eq!(shown.why[0].code, "checker-down");
}

#[test]
fn the_preferred_node_gets_the_service_back() {
    let mut home = config();
    home.preferred = Some("b".into());
    let mut world = World::new(home);
    world.command(1, Command::Start);
    world.settle();
    world.set(State::Prim, Some(State::Second));
    world.settle();
    assert_eq!(world.machine.shown().state, State::Second);
}

#[test]
fn a_fence_command_is_called_where_only_the_proof_is_missing() {
    let mut fenced = config();
    fenced.fence = Some(Action {
        command: vec!["/bin/off".into()],
        limit: Duration::from_secs(10),
    });
    let mut world = World::new(fenced);
    world.command(1, Command::Start);
    let mut refused = 0;
    for _ in 0..200 {
        if world.asked.front() == Some(&Ask::Prim { force: false }) && refused == 0 {
            refused += 1;
            world.answer(Err(refusal("isolated")));
            let fence = |s: &(u64, Step)| matches!(s.1, Step::Fence(_));
            assert!(world.steps.iter().any(fence));
        } else if world.finish(Ok(())).is_none() && world.answer(Ok(())).is_none() {
            world.pass(Duration::from_millis(100));
        }
    }
    assert_eq!(refused, 1);
    assert_eq!(world.machine.shown().state, State::Alone);
}

#[test]
fn maintenance_moves_nothing_but_takes_addresses_that_may_not_be_here() {
    let mut world = prim();
    world.command(2, Command::Maintenance(true));
    world.set(State::Alone, None);
    world.settle();
    assert!(world.addresses);
    world.scripts.clear();
    world.set(State::Wait, None);
    world.settle();
    assert!(!world.addresses);
    let scripts = names(&world);
    assert!(scripts.iter().all(|s| s == "transition"), "{scripts:?}");
}
