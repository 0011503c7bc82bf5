//! The simulator is sharp: for every rule that can be switched off there is a run that breaks a
//! promise without it, and breaks none with it. `docs/simulator.md` tells how to look at one.
//!
//! Each proof keeps a seed. Seeds go stale when the code changes; then others are tried for a
//! while, and the new one is printed. A rule without an entry fails
//! [`every_rule_has_its_proof_or_its_reason`]; one that is not even named does not compile
//! (`tests/src/sim/sharp.rs`).

use std::collections::BTreeSet;
use std::time::Duration;
use tandem_tests::sim::attacks::attack;
use tandem_tests::sim::sharp::{Proof, prove, switches};

/// So long other seeds are tried when the kept one shows nothing any more.
const SEARCH: Duration = Duration::from_secs(12);

/// For each rule: the attack, a seed of it that fails without the rule, and which oracles count.
macro_rules! proofs {
    ($($test:ident: $rule:literal, $attack:literal, $seed:literal, [$($oracle:literal),+];)+) => {
        const PROOFS: &[Proof] = &[$(Proof {
            rule: $rule,
            attack: $attack,
            seed: $seed,
            oracles: &[$($oracle),+],
        }),+];
        mod without {
            $(
                #[test]
                fn $test() {
                    super::show($rule);
                }
            )+
        }
    };
}

proofs! {
    verdict_order: "member.verdict_order", "one_lost_one_crashed", 1,
        ["I1 acknowledged changes survive"];
    lost_node: "member.lost_node", "one_lost_one_crashed", 1,
        ["I1 acknowledged changes survive"];
    eligibility_on_reply: "member.eligibility_on_reply", "meets_while_asking", 116,
        ["I13 two nodes serve"];
    refusal_changes_nothing: "member.refusal_changes_nothing", "granted_and_cut", 6,
        ["I1 acknowledged changes survive"];
    epoch_ids: "member.epoch_ids", "half_a_swap", 8,
        ["I3 who lacks changes is not promoted"];
    cas_by_ancestry: "member.cas_by_ancestry", "parted", 1,
        ["I3 who lacks changes is not promoted", "I13 two nodes serve"];
    left_before_leave: "member.left_before_leave", "leaves_unheard", 2,
        ["I3 who lacks changes is not promoted"];
    epoch_at_swap: "member.epoch_at_swap", "swaps", 1,
        ["I2 one server in an epoch"];
    target_stale_first: "member.target_stale_first", "first_source_dies", 4,
        ["I1 nothing comes from nowhere"];
    growth_order: "member.growth_order", "source_dies_in_a_growth", 1,
        ["I1 acknowledged changes survive"];
    marks_after_growth: "member.marks_after_growth", "server_cut_after_growth", 2,
        ["I6 marks cover what differs"];
    ended_whole: "member.ended_whole", "many_epochs", 2,
        ["I3 who lacks changes is not promoted"];
    void_intents: "member.void_intents", "question_comes_late", 2,
        ["I10 the replicas come together"];
    lease: "member.lease", "late_grants", 1,
        ["I13 two nodes serve"];
    lease_send_time: "member.lease_send_time", "late_grants", 1,
        ["I13 two nodes serve"];
    intent_first: "member.intent_first", "dies_asking", 18,
        ["I10 the replicas come together"];
    checkpoint_waits: "member.checkpoint_waits", "flush_overtakes", 2,
        ["I6 marks cover what differs"];
    checkpoint_both_flush: "member.checkpoint_both_flush", "follower_flushes_late", 7,
        ["I6 marks cover what differs"];
    told_stale_checks: "member.told_stale_checks", "told_while_leaving", 2,
        ["I10 the replicas come together"];
    told_stale_durable: "member.told_stale_durable", "told_then_parted", 6,
        ["I3 who lacks changes is not promoted"];
    step_back: "member.step_back", "half_a_swap", 8,
        ["I3 nothing to choose between"];
    growth_holds_answers: "member.growth_holds_answers", "many_epochs", 1,
        ["I5 growth"];
    shrink_first: "member.shrink_first", "many_epochs", 1,
        ["I4 shrinking is durable first"];
    loser_listed: "member.loser_listed", "forced_apart", 4,
        ["I10 the replicas come together"];
    failed_flush_counts: "member.failed_flush_counts", "flush_fails_alone", 6,
        ["I6 marks cover what differs"];
    swap_drains: "member.swap_drains", "swaps_under_load", 1,
        ["I12 every wait ends"];
    swap_waits_for_lease: "member.swap_waits_for_lease", "handover_read_late", 2,
        ["I3 who lacks changes is not promoted"];
    leaving_ignores_swap: "member.leaving_ignores_swap", "leaves_in_a_swap", 10,
        ["I3 who lacks changes is not promoted"];
    leaving_ignores_leave: "member.leaving_ignores_leave", "both_leave", 3,
        ["I3 who lacks changes is not promoted", "I13 two nodes serve"];
    stop_flushes: "member.stop_flushes", "cut_after_a_stop", 2,
        ["I1 acknowledged changes survive"];
    empty_grants_nothing: "member.empty_grants_nothing", "witness_forgets", 1,
        ["I3 who lacks changes is not promoted"];
    two_generations: "dirty.two_generations", "checkpoints", 1,
        ["I6 marks cover what differs"];
    births: "dirty.births", "resync_after_resync", 11,
        ["I6 marks cover what differs"];
    take_before_read: "resync.take_before_read", "resync_after_resync", 1,
        ["I5 equal before growth"];
    union_of_marks: "resync.union_of_marks", "both_have_marks", 1,
        ["I5 equal before growth"];
    park_first: "resync.park_first", "resync_after_resync", 2,
        ["I5 equal before growth"];
    doubt_when_resumed: "resync.doubt_when_resumed", "moved_then_interrupted", 1129,
        ["I5 equal before growth"];
    compare_moved: "resync.compare_moved", "both_have_marks", 40499,
        ["I5 equal before growth"];
    suspect_after_power_cut: "resync.suspect_after_power_cut", "everything_again", 36,
        ["I5 equal before growth"];
    lease_grace: "member.lease_grace", "daemon_hangs_apart", 1,
        ["I13 two nodes answer"];
    addresses_first: "manager.addresses_first", "daemon_dies", 3,
        ["I13 two nodes answer", "M4 an address stays"];
    addresses_by_lease: "manager.addresses_by_lease", "daemon_hangs", 1,
        ["I13 two nodes answer", "M4 an address stays"];
    asks_when_idle: "manager.asks_when_idle", "managers_swap", 1,
        ["M2 stopped before it is started"];
    cleans_doubt: "manager.cleans_doubt", "managers_die", 2,
        ["M3 everything runs"];
    save_first: "manager.save_first", "managers_told", 1,
        ["M5 what is wanted is kept"];
    mark_first: "node.mark_first", "checkpoints", 2,
        ["I6 marks cover what differs"];
    generation_waits: "node.generation_waits", "checkpoints", 21,
        ["I6 marks cover what differs"];
    no_half_done: "node.no_half_done", "resyncs_under_load", 1,
        ["I5 equal before growth"];
}

/// Rules that another one covers, so that nothing breaks when only they are off. No run with both
/// off has failed yet, so these reasons are arguments, not proofs.
const BELT_AND_BRACES: &[(&str, &str)] = &[
    (
        "member.growth_second_flush",
        "the resync flushes after its last pass (resync.last_flush), while writes stand still",
    ),
    (
        "resync.last_flush",
        "growth flushes before the target's record (member.growth_second_flush)",
    ),
    (
        "resync.whole_when_settled",
        "where everything is compared, so is what was half made; with marks it matters only for a \
         file that the target lost although it is older than the last checkpoint",
    ),
    (
        "resync.sweep_last",
        "what is nowhere on the target is made anew with its content; sweeping early costs bytes",
    ),
    (
        "node.sessions_apart",
        "a direction keeps its order, answers and orders carry numbers that are never used again, \
         and a greeting comes first in each session",
    ),
    (
        "manager.quarantine",
        "an address goes with the lease (manager.addresses_by_lease), also after a sleep; alone \
         there is no other server",
    ),
    (
        "manager.hears_first",
        "without it an application is restarted for nothing, which breaks no promise; a story of \
         the machine shows it",
    ),
];

/// The proof of this rule: by the kept seed, else by another one.
fn show(rule: &str) {
    let proofs = PROOFS.iter().filter(|p| p.rule == rule);
    for proof in proofs {
        match prove(proof, SEARCH) {
            Ok(seed) if seed == proof.seed => {}
            Ok(seed) => println!("{rule}: seed {} is stale, keep {seed}", proof.seed),
            Err(why) => panic!("{rule}: nothing breaks without it: {why}"),
        }
    }
}

#[test]
fn every_rule_has_its_proof_or_its_reason() {
    let rules: BTreeSet<_> = switches().iter().map(|s| s.name).collect();
    let proven: BTreeSet<_> = PROOFS.iter().map(|p| p.rule).collect();
    let covered: BTreeSet<_> = BELT_AND_BRACES.iter().map(|(rule, _)| *rule).collect();
    for rule in &rules {
        assert!(
            proven.contains(rule) || covered.contains(rule),
            "{rule} has neither a proof nor a reason why it needs none"
        );
    }
    for rule in proven.union(&covered) {
        assert!(rules.contains(rule), "{rule} is no rule");
    }
    let unknown = PROOFS.iter().find(|p| attack(p.attack).is_none());
    assert!(unknown.is_none(), "no such attack: {unknown:?}");
    for (rule, reason) in BELT_AND_BRACES {
        assert!(!reason.is_empty(), "{rule} needs a reason");
    }
}
