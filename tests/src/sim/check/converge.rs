//! I10: when faults have stopped, one node serves with the other in its set, both trees are the
//! same, and nothing is marked.

use super::super::change::show;
use super::super::node::NAMES;
use super::super::world::World;
use super::{Violation, violation};
use tandem_repl::control::State;
use tandem_repl::logic::dirty::Level;

const ORACLE: &str = "I10 the replicas come together";

pub(super) fn judge(world: &World) -> Result<(), Violation> {
    let states = [0, 1].map(|n| world.nodes[n].daemon.as_ref().map(|d| d.member.state()));
    let server = match states {
        [Some(State::Prim), Some(State::Second)] => 0,
        [Some(State::Second), Some(State::Prim)] => 1,
        _ => return violation(ORACLE, format!("{states:?}\n{}", world.state())),
    };
    let found = [0, 1].map(|n| world.nodes[n].tree().registers());
    if found[0] != found[1] {
        let differ = found[0]
            .iter()
            .filter(|(reg, value)| found[1].get(reg) != Some(value));
        let other = found[1].iter().filter(|(reg, _)| !found[0].contains_key(reg));
        let list: Vec<_> = differ.chain(other).take(5).collect();
        let text = format!("the trees differ: {list:?}\n{}", world.state());
        return violation(ORACLE, text);
    }
    for n in 0..2 {
        if let Some(uid) = world.nodes[n].tree().double() {
            let text = format!("{} has two files of {}", NAMES[n], show(uid));
            return violation(ORACLE, text);
        }
    }
    for n in [server, 1 - server] {
        let level = world.nodes[n].daemon.as_ref().map(|d| d.map.pressure().level);
        if level != Some(Level::Quiet) {
            let text = format!("{} has marks\n{}", NAMES[n], world.state());
            return violation("I10 the dirty map empties", text);
        }
    }
    Ok(())
}
