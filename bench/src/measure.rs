//! The rounds: each workload on the one directory and on the other, again and again, in turn.
//!
//! A machine's speed changes from minute to minute, so only what was measured in the same round is
//! compared. The order within a round alternates, because the second run finds the disk as the
//! first has left it.

use std::time::Duration;

use anyhow::{Context as _, Result, ensure};

use crate::args::Args;
use crate::report::{Round, Row, Sample};
use crate::runner::{self, Interrupted, Side};
use crate::subject::Subject;
use crate::tools::Tool;
use crate::workloads::{self, Base, Context, Needs, Spec, Tally};

const PREPARE_LIMIT: Duration = Duration::from_secs(900);
/// Beyond the length of a timed run.
const RUN_LIMIT: Duration = Duration::from_secs(300);

/// Everything the rounds need.
pub(crate) struct Measurement<'a> {
    pub(crate) args: &'a Args,
    pub(crate) subject: &'a Subject,
    /// Rows are of this network.
    pub(crate) delayed: bool,
}

impl Measurement<'_> {
    /// Runs the workloads; one row for each, in their order. An error only if asked to stop.
    pub(crate) fn run(&self, specs: &[&'static Spec]) -> Result<Vec<Row>> {
        let mut rows: Vec<_> = specs
            .iter()
            .map(|&spec| (spec, self.new_row(spec)))
            .collect();
        let mut groups: Vec<&str> = Vec::new();
        for spec in specs {
            if !groups.contains(&spec.group) {
                groups.push(spec.group);
            }
        }
        for group in groups {
            self.run_group(rows.iter_mut().filter(|(spec, _)| spec.group == group))?;
        }
        Ok(rows.into_iter().map(|(_, row)| row).collect())
    }

    fn new_row(&self, spec: &'static Spec) -> Row {
        let floor = spec
            .floor
            .here()
            .filter(|_| spec.also_delayed == self.delayed);
        let base = match spec.base {
            Base::Subject(name, _) => Some(name),
            Base::Bare => self.subject.bare.as_ref().map(|side| side.name),
        };
        let mut row = Row::new(spec, floor.filter(|_| base.is_some()), base, self.delayed);
        let lab = self.args.dir_subject.is_none();
        row.skipped = match spec.needs {
            Needs::Lab if !lab => Some("needs a lab"),
            Needs::Postgres if !workloads::postgres_is_installed() => {
                Some("PostgreSQL is not installed")
            }
            Needs::Fio if !Tool::Fio.is_installed() => Some("fio is not installed"),
            _ => None,
        };
        row
    }

    /// All rounds of workloads that share files, which are then removed.
    fn run_group<'r, I>(&self, rows: I) -> Result<()>
    where
        I: Iterator<Item = &'r mut (&'static Spec, Row)>,
    {
        let mut rows: Vec<_> = rows.filter(|(_, row)| row.skipped.is_none()).collect();
        for number in 0..self.args.rounds {
            for (spec, row) in &mut rows {
                if row.error.is_some() {
                    continue;
                }
                match self.round(spec, number) {
                    Ok(round) => {
                        eprintln!(
                            "{:>12}  round {}: {}",
                            row.id,
                            number + 1,
                            row.describe(&round)
                        );
                        row.rounds.push(round);
                    }
                    Err(error) if error.is::<Interrupted>() => return Err(error),
                    Err(error) => {
                        eprintln!("{:>12}  round {}: FAILED: {error:#}", row.id, number + 1);
                        row.error = Some(format!("{error:#}"));
                        // What comes next needs a subject in order, if it can be had.
                        self.subject.wait_ready()?;
                    }
                }
            }
        }
        self.subject
            .sides()
            .try_for_each(|side| self.subject.empty(side))
    }

    fn round(&self, spec: &Spec, number: u32) -> Result<Round> {
        let measured = &self.subject.measured;
        let base = match spec.base {
            Base::Subject(_, run) => Some((measured, run)),
            Base::Bare => self.subject.bare.as_ref().map(|side| (side, spec.run)),
        };
        let base = || {
            base.map(|(side, run)| self.sample(spec, side, run, number))
                .transpose()
        };
        let subject = || self.sample(spec, measured, spec.run, number);
        if number.is_multiple_of(2) {
            Ok(Round {
                base: base()?,
                subject: subject()?,
            })
        } else {
            let subject = subject()?;
            Ok(Round {
                base: base()?,
                subject,
            })
        }
    }

    /// Prepares, runs and checks a workload on one side.
    fn sample(
        &self,
        spec: &Spec,
        side: &Side,
        run: fn(&Context) -> Result<Tally>,
        round: u32,
    ) -> Result<Sample> {
        let context = Context {
            dir: side.dir.clone(),
            scratch: self.subject.scratch.clone(),
            sizes: self.args.sizes(),
            round: round.into(),
        };
        let limit = RUN_LIMIT + context.sizes.pgbench_run.max(context.sizes.run);
        let on = |what: &str| format!("{what} on {}", side.name);
        runner::run(side.process, PREPARE_LIMIT, || (spec.prepare)(&context))
            .with_context(|| on("prepare"))?;
        self.subject.settle()?;
        self.subject.check()?;
        let before = self.subject.usage()?;
        let tally =
            runner::run(side.process, limit, || run(&context)).with_context(|| on("run"))?;
        let after = self.subject.usage()?;
        ensure!(tally.operations > 0, "nothing was done on {}", side.name);
        runner::run(side.process, limit, || (spec.check)(&context, &tally))
            .with_context(|| on("check"))?;
        self.subject.check()?;
        let cpu = after
            .iter()
            .zip(&before)
            .map(|(after, before)| after.since(before));
        let cpu = cpu.collect::<Result<_>>()?;
        Ok(Sample {
            tally,
            cpu,
            rss_kib: after.iter().map(|usage| usage.rss_kib).collect(),
        })
    }
}
