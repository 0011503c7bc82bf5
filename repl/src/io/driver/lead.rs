//! Who waits for packets: on each path one thread at a time. What came in is worked on by one
//! thread at a time altogether; syncs are done aside.

use super::receive::SyncJob;
use super::{Core, Shared};
use crate::io::socket::Socket;
use quinn_udp::RecvMeta;
use std::collections::VecDeque;
use std::io::{self, IoSliceMut};
use std::sync::atomic::Ordering;
use std::sync::{Arc, Condvar, Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

/// Largest batch the kernel hands over at once, bytes.
const RECEIVE_BUFFER: usize = 64 * 1024;

#[derive(Default)]
struct SyncQueue {
    jobs: Mutex<VecDeque<SyncJob>>,
    wake: Condvar,
}

impl SyncQueue {
    fn lock(&self) -> MutexGuard<'_, VecDeque<SyncJob>> {
        self.jobs.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

pub(super) fn spawn(shared: &Arc<Shared>, receivers: usize, syncers: usize) -> io::Result<()> {
    let queue = Arc::new(SyncQueue::default());
    for path in 0..shared.sockets.len() {
        let lead = Arc::new(Mutex::new(vec![0u8; RECEIVE_BUFFER]));
        for n in 0..receivers {
            let (shared, lead, queue) = (shared.clone(), lead.clone(), queue.clone());
            let run = move || {
                while !shared.exit.load(Ordering::Relaxed) {
                    let own = {
                        let mut buffer = lead.lock().unwrap_or_else(PoisonError::into_inner);
                        shared.lead(path, &mut buffer, &queue)
                    };
                    if let Some(job) = own {
                        shared.run_sync(job);
                    }
                }
            };
            let name = format!("receive-{}", path * receivers + n);
            std::thread::Builder::new().name(name).spawn(run)?;
        }
    }
    for n in 0..syncers {
        let (shared, queue) = (shared.clone(), queue.clone());
        let run = move || {
            while !shared.exit.load(Ordering::Relaxed) {
                let mut jobs = queue.lock();
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

impl Shared {
    /// Leads on a path until there is a sync to do, which is returned with the lead given up.
    fn lead(&self, path: usize, buffer: &mut [u8], queue: &SyncQueue) -> Option<SyncJob> {
        let socket: &Socket = &self.sockets[path];
        loop {
            socket.busy.store(false, Ordering::Relaxed);
            let mut meta = [RecvMeta::default()];
            let received = {
                let mut slices = [IoSliceMut::new(buffer)];
                socket
                    .state
                    .recv((&socket.udp).into(), &mut slices, &mut meta)
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
            socket.busy.store(true, Ordering::Relaxed);
            let turn = self.turn.lock().unwrap_or_else(PoisonError::into_inner);
            let mut syncs = self.take_in(path, &meta[0], buffer);
            drop(turn);
            let own = syncs.pop();
            if !syncs.is_empty() {
                queue.lock().extend(syncs);
                queue.wake.notify_all();
            }
            // Acknowledgements of packets and window updates, after everybody was answered.
            self.lock().link.flush(Instant::now());
            if own.is_some() {
                return own;
            }
        }
    }

    /// What follows from packets; the syncs among it are left to the caller.
    fn take_in(&self, path: usize, meta: &RecvMeta, data: &[u8]) -> Vec<SyncJob> {
        let now = Instant::now();
        let batch = {
            let mut core = self.lock();
            let mut events = Vec::new();
            let had = core.rx.len();
            let Core { link, rx, .. } = &mut *core;
            if !link.receive(now, (path, meta), data, &mut events, rx) {
                return Vec::new();
            }
            self.busy.store(true, Ordering::Relaxed);
            let got = core.rx.len().saturating_sub(had) as u64;
            self.metrics.received.fetch_add(got, Ordering::Relaxed);
            if !core.link.is_full() {
                self.room.notify_all();
            }
            self.absorb_frames(&mut core, events)
        };
        self.dispatch(batch)
    }
}
