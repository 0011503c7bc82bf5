//! The module's directories in service: every change passes here, is done to the underlying tree and
//! put on the stream; every operation of the peer arrives here.
//!
//! Data's way of a change: gate → order of the file → done here → stream (binding, operation, times)
//! → the peer's answer → the application's answer. An operation that the local file system refuses is
//! answered at once and never reaches the peer.
//!
//! Lock order: gate, then a file's order, then the driver's core, then a node's state.

use super::apply::{Applied, Applier, Ids};
use super::backing::Backing;
use super::names;
use super::nodes::{Node, Nodes};
use super::pool::Pool;
use super::stamps::Times;
use super::sys;
use crate::config::Ack;
use crate::error::errno_of;
use crate::logic::join::Join;
use fuser::Notifier;
use std::collections::HashMap;
use std::io;
use std::os::fd::AsRawFd;
use std::sync::atomic::{AtomicU64, AtomicUsize, Ordering};
use std::sync::{Arc, Mutex, OnceLock, PoisonError, RwLock, RwLockReadGuard};
use tandem_repl::ids::{DirId, FileId, OpSeq};
use tandem_repl::io::driver::{Driver, Shipment};
use tandem_repl::limits::{MAX_DATA, MAX_PARKED};
use tandem_repl::logic::member::Gate;
use tandem_repl::op::{Durability, Op};
use tandem_repl::wire::{FrameHeader, HEADER, Message, Stamps, encode_op};

/// Threads that serve the kernel, per directory.
pub(crate) const SERVERS: usize = 4;
/// Of these, so many may wait for a disk; further syncs go to the pool.
const INLINE_SYNCS: usize = 2;
/// Threads of the pool.
const POOL: usize = 14;

/// One replicated directory.
pub(crate) struct Volume {
    pub(crate) id: DirId,
    pub(crate) backing: Backing,
    /// Files by this node's ids, as the kernel knows them.
    pub(crate) nodes: Nodes,
    /// Files by the serving peer's ids.
    peers: Nodes,
    times: Times,
    pub(crate) direct: Vec<String>,
    pub(crate) streams: super::readdir::Streams,
    pub(crate) notifier: OnceLock<Notifier>,
}

/// What an answered change is told to the kernel with.
pub(crate) struct Done {
    pub(crate) stat: Option<libc::stat>,
    pub(crate) node: Option<Arc<Node>>,
    pub(crate) written: usize,
}

pub(crate) type Finish = Box<dyn FnOnce(Result<Done, i32>) + Send>;

struct GateState {
    gate: Gate,
    /// Counts serving periods; what was cached in an earlier one may be untrue.
    period: u64,
}

pub(crate) struct Service {
    pub(crate) volumes: Vec<Arc<Volume>>,
    gate: RwLock<GateState>,
    parked: Mutex<Vec<Box<dyn FnOnce() + Send>>>,
    pool: Pool,
    inline_syncs: AtomicUsize,
    ack: Ack,
    pub(crate) devices: bool,
    driver: OnceLock<Driver>,
    /// Changes answered without the peer.
    pub(crate) alone: AtomicU64,
}

impl Volume {
    pub(crate) fn new(id: DirId, backing: Backing, direct: Vec<String>) -> Self {
        Self {
            id,
            nodes: backing.nodes(),
            peers: backing.nodes(),
            backing,
            times: Times::default(),
            direct,
            streams: super::readdir::Streams::default(),
            notifier: OnceLock::new(),
        }
    }
}

impl Service {
    pub(crate) fn new(volumes: Vec<Arc<Volume>>, ack: Ack, devices: bool) -> io::Result<Self> {
        Ok(Self {
            volumes,
            gate: RwLock::new(GateState {
                gate: Gate::ReadOnly,
                period: 0,
            }),
            parked: Mutex::default(),
            pool: Pool::start("disk", POOL)?,
            inline_syncs: AtomicUsize::new(0),
            ack,
            devices,
            driver: OnceLock::new(),
            alone: AtomicU64::new(0),
        })
    }

    /// Joins service and driver; once, before anything is mounted.
    pub(crate) fn set_driver(&self, driver: Driver) {
        let _ = self.driver.set(driver);
    }

    fn gate(&self) -> RwLockReadGuard<'_, GateState> {
        self.gate.read().unwrap_or_else(PoisonError::into_inner)
    }

    /// Number of the serving period; `None` while this node does not serve.
    pub(crate) fn serving_period(&self) -> Option<u64> {
        let state = self.gate();
        (state.gate != Gate::ReadOnly).then_some(state.period)
    }

    /// Does a change for an application and answers it through `finish`, now or later.
    pub(crate) fn change(self: &Arc<Self>, volume: &Arc<Volume>, op: &Op<'_>, finish: Finish) {
        let gate = self.gate();
        match gate.gate {
            Gate::ReadOnly => finish(Err(libc::EROFS)),
            Gate::Frozen => self.park(volume, op, finish),
            Gate::Alone => {
                let result = self.do_alone(volume, op);
                drop(gate);
                self.alone.fetch_add(1, Ordering::Relaxed);
                finish(result.map_err(|e| errno_of(&e)));
            }
            Gate::Replicated => self.do_replicated(volume, op, finish),
        }
    }

    /// Keeps a change until the gate opens. One per waiting application thread.
    fn park(self: &Arc<Self>, volume: &Arc<Volume>, op: &Op<'_>, finish: Finish) {
        let mut parked = self.parked.lock().unwrap_or_else(PoisonError::into_inner);
        if parked.len() >= MAX_PARKED {
            drop(parked);
            return finish(Err(libc::EAGAIN));
        }
        // The frame is the operation's owned form.
        let mut frame = Vec::new();
        encode_op(&mut frame, volume.id, OpSeq(0), op, &Stamps::default());
        let (service, volume) = (self.clone(), volume.clone());
        parked.push(Box::new(move || {
            let decoded = frame
                .split_first_chunk::<HEADER>()
                .and_then(|(head, body)| {
                    FrameHeader::parse(head).and_then(|h| h.decode(body)).ok()
                });
            match decoded.map(|f| f.message) {
                Some(Message::Op { op, .. }) if op.sync_part().is_some() => {
                    service.change_synced(&volume, &op, finish);
                }
                Some(Message::Op { op, .. }) => service.change(&volume, &op, finish),
                _ => finish(Err(libc::EIO)),
            }
        }));
    }

    fn do_alone(&self, volume: &Volume, op: &Op<'_>) -> io::Result<Done> {
        let node = names::content_target(op).and_then(|id| volume.nodes.get(id));
        let _order = node.as_ref().map(|n| n.lock_order());
        let entries = names::before(&volume.nodes, op);
        let applied = Applier {
            nodes: &volume.nodes,
            ids: Ids::Own,
        }
        .apply(op)?;
        names::after(&volume.nodes, op, &entries, &applied);
        Ok(Done {
            stat: applied.stat,
            node: applied.node,
            written: applied.written,
        })
    }

    fn do_replicated(&self, volume: &Arc<Volume>, op: &Op<'_>, finish: Finish) {
        let node = names::content_target(op).and_then(|id| volume.nodes.get(id));
        let order = node.as_ref().map(|n| n.lock_order());
        let entries = names::before(&volume.nodes, op);
        let applier = Applier {
            nodes: &volume.nodes,
            ids: Ids::Own,
        };
        let applied = match applier.apply(op) {
            Ok(applied) => applied,
            Err(e) => {
                drop(order);
                return finish(Err(errno_of(&e)));
            }
        };
        if node.as_ref().is_some_and(|n| n.orphan()) {
            drop(order);
            let written = applied.written;
            return finish(Ok(Done {
                stat: applied.stat,
                node: None,
                written,
            }));
        }
        let Applied {
            stat,
            node: made,
            written,
            stamps,
        } = applied;
        let gone = (volume.clone(), made.as_ref().map(|n| n.id));
        let done = Done {
            stat,
            node: made.clone(),
            written,
        };
        let answer: tandem_repl::io::driver::Completion = Box::new(move |result| match result {
            Ok(()) => finish(Ok(done)),
            Err(errno) => {
                // The kernel never hears of what was made, so it will not give it back.
                if let (volume, Some(id)) = gone {
                    volume.nodes.forget(id, 1);
                }
                finish(Err(errno));
            }
        });
        let applied = Applied {
            stat,
            node: made,
            written,
            stamps,
        };
        let shipped = names::as_shipped(op, &applied, self.ack);
        let Some(driver) = self.driver.get() else {
            return answer(Err(libc::EIO));
        };
        driver.ship(
            names::payload(op),
            |shipment| {
                names::bind_for(shipment, volume, &shipped, &entries);
                shipment.op(volume.id, &shipped, &applied.stamps);
                names::after(&volume.nodes, op, &entries, &applied);
                if let Some(made) = &applied.node {
                    made.state().bound = shipment.session();
                }
            },
            answer,
        );
        drop(order);
    }

    /// A change that must also reach the disk: a sync, or a write with `O_SYNC`.
    pub(crate) fn change_synced(
        self: &Arc<Self>,
        volume: &Arc<Volume>,
        op: &Op<'_>,
        finish: Finish,
    ) {
        let Some(sync) = op.sync_part() else {
            return self.change(volume, op, finish);
        };
        let is_write = matches!(op, Op::Write { .. });
        let (service, own) = (self.clone(), volume.clone());
        if !is_write {
            return self.sync(volume, &sync, finish);
        }
        // First the write as such: on both nodes; the peer syncs before it answers.
        let local = Box::new(move |result: Result<Done, i32>| match result {
            Ok(done) => service.in_background(Box::new(move |service| {
                let result = service.sync_here(&own, &sync);
                finish(result.map(|()| done));
            })),
            Err(errno) => finish(Err(errno)),
        });
        self.change(volume, op, local);
    }

    /// Syncs here and on the peer at once.
    fn sync(self: &Arc<Self>, volume: &Arc<Volume>, op: &Op<'static>, finish: Finish) {
        let gate = self.gate();
        let orphan = names::content_target(op)
            .and_then(|id| volume.nodes.get(id))
            .is_some_and(|n| n.orphan());
        match gate.gate {
            Gate::Frozen => return self.park(volume, op, finish),
            Gate::Replicated if !orphan => {}
            Gate::ReadOnly | Gate::Alone | Gate::Replicated => {
                drop(gate);
                return self.sync_then(
                    volume,
                    *op,
                    Box::new(move |r| finish(r.map(|()| nothing()))),
                );
            }
        }
        let answer = move |result: Result<(), i32>| finish(result.map(|()| nothing()));
        let join = Arc::new(Join::new(2, Box::new(answer)));
        let Some(driver) = self.driver.get() else {
            return join.part(Err(libc::EIO));
        };
        let peer = join.clone();
        driver.ship(
            0,
            |shipment| {
                names::bind_for(shipment, volume, op, &names::Entries::default());
                shipment.op(volume.id, op, &Stamps::default());
            },
            Box::new(move |result| peer.part(result)),
        );
        drop(gate);
        self.sync_then(volume, *op, Box::new(move |result| join.part(result)));
    }

    /// Syncs this node's disk, in this thread if enough others are left to serve.
    fn sync_then(
        self: &Arc<Self>,
        volume: &Arc<Volume>,
        op: Op<'static>,
        then: Box<dyn FnOnce(Result<(), i32>) + Send>,
    ) {
        if self.inline_syncs.fetch_add(1, Ordering::Relaxed) < INLINE_SYNCS {
            let result = self.sync_here(volume, &op);
            self.inline_syncs.fetch_sub(1, Ordering::Relaxed);
            return then(result);
        }
        self.inline_syncs.fetch_sub(1, Ordering::Relaxed);
        let volume = volume.clone();
        self.in_background(Box::new(move |service| {
            then(service.sync_here(&volume, &op))
        }));
    }

    fn in_background(self: &Arc<Self>, job: Box<dyn FnOnce(&Self) + Send>) {
        let service = self.clone();
        self.pool.run(Box::new(move || job(&service)));
    }

    fn sync_here(&self, volume: &Volume, op: &Op<'_>) -> Result<(), i32> {
        sync_file(&volume.backing, &volume.nodes, op).map_err(|e| {
            tracing::error!("sync of {}: {e}", volume.backing.path.display());
            errno_of(&e)
        })
    }

    /// Tells the peer that a file's id is used no more.
    pub(crate) fn unbind(&self, volume: &Volume, node: &Node) {
        let bound = node.state().bound;
        if bound == 0 {
            return;
        }
        if let Some(driver) = self.driver.get() {
            driver.post(|shipment: &mut Shipment<'_>| {
                if shipment.session() == bound {
                    let op = Op::Unbind { id: node.id };
                    shipment.op(volume.id, &op, &Stamps::default());
                }
            });
        }
    }

    // ---- what the driver asks of the trees (see `tree.rs`) ----

    pub(super) fn apply_from_peer(
        &self,
        volume: &Volume,
        op: &Op<'_>,
        stamps: &[tandem_repl::op::Stamp],
    ) -> io::Result<()> {
        if let Op::Unbind { id } = op {
            volume.times.settle(&volume.peers, *id);
        }
        Applier {
            nodes: &volume.peers,
            ids: Ids::Peers,
        }
        .apply(op)?;
        volume.times.note(&volume.peers, stamps);
        Ok(())
    }

    pub(super) fn sync_for_peer(&self, volume: &Volume, op: &Op<'_>) -> io::Result<()> {
        match op {
            Op::Fsync { id, .. } => volume.times.settle(&volume.peers, *id),
            _ => volume.times.settle_all(&volume.peers),
        }
        sync_file(&volume.backing, &volume.peers, op)
    }

    pub(crate) fn settle_times(&self) {
        for volume in &self.volumes {
            volume.times.settle_all(&volume.peers);
        }
    }

    pub(super) fn reset_peer_ids(&self) {
        self.settle_times();
        for volume in &self.volumes {
            volume.peers.clear();
        }
    }

    pub(super) fn switch_gate(&self, gate: Gate) {
        let served = {
            let mut state = self.gate.write().unwrap_or_else(PoisonError::into_inner);
            let served = state.gate != Gate::ReadOnly;
            if !served && gate != Gate::ReadOnly {
                state.period += 1;
            }
            state.gate = gate;
            served
        };
        if gate == Gate::ReadOnly && served {
            self.volumes.iter().for_each(|v| v.drop_kernel_caches());
        }
        if gate == Gate::Replicated {
            self.volumes.iter().for_each(|v| self.send_root(v));
        }
        if gate != Gate::Frozen {
            let parked =
                std::mem::take(&mut *self.parked.lock().unwrap_or_else(PoisonError::into_inner));
            for job in parked {
                self.pool.run(job);
            }
        }
    }

    /// The root's times, which no operation has carried yet.
    fn send_root(&self, volume: &Volume) {
        let Ok(stat) = sys::fstat(volume.backing.root_fd()) else {
            return;
        };
        let Some(driver) = self.driver.get() else {
            return;
        };
        let mut stamps = Stamps::default();
        stamps.push(super::apply::stamp(FileId::ROOT, &stat));
        let (set, cred) = Default::default();
        let op = Op::SetAttr {
            id: FileId::ROOT,
            set,
            cred,
        };
        driver.ship(0, |s| s.op(volume.id, &op, &stamps), Box::new(|_| {}));
    }

    /// Splits a write into pieces of at most [`MAX_DATA`], so that one piece is applied on the peer
    /// while the next is applied here, and one large write does not hold the stream.
    pub(crate) fn write(
        self: &Arc<Self>,
        volume: &Arc<Volume>,
        op: Op<'_>,
        finish: Box<dyn FnOnce(Result<usize, i32>) + Send>,
    ) {
        let Op::Write {
            id,
            offset,
            data,
            durability,
            cred,
        } = op
        else {
            return;
        };
        let one = |data, at, durability, finish| {
            let op = Op::Write {
                id,
                offset: at,
                data,
                durability,
                cred,
            };
            if durability == Durability::Memory {
                self.change(volume, &op, finish);
            } else {
                self.change_synced(volume, &op, finish);
            }
        };
        if data.len() <= MAX_DATA {
            return one(
                data,
                offset,
                durability,
                Box::new(|r| finish(r.map(|d| d.written))),
            );
        }
        let pieces = data.len().div_ceil(MAX_DATA);
        let gathered = Arc::new(Gathered::new(pieces, data.len(), finish));
        for (n, piece) in data.chunks(MAX_DATA).enumerate() {
            let gathered = gathered.clone();
            let at = offset + (n * MAX_DATA) as u64;
            let want = piece.len();
            // Only the last piece syncs: it covers the others.
            let last = n + 1 == pieces;
            let durability = if last { durability } else { Durability::Memory };
            let finish = Box::new(move |r: Result<Done, i32>| {
                gathered.piece(n, want, r.map(|d| d.written));
            });
            one(piece, at, durability, finish);
        }
    }
}

/// The outcome of a write in pieces: what was written up to the first piece that fell short.
struct Gathered {
    inner: Mutex<(usize, HashMap<usize, (usize, Result<usize, i32>)>)>,
    len: usize,
    finish: Mutex<Option<Box<dyn FnOnce(Result<usize, i32>) + Send>>>,
}

impl Gathered {
    fn new(pieces: usize, len: usize, finish: Box<dyn FnOnce(Result<usize, i32>) + Send>) -> Self {
        let inner = Mutex::new((pieces, HashMap::new()));
        Self {
            inner,
            len,
            finish: Mutex::new(Some(finish)),
        }
    }

    fn piece(&self, n: usize, want: usize, result: Result<usize, i32>) {
        let mut inner = self.inner.lock().unwrap_or_else(PoisonError::into_inner);
        inner.1.insert(n, (want, result));
        if inner.1.len() < inner.0 {
            return;
        }
        let mut total = 0;
        let mut outcome = Ok(self.len);
        for n in 0..inner.0 {
            match inner.1.get(&n) {
                Some((want, Ok(written))) if want == written => total += written,
                Some((_, Ok(written))) => {
                    outcome = Ok(total + written);
                    break;
                }
                Some((_, Err(errno))) => {
                    outcome = if total > 0 { Ok(total) } else { Err(*errno) };
                    break;
                }
                None => {}
            }
        }
        drop(inner);
        let finish = self
            .finish
            .lock()
            .unwrap_or_else(PoisonError::into_inner)
            .take();
        if let Some(finish) = finish {
            finish(outcome);
        }
    }
}

fn nothing() -> Done {
    Done {
        stat: None,
        node: None,
        written: 0,
    }
}

fn sync_file(backing: &Backing, nodes: &Nodes, op: &Op<'_>) -> io::Result<()> {
    match *op {
        Op::Fsync { id, data_only } => {
            let node = nodes.expect(id)?;
            if !node.is_file() && !node.is_dir() {
                return backing.sync();
            }
            sys::fsync(nodes.fd(&node)?.as_raw_fd(), data_only)
        }
        _ => backing.sync(),
    }
}
