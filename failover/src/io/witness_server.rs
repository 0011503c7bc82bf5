//! `tandem witness`: a small durable register for many clusters, over mutual TLS.
//!
//! It trusts the authority of every cluster it knows, each for that cluster only. A connection
//! carries one question ([`tandem_repl::wire::WitnessRequest`]) and its answer, within one
//! deadline. What it decides is [`tandem_repl::logic::witness::Register`], kept by [`store`].

pub mod store;

use std::collections::BTreeMap;
use std::convert::Infallible;
use std::io::{self, Read, Write};
use std::net::{SocketAddr, TcpListener, TcpStream};
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Duration;

use rustls::pki_types::UnixTime;
use rustls::server::danger::ClientCertVerifier;
use rustls::{ServerConfig, ServerConnection, StreamOwned};
use store::Store;
use tandem_repl::io::timed::Timed;
use tandem_repl::io::tls::{self, Pem, TlsError};
use tandem_repl::wire::{
    Held, Trouble, WITNESS_ALPN, WITNESS_HEADER, WitnessReply, WitnessRequest, decode_witness,
    encode_witness, witness_body,
};

/// For a whole connection: whoever takes longer asks again.
const LIMIT: Duration = Duration::from_secs(5);
/// Connections at once. More are closed at once; their nodes ask again.
const MAX_CLIENTS: usize = 128;
/// Largest certificate file read, bytes.
const MAX_PEM: u64 = 1 << 20;

/// What a witness must know.
pub struct WitnessServerConfig {
    pub listen: SocketAddr,
    /// Made if missing.
    pub state_dir: PathBuf,
    /// Holds one file `CLUSTER.pem` for each cluster: the certificate of its authority.
    pub clients: PathBuf,
    /// PEM of this witness's certificate and key.
    pub cert_pem: String,
    pub key_pem: String,
}

/// Why a witness cannot run.
#[derive(Debug, thiserror::Error)]
pub enum WitnessServerError {
    #[error("{}: {source}", path.display())]
    Io { path: PathBuf, source: io::Error },
    #[error("{}: holds no file CLUSTER.pem; copy each cluster's ca.pem there", path.display())]
    NoClusters { path: PathBuf },
    #[error("{}: {source}", path.display())]
    Authority { path: PathBuf, source: TlsError },
    #[error(transparent)]
    Tls(#[from] TlsError),
    #[error("listening on {address}: {source}; choose another with --listen")]
    Listen {
        address: SocketAddr,
        source: io::Error,
    },
}

/// A witness that listens.
pub struct WitnessServer {
    listener: TcpListener,
    desk: Arc<Desk>,
}

/// What every connection needs.
struct Desk {
    tls: Arc<ServerConfig>,
    /// By cluster: who accepts its nodes' certificates.
    clusters: BTreeMap<String, Arc<dyn ClientCertVerifier>>,
    store: Store,
}

impl WitnessServer {
    /// Checks everything and listens; clients wait until [`Self::run`].
    ///
    /// # Errors
    /// What makes it impossible to run, with its place and remedy.
    pub fn bind(config: &WitnessServerConfig) -> Result<Self, WitnessServerError> {
        let authorities = authorities(&config.clients)?;
        let mut clusters = BTreeMap::new();
        for (cluster, pem) in &authorities {
            let verifier = tls::verifier(&[pem]);
            let verifier = verifier.map_err(|source| WitnessServerError::Authority {
                path: config.clients.join(format!("{cluster}.pem")),
                source,
            })?;
            clusters.insert(cluster.clone(), verifier);
        }
        let all: Vec<&str> = authorities.values().map(String::as_str).collect();
        let pem = Pem {
            ca: "",
            cert: &config.cert_pem,
            key: &config.key_pem,
        };
        let tls = Arc::new(tls::server(tls::verifier(&all)?, pem, WITNESS_ALPN)?);
        let store = Store::open(&config.state_dir).map_err(|source| WitnessServerError::Io {
            path: config.state_dir.clone(),
            source,
        })?;
        let address = config.listen;
        let listener = TcpListener::bind(address)
            .map_err(|source| WitnessServerError::Listen { address, source })?;
        let desk = Desk {
            tls,
            clusters,
            store,
        };
        Ok(Self {
            listener,
            desk: Arc::new(desk),
        })
    }

    /// The clusters it serves.
    pub fn clusters(&self) -> impl Iterator<Item = &str> {
        self.desk.clusters.keys().map(String::as_str)
    }

    /// Where it listens.
    ///
    /// # Errors
    /// The kernel does not tell.
    pub fn address(&self) -> io::Result<SocketAddr> {
        self.listener.local_addr()
    }

    /// Serves until the process ends.
    ///
    /// # Errors
    /// Connections cannot be accepted any more.
    pub fn run(self) -> io::Result<Infallible> {
        let clients = Arc::new(());
        loop {
            let (stream, from) = match self.listener.accept() {
                Ok(accepted) => accepted,
                Err(e) if passes(&e) => {
                    tracing::warn!("accepting a connection: {e}");
                    std::thread::sleep(Duration::from_millis(50));
                    continue;
                }
                Err(e) => return Err(e),
            };
            if Arc::strong_count(&clients) > MAX_CLIENTS {
                tracing::warn!("{from}: too many connections at once");
                continue;
            }
            let (desk, held) = (self.desk.clone(), clients.clone());
            let serve = move || {
                let _held = held;
                if let Err(why) = desk.converse(stream) {
                    tracing::debug!("{from}: {why}");
                }
            };
            let thread = std::thread::Builder::new().name("client".into());
            if let Err(e) = thread.spawn(serve) {
                tracing::warn!("{from}: thread: {e}");
            }
        }
    }
}

/// Whether accepting may work again: the other end has gone, or something is short.
fn passes(error: &io::Error) -> bool {
    let short = [libc::EMFILE, libc::ENFILE, libc::ENOBUFS, libc::ENOMEM];
    let gone = [libc::ECONNABORTED, libc::EINTR, libc::EPROTO, libc::EPERM];
    let code = error.raw_os_error();
    code.is_some_and(|code| short.contains(&code) || gone.contains(&code))
}

/// Each cluster's authority by the names of the files.
fn authorities(dir: &Path) -> Result<BTreeMap<String, String>, WitnessServerError> {
    let failed = |path: &Path, source| WitnessServerError::Io {
        path: path.into(),
        source,
    };
    let mut found = BTreeMap::new();
    for entry in std::fs::read_dir(dir).map_err(|e| failed(dir, e))? {
        let path = entry.map_err(|e| failed(dir, e))?.path();
        let name = path.file_name().and_then(|name| name.to_str());
        let Some(cluster) = name.and_then(|name| name.strip_suffix(".pem")) else {
            tracing::warn!("{}: ignored, it is no CLUSTER.pem", path.display());
            continue;
        };
        let mut pem = String::new();
        std::fs::File::open(&path)
            .and_then(|file| file.take(MAX_PEM).read_to_string(&mut pem))
            .map_err(|e| failed(&path, e))?;
        found.insert(cluster.to_string(), pem);
    }
    if found.is_empty() {
        return Err(WitnessServerError::NoClusters { path: dir.into() });
    }
    Ok(found)
}

impl Desk {
    /// One question and its answer.
    fn converse(&self, stream: TcpStream) -> Result<(), String> {
        let failed = |e: io::Error| e.to_string();
        let connection = ServerConnection::new(self.tls.clone()).map_err(|e| e.to_string())?;
        let mut stream = StreamOwned::new(connection, Timed::new(stream, LIMIT));
        let mut header = [0; WITNESS_HEADER];
        stream.read_exact(&mut header).map_err(failed)?;
        let length = witness_body(&header).map_err(|e| e.to_string())?;
        let mut body = vec![0; length];
        stream.read_exact(&mut body).map_err(failed)?;
        let request: WitnessRequest = decode_witness(&body).map_err(|e| e.to_string())?;
        let result = self
            .admits(&stream.conn, &request)
            .and_then(|()| self.answer(&request));
        if let Err(trouble) = &result {
            tracing::warn!("{}: {trouble}", asker(&request));
        }
        let nonce = request.nonce;
        let reply = encode_witness(&WitnessReply { nonce, result });
        stream.write_all(&reply).map_err(failed)?;
        stream.conn.send_close_notify();
        stream.flush().map_err(failed)
    }

    /// Whether the certificate shown is of the cluster, and of the node, that the request names.
    fn admits(
        &self,
        connection: &ServerConnection,
        request: &WitnessRequest,
    ) -> Result<(), Trouble> {
        let stranger = |reason: String| Trouble::new("stranger", reason);
        if !request.is_proper() {
            return Err(stranger(
                "the request names no cluster, node and volume".into(),
            ));
        }
        let (cluster, node) = (&request.cluster, &request.node);
        let Some(verifier) = self.clusters.get(cluster) else {
            return Err(stranger(format!(
                "cluster {cluster} is not known here; put its ca.pem among the witness's clients \
                 as {cluster}.pem and start the witness again"
            )));
        };
        let chain = connection.peer_certificates().unwrap_or_default();
        let of_cluster = chain.split_first().is_some_and(|(own, others)| {
            let now = UnixTime::now();
            verifier.verify_client_cert(own, others, now).is_ok()
        });
        if !of_cluster {
            return Err(stranger(format!(
                "the certificate shown was not issued by the authority of cluster {cluster}"
            )));
        }
        if !tls::names_node(chain, node) {
            return Err(stranger(format!(
                "the certificate shown is not that of node {node}"
            )));
        }
        Ok(())
    }

    fn answer(&self, request: &WitnessRequest) -> Result<Held, Trouble> {
        let (cluster, volume) = (&request.cluster, request.volume);
        let held = self.store.answer(cluster, volume, &request.question)?;
        let who = asker(request);
        let (_, new) = request.question.ids();
        match held.id {
            _ if held.granted => tracing::debug!("{who}: epoch {new} is held"),
            Some(id) => tracing::info!("{who}: epoch {new} is refused, {id} is held"),
            None => tracing::info!("{who}: epoch {new} is refused, nothing was told yet"),
        }
        Ok(held)
    }
}

/// Who asks about what, for the log. Names are shortened: they come from outside.
fn asker(request: &WitnessRequest) -> String {
    let short = |name: &str| name.escape_debug().take(64).collect::<String>();
    let (cluster, node) = (short(&request.cluster), short(&request.node));
    format!("{node} of cluster {cluster}, volume {}", request.volume)
}

#[cfg(test)]
#[allow(clippy::unwrap_used)]
pub(crate) mod tests {
    use super::*;
    use std::sync::atomic::{AtomicU32, Ordering};

    /// A directory of its own for each test, removed at the end.
    pub(crate) struct Scratch(pub(crate) PathBuf);

    impl Scratch {
        pub(crate) fn new() -> Self {
            static NEXT: AtomicU32 = AtomicU32::new(0);
            let number = NEXT.fetch_add(1, Ordering::Relaxed);
            let name = format!("tandem-witness-{}-{number}", std::process::id());
            let path = std::env::temp_dir().join(name);
            std::fs::create_dir(&path).unwrap();
            Self(path)
        }
    }

    impl Drop for Scratch {
        fn drop(&mut self) {
            let _ = std::fs::remove_dir_all(&self.0);
        }
    }

    #[test]
    fn what_is_missing_is_named() {
        let scratch = Scratch::new();
        let bind = |clients: &Path| {
            let config = WitnessServerConfig {
                listen: "127.0.0.1:0".parse().unwrap(),
                state_dir: scratch.0.join("state"),
                clients: clients.into(),
                cert_pem: String::new(),
                key_pem: String::new(),
            };
            let error = WitnessServer::bind(&config).err().unwrap().to_string();
            error.replace(&*scratch.0.to_string_lossy(), "")
        };
        let error = bind(&scratch.0.join("clients"));
        assert!(error.starts_with("/clients: No such file"), "{error}");
        let clients = scratch.0.join("some");
        std::fs::create_dir(&clients).unwrap();
        std::fs::write(clients.join("README"), "no authority").unwrap();
        let error = bind(&clients);
        assert!(
            error.contains("copy each cluster's ca.pem there"),
            "{error}"
        );
        std::fs::write(clients.join("shop.pem"), "no PEM").unwrap();
        let error = bind(&clients);
        assert!(
            error.starts_with("/some/shop.pem: the authority's"),
            "{error}"
        );
    }
}
