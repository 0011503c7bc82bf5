//! How long answers took, counted in buckets: cheap to note from any thread, and good enough for
//! percentiles. Bucket bounds grow by an eighth to a sixteenth, so a percentile is at most 13 %
//! off, and two of them that are compared are off alike.

use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};

/// Buckets of each power of two.
const FINE: usize = 8;
/// Powers of two of microseconds, from below 1 us to beyond a minute.
const POWERS: usize = 27;
const BUCKETS: usize = FINE * POWERS;

/// What applications wait for, apart: a flush must not hide behind many cheap writes.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Class {
    Change = 0,
    Sync = 1,
    Read = 2,
}

/// Number of [`Class`]es.
pub const CLASSES: usize = 3;

/// Notes answers while it is switched on.
pub struct Meters {
    on: AtomicBool,
    counts: [[AtomicU64; BUCKETS]; CLASSES],
}

impl Default for Meters {
    fn default() -> Self {
        Self {
            on: AtomicBool::new(false),
            counts: std::array::from_fn(|_| std::array::from_fn(|_| AtomicU64::new(0))),
        }
    }
}

impl Meters {
    /// Whether anybody wants to know; who does not measure saves looking at the clock.
    pub fn is_on(&self) -> bool {
        self.on.load(Ordering::Relaxed)
    }

    pub fn switch(&self, on: bool) {
        self.on.store(on, Ordering::Relaxed);
    }

    /// Notes an answer that took so many nanoseconds.
    pub fn note(&self, class: Class, nanos: u64) {
        self.counts[class as usize][bucket(nanos)].fetch_add(1, Ordering::Relaxed);
    }

    /// All that was noted so far.
    pub fn read(&self) -> [Latencies; CLASSES] {
        let class = |n: usize| {
            let count = |b: usize| self.counts[n][b].load(Ordering::Relaxed) as f64;
            Latencies {
                counts: std::array::from_fn(count),
            }
        };
        std::array::from_fn(class)
    }
}

/// Answers by the time they took. Counts may be fractions: old ones fade.
#[derive(Clone, Debug, PartialEq)]
pub struct Latencies {
    counts: [f64; BUCKETS],
}

impl Default for Latencies {
    fn default() -> Self {
        Self {
            counts: [0.0; BUCKETS],
        }
    }
}

impl Latencies {
    pub fn count(&self) -> f64 {
        self.counts.iter().sum()
    }

    /// What came after an earlier reading.
    #[must_use]
    pub fn since(&self, earlier: &Self) -> Self {
        let counts = std::array::from_fn(|b| (self.counts[b] - earlier.counts[b]).max(0.0));
        Self { counts }
    }

    /// Adds newer ones; what was there counts for less from now on.
    pub fn fade_into(&mut self, newer: &Self, keep: f64) {
        for (count, more) in self.counts.iter_mut().zip(newer.counts) {
            *count = *count * keep + more;
        }
    }

    /// Microseconds within which this share of the answers came, in the middle of its bucket;
    /// `None` without answers.
    pub fn percentile(&self, share: f64) -> Option<f64> {
        let total = self.count();
        let mut left = total * share;
        for (b, count) in self.counts.iter().enumerate() {
            left -= count;
            if left <= 0.0 && total > 0.0 {
                return Some(middle(b));
            }
        }
        None
    }
}

fn bucket(nanos: u64) -> usize {
    // In eighths of a microsecond, so that every power has its eight parts.
    let units = (nanos / 125).max(FINE as u64);
    let power = units.ilog2() as usize - FINE.ilog2() as usize;
    let part = (units >> power) as usize - FINE;
    (power * FINE + part).min(BUCKETS - 1)
}

fn middle(bucket: usize) -> f64 {
    let (power, part) = (bucket / FINE, bucket % FINE);
    (FINE + part) as f64 / FINE as f64 * 2f64.powi(power as i32) * (1.0 + 0.5 / FINE as f64)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_percentile_is_about_right_over_the_whole_range() {
        for micros in [1u64, 3, 17, 250, 4_000, 80_000, 30_000_000] {
            let meters = Meters::default();
            for n in 0..100 {
                let slow = if n < 94 { micros / 4 } else { micros };
                meters.note(Class::Sync, slow * 1000);
            }
            let [change, sync, _] = meters.read();
            assert_eq!(change.percentile(0.95), None);
            let found = sync.percentile(0.95).expect("there are answers");
            let ratio = found / micros as f64;
            assert!((0.85..1.15).contains(&ratio), "{micros} us: {found}");
        }
    }

    #[test]
    fn old_answers_fade() {
        let meters = Meters::default();
        (0..100).for_each(|_| meters.note(Class::Read, 1_000_000));
        let [_, _, first] = meters.read();
        (0..20).for_each(|_| meters.note(Class::Read, 10_000));
        let [_, _, both] = meters.read();
        let mut faded = first.clone();
        faded.fade_into(&both.since(&first), 0.01);
        assert!(faded.percentile(0.9).expect("answers") < 20.0);
        assert!((faded.count() - 21.0).abs() < 1e-9);
    }

    #[test]
    fn no_time_is_out_of_range() {
        assert_eq!(bucket(0), 0);
        assert_eq!(bucket(u64::MAX), BUCKETS - 1);
    }
}
