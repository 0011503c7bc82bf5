//! The target's part of a rejoin: asking to be taken in, being changed, and adopting the epoch
//! that counts this node (I5).

use super::phase::{FlushFor, Follow, Phase, Then};
use super::{Duration, Member, Output};
use crate::control::{Refusal, State};
use crate::logic::record::Record;
use crate::logic::verdict::Outcome;
use crate::wire::{Control, Reject};

impl Member {
    /// Asks a peer that serves alone to be taken in, if this node wants to follow it.
    pub(super) fn try_join(&mut self) {
        let early = self.wish.again.is_some_and(|at| self.now < at);
        let ready = self.peer_state() == Some(State::Alone);
        if !self.wish.follow || early || !ready || self.phase != Phase::Wait || self.broken {
            return;
        }
        let Some(verdict) = self.verdict_now() else {
            return;
        };
        if verdict.source() != Some(&*self.config.peer) {
            return;
        }
        self.wish.again = None;
        self.enter(Phase::Follow(Follow::Asked));
        self.send(Control::Join {
            verdict: verdict.digest(),
            everything: self.wish.everything,
            urgent: self.wish.urgent,
        });
    }

    /// This node serves: whoever waits for it to follow hears that.
    pub(super) fn drop_wish(&mut self) {
        if let Some(token) = self.wish.token.take() {
            let refusal = Refusal::new(
                "serves",
                "this node was made to serve meanwhile",
                "run the command on the node that follows",
            );
            self.resolve(token, Err(refusal));
        }
        self.wish = super::Wish::default();
    }

    /// Ends the wait of a command to follow that will not come to its end soon.
    pub(super) fn fail_follow(&mut self) {
        if let Some(token) = self.wish.token.take() {
            let reason = self.reason.clone().unwrap_or_else(|| self.idle_reason());
            self.resolve(token, Err(reason));
        }
    }

    pub(super) fn on_join_refused(&mut self, reject: Reject, after: u32) {
        if self.phase != Phase::Follow(Follow::Asked) {
            return;
        }
        self.refused(reject, after);
    }

    fn refused(&mut self, reject: Reject, after: u32) {
        let remedy = if after > 0 {
            "the node asks again by itself"
        } else {
            "see `tandem why` on both nodes"
        };
        let wait = Duration::from_millis(u64::from(after));
        self.wish.again = (after > 0).then(|| self.now + wait);
        self.reason = Some(Refusal::new(
            &reject.code,
            format!(
                "{} did not take this node: {}",
                self.config.peer, reject.reason
            ),
            remedy,
        ));
        self.enter(Phase::Wait);
        // A bad moment is no answer; the command goes on waiting, as the node does.
        if !matches!(&*reject.code, "moving" | "verdict" | "back-off") {
            self.fail_follow();
        }
    }

    /// The peer is about to change this replica: it is stale from now on, durably.
    pub(super) fn on_resync_begin(&mut self, round: u64, everything: bool, keep_aside: bool) {
        if self.phase != Phase::Follow(Follow::Asked) {
            let why = Err("this node did not ask, or does not any more".into());
            return self.send(Control::TargetReady(round, why));
        }
        let mine = self.verdict_now().map(|v| v.outcome);
        let agreed = match mine {
            Some(Outcome::Source {
                node,
                keep_aside: aside,
                ..
            }) => node == self.config.peer && aside == keep_aside,
            _ => false,
        };
        if !agreed {
            let why = Err("the two judge their records differently".into());
            self.send(Control::TargetReady(round, why));
            self.enter(Phase::Wait);
            return;
        }
        if everything {
            self.wish.everything = false;
        }
        self.wish.urgent = false;
        self.enter(Phase::Follow(Follow::Preparing { round }));
        if self.record.stale || !self.config.rules.target_stale_first {
            return self.prepare(round, keep_aside);
        }
        let mut record = self.record.clone();
        record.stale = true;
        record.clean = false;
        self.persist(record, Then::TargetStale { round, keep_aside });
    }

    pub(super) fn prepare(&mut self, round: u64, keep_aside: bool) {
        self.out.push(Output::PrepareTarget { round, keep_aside });
    }

    pub(super) fn on_prepared(&mut self, round: u64, result: Result<(), String>) {
        if self.phase != Phase::Follow(Follow::Preparing { round }) {
            return;
        }
        match result {
            Ok(()) => {
                self.phase = Phase::Follow(Follow::Target { round });
                self.send(Control::TargetReady(round, Ok(())));
            }
            Err(why) => {
                let what = format!("the replica cannot be made ready: {why}");
                self.spoil("prepare-failed", &what);
            }
        }
    }

    /// The resync ended without growth.
    pub(super) fn on_resync_end(&mut self, round: u64, reject: Reject) {
        let Phase::Follow(Follow::Preparing { round: now } | Follow::Target { round: now }) =
            self.phase
        else {
            return;
        };
        if now == round {
            self.stop_following("");
            self.refused(reject, 1000);
        }
    }

    /// The server counts this node from now on; so it must hold that durably, after a flush.
    pub(super) fn on_grow(&mut self, record: Record) {
        let (local, peer) = (&self.config.local, &self.config.peer);
        let valid = record.set_has(local) && record.set_has(peer);
        let Phase::Follow(Follow::Target { round }) = self.phase else {
            return self.drop_peer("protocol", "growth out of turn");
        };
        if !valid {
            return self.drop_peer("protocol", "growth without this node");
        }
        self.out.push(Output::EndTarget { round });
        self.enter(Phase::Follow(Follow::Adopting));
        self.promise();
        self.adopting = Some(self.adopted_record(&record));
        if self.config.rules.growth_second_flush {
            self.flush(FlushFor::Adopt);
        } else {
            self.adopt_flushed();
        }
    }

    pub(super) fn adopted_record(&self, source: &Record) -> Record {
        let mut record = self.record.adopted(source);
        if !self.config.rules.ended_whole {
            record.ended = self.record.ended.clone();
            record.list_ended(source.epoch.as_ref().map(|e| e.parent).as_slice());
        }
        record
    }

    pub(super) fn adopt_flushed(&mut self) {
        if let (Phase::Follow(Follow::Adopting), Some(record)) = (&self.phase, self.adopting.take())
        {
            // All that is marked was compared with what the disk has, not with what is in memory.
            self.flush_failed = false;
            self.persist(record, Then::Adopted);
        }
    }

    pub(super) fn adopted(&mut self) {
        self.reason = None;
        self.notes.clear();
        self.wish.follow = true;
        self.enter(Phase::Second);
        if let Some(id) = self.record.epoch_id() {
            self.send(Control::Grown(id));
        }
        if let Some(token) = self.wish.token.take() {
            self.resolve(token, Ok(()));
        }
    }
}
