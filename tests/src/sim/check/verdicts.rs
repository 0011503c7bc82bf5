//! I7: both ends compute the same verdict from the same two records.

use super::super::node::NAMES;
use super::super::world::World;
use super::{Violation, violation};
use tandem_repl::logic::verdict::{Claim, meet_with};
use tandem_repl::wire::Hello;

pub(super) fn judge(world: &World, n: usize, hello: &Hello) -> Result<(), Violation> {
    let Some(daemon) = &world.nodes[n].daemon else {
        return Ok(());
    };
    let own = Claim {
        node: NAMES[n],
        record: daemon.member.record(),
        serving: daemon.member.state().serves(),
    };
    let peer = Claim {
        node: NAMES[1 - n],
        record: &hello.record,
        serving: hello.state.serves(),
    };
    let rules = &world.options.rules.member;
    let (one, other) = (meet_with(rules, &own, &peer), meet_with(rules, &peer, &own));
    if one != other {
        return violation(
            "I7 one verdict",
            format!("{one:?} and {other:?} from {own:?} and {peer:?}"),
        );
    }
    Ok(())
}
