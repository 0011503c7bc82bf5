//! The clean stop: drained, both flushed, left and clean on disk, told; the peer goes on in a set
//! of its own and answers; then this replica is stale. Without an answer it ends at the deadline,
//! bound by its promise not to serve alone.

use super::phase::{FlushFor, Leave, LeaveStep, Phase, Then};
use super::promote::moving;
use super::{Gate, Member, Output};
use crate::control::Refusal;
use crate::wire::Control;

impl Member {
    pub(super) fn on_stop(&mut self, token: u64) {
        self.wish.follow = false;
        if let Some(waiting) = self.wish.token.take() {
            let refusal = Refusal::new("stopping", "the node was told to stop", "start it again");
            self.resolve(waiting, Err(refusal));
        }
        match &mut self.phase {
            Phase::Wait | Phase::Follow(_) | Phase::Gone => {
                self.stop_following("");
                self.leave_gone_with(token);
            }
            Phase::Promote(promote) => {
                let waiting = promote.token;
                let refusal =
                    Refusal::new("stopping", "the node was told to stop", "start it again");
                self.resolve(waiting, Err(refusal));
                self.leave_gone_with(token);
            }
            Phase::Alone | Phase::Prim => self.begin_leave(token, true),
            Phase::Second => self.begin_leave(token, false),
            Phase::Shrink(shrink) if shrink.stop.is_none() => shrink.stop = Some(token),
            _ => self.resolve(token, Err(moving())),
        }
    }

    pub(super) fn begin_leave(&mut self, token: u64, served: bool) {
        self.abort_join("the node is being stopped");
        self.abort_checkpoint();
        self.enter(Phase::Leave(Leave {
            token,
            served,
            step: LeaveStep::Drain,
            flushed: (false, false),
            round: 0,
        }));
        self.gate(if served { Gate::Frozen } else { Gate::ReadOnly });
    }

    /// Goes on as far as it can.
    pub(super) fn leave_step(&mut self) {
        let Phase::Leave(mut leave) = self.phase else {
            return;
        };
        match leave.step {
            LeaveStep::Drain if self.acks.is_empty() && self.gating == 0 => {
                leave.step = LeaveStep::Flush;
                let ask = leave.served && self.two_in_set() && self.session.is_some();
                leave.flushed = (false, !ask);
                leave.round = self.next_round();
                self.phase = Phase::Leave(leave);
                self.since = self.now;
                if !self.config.rules.stop_flushes {
                    return self.leave_unflushed(leave);
                }
                if ask {
                    self.send(Control::CheckpointFlush(leave.round));
                }
                self.flush(FlushFor::Leave);
            }
            LeaveStep::Flush if leave.flushed == (true, true) && !leave.served => {
                // Nothing is applied from here on, so that "clean" holds.
                leave.step = LeaveStep::Still;
                leave.flushed.0 = false;
                self.phase = Phase::Leave(leave);
                self.flush(FlushFor::Leave);
            }
            LeaveStep::Flush | LeaveStep::Still if leave.flushed == (true, true) => {
                leave.step = LeaveStep::Record;
                self.phase = Phase::Leave(leave);
                let tell = self.met() && self.two_in_set();
                if tell && !self.config.rules.left_before_leave {
                    self.leave_tell();
                }
                let mut record = self.record.clone();
                record.clean = !self.flush_failed;
                record.left = tell && self.config.rules.left_before_leave;
                record.served = leave.served;
                self.persist(record, Then::Left);
            }
            _ => {}
        }
    }

    /// A stop without the rule that it flushes.
    fn leave_unflushed(&mut self, mut leave: Leave) {
        leave.step = LeaveStep::Still;
        leave.flushed = (true, true);
        self.phase = Phase::Leave(leave);
        self.leave_step();
    }

    pub(super) fn leave_flushed(&mut self) {
        if let Phase::Leave(leave) = &mut self.phase {
            leave.flushed.0 = true;
            self.leave_step();
        }
    }

    pub(super) fn left_written(&mut self) {
        let Phase::Leave(leave) = &mut self.phase else {
            return;
        };
        leave.step = LeaveStep::Tell;
        let token = leave.token;
        self.since = self.now;
        if !(self.met() && self.two_in_set()) {
            self.leave_end(token);
        } else if self.config.rules.left_before_leave {
            self.leave_tell();
        }
    }

    fn leave_tell(&mut self) {
        let record = Box::new(self.record.clone());
        self.send(Control::Leave(record));
    }

    /// The peer has gone on without this node.
    pub(super) fn on_leave_heard(&mut self) {
        if let Phase::Leave(leave) = &self.phase
            && leave.step == LeaveStep::Tell
        {
            let mut record = self.record.clone();
            record.stale = true;
            self.persist(record, Then::LeftStale);
        }
    }

    pub(super) fn leave_gone(&mut self) {
        if let Phase::Leave(leave) = &self.phase {
            let token = leave.token;
            self.leave_end(token);
        }
    }

    /// Everything is said, or nobody is there to hear it.
    pub(super) fn leave_end(&mut self, token: u64) {
        self.gate(Gate::ReadOnly);
        self.out.push(Output::CompleteAll);
        self.leave_gone_with(token);
    }

    pub(super) fn leave_gone_with(&mut self, token: u64) {
        self.phase = Phase::Gone;
        self.session = None;
        let why = "stopped by the operator".into();
        self.out.push(Output::CloseSession(why));
        self.resolve(token, Ok(()));
        self.out.push(Output::Exit);
    }

    /// What was written cannot be brought to the disk: the stop is refused.
    pub(super) fn leave_flush_failed(&mut self, why: &str) {
        let Phase::Leave(leave) = self.phase else {
            return;
        };
        if !leave.served {
            self.flush_failed = self.config.rules.failed_flush_counts;
            return self.spoil("flush-failed", &format!("flush: {why}"));
        }
        let refusal = Refusal::new(
            "flush-failed",
            format!("what was written could not be brought to the disk: {why}"),
            "mend the disk and repeat the command",
        );
        self.resolve(leave.token, Err(refusal));
        if self.two_in_set() {
            self.enter(Phase::Prim);
        } else {
            self.enter(Phase::Alone);
            self.gate(Gate::Alone);
        }
        self.on_local_failed(&format!("flush: {why}"));
    }

    /// A step takes longer than anybody may wait.
    pub(super) fn leave_tick(&mut self) {
        let Phase::Leave(leave) = self.phase else {
            return;
        };
        let waited = self.now.saturating_duration_since(self.since);
        match leave.step {
            LeaveStep::Tell if waited > self.config.stall_limit => self.leave_end(leave.token),
            LeaveStep::Flush if !leave.flushed.1 && waited > self.config.stall_limit => {
                self.eject_peer("peer-slow", "it did not flush within the stall limit");
            }
            LeaveStep::Drain if self.leased() && self.peer_is_late() => {
                self.eject_peer("peer-slow", "it did not answer within the stall limit");
            }
            LeaveStep::Drain => self.leave_step(),
            _ => {}
        }
    }
}
