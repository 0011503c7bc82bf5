//! The node that lets another one join.

use std::collections::BTreeMap;
use std::fs;
use std::io::BufReader;
use std::net::{IpAddr, SocketAddr, TcpListener, TcpStream};
use std::sync::mpsc::{Receiver, RecvTimeoutError, Sender, channel};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use anyhow::{Context, Result, anyhow, bail};
use rustls::pki_types::pem::PemObject;
use rustls::pki_types::{CertificateDer, PrivateKeyDer};
use rustls::{ServerConfig, ServerConnection, StreamOwned};
use tandem_repl::io::timed::Timed;

use super::token::{Fault, LIFE, MOST_FAILURES, Token, Vault, unhex};
use super::wire::{
    ALPN, Answer, Joined, MAX_REQUEST, Request, SERVER_NAME, VERSION, Written, receive, send,
};
use crate::commands::init::plan::CA_KEY;
use crate::config::{Config, Dirs, load};
use crate::pki::{self, Ca};

/// For a whole exchange, the writing of the other node's files included.
const LIMIT: Duration = Duration::from_secs(30);
/// Connections at once: more are closed, strangers must not hold many.
const MAX_CLIENTS: usize = 16;
/// The certificate that is shown for as long as a token lives.
const VALID: Duration = Duration::from_secs(2 * LIFE);

/// What became of it.
enum Event {
    /// This node has joined and has written its files.
    Joined(String),
    /// It has its certificate, and did not say that it wrote its files.
    Unsure(String, String),
    /// There is no token any more.
    Void(String),
}

/// A node that another one may join.
pub(crate) struct Host {
    desk: Arc<Desk>,
    addresses: Vec<IpAddr>,
    port: u16,
}

/// What every connection needs.
struct Desk {
    dirs: Dirs,
    config: Config,
    ca: Ca,
    tls: Arc<ServerConfig>,
    /// One at a time: two must not use one token.
    vault: Mutex<Vault>,
}

impl Host {
    /// Checks everything; nobody is served yet.
    ///
    /// # Errors
    /// What makes it impossible, with its remedy.
    pub(crate) fn open(dirs: &Dirs, port: Option<u16>) -> Result<Self> {
        let config = load(dirs).complete()?;
        let read = |name: &str| {
            let path = dirs.config.join(name);
            fs::read_to_string(&path).with_context(|| {
                format!(
                    "reading {}: only the node that holds the cluster's authority can let others \
                     join; elsewhere use `tandem pki issue`",
                    path.display()
                )
            })
        };
        let ca = Ca {
            cert_pem: read("pki/ca.pem")?,
            key_pem: read(CA_KEY)?,
        };
        let port = port.unwrap_or(config.cluster.port);
        let own = config.cluster.nodes.iter().find(|n| n.name == config.node);
        let addresses = own.map(|own| own.addresses.clone()).unwrap_or_default();
        let tls = Arc::new(tls(&ca)?);
        let vault = Mutex::new(Vault::new(&dirs.state));
        let dirs = dirs.clone();
        let desk = Desk {
            dirs,
            config,
            ca,
            tls,
            vault,
        };
        Ok(Self {
            desk: Arc::new(desk),
            addresses,
            port,
        })
    }

    /// Where others reach it.
    pub(crate) fn address(&self) -> Option<(IpAddr, u16)> {
        self.addresses.first().map(|address| (*address, self.port))
    }

    /// Listens; whoever connects waits until [`Self::serve`].
    ///
    /// # Errors
    /// An address or the port cannot be had.
    pub(crate) fn listen(&self) -> Result<Vec<TcpListener>> {
        listen(&self.addresses, self.port)
    }

    /// The other nodes of the cluster.
    pub(crate) fn others(&self) -> Vec<String> {
        let nodes = self.desk.config.cluster.nodes.iter();
        let names = nodes.map(|node| node.name.clone());
        names
            .filter(|name| *name != self.desk.config.node)
            .collect()
    }

    /// Makes a new token.
    ///
    /// # Errors
    /// It cannot be kept.
    pub(crate) fn new_token(&self) -> Result<Token> {
        let token = Token::new(pki::fingerprint(&self.desk.ca.cert_pem)?)?;
        self.desk.vault().put(&token)?;
        Ok(token)
    }

    /// Seconds for which a token that was made before is still good.
    ///
    /// # Errors
    /// It cannot be read.
    pub(crate) fn token_rest(&self) -> Result<Option<u64>> {
        self.desk.vault().rest()
    }

    /// Serves until a node has joined, and says which.
    ///
    /// # Errors
    /// The token has become void, or the joined node did not end its part.
    pub(crate) fn serve(&self, listeners: Vec<TcpListener>) -> Result<String> {
        let (send, events) = channel();
        for listener in listeners {
            let (desk, send) = (self.desk.clone(), send.clone());
            std::thread::Builder::new()
                .name("join".into())
                .spawn(move || accept(&listener, &desk, &send))
                .context("thread")?;
        }
        match wait(&self.desk, &events)? {
            Event::Joined(node) => Ok(node),
            Event::Unsure(node, why) => bail!(
                "{node} got its certificate, but did not say that it wrote its files ({why}). Look \
                 there; if `tandem config check` finds none, run `tandem join --serve` here for a \
                 new token"
            ),
            Event::Void(why) => bail!("{why}; run `tandem join --serve` for a new token"),
        }
    }
}

/// The first thing that ends the serving. A token whose time is over ends it too.
fn wait(desk: &Desk, events: &Receiver<Event>) -> Result<Event> {
    loop {
        match events.recv_timeout(Duration::from_secs(1)) {
            Ok(event) => return Ok(event),
            Err(RecvTimeoutError::Disconnected) => bail!("nothing listens any more"),
            Err(RecvTimeoutError::Timeout) => {
                // While an exchange holds it, the token may have been used.
                let Ok(vault) = desk.vault.try_lock() else {
                    continue;
                };
                if vault.rest()?.is_none() {
                    drop(vault);
                    // Whoever used it is still writing.
                    return Ok(events
                        .recv_timeout(LIMIT)
                        .unwrap_or_else(|_| Event::Void("nobody joined in time".into())));
                }
            }
        }
    }
}

fn listen(addresses: &[IpAddr], port: u16) -> Result<Vec<TcpListener>> {
    let bind = |address: &IpAddr| {
        let at = SocketAddr::new(*address, port);
        TcpListener::bind(at).map_err(|error| match error.kind() {
            std::io::ErrorKind::AddrInUse => anyhow!(
                "listening on {at}: in use; if the failover manager runs here, give another port \
                 with --port"
            ),
            std::io::ErrorKind::AddrNotAvailable => anyhow!(
                "listening on {at}: this machine does not have the address; correct cluster.ron, \
                 or node.ron if this is another node"
            ),
            _ => anyhow!("listening on {at}: {error}"),
        })
    };
    addresses.iter().map(bind).collect()
}

fn tls(ca: &Ca) -> Result<ServerConfig> {
    let own = pki::issue_until(ca, SERVER_NAME, VALID)?;
    let certificate = |pem: &str| CertificateDer::from_pem_slice(pem.as_bytes());
    // The authority's goes along: the other node knows it by its fingerprint only.
    let chain = vec![certificate(&own.cert_pem)?, certificate(&ca.cert_pem)?];
    let key = PrivateKeyDer::from_pem_slice(own.key_pem.as_bytes())?;
    let provider = Arc::new(rustls::crypto::ring::default_provider());
    let mut tls = ServerConfig::builder_with_provider(provider)
        .with_protocol_versions(&[&rustls::version::TLS13])?
        .with_no_client_auth()
        .with_single_cert(chain, key)?;
    tls.alpn_protocols = vec![ALPN.to_vec()];
    Ok(tls)
}

fn accept(listener: &TcpListener, desk: &Arc<Desk>, events: &Sender<Event>) {
    let clients = Arc::new(());
    loop {
        let (stream, from) = match listener.accept() {
            Ok(accepted) => accepted,
            Err(e) => {
                tracing::warn!("accepting a connection: {e}");
                std::thread::sleep(Duration::from_millis(100));
                continue;
            }
        };
        if Arc::strong_count(&clients) > MAX_CLIENTS {
            tracing::warn!("{from}: too many connections at once");
            continue;
        }
        let (desk, events, held) = (desk.clone(), events.clone(), clients.clone());
        let serve = move || {
            let _held = held;
            match desk.converse(stream) {
                // The one who waits may have got another answer already.
                Ok(Some(event)) => drop(events.send(event)),
                Ok(None) => {}
                Err(e) => tracing::warn!("{from}: {e:#}"),
            }
        };
        if let Err(e) = std::thread::Builder::new().name("join".into()).spawn(serve) {
            tracing::warn!("{from}: thread: {e}");
        }
    }
}

impl Desk {
    fn vault(&self) -> std::sync::MutexGuard<'_, Vault> {
        self.vault.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn converse(&self, stream: TcpStream) -> Result<Option<Event>> {
        let connection = ServerConnection::new(self.tls.clone())?;
        let stream = StreamOwned::new(connection, Timed::new(stream, LIMIT));
        let mut stream = BufReader::new(stream);
        let request: Request = receive(&mut stream, MAX_REQUEST)?;
        let (answer, event) = self.answer(&request)?;
        let sent = send(stream.get_mut(), &answer);
        let Answer::Joined(_) = answer else {
            sent?;
            return Ok(event);
        };
        let written = sent.and_then(|()| receive::<Written>(&mut stream, MAX_REQUEST));
        Ok(Some(match written {
            Ok(Written { written: true }) => Event::Joined(request.node),
            Ok(_) => Event::Unsure(request.node, "it failed to".into()),
            Err(e) => Event::Unsure(request.node, e.to_string()),
        }))
    }

    /// The answer, and what it means for the serving. From here to the answer the token is held, so
    /// that it is used once.
    fn answer(&self, request: &Request) -> Result<(Answer, Option<Event>)> {
        if request.version != VERSION {
            let reason = format!("version {} of joining is not spoken here", request.version);
            let remedy = "install the same version of tandem on both nodes";
            return Ok((refused(reason, remedy), None));
        }
        let vault = self.vault();
        let secret = unhex(&request.secret).unwrap_or_default();
        if let Err(fault) = vault.check(&secret)? {
            return Ok(refuse_token(fault));
        }
        if let Some(answer) = self.refuse_node(&request.node) {
            return Ok((answer, None));
        }
        let joined = match self.joined(request) {
            Ok(joined) => joined,
            Err(e) => return Ok((refused(format!("{e:#}"), "see the other node"), None)),
        };
        // Before it is answered: a token that was used is used, whatever happens now.
        vault.remove()?;
        Ok((Answer::Joined(Box::new(joined)), None))
    }

    fn refuse_node(&self, node: &str) -> Option<Answer> {
        let known: Vec<_> = self.config.cluster.nodes.iter().map(|n| &*n.name).collect();
        let cluster = &self.config.cluster.name;
        if !known.contains(&node) {
            let reason = format!("cluster {cluster} has no node `{node}`");
            let remedy = format!("join as one of {}", known.join(", "));
            return Some(refused(reason, &remedy));
        }
        (node == self.config.node).then(|| {
            let reason = format!("`{node}` is the node that was asked");
            refused(reason, "join as another one of its cluster.ron")
        })
    }

    fn joined(&self, request: &Request) -> Result<Joined> {
        let read = |path: String| {
            let path = self.dirs.config.join(path);
            fs::read_to_string(&path).with_context(|| format!("reading {}", path.display()))
        };
        let mut modules = BTreeMap::new();
        for module in &self.config.modules {
            if module.nodes.contains(&request.node) {
                let text = read(format!("modules/{}.ron", module.name))?;
                modules.insert(module.name.clone(), text);
            }
        }
        Ok(Joined {
            cluster: self.config.cluster.name.clone(),
            ca_pem: self.ca.cert_pem.clone(),
            cert_pem: pki::certify(&self.ca, &request.node, &request.request_pem)?,
            cluster_ron: read("cluster.ron".into())?,
            modules,
        })
    }
}

fn refused(reason: impl Into<String>, remedy: &str) -> Answer {
    Answer::Refused {
        reason: reason.into(),
        remedy: remedy.into(),
    }
}

fn refuse_token(fault: Fault) -> (Answer, Option<Event>) {
    let reason = match fault {
        Fault::Used => "the token was used already, or is void",
        Fault::Expired => "the token has expired",
        Fault::Wrong => "the token is wrong",
        Fault::Closed => "the token is wrong, and after so many wrong ones there is none any more",
    };
    let remedy = match fault {
        Fault::Wrong => "copy it again from the other node",
        _ => "run `tandem join --serve` on the other node for a new one",
    };
    let event = match fault {
        Fault::Wrong => None,
        Fault::Closed => Some(format!("{MOST_FAILURES} wrong tokens were tried")),
        Fault::Used => Some("the token was used already".into()),
        Fault::Expired => Some("the token has expired".into()),
    };
    // A used one may be the end of an exchange that still runs: that one tells.
    let event = event.filter(|_| fault != Fault::Used).map(Event::Void);
    (refused(reason, remedy), event)
}
