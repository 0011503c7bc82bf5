//! The random test: the same operations on the subject and on a plain directory, every answer
//! compared, the trees compared now and then; a failure is shortened and printed as a list.

use crate::generate::{Generator, Step};
use crate::ops::{Op, Outcome, Side, VAGUE, Value};
use crate::scratch::{inside, subdir};
use crate::sys;
use crate::tree::{Options, report};
use std::fmt::Write as _;
use std::os::fd::OwnedFd;
use std::sync::atomic::{AtomicU32, Ordering};

/// How often the whole trees are compared, in steps.
const COMPARE_EVERY: usize = 250;
/// How many runs a failure may cost to shorten.
const SHRINK_RUNS: usize = 150;

/// Why a run failed, and after how many steps.
#[derive(Clone, Debug)]
pub struct Failure {
    pub after: usize,
    pub what: String,
    /// The operation with the wrong answer, or the comparison of the trees: a list is shortened
    /// only as long as it fails in the same way.
    pub kind: String,
}

/// A file that is vague on one side need not be on the other: it is known by its number, which is
/// used again. What is vague has been looked at already.
fn are_alike(op: &Op, got: &Outcome, expected: &Outcome) -> bool {
    let is_vague = |o: &Outcome| matches!(o, Ok(Value::Text(text)) if text == VAGUE);
    let says = |o: &Outcome| {
        let nothing = |e: &sys::Errno| e.0 == libc::ENXIO;
        is_vague(o) || matches!(o, Ok(Value::Number(_))) || o.as_ref().is_err_and(nothing)
    };
    let vague = matches!(op, Op::SeekData { .. }) && (is_vague(got) || is_vague(expected));
    got == expected || (vague && says(got) && says(expected))
}

/// Gives the next step, told the one before and the plain directory's answer to it.
type Choose<'a> = dyn FnMut(Option<(&Step, &Outcome)>) -> Option<Step> + Send + 'a;

/// A place to run in: two directories that must behave alike.
pub struct Arena<'a> {
    pub subject: &'a OwnedFd,
    pub reference: &'a OwnedFd,
    /// Changes an outcome of the subject before it is compared: how the test of this test seeds a
    /// wrong answer.
    pub tamper: Option<fn(&Step, &mut Outcome, &Side)>,
}

impl Arena<'_> {
    /// Makes and runs `count` steps; a failure comes back shortened, as a text to print.
    pub fn explore(&self, generator: &mut Generator, count: usize) -> Result<(), String> {
        let mut steps = Vec::new();
        let mut choose = |last: Option<(&Step, &Outcome)>| {
            if let Some((step, outcome)) = last {
                generator.learn(step, outcome);
            }
            let step = (steps.len() < count).then(|| generator.step());
            steps.extend(step.clone());
            step
        };
        match self.run(&mut choose, count) {
            Ok(()) => Ok(()),
            Err(first) => Err(self.shorten(&steps, &first)),
        }
    }

    /// Repeats a list of steps.
    pub fn repeat(&self, steps: &[Step]) -> Result<(), Failure> {
        let mut rest = steps.iter();
        self.run(&mut |_| rest.next().cloned(), steps.len())
    }

    /// Runs steps in fresh directories, as `choose` gives them.
    fn run(&self, choose: &mut Choose<'_>, count: usize) -> Result<(), Failure> {
        static NEXT: AtomicU32 = AtomicU32::new(0);
        let name = format!("run-{}", NEXT.fetch_add(1, Ordering::Relaxed));
        let make = |parent| match subdir(parent, &name) {
            Ok(dir) => Ok(Side::new(dir)),
            Err(error) => Err(Failure {
                after: 0,
                what: format!("{error:#}"),
                kind: "set-up".into(),
            }),
        };
        let (mut subject, mut reference) = (make(self.subject)?, make(self.reference)?);
        inside(self.subject, || {
            let mut last = None;
            for after in 1..=count {
                let Some(step) = choose(last.as_ref().map(|(step, outcome)| (step, outcome)))
                else {
                    break;
                };
                let expected = self.step(&step, (after, count), &mut subject, &mut reference)?;
                last = Some((step, expected));
            }
            Ok(())
        })
    }

    fn step(
        &self,
        step: &Step,
        (after, count): (usize, usize),
        subject: &mut Side,
        reference: &mut Side,
    ) -> Result<Outcome, Failure> {
        let expected = take(step, reference);
        let mut got = take(step, subject);
        if let Some(tamper) = self.tamper {
            tamper(step, &mut got, subject);
        }
        if !are_alike(&step.op, &got, &expected) {
            let what = format!("{got:?}, on a plain directory {expected:?}");
            let kind = format!("{:?}", step.op)
                .split(' ')
                .next()
                .unwrap_or_default()
                .into();
            return Err(Failure { after, what, kind });
        }
        if after % COMPARE_EVERY == 0 || after == count {
            match report(subject.dir(), reference.dir(), &Options::executions()) {
                Ok(found) if found.is_empty() => {}
                Ok(what) | Err(what) => {
                    let what = format!("trees (subject | plain):\n{what}");
                    return Err(Failure {
                        after,
                        what,
                        kind: "trees".into(),
                    });
                }
            }
        }
        Ok(expected)
    }

    /// Leaves out pieces of the list, ever smaller ones, as long as the rest still fails.
    fn shorten(&self, steps: &[Step], first: &Failure) -> String {
        let mut kept = steps[..first.after].to_vec();
        let mut last = first.clone();
        let mut runs = 0;
        let mut size = kept.len().div_ceil(2);
        while size > 0 && runs < SHRINK_RUNS {
            let mut from = 0;
            let before = kept.len();
            while from < kept.len() && runs < SHRINK_RUNS {
                let mut shorter = kept.clone();
                shorter.drain(from..(from + size).min(kept.len()));
                runs += 1;
                match self.repeat(&shorter) {
                    Err(failure) if failure.kind == first.kind => {
                        shorter.truncate(failure.after);
                        (kept, last) = (shorter, failure);
                    }
                    _ => from += size,
                }
            }
            if kept.len() == before || size > 1 {
                size /= 2;
            }
        }
        explain(first, &kept, &last)
    }
}

/// Takes one step on one side. The calling thread has its own working directory.
pub fn take(step: &Step, side: &mut Side) -> Outcome {
    sys::fchdir(side.dir()).expect("the directory of the run is open");
    sys::umask(step.umask);
    sys::acting_as(step.who, || side.execute(&step.op))
}

fn explain(first: &Failure, kept: &[Step], last: &Failure) -> String {
    let mut text = format!("first seen after {} steps: {}\n", first.after, first.what);
    writeln!(text, "shortened to {} steps: {}", kept.len(), last.what).expect("a string");
    for step in kept {
        let Step { who, umask, op } = step;
        writeln!(text, "  uid {} umask {umask:03o}  {op:?}", who.uid).expect("a string");
    }
    text
}
