//! What the failover managers promise: no two nodes answer for the application, what is moved in
//! order is stopped here before it starts there, no address stays where nobody may answer, and
//! when faults stop everything runs and every command was answered.
//!
//! Nobody can hold a node to anything while it stands still, or while its manager is dead, and
//! until the manager has heard of its daemon again.

use super::super::Time;
use super::super::node::{Daemon, NAMES, Node};
use super::super::seat::App;
use super::super::world::World;
use super::{Violation, violation};
use tandem_failover::logic::api::Command;
use tandem_repl::control::{Readiness, State};
use tandem_repl::logic::member::grace;

const TWINS: &str = "I13 two nodes answer";
const START: &str = "M1 started where nobody serves";
const ORDER: &str = "M2 stopped before it is started";
const STRAY: &str = "M4 an address stays";
const KEPT: &str = "M5 what is wanted is kept";
const END: &str = "M3 everything runs";
/// News of a daemon reach its manager within this time, and then some.
const NEWS: Time = 600_000;

#[derive(Default)]
pub struct Managers {
    /// What each daemon was when somebody looked last.
    states: [Option<(State, bool)>; 2],
    /// Since when it does not serve.
    silent: [Time; 2],
    /// Since when there are addresses that should not be.
    stray: [Option<Time>; 2],
    /// Its last term ended in order.
    in_order: [bool; 2],
}

fn serves(state: Option<State>) -> bool {
    state.is_some_and(State::serves)
}

/// Its manager can be held to what it does.
fn is_awake(node: &Node) -> bool {
    let seat = &node.seat;
    let runs = seat.machine.is_some() && seat.has_heard && !seat.is_drowsy;
    node.is_powered && node.paused.is_none() && runs
}

/// After every event.
pub(super) fn judge(world: &mut World) -> Result<(), Violation> {
    for n in 0..2 {
        follow(world, n)?;
        stray(world, n)?;
    }
    let answers = |n: usize| {
        let node = &world.nodes[n];
        is_awake(node) && node.seat.addresses && node.seat.app.prim
    };
    let excused = world.options.may_split() || world.checks.promote.was_forced();
    if answers(0) && answers(1) && !excused {
        let text = format!("{} and {}", world.describe(0), world.describe(1));
        return violation(TWINS, text);
    }
    Ok(())
}

/// Notes what became of a daemon, and judges the end of its term.
fn follow(world: &mut World, n: usize) -> Result<(), Violation> {
    let node = &world.nodes[n];
    let ready = |r: Readiness| r == Readiness::Ready;
    let is = |d: &Daemon| (d.member.state(), ready(d.member.readiness()));
    let state = node.daemon.as_ref().map(is);
    let checks = &mut world.checks.managers;
    let before = std::mem::replace(&mut checks.states[n], state);
    let served = serves(before.map(|b| b.0));
    let state = state.map(|s| s.0);
    if serves(state) {
        checks.in_order[n] = false;
    } else if served || !is_awake(node) {
        // News come when somebody is there to hear them.
        checks.silent[n] = world.now;
    }
    if !serves(state) && served {
        // A swap, or the operator's choice; not what gave up because nobody answered.
        let stood = matches!(before, Some((State::Prim, _) | (State::Alone, true)));
        checks.in_order[n] = stood && state == Some(State::Second);
        if checks.in_order[n] && node.seat.app.prim && is_awake(node) {
            let text = format!("{} hands over while its application runs", NAMES[n]);
            return violation(ORDER, text);
        }
    }
    Ok(())
}

fn stray(world: &mut World, n: usize) -> Result<(), Violation> {
    let (node, now) = (&world.nodes[n], world.clock(n));
    let half = grace(world.options.stall_limit) / 2;
    let may = node.daemon.as_ref().is_some_and(|d| {
        let in_time = |until| now < until + half;
        serves(Some(d.member.state())) && d.member.serves_until().is_none_or(in_time)
    });
    let since = &mut world.checks.managers.stray[n];
    if may || !node.seat.addresses || !is_awake(node) {
        *since = None;
    } else if world.now - *since.get_or_insert(world.now) > NEWS {
        let text = format!("for {NEWS} us\n{}", world.describe(n));
        return violation(STRAY, text);
    }
    Ok(())
}

/// The application's start script is about to be called.
pub(super) fn judge_start(world: &World, n: usize) -> Result<(), Violation> {
    let checks = &world.checks.managers;
    let node = &world.nodes[n];
    let state = node.daemon.as_ref().map(|d| d.member.state());
    if !serves(state) && world.now - checks.silent[n] > NEWS {
        return violation(START, world.describe(n));
    }
    if checks.in_order[1 - n] && world.nodes[1 - n].seat.app.prim && is_awake(&world.nodes[1 - n]) {
        return violation(ORDER, format!("{} starts\n{}", NAMES[n], world.state()));
    }
    Ok(())
}

/// The daemon ends as it was told.
pub(super) fn judge_exit(world: &mut World, n: usize) -> Result<(), Violation> {
    let node = &world.nodes[n];
    world.checks.managers.in_order[n] = true;
    if is_awake(node) && (node.seat.app.prim || node.seat.addresses) {
        let text = format!("{} ends while its application runs", NAMES[n]);
        return violation(ORDER, text);
    }
    Ok(())
}

/// A command is answered with success.
pub(super) fn judge_answer(world: &World, n: usize, command: &Command) -> Result<(), Violation> {
    let wants = &world.nodes[n].seat.wants;
    let kept = match command {
        Command::Failover(on) => wants.failover == Some(*on),
        Command::Maintenance(on) => wants.maintenance == *on,
        Command::Checkers(on) => wants.checkers == *on,
        // At once; a stop is answered when it is done, and another word may have come.
        Command::Start => wants.started,
        _ => true,
    };
    if kept {
        return Ok(());
    }
    violation(KEPT, format!("{command:?}, on the disk: {wants:?}"))
}

/// After the calm.
pub(super) fn judge_end(world: &World) -> Result<(), Violation> {
    let mut roles = Vec::new();
    for (n, node) in world.nodes.iter().enumerate() {
        let seat = &node.seat;
        let Some(machine) = &seat.machine else {
            return violation(END, format!("{} has no manager", NAMES[n]));
        };
        let shown = machine.shown();
        let has = machine.running();
        let prim = shown.state == State::Prim;
        let app = App {
            both: has.both,
            prim: has.role == Some(tandem_failover::logic::level::Role::Prim),
            second: has.role == Some(tandem_failover::logic::level::Role::Second),
        };
        let good = shown.readiness == Readiness::Ready && seat.open.is_empty();
        let true_to_life = seat.app == app && seat.addresses == has.addresses;
        let whole = has.both && app.prim == prim && app.second != prim && has.addresses == prim;
        if !good || !true_to_life || !whole {
            let text = format!(
                "{}: {shown:?} has {has:?}, really {:?} addresses {}, open {:?}\n{machine:#?}\n{}",
                NAMES[n],
                seat.app,
                seat.addresses,
                seat.open,
                world.state()
            );
            return violation(END, text);
        }
        roles.push(shown.state);
    }
    if !roles.contains(&State::Prim) || !roles.contains(&State::Second) {
        return violation(END, format!("{roles:?}"));
    }
    Ok(())
}
