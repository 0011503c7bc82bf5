//! The module's directories in service: every change passes here, is done to the underlying tree
//! and put on the stream; every operation of the peer arrives here.
//!
//! Data's way of a change: gate → marked → order of the file → done here → stream (binding,
//! operation,
//! times) → the peer's answer → the application's answer. An operation that the local file system
//! refuses is answered at once and never reaches the peer.
//!
//! Lock order: gate, then a file's order, then the driver's core, then a node's state.

mod park;
mod peer;
mod repair;
mod sync;
mod verify;
mod write;

pub(crate) use verify::Verify;
pub(crate) use write::Write;

use super::apply::{Applied, Applier, Ids};
use super::backing::Backing;
use super::lasting::Found;
use super::marks::Marks;
use super::names;
use super::nodes::{Node, Nodes};
use super::pool::Pool;
use super::times::Times;
use crate::config::Ack;
use crate::error::errno_of;
use fuser::Notifier;
use std::io;
use std::sync::atomic::{AtomicU32, AtomicU64, AtomicUsize, Ordering};
use std::sync::{Arc, Mutex, OnceLock, PoisonError, RwLock, RwLockReadGuard, Weak};
use std::time::{Duration, Instant};
use tandem_repl::ids::DirId;
use tandem_repl::io::driver::{Completion, Driver, Shipment};
use tandem_repl::logic::latency::{Class, Meters};
use tandem_repl::logic::member::Gate;
use tandem_repl::op::Op;

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

pub(crate) struct Service {
    pub(crate) volumes: Vec<Arc<Volume>>,
    gate: RwLock<Gate>,
    /// Number of the serving period, 0 while this node does not serve. What the kernel cached in an
    /// earlier period may be untrue. Beside the gate, so that answering needs no lock.
    period: AtomicU64,
    /// Periods so far.
    periods: AtomicU64,
    parked: Mutex<park::Parked>,
    /// Held while times are sent, so that a stop knows when all are.
    sending_times: Mutex<()>,
    pool: Pool,
    inline_syncs: AtomicUsize,
    ack: Ack,
    pub(crate) devices: bool,
    /// Bytes kept aside at most.
    pub(crate) aside_limit: u64,
    driver: OnceLock<Driver>,
    /// Changes answered without the peer.
    pub(crate) alone: AtomicU64,
    pub(crate) verify: Verify,
    pub(crate) marks: Marks,
    /// Changes so far, and how many there were at the last look.
    changes: [AtomicU64; 2],
    /// Delay of each change, because a resync does not keep up; microseconds.
    pub(crate) delay_us: AtomicU64,
    /// How long the application waits while a resync runs.
    pub(crate) meters: Meters,
    /// Generation in which was marked what somebody changed while the module was stopped; 0: it is
    /// settled, or there was nothing.
    pub(crate) outside: AtomicU32,
    /// Itself, for what outlives a call.
    own: OnceLock<Weak<Self>>,
    /// Gives identities to files that were found without.
    pub(crate) found: Arc<Found>,
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
    pub(crate) fn new(
        volumes: Vec<Arc<Volume>>,
        marks: Marks,
        (ack, devices, aside_limit): (Ack, bool, u64),
    ) -> io::Result<Self> {
        Ok(Self {
            volumes,
            gate: RwLock::new(Gate::ReadOnly),
            period: AtomicU64::new(0),
            periods: AtomicU64::new(0),
            parked: Mutex::default(),
            sending_times: Mutex::default(),
            pool: Pool::start("disk", POOL)?,
            inline_syncs: AtomicUsize::new(0),
            ack,
            devices,
            aside_limit,
            driver: OnceLock::new(),
            alone: AtomicU64::new(0),
            verify: Verify::default(),
            marks,
            changes: Default::default(),
            delay_us: AtomicU64::new(0),
            meters: Meters::default(),
            outside: AtomicU32::new(0),
            own: OnceLock::new(),
            found: Arc::default(),
        })
    }

    /// Joins service and driver; once, before anything is mounted.
    pub(crate) fn set_driver(self: &Arc<Self>, driver: Driver) {
        let _ = self.driver.set(driver);
        let _ = self.own.set(Arc::downgrade(self));
    }

    /// For what outlives a call.
    pub(crate) fn own(&self) -> Option<Arc<Self>> {
        self.own.get()?.upgrade()
    }

    fn gate(&self) -> RwLockReadGuard<'_, Gate> {
        self.gate.read().unwrap_or_else(PoisonError::into_inner)
    }

    /// Number of the serving period; `None` while this node does not serve.
    pub(crate) fn serving_period(&self) -> Option<u64> {
        Some(self.period.load(Ordering::Acquire)).filter(|p| *p != 0)
    }

    /// Does a change for an application and answers it through `finish`, now or later.
    pub(crate) fn change(self: &Arc<Self>, volume: &Arc<Volume>, op: &Op<'_>, finish: Finish) {
        if names::is_private(op) {
            return finish(Err(libc::EPERM));
        }
        let gate = self.gate();
        let result = match *gate {
            Gate::ReadOnly => Err((finish, libc::EROFS)),
            held if self.holds(held, names::payload(op)) => {
                self.park_op(held, (volume, op), finish)
            }
            Gate::Alone => {
                let began = self.meters.is_on().then(Instant::now);
                let result = self.do_alone(volume, op);
                self.note(Class::Change, began);
                drop(gate);
                return finish(result);
            }
            _ => self.do_replicated(volume, op, finish).map(|_| ()),
        };
        // Answering may lead to another change, which must find the gate free.
        drop(gate);
        if let Err((finish, errno)) = result {
            finish(Err(errno));
        }
    }

    fn do_alone(&self, volume: &Volume, op: &Op<'_>) -> Result<Done, i32> {
        match self.delay_us.load(Ordering::Relaxed) {
            0 => {}
            delay => std::thread::sleep(Duration::from_micros(delay)),
        }
        let op = &self.identified(op);
        self.marks.mark(volume, op)?;
        let ordered = names::ordered(&volume.nodes, op);
        let _order = ordered
            .each_ref()
            .map(|n| n.as_ref().map(|n| n.lock_order()));
        let entries = names::before(&volume.nodes, op);
        let applier = Applier {
            nodes: &volume.nodes,
            ids: Ids::Own,
        };
        let applied = applier.apply(op).map_err(|e| errno_of(&e))?;
        names::after(&volume.nodes, op, &entries);
        self.marks.moved(volume, op, &entries);
        // A peer that returns is told.
        volume.times.note(&volume.nodes, op, applied.node.as_ref());
        self.alone.fetch_add(1, Ordering::Relaxed);
        Ok(Done {
            stat: applied.stat,
            node: applied.node,
            written: applied.written,
        })
    }

    /// Does a change here and puts it on the stream. Returns the bytes written here; what the local
    /// file system refuses comes back with its errno, and nothing was sent.
    fn do_replicated(
        &self,
        volume: &Arc<Volume>,
        op: &Op<'_>,
        finish: Finish,
    ) -> Result<usize, (Finish, i32)> {
        let Some(driver) = self.driver.get() else {
            return Err((finish, libc::EIO));
        };
        let op = &self.identified(op);
        if let Err(errno) = self.marks.mark(volume, op) {
            return Err((finish, errno));
        }
        let node = names::content_target(op).and_then(|id| volume.nodes.get(id));
        let ordered = names::ordered(&volume.nodes, op);
        let _order = ordered
            .each_ref()
            .map(|n| n.as_ref().map(|n| n.lock_order()));
        let entries = names::before(&volume.nodes, op);
        let applier = Applier {
            nodes: &volume.nodes,
            ids: Ids::Own,
        };
        let applied = match applier.apply(op) {
            Ok(applied) => applied,
            Err(e) => {
                if matches!(op, Op::Rename { .. }) {
                    // ext4 changes a directory's time even in taking a rename back.
                    volume.times.note(&volume.nodes, op, None);
                }
                return Err((finish, errno_of(&e)));
            }
        };
        let written = applied.written;
        let answer = answer_for(volume, &applied, finish);
        let shipped = names::as_shipped(op, &applied, self.ack);
        driver.ship(
            names::payload(op),
            |shipment| {
                // Looked at here, where names change too: before, a write-back could overtake the
                // unlink that makes its file an orphan.
                if node.as_ref().is_some_and(|n| n.orphan()) {
                    return false;
                }
                // What cannot be introduced the peer refuses, and then it leaves the set.
                names::bind_for(shipment, volume, &shipped, &entries);
                shipment.op(volume.id, &shipped);
                names::after(&volume.nodes, op, &entries);
                if let Some(made) = &applied.node {
                    made.state().bound = shipment.session();
                }
                true
            },
            answer,
        );
        self.marks.moved(volume, op, &entries);
        volume.times.note(&volume.nodes, op, applied.node.as_ref());
        if names::leaves_whiteout(op) {
            self.send_whiteout_times(volume, op);
        }
        Ok(written)
    }

    /// Notes how long an answer took, for a resync that must not disturb.
    pub(crate) fn note(&self, class: Class, began: Option<Instant>) {
        if let Some(began) = began {
            let nanos = u64::try_from(began.elapsed().as_nanos()).unwrap_or(u64::MAX);
            self.meters.note(class, nanos);
        }
    }

    /// Whether nothing was changed since the last call.
    pub(crate) fn is_quiet(&self) -> bool {
        let now = self.changes[0].load(Ordering::Relaxed);
        self.changes[1].swap(now, Ordering::Relaxed) == now
    }

    /// What is made gets its lasting identity.
    fn identified<'a>(&self, op: &Op<'a>) -> Op<'a> {
        self.changes[0].fetch_add(1, Ordering::Relaxed);
        let mut op = *op;
        if let Op::Make { uid, .. } = &mut op {
            *uid = self.marks.next_uid();
        }
        op
    }

    /// Tells the peer that a file's id is used no more.
    pub(crate) fn unbind(&self, volume: &Volume, node: &Node) {
        let bound = node.state().bound;
        if bound == 0 {
            return;
        }
        if let Some(driver) = self.driver.get() {
            driver.post(|shipment: &mut Shipment<'_>| {
                // Looked up again meanwhile? Then the peer still needs it.
                let known = volume.nodes.get(node.id).map_or(0, |n| n.state().bound);
                if shipment.session() == bound && known != bound {
                    let op = Op::Unbind { id: node.id };
                    shipment.op(volume.id, &op);
                }
            });
        }
    }
}

/// Tells the application, and takes back what was made if the kernel never hears of it.
fn answer_for(volume: &Arc<Volume>, applied: &Applied, finish: Finish) -> Completion {
    let volume = volume.clone();
    let done = Done {
        stat: applied.stat,
        node: applied.node.clone(),
        written: applied.written,
    };
    Box::new(move |result| match result {
        Ok(()) => finish(Ok(done)),
        Err(errno) => {
            if let Some(node) = done.node {
                volume.nodes.forget(node.id, 1);
            }
            finish(Err(errno));
        }
    })
}
