//! The link between the managers of the cluster: heartbeats over every pair of addresses, and
//! requests to another node.
//!
//! One TLS connection for each path (address i of this node, address i of the other), mutually
//! authenticated with the cluster's certificates; the node whose name sorts first dials. Over each
//! of them both ends send a heartbeat at a steady pace, and at once when a module changes. What
//! they say is shown; no decision about data hangs on it.

mod reason;
mod session;
mod show;

use crate::control::{Answer, Brief, Envelope};
use crate::driver::{Node, Settings};
use crate::logic::change::keys::Facts;
use session::{Frame, Link};
use std::collections::{BTreeMap, HashMap};
use std::net::{IpAddr, SocketAddr};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};
use tandem_repl::control::Refusal;
use tandem_repl::io::tls::{self, Pem, TlsError};
use tokio::net::{TcpListener, TcpSocket, TcpStream};
use tokio::sync::{mpsc, watch};
use tokio::time::{sleep, timeout};
use tokio_rustls::{TlsAcceptor, TlsConnector};

/// Pace of the heartbeats.
pub const BEAT: Duration = Duration::from_millis(300);
/// A path that was silent for so long is lost.
pub const SILENT: Duration = Duration::from_millis(1500);
/// Between two attempts to connect, or to listen.
const AGAIN: Duration = Duration::from_millis(500);
/// Connecting and the handshake.
const CONNECT: Duration = Duration::from_secs(3);
/// Handshakes at once; strangers must not hold more.
const MAX_STRANGERS: usize = 32;
const ALPN: &[u8] = b"tandem-manager/1";

/// What becomes of an answer.
pub type Reply = Box<dyn FnOnce(Answer) + Send>;

/// The link to the other managers.
#[derive(Clone)]
pub struct Peers {
    shared: Arc<Shared>,
    briefs: Arc<watch::Sender<BTreeMap<String, Brief>>>,
    facts: Arc<watch::Sender<Facts>>,
}

struct Shared {
    local: Node,
    nodes: Vec<Node>,
    port: u16,
    /// By whom, what.
    serve: Box<dyn Fn(String, Envelope, Reply) + Send + Sync>,
    state: Mutex<State>,
}

#[derive(Default)]
struct State {
    paths: HashMap<(String, usize), Path>,
    modules: HashMap<String, BTreeMap<String, Brief>>,
    /// Of its configuration.
    facts: HashMap<String, Facts>,
    next_request: u64,
    /// Requests that wait for their answer, with the path they went over.
    pending: HashMap<u64, ((String, usize), Reply)>,
}

#[derive(Default)]
struct Path {
    heard: Option<Instant>,
    /// To the connection that stands.
    sender: Option<mpsc::UnboundedSender<Frame>>,
    /// Counts connections: an old one must not undo what a newer one did.
    life: u64,
    /// What was in the way last.
    trouble: Option<String>,
}

impl Peers {
    /// Starts the thread. `serve` is called with what other managers ask.
    ///
    /// # Errors
    /// Key material that cannot be used, or no thread.
    pub fn start(
        settings: &Settings,
        serve: impl Fn(String, Envelope, Reply) + Send + Sync + 'static,
    ) -> Result<Self, TlsError> {
        let [ca, cert, key] = &settings.credentials;
        let pem = Pem { ca, cert, key };
        let connector = TlsConnector::from(Arc::new(tls::client(pem, ALPN)?));
        let server = tls::server(tls::verifier(&[ca])?, pem, ALPN)?;
        let acceptor = TlsAcceptor::from(Arc::new(server));
        let (local, nodes): (Vec<_>, Vec<_>) = settings
            .nodes
            .iter()
            .cloned()
            .partition(|node| node.name == settings.node);
        let local = local.into_iter().next().unwrap_or_else(|| Node {
            name: settings.node.clone(),
            addresses: Vec::new(),
        });
        let shared = Arc::new(Shared {
            local,
            nodes,
            port: settings.port,
            serve: Box::new(serve),
            state: Mutex::default(),
        });
        let (briefs, _) = watch::channel(BTreeMap::new());
        let (facts, _) = watch::channel(Facts::default());
        let peers = Self {
            shared: shared.clone(),
            briefs: Arc::new(briefs),
            facts: Arc::new(facts),
        };
        let ends = Ends {
            shared,
            briefs: peers.briefs.clone(),
            facts: peers.facts.clone(),
            connector,
            acceptor,
        };
        let run = move || match runtime() {
            Ok(runtime) => runtime.block_on(ends.run()),
            Err(e) => tracing::error!("the link between the managers cannot run: {e}"),
        };
        let spawned = std::thread::Builder::new().name("peers".into()).spawn(run);
        if let Err(e) = spawned {
            tracing::error!("the link between the managers cannot run: {e}");
        }
        Ok(peers)
    }

    /// What this node's modules are; told to all at once when it changed.
    pub fn say(&self, briefs: BTreeMap<String, Brief>) {
        self.briefs.send_if_modified(|old| {
            let changed = *old != briefs;
            *old = briefs;
            changed
        });
    }

    /// What this node's configuration is.
    pub fn say_facts(&self, facts: Facts) {
        self.facts.send_replace(facts);
    }

    /// What another node said of its configuration, if it is heard of.
    pub fn facts(&self, node: &str) -> Option<Facts> {
        self.modules(node)?;
        self.shared.state().facts.get(node).cloned()
    }

    /// Has another node's manager answer.
    pub fn forward(&self, node: &str, envelope: Envelope, reply: Reply) {
        let mut state = self.shared.state();
        let sender = state.paths.iter().find_map(|(path, p)| {
            let sender = p.sender.clone().filter(|_| path.0 == node && p.is_alive());
            sender.map(|sender| (path.clone(), sender))
        });
        let Some((path, sender)) = sender else {
            drop(state);
            return reply(unreachable(node));
        };
        state.next_request += 1;
        let id = state.next_request;
        state.pending.insert(id, (path, reply));
        // If it just ended, its end answers.
        let _ = sender.send(Frame::Request { id, envelope });
    }

    /// What another node said of its modules last, if it is heard of.
    pub fn modules(&self, node: &str) -> Option<BTreeMap<String, Brief>> {
        let state = self.shared.state();
        let alive = |((name, _), path): (&(String, usize), &Path)| name == node && path.is_alive();
        let heard = state.paths.iter().any(alive);
        heard.then(|| state.modules.get(node).cloned()).flatten()
    }
}

fn unreachable(node: &str) -> Answer {
    Answer::Refused(Refusal::new(
        "unreachable",
        format!("the manager of {node} does not answer"),
        format!("run the command on {node}, or start its manager"),
    ))
}

fn runtime() -> std::io::Result<tokio::runtime::Runtime> {
    tokio::runtime::Builder::new_current_thread()
        .enable_all()
        .build()
}

impl Path {
    fn is_alive(&self) -> bool {
        self.heard.is_some_and(|at| at.elapsed() < SILENT)
    }
}

impl Shared {
    fn trouble(&self, path: &(String, usize), why: String) {
        let mut state = self.state();
        state.paths.entry(path.clone()).or_default().trouble = Some(why);
    }

    /// Who connected is known by its address only.
    fn refused(&self, from: IpAddr, why: &str) {
        for node in &self.nodes {
            if let Some(index) = node.addresses.iter().position(|a| *a == from) {
                self.trouble(&(node.name.clone(), index), why.to_string());
            }
        }
    }

    fn state(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// What connections are made with.
#[derive(Clone)]
struct Ends {
    shared: Arc<Shared>,
    briefs: Arc<watch::Sender<BTreeMap<String, Brief>>>,
    facts: Arc<watch::Sender<Facts>>,
    connector: TlsConnector,
    acceptor: TlsAcceptor,
}

impl Ends {
    async fn run(self) {
        for address in self.shared.local.addresses.clone() {
            tokio::spawn(self.clone().listen(address));
        }
        for node in self.shared.nodes.clone() {
            let pairs = self.shared.local.addresses.iter().zip(&node.addresses);
            for (index, (local, remote)) in pairs.enumerate() {
                if self.shared.local.name < node.name {
                    let path = (node.name.clone(), index);
                    tokio::spawn(self.clone().dial(path, *local, *remote));
                }
            }
        }
        std::future::pending::<()>().await;
    }

    async fn dial(self, path: (String, usize), local: IpAddr, remote: IpAddr) {
        loop {
            match timeout(CONNECT, self.connect(&path.0, local, remote)).await {
                Ok(Ok(link)) => self.talk(path.clone(), link).await,
                Ok(Err(e)) => {
                    tracing::debug!("{} at {remote}: {e}", path.0);
                    self.shared.trouble(&path, e.to_string());
                }
                Err(_) => {
                    tracing::debug!("{} at {remote}: no answer", path.0);
                    self.shared.trouble(&path, format!("{remote} is silent"));
                }
            }
            sleep(AGAIN).await;
        }
    }

    async fn connect(&self, node: &str, local: IpAddr, remote: IpAddr) -> std::io::Result<Link> {
        let socket = match local {
            IpAddr::V4(_) => TcpSocket::new_v4()?,
            IpAddr::V6(_) => TcpSocket::new_v6()?,
        };
        // So that the path is the one that is meant.
        socket.bind(SocketAddr::new(local, 0))?;
        let stream = socket
            .connect(SocketAddr::new(remote, self.shared.port))
            .await?;
        stream.set_nodelay(true)?;
        let name = tls::server_name(node)?;
        let stream = self.connector.connect(name, stream).await?;
        Ok(Link::new(stream.into()))
    }

    async fn listen(self, address: IpAddr) {
        let at = SocketAddr::new(address, self.shared.port);
        let strangers = Arc::new(tokio::sync::Semaphore::new(MAX_STRANGERS));
        let mut said = false;
        loop {
            match TcpListener::bind(at).await {
                Ok(listener) => {
                    said = false;
                    while let Ok((stream, from)) = listener.accept().await {
                        let Ok(permit) = strangers.clone().try_acquire_owned() else {
                            continue;
                        };
                        let ends = self.clone();
                        tokio::spawn(async move {
                            let accepted = timeout(CONNECT, ends.accept(stream, from.ip())).await;
                            drop(permit);
                            if let Ok(Some((path, link))) = accepted {
                                ends.talk(path, link).await;
                            }
                        });
                    }
                }
                Err(e) if !said => {
                    tracing::warn!("managers' link at {at}: {e}; it is tried again");
                    said = true;
                }
                Err(_) => {}
            }
            sleep(AGAIN).await;
        }
    }

    /// Whoever connects is one of the cluster's nodes by its certificate, from its own address.
    async fn accept(&self, stream: TcpStream, from: IpAddr) -> Option<((String, usize), Link)> {
        stream.set_nodelay(true).ok()?;
        let stream = match self.acceptor.accept(stream).await {
            Ok(stream) => stream,
            Err(e) => {
                tracing::warn!("managers' link: {from} is refused: {e}");
                self.shared.refused(from, &e.to_string());
                return None;
            }
        };
        let chain = stream.get_ref().1.peer_certificates()?.to_vec();
        let node = self.shared.nodes.iter();
        let node = node.clone().find(|n| tls::names_node(&chain, &n.name));
        let Some(node) = node else {
            tracing::warn!("managers' link: {from} is no node of this cluster");
            let why = format!("the certificate of {from} names no node of this cluster");
            self.shared.refused(from, &why);
            return None;
        };
        let index = node.addresses.iter().position(|a| *a == from);
        let Some(index) = index else {
            tracing::warn!(
                "managers' link: {} comes from {from}, not its own",
                node.name
            );
            return None;
        };
        Some(((node.name.clone(), index), Link::new(stream.into())))
    }

    /// Until the connection ends.
    async fn talk(&self, path: (String, usize), link: Link) {
        let (sender, queue) = mpsc::unbounded_channel();
        let life = {
            let mut state = self.shared.state();
            let entry = state.paths.entry(path.clone()).or_default();
            entry.life += 1;
            entry.sender = Some(sender.clone());
            entry.life
        };
        let ended = session::run(self, &path, link, sender, queue).await;
        tracing::debug!("{}: path {} ended: {ended}", path.0, path.1);
        let lost: Vec<Reply> = {
            let mut state = self.shared.state();
            if let Some(entry) = state.paths.get_mut(&path).filter(|p| p.life == life) {
                entry.sender = None;
                entry.heard = None;
                entry.trouble = Some(ended);
            }
            let ids: Vec<u64> = state
                .pending
                .iter()
                .filter(|(_, (over, _))| *over == path)
                .map(|(id, _)| *id)
                .collect();
            let taken = ids.iter().filter_map(|id| state.pending.remove(id));
            taken.map(|(_, reply)| reply).collect()
        };
        for reply in lost {
            reply(unreachable(&path.0));
        }
    }
}
