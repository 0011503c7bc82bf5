//! Putting operations on the stream.

use super::super::clock;
use super::{Completion, Core, Driver, Shared};
use crate::ids::{DirId, FileId, OpSeq};
use crate::limits::MAX_PENDING;
use crate::op::Op;
use crate::wire::encode_op;
use bytes::Bytes;
use std::sync::atomic::Ordering;
use std::sync::mpsc::channel;
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
        if let Some(mut core) = shared.ship_locked(core, size, build, done) {
            core.link.flush(now);
            shared.busy.store(true, Ordering::Relaxed);
        }
    }

    /// Asks the peer for bytes of a file as they are at this point of the stream. `build` is as in
    /// [`Driver::ship`] and puts an [`Op::Fetch`] on it. Waits at most the stall limit.
    ///
    /// # Errors
    /// There is no peer, it cannot read them either, or it did not answer.
    pub fn fetch(&self, build: impl FnOnce(&mut Shipment<'_>) -> bool) -> Result<Vec<u8>, i32> {
        let (sender, receiver) = channel();
        let shared = &self.shared;
        let mut seq = OpSeq(0);
        let build = |shipment: &mut Shipment<'_>| {
            seq = shipment.seq;
            build(shipment)
        };
        let Some(mut core) = shared.ship_locked(shared.lock(), 0, build, Box::new(|_| {})) else {
            return Err(libc::EIO);
        };
        core.fetches.insert(seq, sender);
        core.link.flush(Instant::now());
        drop(core);
        shared.busy.store(true, Ordering::Relaxed);
        let fetched = receiver.recv_timeout(shared.stall_limit);
        shared.lock().fetches.remove(&seq);
        fetched.map_err(|_| libc::EIO)
    }

    /// As [`Driver::ship`] for small things that nobody waits for: never waits for room, and leaves
    /// with the next packet or [`Driver::flush`].
    pub fn ship_later(&self, build: impl FnOnce(&mut Shipment<'_>) -> bool) {
        let core = self.shared.lock();
        drop(self.shared.ship_locked(core, 0, build, Box::new(|_| {})));
    }

    /// Sends what is waiting to be sent.
    pub fn flush(&self) {
        self.shared.lock().link.flush(Instant::now());
        self.shared.busy.store(true, Ordering::Relaxed);
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
    /// Puts the frames on the stream, unsent; the core comes back unless there were none.
    fn ship_locked<'a>(
        &self,
        mut core: MutexGuard<'a, Core>,
        size: usize,
        build: impl FnOnce(&mut Shipment<'_>) -> bool,
        done: Completion,
    ) -> Option<MutexGuard<'a, Core>> {
        let mut out = Vec::with_capacity(size + 256);
        let seq = core.member.acks.issue(clock::now());
        let session = core.session;
        if !build(&mut Shipment {
            out: &mut out,
            seq,
            session,
        }) {
            core.member.acks.acknowledge(seq, 0);
            drop(core);
            done(Ok(()));
            return None;
        }
        core.completions.insert(seq, done);
        self.metrics
            .sent
            .fetch_add(out.len() as u64, Ordering::Relaxed);
        core.link.write(Bytes::from(out));
        Some(core)
    }
}
