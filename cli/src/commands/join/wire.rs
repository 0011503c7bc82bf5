//! What travels when a node joins: one line of JSON each way, and a word that it is written.
//!
//! Below it is TLS 1.3. The joining node has no certificate yet and knows of the cluster only the
//! fingerprint of its authority, which is part of the token; the serving node shows a certificate
//! of that authority for [`SERVER_NAME`], which no node can have.

use std::collections::BTreeMap;
use std::io::{self, BufRead, ErrorKind, Read, Write};
use std::net::{IpAddr, SocketAddr};

use serde::de::DeserializeOwned;
use serde::{Deserialize, Serialize};

pub(crate) const VERSION: u32 = 1;
pub(crate) const ALPN: &[u8] = b"tandem-join/1";
/// With a dot: a node's name has none.
pub(crate) const SERVER_NAME: &str = "join.tandem";
/// The managers' own, on which nobody listens before the first start.
pub(crate) const DEFAULT_PORT: u16 = 7401;

/// Longest line taken from whoever asks, who is a stranger until then.
pub(crate) const MAX_REQUEST: u64 = 16 << 10;
/// Longest answer: all files of a configuration.
pub(crate) const MAX_ANSWER: u64 = 16 << 20;

/// What a node that joins says.
#[derive(Debug, Serialize, Deserialize)]
pub(crate) struct Request {
    pub(crate) version: u32,
    pub(crate) node: String,
    /// The secret half of the token.
    pub(crate) secret: String,
    /// PEM: a request for a certificate. The key stays where it was made.
    pub(crate) request_pem: String,
}

/// What it is answered.
#[derive(Debug, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub(crate) enum Answer {
    Refused { reason: String, remedy: String },
    Joined(Box<Joined>),
}

/// All that a node needs besides its own key.
#[derive(Debug, Serialize, Deserialize)]
pub(crate) struct Joined {
    pub(crate) cluster: String,
    pub(crate) ca_pem: String,
    pub(crate) cert_pem: String,
    pub(crate) cluster_ron: String,
    /// By name: the files of the modules that the node has a part in.
    pub(crate) modules: BTreeMap<String, String>,
}

/// The joining node's last word: its files are written.
#[derive(Debug, Serialize, Deserialize)]
pub(crate) struct Written {
    pub(crate) written: bool,
}

/// Sends one line.
pub(crate) fn send(to: &mut impl Write, message: &impl Serialize) -> io::Result<()> {
    let mut line = serde_json::to_vec(message)?;
    line.push(b'\n');
    to.write_all(&line)?;
    to.flush()
}

/// Reads one line of at most `limit` bytes.
pub(crate) fn receive<T: DeserializeOwned>(from: &mut impl BufRead, limit: u64) -> io::Result<T> {
    let mut line = Vec::new();
    from.take(limit).read_until(b'\n', &mut line)?;
    match line.last() {
        Some(b'\n') => Ok(serde_json::from_slice(&line)?),
        None => Err(ErrorKind::UnexpectedEof.into()),
        Some(_) => Err(io::Error::new(
            ErrorKind::InvalidData,
            format!("a line that does not end, or is longer than {limit} bytes"),
        )),
    }
}

/// Where a node is joined: an address, with a port where it is not the usual one.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Target(pub(crate) SocketAddr);

impl std::str::FromStr for Target {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        if let Ok(address) = text.parse::<IpAddr>() {
            return Ok(Self(SocketAddr::new(address, DEFAULT_PORT)));
        }
        text.parse().map(Self).map_err(|_| {
            format!("found `{text}`, expected an address such as 10.0.0.1, or 10.0.0.1:7401")
        })
    }
}

/// As it is typed.
pub(crate) fn shown(address: IpAddr, port: u16) -> String {
    match port {
        DEFAULT_PORT => address.to_string(),
        _ => SocketAddr::new(address, port).to_string(),
    }
}

#[cfg(test)]
#[allow(clippy::unwrap_used)]
mod tests {
    use super::*;

    #[test]
    fn a_target_has_the_usual_port_unless_it_says_another() {
        for (text, port) in [("10.0.0.1", 7401), ("10.0.0.1:99", 99), ("fd00::1", 7401)] {
            let target: Target = text.parse().unwrap();
            assert_eq!(target.0.port(), port, "{text}");
            assert_eq!(shown(target.0.ip(), port), text);
        }
        assert!("host".parse::<Target>().is_err());
    }

    #[test]
    fn lines_are_bounded() {
        let mut line = &b"{\"written\":true}\n"[..];
        assert!(receive::<Written>(&mut line, 100).unwrap().written);
        for (bad, limit) in [
            (&b""[..], 100),
            (b"{\"written\":true}", 100),
            (b"xxxx\n", 3),
        ] {
            let mut bad = bad;
            assert!(receive::<Written>(&mut bad, limit).is_err());
        }
    }
}
