//! One connection: a session, one that is becoming it, or a stranger's.

use crate::wire::PROBE_KEY;
use bytes::Bytes;
use quinn_proto::{Connection, ConnectionHandle, StreamId, WriteError};
use std::collections::VecDeque;

/// Names the use of the keys that both ends take out of the handshake.
const PROBES: &[u8] = b"EXPORTER-tandem-probes";

pub(super) struct Conn {
    pub(super) handle: ConnectionHandle,
    pub(super) inner: Connection,
    /// The peer's certificate names the expected node; nothing is taken from it before.
    pub(super) verified: bool,
    pub(super) stream: Option<StreamId>,
    /// Not yet taken by the protocol because a window is full.
    pub(super) backlog: VecDeque<Bytes>,
    pub(super) backlog_bytes: usize,
}

impl Conn {
    pub(super) fn new(handle: ConnectionHandle, inner: Connection) -> Self {
        Self {
            handle,
            inner,
            verified: false,
            stream: None,
            backlog: VecDeque::new(),
            backlog_bytes: 0,
        }
    }

    /// The key of this connection's probes; both ends have the same.
    pub(super) fn probe_key(&self) -> Option<[u8; PROBE_KEY]> {
        let mut key = [0; PROBE_KEY];
        let session = self.inner.crypto_session();
        let exported = session.export_keying_material(&mut key, PROBES, b"");
        exported.is_ok().then_some(key)
    }

    pub(super) fn push_backlog(&mut self) {
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
