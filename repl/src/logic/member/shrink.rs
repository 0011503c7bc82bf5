//! The peer leaves the set of a serving node: writes stand still until this node may go on
//! without it, durably (I4), or it stops serving.
//!
//! Two ways at once: the peer, if it still answers, calls itself stale; the witness, if there is
//! one, is asked. The first yes decides. Without either the isolation policy does.

use super::phase::{FlushFor, LeaveStep, Phase, Shrink, Then, Told};
use super::{Gate, Member, Output, Witness};
use crate::control::Refusal;
use crate::logic::record::Record;
use crate::logic::verdict::{Block, May};
use crate::wire::Control;

impl Member {
    /// Begins because the peer is lost, silent, slow, or failed.
    pub(super) fn shrink(&mut self, code: &str, why: &str) {
        let close = self.session.is_some();
        self.begin_shrink(code, why, close, false);
        let Phase::Shrink(shrink) = &self.phase else {
            return;
        };
        let new = shrink.ask.new;
        if self.config.witness {
            self.intend(new);
        } else {
            self.shrink_ask();
        }
    }

    fn begin_shrink(&mut self, code: &str, why: &str, close: bool, left: bool) {
        self.reason = Some(Refusal::new(
            code,
            format!("{} is not in the set: {why}", self.config.peer),
            format!(
                "bring {} back; it is taken in again by itself",
                self.config.peer
            ),
        ));
        self.abort_checkpoint();
        let held = self.held_since(self.now).unwrap_or(self.now);
        let until = self.lease_end();
        self.lease_ends();
        if close {
            self.eject(why);
        }
        let ask = self.new_ask();
        self.enter(Phase::Shrink(Shrink {
            ask,
            held,
            until,
            asked: false,
            close,
            left,
            stop: None,
        }));
        self.gate(Gate::Frozen);
    }

    /// Both ends know the verdict of a session that came while writes stand still.
    pub(super) fn shrink_met(&mut self) {
        let verdict = self.verdict_now();
        let source = verdict.as_ref().and_then(|v| v.source());
        if source == Some(&*self.config.local) {
            self.shrink_ask();
        } else if source.is_some() {
            self.superseded();
        } else {
            self.shrink_step();
        }
    }

    /// Puts the questions.
    pub(super) fn shrink_ask(&mut self) {
        // An intent that was given up must not come back.
        let void = |id| self.record.ended.contains(&id);
        let stale_id = matches!(&self.phase, Phase::Shrink(s) if void(s.ask.new));
        let fresh = self.new_ask();
        let Phase::Shrink(shrink) = &mut self.phase else {
            return;
        };
        if stale_id {
            shrink.ask = fresh;
        }
        if self.session.as_ref().is_some_and(|s| !s.met) {
            return;
        }
        let new = shrink.ask.new;
        if stale_id && self.config.witness {
            return self.intend(new);
        }
        shrink.asked = true;
        if let (Some(_), Some(parent)) = (&self.session, self.record.epoch_id()) {
            shrink.ask.told = Told::Waiting;
            self.send(Control::ToldStale { parent, new });
        }
        if self.config.witness {
            self.ask_witness();
        }
        self.shrink_step();
    }

    /// Goes on if there is enough to go on with.
    pub(super) fn shrink_step(&mut self) {
        let Phase::Shrink(shrink) = self.phase.clone() else {
            return;
        };
        if shrink.ask.told == Told::Yes || self.peer_is_stale() {
            return self.shrink_go(shrink);
        }
        if !shrink.asked && self.config.witness {
            return;
        }
        match self.may_serve(shrink.ask.witness) {
            // The peer may still say itself that it is stale, which is better than a policy.
            _ if shrink.ask.told == Told::Waiting && shrink.ask.witness != Witness::Granted => {}
            May::Serve => self.shrink_go(shrink),
            May::Ask => {}
            May::Wait(block) => {
                if !self.refusal_spoils(shrink.ask.witness) {
                    self.give_up_serving(&shrink, block);
                }
            }
        }
    }

    /// Who still has not answered does not any more.
    pub(super) fn shrink_overdue(&mut self) {
        let Phase::Shrink(shrink) = &mut self.phase else {
            return;
        };
        if shrink.ask.told == Told::Waiting {
            shrink.ask.told = Told::No;
        }
        shrink.asked = true;
        if shrink.ask.witness == Witness::NotAsked {
            shrink.ask.witness = Witness::Silent;
        }
        self.shrink_step();
    }

    /// Nothing proves that the peer cannot serve: this node stops (W7). Operations whose fate is
    /// unknown end with an error, never with a promise.
    fn give_up_serving(&mut self, shrink: &Shrink, block: Block) {
        self.gate(Gate::ReadOnly);
        self.out.push(Output::FailAll);
        if self.session.take().is_some() {
            let why = "this node stopped serving".into();
            self.out.push(Output::CloseSession(why));
        }
        self.enter(Phase::Wait);
        self.reason = Some(block.into());
        if let Some(token) = shrink.stop {
            self.leave_gone_with(token);
        }
    }

    fn alone_record(&mut self, shrink: &Shrink) -> Record {
        let set = vec![self.config.local.clone()];
        let volume = self.record.volume;
        let id = self.not_given_up(shrink.ask.new);
        self.record.next_epoch(id, volume, set)
    }

    fn shrink_go(&mut self, shrink: Shrink) {
        let record = self.alone_record(&shrink);
        if !self.config.rules.shrink_first {
            self.out.push(Output::CompleteAll);
        }
        self.phase = Phase::Shrink(shrink);
        self.persist(record, Then::Shrunk);
    }

    /// The set is this node, durably: everything that waits is answered.
    pub(super) fn shrunk(&mut self) {
        let Phase::Shrink(shrink) = self.phase.clone() else {
            return;
        };
        self.out.push(Output::CompleteAll);
        self.enter(Phase::Alone);
        self.gate(Gate::Alone);
        self.flush(FlushFor::Alone);
        if shrink.left {
            self.send(Control::LeaveHeard);
        } else if shrink.close && self.session.take().is_some() {
            // What the peer dropped of this session's stream cannot be made up in it.
            let why = "taken out of the set".into();
            self.out.push(Output::CloseSession(why));
        }
        self.tell_witness(false);
        if let Some(token) = shrink.stop {
            self.begin_leave(token, true);
        }
    }

    pub(super) fn on_fenced(&mut self) {
        if self.session.is_some() {
            return;
        }
        self.fenced = true;
        match self.phase {
            Phase::Shrink(_) => self.shrink_step(),
            Phase::Promote(_) => self.promote_step(),
            _ => {}
        }
    }

    pub(super) fn on_peer_failed(&mut self, errno: i32) {
        if errno == crate::op::DIFFERS {
            let why = "a verification found that its replica differs; it is brought up now";
            return self.eject_peer("differs", why);
        }
        let error = std::io::Error::from_raw_os_error(errno);
        let why = format!("it could not apply an operation: {error}");
        self.eject_peer("peer-failed", &why);
    }

    /// Takes the peer out of the set while the session stands.
    pub(super) fn eject_peer(&mut self, code: &str, why: &str) {
        match self.phase.clone() {
            Phase::Prim | Phase::Growing { .. } => self.shrink(code, why),
            Phase::Swap(swap) if swap.step == super::SwapStep::Drain => {
                self.fail_swap(code, why);
                self.shrink(code, why);
            }
            Phase::Leave(leave)
                if leave.served && leave.step != LeaveStep::Tell && self.two_in_set() =>
            {
                self.shrink(code, why);
                if let Phase::Shrink(shrink) = &mut self.phase {
                    shrink.stop = Some(leave.token);
                }
            }
            _ => {}
        }
    }

    /// The peer left in order and will not serve alone: its word is on its disk.
    pub(super) fn on_peer_leaves(&mut self, record: &Record) {
        let same = record.epoch_id() == self.record.epoch_id();
        let promised = record.left || !self.config.rules.left_before_leave;
        if let Some(session) = &mut self.session {
            session.peer_record = record.clone();
        }
        self.peer_last = Some(record.clone());
        let gone = match &self.phase {
            Phase::Prim | Phase::Second if same => promised,
            // It ignored the swap, whose record it never took up.
            Phase::Swap(_) | Phase::Growing { .. } => promised,
            Phase::Leave(_) if !self.config.rules.leaving_ignores_leave => promised,
            // A leaving node waits for its own answer.
            Phase::Alone => return self.send(Control::LeaveHeard),
            // This node does not go on, so it cannot say so; or it leaves itself.
            _ => return,
        };
        if !gone {
            return self.drop_peer("protocol", "it left without its promise");
        }
        if matches!(self.phase, Phase::Swap(_)) {
            self.fail_swap("peer-left", "it was stopped in order");
        }
        if matches!(self.phase, Phase::Second | Phase::Leave(_)) {
            return self.inherit();
        }
        self.begin_shrink("peer-left", "it was stopped in order", false, true);
        if let Phase::Shrink(shrink) = self.phase.clone() {
            self.shrink_go(shrink);
        }
    }

    /// The serving peer left: this node goes on in a set of one.
    fn inherit(&mut self) {
        let set = vec![self.config.local.clone()];
        let id = self.new_id();
        let record = self.record.next_epoch(id, self.record.volume, set);
        self.flushes.clear();
        self.persist(record, Then::Inherited);
    }

    pub(super) fn inherited(&mut self) {
        self.drop_wish();
        self.promise_is_over();
        self.reason = Some(Refusal::new(
            "peer-left",
            format!(
                "{} was stopped in order, this node goes on",
                self.config.peer
            ),
            format!("start {} again", self.config.peer),
        ));
        self.enter(Phase::Alone);
        self.gate(Gate::Alone);
        self.flush(FlushFor::Alone);
        self.send(Control::LeaveHeard);
        self.tell_witness(false);
    }
}
