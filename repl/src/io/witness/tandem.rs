//! `tandem witness`, over mutual TLS: one connection, one question, one answer.

use super::super::random::fresh;
use super::super::timed::Timed;
use super::super::tls::{self, Pem};
use super::{Asker, CONNECT, Register, WitnessError};
use crate::ids::Id128;
use crate::logic::member::WitnessAnswer;
use crate::logic::witness::Question;
use crate::wire::{
    WITNESS_ALPN, WITNESS_HEADER, WitnessReply, WitnessRequest, decode_witness, encode_witness,
    witness_body,
};
use rustls::pki_types::ServerName;
use rustls::{ClientConfig, ClientConnection, StreamOwned};
use std::io::{Read, Write};
use std::net::{SocketAddr, TcpStream};
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::{Duration, Instant};

pub(super) struct Tandem {
    addresses: Vec<SocketAddr>,
    /// The one that answered last is tried first, or the one after one that failed.
    first: AtomicUsize,
    name: ServerName<'static>,
    tls: Arc<ClientConfig>,
    cluster: String,
    node: String,
}

impl Tandem {
    pub(super) fn new(
        addresses: &[SocketAddr],
        name: &str,
        ca: Option<&str>,
        asker: &Asker<'_>,
    ) -> Result<Self, WitnessError> {
        let pem = Pem {
            ca: ca.unwrap_or(asker.pem.ca),
            ..asker.pem
        };
        let tls = Arc::new(tls::client(pem, WITNESS_ALPN)?);
        let server = ServerName::try_from(name.to_string());
        let name = server.map_err(|e| WitnessError::Bad {
            what: "name",
            value: name.into(),
            why: e.to_string(),
        })?;
        Ok(Self {
            addresses: addresses.to_vec(),
            first: AtomicUsize::new(0),
            name,
            tls,
            cluster: asker.cluster.into(),
            node: asker.node.into(),
        })
    }

    fn put_to(
        &self,
        address: SocketAddr,
        request: &WitnessRequest,
        limit: Duration,
    ) -> Result<WitnessAnswer, String> {
        let end = Instant::now() + limit;
        let stream = TcpStream::connect_timeout(&address, limit.min(CONNECT))
            .map_err(|e| format!("{address}: connecting: {e}"))?;
        let rest = end.saturating_duration_since(Instant::now());
        let connection = ClientConnection::new(self.tls.clone(), self.name.clone())
            .map_err(|e| format!("{address}: {e}"))?;
        let mut stream = StreamOwned::new(connection, Timed::new(stream, rest));
        let failed = |e: std::io::Error| format!("{address}: {e}");
        stream.write_all(&encode_witness(request)).map_err(failed)?;
        stream.flush().map_err(failed)?;
        let mut header = [0; WITNESS_HEADER];
        stream.read_exact(&mut header).map_err(failed)?;
        let length = witness_body(&header).map_err(|e| format!("{address}: {e}"))?;
        let mut body = vec![0; length];
        stream.read_exact(&mut body).map_err(failed)?;
        let reply: WitnessReply =
            decode_witness(&body).map_err(|e| format!("{address}: its answer: {e}"))?;
        reply
            .judge(request)
            .map_err(|why| format!("{address}: {why}"))
    }
}

impl Register for Tandem {
    fn put(
        &self,
        volume: Id128,
        question: &Question,
        limit: Duration,
    ) -> Result<WitnessAnswer, String> {
        let end = Instant::now() + limit;
        let request = WitnessRequest {
            cluster: self.cluster.clone(),
            node: self.node.clone(),
            volume,
            nonce: fresh()[0],
            question: question.clone(),
        };
        let first = self.first.load(Ordering::Relaxed);
        let count = self.addresses.len();
        let mut errors = Vec::new();
        for n in (first..first + count).map(|n| n % count) {
            let rest = end.saturating_duration_since(Instant::now());
            if rest.is_zero() {
                break;
            }
            match self.put_to(self.addresses[n], &request, rest) {
                Ok(answer) => {
                    self.first.store(n, Ordering::Relaxed);
                    return Ok(answer);
                }
                Err(why) => {
                    // One that is stuck must not take the time of the others again.
                    self.first.store((n + 1) % count, Ordering::Relaxed);
                    errors.push(why);
                }
            }
        }
        Err(errors.join("; "))
    }
}
