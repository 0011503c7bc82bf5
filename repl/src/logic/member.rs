//! One node's part in the pair: its role, its session with the peer, and who must hold a write.
//!
//! What the machine guards:
//! * an operation counts as acknowledged only when every node of the recorded set holds it (I1),
//!   and only under the peer's lease (I13);
//! * the set shrinks durably before the next acknowledgement (I4), and grows only after a resync,
//!   source's record first, target's second (I5);
//! * a node serves only if its record, and the peer or the witness, prove it current (I3);
//! * both ends of a session act on the same verdict (I7).
//!
//! The driver feeds inputs in order and performs the outputs of each in order; see [`api`]. While
//! the record is being written nothing else is decided: other inputs wait for
//! [`Input::Persisted`], so that no step meets a record that is about to change.
//!
//! The children each hold one procedure of the design's table: [`session`] (the verdict),
//! [`promote`] and [`shrink`] with [`ask`], [`told`], [`join`] (the source's part of a rejoin) and
//! [`target`], [`lease`], [`checkpoint`], [`leave`], [`swap`]; and [`disk`] (record and flush),
//! [`commands`], [`tick`].

mod api;
mod ask;
mod checkpoint;
mod commands;
mod disk;
mod join;
mod lease;
mod leave;
mod phase;
mod promote;
mod session;
mod shrink;
mod swap;
mod target;
#[cfg(test)]
mod tests;
mod tick;
mod told;

pub use api::{
    Gate, Input, Isolation, MemberConfig, Output, Pressure, ResyncEvent, ResyncOrder, WitnessAnswer,
};
pub use lease::{grace, lease};

use super::acks::{AckOutcome, Acks};
use super::record::Record;
use super::verdict::{Claim, Scope, Verdict, Witness, meet_with};
use crate::control::{Readiness, Refusal, State};
use crate::ids::{Id128, OpSeq};
use crate::wire::Control;
use checkpoint::Checkpoints;
use join::Backoff;
use lease::Lease;
use phase::{FlushFor, Join, Leave, LeaveStep, Phase, Session, SwapStep, Then};
use std::collections::{BTreeMap, VecDeque};
use std::time::{Duration, Instant};

/// The machine. See the module's opening.
#[derive(Debug)]
pub struct Member {
    config: MemberConfig,
    boot: Id128,
    /// What is on disk. `lost` is set from the start where the boot says so.
    record: Record,
    /// What is being written, and why.
    writing: Option<(Record, Then)>,
    /// Inputs that came meanwhile.
    deferred: VecDeque<Input>,
    /// The record could not be written: nothing is decided until the daemon starts again.
    broken: bool,
    /// A flush failed since this node booted or its replica was made anew.
    flush_failed: bool,
    phase: Phase,
    since: Instant,
    started: Instant,
    session: Option<Session>,
    /// What the peer said last of its record, in this session or an earlier one.
    peer_last: Option<Record>,
    join: Option<Join>,
    backoff: Backoff,
    lease: Lease,
    checkpoints: Checkpoints,
    flushes: BTreeMap<u64, FlushFor>,
    /// Gates that are not reported to hold yet; only the last one counts.
    gating: u32,
    wish: Wish,
    /// Whose `swap`, given here, waits for the serving peer.
    swap_token: Option<u64>,
    swap_since: Instant,
    /// The record this follower takes over when it has flushed.
    adopting: Option<Record>,
    fenced: bool,
    reachable: bool,
    /// Since when that address answers again.
    reachable_again: Option<Instant>,
    unreachable_once: bool,
    /// When the record was told to the witness last.
    told_witness: Option<Instant>,
    told_round: u64,
    reason: Option<Refusal>,
    /// What degrades without blocking, by its code.
    notes: BTreeMap<&'static str, Refusal>,
    /// Numbers questions and orders, so that a late answer to an earlier one is known as such.
    round: u64,
    /// Operations in flight. The driver issues and drains; it acknowledges through
    /// [`Member::acknowledge`].
    pub acks: Acks,
    /// Two fresh random ids for this input, and how often the first was taken.
    fresh: ([Id128; 2], u8),
    now: Instant,
    out: Vec<Output>,
}

/// Whether and how this node wants to follow its peer.
#[derive(Debug, Default)]
struct Wish {
    follow: bool,
    /// The command that waits for it.
    token: Option<u64>,
    everything: bool,
    /// Without waiting for the peer's back-off.
    urgent: bool,
    /// Not asked again before.
    again: Option<Instant>,
}

impl Member {
    /// A member with the record found on disk. Serves nothing until told.
    pub fn new(config: MemberConfig, (record, boot): (Record, Id128), now: Instant) -> Self {
        let mut record = record;
        let cut_off = record.epoch.is_some() && !record.clean && record.boot != boot;
        record.lost |= cut_off && config.rules.lost_node;
        record.flush_failed &= record.boot == boot;
        let mut member = Self {
            flush_failed: record.flush_failed,
            lease: Lease::new(&config, &record, now),
            boot,
            record,
            writing: None,
            deferred: VecDeque::new(),
            broken: false,
            phase: Phase::Wait,
            since: now,
            started: now,
            session: None,
            peer_last: None,
            join: None,
            backoff: Backoff::default(),
            checkpoints: Checkpoints::new(now),
            flushes: BTreeMap::new(),
            gating: 0,
            wish: Wish::default(),
            swap_token: None,
            swap_since: now,
            adopting: None,
            fenced: false,
            reachable: false,
            reachable_again: None,
            unreachable_once: false,
            told_witness: None,
            told_round: 0,
            reason: None,
            notes: BTreeMap::new(),
            round: 0,
            acks: Acks::default(),
            fresh: ([Id128::default(); 2], 0),
            now,
            out: Vec::new(),
            config,
        };
        member.reason = Some(member.idle_reason());
        member
    }

    /// Takes one input; `fresh` are two new random ids. Returns what to do, in order.
    pub fn handle(&mut self, now: Instant, fresh: [Id128; 2], input: Input) -> Vec<Output> {
        self.now = now;
        self.fresh = (fresh, 0);
        match input {
            Input::Persisted(result) => self.on_persisted(result),
            input => self.deferred.push_back(input),
        }
        while self.writing.is_none() {
            let Some(input) = self.deferred.pop_front() else {
                break;
            };
            self.take(input);
        }
        // Time that passes while the record is written is seen with the next tick.
        self.deferred.retain(|input| !matches!(input, Input::Tick));
        std::mem::take(&mut self.out)
    }

    fn take(&mut self, input: Input) {
        match input {
            Input::SessionUp(hello) => self.on_session_up(*hello),
            Input::SessionDown(why) => self.on_session_down(&why),
            Input::Control(control) => self.on_control(control),
            Input::Prim { token, force } => self.on_prim(token, force),
            Input::Second { token } => self.on_second(token),
            Input::Stop { token } => self.on_stop(token),
            Input::Swap { token } => self.on_swap(token),
            Input::Resync { token, everything } => self.on_resync(token, everything),
            Input::Persisted(_) => {}
            Input::Gated => self.on_gated(),
            Input::Flushed(round, result) => self.on_flushed(round, result),
            Input::Witness(round, answer) => self.on_witness(round, answer),
            Input::ResyncEvent(round, event) => self.on_resync_event(round, event),
            Input::TargetPrepared(round, result) => self.on_prepared(round, result),
            Input::Generation(round, seq) => self.on_generation(round, seq),
            Input::MarksDropped(round, result) => self.on_dropped(round, result),
            Input::Pressure(pressure) => self.on_pressure(pressure),
            Input::Reachable(answers) => self.on_reachable(answers),
            Input::PeerFailed { errno } => self.on_peer_failed(errno),
            Input::ApplyFailed { what } => self.on_apply_failed(&what),
            Input::LocalFailed { what } => self.on_local_failed(&what),
            Input::Fenced => self.on_fenced(),
            Input::Tick => self.on_tick(),
        }
    }

    pub fn record(&self) -> &Record {
        &self.record
    }

    /// State as the operator sees it.
    pub fn state(&self) -> State {
        match &self.phase {
            Phase::Alone | Phase::Growing { .. } | Phase::Shrink(_) => State::Alone,
            Phase::Prim | Phase::Swap(_) => State::Prim,
            Phase::Second | Phase::Follow(_) => State::Second,
            Phase::Wait | Phase::Promote(_) => State::Wait,
            // The peer may go on from here.
            Phase::Leave(leave) if leave.step == LeaveStep::Tell => State::Wait,
            Phase::Leave(leave) if leave.served => State::Prim,
            Phase::Leave(_) => State::Second,
            Phase::Gone => State::Stop,
        }
    }

    pub fn readiness(&self) -> Readiness {
        match self.phase {
            Phase::Alone | Phase::Prim | Phase::Second => Readiness::Ready,
            Phase::Wait if !self.wish.follow || self.reason.is_some() => Readiness::NotReady,
            Phase::Gone => Readiness::NotReady,
            _ => Readiness::Transient,
        }
    }

    /// Why the node is not Ready; also the reason a serving node is without its peer.
    pub fn reason(&self) -> Option<&Refusal> {
        self.reason.as_ref()
    }

    /// Everything that blocks or degrades, the most important first (I12).
    pub fn why(&self) -> Vec<Refusal> {
        self.reason
            .iter()
            .chain(self.notes.values())
            .cloned()
            .collect()
    }

    pub fn peer_state(&self) -> Option<State> {
        self.session.as_ref().map(|s| s.peer_state)
    }

    /// What both ends of the session agreed on, if they did.
    pub fn verdict(&self) -> Option<&Verdict> {
        let session = self.session.as_ref().filter(|s| s.met)?;
        session.verdict.as_ref()
    }

    /// Whether operations of the peer may be applied now.
    pub fn applies(&self) -> bool {
        match &self.phase {
            Phase::Second => true,
            // The growth comes in the same stream as the operations behind it.
            Phase::Follow(follow) => *follow != phase::Follow::Asked,
            // A leaving follower does its part until its last flush.
            Phase::Leave(leave) => {
                !leave.served && matches!(leave.step, LeaveStep::Drain | LeaveStep::Flush)
            }
            Phase::Swap(swap) => swap.step == SwapStep::Tell,
            _ => false,
        }
    }

    /// Acknowledges changes, or holds them until it may.
    fn serves(&self) -> bool {
        matches!(
            self.phase,
            Phase::Alone | Phase::Growing { .. } | Phase::Prim | Phase::Shrink(_)
        )
    }

    fn enter(&mut self, phase: Phase) {
        let before = self.state();
        self.phase = phase;
        self.since = self.now;
        if self.state() != before {
            self.send_state();
        }
    }

    /// News for the peer, once both have met.
    fn send_state(&mut self) {
        if self.session.as_ref().is_some_and(|s| s.said.is_some()) {
            let record = Box::new(self.record.clone());
            self.send(Control::State(self.state(), record));
        }
    }

    fn send(&mut self, control: Control) {
        self.out.push(Output::Send(control));
    }

    fn gate(&mut self, gate: Gate) {
        self.gating += 1;
        self.out.push(Output::Gate(gate));
    }

    fn resolve(&mut self, token: u64, result: Result<(), Refusal>) {
        self.out.push(Output::Resolve { token, result });
    }

    fn next_round(&mut self) -> u64 {
        self.round += 1;
        self.round
    }

    /// A new random id: the input's own, or made different from it by a count.
    fn new_id(&mut self) -> Id128 {
        let (ids, taken) = &mut self.fresh;
        let mut id = ids[0];
        id.0[15] ^= *taken;
        *taken += 1;
        id
    }

    fn two_in_set(&self) -> bool {
        self.record.set_has(&self.config.local) && self.record.set_has(&self.config.peer)
    }

    fn both(&self) -> Vec<String> {
        vec![self.config.local.clone(), self.config.peer.clone()]
    }

    fn met(&self) -> bool {
        self.session.as_ref().is_some_and(|s| s.met)
    }

    /// The verdict of what both are now, as far as this node knows.
    fn verdict_now(&self) -> Option<Verdict> {
        let session = self.session.as_ref().filter(|s| s.met)?;
        let me = Claim {
            node: &self.config.local,
            record: &self.record,
            serving: self.serves(),
        };
        let peer = Claim {
            node: &self.config.peer,
            record: &session.peer_record,
            serving: session.peer_state.serves(),
        };
        Some(meet_with(&self.config.rules, &me, &peer))
    }

    fn peer_serves(&self) -> bool {
        self.peer_state().is_some_and(State::serves)
    }

    /// The peer said that it is durably stale, in the epoch this node is in (I3).
    fn peer_is_stale(&self) -> bool {
        let last = self.peer_last.as_ref();
        last.is_some_and(|r| r.stale && r.epoch_id() == self.record.epoch_id())
    }
}

/// A text for the peer, cut to what a message may carry.
fn bounded(text: &str) -> String {
    const LIMIT: usize = 1000;
    if text.len() <= LIMIT {
        return text.to_string();
    }
    text.chars().take(LIMIT / 4).chain("…".chars()).collect()
}
