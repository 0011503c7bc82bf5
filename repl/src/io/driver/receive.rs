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
use quinn_udp::RecvMeta;
use std::collections::VecDeque;
use std::io::{self, IoSliceMut};
use std::sync::atomic::Ordering;
use std::sync::{Arc, Condvar, Mutex, PoisonError};
use std::time::{Duration, Instant};

/// Largest batch the kernel hands over at once, bytes.
const RECEIVE_BUFFER: usize = 64 * 1024;

/// What one lock of the core took out of it.
struct Batch {
    session: u64,
    /// Whole frames, in order.
    frames: Vec<u8>,
    events: Vec<Event>,
}

/// A sync of the peer's that waits for a thread.
struct SyncJob {
    session: u64,
    seq: OpSeq,
    dir: DirId,
    op: Op<'static>,
}

#[derive(Default)]
struct SyncQueue {
    jobs: Mutex<VecDeque<SyncJob>>,
    wake: Condvar,
}

pub(super) fn spawn(shared: &Arc<Shared>, receivers: usize, syncers: usize) -> io::Result<()> {
    let queue = Arc::new(SyncQueue::default());
    let lead = Arc::new(Mutex::new(vec![0u8; RECEIVE_BUFFER]));
    for n in 0..receivers {
        let (shared, lead, queue) = (shared.clone(), lead.clone(), queue.clone());
        let run = move || {
            while !shared.exit.load(Ordering::Relaxed) {
                let own = {
                    let mut buffer = lead.lock().unwrap_or_else(PoisonError::into_inner);
                    shared.lead(&mut buffer, &queue)
                };
                if let Some(job) = own {
                    shared.run_sync(job);
                }
            }
        };
        std::thread::Builder::new()
            .name(format!("receive-{n}"))
            .spawn(run)?;
    }
    for n in 0..syncers {
        let (shared, queue) = (shared.clone(), queue.clone());
        let run = move || {
            while !shared.exit.load(Ordering::Relaxed) {
                let mut jobs = queue.jobs.lock().unwrap_or_else(PoisonError::into_inner);
                while jobs.is_empty() {
                    jobs = queue
                        .wake
                        .wait(jobs)
                        .unwrap_or_else(PoisonError::into_inner);
                }
                let job = jobs.pop_front();
                drop(jobs);
                if let Some(job) = job {
                    shared.run_sync(job);
                }
            }
        };
        std::thread::Builder::new()
            .name(format!("sync-{n}"))
            .spawn(run)?;
    }
    Ok(())
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
    /// Leads until there is a sync to do, which is returned with the lead given up.
    fn lead(&self, buffer: &mut [u8], queue: &SyncQueue) -> Option<SyncJob> {
        loop {
            let mut meta = [RecvMeta::default()];
            let received = {
                let mut slices = [IoSliceMut::new(buffer)];
                self.socket
                    .state
                    .recv((&self.socket.udp).into(), &mut slices, &mut meta)
            };
            if self.exit.load(Ordering::Relaxed) {
                return None;
            }
            if !matches!(received, Ok(n) if n > 0) {
                // Errors of a UDP socket (an unreachable peer) concern one datagram, which is
                // lost. One that stays must not keep a processor busy.
                std::thread::sleep(Duration::from_millis(1));
                continue;
            }
            self.busy.store(true, Ordering::Relaxed);
            let now = Instant::now();
            let batch = {
                let mut core = self.lock();
                let mut events = Vec::new();
                let Core { link, rx, .. } = &mut *core;
                let had = rx.len();
                link.receive(now, &meta[0], buffer, &mut events, rx);
                let got = rx.len().saturating_sub(had) as u64;
                self.metrics.received.fetch_add(got, Ordering::Relaxed);
                if !core.link.is_full() {
                    self.room.notify_all();
                }
                self.absorb_frames(&mut core, events)
            };
            let mut syncs = self.dispatch(batch);
            let own = syncs.pop();
            if !syncs.is_empty() {
                let mut jobs = queue.jobs.lock().unwrap_or_else(PoisonError::into_inner);
                jobs.extend(syncs);
                queue.wake.notify_all();
            }
            // Acknowledgements of packets and window updates, after everybody was answered.
            self.lock().link.flush(Instant::now());
            if own.is_some() {
                return own;
            }
        }
    }

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
    fn absorb_frames(&self, core: &mut Core, link_events: Vec<LinkEvent>) -> Batch {
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
    fn dispatch(&self, batch: Batch) -> Vec<SyncJob> {
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
                    |what| Event::ApplyFailed(session, what),
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
        news: impl FnOnce(String) -> Event,
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
                self.tell(news(what));
                errno
            }
        }
    }

    fn run_sync(&self, job: SyncJob) {
        if self.lock().session != job.session {
            return;
        }
        // Whatever became of the session: what the disk did not take concerns this node.
        let errno = self.apply(
            &job.op,
            || self.tree.sync(job.dir, &job.op),
            |what| Event::Input(Input::LocalFailed { what }),
        );
        let mut reply = Vec::with_capacity(HEADER + 4);
        encode_ack(&mut reply, job.seq, errno);
        let mut core = self.lock();
        if core.session == job.session {
            core.link.write(Bytes::from(reply));
            core.link.flush(Instant::now());
        }
    }
}
