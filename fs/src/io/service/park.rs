//! Changes that wait: for the gate to open, or for the checkpoint that the hot limit demands. They
//! are kept in their owned form and hold no thread.

use super::super::names;
use super::{Finish, Service, Volume};
use std::sync::{Arc, PoisonError};
use tandem_repl::ids::OpSeq;
use tandem_repl::limits::MAX_PARKED;
use tandem_repl::logic::member::Gate;
use tandem_repl::op::Op;
use tandem_repl::wire::{FrameHeader, HEADER, Message, encode_op};

/// Bytes that parked changes may hold; beyond it a change is refused with `EAGAIN`.
const MAX_PARKED_BYTES: usize = 64 * 1024 * 1024;

/// Changes that wait.
#[derive(Default)]
pub(super) struct Parked {
    jobs: Vec<Box<dyn FnOnce() + Send>>,
    /// What they hold in memory.
    bytes: usize,
}

impl Service {
    /// Whether a change of so many bytes waits under this gate. For the hot limit only while there
    /// is room to wait: rather more travels after a crash than that a write fails.
    pub(super) fn holds(&self, gate: Gate, bytes: usize) -> bool {
        match gate {
            Gate::Frozen => true,
            Gate::Replicated => self.marks.is_full() && self.may_park(bytes),
            Gate::Alone | Gate::ReadOnly => false,
        }
    }

    /// Keeps an operation until the gate opens. One per waiting application thread.
    pub(super) fn park_op(
        self: &Arc<Self>,
        gate: Gate,
        (volume, op): (&Arc<Volume>, &Op<'_>),
        finish: Finish,
    ) -> Result<(), (Finish, i32)> {
        if !self.may_park(names::payload(op)) {
            return Err((finish, libc::EAGAIN));
        }
        // The frame is the operation's owned form.
        let mut frame = Vec::new();
        encode_op(&mut frame, volume.id, OpSeq(0), op);
        let (service, volume) = (self.clone(), volume.clone());
        self.park(gate, frame.len(), move || {
            let parts = frame.split_first_chunk::<HEADER>();
            let decoded = parts.and_then(|(head, body)| {
                FrameHeader::parse(head).and_then(|h| h.decode(body)).ok()
            });
            match decoded.map(|f| f.message) {
                Some(Message::Op { op, .. }) => match op.sync_part() {
                    Some(sync) => service.sync(&volume, &sync, finish),
                    None => service.change(&volume, &op, finish),
                },
                _ => finish(Err(libc::EIO)),
            }
        });
        Ok(())
    }

    pub(super) fn may_park(&self, bytes: usize) -> bool {
        let parked = self.parked.lock().unwrap_or_else(PoisonError::into_inner);
        parked.jobs.len() < MAX_PARKED && parked.bytes + bytes <= MAX_PARKED_BYTES
    }

    pub(super) fn park(&self, gate: Gate, bytes: usize, job: impl FnOnce() + Send + 'static) {
        let mut parked = self.parked.lock().unwrap_or_else(PoisonError::into_inner);
        parked.bytes += bytes;
        parked.jobs.push(Box::new(job));
        drop(parked);
        // The checkpoint may have ended since it was looked at.
        if gate == Gate::Replicated && !self.marks.is_full() {
            self.release();
        }
    }

    /// A checkpoint has ended: what waited for it goes on.
    pub(crate) fn go_on(&self) {
        let gate = self.gate();
        if *gate != Gate::Frozen {
            self.release();
        }
    }

    /// Does what waited; what must wait still is kept again.
    pub(super) fn release(&self) {
        let jobs = {
            let mut parked = self.parked.lock().unwrap_or_else(PoisonError::into_inner);
            std::mem::take(&mut *parked).jobs
        };
        for job in jobs {
            self.pool.run(job);
        }
    }
}
