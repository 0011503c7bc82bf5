//! Ends the TCP connections of addresses that leave this node (`SOCK_DESTROY` of `sock_diag`): the
//! other end is told by a reset, and so is the application here.

use std::collections::BTreeSet;
use std::io::{self, Read, Write};
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::{Duration, Instant};

use socket2::{Domain, Protocol, Socket, Type};

const BY_FAMILY: u16 = 20;
const DESTROY: u16 = 21;
const ERROR: u16 = libc::NLMSG_ERROR as u16;
const DONE: u16 = libc::NLMSG_DONE as u16;
const FLAG_REQUEST: u16 = libc::NLM_F_REQUEST as u16;
const FLAG_ACK: u16 = libc::NLM_F_ACK as u16;
const FLAG_DUMP: u16 = libc::NLM_F_DUMP as u16;
const HEADER: usize = 16;
/// Family and states before it, ports, addresses, interface and cookie in it.
const ID: usize = 48;
/// All TCP states but those without a peer to tell: TIME_WAIT (6), CLOSE (7), LISTEN (10).
const STATES: u32 = 0x1fff & !(1 | 1 << 6 | 1 << 7 | 1 << 10);
/// The kernel's own limit of one part of a list.
const BUFFER: usize = 32 * 1024;
const ANSWER_LIMIT: Duration = Duration::from_secs(2);

/// A connection as the kernel names it.
#[derive(Clone, Debug, PartialEq, Eq)]
struct Connection {
    family: u8,
    local: IpAddr,
    id: [u8; ID],
}

/// Resets what there is within the given time; whether that was all. What the kernel cannot do is
/// said once in the log.
pub(super) fn reset(addresses: &BTreeSet<IpAddr>, limit: Duration) -> bool {
    let end = Instant::now() + limit;
    [libc::AF_INET, libc::AF_INET6].into_iter().all(|family| {
        match reset_family(family as u8, addresses, end) {
            Ok(all) => all,
            Err(error) => {
                said_once(&error);
                true
            }
        }
    })
}

fn said_once(error: &io::Error) {
    static SAID: AtomicBool = AtomicBool::new(false);
    if !SAID.swap(true, Ordering::Relaxed) {
        tracing::warn!(
            "connections of virtual addresses are not reset when these leave: {error}; clients \
             notice when they next send something (the kernel option is CONFIG_INET_DIAG_DESTROY)"
        );
    }
}

fn reset_family(family: u8, addresses: &BTreeSet<IpAddr>, end: Instant) -> io::Result<bool> {
    let list = netlink()?;
    (&list).write_all(&list_request(family))?;
    let killer = netlink()?;
    let mut buffer = vec![0; BUFFER];
    loop {
        let length = (&list).read(&mut buffer)?;
        for (kind, body) in messages(&buffer[..length]) {
            match kind {
                DONE => return Ok(true),
                ERROR => return acknowledged(body).map(|()| true),
                BY_FAMILY => {}
                _ => continue,
            }
            // Only what was asked for is ended, whatever the kernel lists.
            let wanted = |found: &Connection| addresses.contains(&found.local);
            if let Some(connection) = connection(body).filter(wanted) {
                if Instant::now() >= end {
                    return Ok(false);
                }
                destroy(&killer, &connection)?;
            }
        }
        if Instant::now() >= end {
            return Ok(false);
        }
    }
}

fn destroy(socket: &Socket, connection: &Connection) -> io::Result<()> {
    let mut socket = socket;
    socket.write_all(&destroy_request(connection))?;
    let mut answer = [0; 1024];
    let length = socket.read(&mut answer)?;
    for (kind, body) in messages(&answer[..length]) {
        if kind == ERROR {
            return match acknowledged(body) {
                // It ended by itself.
                Err(error) if error.raw_os_error() == Some(libc::ENOENT) => Ok(()),
                done => done,
            };
        }
    }
    Ok(())
}

fn netlink() -> io::Result<Socket> {
    let protocol = Protocol::from(libc::NETLINK_SOCK_DIAG);
    let socket = Socket::new(Domain::from(libc::AF_NETLINK), Type::RAW, Some(protocol))?;
    socket.set_read_timeout(Some(ANSWER_LIMIT))?;
    Ok(socket)
}

fn request(kind: u16, flags: u16, family: u8, states: u32, id: &[u8; ID]) -> Vec<u8> {
    let length = HEADER + 8 + ID;
    let mut request = Vec::with_capacity(length);
    request.extend((length as u32).to_ne_bytes());
    request.extend(kind.to_ne_bytes());
    request.extend((FLAG_REQUEST | flags).to_ne_bytes());
    request.extend([0; 8]);
    request.extend([family, libc::IPPROTO_TCP as u8, 0, 0]);
    request.extend(states.to_ne_bytes());
    request.extend(id);
    request
}

fn list_request(family: u8) -> Vec<u8> {
    request(BY_FAMILY, FLAG_DUMP, family, STATES, &[0; ID])
}

fn destroy_request(connection: &Connection) -> Vec<u8> {
    let family = connection.family;
    request(DESTROY, FLAG_ACK, family, STATES, &connection.id)
}

/// Kind and body of each message.
fn messages(mut bytes: &[u8]) -> impl Iterator<Item = (u16, &[u8])> {
    std::iter::from_fn(move || {
        let length = u32::from_ne_bytes(*bytes.first_chunk()?) as usize;
        let kind = u16::from_ne_bytes(*bytes.get(4..)?.first_chunk()?);
        let body = bytes.get(HEADER..length)?;
        bytes = bytes.get(length.next_multiple_of(4)..).unwrap_or_default();
        Some((kind, body))
    })
}

fn acknowledged(body: &[u8]) -> io::Result<()> {
    match body.first_chunk().map(|code| i32::from_ne_bytes(*code)) {
        Some(0) => Ok(()),
        Some(code) => Err(io::Error::from_raw_os_error(code.saturating_neg())),
        None => Err(io::ErrorKind::UnexpectedEof.into()),
    }
}

fn connection(body: &[u8]) -> Option<Connection> {
    let family = *body.first()?;
    let id: [u8; ID] = *body.get(4..)?.first_chunk()?;
    // Behind the two ports.
    let local = match i32::from(family) {
        libc::AF_INET => Ipv4Addr::from(*id[4..].first_chunk::<4>()?).into(),
        libc::AF_INET6 => Ipv6Addr::from(*id[4..].first_chunk::<16>()?).to_canonical(),
        _ => return None,
    };
    Some(Connection { family, local, id })
}

#[cfg(test)]
mod tests {
    use super::*;

    fn listed(family: i32, address: &[u8]) -> Vec<u8> {
        let mut body = vec![family as u8, 1, 0, 0, 0x1f, 0x90, 0x30, 0x39];
        body.extend(address);
        body.resize(4 + ID + 20, 7);
        body
    }

    fn message(kind: u16, body: &[u8]) -> Vec<u8> {
        let mut bytes = ((HEADER + body.len()) as u32).to_ne_bytes().to_vec();
        bytes.extend(kind.to_ne_bytes());
        bytes.resize(HEADER, 0);
        bytes.extend(body);
        bytes.resize(bytes.len().next_multiple_of(4), 0);
        bytes
    }

    #[test]
    fn requests_have_the_kernels_form() {
        let list = list_request(2);
        assert_eq!(list.len(), 72);
        assert_eq!(list[..4], 72_u32.to_ne_bytes());
        assert_eq!(list[4..6], 20_u16.to_ne_bytes());
        assert_eq!(list[6..8], 0x301_u16.to_ne_bytes());
        assert_eq!(list[16..20], [2, 6, 0, 0]);
        let states = u32::from_ne_bytes(*list[20..].first_chunk().unwrap());
        assert_eq!(states, 0b1_1011_0011_1110, "not 0, 6, 7 and 10");
        let found = connection(&listed(libc::AF_INET, &[10, 0, 0, 1])).unwrap();
        let destroy = destroy_request(&found);
        assert_eq!(destroy[4..8], [21, 0, 5, 0]);
        assert_eq!(destroy[24..], found.id);
    }

    #[test]
    fn local_addresses_are_read_and_mapped_ones_are_ipv4() {
        let local = |body: &[u8]| connection(body).map(|found| found.local.to_string());
        let v4 = listed(libc::AF_INET, &[10, 0, 0, 1]);
        assert_eq!(local(&v4).as_deref(), Some("10.0.0.1"));
        let mapped = [0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 255, 255, 10, 0, 0, 2];
        let v6 = listed(libc::AF_INET6, &mapped);
        assert_eq!(local(&v6).as_deref(), Some("10.0.0.2"));
        let plain = [0x20, 1, 0xd, 0xb8, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 5];
        let v6 = listed(libc::AF_INET6, &plain);
        assert_eq!(local(&v6).as_deref(), Some("2001:db8::5"));
        assert_eq!(local(&listed(libc::AF_UNIX, &plain)), None);
        assert_eq!(local(&v4[..40]), None);
    }

    #[test]
    fn a_list_ends_where_its_bytes_end() {
        let mut bytes = message(BY_FAMILY, &[1; 5]);
        bytes.extend(message(DONE, &[2; 4]));
        let found: Vec<_> = messages(&bytes).collect();
        assert_eq!(found, [(BY_FAMILY, &[1; 5][..]), (DONE, &[2; 4][..])]);
        assert_eq!(messages(&bytes[..20]).count(), 0);
        // A length of zero, or one beyond the end, must not go on for ever or panic.
        assert_eq!(messages(&[0; 64]).count(), 0);
        assert_eq!(messages(&[0xff; 64]).count(), 0);
    }

    #[test]
    fn the_answer_of_the_kernel_is_an_error_or_none() {
        assert!(acknowledged(&0_i32.to_ne_bytes()).is_ok());
        let refused = acknowledged(&(-libc::EOPNOTSUPP).to_ne_bytes()).unwrap_err();
        assert_eq!(refused.raw_os_error(), Some(libc::EOPNOTSUPP));
        assert!(acknowledged(&[0]).is_err());
        assert!(acknowledged(&i32::MIN.to_ne_bytes()).is_err());
    }
}
