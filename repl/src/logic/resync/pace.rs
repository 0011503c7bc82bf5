//! Pace of a resync: the application's answers may take so much longer than undisturbed and no
//! more; what is left of disk, processor and link is the resync's.
//!
//! There is no table of what a disk can do. The resync rests now and then for a moment, and the
//! answers of those moments are the measure for those while it works. It works for a share of the
//! time; the share falls by a third when answers come too late and grows slowly while they do not.
//! Every class of answers is measured by itself, and the worst decides. Where nothing is asked, or
//! too little to tell, the share grows: nobody is disturbed.
//!
//! A rest costs what it lasts, so rests take at most a tenth of the time, and none is made while
//! the application does nothing. A resync that is over before the first rest is not slowed at all.
//!
//! A resync that works too little never ends: while it copies, the application changes as much
//! again. So the share has a floor, and each pass that is no shorter than the one before raises it,
//! as soon as that shows, until the resync works all the time. An end comes before the bound.

use super::super::latency::{CLASSES, Latencies};
use std::time::Duration;

/// Work between two rests.
const WORK: Duration = Duration::from_millis(400);
/// Of a rest, until what was sent before is done.
const SETTLE: Duration = Duration::from_millis(10);
/// Of a rest, when answers are measured.
const REST: Duration = Duration::from_millis(30);
/// Answers, work and rest each, from which on they are compared.
const ENOUGH: f64 = 40.0;
/// From so many answers on older ones lose weight; fewer are kept, so that a slow application is
/// measured, too.
const PLENTY: f64 = 200.0;
/// What remains of the weight of older answers after a period.
const FADE: f64 = 0.8;
/// A resync always goes on. What works for a twentieth of the time meets a twentieth of the
/// answers, and the 95th percentile hardly knows of it.
const LEAST_SHARE: f64 = 0.05;
/// Of what answers take beyond undisturbed ones, so much must be left at most when the share falls
/// by a third; else something else is in their way, and working less helps nobody.
const HELPS: f64 = 0.9;
/// Falls of the share that do not help, until it is raised again.
const VAIN: u32 = 3;
/// By how much the floor rises: after two passes nothing is left of it.
const HURRY: f64 = 6.0;
/// Sleeping for less than this is not worth its wake-up.
const NAP: Duration = Duration::from_millis(1);
/// Longest sleep at once, so that an order to stop is heard.
const LONGEST_NAP: Duration = Duration::from_millis(50);
/// Share of answers that are to keep the bound.
const PERCENTILE: f64 = 0.95;

/// What the resync is doing.
#[derive(Clone, Copy, Debug)]
enum Step {
    /// Working until then.
    Work(Duration),
    /// Resting; measured from then on.
    Settle(Duration),
    /// Measured until then.
    Rest(Duration),
}

/// Decides when the resync works. Times are those since any fixed moment.
#[derive(Debug)]
pub struct Pace {
    /// How many times longer answers may take.
    bound: f64,
    share: f64,
    /// Floor of the share.
    least: f64,
    step: Step,
    /// When the last permit was given.
    last: Duration,
    /// Time still to be slept.
    owed: Duration,
    /// Readings at the beginning of the step.
    mark: [Latencies; CLASSES],
    working: [Latencies; CLASSES],
    resting: [Latencies; CLASSES],
    /// How much longer answers took at the last comparison.
    ratio: Option<f64>,
    /// The same when the share fell last, and how often in a row that had not helped.
    fell_at: Option<f64>,
    vain: u32,
}

impl Pace {
    pub fn new(bound: f64, now: Duration, reading: [Latencies; CLASSES]) -> Self {
        Self {
            bound,
            share: 1.0,
            least: LEAST_SHARE,
            step: Step::Work(now + WORK),
            last: now,
            owed: Duration::ZERO,
            mark: reading,
            working: Default::default(),
            resting: Default::default(),
            ratio: None,
            fell_at: None,
            vain: 0,
        }
    }

    /// Share of the time in which the resync works, 0 to 1.
    pub fn share(&self) -> f64 {
        self.share
    }

    /// A pass is no shorter than the one before.
    pub fn hurry(&mut self) {
        self.least = (self.least * HURRY).min(1.0);
        self.share = self.share.max(self.least);
    }

    /// How much longer answers took with the resync, as last seen.
    pub fn ratio(&self) -> Option<f64> {
        self.ratio
    }

    /// Asked before every piece of work: `None` to go on, or how long to wait before asking again.
    /// Between two calls that let it go on the resync worked.
    pub fn next(
        &mut self,
        now: Duration,
        read: impl FnOnce() -> [Latencies; CLASSES],
    ) -> Option<Duration> {
        match self.step {
            Step::Settle(until) | Step::Rest(until) if now < until => {
                return Some((until - now).min(LONGEST_NAP));
            }
            Step::Work(until) if now < until => return self.nap(now),
            _ => {}
        }
        let reading = read();
        let new = std::array::from_fn(|c| reading[c].since(&self.mark[c]));
        self.mark = reading;
        match self.step {
            Step::Rest(_) => {
                fade(&mut self.resting, &new);
                self.compare();
                self.work(now)
            }
            Step::Work(_) if new.iter().all(|l| l.count() < 1.0) => {
                self.grow();
                self.work(now)
            }
            Step::Work(_) => {
                fade(&mut self.working, &new);
                self.step = Step::Settle(now + SETTLE);
                Some(SETTLE)
            }
            Step::Settle(_) => {
                self.step = Step::Rest(now + REST);
                Some(REST)
            }
        }
    }

    fn work(&mut self, now: Duration) -> Option<Duration> {
        self.step = Step::Work(now + WORK);
        self.last = now;
        self.owed = Duration::ZERO;
        None
    }

    /// Sleeps off what was worked.
    fn nap(&mut self, now: Duration) -> Option<Duration> {
        let worked = now.saturating_sub(self.last);
        self.last = now;
        self.owed += worked.mul_f64(1.0 / self.share - 1.0);
        if self.owed < NAP {
            return None;
        }
        let nap = self.owed.min(LONGEST_NAP);
        self.owed -= nap;
        // What is slept now was not worked.
        self.last = now + nap;
        Some(nap)
    }

    fn grow(&mut self) {
        self.share = (self.share * 1.1).min(1.0);
    }

    fn compare(&mut self) {
        let ratio = |c: usize| {
            let (working, resting) = (&self.working[c], &self.resting[c]);
            if working.count() < ENOUGH || resting.count() < ENOUGH {
                return None;
            }
            Some(working.percentile(PERCENTILE)? / resting.percentile(PERCENTILE)?)
        };
        self.ratio = (0..CLASSES).filter_map(ratio).max_by(f64::total_cmp);
        match self.ratio {
            Some(ratio) if ratio > self.bound => self.fall(ratio),
            // Near the bound it stays.
            Some(ratio) if ratio > 1.0 + (self.bound - 1.0) * 0.7 => {}
            _ => {
                self.fell_at = None;
                self.grow();
            }
        }
    }

    /// Answers come too late.
    fn fall(&mut self, ratio: f64) {
        if self.share <= self.least {
            // As little as it may be.
            self.working = Default::default();
            return;
        }
        let helped = self
            .fell_at
            .is_none_or(|at| ratio - 1.0 < (at - 1.0) * HELPS);
        self.vain = if helped { 0 } else { self.vain + 1 };
        if self.vain >= VAIN {
            self.share = (self.share * 4.0).min(1.0);
            (self.vain, self.fell_at) = (0, None);
        } else {
            self.share = (self.share * 0.67).max(self.least);
            self.fell_at = Some(ratio);
        }
        // Measured at another share.
        self.working = Default::default();
    }
}

fn fade(older: &mut [Latencies; CLASSES], new: &[Latencies; CLASSES]) {
    for (older, new) in older.iter_mut().zip(new) {
        let keep = if older.count() > PLENTY { FADE } else { 1.0 };
        older.fade_into(new, keep);
    }
}

#[cfg(test)]
mod tests {
    use super::super::super::latency::{Class, Meters};
    use super::*;

    /// An application that asks every millisecond; its answers take `1 + load` times as long while
    /// the resync works all the time, and less in proportion. Returns share and worst ratio.
    fn play(load: f64, seconds: u64, asks: bool) -> (f64, f64) {
        play_with(|share| 1.0 + load * share, seconds, asks)
    }

    fn play_with(factor: impl Fn(f64) -> f64, seconds: u64, asks: bool) -> (f64, f64) {
        play_every(factor, seconds, if asks { 1 } else { u128::MAX })
    }

    /// One that asks every so many milliseconds.
    fn play_slowly(load: f64, seconds: u64, every: u128) -> (f64, f64) {
        play_every(|share| 1.0 + load * share, seconds, every)
    }

    fn play_every(factor: impl Fn(f64) -> f64, seconds: u64, every: u128) -> (f64, f64) {
        let meters = Meters::default();
        let mut now = Duration::ZERO;
        let mut pace = Pace::new(1.3, now, meters.read());
        let mut worked = Duration::ZERO;
        let mut late = 0.0;
        while now < Duration::from_secs(seconds) {
            let wait = pace.next(now, || meters.read());
            let busy = wait.is_none();
            let took = wait.unwrap_or(Duration::from_millis(1));
            worked += if busy { took } else { Duration::ZERO };
            let share = pace.share();
            let rest = !matches!(pace.step, Step::Work(_));
            let factor = if rest { 1.0 } else { factor(share) };
            // Those whose turn comes while this lasts.
            let answers = (now + took).as_millis() / every - now.as_millis() / every;
            (0..answers).for_each(|_| meters.note(Class::Change, (100_000.0 * factor) as u64));
            if now > Duration::from_secs(seconds / 2) {
                late = f64::max(late, factor);
            }
            now += took;
        }
        (worked.as_secs_f64() / seconds as f64, late)
    }

    #[test]
    fn an_application_that_is_disturbed_gets_its_time_back() {
        for load in [1.0, 3.0, 8.0] {
            let (share, late) = play(load, 60, true);
            assert!(
                late < 1.45,
                "load {load}: answers took {late} times as long"
            );
            // What it may use it uses.
            let fair = 0.3 / load;
            assert!(
                share > fair * 0.4,
                "load {load}: worked {share} of the time"
            );
        }
    }

    /// Passes of an application that always takes the measured share to its floor, and changes in a
    /// second what 0.3 s of undisturbed work bring over; the length of each.
    fn passes(hurry: bool) -> Vec<f64> {
        let mut pace = Pace::new(1.3, Duration::ZERO, Default::default());
        let mut lengths = vec![10.0];
        while lengths.len() < 12 && lengths[lengths.len() - 1] > 0.15 {
            pace.share = pace.least;
            let last = lengths[lengths.len() - 1];
            let (work, mut took) = (last * 0.3, last * 0.3 / pace.share());
            if hurry && took > last * 0.8 {
                let left = work - last * 0.8 * pace.share();
                pace.hurry();
                took = last * 0.8 + left / pace.share();
            }
            lengths.push(took.min(1e6));
        }
        lengths
    }

    #[test]
    fn passes_that_do_not_get_shorter_end_all_the_same() {
        let (slow, fast) = (passes(false), passes(true));
        assert_eq!(slow.last(), Some(&1e6), "it had ended anyway");
        assert!(fast.last().is_some_and(|last| *last <= 0.15), "{fast:?}");
    }

    #[test]
    fn the_floor_holds_against_late_answers() {
        let meters = Meters::default();
        let mut now = Duration::ZERO;
        let mut pace = Pace::new(1.3, now, meters.read());
        pace.hurry();
        let (mut least, mut most) = (1.0_f64, 0.0_f64);
        while now < Duration::from_secs(30) {
            let wait = pace.next(now, || meters.read());
            let late = if matches!(pace.step, Step::Work(_)) {
                9
            } else {
                1
            };
            let took = wait.unwrap_or(Duration::from_millis(1));
            let answers = took.as_micros().div_ceil(1000);
            (0..answers).for_each(|_| meters.note(Class::Change, 100_000 * late));
            (least, most) = (least.min(pace.share()), most.max(pace.share()));
            now += took;
        }
        assert!(least >= LEAST_SHARE * HURRY * 0.99, "{least}");
        assert!(most <= 1.0, "{most}");
    }

    #[test]
    fn who_disturbs_nobody_works_nearly_always() {
        let (share, _) = play(0.05, 30, true);
        assert!(share > 0.85, "worked {share} of the time");
    }

    /// Answers that are late however little the resync works are not its doing.
    #[test]
    fn what_working_less_does_not_help_does_not_end_the_work() {
        let (share, _) = play_with(|_| 2.0, 60, true);
        assert!(share > 0.2, "worked {share} of the time");
    }

    #[test]
    fn a_slow_application_is_protected_too() {
        let (_, late) = play_slowly(8.0, 240, 20);
        assert!(late < 2.0, "answers took {late} times as long");
    }

    #[test]
    fn without_an_application_there_is_no_rest() {
        let (share, _) = play(5.0, 30, false);
        assert!(share > 0.98, "worked {share} of the time");
    }
}
