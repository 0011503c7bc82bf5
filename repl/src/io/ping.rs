//! Whether one of the addresses of policy `ping` answers: ICMP echo requests, and their replies.
//!
//! It tells on which side of a cut this node is, not that the other one is off: a policy, no proof.

use super::clock;
use super::random::fresh;
use socket2::{Domain, Protocol, SockAddr, Socket, Type};
use std::io;
use std::mem::MaybeUninit;
use std::net::{IpAddr, SocketAddr};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::{Duration, Instant};

/// Between two requests to the same address.
const INTERVAL: Duration = Duration::from_millis(500);
/// Without any reply for so long nobody answers.
const LOSS: Duration = Duration::from_secs(1);
/// An ICMP header, and the random bytes by which a reply is known.
const HEADER: usize = 8;
const TOKEN: usize = 16;
/// Longest reply looked at: an IPv4 header with options before it.
const MAX_REPLY: usize = 60 + HEADER + TOKEN;

/// Pings in the background until dropped.
pub struct Pinger {
    ended: Arc<AtomicBool>,
}

impl Drop for Pinger {
    fn drop(&mut self) {
        self.ended.store(true, Ordering::Relaxed);
    }
}

/// Starts to ping; `changed` hears at every change whether any address answers, first that none
/// does. Below a stall limit of three seconds it is quicker, so that it is known in time.
///
/// # Errors
/// Raw sockets that cannot be had (they need root), or no thread.
pub fn start(
    addresses: &[IpAddr],
    stall_limit: Duration,
    changed: impl Fn(bool) + Send + 'static,
) -> io::Result<Pinger> {
    let ended = Arc::new(AtomicBool::new(false));
    let mut sockets = Vec::new();
    for domain in [Domain::IPV4, Domain::IPV6] {
        let of_domain = |a: &&IpAddr| a.is_ipv4() == (domain == Domain::IPV4);
        let targets: Vec<IpAddr> = addresses.iter().filter(of_domain).copied().collect();
        if !targets.is_empty() {
            sockets.push(Family::open(domain, targets)?);
        }
    }
    let loss = LOSS.min(stall_limit / 3);
    let interval = INTERVAL.min(loss / 2);
    let end = ended.clone();
    let run = move || {
        changed(false);
        let (mut answers, mut last) = (false, None);
        let mut number: u16 = 0;
        while !end.load(Ordering::Relaxed) {
            number = number.wrapping_add(1);
            let next = Instant::now() + interval;
            for family in &sockets {
                family.send(number);
            }
            loop {
                let heard = sockets.iter().any(|family| family.heard(number));
                if heard {
                    last = Some(clock::now());
                }
                let recent = |at| clock::now().saturating_duration_since(at) <= loss;
                let now = last.is_some_and(recent);
                if now != answers {
                    answers = now;
                    changed(answers);
                }
                let rest = next.saturating_duration_since(Instant::now());
                if rest.is_zero() {
                    break;
                }
                std::thread::sleep(rest.min(Duration::from_millis(10)));
            }
        }
    };
    std::thread::Builder::new().name("ping".into()).spawn(run)?;
    Ok(Pinger { ended })
}

/// The addresses of one version of IP.
struct Family {
    socket: Socket,
    v4: bool,
    targets: Vec<IpAddr>,
    token: [u8; TOKEN],
}

impl Family {
    fn open(domain: Domain, targets: Vec<IpAddr>) -> io::Result<Self> {
        let v4 = domain == Domain::IPV4;
        let protocol = if v4 {
            Protocol::ICMPV4
        } else {
            Protocol::ICMPV6
        };
        let socket = Socket::new(domain, Type::RAW, Some(protocol))?;
        socket.set_nonblocking(true)?;
        Ok(Self {
            socket,
            v4,
            targets,
            token: fresh()[0].0,
        })
    }

    fn send(&self, number: u16) {
        let kind = if self.v4 { 8 } else { 128 };
        let message = message(kind, number, &self.token);
        for target in &self.targets {
            let to = SockAddr::from(SocketAddr::new(*target, 0));
            // An address that cannot be sent to does not answer.
            let _ = self.socket.send_to(&message, &to);
        }
    }

    /// Whether a reply to this request, or the one before, is among what has arrived.
    fn heard(&self, number: u16) -> bool {
        let mut heard = false;
        let mut buffer = [MaybeUninit::uninit(); MAX_REPLY];
        while let Ok((length, from)) = self.socket.recv_from(&mut buffer) {
            let bytes = buffer.iter().take(length);
            // SAFETY: the call has written that many bytes.
            let bytes: Vec<u8> = bytes.map(|b| unsafe { b.assume_init() }).collect();
            let from = from.as_socket().map(|a| a.ip());
            let ours = from.is_some_and(|ip| self.targets.contains(&ip));
            heard |= ours && is_reply(self.v4, &bytes, number, &self.token);
        }
        heard
    }
}

/// An ICMP message of this kind. For version 6 the kernel writes the checksum.
fn message(kind: u8, number: u16, token: &[u8; TOKEN]) -> [u8; HEADER + TOKEN] {
    let mut bytes = [0; HEADER + TOKEN];
    bytes[0] = kind;
    bytes[4..6].copy_from_slice(&token[..2]);
    bytes[6..8].copy_from_slice(&number.to_be_bytes());
    bytes[HEADER..].copy_from_slice(token);
    let sum = checksum(&bytes);
    bytes[2..4].copy_from_slice(&sum.to_be_bytes());
    bytes
}

/// The Internet's checksum (RFC 1071).
fn checksum(bytes: &[u8]) -> u16 {
    let words = bytes.chunks(2).map(|pair| {
        let low = pair.get(1).copied().unwrap_or(0);
        u32::from(u16::from_be_bytes([pair[0], low]))
    });
    let sum: u32 = words.sum();
    let folded = (sum & 0xffff) + (sum >> 16);
    !((folded & 0xffff) + (folded >> 16)) as u16
}

/// Whether this is a reply to request `number`, or the one before it.
fn is_reply(v4: bool, bytes: &[u8], number: u16, token: &[u8; TOKEN]) -> bool {
    let (skip, kind) = if v4 {
        // A raw socket of version 4 gets the IP header too, whose length is in its first byte.
        let words = bytes.first().map_or(0, |b| usize::from(b & 0x0f));
        (words * 4, 0)
    } else {
        (0, 129)
    };
    let Some(icmp) = bytes.get(skip..) else {
        return false;
    };
    let Some((head, rest)) = icmp.split_at_checked(HEADER) else {
        return false;
    };
    let seen = u16::from_be_bytes([head[6], head[7]]);
    head[0] == kind && rest.starts_with(token) && number.wrapping_sub(seen) <= 1
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::sync::mpsc::channel;

    #[test]
    fn only_a_fresh_reply_with_the_token_counts() {
        let token = [7; TOKEN];
        let reply = message(0, 5, &token);
        let with_header = [&[0x45][..], &[0; 19], &reply].concat();
        assert_eq!(
            checksum(&reply),
            0,
            "a message with its checksum sums up to it"
        );
        for (number, counts) in [(5, true), (6, true), (7, false), (4, false)] {
            assert_eq!(is_reply(true, &with_header, number, &token), counts);
        }
        assert!(is_reply(false, &message(129, 5, &token), 5, &token));
        assert!(
            !is_reply(false, &message(128, 5, &token), 5, &token),
            "a request"
        );
        assert!(!is_reply(true, &with_header, 5, &[8; TOKEN]));
        for cut in 0..with_header.len() {
            assert!(!is_reply(true, &with_header[..cut], 5, &token));
        }
        assert!(
            !is_reply(true, &[0x4f; 30], 5, &token),
            "a header that is too long"
        );
    }

    #[test]
    fn this_machine_answers() {
        // SAFETY: asks for a number.
        if unsafe { libc::geteuid() } != 0 {
            eprintln!("skipped: raw sockets need root");
            return;
        }
        for address in ["127.0.0.1", "::1"] {
            let (tell, told) = channel();
            let targets = [address.parse().unwrap()];
            let pinger = start(&targets, Duration::from_secs(3), move |answers| {
                let _ = tell.send(answers);
            });
            let patience = Duration::from_secs(10);
            assert_eq!(told.recv_timeout(patience), Ok(false), "{address}");
            assert_eq!(told.recv_timeout(patience), Ok(true), "{address}");
            drop(pinger);
        }
    }
}
