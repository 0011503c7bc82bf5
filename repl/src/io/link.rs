//! One QUIC link with the peer: quinn's protocol core driven by whichever thread has something to
//! send or has received something, under the caller's lock.
//!
//! There is no task and no runtime between a FUSE thread and the socket: the thread that has an
//! operation encrypts and sends it itself, the thread that receives answers itself. Each
//! hand-over to another thread would cost a wake-up, and wake-ups are what one round trip is made
//! of.
//!
//! The node whose name sorts first dials, the other accepts; a newer accepted connection replaces
//! the older (the peer was restarted). All frames of a session travel on one bidirectional
//! stream, so their order is the order of issue.
//!
//! QUIC sees one address of the peer, whichever of the [`Paths`] between the nodes is used.

mod conn;

use super::paths::Paths;
use super::tls::{Tls, names_node};
use crate::control::PathStatus;
use crate::limits::SEND_WINDOW;
use crate::wire::is_probe;
use bytes::{Bytes, BytesMut};
use conn::Conn;
use quinn_proto::{
    ConnectionHandle, DatagramEvent, Dir, Endpoint, EndpointConfig, Event, Incoming, StreamEvent,
    StreamId, VarInt,
};
use quinn_udp::RecvMeta;
use rustls::pki_types::CertificateDer;
use std::sync::Arc;
use std::time::{Duration, Instant};

/// Connections at once, handshakes included: the session, the one that replaces it, and strangers.
const MAX_CONNECTIONS: usize = 16;
/// Datagrams per segmented send. Ten of 6,500 bytes fit the 64 KiB the kernel takes at once.
const MAX_SEGMENTS: usize = 10;

/// What came of received packets, beside bytes of the stream.
pub(super) enum LinkEvent {
    /// The stream stands, the peer is who it should be. Greet it.
    Up,
    Down(String),
}

pub(super) struct Link {
    paths: Paths,
    endpoint: Endpoint,
    tls: Tls,
    peer: String,
    dials: bool,
    conns: Vec<Conn>,
    current: Option<ConnectionHandle>,
    next_dial: Instant,
    transmit: Vec<u8>,
    /// Why the last attempt or session ended.
    pub(super) last_error: Option<String>,
}

impl Link {
    pub(super) fn new(paths: Paths, tls: Tls, peer: String, dials: bool, now: Instant) -> Self {
        let mut config = EndpointConfig::default();
        // The bit tells QUIC's packets from probes.
        config.grease_quic_bit(false);
        let server = Some(tls.server.clone());
        Self {
            paths,
            endpoint: Endpoint::new(Arc::new(config), server, true, None),
            tls,
            peer,
            dials,
            conns: Vec::new(),
            current: None,
            next_dial: now,
            transmit: Vec::with_capacity(64 * 1024),
            last_error: None,
        }
    }

    pub(super) fn is_up(&self) -> bool {
        self.current.is_some()
    }

    pub(super) fn round_trip(&self) -> Option<Duration> {
        let current = self.current?;
        self.conns
            .iter()
            .find(|c| c.handle == current)
            .map(|c| c.inner.rtt())
    }

    /// Dials if it is this node's turn to.
    pub(super) fn dial(&mut self, now: Instant, interval: Duration) {
        if !self.dials || !self.conns.is_empty() || now < self.next_dial {
            return;
        }
        self.next_dial = now + interval;
        self.fit_packets();
        let (config, addr) = (self.tls.client.clone(), self.paths.peer());
        match self.endpoint.connect(now, config, addr, &self.peer) {
            Ok((handle, inner)) => self.conns.push(Conn::new(handle, inner)),
            Err(e) => self.last_error = Some(e.to_string()),
        }
    }

    /// How each path between the nodes is doing.
    pub(super) fn path_status(&self, now: Instant) -> Vec<PathStatus> {
        self.paths.status(now, self.round_trip())
    }

    /// Packets of the next connection must fit every path.
    fn fit_packets(&mut self) {
        if let Some(largest) = self.paths.largest() {
            self.tls.limit_packets(largest);
        }
    }

    /// Feeds what one receive call on a path returned, then everything that follows from it. Bytes
    /// of the current session's stream are appended to `rx`; a new session empties it first.
    /// Returns whether there was anything but probes in it.
    pub(super) fn receive(
        &mut self,
        now: Instant,
        (path, meta): (usize, &RecvMeta),
        data: &[u8],
        events: &mut Vec<LinkEvent>,
        rx: &mut Vec<u8>,
    ) -> bool {
        if !self.paths.is_of_peer(path, meta.addr) {
            return false;
        }
        let ecn = meta
            .ecn
            .and_then(|e| quinn_proto::EcnCodepoint::from_bits(e as u8));
        let (mut more, mut moved) = (false, false);
        for datagram in data[..meta.len].chunks(meta.stride.max(1)) {
            if is_probe(datagram) {
                moved |= self.paths.heard(now, path, datagram);
                continue;
            }
            more = true;
            let (from, bytes) = (self.paths.peer(), BytesMut::from(datagram));
            self.transmit.clear();
            let event = self
                .endpoint
                .handle(now, from, None, ecn, bytes, &mut self.transmit);
            match event {
                Some(DatagramEvent::ConnectionEvent(handle, event)) => {
                    if let Some(conn) = self.conns.iter_mut().find(|c| c.handle == handle) {
                        conn.inner.handle_event(event);
                    }
                }
                Some(DatagramEvent::NewConnection(incoming)) => self.admit(now, incoming),
                Some(DatagramEvent::Response(response)) => {
                    self.paths.send(&response, &self.transmit[..response.size]);
                }
                None => {}
            }
        }
        if moved {
            self.provoke();
        }
        if more {
            self.pump(now, events, rx);
        }
        more
    }

    /// Somebody with the peer's address wants a connection.
    fn admit(&mut self, now: Instant, incoming: Incoming) {
        self.transmit.clear();
        if self.dials || self.conns.len() >= MAX_CONNECTIONS {
            let refusal = self.endpoint.refuse(incoming, &mut self.transmit);
            self.paths.send(&refusal, &self.transmit[..refusal.size]);
            return;
        }
        self.fit_packets();
        let config = Some(self.tls.server.clone());
        match self
            .endpoint
            .accept(incoming, now, &mut self.transmit, config)
        {
            Ok((handle, inner)) => self.conns.push(Conn::new(handle, inner)),
            Err(e) => {
                self.last_error = Some(e.cause.to_string());
                if let Some(response) = e.response {
                    self.paths.send(&response, &self.transmit[..response.size]);
                }
            }
        }
    }

    /// After a change of the path: an answer to a packet sent there shows at once which of the
    /// earlier ones are lost. Otherwise the loss timer, which has doubled again and again
    /// meanwhile, would be waited for.
    fn provoke(&mut self) {
        let current = self.current;
        if let Some(conn) = self.conns.iter_mut().find(|c| Some(c.handle) == current) {
            conn.inner.ping();
        }
    }

    /// Lets timers fire.
    pub(super) fn on_timeout(
        &mut self,
        now: Instant,
        events: &mut Vec<LinkEvent>,
        rx: &mut Vec<u8>,
    ) {
        for conn in &mut self.conns {
            if conn.inner.poll_timeout().is_some_and(|at| at <= now) {
                conn.inner.handle_timeout(now);
            }
        }
        if self.paths.tick(now) {
            self.provoke();
        }
        self.pump(now, events, rx);
    }

    /// When a timer wants to fire.
    pub(super) fn next_timeout(&mut self) -> Option<Instant> {
        let timeouts = self.conns.iter_mut().map(|c| c.inner.poll_timeout());
        timeouts.chain([self.paths.next()]).flatten().min()
    }

    fn pump(&mut self, now: Instant, events: &mut Vec<LinkEvent>, rx: &mut Vec<u8>) {
        let mut index = 0;
        while index < self.conns.len() {
            self.pump_events(index, now, events, rx);
            let conn = &mut self.conns[index];
            while let Some(event) = conn.inner.poll_endpoint_events() {
                if let Some(event) = self.endpoint.handle_event(conn.handle, event) {
                    conn.inner.handle_event(event);
                }
            }
            if conn.inner.is_drained() {
                self.conns.swap_remove(index);
            } else {
                index += 1;
            }
        }
    }

    fn pump_events(
        &mut self,
        index: usize,
        now: Instant,
        events: &mut Vec<LinkEvent>,
        rx: &mut Vec<u8>,
    ) {
        while let Some(event) = self.conns[index].inner.poll() {
            let handle = self.conns[index].handle;
            match event {
                Event::Connected => {
                    let begins = self.on_connected(index, now, events);
                    if begins {
                        rx.clear();
                    }
                }
                Event::ConnectionLost { reason } => {
                    let reason = reason.to_string();
                    self.last_error = Some(reason.clone());
                    if self.current == Some(handle) {
                        self.current = None;
                        self.paths.end();
                        events.push(LinkEvent::Down(reason));
                    }
                }
                Event::Stream(StreamEvent::Opened { dir: Dir::Bi }) => {
                    let stream = self.conns[index].inner.streams().accept(Dir::Bi);
                    if self.adopt_stream(index, stream, now, events) {
                        rx.clear();
                    }
                    self.read_stream(index, rx);
                }
                Event::Stream(StreamEvent::Readable { .. }) => self.read_stream(index, rx),
                Event::Stream(StreamEvent::Writable { .. }) => self.conns[index].push_backlog(),
                _ => {}
            }
        }
    }

    /// True if a new session stands.
    fn on_connected(&mut self, index: usize, now: Instant, events: &mut Vec<LinkEvent>) -> bool {
        let conn = &mut self.conns[index];
        let identity = conn.inner.crypto_session().peer_identity();
        let chain = identity.and_then(|i| i.downcast::<Vec<CertificateDer<'static>>>().ok());
        if !chain.is_some_and(|c| names_node(&c, &self.peer)) {
            let why = format!("the certificate does not name {}", self.peer);
            conn.inner
                .close(now, VarInt::from_u32(1), Bytes::from(why.clone()));
            self.last_error = Some(why);
            return false;
        }
        conn.verified = true;
        if self.dials {
            let stream = conn.inner.streams().open(Dir::Bi);
            return self.adopt_stream(index, stream, now, events);
        }
        false
    }

    /// The session's stream stands: this connection replaces an older one.
    fn adopt_stream(
        &mut self,
        index: usize,
        stream: Option<StreamId>,
        now: Instant,
        events: &mut Vec<LinkEvent>,
    ) -> bool {
        let Some(stream) = stream else { return false };
        if self.conns[index].stream.is_some() || !self.conns[index].verified {
            return false;
        }
        self.conns[index].stream = Some(stream);
        let handle = self.conns[index].handle;
        if let Some(old) = self.current.replace(handle) {
            if let Some(conn) = self.conns.iter_mut().find(|c| c.handle == old) {
                conn.inner
                    .close(now, VarInt::from_u32(2), Bytes::from_static(b"replaced"));
            }
            events.push(LinkEvent::Down("replaced by a newer connection".into()));
        }
        self.last_error = None;
        if let Some(key) = self.conns[index].probe_key() {
            self.paths.begin(now, key);
        }
        events.push(LinkEvent::Up);
        true
    }

    fn read_stream(&mut self, index: usize, rx: &mut Vec<u8>) {
        let conn = &mut self.conns[index];
        let Some(stream) = conn.stream.filter(|_| self.current == Some(conn.handle)) else {
            return;
        };
        let mut recv = conn.inner.recv_stream(stream);
        let Ok(mut chunks) = recv.read(true) else {
            return;
        };
        while let Ok(Some(chunk)) = chunks.next(usize::MAX) {
            rx.extend_from_slice(&chunk.bytes);
        }
        // Whether window updates are due is asked for at the next flush anyway.
        let _ = chunks.finalize();
    }

    /// Puts bytes on the stream of the current session. Returns false without a session.
    pub(super) fn write(&mut self, bytes: Bytes) -> bool {
        let current = self.current;
        let Some(conn) = self.conns.iter_mut().find(|c| Some(c.handle) == current) else {
            return false;
        };
        conn.backlog_bytes += bytes.len();
        conn.backlog.push_back(bytes);
        conn.push_backlog();
        true
    }

    /// Whether writers should wait: more is queued than the peer may be behind.
    pub(super) fn is_full(&self) -> bool {
        let current = self.current;
        let conn = self.conns.iter().find(|c| Some(c.handle) == current);
        conn.is_some_and(|c| c.backlog_bytes as u64 > SEND_WINDOW)
    }

    /// Sends everything that may be sent now.
    pub(super) fn flush(&mut self, now: Instant) {
        let segments = self.paths.segments().min(MAX_SEGMENTS);
        for conn in &mut self.conns {
            loop {
                self.transmit.clear();
                let Some(t) = conn.inner.poll_transmit(now, segments, &mut self.transmit) else {
                    break;
                };
                self.paths.send(&t, &self.transmit[..t.size]);
            }
        }
    }

    /// Ends the current session; [`LinkEvent::Down`] is not reported for it.
    pub(super) fn close(&mut self, now: Instant, why: &str) {
        let Some(current) = self.current.take() else {
            return;
        };
        self.last_error = Some(why.to_string());
        if let Some(conn) = self.conns.iter_mut().find(|c| c.handle == current) {
            conn.inner.close(
                now,
                VarInt::from_u32(0),
                Bytes::copy_from_slice(why.as_bytes()),
            );
        }
        self.paths.end();
        self.flush(now);
    }
}
