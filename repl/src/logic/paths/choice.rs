//! The choice itself.

use super::{Paths, WINDOW, Way, percent};
use std::time::{Duration, Instant};

/// Probes in a row that stay out on one path while they are heard on another.
const MISSED: u32 = 3;
/// Loss that is too much, if another path loses less than a third of it.
const LOSSY_PERCENT: u8 = 10;
/// Least number of probes on which loss is judged.
const JUDGED: u8 = 20;
/// Lost probes of a full window that are forgiven to a path that is to be taken again.
const FORGIVEN: u8 = 1;
/// A path that fails within this time after it was taken again must wait twice as long.
const RELAPSE: Duration = Duration::from_secs(60);
const MOST_RELAPSES: u32 = 5;

impl Paths {
    /// What the peer hears of this path is not older than is to be expected.
    pub(super) fn is_alive(&self, n: usize, now: Instant) -> bool {
        let proven = self.paths[n].proven;
        let age = self.micros(now).saturating_sub(proven);
        self.began.is_some() && proven != 0 && age <= self.pace.silence.as_micros() as u64
    }

    /// Probes stay out that are heard elsewhere.
    fn is_failing(&self, n: usize) -> bool {
        let best = self.paths.iter().map(|path| path.proven).max();
        let began = self.began.map_or(0, |began| self.micros(began));
        let missing = best
            .unwrap_or(0)
            .saturating_sub(self.paths[n].proven.max(began));
        missing > (self.pace.interval * MISSED).as_micros() as u64
    }

    /// Loses too much, compared with the other.
    fn is_lossy(&self, n: usize, other: usize) -> bool {
        let (one, other) = (&self.paths[n], &self.paths[other]);
        let loss = percent(one.lost, one.of);
        one.of >= JUDGED
            && other.of >= JUDGED
            && loss >= LOSSY_PERCENT
            && percent(other.lost, other.of) < loss / 3
    }

    /// Decides anew; whether the way changed.
    pub(super) fn decide(&mut self, now: Instant) -> bool {
        let before = self.way;
        let Some(began) = self.began else {
            return false;
        };
        self.note_faultless(now);
        match self.chosen {
            None => self.choose_first(now, now.saturating_duration_since(began)),
            Some(current) => self.choose_again(current, now),
        }
        self.way = match self.chosen {
            // Who does not keep up with reading cannot tell silence from that.
            Some(current) if self.is_alive(current, now) || self.behind => Way::One(current),
            _ => Way::All,
        };
        self.way != before
    }

    fn note_faultless(&mut self, now: Instant) {
        for n in 0..self.paths.len() {
            let doubt = !self.is_alive(n, now)
                || self.is_failing(n)
                || self.paths[n].of < WINDOW
                || self.paths[n].lost > FORGIVEN;
            let path = &mut self.paths[n];
            path.faultless = if doubt {
                None
            } else {
                path.faultless.or(Some(now))
            };
        }
    }

    /// The first path if it answers, any other only after the first had its time.
    fn choose_first(&mut self, now: Instant, elapsed: Duration) {
        let mut alive = (0..self.paths.len()).filter(|n| self.is_alive(*n, now));
        let first = alive.next();
        self.chosen = first.filter(|n| *n == 0 || elapsed > self.pace.silence);
    }

    fn choose_again(&mut self, current: usize, now: Instant) {
        let failing = self.is_failing(current);
        let fit = |n: &usize| *n != current && self.is_alive(*n, now) && !self.is_failing(*n);
        let better = |n: &usize| fit(n) && (failing || self.is_lossy(current, *n));
        // Of those that do, one that does not lose much itself.
        let candidates = (0..self.paths.len()).filter(better);
        let best = candidates.min_by_key(|n| {
            let path = &self.paths[*n];
            (percent(path.lost, path.of) >= LOSSY_PERCENT, *n)
        });
        if let Some(best) = best {
            let path = &mut self.paths[current];
            let soon = |at: Instant| now.saturating_duration_since(at) < RELAPSE;
            path.relapses = match path.retaken {
                Some(at) if soon(at) => (path.relapses + 1).min(MOST_RELAPSES),
                _ => 0,
            };
            self.chosen = Some(best);
            return;
        }
        let steady = |n: &usize| {
            let path = &self.paths[*n];
            let since = path
                .faultless
                .map(|since| now.saturating_duration_since(since));
            since.is_some_and(|since| since >= self.pace.steady * (1 << path.relapses))
        };
        if let Some(again) = (0..current).find(steady) {
            self.paths[again].retaken = Some(now);
            self.chosen = Some(again);
        }
    }
}
