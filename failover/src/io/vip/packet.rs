//! Packet sockets: whole frames of one interface, ARP or neighbour discovery only.

use std::io::{self, Read};
use std::mem::size_of;

use socket2::{Domain, SockAddr, SockFilter, Socket, Type};
use tokio::io::Interest;
use tokio::io::unix::AsyncFd;

use super::frames::{Claim, ETHERTYPE_ARP, ETHERTYPE_IPV6, LONGEST, claim};

/// A socket that sends and hears what concerns addresses of one family on one interface.
pub(super) struct Port(AsyncFd<Socket>);

impl Port {
    /// The interface, and whether it is about IPv6.
    pub(super) fn open(index: u32, v6: bool) -> io::Result<Self> {
        // Without a protocol it hears nothing until it is bound, so nothing passes the filter by.
        let socket = Socket::new(Domain::PACKET, Type::RAW, None)?;
        socket.set_nonblocking(true)?;
        if v6 {
            socket.attach_filter(&NEIGHBOUR_DISCOVERY)?;
        }
        let protocol = if v6 { ETHERTYPE_IPV6 } else { ETHERTYPE_ARP };
        bind(&socket, index, protocol)?;
        // SAFETY: the socket owns its descriptor, names the same one for all its life, and lives
        // in the registration, which nothing takes it out of.
        let registered = unsafe { AsyncFd::register_with_interest(socket, Interest::READABLE) };
        Ok(Self(registered?))
    }

    /// Sends, or loses the frame as a network may: what matters is sent again.
    pub(super) fn send(&self, frame: &[u8]) {
        if let Err(error) = self.0.get_ref().send(frame) {
            tracing::debug!("a frame about an address was not sent: {error}");
        }
    }

    /// The next claim that is heard.
    pub(super) async fn hear(&self) -> io::Result<Claim> {
        let mut frame = [0; LONGEST];
        loop {
            let mut ready = self.0.readable().await?;
            let read = ready.try_io(|socket| {
                let mut socket: &Socket = socket.get_ref();
                socket.read(&mut frame)
            });
            match read {
                Ok(Ok(length)) => {
                    if let Some(claim) = claim(&frame[..length]) {
                        return Ok(claim);
                    }
                }
                // The interface went down; the socket hears again when it is up.
                Ok(Err(error)) if error.raw_os_error() == Some(libc::ENETDOWN) => {}
                Ok(Err(error)) if error.kind() == io::ErrorKind::Interrupted => {}
                Ok(Err(error)) => return Err(error),
                Err(_would_block) => {}
            }
        }
    }
}

/// Lets solicitations and advertisements of neighbours pass. A serving node's whole traffic goes
/// by this socket, so the kernel drops the rest.
const NEIGHBOUR_DISCOVERY: [SockFilter; 7] = {
    const LOAD: u16 = (libc::BPF_LD | libc::BPF_B | libc::BPF_ABS) as u16;
    const EQUAL: u16 = (libc::BPF_JMP | libc::BPF_JEQ | libc::BPF_K) as u16;
    const RETURN: u16 = (libc::BPF_RET | libc::BPF_K) as u16;
    [
        // The next header of IPv6 is ICMPv6, ...
        SockFilter::new(LOAD, 0, 0, 14 + 6),
        SockFilter::new(EQUAL, 0, 4, 58),
        // ... and the message is one of the two.
        SockFilter::new(LOAD, 0, 0, 14 + 40),
        SockFilter::new(EQUAL, 1, 0, 135),
        SockFilter::new(EQUAL, 0, 1, 136),
        SockFilter::new(RETURN, 0, 0, LONGEST as u32),
        SockFilter::new(RETURN, 0, 0, 0),
    ]
};

fn bind(socket: &Socket, index: u32, protocol: u16) -> io::Result<()> {
    let index = i32::try_from(index).map_err(io::Error::other)?;
    let link = libc::sockaddr_ll {
        sll_family: libc::AF_PACKET as u16,
        sll_protocol: protocol.to_be(),
        sll_ifindex: index,
        sll_hatype: 0,
        sll_pkttype: 0,
        sll_halen: 0,
        sll_addr: [0; 8],
    };
    // SAFETY: the storage is as large and as aligned as any socket address; the address written
    // to it is of the family it names, and its length is that of this kind.
    let made = unsafe {
        SockAddr::try_init(|storage, length| {
            storage.cast::<libc::sockaddr_ll>().write(link);
            *length = size_of::<libc::sockaddr_ll>() as libc::socklen_t;
            Ok(())
        })
    };
    socket.bind(&made?.1)
}
