//! The source's part of a rejoin: a node that serves alone brings its peer's replica up and takes
//! it into the set (I5).
//!
//! The target is durably stale before its first byte changes. When little is left to copy writes
//! stand still for the last pass, at most a third of the stall limit. Then this node's record
//! names both, durably; from there on nothing is answered without the peer, and nothing at all
//! until the peer says that it holds everything. If it never says so, its record lacks the epoch,
//! which therefore acknowledged nothing (V5a).

use super::phase::{Join, JoinStep, Phase, Then};
use super::{Duration, Gate, Instant, Member, Output, ResyncEvent, ResyncOrder, Scope};
use crate::control::Refusal;
use crate::ids::Id128;
use crate::logic::verdict::Outcome;
use crate::wire::{Control, Reject};

/// First and longest pause before an ejected node is taken in again.
const PAUSE: Duration = Duration::from_secs(1);
const LONGEST: Duration = Duration::from_secs(60);
/// So long a good service forgets the ejections before.
const GOOD: Duration = Duration::from_secs(60);
/// When a node that came at a bad moment may ask again, milliseconds.
const SOON: u32 = 300;

/// How long the peer has to stay out.
#[derive(Debug, Default)]
pub(super) struct Backoff {
    until: Option<Instant>,
    pause: Duration,
    why: String,
    /// In the set since.
    pub(super) good: Option<Instant>,
}

impl Member {
    /// The peer leaves because of its service: the pause doubles, unless it had been good long
    /// enough.
    pub(super) fn eject(&mut self, why: &str) {
        let backoff = &mut self.backoff;
        let good = backoff.good.take();
        let long = good.is_some_and(|at| self.now.saturating_duration_since(at) >= GOOD);
        backoff.pause = if long || backoff.pause.is_zero() {
            PAUSE
        } else {
            (backoff.pause * 2).min(LONGEST)
        };
        backoff.until = Some(self.now + backoff.pause);
        backoff.why = why.to_string();
    }

    pub(super) fn on_join(&mut self, digest: u64, everything: bool, urgent: bool) {
        let Some(verdict) = self.verdict_now() else {
            return;
        };
        if self.phase != Phase::Alone || self.join.is_some() {
            return self.refuse_join("moving", "the node asked is changing its role", SOON);
        }
        if urgent {
            self.backoff.until = None;
        }
        if let Some(until) = self.backoff.until.filter(|until| *until > self.now) {
            let left = until.saturating_duration_since(self.now);
            let why = format!("it was taken out of the set: {}", self.backoff.why);
            let after = u32::try_from(left.as_millis()).unwrap_or(u32::MAX);
            return self.refuse_join("back-off", &why, after.max(1));
        }
        if verdict.digest() != digest {
            // News that cross a request, or different versions.
            return self.refuse_join("verdict", "the two judge their records differently", SOON);
        }
        match verdict.outcome {
            Outcome::Source {
                node,
                copy,
                keep_aside,
            } if node == self.config.local => {
                let copy = if everything { Scope::Everything } else { copy };
                self.begin_join(copy, keep_aside);
            }
            Outcome::Source { .. } => {
                self.refuse_join("verdict", "by their records it is the source", SOON);
            }
            Outcome::Refuse(block) => self.refuse_join(&block.code, &block.reason, 0),
        }
    }

    fn refuse_join(&mut self, code: &str, why: &str, after: u32) {
        self.send(Control::JoinRefused(reject(code, why), after));
    }

    fn begin_join(&mut self, copy: Scope, keep_aside: bool) {
        let round = self.next_round();
        self.join = Some(Join {
            round,
            copy,
            keep_aside,
            step: JoinStep::Preparing,
        });
        let everything = copy == Scope::Everything;
        self.send(Control::ResyncBegin {
            round,
            everything,
            keep_aside,
        });
    }

    pub(super) fn on_target_ready(&mut self, round: u64, result: Result<(), String>) {
        let Some(join) = &mut self.join else { return };
        if join.round != round {
            return;
        }
        match result {
            Ok(()) if join.step == JoinStep::Preparing => {
                join.step = JoinStep::Copying;
                let order = ResyncOrder::Start {
                    round,
                    copy: join.copy,
                    peer_keeps_aside: join.keep_aside,
                };
                self.out.push(Output::Resync(order));
            }
            Ok(()) => {}
            Err(why) => self.join_failed("target-failed", &why),
        }
    }

    pub(super) fn on_resync_event(&mut self, round: u64, event: ResyncEvent) {
        let step = match &self.join {
            Some(join) if join.round == round && self.phase == Phase::Alone => join.step,
            _ => return,
        };
        match (event, step) {
            (ResyncEvent::Converged, JoinStep::Copying) => {
                self.join_is(JoinStep::Freezing(self.now));
                self.gate(Gate::Frozen);
            }
            (ResyncEvent::Finished, JoinStep::Finishing(frozen)) => self.grow(frozen),
            (ResyncEvent::Failed(why), _) => self.join_failed("resync-failed", &why),
            // Said before writes flowed again.
            _ => {}
        }
    }

    fn join_is(&mut self, step: JoinStep) {
        if let Some(join) = &mut self.join {
            join.step = step;
        }
    }

    /// Nothing is being written any more: the last pass.
    pub(super) fn join_frozen(&mut self) {
        let Some(join) = &self.join else { return };
        if let JoinStep::Freezing(frozen) = join.step {
            let round = join.round;
            self.join_is(JoinStep::Finishing(frozen));
            self.out.push(Output::Resync(ResyncOrder::Finish { round }));
        }
    }

    /// Writes stood still for too long: they flow again, passes go on.
    pub(super) fn join_tick(&mut self) {
        let Some(join) = &self.join else { return };
        let (JoinStep::Freezing(frozen) | JoinStep::Finishing(frozen)) = join.step else {
            return;
        };
        let waited = self.now.saturating_duration_since(frozen);
        if waited > self.config.stall_limit / 3 {
            let round = join.round;
            self.join_is(JoinStep::Copying);
            self.out.push(Output::Resync(ResyncOrder::Resume { round }));
            self.gate(Gate::Alone);
        }
    }

    /// The replicas are equal and nothing is written: the record names both.
    fn grow(&mut self, frozen: Instant) {
        let set = self.both();
        let id = self.new_id();
        let mut base = self.record.clone();
        if let (Some(session), true) = (&self.session, self.config.rules.loser_listed) {
            // Where the witness was told of the peer's branch, it is known to be over.
            let branch = session.peer_record.list();
            base.list_ended(&branch);
        }
        let record = base.grown(id, set);
        if !self.config.rules.growth_order {
            let position = self.acks.last();
            let record = Box::new(record.clone());
            self.send(Control::Grow { record, position });
        }
        self.persist(record, Then::Grown { frozen });
    }

    pub(super) fn grown_written(&mut self, frozen: Instant) {
        self.join = None;
        self.enter(Phase::Growing { frozen });
        self.lease_ends();
        // The peer promises when this arrives.
        self.lease_begins();
        if self.config.rules.growth_order {
            let record = Box::new(self.record.clone());
            let position = self.acks.last();
            self.send(Control::Grow { record, position });
        }
        self.gate(Gate::Replicated);
    }

    /// The peer holds everything, durably: it counts.
    pub(super) fn on_grown(&mut self, id: Id128) {
        if !matches!(self.phase, Phase::Growing { .. }) || self.record.epoch_id() != Some(id) {
            return;
        }
        self.reason = None;
        self.notes.remove("forced");
        self.backoff.good = Some(self.now);
        self.checkpoint_restarts();
        self.enter(Phase::Prim);
        self.ask_lease();
        self.release_held();
        if !self.config.rules.marks_after_growth {
            self.drop_marks_at_once();
        }
    }

    /// This node still serves alone; the peer is told why, and stays out for a while.
    fn join_failed(&mut self, code: &str, why: &str) {
        self.eject(why);
        self.reason = Some(Refusal::new(
            code,
            format!("{} was not taken into the set: {why}", self.config.peer),
            "mend the cause; it is tried again by itself",
        ));
        self.end_join(code, why);
    }

    /// The session or the role that it belonged to is over.
    pub(super) fn abort_join(&mut self, why: &str) {
        self.end_join("aborted", why);
    }

    fn end_join(&mut self, code: &str, why: &str) {
        let Some(join) = self.join.take() else { return };
        let round = join.round;
        if join.step != JoinStep::Preparing {
            self.out.push(Output::Resync(ResyncOrder::Abort { round }));
        }
        if self.session.is_some() {
            self.send(Control::ResyncEnd(round, reject(code, why)));
        }
        // Which record is on the disk is not known if it could not be written: it may name both.
        let frozen = matches!(join.step, JoinStep::Freezing(_) | JoinStep::Finishing(_));
        if frozen && !self.broken {
            self.gate(Gate::Alone);
        }
    }
}

fn reject(code: &str, why: &str) -> Reject {
    Reject {
        code: code.into(),
        reason: super::bounded(why),
    }
}
