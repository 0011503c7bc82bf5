//! What the story needs of an application, and its commits as seen from outside.

use std::collections::BTreeMap;
use std::process::Child;
use std::sync::mpsc::{Receiver, RecvTimeoutError};
use std::time::{Duration, Instant};

use anyhow::{Result, bail};

use crate::lab::cluster::Lab;
use crate::lab::signals::interrupted;

/// How often waiting looks for a Ctrl-C.
const TICK: Duration = Duration::from_millis(50);

/// Each writer numbers its rows from 1 without a gap, so that what is missing can be told from
/// what was never written. No writer has the number of one before it on another node.
pub(super) trait Application {
    /// As in "an SQLite ledger".
    fn name(&self) -> String;
    /// Done once, on the first node.
    fn prepare(&self, lab: &Lab, node: &str) -> Result<()>;
    /// Starts the application and its writers.
    fn start(&self, lab: &Lab, node: &str) -> Result<Load>;
    /// Looks for rows `1..=last` of each writer, with the application's own means.
    fn check(&self, lab: &Lab, node: &str, last: &Progress) -> Result<Findings>;
}

/// Highest row acknowledged to each writer.
pub(super) type Progress = BTreeMap<u32, u64>;

/// What the application has after the failover.
#[derive(Debug)]
pub(super) struct Findings {
    /// Rows found of those that were asked for.
    pub(super) found: u64,
    /// What the application's check of its own files says.
    pub(super) integrity: String,
    pub(super) sound: bool,
}

/// A commit the application was told is done.
#[derive(Clone, Copy, Debug)]
pub(super) struct Acknowledged {
    pub(super) writer: u32,
    pub(super) number: u64,
    pub(super) at: Instant,
}

/// A running application. Dropping it kills what is left of it.
pub(super) struct Load {
    pub(super) commits: Receiver<Acknowledged>,
    /// Ends the writers, not the application.
    pub(super) stop: Box<dyn FnOnce()>,
    pub(super) processes: Processes,
}

/// Processes inside a node, by the processes outside that hold them.
pub(super) struct Processes(pub(super) Vec<Child>);

impl Drop for Processes {
    fn drop(&mut self) {
        for child in &mut self.0 {
            // It may have ended with its node.
            let _ = child.kill();
            let _ = child.wait();
        }
    }
}

/// Commits of one application on one node.
#[derive(Debug, Default)]
pub(super) struct Tally {
    pub(super) last: Progress,
    pub(super) first_at: Option<Instant>,
    last_at: Option<Instant>,
}

impl Tally {
    pub(super) fn total(&self) -> u64 {
        self.last.values().sum()
    }

    pub(super) fn per_second(&self) -> f64 {
        let (Some(first), Some(last)) = (self.first_at, self.last_at) else {
            return 0.0;
        };
        let seconds = last.duration_since(first).as_secs_f64();
        if seconds > 0.0 {
            self.total() as f64 / seconds
        } else {
            0.0
        }
    }

    pub(super) fn note(&mut self, commit: Acknowledged) -> Result<()> {
        let Acknowledged { writer, number, at } = commit;
        let last = self.last.entry(writer).or_default();
        if number != *last + 1 {
            bail!("writer {writer} reported row {number} after row {last}; the demo is broken");
        }
        *last = number;
        self.first_at.get_or_insert(at);
        self.last_at = Some(at);
        Ok(())
    }

    /// Notes commits for `length` after the first one, which must come within `patience`. False:
    /// the writers have ended before.
    pub(super) fn listen(
        &mut self,
        commits: &Receiver<Acknowledged>,
        patience: Duration,
        length: Duration,
    ) -> Result<bool> {
        let start = Instant::now();
        loop {
            interrupted()?;
            match self.first_at {
                Some(first) if first.elapsed() >= length => return Ok(true),
                None if start.elapsed() >= patience => {
                    bail!("no commit within {patience:?}; the application hangs")
                }
                _ => {}
            }
            match commits.recv_timeout(TICK) {
                Ok(commit) => self.note(commit)?,
                Err(RecvTimeoutError::Timeout) => {}
                Err(RecvTimeoutError::Disconnected) => return Ok(false),
            }
        }
    }

    /// Notes what was reported so far.
    pub(super) fn read(&mut self, commits: &Receiver<Acknowledged>) -> Result<()> {
        commits.try_iter().try_for_each(|commit| self.note(commit))
    }

    /// Notes what was reported and not yet read, until the writers have ended.
    pub(super) fn drain(&mut self, commits: &Receiver<Acknowledged>) -> Result<()> {
        loop {
            interrupted()?;
            match commits.recv_timeout(TICK) {
                Ok(commit) => self.note(commit)?,
                Err(RecvTimeoutError::Timeout) => {}
                Err(RecvTimeoutError::Disconnected) => return Ok(()),
            }
        }
    }
}

/// The writers of each node have numbers of their own.
pub(super) fn first_writer(node: &str) -> u32 {
    if node == "node1" { 1 } else { 101 }
}

#[cfg(test)]
mod tests {
    use std::sync::mpsc::channel;

    use super::*;

    fn commit(writer: u32, number: u64) -> Acknowledged {
        Acknowledged {
            writer,
            number,
            at: Instant::now(),
        }
    }

    #[test]
    fn commits_are_counted_for_each_writer() -> Result<()> {
        let (sender, commits) = channel();
        for (writer, number) in [(1, 1), (2, 1), (1, 2), (1, 3)] {
            sender.send(commit(writer, number))?;
        }
        drop(sender);
        let mut tally = Tally::default();
        let long = Duration::from_secs(60);
        assert!(!tally.listen(&commits, long, long)?, "the writers ended");
        assert_eq!(tally.last, Progress::from([(1, 3), (2, 1)]));
        assert_eq!(tally.total(), 4);
        Ok(())
    }

    #[test]
    fn a_gap_is_a_mistake_of_the_demo() {
        let mut tally = Tally::default();
        assert!(tally.note(commit(1, 1)).is_ok());
        assert!(tally.note(commit(1, 3)).is_err());
    }
}
