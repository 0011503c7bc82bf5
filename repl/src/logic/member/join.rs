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
            self.out.push(Output::Send(Control::Join));
        }
    }

    /// The peer wants to follow this node.
    pub(super) fn on_join(&mut self) {
        let refuse = |code: &str, reason: &str| {
            Output::Send(Control::JoinRefused(Reject {
                code: code.into(),
                reason: reason.into(),
            }))
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
            (Phase::Alone, Some(_)) => {
                self.round += 1;
                let round = self.round;
                self.enter(Phase::Comparing {
                    round,
                    mine: None,
                    theirs: None,
                });
                self.out.push(Output::Gate(Gate::Frozen));
                self.out.push(Output::Send(Control::DigestRequest(round)));
                self.out.push(Output::TakeDigest(round));
            }
            _ => self
                .out
                .push(refuse("not-serving", "the node asked does not serve alone")),
        }
    }

    pub(super) fn on_digest_request(&mut self, round: u64) {
        if matches!(self.phase, Phase::Following) {
            self.out.push(Output::TakeDigest(round));
        }
    }

    /// This node's own digest is taken. One that was begun for an earlier comparison says nothing
    /// of the tree as it is now.
    pub(super) fn on_digest(&mut self, round: u64, result: Result<[u8; 32], String>) {
        match (&mut self.phase, result) {
            (
                Phase::Comparing {
                    round: now, mine, ..
                },
                Ok(digest),
            ) if *now == round => {
                *mine = Some(digest);
                self.compare();
            }
            (Phase::Comparing { round: now, .. }, Err(why)) if *now == round => {
                self.end_comparing("unreadable", &why);
            }
            (Phase::Following, result) => {
                let result = result.map_err(|why| bounded(&why));
                self.out.push(Output::Send(Control::Digest(round, result)));
            }
            _ => {}
        }
    }

    /// The peer's digest arrived.
    pub(super) fn on_peer_digest(&mut self, round: u64, result: Result<[u8; 32], String>) {
        match (&mut self.phase, result) {
            (
                Phase::Comparing {
                    round: now, theirs, ..
                },
                Ok(digest),
            ) if *now == round => {
                *theirs = Some(digest);
                self.compare();
            }
            (Phase::Comparing { round: now, .. }, Err(why)) if *now == round => {
                self.end_comparing("unreadable", &why);
            }
            _ => {}
        }
    }

    fn compare(&mut self) {
        let Phase::Comparing {
            mine: Some(mine),
            theirs: Some(theirs),
            ..
        } = self.phase
        else {
            return;
        };
        if mine != theirs {
            return self.end_comparing("differs", "the replicas differ");
        }
        let set = vec![self.local.clone(), self.peer.clone()];
        let record = self.record.next_epoch(self.fresh[0], self.fresh[1], set);
        // The time since writes stand still goes on counting.
        self.phase = Phase::Growing {
            record: Box::new(record.clone()),
            sent: false,
        };
        self.persist(record);
    }

    /// Back to serving alone; the peer is told why it was not taken.
    pub(super) fn end_comparing(&mut self, code: &str, why: &str) {
        self.reason = Some(Refusal::new(
            code,
            format!("{} was not taken into the set: {why}", self.peer),
            format!("make the replica on {} equal to this one", self.peer),
        ));
        let reject = Reject {
            code: code.into(),
            reason: bounded(why),
        };
        self.out.push(Output::Send(Control::JoinRefused(reject)));
        self.enter(Phase::Alone);
        self.out.push(Output::Gate(Gate::Alone));
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

/// A text for the peer, cut to what a message may carry.
fn bounded(text: &str) -> String {
    const LIMIT: usize = 1000;
    if text.len() <= LIMIT {
        return text.to_string();
    }
    text.chars().take(LIMIT / 4).chain("…".chars()).collect()
}
