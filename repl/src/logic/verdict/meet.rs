//! Two records meet: V1–V9.

use super::{Block, Claim, Outcome, Rule, Scope, Verdict};
use crate::ids::Id128;
use crate::logic::record::Epoch;
use crate::logic::rules::Rules;

/// What the two claims allow. `meet(a, b) == meet(b, a)` (I7).
pub fn meet(a: &Claim<'_>, b: &Claim<'_>) -> Verdict {
    meet_with(&Rules::default(), a, b)
}

/// One claim while it is judged: its epoch may be stepped back.
struct View<'a> {
    claim: &'a Claim<'a>,
    epoch: Epoch,
}

impl View<'_> {
    /// The list of what this node has been through: its epoch and those before it.
    fn knows(&self, id: Id128) -> bool {
        self.epoch.id == id || self.ended(id)
    }

    fn ended(&self, id: Id128) -> bool {
        id != self.epoch.id && self.claim.record.ended.contains(&id)
    }

    fn names(&self, node: &str) -> bool {
        self.epoch.set.iter().any(|n| n == node)
    }

    fn lost(&self, rules: &Rules) -> bool {
        rules.lost_node && self.claim.record.lost
    }
}

/// As [`meet`], with rules that may be missing.
pub fn meet_with(rules: &Rules, a: &Claim<'_>, b: &Claim<'_>) -> Verdict {
    let (a, b) = if a.node <= b.node { (a, b) } else { (b, a) };
    let (epoch_a, epoch_b) = match (&a.record.epoch, &b.record.epoch) {
        (None, None) => return refuse(Rule::V2, neither(a, b)),
        (None, Some(_)) => return source(Rule::V2, b, Scope::Everything, false),
        (Some(_), None) => return source(Rule::V2, a, Scope::Everything, false),
        (Some(a), Some(b)) => (a.clone(), b.clone()),
    };
    if a.record.volume != b.record.volume {
        return refuse(Rule::V1, foreign(a, b));
    }
    let mut a = View {
        claim: a,
        epoch: epoch_a,
    };
    let mut b = View {
        claim: b,
        epoch: epoch_b,
    };
    let mut stepped_back = Vec::new();
    let mut verdict = loop {
        if is_clone(rules, &a, &b) {
            break refuse(Rule::V8, cloned(&a, &b));
        }
        match (unknown(rules, &a, &b), unknown(rules, &b, &a)) {
            (true, _) => {
                stepped_back.push(a.claim.node.to_string());
                if !step_back(&mut a, &b) {
                    break refuse(Rule::V9, unrelated(&a, &b));
                }
            }
            (_, true) => {
                stepped_back.push(b.claim.node.to_string());
                if !step_back(&mut b, &a) {
                    break refuse(Rule::V9, unrelated(&a, &b));
                }
            }
            (false, false) => break settled(rules, &a, &b),
        }
    };
    verdict.stepped_back = stepped_back;
    verdict
}

fn same(rules: &Rules, a: &View<'_>, b: &View<'_>) -> bool {
    if rules.epoch_ids {
        a.epoch.id == b.epoch.id
    } else {
        a.epoch.number == b.epoch.number
    }
}

/// V8: one epoch with two sets, or each ahead of the other.
fn is_clone(rules: &Rules, a: &View<'_>, b: &View<'_>) -> bool {
    if !rules.epoch_ids {
        return false;
    }
    let different = a.epoch.id == b.epoch.id && a.epoch.set != b.epoch.set;
    different || (a.ended(b.epoch.id) && b.ended(a.epoch.id))
}

/// V5a: `a`'s epoch needs `b` for every acknowledgement, and `b` never took it up.
fn unknown(rules: &Rules, a: &View<'_>, b: &View<'_>) -> bool {
    rules.step_back && rules.epoch_ids && a.names(b.claim.node) && !b.knows(a.epoch.id)
}

/// To the epoch before. Its set is what the other node says of it, or this node alone: what it was
/// does not matter where the other is elsewhere.
fn step_back(view: &mut View<'_>, other: &View<'_>) -> bool {
    let parent = view.epoch.parent;
    if parent == Id128::default() {
        return false;
    }
    view.epoch = if other.epoch.id == parent {
        other.epoch.clone()
    } else {
        Epoch {
            number: view.epoch.number.saturating_sub(1),
            id: parent,
            parent: Id128::default(),
            set: vec![view.claim.node.to_string()],
        }
    };
    true
}

/// V3, V4, V4a, V5/V6, V7, V9.
fn settled(rules: &Rules, a: &View<'_>, b: &View<'_>) -> Verdict {
    if same(rules, a, b) {
        return match (a.names(a.claim.node), a.names(b.claim.node)) {
            (true, true) => together(rules, a, b),
            (true, false) => source(Rule::V4a, a.claim, Scope::Marks, false),
            (false, true) => source(Rule::V4a, b.claim, Scope::Marks, false),
            (false, false) => refuse(Rule::V9, unrelated(a, b)),
        };
    }
    let (a_ahead, b_ahead) = if rules.epoch_ids {
        (a.ended(b.epoch.id), b.ended(a.epoch.id))
    } else {
        let ahead = a.epoch.number > b.epoch.number;
        (ahead, !ahead)
    };
    match (a_ahead, b_ahead) {
        (true, _) => source(Rule::V5, a.claim, Scope::Marks, a.lost(rules)),
        (_, true) => source(Rule::V5, b.claim, Scope::Marks, b.lost(rules)),
        (false, false) if !related(a, b) => refuse(Rule::V9, unrelated(a, b)),
        (false, false) => match (a.claim.record.stale, b.claim.record.stale) {
            // Only who agreed to be the one set aside is stale here.
            (false, true) => source(Rule::V7, a.claim, Scope::Marks, true),
            (true, false) => source(Rule::V7, b.claim, Scope::Marks, true),
            _ => refuse(Rule::V7, diverged(a, b)),
        },
    }
}

/// V3 and V4: both were in the set to the end.
fn together(rules: &Rules, a: &View<'_>, b: &View<'_>) -> Verdict {
    let key = |view: &View<'_>| {
        let record = view.claim.record;
        let serving = view.claim.serving;
        let (lost, served) = (view.lost(rules), record.served);
        rules
            .verdict_order
            .then_some((record.stale, !serving, lost, !served))
    };
    // Equal keys: `a` has the lower node id.
    let (first, other) = if key(b) < key(a) { (b, a) } else { (a, b) };
    let ended = |view: &View<'_>| {
        let record = view.claim.record;
        // A record that stepped back says nothing of how the epoch before ended.
        let own = record.epoch_id() == Some(view.epoch.id);
        own && record.clean && !record.stale && !view.lost(rules)
    };
    if ended(a) && ended(b) {
        return source(Rule::V3, first.claim, Scope::Nothing, false);
    }
    // The only one that still has what was not flushed must not lose it.
    let aside = first.lost(rules) && !other.lost(rules);
    source(Rule::V4, first.claim, Scope::Marks, aside)
}

/// A common ancestor is known: an epoch, not an intent given up.
fn related(a: &View<'_>, b: &View<'_>) -> bool {
    let void = |id: &Id128| a.claim.record.void.contains(id) || b.claim.record.void.contains(id);
    let list = a.claim.record.ended.iter();
    list.filter(|id| !void(id)).any(|id| b.ended(*id))
}

fn source(rule: Rule, claim: &Claim<'_>, copy: Scope, keep_aside: bool) -> Verdict {
    let node = claim.node.to_string();
    Verdict {
        rule,
        stepped_back: Vec::new(),
        outcome: Outcome::Source {
            node,
            copy,
            keep_aside,
        },
    }
}

fn refuse(rule: Rule, block: Block) -> Verdict {
    Verdict {
        rule,
        stepped_back: Vec::new(),
        outcome: Outcome::Refuse(block),
    }
}

fn neither(a: &Claim<'_>, b: &Claim<'_>) -> Block {
    Block::new(
        "never-synchronised",
        format!("{} and {} were never synchronised", a.node, b.node),
        "run `tandem prim` on the node with the good data, `tandem second` on the other".into(),
    )
}

fn foreign(a: &Claim<'_>, b: &Claim<'_>) -> Block {
    Block::new(
        "foreign",
        format!(
            "the replicas of {} and {} belong to different volumes",
            a.node, b.node
        ),
        "check that the two nodes belong together; empty the state directory of the wrong one"
            .into(),
    )
}

fn cloned(a: &View<'_>, b: &View<'_>) -> Block {
    Block::new(
        "cloned",
        format!(
            "the records of {} and {} contradict each other, as after the copy of a disk",
            a.claim.node, b.claim.node
        ),
        "find the good replica, then empty the state directory of the other node".into(),
    )
}

fn diverged(a: &View<'_>, b: &View<'_>) -> Block {
    Block::new(
        "diverged",
        format!(
            "the replicas of {} and {} were written apart",
            a.claim.node, b.claim.node
        ),
        "run `tandem resync` on the node whose changes are to be set aside".into(),
    )
}

fn unrelated(a: &View<'_>, b: &View<'_>) -> Block {
    Block::new(
        "unrelated",
        format!(
            "the records of {} and {} have no epoch in common",
            a.claim.node, b.claim.node
        ),
        "find the good replica, then empty the state directory of the other node".into(),
    )
}
