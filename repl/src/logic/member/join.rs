//! Growing the in-sync set by the peer, and adopting the epoch that counts this node (I5).
//!
//! Until the resync exists, a replica may join only if it is equal already: writes stand still
//! for at most the stall limit, both ends take a digest of the whole tree, the server compares.

use super::super::record::{Record, Relation};
use super::{Gate, Member, Output, Phase};
use crate::control::{Refusal, State};
use crate::ids::Id128;
use crate::wire::{Control, Reject};

impl Member {
    /// Asks a serving peer to be taken in, if this node wants to follow it.
    pub(super) fn try_join(&mut self) {
        let Some(session) = &self.session else { return };
        let peer_serves = matches!(session.peer_state, State::Alone | State::Prim);
        if self.wants_second && peer_serves && matches!(self.phase, Phase::Wait) {
            self.enter(Phase::Following);
            self.out.push(Output::Send(Control::Join {
                verdict: 0,
                everything: false,
            }));
        }
    }

    /// The peer wants to follow this node.
    pub(super) fn on_join(&mut self) {
        let refuse = |code: &str, reason: &str| {
            let reject = Reject {
                code: code.into(),
                reason: reason.into(),
            };
            Output::Send(Control::JoinRefused(reject, 0))
        };
        match (&self.phase, self.relation()) {
            (Phase::Alone, Some(Relation::Foreign)) => {
                self.out.push(refuse(
                    "foreign",
                    "the replicas belong to different volumes",
                ));
            }
            (Phase::Alone, Some(Relation::Diverged)) => {
                self.out
                    .push(refuse("diverged", "both replicas were written apart"));
            }
            _ => self
                .out
                .push(refuse("not-serving", "the node asked does not serve alone")),
        }
    }

    pub(super) fn on_join_refused(&mut self, reject: Reject) {
        if !matches!(self.phase, Phase::Following) {
            return;
        }
        let refusal = Refusal::new(
            &reject.code,
            format!("{} did not take this node: {}", self.peer, reject.reason),
            "make the directories equal on both nodes, then repeat `tandem second`",
        );
        self.wants_second = false;
        self.reason = Some(refusal.clone());
        self.enter(Phase::Wait);
        if let Some(token) = self.second_token.take() {
            self.resolve(token, Err(refusal));
        }
    }

    /// The server counts this node from now on; so it must hold that durably, after a flush.
    pub(super) fn on_grow(&mut self, record: Record) {
        let valid = matches!(self.phase, Phase::Following)
            && record.set_has(&self.local)
            && record.set_has(&self.peer);
        if !valid {
            return self
                .out
                .push(Output::CloseSession("growth out of turn".into()));
        }
        let record = Box::new(Record {
            served: false,
            ..record
        });
        self.enter(Phase::Adopting {
            record,
            flushed: false,
        });
        self.flush();
    }

    pub(super) fn on_grown(&mut self, id: Id128) {
        let Phase::Growing { record, sent: true } = &self.phase else {
            return;
        };
        if record.epoch.as_ref().map(|e| e.id) == Some(id) {
            self.reason = None;
            self.enter(Phase::Prim);
            self.out.push(Output::Gate(Gate::Replicated));
        }
    }
}
