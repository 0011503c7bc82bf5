//! The way of a resync's requests to the target, and of the replies back.

use super::Shared;
use crate::logic::resync::messages::{Reply, Request};
use crate::logic::resync::{Gone, Pipe, Ticket};
use crate::wire::encode_request;
use bytes::Bytes;
use std::collections::HashMap;
use std::sync::atomic::Ordering;
use std::sync::{Arc, Condvar, Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

/// Bytes of requests without a reply.
const WINDOW: usize = 16 * 1024 * 1024;
/// Requests without a reply.
const MAX_ASKED: usize = 2048;
/// How often who waits for room looks whether the session still is.
const LOOK: Duration = Duration::from_millis(150);

/// Requests and replies of one session.
#[derive(Default)]
pub(super) struct Exchange {
    state: Mutex<Asked>,
    changed: Condvar,
}

#[derive(Default)]
struct Asked {
    next: u64,
    /// Sizes of requests without a reply.
    open: HashMap<u64, usize>,
    bytes: usize,
    replies: HashMap<u64, Reply>,
    gone: bool,
}

impl Exchange {
    fn lock(&self) -> MutexGuard<'_, Asked> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    pub(super) fn arrived(&self, number: u64, reply: Reply) {
        let mut state = self.lock();
        if let Some(size) = state.open.remove(&number) {
            state.bytes -= size;
            state.replies.insert(number, reply);
            self.changed.notify_all();
        }
    }

    /// Requests that wait for their reply.
    pub(super) fn open(&self) -> usize {
        self.lock().open.len()
    }

    pub(super) fn close(&self) {
        self.lock().gone = true;
        self.changed.notify_all();
    }

    fn wait<'a>(&self, state: MutexGuard<'a, Asked>) -> MutexGuard<'a, Asked> {
        let waited = self.changed.wait(state);
        waited.unwrap_or_else(PoisonError::into_inner)
    }
}

/// The link as the engine's way to the target. It blocks its thread instead of yielding.
pub(super) struct Wire {
    pub(super) shared: Arc<Shared>,
    pub(super) session: u64,
    pub(super) exchange: Arc<Exchange>,
}

impl Pipe for Wire {
    async fn send(&self, request: Request) -> Result<Ticket, Gone> {
        let mut state = self.exchange.lock();
        while !state.gone && (state.bytes >= WINDOW || state.open.len() >= MAX_ASKED) {
            state = self.exchange.wait(state);
        }
        if state.gone {
            return Err(Gone);
        }
        let number = state.next;
        state.next += 1;
        let mut out = Vec::new();
        encode_request(&mut out, number, &request);
        state.open.insert(number, out.len());
        state.bytes += out.len();
        drop(state);
        self.shared.put(self.session, out)?;
        Ok(Ticket(number))
    }

    async fn reply(&self, ticket: Ticket) -> Result<Reply, Gone> {
        let mut state = self.exchange.lock();
        loop {
            if let Some(reply) = state.replies.remove(&ticket.0) {
                return Ok(reply);
            }
            if state.gone {
                return Err(Gone);
            }
            state = self.exchange.wait(state);
        }
    }
}

impl Shared {
    /// Puts whole frames on the stream of a session, waiting for room.
    fn put(&self, session: u64, frames: Vec<u8>) -> Result<(), Gone> {
        let mut core = self.lock();
        while core.session == session && core.greeted && core.link.is_full() {
            let waited = self.room.wait_timeout(core, LOOK);
            core = waited.unwrap_or_else(PoisonError::into_inner).0;
        }
        if core.session != session || !core.greeted {
            return Err(Gone);
        }
        let sent = frames.len() as u64;
        self.metrics.sent.fetch_add(sent, Ordering::Relaxed);
        core.link.write(Bytes::from(frames));
        core.link.flush(Instant::now());
        Ok(())
    }
}
