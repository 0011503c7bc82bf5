//! Mutual TLS 1.3 between the nodes, with the cluster's own authority: a node is whom its
//! certificate names, and only nodes of the cluster get as far as the first frame.

use crate::limits::{KEEP_ALIVE, MIN_IDLE, SEND_WINDOW};
use quinn_proto::crypto::rustls::{QuicClientConfig, QuicServerConfig};
use quinn_proto::{
    AckFrequencyConfig, ClientConfig, IdleTimeout, MtuDiscoveryConfig, ServerConfig,
    TransportConfig, VarInt, congestion,
};
use rustls::RootCertStore;
use rustls::crypto::CryptoProvider;
use rustls::pki_types::pem::PemObject;
use rustls::pki_types::{CertificateDer, PrivateKeyDer, ServerName};
use rustls::server::WebPkiClientVerifier;
use rustls::server::danger::ClientCertVerifier;
use std::sync::Arc;
use std::time::Duration;
use thiserror::Error;

/// Protocol name offered in the handshake; a node that speaks something else is refused there.
const ALPN: &[u8] = b"tandem/1";

/// Ten such packets still fit one segmented send of 64 KiB; larger ones are refused by the kernel
/// and would count as lost.
const LARGEST_PACKET: u16 = 6500;
/// What QUIC demands of every network.
const SMALLEST_PACKET: u16 = 1200;

/// What is wrong with the key material.
#[derive(Debug, Error)]
pub enum TlsError {
    #[error("{what} is not valid PEM: {why}; issue the node's certificate again")]
    Pem { what: &'static str, why: String },
    #[error("certificate and key are not usable: {0}; issue the node's certificate again")]
    Unusable(String),
}

/// Endpoint configurations of one node.
pub struct Tls {
    pub client: ClientConfig,
    pub server: Arc<ServerConfig>,
    idle: Duration,
    /// Largest packet.
    largest: u16,
}

/// PEM texts of the cluster's authority, this node's certificate and its key.
#[derive(Clone, Copy)]
pub struct Pem<'a> {
    pub ca: &'a str,
    pub cert: &'a str,
    pub key: &'a str,
}

impl Tls {
    /// Builds both ends' configuration.
    ///
    /// `idle` is the time without any packet after which the link counts as lost.
    ///
    /// # Errors
    /// PEM that does not parse, or a key that does not fit its certificate.
    pub fn new(pem: Pem<'_>, idle: Duration) -> Result<Self, TlsError> {
        let client = client(pem, ALPN)?;
        let server = server(verifier(&[pem.ca])?, pem, ALPN)?;
        let idle = idle.max(MIN_IDLE);
        let transport = Arc::new(transport(idle, LARGEST_PACKET));
        let client = QuicClientConfig::try_from(client).map_err(unusable)?;
        let mut client = ClientConfig::new(Arc::new(client));
        client.transport_config(transport.clone());
        let server = QuicServerConfig::try_from(server).map_err(unusable)?;
        let mut server = ServerConfig::with_crypto(Arc::new(server));
        server.transport_config(transport).migration(false);
        Ok(Self {
            client,
            server: Arc::new(server),
            idle,
            largest: LARGEST_PACKET,
        })
    }

    /// Later connections never try packets larger than this.
    pub fn limit_packets(&mut self, largest: u16) {
        let largest = largest.clamp(SMALLEST_PACKET, LARGEST_PACKET);
        if largest != self.largest {
            self.largest = largest;
            let transport = Arc::new(transport(self.idle, largest));
            self.client.transport_config(transport.clone());
            let mut server = ServerConfig::clone(&self.server);
            server.transport_config(transport);
            self.server = Arc::new(server);
        }
    }
}

/// The connecting end: trusts `pem.ca`, shows `pem.cert`, speaks `alpn`.
///
/// # Errors
/// PEM that does not parse, or a key that does not fit its certificate.
pub fn client(pem: Pem<'_>, alpn: &[u8]) -> Result<rustls::ClientConfig, TlsError> {
    let (chain, key) = identity(pem)?;
    let mut client = rustls::ClientConfig::builder_with_provider(provider())
        .with_protocol_versions(&[&rustls::version::TLS13])
        .map_err(unusable)?
        .with_root_certificates(roots(&[pem.ca])?)
        .with_client_auth_cert(chain, key)
        .map_err(unusable)?;
    client.alpn_protocols = vec![alpn.to_vec()];
    Ok(client)
}

/// The accepting end: lets in whom `verifier` accepts, shows `pem.cert`, speaks `alpn`.
///
/// # Errors
/// PEM that does not parse, or a key that does not fit its certificate.
pub fn server(
    verifier: Arc<dyn ClientCertVerifier>,
    pem: Pem<'_>,
    alpn: &[u8],
) -> Result<rustls::ServerConfig, TlsError> {
    let (chain, key) = identity(pem)?;
    let mut server = rustls::ServerConfig::builder_with_provider(provider())
        .with_protocol_versions(&[&rustls::version::TLS13])
        .map_err(unusable)?
        .with_client_cert_verifier(verifier)
        .with_single_cert(chain, key)
        .map_err(unusable)?;
    server.alpn_protocols = vec![alpn.to_vec()];
    Ok(server)
}

/// Accepts the certificates that one of these authorities (PEM) issued.
///
/// # Errors
/// PEM that does not parse.
pub fn verifier(authorities: &[&str]) -> Result<Arc<dyn ClientCertVerifier>, TlsError> {
    WebPkiClientVerifier::builder_with_provider(roots(authorities)?, provider())
        .build()
        .map_err(unusable)
}

fn provider() -> Arc<CryptoProvider> {
    Arc::new(rustls::crypto::ring::default_provider())
}

fn unusable(error: impl std::fmt::Display) -> TlsError {
    TlsError::Unusable(error.to_string())
}

fn roots(authorities: &[&str]) -> Result<Arc<RootCertStore>, TlsError> {
    let mut roots = RootCertStore::empty();
    for pem in authorities {
        for cert in certificates("the authority's certificate", pem)? {
            roots.add(cert).map_err(unusable)?;
        }
    }
    Ok(Arc::new(roots))
}

type Identity = (Vec<CertificateDer<'static>>, PrivateKeyDer<'static>);

fn identity(pem: Pem<'_>) -> Result<Identity, TlsError> {
    let chain = certificates("the node's certificate", pem.cert)?;
    let key = PrivateKeyDer::from_pem_slice(pem.key.as_bytes()).map_err(|e| TlsError::Pem {
        what: "the node's key",
        why: e.to_string(),
    })?;
    Ok((chain, key))
}

/// A node's name as its certificate has it.
///
/// # Errors
/// A name that cannot stand in a certificate.
pub fn server_name(node: &str) -> std::io::Result<ServerName<'static>> {
    let name = ServerName::try_from(node.to_string());
    name.map_err(|e| std::io::Error::new(std::io::ErrorKind::InvalidInput, e))
}

/// Whether the certificate chain a peer presented names `node`.
pub fn names_node(chain: &[CertificateDer<'_>], node: &str) -> bool {
    let Some(cert) = chain.first() else {
        return false;
    };
    let Ok(cert) = webpki::EndEntityCert::try_from(cert) else {
        return false;
    };
    let Ok(name) = ServerName::try_from(node) else {
        return false;
    };
    cert.verify_is_valid_for_subject_name(&name).is_ok()
}

fn certificates(what: &'static str, pem: &str) -> Result<Vec<CertificateDer<'static>>, TlsError> {
    let bad = |why: String| TlsError::Pem { what, why };
    let certs: Result<Vec<_>, _> = CertificateDer::pem_slice_iter(pem.as_bytes()).collect();
    let certs = certs.map_err(|e| bad(e.to_string()))?;
    if certs.is_empty() {
        Err(bad("it holds no certificate".into()))
    } else {
        Ok(certs)
    }
}

/// A dedicated replication link: few acknowledgement packets (their delay would otherwise be
/// added to the loss timer), a large first window (no slow start after idle), packets up to 6,500
/// bytes ([`LARGEST_PACKET`]) where the path carries them.
fn transport(idle: Duration, largest: u16) -> TransportConfig {
    let mut acks = AckFrequencyConfig::default();
    acks.ack_eliciting_threshold(VarInt::from_u32(40));
    acks.max_ack_delay(Some(Duration::from_millis(2)));
    let mut mtu = MtuDiscoveryConfig::default();
    mtu.upper_bound(largest).interval(Duration::from_secs(60));
    let mut cubic = congestion::CubicConfig::default();
    cubic.initial_window(8 * 1024 * 1024);
    let window = VarInt::from_u64(SEND_WINDOW).expect("the window is far below 2^62");
    let idle = IdleTimeout::try_from(idle).expect("the stall limit is at most a minute");

    let mut t = TransportConfig::default();
    t.max_concurrent_bidi_streams(VarInt::from_u32(4))
        .max_concurrent_uni_streams(VarInt::from_u32(0))
        .max_idle_timeout(Some(idle))
        .keep_alive_interval(Some(KEEP_ALIVE))
        .stream_receive_window(window)
        .receive_window(window)
        .send_window(SEND_WINDOW)
        .send_fairness(false)
        .initial_rtt(Duration::from_millis(2))
        .ack_frequency_config(Some(acks))
        .mtu_discovery_config(Some(mtu))
        .congestion_controller_factory(Arc::new(cubic))
        .datagram_receive_buffer_size(None);
    t
}
