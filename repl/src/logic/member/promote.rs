//! From waiting to serving alone: eligibility, the promised lease, the intent, the question,
//! eligibility again, the record (design 5: "shrink, promote").
//!
//! Where the peer answers, it is asked instead of the witness: the verdict must name this node the
//! source, and the peer must call itself stale, durably, before this node begins.

use super::phase::{FlushFor, Phase, Promote, PromoteStep, Then, Told};
use super::{Gate, Member, Output};
use crate::control::Refusal;
use crate::logic::verdict::{Block, May, Outcome, Rule, Witness};
use crate::wire::Control;

impl Member {
    pub(super) fn on_prim(&mut self, token: u64, force: bool) {
        if self.serves() {
            return self.resolve(token, Ok(()));
        }
        if let Some(refusal) = self.prim_refused() {
            return self.resolve(token, Err(refusal));
        }
        let promote = Promote {
            token,
            force,
            step: PromoteStep::Meeting,
            ask: self.new_ask(),
        };
        self.enter(Phase::Promote(promote));
        self.promote_step();
    }

    fn prim_refused(&self) -> Option<Refusal> {
        if self.broken {
            return self.reason.clone();
        }
        if self.phase == Phase::Wait {
            return None;
        }
        if self.peer_serves() {
            return Some(self.peer_serves_refusal());
        }
        Some(moving())
    }

    fn peer_serves_refusal(&self) -> Refusal {
        let peer = &self.config.peer;
        Refusal::new(
            "peer-serves",
            format!("{peer} serves"),
            format!("run `tandem swap`, or `tandem stop` on {peer} first"),
        )
    }

    /// Goes on with the promotion, whatever changed.
    pub(super) fn promote_step(&mut self) {
        let Phase::Promote(mut promote) = self.phase.clone() else {
            return;
        };
        match promote.step {
            PromoteStep::Record => return,
            PromoteStep::Asking => return self.promote_answered(),
            _ => {}
        }
        if self.record.ended.contains(&promote.ask.new) {
            // An id that was given up never names an epoch.
            promote.ask = self.new_ask();
            self.phase = Phase::Promote(promote.clone());
        }
        let Some(session) = &self.session else {
            return self.promote_alone(promote);
        };
        if session.met {
            return self.promote_met(promote);
        }
        if session.verdict.is_some() && session.theirs.is_some() {
            // Both said what they think, and differ.
            let refusal = self.reason.clone().unwrap_or_else(moving);
            self.promote_or_refuse(promote, refusal);
        }
    }

    /// The peer answers: it is asked, not the witness.
    fn promote_met(&mut self, promote: Promote) {
        if self.peer_serves() {
            let refusal = self.peer_serves_refusal();
            return self.promote_refused(refusal);
        }
        let Some(verdict) = self.verdict_now() else {
            return;
        };
        if self.is_promised() {
            return self.promote_later(promote);
        }
        match verdict.outcome {
            Outcome::Refuse(_) if verdict.rule == Rule::V2 => self.promote_go(promote, false),
            Outcome::Refuse(block) => self.promote_or_refuse(promote, block.into()),
            Outcome::Source { node, .. } if node != self.config.local => {
                let refusal = self.not_source(verdict.rule);
                self.promote_or_refuse(promote, refusal);
            }
            Outcome::Source { .. } => self.promote_as_source(promote, verdict.rule),
        }
    }

    fn promote_as_source(&mut self, mut promote: Promote, rule: Rule) {
        let Some(session) = &self.session else { return };
        let peer = &session.peer_record;
        if peer.stale || peer.epoch.is_none() {
            return self.promote_go(promote, false);
        }
        match peer.epoch_id() {
            Some(parent) if matches!(rule, Rule::V3 | Rule::V4) => {
                let new = promote.ask.new;
                promote.step = PromoteStep::Asking;
                promote.ask.told = Told::Waiting;
                self.enter(Phase::Promote(promote));
                self.send(Control::ToldStale { parent, new });
            }
            // It is the target by the verdict and records that without being told.
            _ if promote.step == PromoteStep::PeerStale => {}
            _ => {
                promote.step = PromoteStep::PeerStale;
                self.enter(Phase::Promote(promote));
            }
        }
    }

    /// The promise is waited out.
    fn promote_later(&mut self, mut promote: Promote) {
        if promote.step != PromoteStep::Lease {
            promote.step = PromoteStep::Lease;
            self.enter(Phase::Promote(promote));
        }
    }

    /// Nobody answers: the witness, or what else is known.
    fn promote_alone(&mut self, mut promote: Promote) {
        let known = self.peer_last.as_ref().is_some_and(|r| r.epoch.is_some());
        if self.record.epoch.is_none() && (known || !self.config.by_hand) && !promote.force {
            // A volume begins by an operator's word, or where both nodes say that they have none.
            let refusal = if known {
                self.not_source(Rule::V2)
            } else {
                self.idle_reason()
            };
            return self.promote_refused(refusal);
        }
        let may = self.may_serve(Witness::NotAsked);
        if let (May::Wait(block), false) = (&may, promote.force) {
            return self.promote_refused(block.clone().into());
        }
        if self.is_promised() {
            return self.promote_later(promote);
        }
        match may {
            May::Wait(_) => self.promote_go(promote, true),
            May::Serve => self.promote_go(promote, false),
            May::Ask => {
                let two = self.record.set_size() > 1;
                if let (false, Some(id)) = (two, self.record.epoch_id()) {
                    // Not a new epoch: whether the witness knows another one.
                    promote.ask.new = id;
                }
                promote.step = PromoteStep::Asking;
                let new = promote.ask.new;
                self.enter(Phase::Promote(promote));
                if two {
                    self.intend(new);
                } else {
                    self.ask_witness();
                }
            }
        }
    }

    /// An answer came: eligibility is judged again with it (I4).
    pub(super) fn promote_answered(&mut self) {
        let Phase::Promote(promote) = self.phase.clone() else {
            return;
        };
        match promote.ask.told {
            Told::Yes => return self.promote_go(promote, false),
            Told::Waiting => return,
            Told::No => {}
        }
        match self.may_serve(promote.ask.witness) {
            May::Serve => self.promote_go(promote, false),
            May::Ask => {}
            May::Wait(block) => {
                if self.refusal_spoils(promote.ask.witness) {
                    return;
                }
                self.promote_or_refuse(promote, block.into());
            }
        }
    }

    /// What a refusal would do without the rule that it changes nothing.
    pub(super) fn refusal_spoils(&mut self, witness: Witness) -> bool {
        let refused = matches!(witness, Witness::Refused(_));
        if self.config.rules.refusal_changes_nothing || !refused {
            return false;
        }
        if let Phase::Promote(promote) = &self.phase {
            let token = promote.token;
            self.resolve(token, Err(moving()));
        }
        self.gate(Gate::ReadOnly);
        self.out.push(Output::FailAll);
        self.phase = Phase::Wait;
        let mut record = self.record.clone();
        record.stale = true;
        self.persist(record, Then::Stale);
        true
    }

    fn promote_or_refuse(&mut self, promote: Promote, refusal: Refusal) {
        if promote.force {
            self.promote_go(promote, true);
        } else {
            self.promote_refused(refusal);
        }
    }

    pub(super) fn promote_refused(&mut self, refusal: Refusal) {
        if let Phase::Promote(promote) = &self.phase {
            let token = promote.token;
            self.resolve(token, Err(refusal.clone()));
        }
        self.enter(Phase::Wait);
        // What the verdict asks of a node that waits was put off.
        self.apply_verdict();
        self.reason = Some(refusal);
    }

    /// Writes the record of the epoch to be. `forced`: what the peer has and this node lacks is
    /// given up; it is kept aside when the two meet, because this node counts as lost.
    pub(super) fn promote_go(&mut self, mut promote: Promote, forced: bool) {
        let mine = self.record.set_size() == 1 && self.record.set_has(&self.config.local);
        let good = !self.record.stale && !self.record.left;
        let set = vec![self.config.local.clone()];
        let record = if mine && good && !forced {
            let mut same = self.record.clone();
            same.clean = false;
            same.served = true;
            same
        } else {
            let volume = self.fresh.0[1];
            let id = self.not_given_up(promote.ask.new);
            let mut next = self.record.next_epoch(id, volume, set);
            next.lost |= forced && self.record.epoch.is_some();
            next
        };
        promote.step = PromoteStep::Record;
        promote.force = forced;
        self.phase = Phase::Promote(promote);
        self.persist(record, Then::Promoted);
    }

    pub(super) fn promoted(&mut self) {
        let Phase::Promote(promote) = self.phase.clone() else {
            return;
        };
        self.drop_wish();
        self.lease_ends();
        self.reason = None;
        if promote.force {
            self.notes.insert("forced", self.forced());
        }
        self.enter(Phase::Alone);
        self.gate(Gate::Alone);
        self.flush(FlushFor::Alone);
        self.resolve(promote.token, Ok(()));
        self.tell_witness(promote.force);
    }

    fn forced(&self) -> Refusal {
        let peer = &self.config.peer;
        Refusal::new(
            "forced",
            format!("the operator made this node serve; what only {peer} has is given up"),
            format!("bring {peer} back: what differs there is kept aside and listed"),
        )
    }

    /// Why the verdict does not name this node.
    fn not_source(&self, rule: Rule) -> Refusal {
        let peer = &self.config.peer;
        let (code, reason) = match rule {
            Rule::V2 => (
                "fresh",
                format!("this node never held the data, {peer} does"),
            ),
            Rule::V3 | Rule::V4 if !self.record.stale => (
                "peer-first",
                format!("by their records {peer} is to serve first"),
            ),
            _ => (
                "stale",
                format!("{peer} holds acknowledged writes that this replica lacks, or may"),
            ),
        };
        let block = Block {
            code: code.into(),
            reason,
            remedy: format!(
                "run `tandem prim` on {peer}; `tandem prim --force` here gives those writes up"
            ),
        };
        block.into()
    }
}

pub(super) fn moving() -> Refusal {
    Refusal::new(
        "moving",
        "the node is changing its role",
        "repeat the command in a moment",
    )
}
