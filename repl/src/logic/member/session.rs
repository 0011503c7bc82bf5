//! Sessions: how one begins with the verdict, what news in it mean, and how it ends.
//!
//! Beginning: own open intents are given up durably, then both say what they are (`Meet`), list
//! what the other gave up, make the verdict of the two claims, and tell each other its number.
//! Only equal verdicts let them go on (I7).

use super::phase::{
    FlushFor, Follow, LeaveStep, Phase, PromoteStep, Session, SwapStep, Then, Told,
};
use super::{Claim, Gate, Member, Output, Witness, meet_with};
use crate::control::{Refusal, State};
use crate::logic::record::Record;
use crate::logic::verdict::Rule;
use crate::wire::{Control, Hello, Meet};

impl Member {
    pub(super) fn on_session_up(&mut self, hello: Hello) {
        if self.session.is_some() {
            self.lose_session("peer-lost", "the peer began a new session");
        }
        if self.broken || self.phase == Phase::Gone {
            let why = "the record could not be written".into();
            return self.out.push(Output::CloseSession(why));
        }
        self.fenced = false;
        self.session = Some(Session {
            peer_record: hello.record,
            peer_state: hello.state,
            said: None,
            heard: None,
            verdict: None,
            theirs: None,
            met: false,
        });
        if let Phase::Promote(promote) = &mut self.phase {
            // Whatever was asked is void: the peer itself can be asked now.
            promote.step = PromoteStep::Meeting;
            self.since = self.now;
        }
        if let Phase::Shrink(shrink) = &mut self.phase {
            shrink.asked = false;
            if self.config.rules.void_intents {
                // A late answer is void.
                shrink.ask.round = 0;
                shrink.ask.witness = Witness::NotAsked;
            }
        }
        if matches!(self.phase, Phase::Leave(_)) {
            return;
        }
        if self.config.rules.void_intents && self.record.intent.is_some() {
            let mut record = self.record.clone();
            record.give_up_intent();
            self.persist(record, Then::Voided);
        } else {
            self.say();
        }
    }

    /// Tells the peer what this node is.
    pub(super) fn say(&mut self) {
        let meet = Meet {
            record: self.record.clone(),
            serving: self.serves(),
            state: self.state(),
        };
        if let Some(session) = &mut self.session {
            session.said = Some((meet.record.clone(), meet.serving));
            self.send(Control::Meet(Box::new(meet)));
        }
        self.judge();
    }

    fn on_meet(&mut self, meet: Meet) {
        let Some(session) = &mut self.session else {
            return;
        };
        let void = meet.record.void.clone();
        session.peer_record = meet.record.clone();
        session.peer_state = meet.state;
        session.heard = Some((meet.record.clone(), meet.serving));
        self.peer_last = Some(meet.record);
        if !meet.state.serves() {
            self.promise_is_cut();
        }
        let mut record = self.record.clone();
        if self.config.rules.void_intents && record.list_void(&void) {
            self.persist(record, Then::Listed);
        } else {
            self.judge();
        }
    }

    /// Makes the verdict when both have spoken.
    pub(super) fn judge(&mut self) {
        let Some(session) = &self.session else { return };
        let (Some(said), Some(heard)) = (&session.said, &session.heard) else {
            return;
        };
        let me = Claim {
            node: &self.config.local,
            record: &said.0,
            serving: said.1,
        };
        let peer = Claim {
            node: &self.config.peer,
            record: &heard.0,
            serving: heard.1,
        };
        let verdict = meet_with(&self.config.rules, &me, &peer);
        self.send(Control::Verdict(verdict.digest(), verdict.rule.to_string()));
        if let Some(session) = &mut self.session {
            session.verdict = Some(verdict);
        }
        self.compare();
    }

    /// Goes on when both verdicts are known and equal.
    fn compare(&mut self) {
        let Some(session) = &mut self.session else {
            return;
        };
        let (Some(mine), Some((digest, rule))) = (&session.verdict, &session.theirs) else {
            return;
        };
        if mine.digest() != *digest {
            let reason = format!(
                "{} and {} judge their records differently: by {} and by {rule}",
                self.config.local, self.config.peer, mine.rule
            );
            let remedy = "run the same version on both nodes";
            let refusal = Refusal::new("verdict-differs", reason, remedy);
            self.notes.insert("verdict-differs", refusal.clone());
            self.reason = Some(refusal);
            self.fail_follow();
            return;
        }
        session.met = true;
        self.notes.remove("verdict-differs");
        match &self.phase {
            Phase::Shrink(_) => self.shrink_met(),
            Phase::Promote(_) => self.promote_step(),
            _ => self.apply_verdict(),
        }
    }

    /// What the verdict means for this node, at the beginning and at every news.
    pub(super) fn apply_verdict(&mut self) {
        let Some(verdict) = self.verdict_now() else {
            return;
        };
        if !matches!(self.phase, Phase::Wait | Phase::Second | Phase::Alone) {
            return;
        }
        if let Some(refusal) = verdict.refusal() {
            if self.phase != Phase::Second {
                self.reason = Some(refusal);
                self.fail_follow();
            }
            return;
        }
        if verdict.source() == Some(&*self.config.local) {
            if self.phase == Phase::Wait {
                self.idle();
            }
            return;
        }
        let ahead = matches!(verdict.rule, Rule::V4a | Rule::V5 | Rule::V7);
        match self.phase {
            Phase::Alone => self.superseded(),
            _ if ahead && !self.record.stale => self.superseded(),
            Phase::Second if ahead => self.stop_following("stale"),
            Phase::Second => {}
            _ => {
                self.idle();
                self.try_join();
            }
        }
    }

    /// The peer has what this node lacks, or serves by right: what it acknowledged is ahead (I2).
    pub(super) fn superseded(&mut self) {
        self.abort_join("superseded");
        if self.serves() {
            self.gate(Gate::ReadOnly);
            self.out.push(Output::FailAll);
            self.wish.follow = true;
        }
        let mut record = self.record.clone();
        record.stale = true;
        record.clean = false;
        self.persist(record, Then::Stale);
    }

    pub(super) fn on_session_down(&mut self, why: &str) {
        self.lose_session("peer-lost", why);
    }

    pub(super) fn lose_session(&mut self, code: &str, why: &str) {
        if self.session.take().is_none() {
            return;
        }
        self.abort_checkpoint();
        self.flushes
            .retain(|_, purpose| !matches!(purpose, FlushFor::Peer(_)));
        if let Some(token) = self.swap_token.take() {
            let refusal = self.lost_reason(code, why);
            self.resolve(token, Err(refusal));
        }
        match self.phase.clone() {
            Phase::Prim | Phase::Growing { .. } => self.shrink(code, why),
            Phase::Alone => self.abort_join(why),
            Phase::Shrink(mut shrink) => {
                if shrink.ask.told == Told::Waiting {
                    shrink.ask.told = Told::No;
                }
                self.phase = Phase::Shrink(shrink.clone());
                if shrink.asked {
                    self.shrink_step();
                } else {
                    self.shrink_ask();
                }
            }
            Phase::Promote(mut promote) if promote.step != PromoteStep::Lease => {
                promote.ask.told = Told::No;
                promote.step = PromoteStep::Meeting;
                self.phase = Phase::Promote(promote);
                self.promote_step();
            }
            Phase::Follow(_) | Phase::Second => {
                let reason = self.lost_reason(code, why);
                self.stop_following(code);
                self.reason = Some(reason);
                self.fail_follow();
            }
            Phase::Leave(leave) => self.leave_without_peer(leave, code, why),
            Phase::Swap(swap) if swap.step != SwapStep::Tell => {
                self.fail_swap("peer-lost", why);
                self.shrink(code, why);
            }
            Phase::Swap(_) => {
                self.fail_swap("peer-lost", why);
                self.wish.follow = true;
                self.enter(Phase::Wait);
                self.reason = Some(self.lost_reason(code, why));
            }
            _ => {}
        }
    }

    fn lost_reason(&self, code: &str, why: &str) -> Refusal {
        let remedy = if self.two_in_set() && !self.record.stale {
            "it follows again when the peer is back; `tandem prim` serves here"
        } else {
            "it follows again when the peer is back"
        };
        Refusal::new(code, format!("lost {}: {why}", self.config.peer), remedy)
    }

    /// Back to waiting, the session as it is.
    pub(super) fn stop_following(&mut self, code: &str) {
        if let Phase::Follow(Follow::Preparing { round } | Follow::Target { round }) = self.phase {
            self.out.push(Output::EndTarget { round });
        }
        self.flushes
            .retain(|_, purpose| *purpose == FlushFor::Alone);
        self.enter(Phase::Wait);
        if code == "stale" {
            self.reason = Some(self.idle_reason());
        }
    }

    /// Ends the session because the peer does not do its part.
    pub(super) fn drop_peer(&mut self, code: &str, why: &str) {
        if self.session.is_some() {
            self.out.push(Output::CloseSession(why.into()));
            self.lose_session(code, why);
        }
    }

    pub(super) fn on_control(&mut self, control: Control) {
        if self.session.is_none() {
            return;
        }
        match control {
            Control::Meet(meet) => self.on_meet(*meet),
            Control::Verdict(digest, rule) => {
                if let Some(session) = &mut self.session {
                    session.theirs = Some((digest, rule));
                }
                self.compare();
            }
            Control::State(state, record) => self.on_state(state, *record),
            Control::Leave(record) => self.on_peer_leaves(&record),
            Control::LeaveHeard => self.on_leave_heard(),
            Control::CheckpointFlush(round) => self.on_checkpoint_flush(round),
            Control::CheckpointFlushed(round, result) => self.on_peer_flushed(round, result),
            Control::Hello(_) | Control::Reject(_) => {
                self.drop_peer("protocol", "greeting out of turn");
            }
            // The rest belongs to nodes that have agreed.
            _ if !self.met() => {}
            Control::LeaseAsk(number) => self.on_lease_ask(number),
            Control::LeaseGrant(number) => self.on_lease_grant(number),
            Control::ToldStale { parent, new } => self.on_told_stale(parent, new),
            Control::Told(new, result) => self.on_told(new, result),
            Control::Join {
                verdict,
                everything,
                urgent,
            } => self.on_join(verdict, everything, urgent),
            Control::JoinRefused(reject, after) => self.on_join_refused(reject, after),
            Control::ResyncBegin {
                round,
                everything,
                keep_aside,
            } => self.on_resync_begin(round, everything, keep_aside),
            Control::TargetReady(round, result) => self.on_target_ready(round, result),
            Control::ResyncEnd(round, reject) => self.on_resync_end(round, reject),
            Control::Grow { record, .. } => self.on_grow(*record),
            Control::Grown(id) => self.on_grown(id),
            Control::CheckpointDone(round) => self.on_checkpoint_done(round),
            Control::SwapAsk => self.on_swap_ask(),
            Control::SwapRefused(reject) => self.on_swap_refused(reject),
            Control::Swap { record, .. } => self.on_swap_here(*record),
            Control::Swapped(id) => self.on_swapped(id),
        }
    }

    fn on_state(&mut self, state: State, record: Record) {
        let Some(session) = &mut self.session else {
            return;
        };
        session.peer_state = state;
        session.peer_record = record.clone();
        self.peer_last = Some(record);
        if !state.serves() {
            self.promise_is_cut();
        }
        if !self.met() {
            return;
        }
        match &self.phase {
            Phase::Promote(_) => self.promote_step(),
            Phase::Shrink(_) => self.shrink_step(),
            Phase::Second | Phase::Follow(_) if !state.serves() => {
                self.stop_following("peer-stopped");
                self.reason = Some(Refusal::new(
                    "peer-stopped",
                    format!("{} does not serve any more", self.config.peer),
                    "run `tandem prim` on the node whose replica is good",
                ));
            }
            _ => self.apply_verdict(),
        }
    }

    /// Steps of a clean stop that cannot be done without the peer.
    fn leave_without_peer(&mut self, leave: super::Leave, code: &str, why: &str) {
        match leave.step {
            LeaveStep::Drain | LeaveStep::Flush if leave.served && self.two_in_set() => {
                self.shrink(code, why);
                if let Phase::Shrink(shrink) = &mut self.phase {
                    shrink.stop = Some(leave.token);
                }
            }
            LeaveStep::Tell => self.leave_end(leave.token),
            _ => self.leave_step(),
        }
    }
}
