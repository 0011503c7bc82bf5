//! What an operator of the acceptance table sees, step by step.

use super::*;

fn started() -> World {
    let mut world = World::new(config());
    world.command(1, Command::Start);
    world
}

/// Serving with a follower.
pub(super) fn prim() -> World {
    let mut world = started();
    world.settle();
    world.set(State::Prim, Some(State::Second));
    world.settle();
    assert_eq!(world.machine.shown().readiness, Readiness::Ready);
    assert!(world.addresses);
    world.scripts.clear();
    world.marks.clear();
    world
}

fn names(world: &World) -> Vec<String> {
    let name =
        |(s, force): &(Script, bool)| format!("{}{}", s.name(), if *force { "!" } else { "" });
    world.scripts.iter().map(name).collect()
}

fn checker(world: &mut World, name: &str, up: bool) {
    world.input(Input::Checker {
        name: name.into(),
        up,
        detail: "no answer".into(),
    });
    world.settle();
}

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
fn a_swap_stops_the_application_before_the_daemon_changes_sides() {
    let mut world = prim();
    world.command(2, Command::Swap);
    assert!(world.asked.is_empty());
    world.settle();
    assert_eq!(names(&world), ["stop_prim", "transition", "start_second"]);
    assert_eq!(world.resolved[&2], Ok(()));
    assert_eq!(world.machine.shown().state, State::Second);
    assert!(!world.addresses);
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
fn a_stop_ends_everything_twice_then_the_daemon() {
    let mut world = prim();
    world.command(2, Command::Stop);
    assert!(!world.saved.started, "durable before anything happens");
    world.settle();
    let scripts = names(&world);
    let scripts: Vec<_> = scripts.iter().filter(|s| *s != "transition").collect();
    assert_eq!(
        scripts,
        [
            "stop_prim",
            "stop_both",
            "stop_second!",
            "stop_prim!",
            "stop_both!",
            "poststop"
        ]
    );
    assert_eq!(world.daemon, Daemon::Gone);
    assert_eq!(world.resolved[&2], Ok(()));
    assert_eq!(world.machine.shown().state, State::Stop);
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
    assert!(world.addresses);
    world.set(State::Alone, None);
    world.settle();
    assert!(world.addresses, "alone there is no lease");
    let called = names(&world);
    assert!(called.iter().all(|s| s == "transition"), "{called:?}");
}

#[test]
fn a_daemon_that_is_not_heard_of_may_have_given_a_lease_to_a_peer_that_is_there() {
    let mut world = prim();
    world.set(State::Alone, Some(State::Second));
    world.settle();
    assert!(world.addresses);
    world.now += Duration::from_secs(3);
    world.input(Input::Tick);
    assert!(!world.addresses);
}

#[test]
fn a_successor_waits_a_moment_before_it_believes_that_there_is_no_daemon() {
    let wants = Wants {
        started: true,
        ..Wants::default()
    };
    let mut world = World::with(config(), wants, Running::PRIM);
    world.input(Input::Tick);
    assert!(world.addresses, "nothing is known yet");
    assert!(world.steps.is_empty());
    world.now += Duration::from_secs(2);
    world.input(Input::Tick);
    assert!(!world.addresses);
    assert!(!world.steps.is_empty(), "it is stopped");
}

#[test]
fn a_manager_that_slept_takes_the_addresses_away_first() {
    let mut world = prim();
    world.now += Duration::from_secs(20);
    world.input(Input::Slept(Duration::from_secs(20)));
    assert!(!world.addresses);
    world.tell();
    world.finish(Ok(()));
    assert!(!world.addresses, "not before the daemon knows what it may");
    world.pass(Duration::from_secs(4));
    world.settle();
    assert!(world.addresses);
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
fn a_dead_daemon_is_started_again_below_a_stopped_application() {
    let mut world = prim();
    world.daemon = Daemon::Gone;
    world.tell();
    assert!(!world.addresses);
    world.settle();
    assert_eq!(world.machine.shown().state, State::Alone);
    assert_eq!(world.machine.shown().readiness, Readiness::Ready);
    let forced = world.scripts.iter().any(|(_, force)| *force);
    assert!(!forced, "{:?}", world.scripts);
}

#[test]
fn a_successor_adopts_what_runs_and_cleans_what_was_left_half_way() {
    let wants = Wants {
        started: true,
        ..Wants::default()
    };
    let mut world = World::with(config(), wants.clone(), Running::PRIM);
    world.set(State::Prim, Some(State::Second));
    world.settle();
    assert_eq!(names(&world), [""; 0], "nothing was touched");
    assert!(world.addresses);
    assert_eq!(world.machine.shown().readiness, Readiness::Ready);
    let half = Running {
        doubtful: true,
        ..Running::BOTH
    };
    let mut world = World::with(config(), wants, half);
    world.set(State::Prim, Some(State::Second));
    world.settle();
    assert_eq!(world.machine.shown().readiness, Readiness::Ready);
    let forced = names(&world);
    for script in ["stop_second!", "stop_prim!", "stop_both!"] {
        assert!(forced.iter().any(|s| s == script), "{forced:?}");
    }
}

#[test]
fn a_follower_that_serves_says_whether_it_was_given_or_lost() {
    for (state, peer, action) in [
        (State::Prim, Some(State::Second), "swap"),
        (State::Alone, None, "failover"),
        (State::Alone, Some(State::Stop), "failover"),
    ] {
        let mut world = started();
        world.set(State::Second, Some(State::Prim));
        world.settle();
        world.set(state, peer);
        assert_eq!(world.machine.shown().action, Some(action));
    }
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

#[test]
fn a_daemon_that_hangs_costs_the_addresses_before_its_peer_may_serve() {
    let mut world = prim();
    world.hangs = true;
    world.pass(Duration::from_millis(1500));
    assert!(world.addresses);
    // Its peer may serve when lease and grace are over.
    let limit = config().stall_limit;
    world.pass(lease(limit) + grace(limit) - Duration::from_millis(1500));
    assert!(!world.addresses);
    world.hangs = false;
    world.settle();
    assert!(world.addresses);
    world.hangs = true;
    for _ in 0..20 {
        world.pass(Duration::from_secs(1));
    }
    assert_eq!(world.daemon, Daemon::Gone, "it was killed");
}

#[test]
fn a_successor_touches_nothing_before_it_has_looked() {
    let wants = Wants {
        started: true,
        ..Wants::default()
    };
    let mut world = World::with(config(), wants, Running::PRIM);
    world.input(Input::Tick);
    world.now += Duration::from_millis(900);
    world.input(Input::Tick);
    assert!(world.addresses && world.scripts.is_empty() && world.steps.is_empty());
    world.set(State::Prim, Some(State::Second));
    world.settle();
    assert_eq!(names(&world), [""; 0], "scripts know that state");
}
