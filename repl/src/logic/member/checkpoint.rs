//! Checkpoints: marks may be dropped once what they cover is on both disks (I6).
//!
//! A new generation begins; operations of the old ones are waited for; both nodes flush; the old
//! marks go, here and, because a node that was the source or the target of a resync has some too,
//! at the peer. All within one session with both in the set; whatever ends either ends the
//! checkpoint, and nothing is dropped.

use super::phase::{FlushFor, LeaveStep, Phase};
use super::{Duration, Instant, Member, OpSeq, Output, Pressure};
use crate::control::Refusal;
use crate::wire::Control;

/// While anything is marked a checkpoint begins so long after the last one.
const EVERY: Duration = Duration::from_secs(10);
/// And so long after the last change.
const QUIET: Duration = Duration::from_secs(1);

#[derive(Debug)]
pub(super) struct Checkpoints {
    running: Option<Checkpoint>,
    /// The last one ended, or the set grew.
    last: Instant,
    /// The peer may have marks from before it followed; they go with the next one, even if this
    /// node has marked nothing.
    owed: bool,
    pressure: Pressure,
    quiet_since: Option<Instant>,
}

#[derive(Debug)]
struct Checkpoint {
    round: u64,
    step: Step,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Step {
    Beginning,
    /// Until every operation up to this one is done on both nodes.
    Draining(OpSeq),
    /// Flushed here, there.
    Flushing(bool, bool),
    Dropping,
    /// Marks go as soon as a generation has begun: what growth must not do.
    Careless,
}

impl Checkpoints {
    pub(super) fn new(now: Instant) -> Self {
        Self {
            running: None,
            last: now,
            owed: false,
            pressure: Pressure::default(),
            quiet_since: None,
        }
    }

    fn is_careless(&self, round: u64) -> bool {
        let running = self.running.as_ref();
        running.is_some_and(|c| c.round == round && c.step == Step::Careless)
    }

    fn due(&self, now: Instant) -> bool {
        let since = |at: Instant| now.saturating_duration_since(at);
        let quiet = self.quiet_since.is_some_and(|at| since(at) >= QUIET);
        let late = since(self.last) >= EVERY;
        let wanted = self.pressure.marked || self.owed;
        self.running.is_none() && wanted && (self.pressure.urgent || late || quiet)
    }
}

impl Member {
    pub(super) fn on_pressure(&mut self, pressure: Pressure) {
        let now = self.now;
        let checkpoints = &mut self.checkpoints;
        checkpoints.pressure = pressure;
        if pressure.quiet {
            checkpoints.quiet_since.get_or_insert(now);
        } else {
            checkpoints.quiet_since = None;
        }
    }

    pub(super) fn checkpoint_restarts(&mut self) {
        self.checkpoints.running = None;
        self.checkpoints.last = self.now;
        self.checkpoints.owed = true;
    }

    pub(super) fn abort_checkpoint(&mut self) {
        self.checkpoints.running = None;
        self.flushes
            .retain(|_, purpose| *purpose != FlushFor::Checkpoint);
    }

    pub(super) fn checkpoint_tick(&mut self) {
        if self.phase != Phase::Prim || !self.met() {
            return;
        }
        if self.checkpoints.due(self.now) {
            let round = self.next_round();
            self.checkpoints.running = Some(Checkpoint {
                round,
                step: Step::Beginning,
            });
            self.out.push(Output::BeginCheckpoint(round));
        }
        self.checkpoint_drained();
    }

    pub(super) fn on_generation(&mut self, round: u64, seq: OpSeq) {
        if let Some(running) = &mut self.checkpoints.running
            && running.round == round
            && running.step == Step::Beginning
        {
            running.step = Step::Draining(seq);
            self.checkpoint_drained();
        } else if self.checkpoints.is_careless(round) {
            self.out.push(Output::DropMarks { round, warm: true });
        }
    }

    /// Growth without the rule that it drops no mark.
    pub(super) fn drop_marks_at_once(&mut self) {
        let round = self.next_round();
        let step = Step::Careless;
        self.checkpoints.running = Some(Checkpoint { round, step });
        self.out.push(Output::BeginCheckpoint(round));
    }

    fn checkpoint_drained(&mut self) {
        let waits = self.config.rules.checkpoint_waits;
        let Some(running) = &mut self.checkpoints.running else {
            return;
        };
        let Step::Draining(seq) = running.step else {
            return;
        };
        if waits && !self.acks.done_to(seq) {
            return;
        }
        let there = !self.config.rules.checkpoint_both_flush;
        running.step = Step::Flushing(false, there);
        let round = running.round;
        self.flush(FlushFor::Checkpoint);
        self.send(Control::CheckpointFlush(round));
    }

    pub(super) fn checkpoint_flushed(&mut self) {
        if let Some(running) = &mut self.checkpoints.running
            && let Step::Flushing(here, _) = &mut running.step
        {
            *here = true;
            self.checkpoint_drop();
        }
    }

    fn checkpoint_drop(&mut self) {
        if let Some(running) = &mut self.checkpoints.running
            && running.step == Step::Flushing(true, true)
        {
            running.step = Step::Dropping;
            let round = running.round;
            self.out.push(Output::DropMarks { round, warm: true });
            self.send(Control::CheckpointDone(round));
        }
    }

    /// The peer asks this node to flush: for its checkpoint, or before it stops.
    pub(super) fn on_checkpoint_flush(&mut self, number: u64) {
        if self.phase == Phase::Second {
            // Marks from before this node followed go with the checkpoint.
            self.out.push(Output::BeginCheckpoint(number));
        }
        self.flush(FlushFor::Peer(number));
    }

    pub(super) fn flushed_for_peer(&mut self, number: u64, result: Result<(), String>) {
        let said = result.clone().map_err(|why| super::bounded(&why));
        self.send(Control::CheckpointFlushed(number, said));
        if let Err(why) = result {
            self.on_local_failed(&format!("flush: {why}"));
        }
    }

    pub(super) fn on_peer_flushed(&mut self, number: u64, result: Result<(), String>) {
        if let Err(why) = &result {
            let leaving = matches!(&self.phase, Phase::Leave(leave) if leave.round == number);
            let running = self.checkpoints.running.as_ref();
            if leaving || running.is_some_and(|c| c.round == number) {
                let why = format!("it could not flush: {why}");
                self.eject_peer("peer-flush-failed", &why);
            }
            return;
        }
        if let Phase::Leave(leave) = &mut self.phase {
            if leave.round == number && leave.step == LeaveStep::Flush {
                leave.flushed.1 = true;
                self.leave_step();
            }
            return;
        }
        if let Some(running) = &mut self.checkpoints.running
            && running.round == number
            && let Step::Flushing(_, there) = &mut running.step
        {
            *there = true;
            self.checkpoint_drop();
        }
    }

    /// Both have flushed: this follower's own marks may go.
    pub(super) fn on_checkpoint_done(&mut self, number: u64) {
        if self.phase == Phase::Second {
            // It marks nothing while it follows, so nothing would be used again.
            let (round, warm) = (number, false);
            self.out.push(Output::DropMarks { round, warm });
        }
    }

    pub(super) fn on_dropped(&mut self, round: u64, result: Result<(), String>) {
        if self
            .checkpoints
            .running
            .as_ref()
            .is_some_and(|c| c.round == round)
        {
            self.checkpoints.running = None;
            self.checkpoints.last = self.now;
            self.checkpoints.owed &= result.is_err();
            // What was quiet before has just been flushed.
            self.checkpoints.quiet_since = None;
        }
        match result {
            Ok(()) => drop(self.notes.remove("dirty-map")),
            Err(why) => {
                let refusal = Refusal::new(
                    "dirty-map",
                    format!("marks could not be dropped: {why}"),
                    "repair the state directory; until then a resync compares more than it must",
                );
                self.notes.insert("dirty-map", refusal);
            }
        }
    }
}
