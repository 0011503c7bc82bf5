//! Watchdog of a resync from this node: sees whether it moves, and says why it does not.

use super::source::Run;
use crate::logic::resync::progress::{Phase, Snapshot};
use std::sync::atomic::Ordering;
use std::sync::{Mutex, PoisonError};
use std::time::{Duration, Instant};

/// A resync that has not moved for so long is called stuck.
const PATIENCE: Duration = Duration::from_secs(5);

/// And one whose last pass was in vain so often.
const IN_VAIN: u32 = 3;

/// When the resync moved last.
pub(super) struct Watch {
    state: Mutex<(Option<Snapshot>, Instant)>,
}

/// What slows a resync, or the application for its sake.
#[derive(Clone, Copy, Debug, Default)]
pub struct Effort {
    /// Share of the time in which the resync works, 0 to 1; `None` if it takes what it gets.
    pub share: Option<f64>,
    /// How much longer the application's answers took with the resync, as last measured.
    pub ratio: Option<f64>,
    /// Delay of every change while passes do not get shorter.
    pub delay: Duration,
}

/// How a resync from this node stands.
pub struct Standing {
    pub progress: Snapshot,
    pub runs: Duration,
    pub effort: Effort,
    /// Why nothing moves.
    pub stuck: Option<String>,
}

impl Default for Watch {
    fn default() -> Self {
        Self {
            state: Mutex::new((None, Instant::now())),
        }
    }
}

impl Watch {
    /// Looks; called every now and then. Returns since when nothing moves.
    fn look(&self, now: Snapshot) -> Duration {
        let mut state = self.state.lock().unwrap_or_else(PoisonError::into_inner);
        if state.0 != Some(now) {
            *state = (Some(now), Instant::now());
        }
        state.1.elapsed()
    }
}

impl Run {
    /// Lets the watchdog look.
    pub(super) fn watch(&self) -> Duration {
        self.watch.look(self.progress.snapshot())
    }

    pub(super) fn standing(&self, peer: &str) -> Standing {
        let still = self.watch();
        let progress = self.progress.snapshot();
        let in_vain = self.in_vain.load(Ordering::Relaxed);
        Standing {
            progress,
            runs: self.began.elapsed(),
            effort: self.effort(),
            stuck: if still >= PATIENCE {
                let open = self.exchange.open();
                let why = why(progress.phase, open, peer);
                Some(format!("{why} for {} s", still.as_secs()))
            } else {
                (in_vain >= IN_VAIN).then(|| too_slow(in_vain, peer))
            },
        }
    }
}

/// The copy is done, but for the moment when both are equal.
fn too_slow(times: u32, peer: &str) -> String {
    format!(
        "the last pass has taken longer than a third of `stall_limit` {times} times, so long only \
         writes may stand still: the disk of {peer}, the link or this node is too slow for it, or \
         too busy"
    )
}

/// Who is waited for.
fn why(phase: Phase, open: usize, peer: &str) -> String {
    match phase {
        Phase::Flush => format!("{peer} is writing to its disk"),
        Phase::Wait => "waiting for writes to be held and the last pass to begin".into(),
        Phase::Done => format!("waiting for {peer} to become current"),
        _ if open > 0 => {
            format!("{peer} has not answered (its disk is slow, or the link takes nothing more)")
        }
        _ => "this node's own disk has not answered, or the application holds its changes".into(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::logic::resync::progress::Progress;

    #[test]
    fn what_moves_is_not_stuck() {
        let (watch, progress) = (Watch::default(), Progress::default());
        watch.look(progress.snapshot());
        std::thread::sleep(Duration::from_millis(20));
        assert!(watch.look(progress.snapshot()) >= Duration::from_millis(20));
        Progress::add(&progress.replies, 1);
        assert!(watch.look(progress.snapshot()) < Duration::from_millis(20));
    }

    #[test]
    fn the_reason_names_who_is_waited_for() {
        assert!(why(Phase::Fill, 3, "node2").starts_with("node2 has not answered"));
        assert!(why(Phase::Fill, 0, "node2").starts_with("this node's own disk"));
        assert!(why(Phase::Flush, 1, "node2").contains("writing"));
    }
}
