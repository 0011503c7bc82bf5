//! Connections over virtual addresses: both ends are told when the address leaves.

use std::io::{ErrorKind, Read, Write};
use std::net::{IpAddr, SocketAddr, TcpListener, TcpStream};
use std::time::{Duration, Instant};

use super::net::{Node, Switch};
use super::{SECOND, V4, V6, both, node, runs};

const PORT: u16 = 4242;

/// Makes a node look for an address, whoever answers what.
pub(crate) fn touch(from: &Node, address: &str) {
    let to = SocketAddr::new(address.parse().unwrap(), PORT);
    let _ = from.run(move || TcpStream::connect_timeout(&to, SECOND));
}

/// Both ends of a connection to this address; a word went either way.
fn connect(client: &Node, listener: &TcpListener, address: &str) -> (TcpStream, TcpStream) {
    let ip: IpAddr = address.parse().unwrap();
    let to = SocketAddr::new(ip, listener.local_addr().unwrap().port());
    let mut near = client
        .run(move || TcpStream::connect_timeout(&to, 5 * SECOND))
        .unwrap();
    let (mut far, _) = listener.accept().unwrap();
    near.write_all(b"ask").unwrap();
    far.read_exact(&mut [0; 3]).unwrap();
    far.write_all(b"answer").unwrap();
    near.read_exact(&mut [0; 6]).unwrap();
    for end in [&near, &far] {
        end.set_read_timeout(Some(2 * SECOND)).unwrap();
    }
    (near, far)
}

/// How a read ends: the kind of its error, or nothing at the end of the data.
fn end(stream: &mut TcpStream) -> Option<ErrorKind> {
    match stream.read(&mut [0; 16]) {
        Ok(0) => None,
        Ok(_) => panic!("nobody wrote anything"),
        Err(error) => Some(error.kind()),
    }
}

#[test]
fn connections_of_the_address_are_reset_and_no_others() {
    if !runs("connections_of_the_address_are_reset_and_no_others") {
        return;
    }
    let switch = Switch::new();
    let (one, client) = (node(&switch, "one", 1), node(&switch, "client", 9));
    let (addresses, _events) = one.manager();
    addresses.take(&both(), true).unwrap();
    let v4 = one.run(|| TcpListener::bind(("0.0.0.0", PORT)).unwrap());
    // What most servers do: one socket for both families, which sees mapped addresses.
    let v6 = one.run(|| TcpListener::bind(("::", PORT + 1)).unwrap());
    let mut reset = [
        connect(&client, &v4, V4),
        connect(&client, &v6, V6),
        connect(&client, &v6, V4),
    ];
    let mut kept = [
        connect(&client, &v4, "10.66.0.1"),
        connect(&client, &v6, "fd66::1"),
    ];
    let begin = Instant::now();
    addresses.release(&both()).unwrap();
    for (near, far) in &mut reset {
        // It waits for the server's answer and sends nothing by itself.
        assert_eq!(end(near), Some(ErrorKind::ConnectionReset));
        assert_ne!(end(far), Some(ErrorKind::WouldBlock), "the server waits on");
    }
    let took = begin.elapsed();
    assert!(took < Duration::from_millis(500), "{took:?}");
    for (near, far) in &mut kept {
        near.write_all(b"go on").unwrap();
        far.read_exact(&mut [0; 5]).unwrap();
    }
    // The servers listen on; their sockets have no peer to tell.
    connect(&client, &v4, "10.66.0.1");
}

#[test]
fn many_connections_do_not_hold_up_the_removal() {
    if !runs("many_connections_do_not_hold_up_the_removal") {
        return;
    }
    let switch = Switch::new();
    let (one, client) = (node(&switch, "one", 1), node(&switch, "client", 9));
    let (addresses, _events) = one.manager();
    addresses.take(&both(), false).unwrap();
    let listener = one.run(|| TcpListener::bind(("0.0.0.0", PORT)).unwrap());
    let mut many: Vec<_> = (0..400).map(|_| connect(&client, &listener, V4)).collect();
    addresses.release(&both()).unwrap();
    assert!(!one.has(V4));
    for (_, far) in &mut many {
        assert_ne!(end(far), Some(ErrorKind::WouldBlock), "the server waits on");
    }
}
