//! The module's directories in service: every change passes here, is done to the underlying tree and
//! put on the stream; every operation of the peer arrives here.
//!
//! Data's way of a change: gate → order of the file → done here → stream (binding, operation, times)
//! → the peer's answer → the application's answer. An operation that the local file system refuses is
//! answered at once and never reaches the peer.
//!
//! Lock order: gate, then a file's order, then the driver's core, then a node's state.

mod peer;
mod sync;
mod write;

use super::apply::{Applied, Applier, Ids};
use super::backing::Backing;
use super::names;
use super::nodes::{Node, Nodes};
use super::pool::Pool;
use super::times::Times;
use crate::config::Ack;
use crate::error::errno_of;
use fuser::Notifier;
use std::io;
use std::sync::atomic::{AtomicU64, AtomicUsize, Ordering};
use std::sync::{Arc, Mutex, OnceLock, PoisonError, RwLock, RwLockReadGuard};
use tandem_repl::ids::{DirId, OpSeq};
use tandem_repl::io::driver::{Driver, Shipment};
use tandem_repl::limits::MAX_PARKED;
use tandem_repl::logic::member::Gate;
use tandem_repl::op::Op;
use tandem_repl::wire::{FrameHeader, HEADER, Message, encode_op};

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
    pub(crate) times: Times,
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
        encode_op(&mut frame, volume.id, OpSeq(0), op);
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
        };
        let shipped = names::as_shipped(op, &applied, self.ack);
        let Some(driver) = self.driver.get() else {
            return answer(Err(libc::EIO));
        };
        driver.ship(
            names::payload(op),
            |shipment| {
                names::bind_for(shipment, volume, &shipped, &entries);
                shipment.op(volume.id, &shipped);
                names::after(&volume.nodes, op, &entries, &applied);
                if let Some(made) = &applied.node {
                    made.state().bound = shipment.session();
                }
            },
            answer,
        );
        volume.times.note(&volume.nodes, op, applied.node.as_ref());
        drop(order);
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
                    shipment.op(volume.id, &op);
                }
            });
        }
    }
}
