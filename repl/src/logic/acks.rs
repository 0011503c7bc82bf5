//! Operations that wait for the peer. An operation is answered when the peer's acknowledgement
//! has arrived, or when the set has durably shrunk without the peer (I1, I4); nothing else ends
//! its wait.

use crate::ids::OpSeq;
use std::collections::VecDeque;
use std::time::{Duration, Instant};

/// What the peer said to an operation.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum AckOutcome {
    /// Answer the application.
    Complete,
    /// The peer could not do what this node did: it must leave the set first.
    PeerFailed { errno: i32 },
    /// Not yet: this node may not answer now (I13, growth).
    Held,
    /// Not waiting (a late answer of an ended session): ignored.
    Unknown,
}

/// The window of operations in flight, oldest first. Numbers rise by one; acknowledgements may
/// come in any order, because the peer answers syncs when its disk does.
#[derive(Debug, Default)]
pub struct Acks {
    /// Number of the first slot.
    base: u64,
    /// Since when each waits; `None` once acknowledged.
    slots: VecDeque<Option<Instant>>,
    waiting: usize,
    /// Acknowledged by the peer while this node might not answer.
    held: Vec<OpSeq>,
}

impl Acks {
    /// Takes the next number for an operation issued at `now`.
    pub fn issue(&mut self, now: Instant) -> OpSeq {
        if self.base == 0 {
            self.base = 1;
        }
        self.slots.push_back(Some(now));
        self.waiting += 1;
        OpSeq(self.base + self.slots.len() as u64 - 1)
    }

    /// The peer answered `seq`.
    pub fn acknowledge(&mut self, seq: OpSeq, errno: i32) -> AckOutcome {
        let index = seq
            .0
            .checked_sub(self.base)
            .and_then(|i| usize::try_from(i).ok());
        let Some(slot) = index.and_then(|i| self.slots.get_mut(i)) else {
            return AckOutcome::Unknown;
        };
        if slot.is_none() {
            return AckOutcome::Unknown;
        }
        if errno != 0 {
            return AckOutcome::PeerFailed { errno };
        }
        *slot = None;
        self.waiting -= 1;
        while let Some(None) = self.slots.front() {
            self.slots.pop_front();
            self.base += 1;
        }
        AckOutcome::Complete
    }

    /// As [`Self::acknowledge`], while this node may not answer.
    pub fn hold(&mut self, seq: OpSeq, errno: i32) -> AckOutcome {
        match self.acknowledge(seq, errno) {
            AckOutcome::Complete => {
                self.held.push(seq);
                AckOutcome::Held
            }
            other => other,
        }
    }

    /// This node may answer again: what it held.
    pub fn release(&mut self) -> Vec<OpSeq> {
        std::mem::take(&mut self.held)
    }

    /// The number given last; zero before the first.
    pub fn last(&self) -> OpSeq {
        OpSeq((self.base + self.slots.len() as u64).saturating_sub(1))
    }

    /// Whether the peer has acknowledged every operation up to `seq`.
    pub fn done_to(&self, seq: OpSeq) -> bool {
        // What stands first is waiting, or there is nothing.
        self.slots.is_empty() || self.base > seq.0
    }

    /// Ends every wait: the caller has made sure that the peer no longer counts.
    pub fn drain(&mut self) -> Vec<OpSeq> {
        let base = self.base;
        let ended = (0u64..).zip(self.slots.iter()).filter(|(_, s)| s.is_some());
        let ended = ended.map(|(i, _)| OpSeq(base + i));
        let mut ended: Vec<_> = ended.chain(self.held.drain(..)).collect();
        ended.sort_unstable();
        self.base += self.slots.len() as u64;
        self.slots.clear();
        self.waiting = 0;
        ended
    }

    /// Operations not answered yet.
    pub fn len(&self) -> usize {
        self.waiting + self.held.len()
    }

    pub fn is_empty(&self) -> bool {
        self.len() == 0
    }

    /// Whether the oldest has waited longer than `limit`.
    pub fn overdue(&self, now: Instant, limit: Duration) -> bool {
        let oldest = self.slots.iter().flatten().next();
        oldest.is_some_and(|since| now.saturating_duration_since(*since) > limit)
    }
}

#[cfg(test)]
#[allow(clippy::disallowed_methods)]
mod tests {
    use super::*;

    #[test]
    fn answers_in_any_order_and_each_once() {
        let now = Instant::now();
        let mut acks = Acks::default();
        let s: Vec<_> = (0..4).map(|_| acks.issue(now)).collect();
        assert_eq!(acks.acknowledge(s[2], 0), AckOutcome::Complete);
        assert_eq!(
            acks.acknowledge(s[2], 0),
            AckOutcome::Unknown,
            "answered once"
        );
        assert_eq!(acks.acknowledge(s[0], 0), AckOutcome::Complete);
        assert_eq!(acks.len(), 2);
        assert_eq!(acks.drain(), vec![s[1], s[3]]);
        assert_eq!(
            acks.acknowledge(s[3], 0),
            AckOutcome::Unknown,
            "voided by the drain"
        );
        assert!(acks.issue(now) > s[3], "numbers are never reused");
    }

    #[test]
    fn what_is_held_is_done_but_not_answered() {
        let now = Instant::now();
        let mut acks = Acks::default();
        assert_eq!(acks.last(), OpSeq(0));
        let s: Vec<_> = (0..3).map(|_| acks.issue(now)).collect();
        assert_eq!(acks.last(), s[2]);
        assert_eq!(acks.hold(s[0], 0), AckOutcome::Held);
        assert!(acks.done_to(s[0]) && !acks.done_to(s[1]));
        assert_eq!(acks.len(), 3);
        assert_eq!(acks.hold(s[2], 0), AckOutcome::Held);
        assert!(!acks.done_to(s[2]), "one before it is not done");
        assert_eq!(acks.release(), vec![s[0], s[2]]);
        assert_eq!(acks.hold(s[1], 0), AckOutcome::Held);
        assert!(acks.done_to(s[2]) && !acks.is_empty());
        assert_eq!(acks.drain(), vec![s[1]]);
        assert!(acks.is_empty());
    }

    #[test]
    fn a_refusal_of_the_peer_does_not_end_the_wait() {
        let now = Instant::now();
        let mut acks = Acks::default();
        let seq = acks.issue(now);
        assert_eq!(
            acks.acknowledge(seq, 28),
            AckOutcome::PeerFailed { errno: 28 }
        );
        assert_eq!(acks.len(), 1, "I1: only the shrunken set ends it");
        assert!(!acks.overdue(now + Duration::from_secs(1), Duration::from_secs(3)));
        assert!(acks.overdue(now + Duration::from_secs(4), Duration::from_secs(3)));
    }
}
