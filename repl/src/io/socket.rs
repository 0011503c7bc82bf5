//! The UDP socket: sent to by whoever has something to send, received from by one thread at a time.

use quinn_proto::Transmit;
use quinn_udp::UdpSocketState;
use std::io;
use std::net::{SocketAddr, UdpSocket};
use std::sync::Arc;

/// Sockets buffers asked for, bytes; the kernel may give less.
const SOCKET_BUFFER: usize = 8 * 1024 * 1024;
/// The socket, shared with the receiving thread.
pub(super) struct Socket {
    pub(super) udp: UdpSocket,
    pub(super) state: UdpSocketState,
}

impl Socket {
    /// # Errors
    /// The address is taken or not of this node.
    pub(super) fn bind(addr: SocketAddr) -> io::Result<Arc<Self>> {
        let udp = UdpSocket::bind(addr)?;
        let state = UdpSocketState::new((&udp).into())?;
        // Best effort: small buffers cost throughput, not correctness.
        let _ = state.set_recv_buffer_size((&udp).into(), SOCKET_BUFFER);
        let _ = state.set_send_buffer_size((&udp).into(), SOCKET_BUFFER);
        // One thread waits in the receive call itself: cheaper than poll and receive.
        udp.set_nonblocking(false)?;
        Ok(Arc::new(Self { udp, state }))
    }

    pub(super) fn send(&self, transmit: &Transmit, contents: &[u8]) {
        let ecn = transmit
            .ecn
            .and_then(|e| quinn_udp::EcnCodepoint::from_bits(e as u8));
        let transmit = quinn_udp::Transmit {
            destination: transmit.destination,
            ecn,
            contents,
            segment_size: transmit.segment_size,
            src_ip: transmit.src_ip,
        };
        // A datagram that is not sent is a datagram lost: QUIC sends it again.
        let _ = self.state.send((&self.udp).into(), &transmit);
    }
}
