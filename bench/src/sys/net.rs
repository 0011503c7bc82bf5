//! Raw network access for the delay line: packet sockets that pass frames through unchanged, and
//! a bridge's ports.

use std::fs::File;
use std::io;
use std::os::fd::{AsFd, AsRawFd, BorrowedFd, FromRawFd, OwnedFd};
use std::time::Duration;

use libc::{c_int, c_void, socklen_t};

use super::check;

/// From `linux/if_packet.h`; libc does not have them.
const PACKET_VNET_HDR: c_int = 15;
const PACKET_IGNORE_OUTGOING: c_int = 23;
/// From `linux/sockios.h`.
const SIOCBRADDIF: libc::Ioctl = 0x89a2 as libc::Ioctl;
const SIOCBRDELIF: libc::Ioctl = 0x89a3 as libc::Ioctl;
const ALL_PROTOCOLS: u16 = libc::ETH_P_ALL as u16;
/// What may wait in the kernel: many times the windows of the connections that pass.
const KERNEL_BUFFER: c_int = 32 << 20;
/// The header before each frame (checksum and segmentation still to be done), a frame of the
/// largest size a segmented one can have, and its link layer header.
pub(crate) const FRAME_MAX: usize = 10 + 65_536 + 64;

/// Everything that passes one interface, with frames of up to 64 KiB left whole.
pub(crate) struct PacketSocket(OwnedFd);

impl AsFd for PacketSocket {
    fn as_fd(&self) -> BorrowedFd<'_> {
        self.0.as_fd()
    }
}

impl PacketSocket {
    pub(crate) fn open(interface: u32) -> io::Result<Self> {
        let flags = libc::SOCK_RAW | libc::SOCK_CLOEXEC | libc::SOCK_NONBLOCK;
        // No protocol yet: nothing arrives before all options are set.
        // SAFETY: takes numbers only.
        let fd = check(unsafe { libc::socket(libc::AF_PACKET, flags, 0) })?;
        // SAFETY: the kernel has just given this descriptor to us, and nobody else knows it.
        let socket = Self(unsafe { OwnedFd::from_raw_fd(fd) });
        socket.set(libc::SOL_PACKET, PACKET_VNET_HDR, 1)?;
        socket.set(libc::SOL_PACKET, PACKET_IGNORE_OUTGOING, 1)?;
        socket.set(libc::SOL_SOCKET, libc::SO_TIMESTAMPNS, 1)?;
        socket.set(libc::SOL_SOCKET, libc::SO_RCVBUFFORCE, KERNEL_BUFFER)?;
        socket.set(libc::SOL_SOCKET, libc::SO_SNDBUFFORCE, KERNEL_BUFFER)?;
        // SAFETY: plain data for which zero is valid.
        let mut address: libc::sockaddr_ll = unsafe { std::mem::zeroed() };
        address.sll_family = libc::AF_PACKET as u16;
        address.sll_protocol = ALL_PROTOCOLS.to_be();
        address.sll_ifindex = i32::try_from(interface).map_err(io::Error::other)?;
        let size = size_of_val(&address) as socklen_t;
        // SAFETY: the address is a valid sockaddr_ll of `size` bytes.
        check(unsafe { libc::bind(fd, (&raw const address).cast(), size) })?;
        Ok(socket)
    }

    fn set(&self, level: c_int, option: c_int, value: c_int) -> io::Result<()> {
        let (fd, size) = (self.0.as_raw_fd(), size_of::<c_int>() as socklen_t);
        let value = (&raw const value).cast::<c_void>();
        // SAFETY: the value is a valid int of `size` bytes.
        check(unsafe { libc::setsockopt(fd, level, option, value, size) }).map(drop)
    }

    /// Takes one frame: its length and how long ago it arrived. `None`: there is none.
    pub(crate) fn receive(&self, frame: &mut [u8]) -> io::Result<Option<(usize, Duration)>> {
        /// Aligned as a control message must be.
        #[repr(align(8))]
        struct Control([u8; 64]);
        let mut control = Control([0; 64]);
        let base = frame.as_mut_ptr().cast::<c_void>();
        let mut part = libc::iovec {
            iov_base: base,
            iov_len: frame.len(),
        };
        // SAFETY: plain data for which zero is valid.
        let mut message: libc::msghdr = unsafe { std::mem::zeroed() };
        message.msg_iov = &raw mut part;
        message.msg_iovlen = 1;
        message.msg_control = control.0.as_mut_ptr().cast();
        message.msg_controllen = control.0.len() as _;
        // SAFETY: the message points to buffers of the given lengths that live through the call.
        let length = unsafe { libc::recvmsg(self.0.as_raw_fd(), &raw mut message, 0) };
        let Ok(length) = usize::try_from(length) else {
            let error = io::Error::last_os_error();
            let none = error.kind() == io::ErrorKind::WouldBlock;
            return if none { Ok(None) } else { Err(error) };
        };
        if message.msg_flags & libc::MSG_TRUNC != 0 {
            return Err(io::Error::other("a frame longer than any may be"));
        }
        Ok(Some((length, age(&message))))
    }

    /// Sends one frame as it was received.
    pub(crate) fn send(&self, frame: &[u8]) -> io::Result<()> {
        let (fd, data) = (self.0.as_raw_fd(), frame.as_ptr().cast::<c_void>());
        // SAFETY: the frame is `frame.len()` readable bytes.
        let sent = unsafe { libc::send(fd, data, frame.len(), 0) };
        if sent < 0 {
            Err(io::Error::last_os_error())
        } else {
            Ok(())
        }
    }
}

/// How long ago the kernel received a message; zero if it did not say.
fn age(message: &libc::msghdr) -> Duration {
    let instant = |time: libc::timespec| {
        Duration::new(
            time.tv_sec.try_into().unwrap_or(0),
            time.tv_nsec.try_into().unwrap_or(0),
        )
    };
    // SAFETY: recvmsg has filled the control buffer, which still lives; the macros walk it within
    // its length, and a message of this kind holds one timespec, read without asking alignment.
    let arrived = unsafe {
        let mut header = libc::CMSG_FIRSTHDR(message);
        while !header.is_null() && (*header).cmsg_type != libc::SCM_TIMESTAMPNS {
            header = libc::CMSG_NXTHDR(message, header);
        }
        if header.is_null() {
            return Duration::ZERO;
        }
        libc::CMSG_DATA(header)
            .cast::<libc::timespec>()
            .read_unaligned()
    };
    let mut now = libc::timespec {
        tv_sec: 0,
        tv_nsec: 0,
    };
    // SAFETY: the place is valid for the length of the call.
    unsafe { libc::clock_gettime(libc::CLOCK_REALTIME, &raw mut now) };
    instant(now).saturating_sub(instant(arrived))
}

/// Makes an interface a port of a bridge, or takes it out.
pub(crate) fn set_bridge_port(bridge: &str, interface: u32, member: bool) -> io::Result<()> {
    // SAFETY: takes numbers only.
    let fd =
        check(unsafe { libc::socket(libc::AF_UNIX, libc::SOCK_DGRAM | libc::SOCK_CLOEXEC, 0) })?;
    // SAFETY: the kernel has just given this descriptor to us, and nobody else knows it.
    let socket = File::from(unsafe { OwnedFd::from_raw_fd(fd) });
    // SAFETY: plain data for which zero is valid.
    let mut request: libc::ifreq = unsafe { std::mem::zeroed() };
    if bridge.len() >= request.ifr_name.len() {
        return Err(io::Error::from(io::ErrorKind::InvalidInput));
    }
    for (to, from) in request.ifr_name.iter_mut().zip(bridge.bytes()) {
        *to = from as libc::c_char;
    }
    request.ifr_ifru.ifru_ifindex = i32::try_from(interface).map_err(io::Error::other)?;
    let what = if member { SIOCBRADDIF } else { SIOCBRDELIF };
    // SAFETY: both requests read an ifreq with a name that ends in zero and an interface number.
    check(unsafe { libc::ioctl(socket.as_raw_fd(), what, &raw const request) }).map(drop)
}
