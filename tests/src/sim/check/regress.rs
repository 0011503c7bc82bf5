//! I8: a resync never replaces newer bytes by older ones.

use super::super::change::Reg;
use super::super::node::NAMES;
use super::super::tree::Ino;
use super::super::world::World;
use super::{Violation, violation};

/// What a request has written on a target: file, page, old, new.
pub(super) fn judge(
    world: &World,
    n: usize,
    written: &[(Ino, u64, u64, u64)],
) -> Result<(), Violation> {
    let tree = world.nodes[n].tree();
    for (ino, page, old, new) in written {
        let Some(uid) = tree.get(*ino).ok().and_then(|i| i.meta.uid) else {
            continue;
        };
        let reg = Reg::Page(uid, *page);
        let value = |value: u64| (value != 0).then_some((value, 0));
        let place = |v: u64| world.checks.acked.place(1 - n, &reg, value(v));
        if let (Some(was), Some(is)) = (place(*old), place(*new))
            && is < was
        {
            return violation(
                "I8 resync never goes back",
                format!("{}: {reg:?} was {old} and became {new}", NAMES[n]),
            );
        }
    }
    Ok(())
}
