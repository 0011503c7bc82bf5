//! What the driver tells of itself, and that something changed: who follows a module's state waits
//! for the change instead of asking again and again.

use super::super::clock;
use super::super::witness::Witness;
use super::{Driver, Shared};
use crate::control::{Counters, PeerStatus, Readiness, Refusal, State, WitnessStatus};
use crate::logic::record::Record;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Condvar, Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

/// Everything a driver knows.
pub struct DriverStatus {
    /// Counts what [`Driver::changed_after`] waits for. Taken before the rest: what follows may be
    /// newer, never older.
    pub version: u64,
    pub state: State,
    pub readiness: Readiness,
    pub reason: Option<Refusal>,
    pub why: Vec<Refusal>,
    pub record: Record,
    /// How long changes have been held because this node may not acknowledge alone.
    pub held: Option<Duration>,
    /// Until when this node may answer for the module if it hears nothing more.
    pub serves_until: Option<Instant>,
    pub witness: Option<WitnessStatus>,
    pub peer: PeerStatus,
    pub counters: Counters,
}

/// The part of the state whose change is news.
#[derive(Clone, Debug, PartialEq, Eq)]
struct Seen {
    state: State,
    readiness: Readiness,
    reason: Option<String>,
    connected: bool,
    peer_state: Option<State>,
    in_sync: Vec<String>,
    held: bool,
    limited: bool,
}

/// Counts changes, and wakes who waits for one.
#[derive(Default)]
pub(super) struct News {
    state: Mutex<(u64, Option<Seen>)>,
    changed: Condvar,
}

impl News {
    fn lock(&self) -> MutexGuard<'_, (u64, Option<Seen>)> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn version(&self) -> u64 {
        self.lock().0
    }

    fn note(&self, seen: Seen) {
        let mut state = self.lock();
        if state.1.as_ref() != Some(&seen) {
            *state = (state.0 + 1, Some(seen));
            self.changed.notify_all();
        }
    }

    fn wait(&self, after: u64, limit: Duration) {
        let end = Instant::now() + limit;
        let mut state = self.lock();
        while state.0 == after {
            let rest = end.saturating_duration_since(Instant::now());
            if rest.is_zero() {
                return;
            }
            let woken = self.changed.wait_timeout(state, rest);
            state = woken.unwrap_or_else(PoisonError::into_inner).0;
        }
    }
}

impl Shared {
    /// Called by the director after everything it did, and with each tick.
    pub(super) fn note_news(&self) {
        let seen = {
            let core = self.lock();
            let member = &core.member;
            Seen {
                state: member.state(),
                readiness: member.readiness(),
                reason: member.reason().map(|r| r.code.clone()),
                connected: core.link.is_up() && core.greeted,
                peer_state: member.peer_state(),
                in_sync: member.record().set().to_vec(),
                held: member.held_since(clock::now()).is_some(),
                limited: member.serves_until().is_some(),
            }
        };
        self.news.note(seen);
    }
}

impl Driver {
    /// Returns as soon as the version is another one than `after`, or when `limit` is over.
    pub fn changed_after(&self, after: u64, limit: Duration) {
        self.shared.news.wait(after, limit);
    }

    pub fn status(&self) -> DriverStatus {
        let shared = &self.shared;
        let version = shared.news.version();
        let core = shared.lock();
        let member = &core.member;
        let load = |n: &AtomicU64| n.load(Ordering::Relaxed);
        let connected = core.link.is_up() && core.greeted;
        let now = clock::now();
        DriverStatus {
            version,
            state: member.state(),
            readiness: member.readiness(),
            reason: member.reason().cloned(),
            why: member.why(),
            record: member.record().clone(),
            held: member.held_since(now).map(|since| now - since),
            serves_until: member.serves_until(),
            witness: shared.witness.as_ref().map(Witness::status),
            peer: PeerStatus {
                node: shared.hello.peer.clone(),
                connected,
                state: member.peer_state(),
                round_trip_us: core.link.round_trip().map(|d| d.as_micros() as u64),
                reason: core.link.last_error.clone().filter(|_| !connected),
                paths: core.link.path_status(Instant::now()),
            },
            counters: Counters {
                acknowledged: load(&shared.metrics.acknowledged),
                applied: load(&shared.metrics.applied),
                in_flight: member.acks.len() as u64,
                bytes_sent: load(&shared.metrics.sent),
                bytes_received: load(&shared.metrics.received),
                ..Counters::default()
            },
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::sync::Arc;

    fn seen(state: State) -> Seen {
        Seen {
            state,
            readiness: Readiness::Ready,
            reason: None,
            connected: false,
            peer_state: None,
            in_sync: Vec::new(),
            held: false,
            limited: false,
        }
    }

    #[test]
    fn only_a_change_counts() {
        let news = News::default();
        news.note(seen(State::Wait));
        assert_eq!(news.version(), 1);
        news.note(seen(State::Wait));
        assert_eq!(news.version(), 1);
        news.note(seen(State::Alone));
        assert_eq!(news.version(), 2);
    }

    #[test]
    fn who_waits_is_woken_by_a_change_or_the_limit() {
        let news = Arc::new(News::default());
        news.note(seen(State::Wait));
        let began = Instant::now();
        news.wait(0, Duration::from_secs(60));
        assert!(began.elapsed() < Duration::from_secs(30), "it has changed");
        news.wait(1, Duration::from_millis(30));
        assert!(began.elapsed() >= Duration::from_millis(30));
        let other = news.clone();
        let waiter = std::thread::spawn(move || {
            other.wait(1, Duration::from_secs(60));
            other.version()
        });
        std::thread::sleep(Duration::from_millis(20));
        news.note(seen(State::Alone));
        assert_eq!(waiter.join().expect("it ends"), 2);
        assert!(began.elapsed() < Duration::from_secs(30));
    }
}
