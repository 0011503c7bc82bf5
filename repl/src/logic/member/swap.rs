//! The roles change sides: drained, everything answered; the old server's record names a new
//! epoch in which it does not serve; then the new server's. A node that does not take its part
//! leaves an epoch that acknowledged nothing (V5a).

use super::phase::{Phase, Swap, SwapStep, Then};
use super::promote::moving;
use super::{Gate, Member, Output};
use crate::control::Refusal;
use crate::ids::Id128;
use crate::logic::record::Record;
use crate::wire::{Control, Reject};

impl Member {
    pub(super) fn on_swap(&mut self, token: u64) {
        match self.phase {
            Phase::Prim if self.met() => self.begin_swap(Some(token)),
            Phase::Second if self.met() && self.swap_token.is_none() => {
                self.swap_token = Some(token);
                self.swap_since = self.now;
                self.send(Control::SwapAsk);
            }
            Phase::Prim | Phase::Second => self.resolve(token, Err(moving())),
            _ => {
                let refusal = Refusal::new(
                    "not-in-sync",
                    "a swap needs both nodes in sync",
                    "see `tandem why` on both nodes",
                );
                self.resolve(token, Err(refusal));
            }
        }
    }

    pub(super) fn on_swap_ask(&mut self) {
        if self.phase == Phase::Prim {
            return self.begin_swap(None);
        }
        self.send(Control::SwapRefused(Reject {
            code: "moving".into(),
            reason: "the serving node is changing its role".into(),
        }));
    }

    fn begin_swap(&mut self, token: Option<u64>) {
        self.abort_checkpoint();
        self.enter(Phase::Swap(Swap {
            token,
            step: SwapStep::Drain,
        }));
        self.gate(Gate::Frozen);
    }

    /// Goes on when everything is answered.
    pub(super) fn swap_step(&mut self) {
        let Phase::Swap(mut swap) = self.phase else {
            return;
        };
        let waits = !self.acks.is_empty() || self.gating > 0;
        if swap.step != SwapStep::Drain || (waits && self.config.rules.swap_drains) {
            return;
        }
        swap.step = SwapStep::Record;
        self.phase = Phase::Swap(swap);
        let mut record = if self.config.rules.epoch_at_swap {
            let (id, volume, set) = (self.new_id(), self.record.volume, self.both());
            self.record.next_epoch(id, volume, set)
        } else {
            self.record.clone()
        };
        record.served = false;
        self.persist(record, Then::SwappedOut);
    }

    /// This node serves no more.
    pub(super) fn swapped_out(&mut self) {
        let Phase::Swap(swap) = &mut self.phase else {
            return;
        };
        swap.step = SwapStep::Tell;
        self.since = self.now;
        self.lease_ends();
        self.gate(Gate::ReadOnly);
        let record = Box::new(self.record.clone());
        let position = self.acks.last();
        self.send(Control::Swap { record, position });
    }

    /// The old server handed over: everything it answered is applied here.
    pub(super) fn on_swap_here(&mut self, record: Record) {
        // A node that leaves, or does not follow any more, lets the old server's wait end.
        let leaves = matches!(self.phase, Phase::Leave(_));
        let takes = leaves && !self.config.rules.leaving_ignores_swap;
        if self.phase != Phase::Second && !takes {
            return;
        }
        let mine = self.record.epoch_id();
        let follows =
            record.epoch_id() == mine || mine.is_some_and(|id| record.ended.contains(&id));
        let both = record.set_has(&self.config.local) && record.set_has(&self.config.peer);
        if !follows || !both {
            return self.drop_peer("protocol", "a swap to an epoch that does not follow");
        }
        let mut record = self.adopted_record(&record);
        record.served = true;
        self.persist(record, Then::SwappedIn);
    }

    pub(super) fn swapped_in(&mut self) {
        self.drop_wish();
        self.reason = None;
        self.promise_is_over();
        self.lease_ends();
        self.backoff.good = Some(self.now);
        self.checkpoint_restarts();
        self.flushes.clear();
        if let Some(id) = self.record.epoch_id() {
            self.send(Control::Swapped(id));
        }
        self.enter(Phase::Swap(Swap {
            token: None,
            step: SwapStep::Lease,
        }));
        if self.config.rules.lease && self.config.rules.swap_waits_for_lease {
            self.ask_lease();
        } else {
            self.swap_leased();
        }
    }

    /// The old server follows. The handover may have been read late, by a node that was stopped for
    /// a while; without this it would let applications read what is old by now.
    pub(super) fn swap_leased(&mut self) {
        self.enter(Phase::Prim);
        self.gate(Gate::Replicated);
        if let Some(token) = self.swap_token.take() {
            self.resolve(token, Ok(()));
        }
    }

    pub(super) fn on_swapped(&mut self, id: Id128) {
        let Phase::Swap(swap) = self.phase else {
            return;
        };
        if swap.step != SwapStep::Tell || self.record.epoch_id() != Some(id) {
            return;
        }
        self.wish.follow = true;
        self.reason = None;
        self.promise();
        self.enter(Phase::Second);
        if let Some(token) = swap.token {
            self.resolve(token, Ok(()));
        }
    }

    pub(super) fn on_swap_refused(&mut self, reject: Reject) {
        if let Some(token) = self.swap_token.take() {
            let remedy = "see `tandem why` on both nodes";
            let refusal = Refusal::new(&reject.code, reject.reason, remedy);
            self.resolve(token, Err(refusal));
        }
    }

    /// Tells whoever asked; where the node goes from here is the caller's.
    pub(super) fn fail_swap(&mut self, code: &str, why: &str) {
        let Phase::Swap(swap) = self.phase else {
            return;
        };
        let refusal = Refusal::new(code, format!("the swap was given up: {why}"), "repeat it");
        match swap.token {
            Some(token) => self.resolve(token, Err(refusal)),
            None if self.session.is_some() => {
                let reject = Reject {
                    code: code.into(),
                    reason: super::bounded(&refusal.reason),
                };
                self.send(Control::SwapRefused(reject));
            }
            None => {}
        }
    }

    pub(super) fn swap_tick(&mut self) {
        let limit = self.config.stall_limit;
        if self.swap_token.is_some() {
            let waited = self.now.saturating_duration_since(self.swap_since);
            if waited > limit * 2 {
                let why = "the serving node did not answer".into();
                let code = "peer-silent".into();
                self.on_swap_refused(Reject { code, reason: why });
            }
        }
        let Phase::Swap(swap) = self.phase else {
            return;
        };
        let waited = self.now.saturating_duration_since(self.since);
        match swap.step {
            SwapStep::Drain if self.peer_is_late() => {
                self.eject_peer("peer-slow", "it did not answer within the stall limit");
            }
            SwapStep::Drain if waited > limit / 3 => {
                self.fail_swap("busy", "what is being written takes too long");
                self.enter(Phase::Prim);
                self.gate(Gate::Replicated);
            }
            SwapStep::Drain => self.swap_step(),
            SwapStep::Tell | SwapStep::Lease if waited > limit => {
                self.out
                    .push(Output::CloseSession("a swap without an answer".into()));
                self.lose_session("peer-lost", "it did not answer the swap");
            }
            _ => {}
        }
    }
}
