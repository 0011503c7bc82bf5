//! Looks whether a host answers to ICMP echo.

mod packet;

use std::io::{self, Read};
use std::net::{IpAddr, SocketAddr};
use std::sync::atomic::{AtomicU32, Ordering};
use std::time::{Duration, Instant};

use socket2::{Domain, Protocol, SockAddr, Socket, Type};

use super::network::resolve;
use packet::{Echo, Family};

/// Requests sent to one address, spread over its time: one lost packet is no failure.
const REQUESTS: u32 = 3;

/// So that no two looks take each other's answers.
static LOOKS: AtomicU32 = AtomicU32::new(0);

pub(super) fn ping(host: &str, deadline: Instant) -> Result<(), String> {
    let addresses = resolve(host, 0, deadline)?;
    let mut wrong = Vec::new();
    for (index, address) in addresses.iter().enumerate() {
        let share = u32::try_from(addresses.len() - index).unwrap_or(1);
        let left = deadline.saturating_duration_since(Instant::now()) / share;
        match one(*address, left) {
            Ok(true) => return Ok(()),
            Ok(false) => {
                let millis = left.as_millis();
                wrong.push(format!(
                    "{} does not answer within {millis} ms",
                    address.ip()
                ));
            }
            Err(error) => wrong.push(format!("{}: {error}", address.ip())),
        }
    }
    Err(format!("ping {host}: {}", wrong.join("; ")))
}

/// Whether the address answers.
fn one(address: SocketAddr, limit: Duration) -> io::Result<bool> {
    let family = match address.ip() {
        IpAddr::V4(_) => Family::V4,
        IpAddr::V6(_) => Family::V6,
    };
    let (socket, raw) = open(family)?;
    // From now on the kernel gives us only what comes from there.
    socket.connect(&SockAddr::from(address))?;
    let look = LOOKS.fetch_add(1, Ordering::Relaxed);
    let begin = Instant::now();
    for number in 0..REQUESTS {
        let echo = Echo {
            id: std::process::id() as u16,
            sequence: number as u16,
            token: (u64::from(std::process::id()) << 32) | u64::from(look),
        };
        send(&socket, &echo.request(family))?;
        let until = begin + limit * (number + 1) / REQUESTS;
        if answered(&socket, family, raw, &echo, until)? {
            return Ok(true);
        }
    }
    Ok(false)
}

/// A socket of ICMP's own if the system lets us have one, else a raw one; whether it is raw.
fn open(family: Family) -> io::Result<(Socket, bool)> {
    let (domain, protocol) = match family {
        Family::V4 => (Domain::IPV4, Protocol::ICMPV4),
        Family::V6 => (Domain::IPV6, Protocol::ICMPV6),
    };
    match Socket::new(domain, Type::DGRAM, Some(protocol)) {
        Ok(socket) => Ok((socket, false)),
        Err(_) => {
            let socket = Socket::new(domain, Type::RAW, Some(protocol)).map_err(|error| {
                io::Error::new(error.kind(), format!("no ICMP socket: {error}; be root"))
            })?;
            Ok((socket, true))
        }
    }
}

/// A full queue or an error that an earlier packet brought back is not this packet's end.
fn send(socket: &Socket, request: &[u8]) -> io::Result<()> {
    match socket.send(request) {
        Err(error) if passing(&error) => Ok(()),
        sent => sent.map(drop),
    }
}

fn passing(error: &io::Error) -> bool {
    matches!(
        error.raw_os_error(),
        Some(libc::EAGAIN | libc::EINTR | libc::ENOBUFS | libc::ECONNREFUSED)
    )
}

fn answered(
    mut socket: &Socket,
    family: Family,
    raw: bool,
    echo: &Echo,
    until: Instant,
) -> io::Result<bool> {
    loop {
        let left = until.saturating_duration_since(Instant::now());
        if left.is_zero() {
            return Ok(false);
        }
        // The smallest time a socket knows is a microsecond; less would mean for ever.
        socket.set_read_timeout(Some(left.max(Duration::from_millis(1))))?;
        let mut buffer = [0; 2048];
        let length = match socket.read(&mut buffer) {
            Ok(length) => length,
            Err(error) if passing(&error) => continue,
            Err(error) => return Err(error),
        };
        let bytes = &buffer[..length];
        // Only a raw socket of IPv4 shows the header before the message.
        let message = match raw && family == Family::V4 {
            true => packet::after_header(bytes),
            false => Some(bytes),
        };
        // The kernel gives a socket that is not raw an id of its own.
        if message.is_some_and(|message| echo.is_answer(family, raw, message)) {
            return Ok(true);
        }
    }
}
