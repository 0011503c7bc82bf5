//! One node's part in the pair: its role, its session with the peer, and who must hold a write.
//!
//! Roles are taken by hand here (`prim`, `second`, `stop`). What the machine guards:
//! * an operation counts as acknowledged only when every node of the recorded set holds it (I1);
//! * the set shrinks durably before the next acknowledgement (I4) and grows only after both
//!   replicas
//!   were compared while writes stood still, source's record first, target's second (I5);
//! * a replica that is known to be old, or was left in order, does not serve unasked (I3).
//!
//! The driver feeds inputs in order and performs the outputs of each in order; `Persist`, `Gate`,
//! `Flush` and `TakeDigest` answer with an input of their own. Handlers of inputs are in
//! [`super::member`]'s children: `commands` (the operator), `join` (growing), `disk` and `session`.

mod api;
mod commands;
mod disk;
mod join;
mod session;
#[cfg(test)]
mod tests;

pub use api::{
    Gate, Input, Isolation, MemberConfig, Output, Pressure, ResyncEvent, ResyncOrder, WitnessAnswer,
};

use super::acks::{AckOutcome, Acks};
use super::record::{Record, Relation};
use crate::control::{Readiness, Refusal, State};
use crate::ids::{Id128, OpSeq};
use crate::wire::Control;
use std::time::{Duration, Instant};

/// Where the node stands. Names of waits say what ends them.
#[derive(Clone, Debug, PartialEq, Eq)]
enum Phase {
    Wait,
    /// Record of a new epoch is being written; then Alone.
    Starting {
        token: u64,
        record: Box<Record>,
    },
    Alone,
    /// Record with both is being written here, then there.
    Growing {
        record: Box<Record>,
        sent: bool,
    },
    Prim,
    /// Writes stand still, the record without the peer is being written.
    Shrinking {
        record: Box<Record>,
        heard: bool,
    },
    /// Asked to join, not in the set.
    Following,
    /// In the peer's new set, own record is being written after a flush.
    Adopting {
        record: Box<Record>,
        flushed: bool,
    },
    Second,
    /// Stale mark is being written.
    Spoiling,
    Leaving {
        token: u64,
        stage: Leave,
        served: bool,
    },
    Gone,
}

/// Steps of a clean stop.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Leave {
    Drain,
    Flush,
    Persist,
    Tell,
}

#[derive(Clone, Debug)]
struct Session {
    peer_record: Record,
    peer_state: State,
}

/// The machine. See the module's opening.
#[derive(Debug)]
pub struct Member {
    local: String,
    peer: String,
    boot: Id128,
    stall_limit: Duration,
    record: Record,
    phase: Phase,
    since: Instant,
    session: Option<Session>,
    wants_second: bool,
    /// Whose `second` command waits for the join.
    second_token: Option<u64>,
    reason: Option<Refusal>,
    /// Power was lost since this node was in a set of two: its unflushed writes are gone. Judged
    /// once, from the record found at the start; ended by a new epoch.
    lost: bool,
    /// Numbers comparisons and flushes, so that a late answer to an earlier one is known as such.
    round: u64,
    /// The peer left and waits to hear that this node is flushed.
    owes_leave: bool,
    pub acks: Acks,
    /// Two fresh random ids for this input.
    fresh: [Id128; 2],
    now: Instant,
    out: Vec<Output>,
}

impl Member {
    /// A member with the record found on disk. Serves nothing until told.
    pub fn new(config: MemberConfig, (record, boot): (Record, Id128), now: Instant) -> Self {
        let MemberConfig {
            local,
            peer,
            stall_limit,
            ..
        } = config;
        let two = record.set_has(&local) && record.set_has(&peer);
        let lost = two && !record.clean && record.boot != boot;
        let mut member = Self {
            lost,
            local,
            peer,
            boot,
            stall_limit,
            record,
            phase: Phase::Wait,
            since: now,
            session: None,
            wants_second: false,
            second_token: None,
            reason: None,
            round: 0,
            owes_leave: false,
            acks: Acks::default(),
            fresh: [Id128::default(); 2],
            now,
            out: Vec::new(),
        };
        member.reason = Some(member.idle_reason());
        member
    }

    /// Takes one input; `fresh` are two new random ids. Returns what to do, in order.
    pub fn handle(&mut self, now: Instant, fresh: [Id128; 2], input: Input) -> Vec<Output> {
        self.now = now;
        self.fresh = fresh;
        match input {
            Input::SessionUp(hello) => self.on_session_up(*hello),
            Input::SessionDown(why) => self.on_session_down(&why),
            Input::Control(control) => self.on_control(control),
            Input::Prim { token, force } => self.on_prim(token, force),
            Input::Second { token } => self.on_second(token),
            Input::Stop { token } => self.on_stop(token),
            Input::Persisted(result) => self.on_persisted(result),
            Input::Gated => self.on_gated(),
            Input::Flushed(round, result) => self.on_flushed(round, result),
            Input::PeerFailed { errno } => {
                let error = std::io::Error::from_raw_os_error(errno);
                let why = format!("{} could not apply an operation: {error}", self.peer);
                self.drop_peer("peer-failed", &why);
            }
            Input::ApplyFailed { what } => self.on_apply_failed(&what),
            Input::Tick => self.on_tick(),
            _ => {}
        }
        std::mem::take(&mut self.out)
    }

    /// Whether an operation that the peer acknowledged may be answered now (I13).
    pub fn may_acknowledge(&self, _now: Instant) -> bool {
        true
    }

    /// The peer answered an operation. [`AckOutcome::Held`]: keep it, [`Output::Complete`] or the
    /// end of all waits answers it.
    pub fn acknowledge(&mut self, _now: Instant, seq: OpSeq, errno: i32) -> AckOutcome {
        self.acks.acknowledge(seq, errno)
    }

    /// Everything that blocks or degrades.
    pub fn why(&self) -> Vec<Refusal> {
        self.reason.iter().cloned().collect()
    }

    pub fn record(&self) -> &Record {
        &self.record
    }

    /// State as the operator sees it.
    pub fn state(&self) -> State {
        match self.phase {
            Phase::Alone | Phase::Growing { .. } => State::Alone,
            Phase::Shrinking { .. } => State::Alone,
            Phase::Prim => State::Prim,
            Phase::Second => State::Second,
            Phase::Wait | Phase::Starting { .. } | Phase::Spoiling => State::Wait,
            Phase::Following | Phase::Adopting { .. } => State::Second,
            Phase::Leaving { served: true, .. } => State::Prim,
            Phase::Leaving { .. } => State::Second,
            Phase::Gone => State::Stop,
        }
    }

    pub fn readiness(&self) -> Readiness {
        match self.phase {
            Phase::Alone | Phase::Prim | Phase::Second => Readiness::Ready,
            Phase::Wait if !self.wants_second || self.reason.is_some() => Readiness::NotReady,
            Phase::Gone => Readiness::NotReady,
            _ => Readiness::Transient,
        }
    }

    /// Why the node is not Ready; also the reason a serving node is without its peer.
    pub fn reason(&self) -> Option<&Refusal> {
        self.reason.as_ref()
    }

    pub fn peer_state(&self) -> Option<State> {
        self.session.as_ref().map(|s| s.peer_state)
    }

    /// Whether operations of the peer may be applied now.
    pub fn applies(&self) -> bool {
        match self.phase {
            Phase::Following | Phase::Adopting { .. } | Phase::Second => true,
            // A leaving follower does its part until it has said so.
            Phase::Leaving { served, .. } => !served,
            _ => false,
        }
    }

    fn serves(&self) -> bool {
        matches!(
            self.phase,
            Phase::Alone
                | Phase::Growing { .. }
                | Phase::Prim
                | Phase::Shrinking { .. }
                | Phase::Starting { .. }
        )
    }

    fn enter(&mut self, phase: Phase) {
        let before = self.state();
        self.phase = phase;
        self.since = self.now;
        let state = self.state();
        if state != before && self.session.is_some() {
            let record = Box::new(self.record.clone());
            self.out.push(Output::Send(Control::State(state, record)));
        }
    }

    fn persist(&mut self, mut record: Record) {
        record.boot = self.boot;
        self.out.push(Output::Persist(Box::new(record)));
    }

    fn flush(&mut self) {
        self.round += 1;
        self.out.push(Output::Flush(self.round));
    }

    /// Ends the wait of a `second` command that will not come to its end.
    fn fail_second(&mut self) {
        if let Some(token) = self.second_token.take() {
            let reason = self.reason.clone().unwrap_or_else(|| self.idle_reason());
            self.resolve(token, Err(reason));
        }
    }

    fn relation(&self) -> Option<Relation> {
        self.session
            .as_ref()
            .map(|s| self.record.relation(&s.peer_record))
    }

    fn resolve(&mut self, token: u64, result: Result<(), Refusal>) {
        self.out.push(Output::Resolve { token, result });
    }

    /// What a waiting node tells the operator.
    fn idle_reason(&self) -> Refusal {
        let record = &self.record;
        if record.stale {
            Refusal::new(
                "stale",
                "this replica is known to lack acknowledged writes",
                format!("start {} and follow it with `tandem second`", self.peer),
            )
        } else if record.epoch.is_none() {
            Refusal::new(
                "never-synchronised",
                "the replicas were never synchronised",
                "run `tandem prim` on the node with the good data, `tandem second` on the other",
            )
        } else {
            Refusal::new(
                "no-role",
                "the node was not told whether to serve",
                "run `tandem prim` here to serve, or `tandem second` to follow the peer",
            )
        }
    }

    fn two_in_set(&self) -> bool {
        self.record.set_has(&self.local) && self.record.set_has(&self.peer)
    }
}
