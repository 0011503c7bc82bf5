//! The UDP socket of one path: sent to by whoever has something to send, received from by one
//! thread at a time.

use quinn_proto::Transmit;
use quinn_udp::UdpSocketState;
use socket2::{Domain, SockRef, Type};
use std::io;
use std::mem::MaybeUninit;
use std::net::{IpAddr, SocketAddr, UdpSocket};
use std::os::fd::AsRawFd;
use std::sync::Arc;
use std::sync::atomic::AtomicBool;
use std::time::Duration;

/// Sockets buffers asked for, bytes; the kernel may give less.
const SOCKET_BUFFER: usize = 8 * 1024 * 1024;
/// How long a path whose buffer is full may hold up the others.
const SEND_LIMIT: Duration = Duration::from_millis(20);
/// What IP and UDP put before a datagram's content, bytes.
const HEADERS_V4: u32 = 28;
const HEADERS_V6: u32 = 48;

/// The socket, shared with the receiving thread.
pub(super) struct Socket {
    pub(super) udp: UdpSocket,
    pub(super) state: UdpSocketState,
    pub(super) local: SocketAddr,
    pub(super) remote: SocketAddr,
    /// What was received is being worked on.
    pub(super) busy: AtomicBool,
}

impl Socket {
    /// The sockets of all paths: pairs of this node's and the peer's address in one network.
    ///
    /// # Errors
    /// An address that cannot be bound. With several paths one may be missing: its network may be
    /// what is down.
    pub(super) fn bind_all(
        paths: &[(SocketAddr, SocketAddr)],
    ) -> Result<Vec<Arc<Self>>, (SocketAddr, io::Error)> {
        let mut sockets = Vec::new();
        let mut missing = None;
        for (local, remote) in paths {
            let failed = |e: io::Error| (*local, e);
            let udp = match UdpSocket::bind(local) {
                Err(e) if e.kind() == io::ErrorKind::AddrNotAvailable && paths.len() > 1 => {
                    tracing::warn!("{local} is no address of this node yet; the others are used");
                    missing = Some(failed(e));
                    bind_before_it_exists(*local).map_err(failed)?
                }
                other => other.map_err(failed)?,
            };
            let socket = Self::new(udp, (*local, *remote), paths.len() > 1);
            sockets.push((socket.map_err(failed)?, missing.take()));
        }
        if sockets.iter().all(|(_, missing)| missing.is_some())
            && let Some((_, Some(error))) = sockets.pop()
        {
            return Err(error);
        }
        let sockets = sockets.into_iter().map(|(socket, _)| Arc::new(socket));
        Ok(sockets.collect())
    }

    fn new(
        udp: UdpSocket,
        (local, remote): (SocketAddr, SocketAddr),
        several: bool,
    ) -> io::Result<Self> {
        let state = UdpSocketState::new((&udp).into())?;
        // Best effort: small buffers cost throughput, not correctness.
        let _ = state.set_recv_buffer_size((&udp).into(), SOCKET_BUFFER);
        let _ = state.set_send_buffer_size((&udp).into(), SOCKET_BUFFER);
        // One thread waits in the receive call itself: cheaper than poll and receive.
        udp.set_nonblocking(false)?;
        if several {
            udp.set_write_timeout(Some(SEND_LIMIT))?;
        }
        Ok(Self {
            udp,
            state,
            local,
            remote,
            busy: AtomicBool::new(false),
        })
    }

    pub(super) fn send(&self, transmit: &Transmit, contents: &[u8]) {
        let ecn = transmit
            .ecn
            .and_then(|e| quinn_udp::EcnCodepoint::from_bits(e as u8));
        let transmit = quinn_udp::Transmit {
            destination: self.remote,
            ecn,
            contents,
            segment_size: transmit.segment_size,
            src_ip: None,
        };
        // A datagram that is not sent is a datagram lost: QUIC sends it again.
        let _ = self.state.send((&self.udp).into(), &transmit);
    }

    /// Sends a probe; one that is not sent is lost, which is what probes are for.
    pub(super) fn probe(&self, datagram: &[u8]) {
        let _ = self.udp.send_to(datagram, self.remote);
    }

    /// Whether a datagram's source is the peer's address on this path.
    pub(super) fn is_of_peer(&self, source: SocketAddr) -> bool {
        source.ip() == self.remote.ip() && source.port() == self.remote.port()
    }

    /// Whether something has arrived that nobody has read.
    pub(super) fn has_unread(&self) -> bool {
        let mut byte = [MaybeUninit::uninit()];
        let flags = libc::MSG_PEEK | libc::MSG_DONTWAIT;
        let peeked = SockRef::from(&self.udp).recv_with_flags(&mut byte, flags);
        peeked.is_ok()
    }

    /// The largest datagram content that this node's network card, and whatever the kernel has
    /// learned of the way, let through.
    ///
    /// # Errors
    /// There is no way to the peer now.
    pub(super) fn largest(&self) -> io::Result<u32> {
        let socket = UdpSocket::bind((self.local.ip(), 0))?;
        socket.connect(self.remote)?;
        let (level, name, headers) = match self.remote.ip() {
            IpAddr::V4(_) => (libc::IPPROTO_IP, libc::IP_MTU, HEADERS_V4),
            IpAddr::V6(_) => (libc::IPPROTO_IPV6, libc::IPV6_MTU, HEADERS_V6),
        };
        let mut mtu: libc::c_int = 0;
        let mut length = size_of::<libc::c_int>() as libc::socklen_t;
        // SAFETY: the descriptor is open, and the kernel writes at most `length` bytes into `mtu`.
        let result = unsafe {
            libc::getsockopt(
                socket.as_raw_fd(),
                level,
                name,
                (&raw mut mtu).cast(),
                &raw mut length,
            )
        };
        if result < 0 {
            return Err(io::Error::last_os_error());
        }
        Ok(u32::try_from(mtu).unwrap_or(0).saturating_sub(headers))
    }
}

/// For an address whose network comes up later.
fn bind_before_it_exists(local: SocketAddr) -> io::Result<UdpSocket> {
    let socket = socket2::Socket::new(Domain::for_address(local), Type::DGRAM, None)?;
    if local.is_ipv4() {
        socket.set_freebind_v4(true)?;
    } else {
        socket.set_freebind_v6(true)?;
    }
    socket.bind(&local.into())?;
    Ok(socket.into())
}

#[cfg(test)]
#[allow(clippy::unwrap_used)]
mod tests {
    use super::*;

    fn pair(local: &str) -> (SocketAddr, SocketAddr) {
        (local.parse().unwrap(), "127.0.0.1:9".parse().unwrap())
    }

    #[test]
    fn one_address_may_be_missing_but_not_all() {
        // 192.0.2.0/24 is nobody's.
        let (here, away) = (pair("127.0.0.1:0"), pair("192.0.2.7:0"));
        assert_eq!(Socket::bind_all(&[here, away]).ok().unwrap().len(), 2);
        assert!(Socket::bind_all(&[away]).is_err());
        let (address, _) = Socket::bind_all(&[away, away]).err().unwrap();
        assert_eq!(address, away.0);
    }

    #[test]
    fn what_is_unread_is_seen_and_left() {
        let sockets = Socket::bind_all(&[pair("127.0.0.1:0")]).ok().unwrap();
        let own = sockets[0].udp.local_addr().unwrap();
        assert!(!sockets[0].has_unread());
        let other = UdpSocket::bind("127.0.0.1:0").unwrap();
        other.send_to(b"probe", own).unwrap();
        assert!(sockets[0].has_unread());
        let mut buffer = [0; 16];
        assert_eq!(sockets[0].udp.recv_from(&mut buffer).unwrap().0, 5);
        assert!(!sockets[0].has_unread());
        assert!(!sockets[0].is_of_peer(other.local_addr().unwrap()));
    }

    #[test]
    fn the_largest_datagram_is_that_of_the_network() {
        let sockets = Socket::bind_all(&[pair("127.0.0.1:0")]).ok().unwrap();
        assert!(sockets[0].largest().unwrap() > 1200);
    }
}
