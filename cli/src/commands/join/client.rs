//! The node that joins.

use std::io::BufReader;
use std::net::{SocketAddr, TcpStream};
use std::sync::Arc;
use std::time::Duration;

use anyhow::{Context, Result, anyhow, bail};
use rustls::client::WebPkiServerVerifier;
use rustls::client::danger::{HandshakeSignatureValid, ServerCertVerified, ServerCertVerifier};
use rustls::crypto::{CryptoProvider, verify_tls12_signature, verify_tls13_signature};
use rustls::pki_types::{CertificateDer, ServerName, UnixTime};
use rustls::{
    CertificateError, ClientConfig, ClientConnection, DigitallySignedStruct, Error, RootCertStore,
    SignatureScheme, StreamOwned,
};
use tandem_repl::io::timed::Timed;

use super::token::{Token, hex};
use super::wire::{
    ALPN, Answer, Joined, MAX_ANSWER, Request, SERVER_NAME, VERSION, Written, receive, send,
};
use crate::pki::{Wish, fingerprint_of};

const CONNECT: Duration = Duration::from_secs(10);
const LIMIT: Duration = Duration::from_secs(30);

/// Asks to join, hands what is given to `write`, and reports that it is written.
///
/// # Errors
/// The other node cannot be reached, is not the one that made the token, or refuses; or `write`
/// failed.
pub(crate) fn join<T>(
    address: SocketAddr,
    token: &Token,
    node: &str,
    wish: &Wish,
    write: impl FnOnce(&Joined) -> Result<T>,
) -> Result<T> {
    let context = || format!("joining at {address}");
    let stream = TcpStream::connect_timeout(&address, CONNECT).map_err(|e| {
        anyhow!(
            "{address}: {e}; is `tandem init`, or `tandem join --serve`, running there, and does \
             the firewall let TCP port {} through?",
            address.port()
        )
    })?;
    let name = ServerName::try_from(SERVER_NAME).context("the server's name")?;
    let connection = ClientConnection::new(Arc::new(tls(token)?), name).with_context(context)?;
    let mut stream = StreamOwned::new(connection, Timed::new(stream, LIMIT));
    let request = Request {
        version: VERSION,
        node: node.into(),
        secret: hex(&token.secret),
        request_pem: wish.request_pem.clone(),
    };
    // The secret leaves only after the handshake has proved who the other end is.
    send(&mut stream, &request).map_err(|e| explain(address, &e))?;
    let mut stream = BufReader::new(stream);
    let answer = receive(&mut stream, MAX_ANSWER).map_err(|e| explain(address, &e))?;
    let joined = match answer {
        Answer::Joined(joined) => joined,
        Answer::Refused { reason, remedy } => bail!("{address} refuses: {reason}; {remedy}"),
    };
    let done = write(&joined);
    let word = Written {
        written: done.is_ok(),
    };
    // It only tells the other node; here it is as it is.
    if let Err(e) = send(stream.get_mut(), &word) {
        tracing::warn!("{address} was not told that this is done: {e}");
    }
    done
}

fn explain(address: SocketAddr, error: &std::io::Error) -> anyhow::Error {
    let tls = error
        .get_ref()
        .and_then(|inner| inner.downcast_ref::<Error>());
    match tls {
        Some(Error::InvalidCertificate(CertificateError::UnknownIssuer)) => anyhow!(
            "{address} is not the node that made this token; nothing was sent to it. Check the \
             address, and copy the token again"
        ),
        Some(Error::InvalidCertificate(
            CertificateError::NotValidYet | CertificateError::NotValidYetContext { .. },
        )) => anyhow!("{address}: its certificate begins later; set the clock of this machine"),
        _ => anyhow!("{address}: {error}; see the other node"),
    }
}

fn tls(token: &Token) -> Result<ClientConfig> {
    let provider = Arc::new(rustls::crypto::ring::default_provider());
    let verifier = ByFingerprint {
        fingerprint: token.fingerprint,
        provider: provider.clone(),
    };
    let mut tls = ClientConfig::builder_with_provider(provider)
        .with_protocol_versions(&[&rustls::version::TLS13])?
        .dangerous()
        .with_custom_certificate_verifier(Arc::new(verifier))
        .with_no_client_auth();
    tls.alpn_protocols = vec![ALPN.to_vec()];
    Ok(tls)
}

/// Trusts the authority with this fingerprint, if the other end shows it, and nobody else. All that
/// follows from that is the library's usual check.
#[derive(Debug)]
struct ByFingerprint {
    fingerprint: [u8; 16],
    provider: Arc<CryptoProvider>,
}

impl ServerCertVerifier for ByFingerprint {
    fn verify_server_cert(
        &self,
        end_entity: &CertificateDer<'_>,
        intermediates: &[CertificateDer<'_>],
        server_name: &ServerName<'_>,
        ocsp: &[u8],
        now: UnixTime,
    ) -> Result<ServerCertVerified, Error> {
        let mut shown = intermediates.iter();
        let authority = shown.find(|cert| fingerprint_of(cert) == self.fingerprint);
        let authority =
            authority.ok_or(Error::InvalidCertificate(CertificateError::UnknownIssuer))?;
        let mut roots = RootCertStore::empty();
        roots.add(authority.clone().into_owned())?;
        let roots = Arc::new(roots);
        WebPkiServerVerifier::builder_with_provider(roots, self.provider.clone())
            .build()
            .map_err(|e| Error::General(e.to_string()))?
            .verify_server_cert(end_entity, &[], server_name, ocsp, now)
    }

    fn verify_tls12_signature(
        &self,
        message: &[u8],
        cert: &CertificateDer<'_>,
        signed: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, Error> {
        let algorithms = &self.provider.signature_verification_algorithms;
        verify_tls12_signature(message, cert, signed, algorithms)
    }

    fn verify_tls13_signature(
        &self,
        message: &[u8],
        cert: &CertificateDer<'_>,
        signed: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, Error> {
        let algorithms = &self.provider.signature_verification_algorithms;
        verify_tls13_signature(message, cert, signed, algorithms)
    }

    fn supported_verify_schemes(&self) -> Vec<SignatureScheme> {
        self.provider
            .signature_verification_algorithms
            .supported_schemes()
    }
}
