//! Answers of the disk: the record is durable, or not; what was applied is flushed, or not.

use super::{Gate, Leave, Member, Output, Phase};
use crate::control::Refusal;
use crate::wire::Control;

impl Member {
    pub(super) fn on_persisted(&mut self, result: Result<(), String>) {
        if let Err(why) = result {
            return self.on_disk_failed(&why);
        }
        match self.phase.clone() {
            Phase::Starting { token, record } => {
                self.lost = false;
                self.record = *record;
                self.enter(Phase::Alone);
                self.out.push(Output::Gate(Gate::Alone));
                self.resolve(token, Ok(()));
            }
            Phase::Growing {
                record,
                sent: false,
            } => {
                self.record = (*record).clone();
                self.phase = Phase::Growing {
                    record: record.clone(),
                    sent: true,
                };
                if self.session.is_some() {
                    self.out.push(Output::Send(Control::Grow {
                        record,
                        position: crate::ids::OpSeq(0),
                    }));
                } else {
                    self.shrink("peer-lost", "lost while it was taken in");
                }
            }
            Phase::Shrinking { record, heard } => {
                self.record = *record;
                self.out.push(Output::CompleteAll);
                if heard && self.session.is_some() {
                    self.out.push(Output::Send(Control::LeaveHeard));
                }
                self.enter(Phase::Alone);
                self.out.push(Output::Gate(Gate::Alone));
            }
            Phase::Adopting {
                record,
                flushed: true,
            } => {
                self.record = *record;
                self.lost = false;
                self.reason = None;
                self.enter(Phase::Second);
                if let Some(epoch) = &self.record.epoch {
                    self.out.push(Output::Send(Control::Grown(epoch.id)));
                }
                if let Some(token) = self.second_token.take() {
                    self.resolve(token, Ok(()));
                }
            }
            Phase::Spoiling => {
                self.enter(Phase::Wait);
                if self
                    .reason
                    .as_ref()
                    .is_none_or(|r| r.code != "apply-failed")
                {
                    self.reason = Some(self.idle_reason());
                }
                self.try_join();
            }
            Phase::Leaving {
                stage: Leave::Persist,
                ..
            } => self.step_leave(),
            _ => {}
        }
    }

    /// The record cannot be written: nothing that needs it may happen, so this node stops serving.
    fn on_disk_failed(&mut self, why: &str) {
        let refusal = Refusal::new(
            "state-directory",
            format!("the record could not be written: {why}"),
            "repair the state directory and start the module again",
        );
        if let Phase::Starting { token, .. } | Phase::Leaving { token, .. } = self.phase {
            self.resolve(token, Err(refusal.clone()));
        }
        self.wants_second = false;
        self.out.push(Output::Gate(Gate::ReadOnly));
        self.out.push(Output::FailAll);
        self.out.push(Output::CloseSession(
            "the record could not be written".into(),
        ));
        self.session = None;
        self.enter(Phase::Wait);
        self.reason = Some(refusal);
    }

    pub(super) fn on_gated(&mut self) {
        if let Phase::Leaving {
            stage: Leave::Drain,
            ..
        } = self.phase
        {
            self.step_leave();
        }
    }

    pub(super) fn on_flushed(&mut self, round: u64, result: Result<(), String>) {
        if round != self.round {
            return;
        }
        if let Err(why) = result {
            return self.on_flush_failed(&why);
        }
        if std::mem::take(&mut self.owes_leave) {
            self.out.push(Output::Send(Control::LeaveHeard));
        }
        match self.phase.clone() {
            Phase::Adopting {
                record,
                flushed: false,
            } => {
                self.phase = Phase::Adopting {
                    record: record.clone(),
                    flushed: true,
                };
                self.persist(*record);
            }
            Phase::Leaving {
                stage: Leave::Flush,
                ..
            } => self.step_leave(),
            _ => {}
        }
    }

    /// What was applied cannot be brought to the disk: a stop goes back to where it was, a
    /// follower's replica is not good.
    fn on_flush_failed(&mut self, why: &str) {
        self.owes_leave = false;
        let Phase::Leaving { token, served, .. } = self.phase else {
            return self.spoil(&format!("flush: {why}"));
        };
        let refusal = Refusal::new(
            "flush-failed",
            format!("what was written could not be brought to the disk: {why}"),
            "mend the disk and repeat the command",
        );
        self.resolve(token, Err(refusal));
        let (phase, gate) = match (served, self.two_in_set()) {
            (true, true) => (Phase::Prim, Gate::Replicated),
            (true, false) => (Phase::Alone, Gate::Alone),
            (false, _) => (Phase::Second, Gate::ReadOnly),
        };
        self.enter(phase);
        self.out.push(Output::Gate(gate));
    }

    /// What the peer did could not be done here: this replica is not good until it is resynced.
    pub(super) fn on_apply_failed(&mut self, what: &str) {
        if self.applies() {
            self.spoil(what);
        }
    }

    fn spoil(&mut self, what: &str) {
        if self.serves() || matches!(self.phase, Phase::Gone | Phase::Leaving { .. }) {
            return;
        }
        self.wants_second = false;
        self.record.stale = true;
        let record = self.record.clone();
        self.enter(Phase::Spoiling);
        self.reason = Some(Refusal::new(
            "apply-failed",
            format!("an operation of {} failed here: {what}", self.peer),
            "mend the cause, then make the replica equal and run `tandem second`",
        ));
        self.fail_second();
        self.persist(record);
    }
}
