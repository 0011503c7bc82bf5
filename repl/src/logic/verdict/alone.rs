//! One node cannot meet the other: W1–W7.

use super::{Block, Claim, Rule};
use crate::ids::Id128;

/// What the witness said.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Witness {
    NotConfigured,
    NotAsked,
    Granted,
    /// What it holds is not in this node's list.
    Refused(Option<Id128>),
    Silent,
}

/// The module's isolation policy, with the answer it asks for.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Policy {
    Wait,
    Ping(bool),
    Alone,
}

/// What is known of the other node without meeting it.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct Evidence {
    pub witness: Witness,
    /// A fence command proved the peer off.
    pub fenced: bool,
    pub policy: Policy,
    /// The time to wait for the peer after a power loss is over.
    pub power_loss_over: bool,
    /// The peer said, in this epoch, that it is durably stale.
    pub told_stale: bool,
}

#[derive(Clone, Debug, PartialEq, Eq)]
pub enum May {
    /// In a new epoch, unless the set is this node already.
    Serve,
    /// Ask the witness first.
    Ask,
    Wait(Block),
}

#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Alone {
    pub rule: Rule,
    pub may: May,
}

/// Whether a node may serve without its peer.
pub fn alone(me: &Claim<'_>, evidence: &Evidence) -> Alone {
    let record = me.record;
    if record.stale || record.left {
        return wait(Rule::W6, not_good(record.stale));
    }
    let only_me = match &record.epoch {
        // A volume that begins here: nobody else ever held it.
        None => true,
        Some(epoch) => epoch.set.iter().all(|n| n == me.node),
    };
    if only_me {
        return match evidence.witness {
            Witness::NotAsked => may(Rule::W1, May::Ask),
            Witness::Refused(Some(_)) => wait(Rule::W1, elsewhere()),
            _ => may(Rule::W1, May::Serve),
        };
    }
    if !record.set_has(me.node) {
        return wait(Rule::W6, not_good(true));
    }
    if record.lost && !evidence.power_loss_over {
        return wait(Rule::W3r, power_lost());
    }
    let granted = if record.lost { Rule::W3r } else { Rule::W3 };
    if evidence.told_stale {
        return may(Rule::W7, May::Serve);
    }
    match evidence.witness {
        Witness::NotAsked => may(granted, May::Ask),
        Witness::Granted => may(granted, May::Serve),
        // Not even where the peer is off: it may have acknowledged before.
        Witness::Refused(Some(_)) => wait(granted, elsewhere()),
        _ if evidence.fenced => may(Rule::W4, May::Serve),
        Witness::NotConfigured => by_policy(me, evidence.policy),
        Witness::Refused(None) => wait(granted, empty()),
        Witness::Silent => wait(Rule::W7, silent()),
    }
}

fn by_policy(me: &Claim<'_>, policy: Policy) -> Alone {
    match policy {
        Policy::Alone | Policy::Ping(true) => may(Rule::W5, May::Serve),
        Policy::Ping(false) => wait(Rule::W5, unreachable()),
        Policy::Wait if me.serving || me.record.served => may(Rule::W5a, May::Serve),
        Policy::Wait => wait(Rule::W5a, isolated()),
    }
}

fn may(rule: Rule, may: May) -> Alone {
    Alone { rule, may }
}

fn wait(rule: Rule, block: Block) -> Alone {
    may(rule, May::Wait(block))
}

fn not_good(stale: bool) -> Block {
    let (code, reason) = if stale {
        (
            "stale",
            "this replica is known to lack acknowledged writes, or may",
        )
    } else {
        ("left", "this node left in order while its peer went on")
    };
    Block::new(
        code,
        reason.into(),
        "start the other node; `tandem prim --force` here gives up what only it has".into(),
    )
}

fn elsewhere() -> Block {
    Block::new(
        "granted-to-peer",
        "the witness gave the volume to the other node, or to an epoch this node does not know"
            .into(),
        "start the other node; `tandem prim --force` here gives up what only it has".into(),
    )
}

fn empty() -> Block {
    Block::new(
        "witness-empty",
        "the witness was never told where the volume is, so it cannot grant it".into(),
        "start the other node; where it is gone for good, `tandem prim --force`".into(),
    )
}

fn silent() -> Block {
    Block::new(
        "witness-silent",
        "neither the peer nor the witness answers".into(),
        "bring the witness or the other node back".into(),
    )
}

fn power_lost() -> Block {
    Block::new(
        "lost",
        "power was lost here while the other node was in the set".into(),
        "start the other node; `tandem prim --force` serves what is here".into(),
    )
}

fn isolated() -> Block {
    Block::new(
        "isolated",
        "the other node cannot be reached, served last, and may still serve".into(),
        "start the other node; configure a witness to decide without it".into(),
    )
}

fn unreachable() -> Block {
    Block::new(
        "cut-off",
        "neither the other node nor the configured address answers".into(),
        "repair the network of this node".into(),
    )
}
