//! The threads that join link, logic and tree.
//!
//! * receivers: on each path one at a time waits for packets ("leads"), answers acknowledged
//!   operations, applies the peer's operations in order; before it waits for a disk it hands the
//!   lead on;
//! * sync workers: the syncs that came together, so that the file system can group them;
//! * director: the only one that feeds [`Member`] with anything but acknowledgements, and performs
//!   its outputs in order;
//! * timer: loss timers and keep-alives of the link.
//!
//! Lock order: lead, turn, core. The core is never held while something is applied, answered,
//! persisted or waited for.

mod director;
mod exchange;
mod greet;
mod lead;
mod passes;
mod receive;
mod run;
mod ship;
mod source;
mod status;
mod target;
mod third;
mod timer;
mod tree;
mod watch;

pub use ship::Shipment;
pub use status::DriverStatus;
pub use target::Requests;
pub use third::Apart;
pub use tree::Tree;
pub use watch::{Effort, Standing};

use super::clock;
use super::link::Link;
use super::paths::Paths;
use super::ping::Pinger;
use super::record::RecordStore;
use super::socket::Socket;
use super::tls::{Pem, Tls, TlsError};
use super::witness::{Witness, WitnessError};
use crate::control::Refusal;
use crate::ids::{Id128, OpSeq};
use crate::logic::member::{Input, Member};
use crate::logic::paths::MAX_PATHS;
use crate::logic::record::Record;
use crate::op::DIFFERS;
use crate::wire::encode_control;
use crate::wire::{Control, Hello, WIRE_VERSION, WIRE_VERSION_MIN};
use bytes::Bytes;
use std::collections::HashMap;
use std::net::SocketAddr;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::sync::mpsc::{Receiver, Sender, channel};
use std::sync::{Arc, Condvar, Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};
use thiserror::Error;

/// Receiving threads of a path: one leads, the others wait to take over while it syncs.
const RECEIVERS: usize = 4;
/// Threads for syncs that arrived together.
const SYNCERS: usize = 8;

/// Called once: `Ok` when every node of the set holds the operation, or an errno.
pub type Completion = Box<dyn FnOnce(Result<(), i32>) + Send>;

/// What the driver must know.
pub struct DriverConfig<'a> {
    pub cluster: String,
    pub module: String,
    pub local: String,
    pub peer: String,
    /// This node's and the peer's address in each network between them, the preferred first.
    pub paths: Vec<(SocketAddr, SocketAddr)>,
    pub stall_limit: Duration,
    /// How many times longer the application's answers may take while a resync runs; `None`: no
    /// matter.
    pub latency_bound: Option<f64>,
    pub apart: Apart,
    /// No manager leads this node: an operator's word counts as one
    /// ([`crate::logic::member::MemberConfig::by_hand`]).
    pub by_hand: bool,
    pub digest: [u8; 32],
    pub pem: Pem<'a>,
}

#[derive(Debug, Error)]
pub enum DriverError {
    #[error(transparent)]
    Tls(#[from] TlsError),
    #[error("{0} and {1} have no network in common; give both an address in cluster.ron")]
    NoPath(String, String),
    #[error("replication address {addr}: {source}")]
    Bind {
        addr: SocketAddr,
        source: std::io::Error,
    },
    #[error(transparent)]
    Witness(#[from] WitnessError),
    #[error("isolation `ping`: {0}; it needs a raw socket, which only root gets")]
    Ping(std::io::Error),
    #[error("thread: {0}")]
    Thread(std::io::Error),
}

struct Core {
    link: Link,
    member: Member,
    completions: HashMap<OpSeq, Completion>,
    /// Who waits for the bytes of a [`Op::Fetch`].
    fetches: HashMap<OpSeq, Sender<Vec<u8>>>,
    /// Of a resync from this node.
    exchange: Option<Arc<exchange::Exchange>>,
    /// Received bytes that do not make a whole frame yet.
    rx: Vec<u8>,
    /// Counts sessions; ids bound in an earlier one are void.
    session: u64,
    greeted: bool,
}

/// Something for the director.
enum Event {
    Down(u64, String),
    Control(u64, Box<Control>),
    PeerFailed(u64, i32),
    ApplyFailed(u64, String),
    Input(Input),
    Command(Command, Sender<Result<(), Refusal>>),
}

/// An operator's word.
#[derive(Clone, Copy, Debug)]
pub enum Command {
    Prim {
        force: bool,
    },
    Second,
    Stop,
    Swap,
    Resync {
        everything: bool,
    },
    /// A fence command proved the peer off.
    Fenced,
}

#[derive(Default)]
struct Metrics {
    acknowledged: AtomicU64,
    applied: AtomicU64,
    sent: AtomicU64,
    received: AtomicU64,
}

struct Shared {
    core: Mutex<Core>,
    /// Signalled when the link may take more.
    room: Condvar,
    /// One for each path.
    sockets: Vec<Arc<Socket>>,
    tree: Arc<dyn Tree>,
    /// Whether operations of the peer are applied now.
    applying: AtomicBool,
    /// A verification found differences: the follower keeps its own version of them.
    keep_aside: AtomicBool,
    /// Requests of a resync of this node.
    desk: target::Desk,
    /// The resync from this node.
    run: Mutex<Option<Arc<source::Run>>>,
    /// Held from reading packets to the end of what follows from them: what arrives on several
    /// paths is one stream, whose order is that of the application.
    turn: Mutex<()>,
    /// Held while an operation of the peer is applied.
    apply: Mutex<()>,
    /// Something was sent or received since the timer looked.
    busy: AtomicBool,
    exit: AtomicBool,
    director: Mutex<Sender<Event>>,
    metrics: Metrics,
    news: status::News,
    witness: Option<Witness>,
    /// Pings as long as the driver lives.
    _pinger: Option<Pinger>,
    hello: HelloParts,
    stall_limit: Duration,
    latency_bound: Option<f64>,
}

struct HelloParts {
    cluster: String,
    module: String,
    node: String,
    peer: String,
    digest: [u8; 32],
}

/// Handle to a running driver.
#[derive(Clone)]
pub struct Driver {
    shared: Arc<Shared>,
}

impl Driver {
    /// Starts the threads. The returned receiver gets one message when the daemon is to end.
    ///
    /// # Errors
    /// Key material, address or threads that cannot be had.
    pub fn start(
        config: DriverConfig<'_>,
        tree: Arc<dyn Tree>,
        (store, record, boot): (RecordStore, Record, Id128),
    ) -> Result<(Self, Receiver<()>), DriverError> {
        let tls = Tls::new(config.pem, config.stall_limit)?;
        let names = (config.local.clone(), config.peer.clone());
        let used = &config.paths[..config.paths.len().min(MAX_PATHS)];
        if used.is_empty() {
            return Err(DriverError::NoPath(names.0, names.1));
        }
        let sockets = Socket::bind_all(used);
        let sockets = sockets.map_err(|(addr, source)| DriverError::Bind { addr, source })?;
        let now = clock::now();
        let dials = names.0 < names.1;
        let paths = Paths::new(sockets.clone(), config.stall_limit, dials, Instant::now());
        let link = Link::new(paths, tls, config.peer.clone(), dials, now);
        let member = Member::new(third::member_config(&config), (record, boot), now);
        let core = Core {
            link,
            member,
            completions: HashMap::new(),
            fetches: HashMap::new(),
            exchange: None,
            rx: Vec::new(),
            session: 0,
            greeted: false,
        };
        let (events, inbox) = channel();
        let (done, exited) = channel();
        let witness = third::start_witness(&config, &events)?;
        let pinger = third::start_pinger(&config, &events).map_err(DriverError::Ping)?;
        let shared = Arc::new(Shared {
            core: Mutex::new(core),
            room: Condvar::new(),
            sockets,
            tree,
            applying: AtomicBool::new(false),
            keep_aside: AtomicBool::new(false),
            desk: target::Desk::default(),
            run: Mutex::default(),
            turn: Mutex::new(()),
            apply: Mutex::new(()),
            busy: AtomicBool::new(false),
            exit: AtomicBool::new(false),
            director: Mutex::new(events),
            metrics: Metrics::default(),
            news: status::News::default(),
            witness,
            _pinger: pinger,
            hello: HelloParts {
                cluster: config.cluster,
                module: config.module,
                node: names.0,
                peer: names.1,
                digest: config.digest,
            },
            stall_limit: config.stall_limit,
            latency_bound: config.latency_bound,
        });
        lead::spawn(&shared, RECEIVERS, SYNCERS).map_err(DriverError::Thread)?;
        target::spawn(&shared).map_err(DriverError::Thread)?;
        timer::spawn(&shared).map_err(DriverError::Thread)?;
        director::spawn(&shared, store, inbox, done).map_err(DriverError::Thread)?;
        Ok((Self { shared }, exited))
    }

    /// Gives an order and waits until it is done or refused.
    ///
    /// # Errors
    /// The refusal.
    pub fn command(&self, command: Command) -> Result<(), Refusal> {
        let (reply, answer) = channel();
        self.shared.tell(Event::Command(command, reply));
        answer.recv().unwrap_or_else(|_| {
            Err(Refusal::new(
                "ended",
                "the daemon is ending",
                "start the module again",
            ))
        })
    }

    /// Tells the machine that what was written here could not be brought to this node's disk.
    pub fn local_failed(&self, what: &str) {
        let what = what.to_string();
        self.shared.tell(Event::Input(Input::LocalFailed { what }));
    }

    /// Tells the machine that the follower's replica differs: it is to be brought up.
    pub fn peer_differs(&self) {
        self.shared.keep_aside.store(true, Ordering::Relaxed);
        let errno = DIFFERS;
        self.shared.tell(Event::Input(Input::PeerFailed { errno }));
    }

    /// How the resync from this node stands, if there is one.
    pub fn resync(&self) -> Option<Standing> {
        let run = self.shared.run.lock();
        let run = run.unwrap_or_else(PoisonError::into_inner);
        let run = run.as_ref().filter(|r| !r.ended.load(Ordering::Relaxed));
        run.map(|r| r.standing(&self.shared.hello.peer))
    }

    /// Counts an operation acknowledged without the peer.
    pub fn count_alone(&self) {
        self.shared
            .metrics
            .acknowledged
            .fetch_add(1, Ordering::Relaxed);
    }
}

impl Shared {
    /// A poisoned lock means that a thread panicked; its data is still whole, because no panic can
    /// happen between two changes that belong together, and going on is safer than stopping.
    fn lock(&self) -> MutexGuard<'_, Core> {
        self.core.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn apply_lock(&self) -> MutexGuard<'_, ()> {
        self.apply.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn tell(&self, event: Event) {
        let director = self.director.lock().unwrap_or_else(PoisonError::into_inner);
        // The director outlives its senders except at the very end, when nobody listens.
        let _ = director.send(event);
    }

    fn hello(&self, member: &Member) -> Control {
        Control::Hello(Box::new(Hello {
            wire_min: WIRE_VERSION_MIN,
            wire_max: WIRE_VERSION,
            cluster: self.hello.cluster.clone(),
            module: self.hello.module.clone(),
            node: self.hello.node.clone(),
            digest: self.hello.digest,
            record: member.record().clone(),
            state: member.state(),
        }))
    }

    fn send_control(&self, core: &mut Core, control: &Control) {
        let mut out = Vec::new();
        encode_control(&mut out, control);
        core.link.write(Bytes::from(out));
        core.link.flush(Instant::now());
    }
}
