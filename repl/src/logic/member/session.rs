//! Sessions that come and go, what their ends mean, and time.

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
        self.lose_session("peer-lost", why);
    }

    fn lose_session(&mut self, code: &str, why: &str) {
        if self.session.take().is_none() {
            return;
        }
        match &self.phase {
            Phase::Prim | Phase::Growing { sent: true, .. } => self.shrink(code, why),
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
                self.shrink(code, why);
            }
            _ => {}
        }
    }

    /// Ends the session because the peer does not do its part.
    pub(super) fn drop_peer(&mut self, code: &str, why: &str) {
        self.out.push(Output::CloseSession(why.into()));
        self.lose_session(code, why);
    }

    /// Takes the peer out of the set: writes stand still until that is durable (I4).
    pub(super) fn shrink(&mut self, code: &str, why: &str) {
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
            Control::Join { .. } => self.on_join(),
            Control::Grow { record, .. } => self.on_grow(*record),
            Control::Grown(id) => self.on_grown(id),
            Control::JoinRefused(reject, _) => self.on_join_refused(reject),
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
            _ => {}
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

    pub(super) fn on_tick(&mut self) {
        let limit = self.stall_limit;
        let waited = self.now.saturating_duration_since(self.since);
        match self.phase {
            Phase::Growing { sent: true, .. } if waited > limit => {
                self.drop_peer(
                    "peer-slow",
                    "it did not confirm its record within the stall limit",
                );
            }
            Phase::Leaving {
                stage: Leave::Tell, ..
            } if waited > limit => self.step_leave(),
            Phase::Leaving {
                stage: Leave::Drain,
                ..
            } => {
                if self.acks.overdue(self.now, limit) {
                    self.drop_peer("peer-slow", "it did not answer within the stall limit");
                } else {
                    self.step_leave();
                }
            }
            Phase::Prim if self.acks.overdue(self.now, limit) => {
                self.drop_peer("peer-slow", "it did not answer within the stall limit");
            }
            _ => {}
        }
    }
}
