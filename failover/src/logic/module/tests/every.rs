//! Everything in every order, up to a depth, from a few situations: what [`World`] asserts of each
//! output, and what [`super::chaos`] asserts after each event. Where it is shallow, everything goes
//! well afterwards, and must end well.

use super::*;

/// What may happen next.
const EVENTS: [fn(&mut World); 15] = [
    |w| finish(w, Ok(())),
    |w| finish(w, Err("it failed".into())),
    |w| answer(w, Ok(())),
    |w| answer(w, Err(refusal("isolated"))),
    |w| w.pass(Duration::from_secs(2)),
    |w| is(w, State::Wait, None),
    |w| is(w, State::Alone, None),
    |w| is(w, State::Prim, Some(State::Second)),
    |w| is(w, State::Second, Some(State::Prim)),
    |w| {
        w.daemon = Daemon::Gone;
        w.asked.clear();
        w.tell();
    },
    |w| order(w, Command::Start),
    |w| order(w, Command::Stop),
    |w| order(w, Command::Swap),
    |w| order(w, Command::Restart),
    |w| {
        w.now += Duration::from_secs(10);
        w.input(Input::Slept(Duration::from_secs(10)));
    },
];

fn finish(world: &mut World, result: Result<(), String>) {
    // There may be none under way.
    let _ = world.finish(result);
}

fn answer(world: &mut World, result: Result<(), Refusal>) {
    let _ = world.answer(result);
}

/// The daemon changes by itself.
fn is(world: &mut World, state: State, peer: Option<State>) {
    if matches!(world.daemon, Daemon::Up(_)) {
        world.set(state, peer);
    }
}

fn order(world: &mut World, command: Command) {
    let token = world.given.last().map_or(1, |last| last + 1);
    world.command(token, command);
}

/// Where it begins: stopped, serving alone, serving with a follower, following.
fn situations() -> Vec<World> {
    let mut all = vec![World::new(config())];
    let states = [
        (State::Alone, None),
        (State::Prim, Some(State::Second)),
        (State::Second, Some(State::Prim)),
    ];
    for (state, peer) in states {
        let mut world = World::new(config());
        world.command(1, Command::Start);
        world.settle();
        world.set(state, peer);
        world.settle();
        all.push(world);
    }
    all
}

fn go(world: &World, depth: usize, settled: usize, path: &mut Vec<usize>, count: &mut u64) {
    for (number, event) in EVENTS.iter().enumerate() {
        let mut next = world.clone();
        // What was said before is no matter here, and costs time.
        next.log.clear();
        next.scripts.clear();
        next.marks.clear();
        path.push(number);
        event(&mut next);
        *count += 1;
        let machine = &next.machine;
        let right = !machine.running().addresses || machine.may_answer();
        assert!(right, "{path:?}: addresses where nothing allows to serve");
        if path.len() <= settled {
            ends_well(next.clone(), path);
        }
        if path.len() < depth {
            go(&next, depth, settled, path, count);
        }
        path.pop();
    }
}

/// From here on everything goes well.
fn ends_well(mut world: World, path: &[usize]) {
    world.settle();
    order(&mut world, Command::Start);
    for _ in 0..2 {
        is(&mut world, State::Wait, None);
        world.settle();
    }
    let shown = world.machine.shown();
    let good = (shown.state, shown.readiness) == (State::Alone, Readiness::Ready);
    assert!(good, "{path:?}: {shown:?} {:#?}", world.machine);
    let open: Vec<_> = world
        .given
        .iter()
        .filter(|t| !world.resolved.contains_key(*t))
        .collect();
    assert!(open.is_empty(), "{path:?}: {open:?} never answered");
}

#[test]
fn every_short_story_keeps_the_promises_and_can_end_well() {
    let (depth, settled) = if cfg!(debug_assertions) {
        (3, 1)
    } else {
        (5, 2)
    };
    let mut count = 0;
    for world in situations() {
        go(&world, depth, settled, &mut Vec::new(), &mut count);
    }
    let all: u64 = (1..=depth as u32).map(|n| 15u64.pow(n)).sum();
    assert_eq!(count, 4 * all);
}
