//! The files of `pki/`: present, readable, secret where they must be, and fitting together. A wrong
//! certificate would otherwise show only as a link that never comes up.

use std::os::unix::fs::MetadataExt;
use std::path::Path;
use std::sync::Arc;

use rustls::client::WebPkiServerVerifier;
use rustls::client::danger::ServerCertVerifier;
use rustls::crypto::ring;
use rustls::pki_types::pem::PemObject;
use rustls::pki_types::{CertificateDer, PrivateKeyDer, ServerName, UnixTime};
use rustls::sign::CertifiedKey;
use rustls::{CertificateError, Error, RootCertStore};
use tandem_fs::config::Credentials;

use super::problem::{Place, Problem, Source};

/// Reads and checks the credentials in `directory`. `node` is this node's name, where known.
pub(crate) fn load(
    directory: &Path,
    node: Option<&str>,
    problems: &mut Vec<Problem>,
) -> Option<Credentials> {
    let before = problems.len();
    let remedy = "make it with `tandem pki`";
    let mut read = |name: &str| {
        let source = Source::read(&directory.join(name), remedy);
        source
            .map_err(|problem| problems.push(problem))
            .ok()
            .map(|source| source.text)
    };
    let ca_pem = read("ca.pem");
    let cert_pem = read("node.pem");
    let key_pem = read("node-key.pem");
    let mut note = |name: &str, message: String| {
        problems.push(Problem::new(Place::file(directory.join(name)), message));
    };
    if key_pem.is_some()
        && let Some(fault) = secret_fault(&directory.join("node-key.pem"))
    {
        note("node-key.pem", fault);
    }
    let ca = ca_pem
        .as_deref()
        .and_then(|pem| certificate("ca.pem", pem, &mut note));
    let cert = cert_pem
        .as_deref()
        .and_then(|pem| certificate("node.pem", pem, &mut note));
    if let (Some(ca), Some(cert), Some(node)) = (ca, &cert, node) {
        belongs_to_cluster(ca, cert, node, &mut note);
    }
    if let (Some(pem), Some(cert)) = (key_pem.as_deref(), cert) {
        belongs_to_certificate(pem, cert, &mut note);
    }
    if problems.len() > before {
        return None;
    }
    Some(Credentials {
        ca_pem: ca_pem?,
        cert_pem: cert_pem?,
        key_pem: key_pem?,
    })
}

/// Notes a problem with a file of the directory.
type Note<'n> = dyn FnMut(&str, String) + 'n;

/// What is wrong with who may read a private key.
pub(crate) fn secret_fault(path: &Path) -> Option<String> {
    let mode = path.metadata().ok()?.mode() & 0o7777;
    (mode & 0o077 != 0).then(|| {
        format!(
            "the private key can be read by others (mode {mode:04o}), expected 0600; \
             run `chmod 600 {}`",
            path.display()
        )
    })
}

fn certificate(name: &str, pem: &str, note: &mut Note<'_>) -> Option<CertificateDer<'static>> {
    CertificateDer::from_pem_slice(pem.as_bytes())
        .map_err(|e| note(name, format!("is not a certificate in PEM form: {e}")))
        .ok()
}

/// The node's certificate is of this CA and carries the node's name.
fn belongs_to_cluster(
    ca: CertificateDer<'static>,
    cert: &CertificateDer<'_>,
    node: &str,
    note: &mut Note<'_>,
) {
    let mut roots = RootCertStore::empty();
    if let Err(error) = roots.add(ca) {
        return note("ca.pem", format!("is not a usable CA certificate: {error}"));
    }
    let provider = Arc::new(ring::default_provider());
    let verifier = WebPkiServerVerifier::builder_with_provider(Arc::new(roots), provider).build();
    let verifier = match verifier {
        Ok(verifier) => verifier,
        Err(error) => return note("ca.pem", format!("is not a usable CA certificate: {error}")),
    };
    // A name that is no DNS label has been noted where it stands.
    let Ok(name) = ServerName::try_from(node) else {
        return;
    };
    let Err(error) = verifier.verify_server_cert(cert, &[], &name, &[], UnixTime::now()) else {
        return;
    };
    let message = match &error {
        Error::InvalidCertificate(
            CertificateError::NotValidForName | CertificateError::NotValidForNameContext { .. },
        ) => format!("is the certificate of another node; run `tandem pki issue {node}`"),
        Error::InvalidCertificate(
            CertificateError::UnknownIssuer | CertificateError::BadSignature,
        ) => "was not issued by the CA in ca.pem; take both from the same `tandem pki`".into(),
        _ => format!("is not accepted: {error}"),
    };
    note("node.pem", message);
}

fn belongs_to_certificate(pem: &str, cert: CertificateDer<'static>, note: &mut Note<'_>) {
    let key = match PrivateKeyDer::from_pem_slice(pem.as_bytes()) {
        Ok(key) => key,
        Err(e) => {
            return note(
                "node-key.pem",
                format!("is not a private key in PEM form: {e}"),
            );
        }
    };
    let key = match ring::sign::any_supported_type(&key) {
        Ok(key) => key,
        Err(e) => return note("node-key.pem", format!("is not a usable private key: {e}")),
    };
    if CertifiedKey::new(vec![cert], key).keys_match().is_err() {
        note(
            "node-key.pem",
            "is not the key of the certificate in node.pem".into(),
        );
    }
}
