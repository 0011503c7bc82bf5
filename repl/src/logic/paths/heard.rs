//! What arrived of the peer's probes on one path.

use super::{Report, WINDOW, percent};
use std::time::Instant;

#[derive(Clone, Debug, Default)]
pub(super) struct Heard {
    /// Number and time of sending of the newest, and when it arrived.
    last: Option<(u64, u64, Instant)>,
    /// The last probes, the newest in the lowest bit: 1 arrived.
    window: u64,
    /// How many of them there are.
    seen: u8,
    /// This node was behind with reading: what stayed out may have had no room here.
    excused: bool,
}

impl Heard {
    /// Notes a probe; false: it is no news.
    pub(super) fn arrived(&mut self, now: Instant, number: u64, sent: u64) -> bool {
        let Some((last, ..)) = self.last else {
            (self.last, self.window, self.seen) = (Some((number, sent, now)), 1, 1);
            return true;
        };
        if number <= last {
            self.late(last - number);
            return false;
        }
        let excused = std::mem::take(&mut self.excused);
        let steps = if excused { 1 } else { number - last };
        self.window = match u32::try_from(steps) {
            Ok(steps @ 0..64) => self.window << steps,
            _ => 0,
        } | 1;
        self.seen = u64::from(self.seen)
            .saturating_add(steps)
            .min(WINDOW.into()) as u8;
        self.last = Some((number, sent, now));
        true
    }

    /// One that was overtaken was not lost.
    fn late(&mut self, behind: u64) {
        if behind < u64::from(self.seen) {
            self.window |= 1 << behind;
        }
    }

    /// What is told to the peer now.
    pub(super) fn report(&mut self, now: Instant, behind: bool) -> Report {
        self.excused |= behind;
        let (echo, held) = self.last.map_or((0, 0), |(_, sent, at)| {
            let held = now.saturating_duration_since(at).as_micros();
            (sent, u32::try_from(held).unwrap_or(u32::MAX))
        });
        Report {
            echo,
            held,
            lost: self.lost(),
            of: self.seen,
            behind,
        }
    }

    pub(super) fn loss_percent(&self) -> u8 {
        percent(self.lost(), self.seen)
    }

    fn lost(&self) -> u8 {
        let all = u64::MAX >> (u64::BITS - u32::from(self.seen.clamp(1, WINDOW)));
        self.seen - (self.window & all).count_ones().min(self.seen.into()) as u8
    }
}
