//! I10: when faults have stopped, one node serves with the other in its set, both trees are the
//! same, and nothing is marked.

use super::super::change::show;
use super::super::node::NAMES;
use super::super::world::World;
use super::{Violation, violation};
use std::collections::BTreeSet;
use tandem_repl::control::State;
use tandem_repl::logic::dirty::{Level, Marks};

const ORACLE: &str = "I10 the replicas come together";

pub(super) fn judge(world: &World) -> Result<(), Violation> {
    let states = [0, 1].map(|n| world.nodes[n].daemon.as_ref().map(|d| d.member.state()));
    let server = match states {
        [Some(State::Prim), Some(State::Second)] => 0,
        [Some(State::Second), Some(State::Prim)] => 1,
        _ => return violation(ORACLE, format!("{states:?}\n{}", world.state())),
    };
    same(world, ORACLE)?;
    let map = |n: usize| world.nodes[n].daemon.as_ref().map(|d| &d.map);
    let quiet = map(server).is_some_and(|m| m.pressure().level == Level::Quiet);
    // A follower may keep marks warm that it does not need any more.
    let nothing = map(1 - server).is_some_and(|m| m.marks() == Marks::default());
    if !quiet || !nothing {
        let text = format!("marks are left, {quiet} {nothing}\n{}", world.state());
        return violation("I10 the dirty map empties", text);
    }
    Ok(())
}

/// I5: a resync says that it is finished while writes stand still.
pub(super) fn judge_finished(world: &World) -> Result<(), Violation> {
    same(world, "I5 equal before growth")
}

fn same(world: &World, oracle: &'static str) -> Result<(), Violation> {
    let found = [0, 1].map(|n| world.nodes[n].tree().registers());
    if found[0] != found[1] {
        let regs: BTreeSet<_> = found.iter().flat_map(|f| f.keys()).collect();
        let both = |reg| (reg, found[0].get(reg), found[1].get(reg));
        let differ = regs.into_iter().map(both).filter(|(_, a, b)| a != b);
        let list: Vec<_> = differ.take(8).collect();
        let text = format!("the trees differ: {list:?}\n{}", world.state());
        return violation(oracle, text);
    }
    for (node, name) in world.nodes.iter().zip(NAMES) {
        if let Some(uid) = node.tree().double() {
            let text = format!("{name} has two files of {}", show(uid));
            return violation(oracle, text);
        }
    }
    Ok(())
}
