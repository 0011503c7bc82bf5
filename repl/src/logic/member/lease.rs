//! The lease (I13): a node that serves in a set of two does so only while its peer promised not
//! to. It counts from the time its own request was sent, the promise from the time that request
//! arrived, so whatever the network does the promise outlasts the lease. Who wants to serve first
//! stops promising and waits its promise out, and then some ([`grace`]): a manager learns a moment
//! after its daemon that a lease is over, and must have taken the addresses away by then.

use super::phase::{Follow, LeaveStep, Phase, Swap, SwapStep};
use super::{AckOutcome, Duration, Instant, Member, MemberConfig, OpSeq, Output, Record};
use crate::wire::Control;
use std::collections::VecDeque;

/// Requests in flight that are remembered.
const ASKED: usize = 16;

/// Length of a lease: a silent peer is waited for as long, and then there is time left to go on
/// without it.
pub const fn lease(stall_limit: Duration) -> Duration {
    Duration::from_nanos((stall_limit.as_nanos() * 2 / 3) as u64)
}

/// How much longer a promise lasts than the lease it gives. The addresses of a node whose lease is
/// over must be gone within this time; its manager begins to remove them after half of it.
pub const fn grace(stall_limit: Duration) -> Duration {
    Duration::from_nanos((stall_limit.as_nanos() / 4) as u64)
}

#[derive(Debug)]
pub(super) struct Lease {
    length: Duration,
    /// For how long a promise binds.
    promise: Duration,
    /// This node may serve until then.
    until: Option<Instant>,
    asked: VecDeque<(u64, Instant)>,
    number: u64,
    /// When the newest of the requests was sent that the peer granted.
    granted: Option<Instant>,
    /// The peer may serve until then.
    promised: Option<Instant>,
    /// The same, promised before this start: not known, so the longest it can be.
    before: Option<Instant>,
    /// How long a peer that serves no more may take to give its addresses up.
    grace: Duration,
}

impl Lease {
    pub(super) fn new(config: &MemberConfig, record: &Record, now: Instant) -> Self {
        let two = record.set_size() > 1;
        let grace = if config.rules.lease_grace {
            grace(config.stall_limit)
        } else {
            Duration::ZERO
        };
        let promise = config.lease + grace;
        Self {
            length: config.lease,
            promise,
            until: None,
            asked: VecDeque::new(),
            number: 0,
            granted: None,
            promised: None,
            before: two.then(|| now + promise),
            grace,
        }
    }
}

impl Member {
    /// Whether an operation that the peer acknowledged may be answered now.
    pub fn may_acknowledge(&self, now: Instant) -> bool {
        match &self.phase {
            Phase::Alone => true,
            Phase::Growing { .. } => !self.config.rules.growth_holds_answers,
            _ if self.leased() => self.lease_holds(now),
            _ => false,
        }
    }

    /// The peer answered an operation. [`AckOutcome::Held`]: keep it, [`Output::Complete`] or the
    /// end of all waits answers it.
    pub fn acknowledge(&mut self, now: Instant, seq: OpSeq, errno: i32) -> AckOutcome {
        if self.may_acknowledge(now) {
            self.acks.acknowledge(seq, errno)
        } else {
            self.acks.hold(seq, errno)
        }
    }

    /// Serves under a lease: in a set of two whose other node counts.
    pub(super) fn leased(&self) -> bool {
        match &self.phase {
            Phase::Prim => true,
            Phase::Leave(leave) => {
                leave.served && leave.step == LeaveStep::Drain && self.two_in_set()
            }
            Phase::Swap(swap) => matches!(swap.step, SwapStep::Drain | SwapStep::Lease),
            _ => false,
        }
    }

    fn lease_holds(&self, now: Instant) -> bool {
        !self.config.rules.lease || self.lease.until.is_some_and(|until| now < until)
    }

    /// The lease ran out, or none came since this node began to serve.
    pub(super) fn lease_lapsed(&self) -> bool {
        self.config.rules.lease && self.now >= self.lease_end()
    }

    /// Since when this node answers nothing, though it serves: its lease is over, or it is finding
    /// out whether it may go on without its peer. Its manager must then expect another server.
    pub fn held_since(&self, now: Instant) -> Option<Instant> {
        if let Phase::Shrink(shrink) = &self.phase {
            return Some(shrink.held);
        }
        let needs = self.leased() || matches!(self.phase, Phase::Growing { .. });
        let over = self.lease_end();
        (needs && self.config.rules.lease && now >= over).then_some(over)
    }

    /// Until when this node may answer for the module, if it hears nothing more. `None`: without
    /// limit, for nobody else may begin; or it does not serve at all.
    pub fn serves_until(&self) -> Option<Instant> {
        if !self.config.rules.lease {
            return None;
        }
        match &self.phase {
            Phase::Shrink(shrink) => Some(shrink.until),
            Phase::Growing { .. } => Some(self.lease_end()),
            _ if self.leased() => Some(self.lease_end()),
            _ => None,
        }
    }

    /// When the lease is over that this node has, or that it waits for.
    pub(super) fn lease_end(&self) -> Instant {
        self.lease.until.unwrap_or(self.since + self.lease.length)
    }

    /// A message leaves now that counts as a request.
    pub(super) fn lease_begins(&mut self) {
        self.lease.until = Some(self.now + self.lease.length);
    }

    pub(super) fn ask_lease(&mut self) {
        self.lease.number += 1;
        let number = self.lease.number;
        self.lease.asked.push_back((number, self.now));
        if self.lease.asked.len() > ASKED {
            self.lease.asked.pop_front();
        }
        self.send(Control::LeaseAsk(number));
    }

    /// Asks often enough that one answer may be lost.
    pub(super) fn lease_tick(&mut self) {
        let wants = self.leased() || matches!(self.phase, Phase::Growing { .. });
        let last = self.lease.asked.back().map(|(_, at)| *at);
        let due =
            last.is_none_or(|at| self.now.saturating_duration_since(at) >= self.lease.length / 4);
        if wants && due {
            self.ask_lease();
        }
    }

    pub(super) fn on_lease_grant(&mut self, number: u64) {
        let sent = self.lease.asked.iter().find(|(n, _)| *n == number);
        let Some((_, sent)) = sent else { return };
        self.lease.granted = self.lease.granted.max(Some(*sent));
        if !(self.leased() || matches!(self.phase, Phase::Growing { .. })) {
            return;
        }
        let from = if self.config.rules.lease_send_time {
            *sent
        } else {
            self.now
        };
        let until = from + self.lease.length;
        self.lease.until = Some(self.lease.until.map_or(until, |old| old.max(until)));
        let taken = |swap: &Swap| swap.step == SwapStep::Lease && self.lease_holds(self.now);
        if matches!(&self.phase, Phase::Swap(swap) if taken(swap)) {
            self.swap_leased();
        }
        self.release_held();
    }

    /// Answers what was held, if it may be now.
    pub(super) fn release_held(&mut self) {
        if !self.may_acknowledge(self.now) {
            return;
        }
        let held = self.acks.release();
        if !held.is_empty() {
            self.out.push(Output::Complete(held));
        }
        if matches!(self.phase, Phase::Leave(_)) {
            self.leave_step();
        }
        if matches!(self.phase, Phase::Swap(_)) {
            self.swap_step();
        }
    }

    /// Whether the peer granted what was asked at that time or later: it followed then.
    pub(super) fn granted_since(&self, at: Instant) -> bool {
        self.lease.granted.is_some_and(|sent| sent >= at)
    }

    #[cfg(test)]
    pub(super) fn lease_number(&self) -> u64 {
        self.lease.number
    }

    /// Nothing asked before counts any more.
    pub(super) fn lease_ends(&mut self) {
        self.lease.until = None;
        self.lease.asked.clear();
    }

    pub(super) fn on_lease_ask(&mut self, number: u64) {
        let follows = matches!(self.phase, Phase::Second | Phase::Follow(Follow::Adopting));
        if follows {
            self.promise();
            self.send(Control::LeaseGrant(number));
        }
    }

    /// The peer may serve for a lease from now on.
    pub(super) fn promise(&mut self) {
        let until = self.now + self.lease.promise;
        self.lease.promised = Some(self.lease.promised.map_or(until, |old| old.max(until)));
    }

    /// The peer handed over: nothing of the module runs there any more.
    pub(super) fn promise_is_over(&mut self) {
        self.lease.promised = None;
        self.lease.before = None;
    }

    /// The peer said that it does not serve, as if its lease ended now. Its manager hears of that
    /// no sooner than this node.
    pub(super) fn promise_is_cut(&mut self) {
        let until = self.now + self.lease.grace;
        self.lease.promised = self.lease.promised.map(|old| old.min(until));
    }

    /// Whether this node must not serve yet, by what it promised the peer. One that meets its peer
    /// knows from it that no older promise is used.
    pub(super) fn is_promised(&self) -> bool {
        let before = self.lease.before.filter(|_| !self.met());
        let until = self.lease.promised.max(before);
        self.config.rules.lease && until.is_some_and(|until| self.now < until)
    }
}
