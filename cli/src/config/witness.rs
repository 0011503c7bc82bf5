//! The cluster's witness: `witness` of `cluster.ron`.

use std::net::{IpAddr, SocketAddr};
use std::path::{Path, PathBuf};

use rustls::pki_types::pem::PemObject;
use rustls::pki_types::{CertificateDer, PrivateKeyDer};
use tandem_fs::config::WitnessConfig;

use super::checked::note;
use super::credentials::secret_fault;
use super::names::{address, name_fault};
use super::problem::{At, Place, Problem, Source};
use super::reader::Reader;
use super::tree::Tree;

/// What a witness's certificate carries unless the configuration says otherwise.
const DEFAULT_NAME: &str = "witness";
const DEFAULT_PREFIX: &str = "/tandem/";
/// Addresses of one witness; more are a mistake.
pub(crate) const MOST_PLACES: usize = 16;

const ADDRESS_FORM: &str = "an address with its port, such as \"10.0.0.9:7402\"";
const ENDPOINT_FORM: &str = "a URL such as \"https://10.0.0.9:2379\"";

/// `witness` of `cluster.ron` as typed.
pub(crate) struct RawWitness {
    place: Place,
    tandem: Option<Vec<At<String>>>,
    etcd: Option<Vec<At<String>>>,
    name: Option<At<String>>,
    prefix: Option<At<String>>,
    ca: Option<At<String>>,
    cert: Option<At<String>>,
    key: Option<At<String>>,
}

/// The cluster's witness; files are named, not read.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Witness {
    pub(crate) way: Way,
    ca: Option<At<PathBuf>>,
    identity: Option<(At<PathBuf>, At<PathBuf>)>,
}

/// How a witness is reached: the part on which nodes must agree.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum Way {
    Tandem {
        addresses: Vec<At<SocketAddr>>,
        name: String,
    },
    Etcd {
        endpoints: Vec<String>,
        prefix: String,
    },
}

/// Reads `witness: (…)`.
pub(crate) fn read<'s>(reader: &mut Reader<'s>, tree: &Tree<'s>) -> Option<RawWitness> {
    let known = ["tandem", "etcd", "name", "prefix", "ca", "cert", "key"];
    let keys = reader.keys(tree, &known)?;
    let mut places = |key: &str, example: &str| {
        let tree = keys.optional(key)?;
        reader.strings(tree, example)
    };
    let tandem = places("tandem", "[\"10.0.0.9:7402\"]");
    let etcd = places("etcd", "[\"https://10.0.0.9:2379\"]");
    let mut text = |key: &str| keys.optional(key).and_then(|t| reader.string(t));
    Some(RawWitness {
        tandem,
        etcd,
        name: text("name"),
        prefix: text("prefix"),
        ca: text("ca"),
        cert: text("cert"),
        key: text("key"),
        place: keys.place,
    })
}

/// Checks `witness`. `None` if a problem was found.
pub(crate) fn check(raw: RawWitness, problems: &mut Vec<Problem>) -> Option<Witness> {
    let before = problems.len();
    let at = raw.place.clone();
    let way = match (raw.tandem, raw.etcd) {
        (Some(texts), None) => {
            not_here("prefix", "tandem", raw.prefix.as_ref(), problems);
            not_here("cert", "tandem", raw.cert.as_ref(), problems);
            not_here("key", "tandem", raw.key.as_ref(), problems);
            let name = raw.name.map_or_else(
                || DEFAULT_NAME.into(),
                |name| {
                    note(problems, &name.place, name_fault(&name.value));
                    name.value
                },
            );
            let addresses = places(&at, texts, problems, socket_address);
            Way::Tandem { addresses, name }
        }
        (None, Some(texts)) => {
            not_here("name", "etcd", raw.name.as_ref(), problems);
            let endpoints = places(&at, texts, problems, endpoint);
            let tls = endpoints.iter().any(|e| e.value.starts_with("https:"));
            if tls && raw.ca.is_none() {
                let message = "an https endpoint needs the authority that issued its certificate; \
                     add `ca: \"pki/etcd-ca.pem\"`";
                problems.push(Problem::new(at.clone(), message));
            }
            Way::Etcd {
                endpoints: endpoints.into_iter().map(|e| e.value).collect(),
                prefix: raw.prefix.map_or(DEFAULT_PREFIX.into(), |p| p.value),
            }
        }
        (tandem, _) => {
            let found = if tandem.is_some() { "both" } else { "neither" };
            let message = format!(
                "found {found} of `tandem` and `etcd`, expected one; \
                 write `witness: (tandem: [\"10.0.0.9:7402\"])`"
            );
            problems.push(Problem::new(at, message));
            return None;
        }
    };
    let path = |text: At<String>| text.map(PathBuf::from);
    let identity = match (raw.cert.map(path), raw.key.map(path)) {
        (Some(cert), Some(key)) => Some((cert, key)),
        (None, None) => None,
        (Some(one), None) | (None, Some(one)) => {
            let message = "`cert` and `key` belong together; add the other one";
            problems.push(Problem::new(one.place, message));
            None
        }
    };
    let ca = raw.ca.map(path);
    (problems.len() == before).then_some(Witness { way, ca, identity })
}

fn not_here(key: &str, kind: &str, value: Option<&At<String>>, problems: &mut Vec<Problem>) {
    if let Some(value) = value {
        let message = format!("`{key}` is not for a witness of kind `{kind}`; remove it");
        problems.push(Problem::new(value.place.clone(), message));
    }
}

/// All that are right.
fn places<T>(
    at: &Place,
    texts: Vec<At<String>>,
    problems: &mut Vec<Problem>,
    read: impl Fn(&str) -> Result<T, String>,
) -> Vec<At<T>> {
    if texts.is_empty() || texts.len() > MOST_PLACES {
        let message = format!(
            "found {} places of the witness, expected 1 to {MOST_PLACES}",
            texts.len()
        );
        problems.push(Problem::new(at.clone(), message));
    }
    let mut found = Vec::new();
    for At { value, place } in texts {
        match read(&value) {
            Ok(value) => found.push(At { value, place }),
            Err(message) => problems.push(Problem::new(place, message)),
        }
    }
    found
}

fn socket_address(text: &str) -> Result<SocketAddr, String> {
    let found: SocketAddr = text.parse().map_err(|_| match text.parse::<IpAddr>() {
        Ok(_) => format!("found `{text}`, expected {ADDRESS_FORM}; add the port"),
        Err(_) => format!("found `{text}`, expected {ADDRESS_FORM}, not a host name"),
    })?;
    address(&found.ip().to_string())?;
    if found.port() == 0 {
        return Err(format!("found `{text}`, expected {ADDRESS_FORM}"));
    }
    Ok(found)
}

fn endpoint(text: &str) -> Result<String, String> {
    let rest = ["http://", "https://"]
        .iter()
        .find_map(|scheme| text.strip_prefix(scheme));
    let plain = |host: &str| {
        let good = |b: u8| b.is_ascii_alphanumeric() || b".-:[]".contains(&b);
        !host.is_empty() && host.bytes().all(good)
    };
    let host = rest.map(|rest| rest.trim_end_matches('/'));
    match host.filter(|host| plain(host)) {
        Some(_) => Ok(text.trim_end_matches('/').into()),
        None => Err(format!("found `{text}`, expected {ENDPOINT_FORM}")),
    }
}

/// Reads the files a witness needs; relative ones are below the configuration directory.
pub(crate) fn load(
    witness: &Witness,
    config: &Path,
    problems: &mut Vec<Problem>,
) -> Option<WitnessConfig> {
    let before = problems.len();
    let mut read = |path: &At<PathBuf>| {
        let path = config.join(&path.value);
        let source = Source::read(&path, "it is named by `witness` in cluster.ron");
        let source = source.map_err(|problem| problems.push(problem)).ok();
        source.map(|source| (Place::file(path), source.text))
    };
    let ca = witness.ca.as_ref().and_then(&mut read);
    let identity = witness
        .identity
        .as_ref()
        .and_then(|(cert, key)| Some((read(cert)?, read(key)?)));
    let certificates = [ca.as_ref(), identity.as_ref().map(|(cert, _)| cert)];
    for (place, text) in certificates.into_iter().flatten() {
        let bad = CertificateDer::from_pem_slice(text.as_bytes()).err();
        let fault = bad.map(|e| format!("is not a certificate in PEM form: {e}"));
        note(problems, place, fault);
    }
    if let Some((_, (place, text))) = &identity {
        note(problems, place, secret_fault(&place.file));
        let bad = PrivateKeyDer::from_pem_slice(text.as_bytes()).err();
        let fault = bad.map(|e| format!("is not a private key in PEM form: {e}"));
        note(problems, place, fault);
    }
    if problems.len() > before {
        return None;
    }
    let ca_pem = ca.map(|(_, text)| text);
    let identity = identity.map(|((_, cert), (_, key))| (cert, key));
    Some(match &witness.way {
        Way::Tandem { addresses, name } => WitnessConfig::Tandem {
            addresses: addresses.iter().map(|a| a.value).collect(),
            name: name.clone(),
            ca_pem,
        },
        Way::Etcd { endpoints, prefix } => WitnessConfig::Etcd {
            endpoints: endpoints.clone(),
            prefix: prefix.clone(),
            ca_pem,
            identity,
        },
    })
}

#[cfg(test)]
#[allow(clippy::unwrap_used)]
mod tests {
    use std::fs;
    use std::os::unix::fs::PermissionsExt;

    use super::super::load;
    use super::super::testing::{CLUSTER, Example};
    use super::*;
    use crate::pki;

    const LEDGER: &str = r#"(mode: mirror, nodes: ["a", "b"], directories: ["/nowhere/ledger"])"#;

    fn example(witness: &str) -> Example {
        let with = format!("name: \"shop\", witness: {witness},");
        Example::new()
            .with("cluster.ron", &CLUSTER.replace("name: \"shop\",", &with))
            .with("modules/ledger.ron", LEDGER)
    }

    fn read(example: &Example) -> WitnessConfig {
        let config = load(&example.dirs).complete().unwrap();
        let config = config.module_config("ledger").unwrap();
        config.apart.witness.unwrap()
    }

    #[test]
    fn both_kinds_are_read() {
        let short = read(&example("(tandem: [\"10.0.0.9:7402\"])"));
        let expected = WitnessConfig::Tandem {
            addresses: vec!["10.0.0.9:7402".parse().unwrap()],
            name: "witness".into(),
            ca_pem: None,
        };
        assert_eq!(short, expected);
        let ca = pki::create_ca("etcd").unwrap();
        let own = pki::issue(&ca, "a").unwrap();
        let text = r#"(etcd: ["https://10.0.0.9:2379/", "http://etcd.local:2379"],
            prefix: "/x/", ca: "pki/etcd.pem", cert: "pki/own.pem", key: "pki/own-key.pem")"#;
        let example = example(text)
            .with("pki/etcd.pem", &ca.cert_pem)
            .with("pki/own.pem", &own.cert_pem)
            .with("pki/own-key.pem", &own.key_pem);
        let key = example.dirs.config.join("pki/own-key.pem");
        let problems = example.problems();
        assert!(problems.contains("can be read by others"), "{problems}");
        fs::set_permissions(key, fs::Permissions::from_mode(0o600)).unwrap();
        let expected = WitnessConfig::Etcd {
            endpoints: vec![
                "https://10.0.0.9:2379".into(),
                "http://etcd.local:2379".into(),
            ],
            prefix: "/x/".into(),
            ca_pem: Some(ca.cert_pem),
            identity: Some((own.cert_pem, own.key_pem)),
        };
        assert_eq!(read(&example), expected);
    }

    #[test]
    fn what_a_witness_cannot_be_is_refused() {
        for (witness, expected) in [
            ("()", "found neither of `tandem` and `etcd`"),
            (
                "(tandem: [\"10.0.0.9:1\"], etcd: [\"http://a:1\"])",
                "found both of",
            ),
            ("(tandem: [])", "found 0 places of the witness"),
            (
                "(tandem: [\"10.0.0.9\"])",
                "such as \"10.0.0.9:7402\"; add the port",
            ),
            ("(tandem: [\"witness:7402\"])", "not a host name"),
            (
                "(tandem: [\"0.0.0.0:7402\"])",
                "no address of a single node",
            ),
            (
                "(tandem: [\"10.0.0.9:0\"])",
                "expected an address with its port",
            ),
            (
                "(tandem: [\"10.0.0.9:1\"], name: \"W\")",
                "found name `W`, expected 1 to 31",
            ),
            (
                "(tandem: [\"10.0.0.9:1\"], cert: \"x\")",
                "`cert` is not for a witness of kind `tandem`",
            ),
            ("(etcd: [\"10.0.0.9:2379\"])", "expected a URL such as"),
            ("(etcd: [\"http://a/v3\"])", "expected a URL such as"),
            ("(etcd: [\"https://a:1\"])", "add `ca: \"pki/etcd-ca.pem\"`"),
            (
                "(etcd: [\"http://a:1\"], name: \"w\")",
                "`name` is not for a witness of kind `etcd`",
            ),
            (
                "(etcd: [\"http://a:1\"], key: \"x\")",
                "`cert` and `key` belong together",
            ),
            (
                "(etcd: [\"http://a:1\"], ca: \"pki/none.pem\")",
                "pki/none.pem: cannot be read",
            ),
            (
                "(etcd: [\"http://a:1\"], ca: \"node.ron\")",
                "node.ron: is not a certificate in PEM form",
            ),
            (
                "(tanden: [\"10.0.0.9:1\"])",
                "unknown key `tanden`, expected tandem, etcd, name, prefix, ca, cert, key; did you \
                 mean `tandem`?",
            ),
        ] {
            let problems = example(witness).problems();
            assert!(problems.contains(expected), "{witness}: {problems}");
        }
    }
}
