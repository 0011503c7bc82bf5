//! Daemons that die, hang or begin, managers that sleep or take another's place: who may not answer
//! for the module does not, and nothing else is touched.

use super::*;
use tandem_repl::logic::member::{grace, lease};

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
fn a_daemon_that_has_just_begun_is_given_time_to_meet_a_peer_that_serves() {
    let mut world = prim();
    world.set(State::Second, Some(State::Prim));
    world.settle();
    // It dies and begins again; the peer still holds the former session.
    world.daemon = Daemon::Gone;
    world.tell();
    while !matches!(world.daemon, Daemon::Up(_)) {
        world.finish(Ok(()));
        world.pass(Duration::from_millis(100));
    }
    world.asked.clear();
    for _ in 0..50 {
        world.pass(Duration::from_millis(100));
        world.finish(Ok(()));
        assert!(world.asked.is_empty(), "{:?}", world.asked);
    }
    let why = world.machine.shown().why;
    assert!(why.iter().any(|r| r.code == "meeting"), "{why:?}");
    world.set(State::Wait, Some(State::Alone));
    assert_eq!(world.asked, [Ask::Second]);
    // Nobody is there: then it asks to serve.
    world.daemon = Daemon::Gone;
    world.asked.clear();
    world.tell();
    world.settle();
    assert_eq!(world.machine.shown().state, State::Alone);
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

/// Its finder may die in the middle of the cleaning, and leave nothing to be found.
#[test]
fn a_doubt_that_a_manager_finds_is_kept_for_the_next() {
    let wants = Wants {
        started: true,
        ..Wants::default()
    };
    let found = Running {
        doubtful: true,
        addresses: false,
        ..Running::PRIM
    };
    let mut world = World::with(config(), wants, found);
    let outputs = world.machine.handle(world.now, Input::Tick);
    assert!(outputs.contains(&Output::Remember(found)), "{outputs:?}");
}
