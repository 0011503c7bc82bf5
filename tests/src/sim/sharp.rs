//! The rules that can be switched off, by name, and the search for a run that shows that one is
//! needed. `tests/tests/sharpness.rs` does it for each of them.

use super::attacks::attack;
use super::check::Violation;
use super::faults::Schedule;
use super::options::{Options, Rules};
use super::run::run_with;
use std::collections::BTreeSet;
use std::time::{Duration, Instant};
use tandem_failover::logic::rules::Rules as SeatRules;
use tandem_repl::logic::dirty::Rules as DirtyRules;
use tandem_repl::logic::resync::Rules as ResyncRules;
use tandem_repl::logic::rules::Rules as MemberRules;

/// One rule.
#[derive(Clone, Copy)]
pub struct Switch {
    pub name: &'static str,
    off: fn(&mut Rules),
}

/// Takes a structure apart by all its fields, so that a new rule does not compile until it is
/// listed here, and is then wanted in the table of the test.
macro_rules! group {
    ($found:ident, $name:literal, $structure:ident, $part:ident, $($rule:ident)+
     $(, but $($other:ident)+)?) => {
        let $structure { $($rule,)+ $($($other: _,)+)? } = *$part(&mut Rules::default());
        $(
            assert!($rule, "a rule holds unless it is switched off");
            $found.push(Switch {
                name: concat!($name, ".", stringify!($rule)),
                off: |rules| $part(rules).$rule = false,
            });
        )+
    };
}

fn whole(rules: &mut Rules) -> &mut Rules {
    rules
}

fn member(rules: &mut Rules) -> &mut MemberRules {
    &mut rules.member
}

fn seat(rules: &mut Rules) -> &mut SeatRules {
    &mut rules.seat
}

fn dirty(rules: &mut Rules) -> &mut DirtyRules {
    &mut rules.dirty
}

fn resync(rules: &mut Rules) -> &mut ResyncRules {
    &mut rules.resync
}

/// All of them.
pub fn switches() -> Vec<Switch> {
    let mut found = Vec::new();
    group!(found, "member", MemberRules, member,
        verdict_order lost_node eligibility_on_reply refusal_changes_nothing epoch_ids
        cas_by_ancestry left_before_leave epoch_at_swap target_stale_first growth_order
        growth_second_flush marks_after_growth ended_whole void_intents lease lease_send_time
        intent_first checkpoint_waits checkpoint_both_flush told_stale_checks told_stale_durable
        step_back lease_grace growth_holds_answers shrink_first loser_listed
        failed_flush_counts swap_drains swap_waits_for_lease leaving_ignores_swap
        leaving_ignores_leave stop_flushes empty_grants_nothing);
    group!(found, "dirty", DirtyRules, dirty, two_generations births);
    group!(found, "resync", ResyncRules, resync,
        take_before_read union_of_marks park_first whole_when_settled suspect_after_power_cut
        sweep_last last_flush
        doubt_when_resumed compare_moved);
    group!(found, "node", Rules, whole,
        mark_first generation_waits no_half_done sessions_apart, but member dirty resync seat);
    group!(found, "manager", SeatRules, seat,
        addresses_first addresses_by_lease asks_when_idle cleans_doubt quarantine save_first
        hears_first);
    found
}

/// The rule of that name.
pub fn switch(name: &str) -> Option<Switch> {
    switches().into_iter().find(|switch| switch.name == name)
}

impl Switch {
    pub fn off(&self, rules: &mut Rules) {
        (self.off)(rules);
    }

    /// What an oracle says of a case without this rule, if it says nothing with it.
    pub fn judge(&self, case: &Case) -> Option<Violation> {
        let mut options = case.options.clone();
        self.off(&mut options.rules);
        let without = run_with(case.seed, options, case.schedule.clone(), false);
        without.violation.as_ref()?;
        let with = run_with(
            case.seed,
            case.options.clone(),
            case.schedule.clone(),
            false,
        );
        without.violation.filter(|_| with.violation.is_none())
    }
}

/// How a rule is shown to be needed.
#[derive(Clone, Copy, Debug)]
pub struct Proof {
    pub rule: &'static str,
    /// Of `attacks`.
    pub attack: &'static str,
    /// A seed of the attack that did it when it was kept.
    pub seed: u64,
    /// Which oracles count: those of the promise that the rule keeps.
    pub oracles: &'static [&'static str],
}

/// Finds a seed that fails without the rule by an oracle that counts, and is clean with it: the
/// kept one, else others until the time is over.
///
/// # Errors
/// None was found; the text says what was tried.
pub fn prove(proof: &Proof, limit: Duration) -> Result<u64, String> {
    let switch = switch(proof.rule).ok_or("no such rule")?;
    let attack = attack(proof.attack).ok_or("no such attack")?;
    let begun = Instant::now();
    let mut runs = 0;
    let mut others = BTreeSet::new();
    for seed in std::iter::once(proof.seed).chain(1..) {
        if runs > 0 && begun.elapsed() > limit {
            break;
        }
        runs += 1;
        match switch.judge(&attack(seed)) {
            Some(found) if proof.oracles.contains(&found.oracle) => return Ok(seed),
            Some(found) => drop(others.insert(found.oracle)),
            None => {}
        }
    }
    Err(format!(
        "{runs} seeds of {}, other findings: {others:?}",
        proof.attack
    ))
}

/// A run that is to be made with and without a rule.
#[derive(Clone)]
pub struct Case {
    pub seed: u64,
    pub options: Options,
    pub schedule: Schedule,
}

impl Case {
    /// All that happens is drawn from the seed.
    pub fn random(seed: u64) -> Self {
        let options = Options::from_seed(seed);
        Self::of(seed, options)
    }

    /// The same with the product's failover manager, or with the crude one.
    pub fn with_manager(seed: u64, managed: bool) -> Self {
        let options = Options::from_seed(seed);
        let options = if managed {
            options.product()
        } else {
            options.crude()
        };
        Self::of(seed, options)
    }

    fn of(seed: u64, options: Options) -> Self {
        let schedule = Schedule::draw(seed, &options);
        Self {
            seed,
            options,
            schedule,
        }
    }
}
