//! Latencies of millions of operations in a few kilobytes, exact to 3 %, which is far below the
//! noise of any machine. Buckets grow with the value: 32 for each doubling.

use std::time::Duration;

use serde::{Deserialize, Serialize};

const SUB_BITS: u32 = 5;
const BUCKETS: usize = 64 << SUB_BITS;

/// Counts by latency. Empty (no memory) until the first latency.
#[derive(Clone, Debug, Default, Serialize, Deserialize)]
pub(crate) struct Histogram {
    counts: Vec<u32>,
    total: u64,
}

impl Histogram {
    pub(crate) fn record(&mut self, latency: Duration) {
        self.record_many(latency, 1);
    }

    pub(crate) fn record_many(&mut self, latency: Duration, count: u64) {
        if self.counts.is_empty() {
            self.counts = vec![0; BUCKETS];
        }
        let nanos = u64::try_from(latency.as_nanos()).unwrap_or(u64::MAX);
        let counted = &mut self.counts[bucket(nanos)];
        *counted = counted.saturating_add(u32::try_from(count).unwrap_or(u32::MAX));
        self.total += count;
    }

    pub(crate) fn merge(&mut self, other: &Self) {
        if self.counts.is_empty() {
            self.counts.clone_from(&other.counts);
        } else {
            for (own, others) in self.counts.iter_mut().zip(&other.counts) {
                *own += others;
            }
        }
        self.total += other.total;
    }

    /// The latency that `share` (0 to 1) of all operations did not exceed.
    pub(crate) fn quantile(&self, share: f64) -> Option<Duration> {
        let rank = ((self.total as f64 * share).ceil() as u64).max(1);
        let mut seen = 0;
        let found = self.counts.iter().position(|&count| {
            seen += u64::from(count);
            seen >= rank
        });
        found.map(|index| Duration::from_nanos(upper_bound(index)))
    }
}

fn bucket(nanos: u64) -> usize {
    let magnitude = u64::BITS - nanos.leading_zeros();
    let shift = magnitude.saturating_sub(SUB_BITS + 1);
    ((shift as usize) << SUB_BITS) + (nanos >> shift) as usize
}

/// Largest value of a bucket.
fn upper_bound(index: usize) -> u64 {
    let shift = (index >> SUB_BITS).saturating_sub(1);
    let mantissa = (index - (shift << SUB_BITS)) as u64;
    (mantissa << shift) + ((1 << shift) - 1)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_value_lies_in_its_bucket_and_close_to_its_bound() {
        let powers = (0..64).flat_map(|bit| [(1u64 << bit) - 1, 1 << bit, (1 << bit) + 1]);
        for nanos in (0..5_000).chain(powers).chain([u64::MAX]) {
            let bound = upper_bound(bucket(nanos));
            assert!(bound >= nanos, "{nanos} above its bound {bound}");
            assert!(bound - nanos <= nanos / 32, "{nanos} too far from {bound}");
        }
        assert!(bucket(u64::MAX) < BUCKETS);
    }

    #[test]
    fn quantiles_of_a_known_row() {
        let (mut one, mut two) = (Histogram::default(), Histogram::default());
        for micros in 1..=100 {
            let half = if micros % 2 == 0 { &mut one } else { &mut two };
            half.record(Duration::from_micros(micros));
        }
        let mut both = Histogram::default();
        both.merge(&one);
        both.merge(&two);
        for (share, micros) in [(0.5, 50.0), (0.99, 99.0), (1.0, 100.0)] {
            let found = both.quantile(share).unwrap().as_secs_f64() * 1e6;
            assert!((found / micros - 1.0).abs() < 0.04, "{share}: {found}");
        }
        assert_eq!(Histogram::default().quantile(0.5), None);
    }
}
