//! Nodes that must not work together: certificates of another authority, expired ones, different
//! configurations (acceptance row M31).

#![allow(
    clippy::unwrap_used,
    reason = "a failed set-up ends the test, with its line"
)]

use rcgen::{
    BasicConstraints, CertificateParams, DnType, ExtendedKeyUsagePurpose, IsCa, Issuer, KeyPair,
    KeyUsagePurpose, PKCS_ECDSA_P256_SHA256,
};
use std::fs;
use std::path::Path;
use std::time::{Duration, Instant, SystemTime};
use tandem_repl::control::State;
use tandem_tests::managed::{Options, Service};

const SOON: Duration = Duration::from_secs(15);
const DAY: Duration = Duration::from_secs(24 * 3600);

fn service(test: &str) -> Option<Service> {
    let options = Options::default();
    Service::up(test, env!("CARGO_BIN_EXE_inside"), &options)
}

/// An authority like that of `tandem pki init`.
struct Authority {
    params: CertificateParams,
    key: KeyPair,
    pem: String,
}

impl Authority {
    fn new(name: &str) -> Self {
        let key = KeyPair::generate_for(&PKCS_ECDSA_P256_SHA256).unwrap();
        let mut params = CertificateParams::default();
        params.distinguished_name.push(DnType::CommonName, name);
        params.is_ca = IsCa::Ca(BasicConstraints::Constrained(0));
        params.key_usages = vec![KeyUsagePurpose::KeyCertSign, KeyUsagePurpose::CrlSign];
        let pem = params.self_signed(&key).unwrap().pem();
        Self { params, key, pem }
    }

    /// Writes what a node has of it, in place of what it had.
    fn issue(&self, node: &str, pki: &Path, valid: Option<Duration>) {
        let key = KeyPair::generate_for(&PKCS_ECDSA_P256_SHA256).unwrap();
        let mut params = CertificateParams::new(vec![node.to_string()]).unwrap();
        params.key_usages = vec![KeyUsagePurpose::DigitalSignature];
        params.extended_key_usages = vec![
            ExtendedKeyUsagePurpose::ServerAuth,
            ExtendedKeyUsagePurpose::ClientAuth,
        ];
        params.use_authority_key_identifier_extension = true;
        let now = SystemTime::now();
        params.not_before = (now - DAY * 2).into();
        params.not_after = (now + valid.unwrap_or(DAY)).into();
        let issuer = Issuer::from_params(&self.params, &self.key);
        let cert = params.signed_by(&key, &issuer).unwrap();
        fs::write(pki.join("ca.pem"), &self.pem).unwrap();
        fs::write(pki.join("node.pem"), cert.pem()).unwrap();
        fs::write(pki.join("node-key.pem"), key.serialize_pem()).unwrap();
    }
}

/// Stops the second node, changes its configuration, and starts it again.
fn with_changed(service: &Service, change: impl Fn(&Path)) {
    service.tandem("node2", &["stop"]).unwrap();
    service.ready("node1", State::Alone).unwrap();
    service.cluster.lab("kill", &["node2"]).unwrap();
    change(&service.cluster.node_dir("node2").join("etc"));
    service.cluster.lab("start", &["node2"]).unwrap();
    service.tandem("node2", &["start"]).unwrap();
}

/// Both daemons say why they do not work together; the first serves on, the second waits.
fn is_refused(service: &Service, says: impl Fn(&str) -> bool) {
    for (node, state) in [("node1", State::Alone), ("node2", State::Wait)] {
        let told = |m: &tandem_failover::control::ModuleStatus| {
            let peer = m.daemon.as_ref().and_then(|d| d.peer.reason.clone());
            let why = m.why.iter().map(ToString::to_string);
            let all: Vec<String> = why.chain(peer).collect();
            m.state == state && all.iter().any(|text| says(text))
        };
        let module = service.until(node, "the reason of both daemons", SOON, told);
        let module = module.unwrap();
        println!("M31: {node}: {:?}", module.daemon.unwrap().peer.reason);
    }
}

/// So do the managers.
fn managers_refuse(service: &Service, says: impl Fn(&str) -> bool) {
    for (node, other) in [("node1", "node2"), ("node2", "node1")] {
        let started = Instant::now();
        loop {
            let manager = service.manager(node).unwrap();
            let peer = manager.peers.into_iter().find(|p| p.node == other).unwrap();
            if let Some(reason) = &peer.reason
                && reason.code == "link-refused"
                && says(&reason.reason)
                && !peer.alive
            {
                println!("M31: {node}: {reason}");
                let shown = service.tandem(node, &["status"]).unwrap();
                assert!(shown.contains("link-refused"), "{shown}");
                break;
            }
            assert!(started.elapsed() < SOON, "{node}: {peer:?}");
            std::thread::sleep(Duration::from_millis(50));
        }
    }
}

/// What was wrong is put right: they are a pair again.
fn heals(service: &Service, change: impl Fn(&Path)) {
    with_changed(service, change);
    service.in_sync("node1", "node2").unwrap();
    let started = Instant::now();
    while !service
        .manager("node2")
        .unwrap()
        .peers
        .iter()
        .any(|p| p.alive)
    {
        assert!(started.elapsed() < SOON, "the managers do not meet");
        std::thread::sleep(Duration::from_millis(50));
    }
}

#[test]
fn m31_strange_expired_or_differing_nodes_are_refused_on_both_sides() {
    let Some(mut service) = service("M31") else {
        return;
    };
    // The lab's authority has no key to be had, so this test brings its own.
    let (own, strange) = (Authority::new("own"), Authority::new("strange"));
    let lab = service.cluster.node_dir("");
    let pki = |node: &str| lab.join(node).join("etc/pki");
    service.tandem("node2", &["stop"]).unwrap();
    service.tandem("node1", &["stop"]).unwrap();
    for node in ["node1", "node2"] {
        service.cluster.lab("kill", &[node]).unwrap();
        own.issue(node, &pki(node), None);
        service.cluster.lab("start", &[node]).unwrap();
        service.tandem(node, &["start"]).unwrap();
    }
    service.in_sync("node1", "node2").unwrap();
    service.ask().unwrap();

    let certificate = |text: &str| text.contains("certificate") || text.contains("alert");
    with_changed(&service, |etc| {
        strange.issue("node2", &etc.join("pki"), None);
    });
    is_refused(&service, certificate);
    managers_refuse(&service, certificate);
    heals(&service, |etc| own.issue("node2", &etc.join("pki"), None));

    let file = "modules/data.ron";
    let swap = |etc: &Path, from: &str, to: &str| {
        let text = fs::read_to_string(etc.join(file)).unwrap();
        assert!(text.contains(from), "{text}");
        fs::write(etc.join(file), text.replace(from, to)).unwrap();
    };
    with_changed(&service, |etc| swap(etc, "ack: written", "ack: durable"));
    is_refused(&service, |text| text.contains("configuration"));
    heals(&service, |etc| swap(etc, "ack: durable", "ack: written"));

    let heard = service.heard().unwrap();
    assert_eq!(heard.servers(0).len(), 1, "the serving node was disturbed");

    // A certificate that expires while its node runs is refused at the next meeting.
    service.tandem("node2", &["stop"]).unwrap();
    service.tandem("node1", &["stop"]).unwrap();
    for node in ["node1", "node2"] {
        service.cluster.lab("kill", &[node]).unwrap();
    }
    own.issue("node2", &pki("node2"), Some(Duration::from_secs(4)));
    service.cluster.lab("start", &["node2"]).unwrap();
    service.tandem("node2", &["start"]).unwrap();
    std::thread::sleep(Duration::from_secs(5));
    let said = service.refused("node2", &["config", "check"]).unwrap();
    assert!(said.contains("expired"), "{said}");
    service.cluster.lab("start", &["node1"]).unwrap();
    service.tandem("node1", &["start"]).unwrap();
    let expired = |text: &str| text.to_lowercase().contains("expired");
    is_refused(&service, expired);
    managers_refuse(&service, expired);
    heals(&service, |etc| own.issue("node2", &etc.join("pki"), None));
    service.ends_well("node1", true).unwrap();
}
