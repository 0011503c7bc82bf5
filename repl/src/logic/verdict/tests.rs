//! What the verdict promises, over all small pairs of records; the table in `docs/verdict.md`.
//! `TANDEM_REFRESH=1 cargo test -p tandem-repl verdict` writes that table anew.

use super::table::{NODES, Side, alone_table, histories, meetings};
use super::*;
use crate::ids::Id128;

/// Where the epoch is in the chain, or not.
fn knows(side: &Side, id: Id128) -> bool {
    side.chain.iter().any(|e| e.id == id)
}

/// I3: nothing that may have been acknowledged is only on the target, unless it is kept aside. An
/// epoch the source does not know may have acknowledged something if it did not need the source.
fn nothing_acknowledged_is_lost(source: &Side, target: &Side, keep_aside: bool) {
    let unknown = target.chain.iter().filter(|e| !knows(source, e.id));
    let lost: Vec<_> = unknown
        .filter(|e| !e.set.iter().any(|n| n == source.node))
        .collect();
    assert!(
        lost.is_empty() || keep_aside,
        "I3: {source:?} lacks {lost:?} of {target:?}"
    );
}

fn check(pair: &[Side; 2], verdict: &Verdict) {
    let [a, b] = pair;
    let mirrored = meet(&b.claim(), &a.claim());
    assert_eq!(*verdict, mirrored, "I7: {a:?} {b:?}");
    let Some(source) = verdict.source() else {
        assert!(
            matches!(verdict.rule, Rule::V2 | Rule::V7 | Rule::V8 | Rule::V9),
            "a refusal by {:?}: {a:?} {b:?}",
            verdict.rule
        );
        return;
    };
    let (source, target) = if source == a.node { (a, b) } else { (b, a) };
    let Outcome::Source {
        copy, keep_aside, ..
    } = verdict.outcome
    else {
        return;
    };
    assert!(source.record.epoch.is_some(), "a fresh node has nothing");
    nothing_acknowledged_is_lost(source, target, keep_aside);
    let same = source.record.epoch_id() == target.record.epoch_id();
    let both = NODES.iter().all(|n| source.record.set_has(n));
    if same && both {
        let (s, t) = (&source.record, &target.record);
        assert!(!s.stale || t.stale, "V4: not stale first");
        if s.stale == t.stale {
            assert!(source.serving || !target.serving, "V4: serving second");
        }
        let even = s.stale == t.stale && source.serving == target.serving;
        assert!(!(even && s.lost && !t.lost), "V4: not lost third");
    }
    if copy == Scope::Nothing {
        let clean = [source, target]
            .iter()
            .all(|s| s.record.clean && !s.record.lost);
        assert!(same && both && clean, "V3: {a:?} {b:?}");
    }
    let gone = source.record.lost && !target.record.lost && copy == Scope::Marks;
    assert!(
        !gone || keep_aside || verdict.rule == Rule::V4a,
        "what only the target has is kept"
    );
}

#[test]
fn all_small_pairs_are_judged_alike_by_both_and_lose_nothing_and_the_page_shows_them() {
    let meetings = meetings(check);
    let alone = alone_table(check_alone);
    println!("{meetings}\n{alone}");
    compare_page(&meetings, &alone);
}

/// I3 for a node alone.
fn check_alone(side: &Side, evidence: &Evidence, may: &May) {
    let record = &side.record;
    if *may != May::Serve {
        return;
    }
    assert!(!record.stale && !record.left, "W6");
    let refused = matches!(evidence.witness, Witness::Refused(Some(_)));
    assert!(
        !refused || evidence.told_stale,
        "W1, W3: another epoch is there"
    );
    if record.set_size() < 2 {
        return;
    }
    assert!(!record.lost || evidence.power_loss_over, "W3r");
    let policy = match evidence.policy {
        Policy::Wait => record.served || side.serving,
        Policy::Ping(answers) => answers,
        Policy::Alone => true,
    };
    let by_policy = evidence.witness == Witness::NotConfigured && policy;
    let granted = evidence.witness == Witness::Granted;
    assert!(
        evidence.told_stale || evidence.fenced || granted || by_policy,
        "W7: {side:?} {evidence:?}"
    );
}

const BEGIN: &str = "<!-- made by the test verdict::tests; TANDEM_REFRESH=1 writes it anew -->";
const MIDDLE: &str = "<!-- one node alone -->";
const END: &str = "<!-- end of what the test makes -->";

#[allow(clippy::disallowed_methods)]
fn compare_page(meetings: &str, alone: &str) {
    let path = concat!(env!("CARGO_MANIFEST_DIR"), "/../docs/verdict.md");
    let page = std::fs::read_to_string(path).unwrap_or_else(|e| panic!("{path}: {e}"));
    let (head, rest) = page.split_once(BEGIN).expect("the page has the first mark");
    let (_, tail) = rest.split_once(END).expect("the page has the last mark");
    let made = format!("{BEGIN}\n\n{meetings}\n{MIDDLE}\n\n{alone}\n{END}");
    let wanted = format!("{head}{made}{tail}");
    if std::env::var_os("TANDEM_REFRESH").is_some() {
        std::fs::write(path, wanted).unwrap();
    } else {
        assert!(
            page == wanted,
            "docs/verdict.md is old: run with TANDEM_REFRESH=1\n{made}"
        );
    }
}

#[test]
fn foreign_and_cloned_records_are_refused() {
    let all = histories();
    let one = all.iter().find(|p| p.iter().all(|s| s.chain.len() == 2));
    let [a, mut b] = one.unwrap().clone();
    b.record.volume = Id128([3; 16]);
    assert_eq!(meet(&a.claim(), &b.claim()).rule, Rule::V1);
    let mut b = a.clone();
    b.node = "b";
    b.record.epoch.as_mut().unwrap().set = vec!["b".into()];
    assert_eq!(meet(&a.claim(), &b.claim()).rule, Rule::V8);
    assert_eq!(meet(&b.claim(), &a.claim()).rule, Rule::V8);
    // Each ahead of the other.
    let mut b = a.clone();
    b.node = "b";
    let id = Id128([8; 16]);
    b.record.ended.push(a.record.epoch_id().unwrap());
    b.record.epoch.as_mut().unwrap().id = id;
    let mut a = a;
    a.record.ended.push(id);
    assert_eq!(meet(&a.claim(), &b.claim()).rule, Rule::V8);
}

#[test]
fn intents_given_up_are_no_ancestors() {
    let [mut a, mut b] = histories()
        .into_iter()
        .find(|p| p.iter().all(|s| s.chain.len() == 1) && !knows(&p[0], p[1].chain[0].id))
        .unwrap();
    let id = Id128([8; 16]);
    a.record.list_ended(&[id]);
    a.record.void.push(id);
    b.record.list_ended(&[id]);
    a.record.epoch.as_mut().unwrap().set = vec!["a".into()];
    b.record.epoch.as_mut().unwrap().set = vec!["b".into()];
    assert_eq!(meet(&a.claim(), &b.claim()).rule, Rule::V9);
}

#[test]
fn a_loser_that_agreed_is_the_target_and_its_data_is_kept_aside() {
    let pair = histories().into_iter().find(|[a, b]| {
        let alone = |s: &Side| s.record.set_size() == 1 && s.chain.len() == 2;
        alone(a) && alone(b) && a.chain[0].id == b.chain[0].id && a.chain[1].id != b.chain[1].id
    });
    let [a, mut b] = pair.unwrap();
    let verdict = meet(&a.claim(), &b.claim());
    assert_eq!((verdict.rule, verdict.source()), (Rule::V7, None));
    b.record.stale = true;
    let verdict = meet(&a.claim(), &b.claim());
    let Outcome::Source {
        node, keep_aside, ..
    } = &verdict.outcome
    else {
        panic!("{verdict:?}");
    };
    assert_eq!((&**node, *keep_aside), ("a", true));
}

#[test]
fn digests_differ_where_verdicts_do() {
    let mut digests = std::collections::BTreeMap::new();
    for pair in histories() {
        let verdict = meet(&pair[0].claim(), &pair[1].claim());
        let other = digests.insert(verdict.digest(), verdict.clone());
        assert!(other.is_none_or(|o| o == verdict));
    }
}
