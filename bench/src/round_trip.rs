//! How long a small datagram takes from one node to the other and back.

use std::fs;
use std::io::{self, Read, Write};
use std::net::{Ipv4Addr, SocketAddr, UdpSocket};
use std::time::{Duration, Instant};

use anyhow::{Context, Result};
use serde::{Deserialize, Serialize};

use crate::histogram::Histogram;
use crate::runner::{self, enter_network, network_of};
use crate::sys::{self, Kind};

const PINGS: u32 = 400;
/// The first ones find the way.
const UNCOUNTED: u32 = 20;
const SIZE: usize = 100;
const LIMIT: Duration = Duration::from_secs(20);
const ANSWER_LIMIT: Duration = Duration::from_secs(1);

/// Measured round trips.
#[derive(Clone, Copy, Debug, Serialize, Deserialize)]
pub(crate) struct RoundTrip {
    pub(crate) p50: Duration,
    pub(crate) p99: Duration,
}

/// Between the nodes of two processes.
pub(crate) fn measure(from: u32, to: u32) -> Result<RoundTrip> {
    let (mut place, said) = io::pipe()?;
    // Killed when dropped.
    let _echo = sys::fork(Kind::Leader, || i32::from(echo(to, said).is_err()))?;
    let mut text = [0; 64];
    let length = place.read(&mut text)?;
    let target = std::str::from_utf8(&text[..length])?;
    let target = target.parse().context("the other node does not listen")?;
    runner::run(None, LIMIT, || ping(from, target)).context("measure the round trip")
}

fn echo(process: u32, mut said: impl Write) -> Result<()> {
    enter_network(&network_of(process))?;
    let address = own_address()?;
    let socket = UdpSocket::bind((address, 0))?;
    said.write_all(socket.local_addr()?.to_string().as_bytes())?;
    let mut datagram = [0; SIZE];
    loop {
        let (length, from) = socket.recv_from(&mut datagram)?;
        socket.send_to(&datagram[..length], from)?;
    }
}

fn ping(process: u32, target: SocketAddr) -> Result<RoundTrip> {
    enter_network(&network_of(process))?;
    let socket = UdpSocket::bind((Ipv4Addr::UNSPECIFIED, 0))?;
    socket.connect(target)?;
    socket.set_read_timeout(Some(ANSWER_LIMIT))?;
    let mut times = Histogram::default();
    let mut datagram = [0; SIZE];
    for number in 0..PINGS {
        let start = Instant::now();
        socket.send(&datagram)?;
        socket.recv(&mut datagram).context("no answer")?;
        if number >= UNCOUNTED {
            times.record(start.elapsed());
        }
    }
    let quantile = |share| times.quantile(share).context("no round trip");
    Ok(RoundTrip {
        p50: quantile(0.5)?,
        p99: quantile(0.99)?,
    })
}

/// This namespace's first address that is not the loopback's. In the kernel's table a line with an
/// address is followed by one that says what it is.
fn own_address() -> Result<Ipv4Addr> {
    let table = fs::read_to_string("/proc/self/net/fib_trie").context("read the addresses")?;
    find_own(&table).context("the node has no address")
}

fn find_own(table: &str) -> Option<Ipv4Addr> {
    let lines = table.lines().zip(table.lines().skip(1));
    let own = lines.filter(|(_, kind)| kind.trim().starts_with("/32 host LOCAL"));
    let mut addresses = own.filter_map(|(line, _)| line.rsplit(' ').next()?.parse().ok());
    addresses.find(|address: &Ipv4Addr| !address.is_loopback())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn finds_the_address() {
        let table = "Local:\n  +-- 10.77.0.0/24 2 0 2\n     |-- 10.77.0.0\n        \
                     /24 link UNICAST\n\
                     \x20    |-- 127.0.0.1\n        /32 host LOCAL\n     |-- 10.77.0.2\n        \
                     /32 host LOCAL\n     |-- 10.77.0.255\n        /32 link BROADCAST\n";
        assert_eq!(find_own(table), Some(Ipv4Addr::new(10, 77, 0, 2)));
        assert_eq!(find_own(""), None);
    }
}
