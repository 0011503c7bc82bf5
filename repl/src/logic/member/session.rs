//! Sessions that come and go, what their ends mean, and the answers of disk and time.

use super::super::record::Relation;
use super::{Gate, Leave, Member, Output, Phase, Session};
use crate::control::{Refusal, State};
use crate::wire::{Control, Hello};

impl Member {
    pub(super) fn on_session_up(&mut self, hello: Hello) {
        self.session = Some(Session {
            peer_record: hello.record,
            peer_state: hello.state,
        });
        self.judge();
    }

    /// What the peer's record says about this replica, at every greeting and every news.
    fn judge(&mut self) {
        if let Phase::Leaving { stage, .. } = self.phase {
            // The peer has gone on without this node already: nothing more to wait for.
            if self.relation() == Some(Relation::PeerNewer) && stage == Leave::Tell {
                self.step_leave();
            }
            return;
        }
        match self.relation() {
            // A follower learns of the epoch that counts it from the growth itself.
            Some(Relation::PeerNewer) if self.applies() => {}
            Some(Relation::PeerNewer) => self.on_superseded(),
            Some(Relation::Diverged) => self.note_apart("diverged", "were written apart"),
            Some(Relation::Foreign) => self.note_apart("foreign", "belong to different volumes"),
            _ => self.try_join(),
        }
    }

    /// The peer has an epoch that ended mine: what it acknowledged, I lack (I2, I3).
    fn on_superseded(&mut self) {
        if matches!(self.phase, Phase::Spoiling) {
            return;
        }
        if self.serves() {
            self.out.push(Output::Gate(Gate::ReadOnly));
            self.out.push(Output::FailAll);
        }
        if self.record.stale {
            self.enter(Phase::Wait);
            self.reason = Some(self.idle_reason());
            self.try_join();
            return;
        }
        self.record.stale = true;
        let record = self.record.clone();
        self.enter(Phase::Spoiling);
        self.persist(record);
    }

    fn note_apart(&mut self, code: &str, what: &str) {
        self.reason = Some(Refusal::new(
            code,
            format!("the replicas of {} and {} {what}", self.local, self.peer),
            "choose the replica to keep",
        ));
    }

    pub(super) fn on_session_down(&mut self, why: &str) {
        if self.session.take().is_none() {
            return;
        }
        match &self.phase {
            Phase::Prim | Phase::Growing { sent: true, .. } => self.shrink("peer-lost", why),
            Phase::Comparing { .. } => {
                self.enter(Phase::Alone);
                self.out.push(Output::Gate(Gate::Alone));
            }
            Phase::Following | Phase::Adopting { .. } | Phase::Second => {
                self.enter(Phase::Wait);
                let remedy = if self.two_in_set() && !self.record.stale {
                    "it follows again when the peer is back; `tandem prim` serves here"
                } else {
                    "it follows again when the peer is back"
                };
                self.reason = Some(Refusal::new(
                    "peer-lost",
                    format!("lost {}: {why}", self.peer),
                    remedy,
                ));
                self.fail_second();
            }
            Phase::Leaving {
                stage: Leave::Tell, ..
            } => self.step_leave(),
            Phase::Leaving {
                token,
                stage: Leave::Drain,
                served: true,
            } => {
                // The stop goes on alone, but only after the set is without the peer (I4).
                let token = *token;
                let refusal = Refusal::new(
                    "peer-lost",
                    format!("lost {} during the stop: {why}", self.peer),
                    "repeat `tandem stop`",
                );
                self.resolve(token, Err(refusal));
                self.shrink("peer-lost", why);
            }
            _ => {}
        }
    }

    /// Ends the session because the peer does not do its part.
    pub(super) fn drop_peer(&mut self, why: &str) {
        self.out.push(Output::CloseSession(why.into()));
        self.on_session_down(why);
    }

    /// Takes the peer out of the set: writes stand still until that is durable (I4).
    fn shrink(&mut self, code: &str, why: &str) {
        self.reason = Some(Refusal::new(
            code,
            format!("{} is not in the set: {why}", self.peer),
            format!("bring {} back and run `tandem second` there", self.peer),
        ));
        let set = vec![self.local.clone()];
        let record = self.record.next_epoch(self.fresh[0], self.fresh[1], set);
        self.enter(Phase::Shrinking {
            record: Box::new(record.clone()),
            heard: false,
        });
        self.out.push(Output::Gate(Gate::Frozen));
        self.persist(record);
    }

    pub(super) fn on_control(&mut self, control: Control) {
        match control {
            Control::State(state, record) => {
                if let Some(session) = &mut self.session {
                    session.peer_state = state;
                    session.peer_record = *record;
                }
                self.judge();
            }
            Control::Join => self.on_join(),
            Control::DigestRequest(round) => self.on_digest_request(round),
            Control::Digest(round, result) => self.on_peer_digest(round, result),
            Control::Grow(record) => self.on_grow(*record),
            Control::Grown(id) => self.on_grown(id),
            Control::JoinRefused(reject) => self.on_join_refused(reject),
            Control::Leave(record) => {
                if let Some(session) = &mut self.session {
                    session.peer_record = *record;
                    session.peer_state = State::Stop;
                }
                self.on_peer_leaves();
            }
            Control::LeaveHeard => {
                if let Phase::Leaving {
                    stage: Leave::Tell, ..
                } = self.phase
                {
                    self.step_leave();
                }
            }
            Control::Hello(_) | Control::Reject(_) => {
                self.out
                    .push(Output::CloseSession("greeting out of turn".into()));
            }
        }
    }

    fn on_peer_leaves(&mut self) {
        match self.phase {
            Phase::Prim => {
                self.shrink("peer-left", "it was stopped in order");
                if let Phase::Shrinking { heard, .. } = &mut self.phase {
                    *heard = true;
                }
            }
            Phase::Second => {
                self.enter(Phase::Wait);
                self.wants_second = false;
                self.reason = Some(Refusal::new(
                    "peer-left",
                    format!(
                        "{} was stopped in order, this replica is current",
                        self.peer
                    ),
                    "run `tandem prim` here to serve",
                ));
                self.owes_leave = true;
                self.flush();
            }
            _ => self.out.push(Output::Send(Control::LeaveHeard)),
        }
    }

    pub(super) fn on_persisted(&mut self, result: Result<(), String>) {
        if let Err(why) = result {
            return self.on_disk_failed(&why);
        }
        match self.phase.clone() {
            Phase::Starting { token, record } => {
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
                    self.out.push(Output::Send(Control::Grow(record)));
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

    /// What was applied cannot be brought to the disk: a stop goes back to where it was, a follower's
    /// replica is not good.
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

    pub(super) fn on_tick(&mut self) {
        let limit = self.stall_limit;
        let waited = self.now.saturating_duration_since(self.since);
        match self.phase {
            Phase::Comparing { .. } if waited > limit => {
                self.end_comparing(
                    "slow",
                    "comparing the trees took longer than the stall limit",
                );
            }
            Phase::Growing { sent: true, .. } if waited > limit => {
                self.drop_peer("it did not confirm its record within the stall limit");
            }
            Phase::Leaving {
                stage: Leave::Tell, ..
            } if waited > limit => self.step_leave(),
            Phase::Leaving {
                stage: Leave::Drain,
                ..
            } => {
                if self.acks.overdue(self.now, limit) {
                    self.drop_peer("it did not answer within the stall limit");
                } else {
                    self.step_leave();
                }
            }
            Phase::Prim if self.acks.overdue(self.now, limit) => {
                self.drop_peer("it did not answer within the stall limit");
            }
            _ => {}
        }
    }
}
