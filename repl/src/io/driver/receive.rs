//! Receiving: packets to frames, acknowledgements to answers, operations to the tree.

use super::super::clock;
use super::super::link::LinkEvent;
use super::{Completion, Core, Event, Shared};
use crate::ids::{DirId, OpSeq};
use crate::logic::acks::AckOutcome;
use crate::logic::member::Input;
use crate::logic::resync::messages::Reply;
use crate::op::{DIFFERS, Op};
use crate::wire::{FrameHeader, HEADER, Message, WireError, encode_ack, encode_data, encode_reply};
use bytes::Bytes;
use std::io;
use std::sync::atomic::Ordering;
use std::time::Instant;

/// What one lock of the core took out of it.
pub(super) struct Batch {
    session: u64,
    /// Whole frames, in order.
    frames: Vec<u8>,
    events: Vec<Event>,
}

/// A sync of the peer's that waits for a thread.
pub(super) struct SyncJob {
    session: u64,
    seq: OpSeq,
    dir: DirId,
    op: Op<'static>,
}

/// Cuts whole frames off the front.
fn take_frames(rx: &mut Vec<u8>) -> Result<Vec<u8>, WireError> {
    let mut end = 0;
    while let Some(head) = rx[end..].first_chunk::<HEADER>() {
        let next = end + HEADER + FrameHeader::parse(head)?.body_len;
        if next > rx.len() {
            break;
        }
        end = next;
    }
    if end == rx.len() {
        return Ok(std::mem::take(rx));
    }
    let rest = rx.split_off(end);
    Ok(std::mem::replace(rx, rest))
}

impl Shared {
    /// Turns link events into news for the director; stream bytes are kept. Under the core's lock.
    pub(super) fn absorb(&self, core: &mut Core, link_events: Vec<LinkEvent>) -> Vec<Event> {
        let mut events = Vec::new();
        for event in link_events {
            match event {
                LinkEvent::Up => {
                    core.session += 1;
                    core.greeted = false;
                    let hello = self.hello(&core.member);
                    self.send_control(core, &hello);
                }
                LinkEvent::Down(why) => {
                    core.greeted = false;
                    // Nobody will answer these any more, and the gate waits for who asked.
                    core.fetches.clear();
                    if let Some(exchange) = core.exchange.take() {
                        exchange.close();
                    }
                    events.push(Event::Down(core.session, why));
                }
            }
        }
        events
    }

    /// As [`Self::absorb`], and the whole frames that have arrived.
    pub(super) fn absorb_frames(&self, core: &mut Core, link_events: Vec<LinkEvent>) -> Batch {
        let mut events = self.absorb(core, link_events);
        let frames = take_frames(&mut core.rx).unwrap_or_else(|e| {
            events.push(self.violation(core, &e.to_string()));
            Vec::new()
        });
        Batch {
            session: core.session,
            frames,
            events,
        }
    }

    /// The peer broke the protocol: the session ends, the daemon goes on.
    fn violation(&self, core: &mut Core, why: &str) -> Event {
        core.rx.clear();
        core.greeted = false;
        core.link.close(Instant::now(), why);
        Event::Down(core.session, why.to_string())
    }

    /// Acts on a batch without the core's lock; returns the syncs in it.
    pub(super) fn dispatch(&self, batch: Batch) -> Vec<SyncJob> {
        for event in batch.events {
            self.tell(event);
        }
        let mut replies = Vec::new();
        let mut syncs = Vec::new();
        let mut rest = &batch.frames[..];
        while let Some(head) = rest.first_chunk::<HEADER>() {
            let handled = FrameHeader::parse(head).and_then(|header| {
                let (frame, tail) = rest.split_at(HEADER + header.body_len);
                rest = tail;
                self.handle_frame(batch.session, frame, &mut replies, &mut syncs)
            });
            if let Err(e) = handled {
                let event = self.violation(&mut self.lock(), &e.to_string());
                self.tell(event);
                return Vec::new();
            }
        }
        if !replies.is_empty() {
            let mut core = self.lock();
            if core.session == batch.session {
                core.link.write(Bytes::from(replies));
                core.link.flush(Instant::now());
            }
        }
        syncs
    }

    fn handle_frame(
        &self,
        session: u64,
        frame: &[u8],
        replies: &mut Vec<u8>,
        syncs: &mut Vec<SyncJob>,
    ) -> Result<(), WireError> {
        let (head, body) = frame
            .split_first_chunk::<HEADER>()
            .ok_or(WireError::Short)?;
        let decoded = FrameHeader::parse(head)?.decode(body)?;
        match decoded.message {
            Message::Ack { errno } => {
                if let Some(done) = self.acknowledged(session, decoded.seq, errno) {
                    done(Ok(()));
                }
            }
            Message::Data(data) => self.fetched(session, decoded.seq, data),
            Message::Control(control) => self.tell(Event::Control(session, control)),
            Message::Op { dir, op } => {
                let _held = self.apply_lock();
                if !self.applying.load(Ordering::Acquire) {
                    return Ok(());
                }
                if op.is_question() {
                    self.answer_question(decoded.seq, dir, &op, replies);
                    return Ok(());
                }
                let errno = self.apply(
                    &op,
                    || self.tree.apply(dir, &op),
                    |_, what| Event::ApplyFailed(session, what),
                );
                match op.sync_part() {
                    Some(op) if errno == 0 => {
                        syncs.push(SyncJob {
                            session,
                            seq: decoded.seq,
                            dir,
                            op,
                        });
                    }
                    _ if op.is_acknowledged() => encode_ack(replies, decoded.seq, errno),
                    _ => {}
                }
            }
            // No resync runs in this driver yet, so nobody asked.
            Message::Request(request) => {
                let number = decoded.seq.0;
                if !self.desk.push(session, number, request) {
                    let what = "no resync was agreed".to_string();
                    let errno = libc::ENOTCONN;
                    encode_reply(replies, number, &Reply::Failed { errno, what });
                }
            }
            Message::Reply(reply) => {
                let exchange = self.lock().exchange.clone();
                if let Some(exchange) = exchange {
                    exchange.arrived(decoded.seq.0, *reply);
                }
            }
        }
        Ok(())
    }

    /// The tree is looked at here, between what came before on the stream and what comes after. A
    /// question that cannot be answered changes nothing and ends nothing.
    fn answer_question(&self, seq: OpSeq, dir: DirId, op: &Op<'_>, replies: &mut Vec<u8>) {
        match op {
            Op::Fetch { .. } => match self.tree.fetch(dir, op) {
                Ok(data) => encode_data(replies, seq, &data),
                Err(errno) => {
                    tracing::warn!("{} for the peer: errno {errno}", op.describe());
                    encode_ack(replies, seq, DIFFERS);
                }
            },
            _ => {
                let same = self.tree.check(dir, op).unwrap_or_else(|errno| {
                    tracing::warn!("{} with the peer: errno {errno}", op.describe());
                    false
                });
                encode_ack(replies, seq, if same { 0 } else { DIFFERS });
            }
        }
    }

    fn fetched(&self, session: u64, seq: OpSeq, data: &[u8]) {
        let waiter = self.lock().fetches.remove(&seq);
        if let Some(waiter) = waiter {
            // Who asked may have given up.
            let _ = waiter.send(data.to_vec());
        }
        if let Some(done) = self.acknowledged(session, seq, 0) {
            done(Ok(()));
        }
    }

    fn acknowledged(&self, session: u64, seq: OpSeq, errno: i32) -> Option<Completion> {
        let mut core = self.lock();
        if core.session != session {
            return None;
        }
        let now = clock::now();
        if errno == DIFFERS {
            // The answer to a question, not a failure.
            core.member.acknowledge(now, seq, 0);
            core.fetches.remove(&seq);
            let done = core.completions.remove(&seq)?;
            return Some(Box::new(move |_| done(Err(DIFFERS))));
        }
        match core.member.acknowledge(now, seq, errno) {
            AckOutcome::Complete => {
                self.metrics.acknowledged.fetch_add(1, Ordering::Relaxed);
                core.completions.remove(&seq)
            }
            AckOutcome::PeerFailed { errno } => {
                self.tell(Event::PeerFailed(session, errno));
                None
            }
            AckOutcome::Held | AckOutcome::Unknown => None,
        }
    }

    /// Applies one operation; after a failure nothing more is applied in this session.
    fn apply(
        &self,
        op: &Op<'_>,
        work: impl FnOnce() -> Result<(), i32>,
        news: impl FnOnce(i32, String) -> Event,
    ) -> i32 {
        match work() {
            Ok(()) => {
                self.metrics.applied.fetch_add(1, Ordering::Relaxed);
                0
            }
            Err(errno) => {
                self.applying.store(false, Ordering::Release);
                let error = io::Error::from_raw_os_error(errno);
                let what = format!("{}: {error}", op.describe());
                tracing::error!("operation of the peer failed here: {what}");
                self.tell(news(errno, what));
                errno
            }
        }
    }

    pub(super) fn run_sync(&self, job: SyncJob) {
        if self.lock().session != job.session {
            return;
        }
        let news = |errno, what| match errno {
            // The peer has let go of the file since: it answered its application without us.
            libc::ESTALE => Event::ApplyFailed(job.session, what),
            // Whatever became of the session: what the disk did not take concerns this node.
            _ => Event::Input(Input::LocalFailed { what }),
        };
        let errno = self.apply(&job.op, || self.tree.sync(job.dir, &job.op), news);
        let mut reply = Vec::with_capacity(HEADER + 4);
        encode_ack(&mut reply, job.seq, errno);
        let mut core = self.lock();
        if core.session == job.session {
            core.link.write(Bytes::from(reply));
            core.link.flush(Instant::now());
        }
    }
}
