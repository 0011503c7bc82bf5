//! All small pairs of records, and the table of verdicts that `docs/verdict.md` shows, made from
//! the code.

use super::{Claim, Evidence, May, Outcome, Policy, Rule, Scope, Verdict, Witness, alone, meet};
use crate::ids::Id128;
use crate::logic::record::{Epoch, Record};
use std::collections::BTreeMap;
use std::fmt::Write;

/// Longest chain of epochs tried.
const DEPTH: usize = 3;
pub(super) const NODES: [&str; 2] = ["a", "b"];

/// One node of a pair.
#[derive(Clone, Debug)]
pub(super) struct Side {
    pub node: &'static str,
    pub record: Record,
    /// The epochs it went through, oldest first; the last is its own.
    pub chain: Vec<Epoch>,
    pub serving: bool,
}

impl Side {
    pub(super) fn claim(&self) -> Claim<'_> {
        Claim {
            node: self.node,
            record: &self.record,
            serving: self.serving,
        }
    }
}

fn id(n: usize) -> Id128 {
    let mut id = Id128::default();
    id.0[0] = u8::try_from(n).unwrap_or(u8::MAX);
    id
}

/// Every chain of `length` epochs with the given sets, as lists of indices into `sets`.
fn choices(length: usize, sets: usize) -> Vec<Vec<usize>> {
    let mut all = vec![vec![]];
    for _ in 0..length {
        let longer = |c: &Vec<usize>| {
            let c = c.clone();
            (0..sets).map(move |s| c.iter().copied().chain([s]).collect())
        };
        all = all.iter().flat_map(longer).collect();
    }
    all
}

fn chain(ids: impl Iterator<Item = usize>, sets: &[&[&str]]) -> Vec<Epoch> {
    let mut parent = Id128::default();
    let numbered = ids.zip(1u64..).zip(sets);
    let epoch = |((n, number), set): ((usize, u64), &&[&str])| {
        let epoch = Epoch {
            number,
            id: id(n),
            parent,
            set: set.iter().map(|n| (*n).to_string()).collect(),
        };
        parent = epoch.id;
        epoch
    };
    numbered.map(epoch).collect()
}

fn side(node: usize, chain: Vec<Epoch>) -> Side {
    let ended = chain.iter().rev().skip(1).rev().map(|e| e.id).collect();
    Side {
        node: NODES[node],
        record: Record {
            volume: id(99),
            epoch: chain.last().cloned(),
            ended,
            ..Record::default()
        },
        chain,
        serving: false,
    }
}

/// Every pair of histories: a common beginning, then each its own way, at most [`DEPTH`] epochs.
pub(super) fn histories() -> Vec<[Side; 2]> {
    let common: [&[&str]; 3] = [&["a", "b"], &["a"], &["b"]];
    let mut all = Vec::new();
    for shared in 0..=DEPTH {
        let most = DEPTH - shared;
        let lengths = (0..=most).flat_map(|a| (0..=most).map(move |b| (a, b)));
        for ((a, b), first) in
            lengths.flat_map(|l| choices(shared, 3).into_iter().map(move |first| (l, first)))
        {
            for (own_a, own_b) in choices(a, 2)
                .into_iter()
                .flat_map(|x| choices(b, 2).into_iter().map(move |y| (x.clone(), y)))
            {
                let way = |node: usize, own: &[usize]| {
                    let alone: &[&str] = if node == 0 { &["a"] } else { &["b"] };
                    let later = own.iter().map(|s| [common[0], alone][*s]);
                    let sets: Vec<_> = first.iter().map(|s| common[*s]).chain(later).collect();
                    let ids = (1..=shared).chain((1..=own.len()).map(|n| (node + 1) * 10 + n));
                    side(node, chain(ids, &sets))
                };
                all.push([way(0, &own_a), way(1, &own_b)]);
            }
        }
    }
    all
}

/// The pair with flags by bits: clean, left, stale, lost, served, serving.
pub(super) fn flagged(pair: &[Side; 2], bits: u32) -> [Side; 2] {
    let flag = |side: &Side, bits: u32| {
        let mut side = side.clone();
        let on = |n: u32| bits & (1 << n) != 0;
        side.record.clean = on(0);
        side.record.left = on(1);
        side.record.stale = on(2);
        side.record.lost = on(3);
        side.record.served = on(4);
        side.serving = on(5);
        side
    };
    [flag(&pair[0], bits & 63), flag(&pair[1], bits >> 6)]
}

/// What the table shows of a node.
fn describe(side: &Side) -> String {
    let Some(epoch) = &side.record.epoch else {
        return format!("{}: fresh", side.node);
    };
    let name = |e: &Epoch| format!("{}{{{}}}", e.id.0[0], e.set.join(","));
    let chain: Vec<_> = side.chain.iter().map(name).collect();
    let record = &side.record;
    let flags = [
        (record.clean, "clean"),
        (record.left, "left"),
        (record.stale, "stale"),
        (record.lost, "lost"),
        (record.served, "served"),
        (side.serving, "serving"),
    ];
    let mut text = format!("{}: {}", side.node, chain.join(" → "));
    if epoch.id != side.chain.last().map_or(Id128::default(), |e| e.id) {
        text.push_str(" (other epoch)");
    }
    for (_, word) in flags.iter().filter(|(on, _)| *on) {
        let _ = write!(text, ", {word}");
    }
    text
}

fn outcome(verdict: &Verdict) -> String {
    let mut text = match &verdict.outcome {
        Outcome::Source {
            node,
            copy,
            keep_aside,
        } => {
            let copy = match copy {
                Scope::Nothing => "nothing",
                Scope::Marks => "marks of both",
                Scope::Everything => "everything",
            };
            let aside = if *keep_aside { ", kept aside" } else { "" };
            format!("{node} is source: {copy}{aside}")
        }
        Outcome::Refuse(block) => format!("refused: `{}`", block.code),
    };
    if !verdict.stepped_back.is_empty() {
        let _ = write!(text, "; {} stepped back", verdict.stepped_back.join(", "));
    }
    text
}

/// Rule, with V5a and outcome, to how often it decided and the plainest example.
type Rows = BTreeMap<(Rule, bool, String), (u64, String, u32)>;

/// Counts every verdict of the enumeration; `check` sees each.
pub(super) fn meetings(mut check: impl FnMut(&[Side; 2], &Verdict)) -> String {
    let mut rows = Rows::new();
    for pair in histories() {
        for bits in 0..(1 << 12) {
            let pair = flagged(&pair, bits);
            let verdict = meet(&pair[0].claim(), &pair[1].claim());
            check(&pair, &verdict);
            // A shape of outcome is one row, whichever of the two nodes it names.
            let shape = outcome(&verdict)
                .replace("b is", "one is")
                .replace("a is", "one is");
            let shape = shape
                .replace("; a stepped back", "")
                .replace("; b stepped back", "");
            let shape = shape.split(';').next().unwrap_or("").to_string();
            let key = (verdict.rule, !verdict.stepped_back.is_empty(), shape);
            let weight = bits.count_ones() * 4 + pair.iter().map(size).sum::<u32>();
            let row = rows
                .entry(key)
                .or_insert_with(|| (0, String::new(), u32::MAX));
            row.0 += 1;
            if weight < row.2 {
                let sides = format!("{} ┆ {}", describe(&pair[0]), describe(&pair[1]));
                row.1 = format!("{sides} ⇒ {}", outcome(&verdict));
                row.2 = weight;
            }
        }
    }
    let mut text =
        String::from("| rule | verdict | pairs | plainest example |\n|---|---|---|---|\n");
    for ((rule, stepped, shape), (count, example, _)) in rows {
        let rule = if stepped {
            format!("V5a, {rule}")
        } else {
            rule.to_string()
        };
        let _ = writeln!(text, "| {rule} | {shape} | {count} | {example} |");
    }
    text
}

fn size(side: &Side) -> u32 {
    u32::try_from(side.chain.len()).unwrap_or(u32::MAX)
}

/// Every state of knowledge about a peer that cannot be met.
pub(super) fn knowledge() -> Vec<Evidence> {
    let witnesses = [
        Witness::NotConfigured,
        Witness::NotAsked,
        Witness::Granted,
        Witness::Refused(None),
        Witness::Refused(Some(id(77))),
        Witness::Silent,
    ];
    let policies = [
        Policy::Wait,
        Policy::Ping(false),
        Policy::Ping(true),
        Policy::Alone,
    ];
    let flags = [false, true];
    let mut all = Vec::new();
    for witness in witnesses {
        for policy in policies {
            for bits in 0..8usize {
                all.push(Evidence {
                    witness,
                    policy,
                    fenced: flags[bits & 1],
                    power_loss_over: flags[bits >> 1 & 1],
                    told_stale: flags[bits >> 2],
                });
            }
        }
    }
    all
}

/// Every record a node may be left alone with.
pub(super) fn left_alone() -> Vec<Side> {
    let sets: [&[&str]; 2] = [&["a", "b"], &["a"]];
    let mut all = Vec::new();
    for set in [None, Some(sets[0]), Some(sets[1])] {
        let one = side(0, set.map_or(vec![], |s| chain([1].into_iter(), &[s])));
        for bits in 0..64 {
            let [one, _] = flagged(&[one.clone(), one.clone()], bits);
            all.push(one);
        }
    }
    all
}

/// Counts every decision of a node alone; `check` sees each.
pub(super) fn alone_table(mut check: impl FnMut(&Side, &Evidence, &May)) -> String {
    let mut rows: BTreeMap<(Rule, String), (u64, String, u32)> = BTreeMap::new();
    for side in left_alone() {
        for evidence in knowledge() {
            let decision = alone(&side.claim(), &evidence);
            check(&side, &evidence, &decision.may);
            let may = match &decision.may {
                May::Serve => "serves".to_string(),
                May::Ask => "asks the witness".to_string(),
                May::Wait(block) => format!("waits: `{}`", block.code),
            };
            let (example, weight) = known(&side, &evidence);
            let row = rows.entry((decision.rule, may));
            let row = row.or_insert_with(|| (0, String::new(), u32::MAX));
            row.0 += 1;
            if weight < row.2 {
                (row.1, row.2) = (example, weight);
            }
        }
    }
    let mut text =
        String::from("| rule | decision | cases | plainest example |\n|---|---|---|---|\n");
    for ((rule, may), (count, example, _)) in rows {
        let _ = writeln!(text, "| {rule} | {may} | {count} | {example} |");
    }
    text
}

fn known(side: &Side, evidence: &Evidence) -> (String, u32) {
    let witness = match evidence.witness {
        Witness::NotConfigured => "no witness",
        Witness::NotAsked => "witness not asked",
        Witness::Granted => "witness grants",
        Witness::Refused(None) => "witness is empty",
        Witness::Refused(Some(_)) => "witness holds another epoch",
        Witness::Silent => "witness silent",
    };
    let policy = match evidence.policy {
        Policy::Wait => "wait",
        Policy::Ping(false) => "ping, no answer",
        Policy::Ping(true) => "ping, answered",
        Policy::Alone => "alone",
    };
    let mut text = format!("{}; {witness}", describe(side));
    let mut weight = u32::from(evidence.policy != Policy::Wait);
    if evidence.witness == Witness::NotConfigured {
        let _ = write!(text, ", policy {policy}");
    } else {
        weight += 1;
    }
    let more = [
        (evidence.fenced, "peer fenced"),
        (evidence.power_loss_over, "time after power loss over"),
        (evidence.told_stale, "peer durably stale"),
    ];
    for (_, word) in more.iter().filter(|(on, _)| *on) {
        let _ = write!(text, ", {word}");
        weight += 2;
    }
    let record = &side.record;
    let flags = [
        record.clean,
        record.left,
        record.stale,
        record.lost,
        record.served,
        side.serving,
    ];
    weight += 4 * u32::try_from(flags.iter().filter(|f| **f).count()).unwrap_or(0);
    (text, weight)
}
