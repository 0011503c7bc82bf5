//! The cluster's own certificate authority. Two nodes trust each other because both hold a
//! certificate of the same small CA, and nothing else: no public CA, no shared password.
//!
//! A node certificate carries the node's name as its only DNS name, and serves as client and as
//! server, because either end of the replication link may connect first. The CA's private key is
//! needed only to issue; it does not belong on the nodes.

use std::fs::OpenOptions;
use std::io::Write;
use std::os::unix::fs::OpenOptionsExt;
use std::path::Path;
use std::time::{Duration, SystemTime};

use anyhow::{Context, Result};
use rcgen::{
    BasicConstraints, CertificateParams, CertificateSigningRequestParams, DistinguishedName,
    DnType, ExtendedKeyUsagePurpose, IsCa, Issuer, KeyPair, KeyUsagePurpose,
    PKCS_ECDSA_P256_SHA256,
};
use rustls::pki_types::CertificateDer;
use rustls::pki_types::pem::PemObject;

const DAY: Duration = Duration::from_secs(24 * 60 * 60);

/// A certificate is valid from a day ago: the clocks of two new servers may differ by hours.
const BACKDATED: Duration = DAY;

/// Longer than the servers live, because an expired certificate stops replication; a certificate
/// is taken out of use by replacing the CA, not by waiting.
const CA_VALID: Duration = DAY.saturating_mul(365 * 30);
const NODE_VALID: Duration = DAY.saturating_mul(365 * 20);

/// A certificate authority: PEM texts of its certificate and its PKCS #8 private key.
pub(crate) struct Ca {
    pub(crate) cert_pem: String,
    pub(crate) key_pem: String,
}

/// A node's identity: PEM texts of its certificate and its PKCS #8 private key.
pub(crate) struct NodeCert {
    pub(crate) cert_pem: String,
    pub(crate) key_pem: String,
}

/// Makes a new CA for the cluster named `cluster`.
///
/// # Errors
/// When the system gives no random numbers, or the name cannot stand in a certificate.
pub(crate) fn create_ca(cluster: &str) -> Result<Ca> {
    let context = || format!("making the CA of cluster `{cluster}`");
    let key = KeyPair::generate_for(&PKCS_ECDSA_P256_SHA256).with_context(context)?;
    let mut params = params(&format!("Tandem cluster {cluster}"), CA_VALID);
    // Depth 0: this CA signs nodes and can make no further CA.
    params.is_ca = IsCa::Ca(BasicConstraints::Constrained(0));
    params.key_usages = vec![KeyUsagePurpose::KeyCertSign, KeyUsagePurpose::CrlSign];
    let cert = params.self_signed(&key).with_context(context)?;
    Ok(Ca {
        cert_pem: cert.pem(),
        key_pem: key.serialize_pem(),
    })
}

/// Issues a certificate for the node named `node`, with a new private key.
///
/// # Errors
/// When `ca` is not a certificate with its own key, or `node` is not a DNS label.
pub(crate) fn issue(ca: &Ca, node: &str) -> Result<NodeCert> {
    issue_until(ca, node, NODE_VALID)
}

/// As [`issue`], for a shorter time.
///
/// # Errors
/// When `ca` is not a certificate with its own key, or `name` is not a DNS name.
pub(crate) fn issue_until(ca: &Ca, name: &str, valid: Duration) -> Result<NodeCert> {
    let context = || format!("issuing the certificate of node `{name}`");
    let issuer = issuer(ca)?;
    let key = KeyPair::generate_for(&PKCS_ECDSA_P256_SHA256).with_context(context)?;
    let params = node_params(name, valid).with_context(context)?;
    let cert = params.signed_by(&key, &issuer).with_context(context)?;
    Ok(NodeCert {
        cert_pem: cert.pem(),
        key_pem: key.serialize_pem(),
    })
}

/// A node's new private key, and the request to have it certified, which may travel.
pub(crate) struct Wish {
    pub(crate) request_pem: String,
    pub(crate) key_pem: String,
}

/// Makes a private key for the node named `node` and a request for its certificate.
///
/// # Errors
/// When the system gives no random numbers.
pub(crate) fn wish(node: &str) -> Result<Wish> {
    let context = || format!("making the key of node `{node}`");
    let key = KeyPair::generate_for(&PKCS_ECDSA_P256_SHA256).with_context(context)?;
    let mut params = CertificateParams::default();
    params.distinguished_name = DistinguishedName::new();
    params.distinguished_name.push(DnType::CommonName, node);
    let request = params.serialize_request(&key).with_context(context)?;
    Ok(Wish {
        request_pem: request.pem().with_context(context)?,
        key_pem: key.serialize_pem(),
    })
}

/// Issues the certificate of the node named `node` for the key of a request. Nothing but the key is
/// taken from the request, whatever else it asks for.
///
/// # Errors
/// When the request is none, was not made with its key, or `ca` is not a certificate with its own
/// key.
pub(crate) fn certify(ca: &Ca, node: &str, request_pem: &str) -> Result<String> {
    let context = || format!("issuing the certificate of node `{node}`");
    let issuer = issuer(ca)?;
    let mut request = CertificateSigningRequestParams::from_pem(request_pem)
        .with_context(|| format!("the request for the certificate of node `{node}`"))?;
    request.params = node_params(node, NODE_VALID).with_context(context)?;
    Ok(request.signed_by(&issuer).with_context(context)?.pem())
}

/// What a CA is recognised by: half of the BLAKE3 hash of its certificate, more than anybody can
/// find a second certificate for.
///
/// # Errors
/// When the text is no certificate.
pub(crate) fn fingerprint(ca_pem: &str) -> Result<[u8; 16]> {
    let cert = CertificateDer::from_pem_slice(ca_pem.as_bytes())
        .map_err(|e| anyhow::anyhow!("ca.pem is not a certificate in PEM form: {e}"))?;
    Ok(fingerprint_of(&cert))
}

/// As [`fingerprint`].
pub(crate) fn fingerprint_of(cert: &CertificateDer<'_>) -> [u8; 16] {
    let mut half = [0; 16];
    half.copy_from_slice(&blake3::hash(cert).as_bytes()[..16]);
    half
}

fn issuer(ca: &Ca) -> Result<Issuer<'static, KeyPair>> {
    let key = KeyPair::from_pem(&ca.key_pem).context("reading the CA's private key")?;
    Issuer::from_ca_cert_pem(&ca.cert_pem, key).context("reading the CA")
}

fn node_params(name: &str, valid: Duration) -> Result<CertificateParams, rcgen::Error> {
    let mut params = params(name, valid);
    params.subject_alt_names = CertificateParams::new(vec![name.to_string()])?.subject_alt_names;
    params.key_usages = vec![KeyUsagePurpose::DigitalSignature];
    params.extended_key_usages = vec![
        ExtendedKeyUsagePurpose::ServerAuth,
        ExtendedKeyUsagePurpose::ClientAuth,
    ];
    params.use_authority_key_identifier_extension = true;
    Ok(params)
}

/// Writes a new file that everyone may read (a certificate).
///
/// # Errors
/// When it exists already or cannot be written.
pub(crate) fn write_public(path: &Path, pem: &str) -> Result<()> {
    write_new(path, pem, 0o644)
}

/// Writes a new file that only its owner may read (a private key).
///
/// # Errors
/// When it exists already (a key is never overwritten) or cannot be written.
pub(crate) fn write_private(path: &Path, pem: &str) -> Result<()> {
    write_new(path, pem, 0o600)
}

fn write_new(path: &Path, text: &str, mode: u32) -> Result<()> {
    let context = || format!("writing {}", path.display());
    let mut file = OpenOptions::new()
        .write(true)
        .create_new(true)
        .mode(mode)
        .open(path)
        .with_context(context)?;
    file.write_all(text.as_bytes()).with_context(context)?;
    file.sync_all().with_context(context)
}

fn params(common_name: &str, valid: Duration) -> CertificateParams {
    let now = SystemTime::now();
    let mut params = CertificateParams::default();
    params.distinguished_name = DistinguishedName::new();
    params
        .distinguished_name
        .push(DnType::CommonName, common_name);
    params.not_before = (now - BACKDATED).into();
    params.not_after = (now + valid).into();
    params
}

#[cfg(test)]
#[allow(clippy::unwrap_used)]
mod tests {
    use std::sync::Arc;

    use rustls::client::WebPkiServerVerifier;
    use rustls::client::danger::ServerCertVerifier;
    use rustls::pki_types::{PrivateKeyDer, ServerName, UnixTime};
    use rustls::server::WebPkiClientVerifier;
    use rustls::{RootCertStore, crypto::ring};

    use super::*;

    fn roots(ca: &Ca) -> Arc<RootCertStore> {
        let mut roots = RootCertStore::empty();
        roots
            .add(CertificateDer::from_pem_slice(ca.cert_pem.as_bytes()).unwrap())
            .unwrap();
        Arc::new(roots)
    }

    /// Whether a client that trusts `ca` and expects `name` accepts `node`.
    fn as_server(ca: &Ca, node: &NodeCert, name: &str, at: SystemTime) -> bool {
        let provider = Arc::new(ring::default_provider());
        let verifier = WebPkiServerVerifier::builder_with_provider(roots(ca), provider)
            .build()
            .unwrap();
        let cert = CertificateDer::from_pem_slice(node.cert_pem.as_bytes()).unwrap();
        let name = ServerName::try_from(name.to_string()).unwrap();
        let at = UnixTime::since_unix_epoch(at.duration_since(SystemTime::UNIX_EPOCH).unwrap());
        verifier
            .verify_server_cert(&cert, &[], &name, &[], at)
            .is_ok()
    }

    /// Whether a server that trusts `ca` accepts `node` as its client.
    fn as_client(ca: &Ca, node: &NodeCert) -> bool {
        let provider = Arc::new(ring::default_provider());
        let verifier = WebPkiClientVerifier::builder_with_provider(roots(ca), provider)
            .build()
            .unwrap();
        let cert = CertificateDer::from_pem_slice(node.cert_pem.as_bytes()).unwrap();
        verifier
            .verify_client_cert(&cert, &[], UnixTime::now())
            .is_ok()
    }

    #[test]
    fn a_node_is_accepted_by_its_own_ca_in_both_roles() {
        let ca = create_ca("shop").unwrap();
        let node = issue(&ca, "a").unwrap();
        assert!(as_server(&ca, &node, "a", SystemTime::now()));
        assert!(as_client(&ca, &node));
    }

    #[test]
    fn a_node_is_refused_by_another_ca_even_of_the_same_name() {
        let node = issue(&create_ca("shop").unwrap(), "a").unwrap();
        let other = create_ca("shop").unwrap();
        assert!(!as_server(&other, &node, "a", SystemTime::now()));
        assert!(!as_client(&other, &node));
    }

    #[test]
    fn a_node_is_refused_under_another_name() {
        let ca = create_ca("shop").unwrap();
        let node = issue(&ca, "a").unwrap();
        assert!(!as_server(&ca, &node, "b", SystemTime::now()));
    }

    #[test]
    fn clocks_may_differ_by_most_of_a_day() {
        let ca = create_ca("shop").unwrap();
        let node = issue(&ca, "a").unwrap();
        let hour = DAY / 24;
        assert!(as_server(&ca, &node, "a", SystemTime::now() - 23 * hour));
        assert!(!as_server(&ca, &node, "a", SystemTime::now() - 25 * hour));
    }

    #[test]
    fn a_node_cannot_issue_certificates() {
        let ca = create_ca("shop").unwrap();
        let node = issue(&ca, "a").unwrap();
        let forger = Ca {
            cert_pem: node.cert_pem,
            key_pem: node.key_pem,
        };
        let forged = issue(&forger, "b");
        assert!(forged.is_err() || !as_server(&ca, &forged.unwrap(), "b", SystemTime::now()));
    }

    /// What [`certify`] gives for a request with these parameters.
    fn certified(ca: &Ca, asked: &CertificateParams, node: &str) -> NodeCert {
        let key = KeyPair::generate_for(&PKCS_ECDSA_P256_SHA256).unwrap();
        let request = asked.serialize_request(&key).unwrap().pem().unwrap();
        NodeCert {
            cert_pem: certify(ca, node, &request).unwrap(),
            key_pem: key.serialize_pem(),
        }
    }

    #[test]
    fn a_request_gets_the_name_it_is_given_and_no_other_right() {
        let ca = create_ca("shop").unwrap();
        let mut greedy = CertificateParams::new(vec!["a".to_string()]).unwrap();
        greedy.is_ca = IsCa::Ca(BasicConstraints::Unconstrained);
        greedy.key_usages = vec![KeyUsagePurpose::KeyCertSign];
        let node = certified(&ca, &greedy, "b");
        assert!(as_server(&ca, &node, "b", SystemTime::now()));
        assert!(as_client(&ca, &node));
        assert!(!as_server(&ca, &node, "a", SystemTime::now()));
        let forger = Ca {
            cert_pem: node.cert_pem,
            key_pem: node.key_pem,
        };
        let forged = issue(&forger, "a");
        assert!(forged.is_err() || !as_server(&ca, &forged.unwrap(), "a", SystemTime::now()));
    }

    #[test]
    fn a_request_that_was_tampered_with_is_refused() {
        let ca = create_ca("shop").unwrap();
        let asked = CertificateParams::new(vec!["b".to_string()]).unwrap();
        let key = KeyPair::generate_for(&PKCS_ECDSA_P256_SHA256).unwrap();
        let request = asked.serialize_request(&key).unwrap();
        let mut der = request.der().to_vec();
        // The last byte is of the signature.
        *der.last_mut().unwrap() ^= 1;
        let mut pem = String::from("-----BEGIN CERTIFICATE REQUEST-----\n");
        pem += &base64(&der);
        pem += "-----END CERTIFICATE REQUEST-----\n";
        assert!(certify(&ca, "b", &pem).is_err());
        assert!(certify(&ca, "b", "nonsense").is_err());
        assert!(certify(&ca, "b", &request.pem().unwrap()).is_ok());
    }

    /// Base64 in lines, as PEM has it.
    fn base64(der: &[u8]) -> String {
        const DIGITS: &[u8; 64] =
            b"ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789+/";
        let mut text = String::new();
        for (index, chunk) in der.chunks(3).enumerate() {
            let mut bits = [0; 3];
            bits[..chunk.len()].copy_from_slice(chunk);
            let bits = u32::from_be_bytes([0, bits[0], bits[1], bits[2]]);
            for place in 0..4 {
                let digit = DIGITS[(bits >> (18 - 6 * place)) as usize & 63];
                text.push(if place > chunk.len() {
                    '='
                } else {
                    digit.into()
                });
            }
            if index % 16 == 15 {
                text.push('\n');
            }
        }
        text + "\n"
    }

    #[test]
    fn the_key_belongs_to_the_certificate() {
        let node = issue(&create_ca("shop").unwrap(), "a").unwrap();
        let cert = CertificateDer::from_pem_slice(node.cert_pem.as_bytes()).unwrap();
        let key = PrivateKeyDer::from_pem_slice(node.key_pem.as_bytes()).unwrap();
        let key = ring::sign::any_supported_type(&key).unwrap();
        rustls::sign::CertifiedKey::new(vec![cert], key)
            .keys_match()
            .unwrap();
    }
}
