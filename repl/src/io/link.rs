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

use super::socket::Socket;
use super::tls::{Tls, names_node};
use crate::limits::SEND_WINDOW;
use bytes::{Bytes, BytesMut};
use quinn_proto::{
    ClientConfig, Connection, ConnectionHandle, DatagramEvent, Dir, Endpoint, EndpointConfig,
    Event, StreamEvent, StreamId, VarInt, WriteError,
};
use quinn_udp::RecvMeta;
use rustls::pki_types::CertificateDer;
use std::collections::VecDeque;
use std::net::SocketAddr;
use std::sync::Arc;
use std::time::{Duration, Instant};

/// Connections at once, handshakes included: the session, the one that replaces it, and strangers.
const MAX_CONNECTIONS: usize = 16;
/// Datagrams per segmented send. Ten of 6,500 bytes fit the 64 KiB the kernel takes at once.
const MAX_SEGMENTS: usize = 10;

/// What came of received packets.
pub(super) enum LinkEvent {
    /// The stream stands, the peer is who it should be. Greet it.
    Up,
    Down(String),
    /// Bytes of the stream, in order.
    Data(Vec<u8>),
}

struct Conn {
    handle: ConnectionHandle,
    inner: Connection,
    /// The peer's certificate names the expected node; nothing is taken from it before.
    verified: bool,
    stream: Option<StreamId>,
    /// Not yet taken by the protocol because a window is full.
    backlog: VecDeque<Bytes>,
    backlog_bytes: usize,
}

pub(super) struct Link {
    socket: Arc<Socket>,
    endpoint: Endpoint,
    client: ClientConfig,
    peer: String,
    peer_addr: SocketAddr,
    dials: bool,
    conns: Vec<Conn>,
    current: Option<ConnectionHandle>,
    next_dial: Instant,
    transmit: Vec<u8>,
    /// Why the last attempt or session ended.
    pub(super) last_error: Option<String>,
}

impl Link {
    pub(super) fn new(
        socket: Arc<Socket>,
        tls: Tls,
        (peer, peer_addr): (String, SocketAddr),
        dials: bool,
        now: Instant,
    ) -> Self {
        let config = Arc::new(EndpointConfig::default());
        let endpoint = Endpoint::new(config, Some(tls.server), true, None);
        Self {
            socket,
            endpoint,
            client: tls.client,
            peer,
            peer_addr,
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
        let (config, addr) = (self.client.clone(), self.peer_addr);
        match self.endpoint.connect(now, config, addr, &self.peer) {
            Ok((handle, inner)) => self.conns.push(Conn::new(handle, inner)),
            Err(e) => self.last_error = Some(e.to_string()),
        }
    }

    /// Feeds what one receive call returned, then everything that follows from it.
    pub(super) fn receive(
        &mut self,
        now: Instant,
        meta: &RecvMeta,
        data: &[u8],
        events: &mut Vec<LinkEvent>,
    ) {
        let ecn = meta
            .ecn
            .and_then(|e| quinn_proto::EcnCodepoint::from_bits(e as u8));
        for datagram in data[..meta.len].chunks(meta.stride.max(1)) {
            let bytes = BytesMut::from(datagram);
            self.transmit.clear();
            let event =
                self.endpoint
                    .handle(now, meta.addr, meta.dst_ip, ecn, bytes, &mut self.transmit);
            match event {
                Some(DatagramEvent::ConnectionEvent(handle, event)) => {
                    if let Some(conn) = self.conns.iter_mut().find(|c| c.handle == handle) {
                        conn.inner.handle_event(event);
                    }
                }
                Some(DatagramEvent::NewConnection(incoming)) => {
                    self.transmit.clear();
                    if self.dials || self.conns.len() >= MAX_CONNECTIONS {
                        let refusal = self.endpoint.refuse(incoming, &mut self.transmit);
                        self.socket.send(&refusal, &self.transmit[..refusal.size]);
                        continue;
                    }
                    match self
                        .endpoint
                        .accept(incoming, now, &mut self.transmit, None)
                    {
                        Ok((handle, inner)) => self.conns.push(Conn::new(handle, inner)),
                        Err(e) => {
                            self.last_error = Some(e.cause.to_string());
                            if let Some(response) = e.response {
                                self.socket.send(&response, &self.transmit[..response.size]);
                            }
                        }
                    }
                }
                Some(DatagramEvent::Response(response)) => {
                    self.socket.send(&response, &self.transmit[..response.size]);
                }
                None => {}
            }
        }
        self.pump(now, events);
    }

    /// Lets timers fire.
    pub(super) fn on_timeout(&mut self, now: Instant, events: &mut Vec<LinkEvent>) {
        for conn in &mut self.conns {
            if conn.inner.poll_timeout().is_some_and(|at| at <= now) {
                conn.inner.handle_timeout(now);
            }
        }
        self.pump(now, events);
    }

    /// When a timer wants to fire.
    pub(super) fn next_timeout(&mut self) -> Option<Instant> {
        self.conns
            .iter_mut()
            .filter_map(|c| c.inner.poll_timeout())
            .min()
    }

    fn pump(&mut self, now: Instant, events: &mut Vec<LinkEvent>) {
        let mut index = 0;
        while index < self.conns.len() {
            self.pump_events(index, now, events);
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

    fn pump_events(&mut self, index: usize, now: Instant, events: &mut Vec<LinkEvent>) {
        while let Some(event) = self.conns[index].inner.poll() {
            let handle = self.conns[index].handle;
            match event {
                Event::Connected => self.on_connected(index, now, events),
                Event::ConnectionLost { reason } => {
                    let reason = reason.to_string();
                    self.last_error = Some(reason.clone());
                    if self.current == Some(handle) {
                        self.current = None;
                        events.push(LinkEvent::Down(reason));
                    }
                }
                Event::Stream(StreamEvent::Opened { dir: Dir::Bi }) => {
                    let stream = self.conns[index].inner.streams().accept(Dir::Bi);
                    self.adopt_stream(index, stream, now, events);
                    self.read_stream(index, events);
                }
                Event::Stream(StreamEvent::Readable { .. }) => self.read_stream(index, events),
                Event::Stream(StreamEvent::Writable { .. }) => self.conns[index].push_backlog(),
                _ => {}
            }
        }
    }

    fn on_connected(&mut self, index: usize, now: Instant, events: &mut Vec<LinkEvent>) {
        let conn = &mut self.conns[index];
        let identity = conn.inner.crypto_session().peer_identity();
        let chain = identity.and_then(|i| i.downcast::<Vec<CertificateDer<'static>>>().ok());
        if !chain.is_some_and(|c| names_node(&c, &self.peer)) {
            let why = format!("the certificate does not name {}", self.peer);
            conn.inner
                .close(now, VarInt::from_u32(1), Bytes::from(why.clone()));
            self.last_error = Some(why);
            return;
        }
        conn.verified = true;
        if self.dials {
            let stream = conn.inner.streams().open(Dir::Bi);
            self.adopt_stream(index, stream, now, events);
        }
    }

    /// The session's stream stands: this connection replaces an older one.
    fn adopt_stream(
        &mut self,
        index: usize,
        stream: Option<StreamId>,
        now: Instant,
        events: &mut Vec<LinkEvent>,
    ) {
        let Some(stream) = stream else { return };
        if self.conns[index].stream.is_some() || !self.conns[index].verified {
            return;
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
        events.push(LinkEvent::Up);
    }

    fn read_stream(&mut self, index: usize, events: &mut Vec<LinkEvent>) {
        let conn = &mut self.conns[index];
        let Some(stream) = conn.stream.filter(|_| self.current == Some(conn.handle)) else {
            return;
        };
        let mut data = Vec::new();
        let mut recv = conn.inner.recv_stream(stream);
        let Ok(mut chunks) = recv.read(true) else {
            return;
        };
        while let Ok(Some(chunk)) = chunks.next(usize::MAX) {
            data.extend_from_slice(&chunk.bytes);
        }
        // Whether window updates are due is asked for at the next flush anyway.
        let _ = chunks.finalize();
        if !data.is_empty() {
            events.push(LinkEvent::Data(data));
        }
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
        let segments = self.socket.state.max_gso_segments().min(MAX_SEGMENTS);
        for conn in &mut self.conns {
            loop {
                self.transmit.clear();
                let Some(t) = conn.inner.poll_transmit(now, segments, &mut self.transmit) else {
                    break;
                };
                self.socket.send(&t, &self.transmit[..t.size]);
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
        self.flush(now);
    }
}

impl Conn {
    fn new(handle: ConnectionHandle, inner: Connection) -> Self {
        Self {
            handle,
            inner,
            verified: false,
            stream: None,
            backlog: VecDeque::new(),
            backlog_bytes: 0,
        }
    }

    fn push_backlog(&mut self) {
        let Some(stream) = self.stream else { return };
        while let Some(front) = self.backlog.front_mut() {
            let before = front.len();
            let chunk = std::slice::from_mut(front);
            match self.inner.send_stream(stream).write_chunks(chunk) {
                Ok(written) if written.chunks == 1 => {
                    self.backlog_bytes -= before;
                    self.backlog.pop_front();
                }
                // A part was taken; the rest stays in the chunk.
                Ok(written) => {
                    self.backlog_bytes -= written.bytes;
                    if written.bytes == 0 {
                        return;
                    }
                }
                Err(WriteError::Blocked) => return,
                Err(_) => {
                    self.backlog.clear();
                    self.backlog_bytes = 0;
                    return;
                }
            }
        }
    }
}
