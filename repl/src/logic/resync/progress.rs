//! How far a resync is, for `status`: written by the engine, read by whoever asks.

use std::sync::atomic::{AtomicU8, AtomicU64, Ordering};

/// What the engine is doing.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[repr(u8)]
pub enum Phase {
    /// Before the first pass.
    Start = 0,
    /// Finding out what is where.
    Look = 1,
    /// Making names equal, and the content of what is new.
    Place = 2,
    /// Content of files that both have.
    Fill = 3,
    /// The target writes to its disk.
    Flush = 4,
    /// Waiting for the next pass, or for writes to be held.
    Wait = 5,
    /// The last pass, while writes are held.
    Last = 6,
    Done = 7,
}

/// Counters that only grow within a session.
#[derive(Debug, Default)]
pub struct Progress {
    phase: AtomicU8,
    pub pass: AtomicU64,
    /// Bytes of files that are known to be equal now.
    pub done: AtomicU64,
    /// Bytes of files that were to be compared or sent, as far as is known.
    pub total: AtomicU64,
    pub sent: AtomicU64,
    pub compared: AtomicU64,
    pub files: AtomicU64,
    pub directories: AtomicU64,
    pub anomalies: AtomicU64,
    /// Replies taken; while it stands still nothing moves.
    pub replies: AtomicU64,
}

/// What [`Progress`] says at one moment.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Snapshot {
    pub phase: Phase,
    pub pass: u64,
    pub done: u64,
    pub total: u64,
    pub sent: u64,
    pub compared: u64,
    pub files: u64,
    pub directories: u64,
    pub anomalies: u64,
    pub replies: u64,
}

impl Progress {
    pub fn add(counter: &AtomicU64, n: u64) {
        counter.fetch_add(n, Ordering::Relaxed);
    }

    pub fn set_phase(&self, phase: Phase) {
        self.phase.store(phase as u8, Ordering::Relaxed);
    }

    pub fn phase(&self) -> Phase {
        match self.phase.load(Ordering::Relaxed) {
            0 => Phase::Start,
            1 => Phase::Look,
            2 => Phase::Place,
            3 => Phase::Fill,
            4 => Phase::Flush,
            5 => Phase::Wait,
            6 => Phase::Last,
            _ => Phase::Done,
        }
    }

    pub fn snapshot(&self) -> Snapshot {
        let get = |c: &AtomicU64| c.load(Ordering::Relaxed);
        Snapshot {
            phase: self.phase(),
            pass: get(&self.pass),
            done: get(&self.done),
            total: get(&self.total),
            sent: get(&self.sent),
            compared: get(&self.compared),
            files: get(&self.files),
            directories: get(&self.directories),
            anomalies: get(&self.anomalies),
            replies: get(&self.replies),
        }
    }
}
