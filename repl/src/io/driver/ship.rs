//! Putting operations on the stream.

use super::{Completion, Core, Driver, Shared};
use crate::ids::{DirId, FileId, OpSeq};
use crate::limits::MAX_PENDING;
use crate::op::Op;
use crate::wire::encode_op;
use bytes::Bytes;
use std::sync::atomic::Ordering;
use std::sync::{MutexGuard, PoisonError};
use std::time::Instant;

/// Frames of one operation under construction, in stream order.
pub struct Shipment<'a> {
    out: &'a mut Vec<u8>,
    seq: OpSeq,
    session: u64,
}

impl Shipment<'_> {
    /// Number of the session the frames belong to.
    pub fn session(&self) -> u64 {
        self.session
    }

    /// Tells the peer where a file is.
    pub fn bind(&mut self, dir: DirId, id: FileId, parent: FileId, name: &[u8]) {
        let op = Op::Bind { id, parent, name };
        encode_op(self.out, dir, OpSeq(0), &op);
    }

    /// The operation itself; once per shipment.
    pub fn op(&mut self, dir: DirId, op: &Op<'_>) {
        encode_op(self.out, dir, self.seq, op);
    }
}

impl Driver {
    /// Puts an operation that was applied here on the stream. The caller holds its gate, and
    /// whatever orders the operation among others; `done` is called from another thread. If
    /// `build` returns false nothing is sent and the operation is answered at once: it concerns
    /// this node alone.
    ///
    /// Waits while the peer is too far behind, at most the stall limit.
    pub fn ship(
        &self,
        size: usize,
        build: impl FnOnce(&mut Shipment<'_>) -> bool,
        done: Completion,
    ) {
        let shared = &self.shared;
        let mut core = shared.lock();
        let mut now = Instant::now();
        let limit = now + shared.stall_limit;
        while now < limit && (core.link.is_full() || core.member.acks.len() >= MAX_PENDING) {
            let waited = shared.room.wait_timeout(core, limit - now);
            core = waited.unwrap_or_else(PoisonError::into_inner).0;
            now = Instant::now();
        }
        shared.ship_locked(core, size, build, done);
    }

    /// As [`Driver::ship`] for the director and for small things: never waits for room.
    pub fn ship_now(&self, build: impl FnOnce(&mut Shipment<'_>) -> bool) {
        self.shared
            .ship_locked(self.shared.lock(), 0, build, Box::new(|_| {}));
    }

    /// Puts frames that nobody waits for on the stream; they leave with the next packet. A peer
    /// that is far behind does not get them.
    pub fn post(&self, build: impl FnOnce(&mut Shipment<'_>)) {
        let mut out = Vec::with_capacity(64);
        let mut core = self.shared.lock();
        if core.link.is_full() {
            return;
        }
        build(&mut Shipment {
            out: &mut out,
            seq: OpSeq(0),
            session: core.session,
        });
        if !out.is_empty() {
            core.link.write(Bytes::from(out));
        }
    }
}

impl Shared {
    fn ship_locked(
        &self,
        mut core: MutexGuard<'_, Core>,
        size: usize,
        build: impl FnOnce(&mut Shipment<'_>) -> bool,
        done: Completion,
    ) {
        let now = Instant::now();
        let mut out = Vec::with_capacity(size + 256);
        let seq = core.member.acks.issue(now);
        let session = core.session;
        if !build(&mut Shipment {
            out: &mut out,
            seq,
            session,
        }) {
            core.member.acks.acknowledge(seq, 0);
            drop(core);
            return done(Ok(()));
        }
        core.completions.insert(seq, done);
        self.metrics
            .sent
            .fetch_add(out.len() as u64, Ordering::Relaxed);
        core.link.write(Bytes::from(out));
        core.link.flush(now);
        self.busy.store(true, Ordering::Relaxed);
    }
}
