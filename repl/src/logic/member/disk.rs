//! The record and the disk: what is written and why, what its durability allows, and what happens
//! when it cannot be written or what was applied cannot be flushed.

use super::phase::{FlushFor, Follow, LeaveStep, Phase, Then};
use super::{Gate, Member, Output};
use crate::control::Refusal;
use crate::logic::record::Record;
use crate::wire::Control;

impl Member {
    /// Writes the record; nothing else is decided until it is durable, then `then`.
    pub(super) fn persist(&mut self, mut record: Record, then: Then) {
        assert!(self.writing.is_none(), "one record at a time");
        record.boot = self.boot;
        record.flush_failed = self.flush_failed;
        self.writing = Some((record.clone(), then));
        self.out.push(Output::Persist(Box::new(record)));
    }

    pub(super) fn on_persisted(&mut self, result: Result<(), String>) {
        let Some((record, then)) = self.writing.take() else {
            return;
        };
        if let Err(why) = result {
            return self.on_disk_failed(&why);
        }
        let news = record != self.record;
        self.record = record;
        if news && !matches!(then, Then::SwappedOut | Then::Left) {
            self.send_state();
        }
        match then {
            Then::Noted => {}
            Then::Voided => self.say(),
            Then::Listed => self.judge(),
            Then::Intent => self.intent_written(),
            Then::Promoted => self.promoted(),
            Then::Shrunk => self.shrunk(),
            Then::Inherited => self.inherited(),
            Then::Stale => self.stale_written(),
            Then::Told(new) => self.told_written(new),
            Then::TargetStale { round, keep_aside } => self.prepare(round, keep_aside),
            Then::Grown { frozen } => self.grown_written(frozen),
            Then::Adopted => self.adopted(),
            Then::Left => self.left_written(),
            Then::LeftStale => self.leave_gone(),
            Then::SwappedOut => self.swapped_out(),
            Then::SwappedIn => self.swapped_in(),
        }
    }

    /// This replica is not good: it waits for a resync, and says why.
    fn stale_written(&mut self) {
        if let Phase::Shrink(shrink) = &self.phase
            && let Some(token) = shrink.stop
        {
            // The peer has gone on without it already.
            return self.leave_gone_with(token);
        }
        if !matches!(self.phase, Phase::Wait) {
            self.stop_following("");
        }
        if self.idle() {
            self.fail_follow();
        }
        if self.met() {
            self.apply_verdict();
        }
    }

    /// The record cannot be written, and what is on disk is not known: nothing that needs it may
    /// happen, so this node serves nothing until it starts again.
    fn on_disk_failed(&mut self, why: &str) {
        let refusal = Refusal::new(
            "state-directory",
            format!("the record could not be written: {why}"),
            "repair the state directory and start the module again",
        );
        self.broken = true;
        let token = match &self.phase {
            Phase::Promote(promote) => Some(promote.token),
            Phase::Leave(leave) => Some(leave.token),
            Phase::Swap(swap) => swap.token,
            Phase::Shrink(shrink) => shrink.stop,
            _ => None,
        };
        for token in [token, self.swap_token.take()].into_iter().flatten() {
            self.resolve(token, Err(refusal.clone()));
        }
        self.abort_join("the record could not be written");
        self.abort_checkpoint();
        self.gate(Gate::ReadOnly);
        self.out.push(Output::FailAll);
        let why = "the record could not be written".into();
        self.out.push(Output::CloseSession(why));
        self.session = None;
        self.reason = Some(refusal);
        self.fail_follow();
        self.wish.follow = false;
        self.stop_following("");
    }

    pub(super) fn flush(&mut self, purpose: FlushFor) -> u64 {
        let round = self.next_round();
        self.flushes.insert(round, purpose);
        self.out.push(Output::Flush(round));
        round
    }

    pub(super) fn on_flushed(&mut self, round: u64, result: Result<(), String>) {
        let Some(purpose) = self.flushes.remove(&round) else {
            // Nobody waits for it any more, but what failed has failed.
            if let Err(why) = result {
                self.on_local_failed(&format!("flush: {why}"));
            }
            return;
        };
        let drops_marks = matches!(purpose, FlushFor::Peer(_) | FlushFor::Checkpoint);
        let result = if self.flush_failed && drops_marks {
            result.and(Err("an earlier flush failed".into()))
        } else {
            result
        };
        match (purpose, result) {
            (FlushFor::Peer(number), result) => self.flushed_for_peer(number, result),
            (FlushFor::Alone | FlushFor::Checkpoint, Err(why)) => {
                self.on_local_failed(&format!("flush: {why}"));
            }
            (FlushFor::Alone, Ok(())) => {}
            (FlushFor::Checkpoint, Ok(())) => self.checkpoint_flushed(),
            (FlushFor::Adopt, Ok(())) => self.adopt_flushed(),
            (FlushFor::Adopt, Err(why)) => self.on_local_failed(&format!("flush: {why}")),
            (FlushFor::Leave, Ok(())) => self.leave_flushed(),
            (FlushFor::Leave, Err(why)) => self.leave_flush_failed(&why),
        }
    }

    /// What the peer did could not be done here: this replica is not good until it is resynced.
    pub(super) fn on_apply_failed(&mut self, what: &str) {
        if self.applies() {
            let what = format!("an operation of {} failed here: {what}", self.config.peer);
            self.spoil("apply-failed", &what);
        }
    }

    /// This following node's replica is not good. It asks to be resynced again, in time.
    pub(super) fn spoil(&mut self, code: &str, what: &str) {
        if self.serves() || matches!(self.phase, Phase::Gone | Phase::Promote(_)) {
            return;
        }
        if let Phase::Leave(leave) = &self.phase {
            if leave.step == LeaveStep::Tell {
                return;
            }
            let token = leave.token;
            let refusal = Refusal::new(code, what, "mend the cause and repeat the command");
            self.resolve(token, Err(refusal));
        }
        if let Phase::Swap(_) = &self.phase {
            self.fail_swap(code, what);
        }
        if let Phase::Follow(Follow::Preparing { round } | Follow::Target { round }) = self.phase {
            self.out.push(Output::EndTarget { round });
            self.send(Control::TargetReady(round, Err(super::bounded(what))));
        }
        self.reason = Some(Refusal::new(
            code,
            what,
            "mend the cause; the node asks to be taken in again by itself",
        ));
        self.phase = Phase::Wait;
        self.since = self.now;
        let mut record = self.record.clone();
        record.stale = true;
        record.clean = false;
        self.persist(record, Then::Stale);
    }

    /// Something could not be brought to this node's disk. The kernel tells that once and calls the
    /// pages clean afterwards, so no flush proves anything any more (I6). Who serves with a current
    /// follower hands over: it calls itself stale durably, so that the follower is provably the
    /// newest (I3). Who serves alone does so when its follower is current again, at the first
    /// checkpoint.
    pub(super) fn on_local_failed(&mut self, what: &str) {
        let first = !self.flush_failed;
        self.flush_failed = self.config.rules.failed_flush_counts;
        let note = Refusal::new(
            "local-disk",
            format!("this node could not bring data to its disk: {what}"),
            "mend the disk; then let this replica be made anew with `tandem resync --everything`",
        );
        match &self.phase {
            Phase::Prim => {
                self.abort_checkpoint();
                self.gate(Gate::ReadOnly);
                self.out.push(Output::FailAll);
                self.reason = Some(note);
                self.phase = Phase::Wait;
                self.since = self.now;
                let mut record = self.record.clone();
                record.stale = true;
                record.clean = false;
                self.persist(record, Then::Stale);
            }
            Phase::Second | Phase::Follow(_) => self.spoil("flush-failed", what),
            Phase::Wait if self.two_in_set() && !self.record.stale => {
                self.spoil("flush-failed", what);
            }
            // Nothing better is known: it goes on, and says so.
            phase => {
                let idle = matches!(phase, Phase::Wait | Phase::Alone);
                self.notes.insert("local-disk", note);
                if idle && first {
                    self.persist(self.record.clone(), Then::Noted);
                }
            }
        }
    }

    pub(super) fn on_gated(&mut self) {
        self.gating = self.gating.saturating_sub(1);
        if self.gating > 0 {
            return;
        }
        match &self.phase {
            Phase::Leave(_) => self.leave_step(),
            Phase::Swap(_) => self.swap_step(),
            Phase::Alone => self.join_frozen(),
            _ => {}
        }
    }
}
