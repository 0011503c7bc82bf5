//! What the operator may ask of a node, and when it is refused.

use super::super::record::Relation;
use super::{Gate, Leave, Member, Output, Phase};
use crate::control::{Refusal, State};
use crate::wire::Control;

impl Member {
    pub(super) fn on_prim(&mut self, token: u64, force: bool) {
        if self.serves() {
            return self.resolve(token, Ok(()));
        }
        if let Err(refusal) = self.may_serve(force) {
            return self.resolve(token, Err(refusal));
        }
        self.wants_second = false;
        self.reason = None;
        let alone_already = self.record.set_size() == 1 && self.record.set_has(&self.local);
        let record = if alone_already && !self.record.stale && !self.record.left {
            let mut same = self.record.clone();
            same.clean = false;
            same.served = true;
            same
        } else {
            self.record
                .next_epoch(self.fresh[0], self.fresh[1], vec![self.local.clone()])
        };
        self.enter(Phase::Starting {
            token,
            record: Box::new(record.clone()),
        });
        self.persist(record);
    }

    /// Rules W1, W5, W6 and V1–V9 as far as a node led by hand needs them.
    fn may_serve(&self, force: bool) -> Result<(), Refusal> {
        if !matches!(self.phase, Phase::Wait) {
            let state = self.state();
            return Err(Refusal::new(
                "busy",
                format!("the node is {state:?} and its peer serves, or it is about to stop"),
                format!(
                    "stop the serving node first (`tandem stop` on {})",
                    self.peer
                ),
            ));
        }
        if let Some(State::Prim | State::Alone) = self.peer_state() {
            return Err(Refusal::new(
                "peer-serves",
                format!("{} serves", self.peer),
                format!("run `tandem stop` on {} first", self.peer),
            ));
        }
        if force {
            return Ok(());
        }
        if self.record.stale || self.relation() == Some(Relation::PeerNewer) {
            return Err(Refusal::new(
                "stale",
                format!(
                    "{} holds acknowledged writes that this replica lacks",
                    self.peer
                ),
                format!(
                    "run `tandem prim` on {}; `tandem prim --force` here gives those writes up",
                    self.peer
                ),
            ));
        }
        match self.relation() {
            Some(Relation::LocalFresh) => Err(Refusal::new(
                "fresh",
                format!("this node never held the data, {} does", self.peer),
                format!(
                    "run `tandem prim` on {} and `tandem second` here",
                    self.peer
                ),
            )),
            None if self.lost => Err(Refusal::new(
                "lost",
                format!("power was lost here while {} was in the set", self.peer),
                format!(
                    "start {}; `tandem prim --force` serves what is here",
                    self.peer
                ),
            )),
            None if self.record.left => Err(Refusal::new(
                "left",
                format!("this node left in order while {} went on", self.peer),
                format!(
                    "start {}; `tandem prim --force` serves without it",
                    self.peer
                ),
            )),
            Some(Relation::Foreign) => Err(Refusal::new(
                "foreign",
                format!("the replica on {} belongs to another volume", self.peer),
                "check that the two nodes belong together",
            )),
            Some(Relation::Diverged) => Err(Refusal::new(
                "diverged",
                "both replicas were written apart from each other",
                "choose the replica to keep and run `tandem prim --force` on it",
            )),
            _ => Ok(()),
        }
    }

    pub(super) fn on_second(&mut self, token: u64) {
        if self.serves() {
            let refusal = Refusal::new(
                "serves",
                "this node serves",
                "stop it first (`tandem stop`), start it again, then `tandem second`",
            );
            return self.resolve(token, Err(refusal));
        }
        match self.phase {
            Phase::Second => self.resolve(token, Ok(())),
            Phase::Wait => {
                self.wants_second = true;
                self.reason = None;
                if let Some(old) = self.second_token.replace(token) {
                    self.resolve(old, Ok(()));
                }
                self.try_join();
                if matches!(self.phase, Phase::Wait)
                    && let Some(token) = self.second_token.take()
                {
                    self.resolve(token, Ok(()));
                }
            }
            _ => {
                if let Some(old) = self.second_token.replace(token) {
                    self.resolve(old, Ok(()));
                }
            }
        }
    }

    pub(super) fn on_stop(&mut self, token: u64) {
        if let Some(waiting) = self.second_token.take() {
            let refusal = Refusal::new("stopping", "the node was told to stop", "start it again");
            self.resolve(waiting, Err(refusal));
        }
        let served = self.serves();
        match self.phase {
            Phase::Wait | Phase::Following | Phase::Spoiling | Phase::Gone => {
                self.phase = Phase::Gone;
                self.out
                    .push(Output::CloseSession("stopped by the operator".into()));
                self.resolve(token, Ok(()));
                self.out.push(Output::Exit);
            }
            Phase::Alone | Phase::Prim | Phase::Second => {
                self.enter(Phase::Leaving {
                    token,
                    stage: Leave::Drain,
                    served,
                });
                self.out.push(Output::Gate(if served {
                    Gate::Frozen
                } else {
                    Gate::ReadOnly
                }));
            }
            _ => {
                let refusal = Refusal::new(
                    "moving",
                    "the node is changing its set",
                    "repeat the command in a moment",
                );
                self.resolve(token, Err(refusal));
            }
        }
    }

    /// Goes on with a clean stop: drained, flushed, recorded, told.
    pub(super) fn step_leave(&mut self) {
        let Phase::Leaving {
            token,
            stage,
            served,
        } = self.phase
        else {
            return;
        };
        match stage {
            Leave::Drain if self.acks.is_empty() => {
                self.phase = Phase::Leaving {
                    token,
                    stage: Leave::Flush,
                    served,
                };
                self.flush();
            }
            Leave::Drain => {}
            Leave::Flush => {
                self.phase = Phase::Leaving {
                    token,
                    stage: Leave::Persist,
                    served,
                };
                let mut record = self.record.clone();
                record.clean = true;
                record.left = self.two_in_set();
                record.served = served;
                self.record = record.clone();
                self.persist(record);
            }
            Leave::Persist if self.session.is_some() && self.two_in_set() => {
                self.phase = Phase::Leaving {
                    token,
                    stage: Leave::Tell,
                    served,
                };
                let record = Box::new(self.record.clone());
                self.out.push(Output::Send(Control::Leave(record)));
            }
            Leave::Persist | Leave::Tell => {
                self.phase = Phase::Gone;
                self.out.push(Output::Gate(Gate::ReadOnly));
                self.out.push(Output::CompleteAll);
                self.out
                    .push(Output::CloseSession("stopped by the operator".into()));
                self.resolve(token, Ok(()));
                self.out.push(Output::Exit);
            }
        }
    }
}
