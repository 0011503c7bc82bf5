//! The rules that can be switched off, by name, and the search for a run that shows that one is
//! needed. `tests/tests/sharpness.rs` does it for each of them.

use super::faults::Schedule;
use super::options::{Options, Rules};
use super::run::{Outcome, run_with};
use std::time::{Duration, Instant};
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
        step_back growth_holds_answers shrink_first loser_listed);
    group!(found, "dirty", DirtyRules, dirty, two_generations births);
    group!(found, "resync", ResyncRules, resync,
        take_before_read union_of_marks park_first whole_when_settled suspect_after_power_cut
        sweep_last);
    group!(found, "node", Rules, whole,
        mark_first generation_waits no_half_done, but member dirty resync);
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

    /// A seed with this rule off, and as it is. Only a pair of which the second is clean proves
    /// something.
    pub fn run(&self, case: &Case) -> [Outcome; 2] {
        [true, false].map(|off| {
            let mut options = case.options.clone();
            if off {
                self.off(&mut options.rules);
            }
            run_with(case.seed, options, case.schedule.clone(), false)
        })
    }

    /// Tries seeds until one fails without the rule, and only without it.
    pub fn hunt(&self, case: impl Fn(u64) -> Case, first: u64, limit: Duration) -> Bag {
        let begun = Instant::now();
        let mut bag = Bag::default();
        for seed in first.. {
            if begun.elapsed() > limit {
                break;
            }
            bag.runs += 1;
            let case = case(seed);
            let mut options = case.options.clone();
            self.off(&mut options.rules);
            let without = run_with(seed, options, case.schedule.clone(), false);
            if without.violation.is_some() {
                let with = run_with(seed, case.options, case.schedule, false);
                if with.violation.is_none() {
                    bag.found = Some(without);
                    break;
                }
            }
        }
        bag
    }
}

/// What a search found.
#[derive(Default)]
pub struct Bag {
    pub runs: u64,
    pub found: Option<Outcome>,
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
        let schedule = Schedule::draw(seed, &options);
        Self {
            seed,
            options,
            schedule,
        }
    }
}
