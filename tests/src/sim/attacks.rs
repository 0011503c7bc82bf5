//! Faults arranged so that they strike where one rule stands. Times vary with the seed, so that
//! some seed hits the moment in which the rule matters, also after the code has changed.

mod disks;
mod handover;
mod managers;
mod plan;

use super::Time;
use super::faults::Fault;
use super::manager::Word;
use super::sharp::Case;
use plan::Plan;
use std::time::Duration;
use tandem_repl::logic::member::Isolation;

const MS: Time = 1000;
const SECOND: Time = 1000 * MS;
const PRIM: Word = Word::Prim { force: false };

/// One has lost its page cache, the other only its daemon: they meet as equals in the set.
pub fn one_lost_one_crashed(seed: u64) -> Case {
    let mut plan = Plan::new(seed, false);
    let short = plan.between(50, 300);
    plan.at(0, 0, Fault::Cut(0, short));
    plan.at(0, 30, Fault::Crash(1)).case()
}

/// The witness answers slowly, and the nodes meet again while one of them waits for it.
pub fn meets_while_asking(seed: u64) -> Case {
    let mut plan = Plan::with_short_promises(seed);
    plan.options.witness_delay = (200, 5 * MS);
    let length = plan.between(2080, 2250) / MS;
    plan.parted(0, 0, length);
    plan.at(0, 0, Fault::WitnessLag(1, 500 * MS, 8 * SECOND));
    plan.at(0, 0, Fault::Blind(0, 2120 * MS));
    plan.at(0, 0, Fault::SlowDisk(0, 25, 6 * SECOND));
    plan.at(2120, 2200, Fault::SlowDisk(1, 25, 6 * SECOND));
    plan.insists(1, 1950, 3000).case()
}

/// The witness grants the follower, whose power then fails before it has begun.
pub fn granted_and_cut(seed: u64) -> Case {
    let mut plan = Plan::new(seed, true);
    plan.parted(0, 0, 6000);
    plan.at(0, 0, Fault::Blind(0, 3500 * MS));
    let asleep = plan.between(3000, 4000);
    plan.at(0, 0, Fault::Pause(0, asleep));
    plan.at(1900, 1900, Fault::SlowDisk(1, 60, 4 * SECOND));
    plan.at(2100, 4000, Fault::Cut(1, 500 * MS));
    plan.insists(1, 2000, 4000).case()
}

/// The old server of a swap has its new record, the other never hears of it and goes on.
pub fn half_a_swap(seed: u64) -> Case {
    let mut plan = Plan::new(seed, true);
    plan.at(0, 0, Fault::Word(0, Word::Swap));
    plan.parted(1, 60, 7000);
    plan.insists(1, 2000, 4000);
    plan.at(6000, 6900, Fault::Cut(1, 400 * MS)).case()
}

/// A stop whose last word is not answered; both are apart when the node that left starts again.
pub fn leaves_unheard(seed: u64) -> Case {
    let mut plan = Plan::new(seed, false);
    plan.at(0, 0, Fault::Word(0, Word::Stop));
    plan.at(0, 0, Fault::SlowDisk(1, 20, 3 * SECOND));
    plan.at(20, 600, Fault::Silence(1, 9 * SECOND));
    plan.at(1500, 1500, Fault::Silence(0, 8 * SECOND)).case()
}

/// A swap and nothing else.
pub fn swaps(seed: u64) -> Case {
    let mut plan = Plan::new(seed, false);
    plan.at(0, 100, Fault::Word(0, Word::Swap));
    plan.at(2000, 3000, Fault::Word(1, Word::Swap)).case()
}

/// The source dies while it brings up the other, which may serve alone as far as policy goes.
pub fn source_dies_in_a_resync(seed: u64) -> Case {
    let mut plan = Plan::new(seed, false);
    plan.options.isolation = Isolation::Alone;
    plan.at(0, 0, Fault::Crash(1));
    plan.at(500, 6000, Fault::Cut(0, 6 * SECOND));
    plan.insists(1, 1000, 9000).case()
}

/// The source writes its record of a growth slowly, and dies meanwhile.
pub fn source_dies_in_a_growth(seed: u64) -> Case {
    let mut plan = Plan::new(seed, true);
    plan.at(0, 0, Fault::Reset);
    plan.at(100, 180, Fault::SlowDisk(0, 150, 8 * SECOND));
    let after = plan.between(400, 2000) / MS;
    plan.at(after, after, Fault::Crash(0));
    plan.parted(after, after, 6000);
    plan.insists(0, after, after + 5000);
    plan.insists(1, after, after + 5000).case()
}

/// Power fails soon after a growth, and only what was synced is owed.
pub fn cut_after_growth(seed: u64) -> Case {
    let mut plan = Plan::new(seed, true);
    plan.options.after_power_loss = Some(Duration::from_secs(1));
    plan.options.clients = 6;
    plan.options.calm = 16 * SECOND;
    plan.options.faults.1 = plan.at + 5 * SECOND;
    plan.at(0, 0, Fault::Reset);
    let after = plan.between(150, 500) / MS;
    plan.at(after, after, Fault::Cut(0, 9 * SECOND));
    plan.at(after, after + 5, Fault::Cut(1, 200 * MS));
    plan.insists(1, after + 500, after + 5000).case()
}

/// The same, and the resync that came before did not flush at its end.
pub fn grown_without_last_flush(seed: u64) -> Case {
    let mut case = cut_after_growth(seed);
    case.options.rules.resync.last_flush = false;
    case
}

/// The same, and the target does not flush at growth.
pub fn grown_without_second_flush(seed: u64) -> Case {
    let mut case = cut_after_growth(seed);
    case.options.rules.member.growth_second_flush = false;
    case
}

/// The server loses its power soon after a growth; the other goes on.
pub fn server_cut_after_growth(seed: u64) -> Case {
    let mut plan = Plan::new(seed, true);
    plan.options.limits.warm = 0;
    plan.options.clients = 3;
    plan.options.think = 100 * MS;
    plan.parted(0, 0, 3500);
    plan.at(3600, 4800, Fault::Cut(0, 4 * SECOND));
    plan.insists(1, 5000, 11_000).case()
}

/// What the follower promises arrives late, then it hears nothing more.
pub fn late_grants(seed: u64) -> Case {
    let mut plan = Plan::new(seed, true);
    plan.options.witness_delay = (200, 2000);
    let most = plan.between(1200, 1800);
    plan.at(0, 0, Fault::Lag(1, most, 9 * SECOND));
    plan.at(2000, 3000, Fault::Silence(0, 7 * SECOND));
    plan.insists(1, 3500, 6500).case()
}

/// The follower does not renew the lease, is told stale, and then they part; the witness has not
/// heard of it.
pub fn told_then_parted(seed: u64) -> Case {
    let mut plan = Plan::new(seed, true);
    plan.at(0, 0, Fault::Blind(0, 9 * SECOND));
    let asleep = plan.between(1600, 1990) / MS;
    plan.at(0, 0, Fault::Pause(1, asleep * MS));
    plan.parted(asleep + 2, asleep + 80, 8000);
    plan.insists(1, asleep + 200, asleep + 5000).case()
}

/// The same while the follower is being stopped.
pub fn told_while_leaving(seed: u64) -> Case {
    let mut plan = Plan::new(seed, false);
    let asleep = plan.between(1600, 1990) / MS;
    plan.at(0, 0, Fault::Pause(1, asleep * MS));
    plan.at(asleep - 10, asleep + 10, Fault::Word(1, Word::Stop));
    plan.case()
}

/// Parted for good, with a witness.
pub fn parted(seed: u64) -> Case {
    let mut plan = Plan::new(seed, true);
    plan.parted(0, 0, 7000);
    plan.insists(1, 1500, 6000).case()
}

/// The serving node asks the witness and cannot write its record.
pub fn dies_asking(seed: u64) -> Case {
    let mut plan = Plan::new(seed, true);
    plan.parted(0, 0, 5000);
    plan.at(1300, 1900, Fault::RecordFails(0, 1500 * MS)).case()
}

/// The question of a promotion arrives at the witness long after the two have met again.
pub fn question_comes_late(seed: u64) -> Case {
    let mut plan = Plan::new(seed, true);
    plan.options.witness_delay = (10 * MS, 3 * SECOND);
    for round in 0..3 {
        let length = plan.between(2000, 2800) / MS;
        plan.parted(round * 3500, round * 3500 + 400, length);
    }
    plan.insists(0, 1500, 9000);
    plan.insists(1, 1500, 9000).case()
}

/// Sets that shrink and grow, and a change of server, while the witness is asked now and then.
pub fn many_epochs(seed: u64) -> Case {
    let mut plan = Plan::new(seed, true);
    for round in 0..3 {
        plan.at(round * 2500, round * 2500 + 300, Fault::Crash(1));
    }
    plan.at(8000, 9000, Fault::Cut(0, 3 * SECOND));
    plan.options.faults.1 += 4 * SECOND;
    plan.insists(1, 9000, 14_000).case()
}

/// Checkpoints all the time, journals that take long, and power cuts.
pub fn checkpoints(seed: u64) -> Case {
    let mut plan = Plan::new(seed, true);
    plan.busy_marks();
    plan.at(0, 0, Fault::SlowDisk(0, 6, 9 * SECOND));
    for round in 0..3 {
        let n = plan.rng.index(2);
        let cut = Fault::Cut(n, 400 * MS);
        plan.at(round * 3000, round * 3000 + 2500, cut);
    }
    plan.case()
}

/// The follower's disk is slow in a checkpoint, then its power fails.
pub fn follower_flushes_late(seed: u64) -> Case {
    let mut plan = Plan::new(seed, true);
    plan.busy_marks();
    plan.at(0, 0, Fault::SlowDisk(1, 40, 9 * SECOND));
    plan.at(100, 2500, Fault::Cut(1, 400 * MS)).case()
}

/// Resyncs that do not come to their end: the target dies, in either way, again and again.
pub fn resync_after_resync(seed: u64) -> Case {
    let mut plan = Plan::new(seed, true);
    for round in 0..6 {
        let fault = if plan.rng.chance(60) {
            Fault::Cut(1, 200 * MS)
        } else {
            Fault::Crash(1)
        };
        plan.at(round * 1500, round * 1500 + 1400, fault);
    }
    plan.case()
}

/// Each served for a while and died, so both have marks; then they meet.
pub fn both_have_marks(seed: u64) -> Case {
    let mut plan = Plan::with_short_promises(seed);
    plan.at(0, 0, Fault::Cut(0, 4 * SECOND));
    plan.insists(1, 2000, 3500);
    plan.at(6000, 9000, Fault::Cut(1, 500 * MS)).case()
}

/// The operator makes the second node serve although the first does, and gives it up again; the
/// first does not reach the witness until they have grown together, then the second is lost.
pub fn forced_apart(seed: u64) -> Case {
    let mut plan = Plan::new(seed, true);
    plan.parted(0, 0, 5000);
    plan.at(2800, 2800, Fault::Blind(0, 6500 * MS));
    plan.at(3000, 3500, Fault::Word(1, Word::Prim { force: true }));
    plan.at(
        6000,
        6300,
        Fault::Word(1, Word::Resync { everything: false }),
    );
    plan.parted(9500, 9800, 2700).case()
}

/// Resyncs one after the other while journals take long.
pub fn resyncs_under_load(seed: u64) -> Case {
    let mut plan = Plan::new(seed, true);
    plan.options.clients = 8;
    plan.options.think = 5 * MS;
    plan.at(0, 0, Fault::SlowDisk(0, 12, 11 * SECOND));
    for round in 0..4 {
        plan.at(round * 2600, round * 2600 + 200, Fault::Reset);
    }
    plan.case()
}

/// Power fails on both, and the resync after it is interrupted again and again.
pub fn both_cut_then_interrupted(seed: u64) -> Case {
    let mut plan = Plan::new(seed, false);
    plan.options.delay = (5 * MS, 20 * MS);
    plan.at(0, 0, Fault::Cut(0, 300 * MS));
    plan.at(0, 0, Fault::Cut(1, 300 * MS));
    for round in 0..14 {
        let fault = if plan.rng.chance(70) {
            Fault::Reset
        } else {
            Fault::Cut(1, 100 * MS)
        };
        plan.at(2000 + round * 600, 2500 + round * 600, fault);
    }
    plan.case()
}

/// The target's power fails in its resync.
pub fn target_cut_in_a_resync(seed: u64) -> Case {
    let mut plan = Plan::new(seed, true);
    plan.options.delay = (5 * MS, 20 * MS);
    for round in 0..4 {
        plan.at(round * 2700, round * 2700, Fault::Reset);
        let after = round * 2700 + 150;
        plan.at(after, after + 1500, Fault::Cut(1, 100 * MS));
    }
    plan.case()
}

/// Everything is compared again while names move, and the target's power fails now and then.
pub fn everything_again(seed: u64) -> Case {
    let mut plan = Plan::new(seed, true);
    plan.options.think = 5 * MS;
    plan.options.delay = (MS, 4 * MS);
    for round in 0..4 {
        let word = Word::Resync { everything: true };
        plan.at(round * 2700, round * 2700 + 50, Fault::Word(1, word));
        if plan.rng.chance(60) {
            let after = round * 2700 + 60;
            plan.at(after, after + 900, Fault::Cut(1, 100 * MS));
        }
    }
    plan.case()
}

/// As `checkpoints`, in a network where a request to flush overtakes operations.
pub fn flush_overtakes(seed: u64) -> Case {
    let mut case = checkpoints(seed);
    case.options.overtakes = true;
    case.options.think = 100 * MS;
    case.options.delay = (MS, 80 * MS);
    case
}

/// The first synchronisation ends with its source, and the operator has forgotten which node had
/// the data.
pub fn first_source_dies(seed: u64) -> Case {
    let mut plan = Plan::new(seed, false);
    plan.options.by_hand = true;
    plan.options.delay = (10 * MS, 40 * MS);
    plan.at = 0;
    let after = plan.between(200, 2600) / MS;
    plan.at(after, after, Fault::Cut(0, 9 * SECOND));
    plan.at(after, after + 10, Fault::Crash(1));
    plan.insists(1, after + 100, after + 6000).case()
}

/// By name, for the table of the rules.
pub type Attack = fn(u64) -> Case;

pub const ALL: &[(&str, Attack)] = &[
    ("random", Case::random),
    ("managers_parted", managers::managers_parted),
    ("daemon_hangs", managers::daemon_hangs),
    ("daemon_dies", managers::daemon_dies),
    ("daemon_hangs_apart", managers::daemon_hangs_apart),
    ("node_sleeps", managers::node_sleeps),
    ("managers_swap", managers::managers_swap),
    ("managers_die", managers::managers_die),
    ("managers_told", managers::managers_told),
    ("one_lost_one_crashed", one_lost_one_crashed),
    ("meets_while_asking", meets_while_asking),
    ("granted_and_cut", granted_and_cut),
    ("half_a_swap", half_a_swap),
    ("leaves_unheard", leaves_unheard),
    ("swaps", swaps),
    ("source_dies_in_a_resync", source_dies_in_a_resync),
    ("source_dies_in_a_growth", source_dies_in_a_growth),
    ("cut_after_growth", cut_after_growth),
    ("grown_without_last_flush", grown_without_last_flush),
    ("grown_without_second_flush", grown_without_second_flush),
    ("server_cut_after_growth", server_cut_after_growth),
    ("late_grants", late_grants),
    ("told_then_parted", told_then_parted),
    ("told_while_leaving", told_while_leaving),
    ("parted", parted),
    ("dies_asking", dies_asking),
    ("question_comes_late", question_comes_late),
    ("many_epochs", many_epochs),
    ("checkpoints", checkpoints),
    ("follower_flushes_late", follower_flushes_late),
    ("resyncs_under_load", resyncs_under_load),
    ("both_cut_then_interrupted", both_cut_then_interrupted),
    ("target_cut_in_a_resync", target_cut_in_a_resync),
    ("first_source_dies", first_source_dies),
    ("everything_again", everything_again),
    ("flush_overtakes", flush_overtakes),
    ("resync_after_resync", resync_after_resync),
    ("both_have_marks", both_have_marks),
    ("forced_apart", forced_apart),
    ("flush_fails_alone", disks::flush_fails_alone),
    ("moved_then_interrupted", disks::moved_then_interrupted),
    ("cut_after_a_stop", disks::cut_after_a_stop),
    ("handover_read_late", handover::handover_read_late),
    ("swaps_under_load", handover::swaps_under_load),
    ("leaves_in_a_swap", handover::leaves_in_a_swap),
    ("both_leave", handover::both_leave),
    ("witness_forgets", handover::witness_forgets),
];

/// The attack of that name.
pub fn attack(name: &str) -> Option<Attack> {
    let found = ALL.iter().find(|(given, _)| *given == name);
    found.map(|(_, attack)| *attack)
}
