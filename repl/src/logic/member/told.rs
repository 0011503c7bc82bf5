//! Being told stale by a node that goes on without this one, and telling the witness where the
//! volume is.

use super::phase::{Phase, Then};
use super::{Duration, Gate, Member, Output, WitnessAnswer};
use crate::control::Refusal;
use crate::ids::Id128;
use crate::logic::verdict::Rule;
use crate::wire::{Control, Reject};

/// How often the record is repeated at the witness.
const REPEAT: Duration = Duration::from_secs(10);
/// And how soon after it did not answer: until it knows where the volume is, the loss of this node
/// is the loss of the service.
const AGAIN: Duration = Duration::from_secs(1);

impl Member {
    /// The peer wants to go on in `new` without this node. Once it has said yes this node cannot
    /// be promoted, so the yes must outlast a crash.
    pub(super) fn on_told_stale(&mut self, parent: Id128, new: Id128) {
        if let Some((code, reason)) = self.not_to_be_told(parent) {
            let reject = Reject {
                code: code.into(),
                reason: reason.into(),
            };
            return self.send(Control::Told(new, Err(reject)));
        }
        self.reason = Some(Refusal::new(
            "ejected",
            format!("{} goes on without this node", self.config.peer),
            "the node asks to be taken in again by itself",
        ));
        if self.record.stale || !self.config.rules.told_stale_durable {
            return self.told_written(new);
        }
        let mut record = self.record.clone();
        record.stale = true;
        record.clean = false;
        self.persist(record, Then::Told(new));
    }

    fn not_to_be_told(&self, parent: Id128) -> Option<(&'static str, &'static str)> {
        if !self.config.rules.told_stale_checks {
            return None;
        }
        if self.serves() || matches!(self.phase, Phase::Swap(_)) {
            return Some(("serves", "the node asked serves itself"));
        }
        if matches!(self.phase, Phase::Leave(_) | Phase::Gone) {
            return Some(("leaves", "the node asked is being stopped"));
        }
        if self.record.intent.is_some() || matches!(self.phase, Phase::Promote(_)) {
            return Some(("intent", "the node asked is about to serve itself"));
        }
        if self.record.epoch_id() != Some(parent) && !self.record.stale {
            return Some(("not-in-parent", "the node asked is in another epoch"));
        }
        None
    }

    pub(super) fn told_written(&mut self, new: Id128) {
        let reason = self.reason.clone();
        self.stop_following("");
        self.reason = reason;
        self.fail_follow();
        self.send(Control::Told(new, Ok(())));
    }

    /// The node that serves repeats its record: an empty register learns where the volume is.
    pub(super) fn tell_witness(&mut self, force: bool) {
        if !self.config.witness {
            return;
        }
        self.told_witness = Some(self.now);
        let round = self.next_round();
        self.told_round = round;
        let mut record = self.record.clone();
        if let Some(session) = &self.session
            && session.peer_record.stale
            && self.config.rules.loser_listed
            && self
                .verdict_now()
                .is_some_and(|v| v.rule == Rule::V7 && v.source() == Some(&*self.config.local))
        {
            // The peer's branch was given up by its operator; the witness may hold it. In the
            // record it is listed when the set grows: until then what differs is kept aside.
            record.list_ended(&session.peer_record.list());
        }
        let record = Box::new(record);
        self.out.push(Output::TellWitness {
            round,
            record,
            force,
        });
    }

    pub(super) fn tell_tick(&mut self) {
        let serves = match self.phase {
            Phase::Alone => true,
            Phase::Prim => self.may_acknowledge(self.now),
            _ => false,
        };
        let elapsed = |at| self.now.saturating_duration_since(at) >= REPEAT;
        if serves && self.told_witness.is_none_or(elapsed) {
            self.tell_witness(false);
        }
    }

    /// Another branch is at the witness: a node that serves alone must not go on (W1).
    pub(super) fn on_told_witness(&mut self, round: u64, answer: WitnessAnswer) {
        if round != self.told_round {
            return;
        }
        match answer {
            WitnessAnswer::Granted => {
                self.notes.remove("witness-silent");
                self.notes.remove("witness-elsewhere");
            }
            WitnessAnswer::Silent => {
                let soon = self.now.checked_sub(REPEAT - AGAIN);
                self.told_witness = soon.or(self.told_witness);
                let refusal = Refusal::new(
                    "witness-silent",
                    "the witness does not answer",
                    "bring it back: without it no node can go on when the other is lost",
                );
                self.notes.insert("witness-silent", refusal);
            }
            WitnessAnswer::Refused(id) => {
                let refusal = Refusal::new(
                    "witness-elsewhere",
                    "the witness holds an epoch this node does not know",
                    "find out who was made to serve by force, and choose the replica to keep",
                );
                if self.phase == Phase::Alone && id.is_some() {
                    self.abort_join("the witness gave the volume to another epoch");
                    self.gate(Gate::ReadOnly);
                    self.out.push(Output::FailAll);
                    self.enter(Phase::Wait);
                    self.reason = Some(refusal);
                } else {
                    self.notes.insert("witness-elsewhere", refusal);
                }
            }
        }
    }
}
