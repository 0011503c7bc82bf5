//! The table of transitions that ARCHITECTURE.md shows, made from the machine itself.

use super::*;
use std::fmt::Write;

pub(super) const BEGIN: &str =
    "<!-- transitions: made by failover/src/logic/module/tests/table.rs -->\n";
pub(super) const END: &str = "<!-- end -->";

/// What a daemon may be, and its peer then.
const STATES: [(&str, Option<State>, Option<State>); 5] = [
    ("no daemon", None, None),
    ("WAIT", Some(State::Wait), None),
    ("ALONE", Some(State::Alone), None),
    ("PRIM", Some(State::Prim), Some(State::Second)),
    ("SECOND", Some(State::Second), Some(State::Prim)),
];

fn be(world: &mut World, state: Option<State>, peer: Option<State>) {
    world.daemon = state.map_or(Daemon::Gone, |state| Daemon::Up(view(state, peer)));
    world.asked.clear();
    world.tell();
}

/// All steps of the application until nothing moves, in order.
fn steps(world: &mut World) -> Vec<String> {
    let mut all = Vec::new();
    for _ in 0..200 {
        // What it asks is not answered, so that the daemon stays as it is.
        world.asked.clear();
        match world.steps.front().map(|(_, step)| step.clone()) {
            Some(Step::StartDaemon) => {
                world.steps.pop_front();
            }
            Some(step) => {
                match &step {
                    Step::Script { script, force, .. } if *script != Script::Transition => {
                        let force = if *force { " force" } else { "" };
                        all.push(format!("{}{force}", script.name()));
                    }
                    Step::TakeAddresses | Step::SeizeAddresses => {
                        all.push("take addresses".into());
                    }
                    Step::ReleaseAddresses => all.push("release addresses".into()),
                    _ => {}
                }
                world.finish(Ok(()));
            }
            None => world.pass(Duration::from_millis(100)),
        }
    }
    all
}

/// Whether the addresses went at once.
fn moved(from: usize, to: usize) -> (bool, Vec<String>) {
    let mut world = World::new(config());
    world.command(1, Command::Start);
    for (_, state, peer) in [STATES[1], STATES[from]] {
        be(&mut world, state, peer);
        steps(&mut world);
    }
    let before = world.addresses;
    be(&mut world, STATES[to].1, STATES[to].2);
    let dropped = before && !world.addresses;
    (dropped, steps(&mut world))
}

pub(super) fn table() -> String {
    let mut rows: BTreeMap<String, Vec<String>> = BTreeMap::new();
    for (from, was) in STATES.iter().enumerate() {
        for (to, is) in STATES.iter().enumerate() {
            let (dropped, mut steps) = moved(from, to);
            if dropped {
                steps.insert(0, "**drop addresses at once**".into());
            }
            let moves = format!("{} → {}", was.0, is.0);
            if from != to {
                rows.entry(steps.join(", ")).or_default().push(moves);
            }
        }
    }
    let mut text =
        String::from("| the daemon was → is | the manager does, in order |\n|---|---|\n");
    for (steps, moves) in rows {
        let steps = if steps.is_empty() { "nothing" } else { &steps };
        let _ = writeln!(text, "| {} | {steps} |", moves.join("; "));
    }
    text
}
