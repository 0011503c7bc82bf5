//! What was measured, as rows, and what follows from it: medians, ratios, floors.

use std::time::Duration;

use serde::Serialize;

use crate::histogram::Histogram;
use crate::workloads::{Spec, Tally};

/// One run on one side.
pub(crate) struct Sample {
    pub(crate) tally: Tally,
    /// Processor time of the daemons of each node.
    pub(crate) cpu: Vec<Duration>,
    /// Memory of the daemons of each node at the end.
    pub(crate) rss_kib: Vec<u64>,
}

/// One round: without a base there is nothing to compare with.
pub(crate) struct Round {
    pub(crate) base: Option<Sample>,
    pub(crate) subject: Sample,
}

impl Round {
    fn ratio(&self) -> Option<f64> {
        self.base
            .as_ref()
            .map(|base| self.subject.tally.rate() / base.tally.rate())
    }
}

/// A workload's rounds.
pub(crate) struct Row {
    pub(crate) id: String,
    what: &'static str,
    unit: &'static str,
    base: Option<&'static str>,
    floor: Option<f64>,
    pub(crate) rounds: Vec<Round>,
    pub(crate) error: Option<String>,
    pub(crate) skipped: Option<&'static str>,
}

impl Row {
    pub(crate) fn new(
        spec: &Spec,
        floor: Option<f64>,
        base: Option<&'static str>,
        delayed: bool,
    ) -> Self {
        let id = format!("{}{}", spec.id, if delayed { "+delay" } else { "" });
        let (what, unit) = (spec.what, spec.unit);
        Self {
            id,
            what,
            unit,
            base,
            floor,
            rounds: Vec::new(),
            error: None,
            skipped: None,
        }
    }

    /// One line about a round.
    pub(crate) fn describe(&self, round: &Round) -> String {
        let rate = round.subject.tally.rate();
        match (self.base, &round.base, round.ratio()) {
            (Some(name), Some(base), Some(ratio)) => format!(
                "{name} {:.0} {}, measured {rate:.0}, ratio {ratio:.3}",
                base.tally.rate(),
                self.unit,
            ),
            _ => format!("{rate:.0} {}", self.unit),
        }
    }

    pub(crate) fn summary(&self) -> Summary {
        let bases: Vec<_> = self
            .rounds
            .iter()
            .filter_map(|round| round.base.as_ref())
            .collect();
        let subjects: Vec<_> = self.rounds.iter().map(|round| &round.subject).collect();
        let ratio = Spread::of(self.rounds.iter().filter_map(Round::ratio).collect());
        let operations: u64 = subjects.iter().map(|sample| sample.tally.operations).sum();
        let nodes = subjects.first().map_or(0, |sample| sample.cpu.len());
        let cpu_of = |node: usize| -> Duration { subjects.iter().map(|run| run.cpu[node]).sum() };
        let rss_of = |node: usize| subjects.iter().map(|run| run.rss_kib[node]).max();
        let micros = |node| cpu_of(node).as_secs_f64() * 1e6 / operations as f64;
        let complete = self.error.is_none() && !self.rounds.is_empty();
        Summary {
            id: self.id.clone(),
            what: self.what,
            unit: self.unit,
            base_name: self.base,
            base: Side::of(&bases),
            subject: Side::of(&subjects),
            reached: self
                .floor
                .filter(|_| complete)
                .zip(ratio)
                .map(|(floor, ratio)| ratio.median >= floor),
            ratio,
            floor: self.floor,
            cpu_us_per_operation: (0..nodes).map(micros).collect(),
            rss_kib: (0..nodes).filter_map(rss_of).collect(),
            error: self.error.clone(),
            skipped: self.skipped,
        }
    }
}

/// A row as it is printed and written.
#[derive(Serialize)]
pub(crate) struct Summary {
    pub(crate) id: String,
    pub(crate) what: &'static str,
    pub(crate) unit: &'static str,
    pub(crate) base_name: Option<&'static str>,
    pub(crate) base: Option<Side>,
    pub(crate) subject: Option<Side>,
    pub(crate) ratio: Option<Spread>,
    pub(crate) floor: Option<f64>,
    pub(crate) reached: Option<bool>,
    /// Of the daemons, the serving node first.
    pub(crate) cpu_us_per_operation: Vec<f64>,
    pub(crate) rss_kib: Vec<u64>,
    pub(crate) error: Option<String>,
    pub(crate) skipped: Option<&'static str>,
}

/// One side over all rounds.
#[derive(Serialize)]
pub(crate) struct Side {
    pub(crate) rate: Spread,
    pub(crate) rates: Vec<f64>,
    pub(crate) p50_us: Option<f64>,
    pub(crate) p99_us: Option<f64>,
}

impl Side {
    fn of(samples: &[&Sample]) -> Option<Self> {
        let rates: Vec<_> = samples.iter().map(|sample| sample.tally.rate()).collect();
        let mut latency = Histogram::default();
        for sample in samples {
            latency.merge(&sample.tally.latency);
        }
        let micros = |share| latency.quantile(share).map(|time| time.as_secs_f64() * 1e6);
        let rate = Spread::of(rates.clone())?;
        Some(Self {
            rate,
            rates,
            p50_us: micros(0.5),
            p99_us: micros(0.99),
        })
    }
}

/// The middle and the ends of a few values.
#[derive(Clone, Copy, Debug, PartialEq, Serialize)]
pub(crate) struct Spread {
    pub(crate) median: f64,
    pub(crate) min: f64,
    pub(crate) max: f64,
}

impl Spread {
    pub(crate) fn of(mut values: Vec<f64>) -> Option<Self> {
        values.sort_by(f64::total_cmp);
        let (&min, &max) = (values.first()?, values.last()?);
        let (low, high) = (values[(values.len() - 1) / 2], values[values.len() / 2]);
        Some(Self {
            median: f64::midpoint(low, high),
            min,
            max,
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn sample(rate: u64) -> Sample {
        let elapsed = Duration::from_secs(1);
        let tally = Tally {
            operations: rate,
            elapsed,
            latency: Histogram::default(),
        };
        Sample {
            tally,
            cpu: vec![Duration::from_millis(rate)],
            rss_kib: vec![rate],
        }
    }

    fn row(rates: &[(u64, u64)]) -> Row {
        let spec = crate::workloads::all()[0];
        let mut row = Row::new(spec, Some(0.3), Some("bare"), false);
        let round = |&(base, subject): &(u64, u64)| Round {
            base: Some(sample(base)),
            subject: sample(subject),
        };
        row.rounds = rates.iter().map(round).collect();
        row
    }

    #[test]
    fn the_ratio_is_the_median_of_rounds_not_of_rates() {
        let summary = row(&[(100, 50), (1000, 100), (10, 4)]).summary();
        assert_eq!(
            summary.ratio,
            Some(Spread {
                median: 0.4,
                min: 0.1,
                max: 0.5
            })
        );
        assert_eq!(summary.reached, Some(true));
        assert_eq!(summary.base.unwrap().rate.median, 100.0);
        assert_eq!(summary.cpu_us_per_operation, vec![1000.0]);
        assert_eq!(summary.rss_kib, vec![100]);
    }

    #[test]
    fn a_failed_row_reaches_nothing() {
        let mut failed = row(&[(100, 90)]);
        failed.error = Some("broken".into());
        assert_eq!(failed.summary().reached, None);
        assert_eq!(row(&[]).summary().reached, None);
        assert_eq!(row(&[(100, 29)]).summary().reached, Some(false));
    }

    #[test]
    fn an_even_number_of_values_has_its_median_between_two() {
        let spread = Spread::of(vec![4.0, 1.0, 2.0, 3.0]);
        assert_eq!(
            spread,
            Some(Spread {
                median: 2.5,
                min: 1.0,
                max: 4.0
            })
        );
        assert_eq!(Spread::of(Vec::new()), None);
    }
}
