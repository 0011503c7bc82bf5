//! The paths of the link: what QUIC sends goes where [`crate::logic::paths`] says, what arrives on
//! any of them looks to QUIC as if it came from one address. With one path all of this is nothing.

use super::socket::Socket;
use crate::control::PathStatus;
use crate::logic::paths::{self, Health, Pace, Way};
use crate::wire::{PROBE_KEY, decode_probe, encode_probe};
use quinn_proto::Transmit;
use std::net::SocketAddr;
use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::time::{Duration, Instant};

/// What a network carries whose card is not there to be asked: Ethernet's 1,500 bytes without
/// the headers of IPv6.
const USUAL: u32 = 1452;

/// All paths, at least one.
pub(super) struct Paths {
    sockets: Vec<Arc<Socket>>,
    /// `None`: there is one path, and nothing to choose.
    choice: Option<Choice>,
}

struct Choice {
    logic: paths::Paths,
    /// Which end of the session this node is.
    dialer: bool,
    /// Of the session, if one stands.
    key: Option<[u8; PROBE_KEY]>,
}

impl Paths {
    pub(super) fn new(
        sockets: Vec<Arc<Socket>>,
        stall_limit: Duration,
        dialer: bool,
        now: Instant,
    ) -> Self {
        let several = sockets.len() > 1;
        let choice = several.then(|| Choice {
            logic: paths::Paths::new(sockets.len(), Pace::of(stall_limit), now),
            dialer,
            key: None,
        });
        Self { sockets, choice }
    }

    /// The address that QUIC knows the peer by, whichever path is used.
    pub(super) fn peer(&self) -> SocketAddr {
        self.sockets[0].remote
    }

    pub(super) fn is_of_peer(&self, path: usize, source: SocketAddr) -> bool {
        let socket = self.sockets.get(path);
        socket.is_some_and(|socket| socket.is_of_peer(source))
    }

    /// Those that are sent on now.
    fn used(&self) -> &[Arc<Socket>] {
        match self.choice.as_ref().map(|choice| choice.logic.way()) {
            Some(Way::One(one)) => std::slice::from_ref(&self.sockets[one]),
            Some(Way::All) | None => &self.sockets,
        }
    }

    pub(super) fn send(&self, transmit: &Transmit, contents: &[u8]) {
        for socket in self.used() {
            socket.send(transmit, contents);
        }
    }

    /// How many datagrams the kernel takes at once.
    pub(super) fn segments(&self) -> usize {
        let each = self.used().iter().map(|s| s.state.max_gso_segments());
        each.min().unwrap_or(1)
    }

    /// A session stands; both ends have this key.
    pub(super) fn begin(&mut self, now: Instant, key: [u8; PROBE_KEY]) {
        if let Some(choice) = &mut self.choice {
            choice.key = Some(key);
            choice.logic.begin(now);
        }
    }

    /// The session has ended.
    pub(super) fn end(&mut self) {
        if let Some(choice) = &mut self.choice {
            choice.key = None;
            choice.logic.end();
        }
    }

    /// A datagram arrived that is not QUIC's. Returns whether it is sent elsewhere from now on.
    pub(super) fn heard(&mut self, now: Instant, path: usize, datagram: &[u8]) -> bool {
        let Some(choice) = &mut self.choice else {
            return false;
        };
        let Some(key) = &choice.key else { return false };
        let Ok(probe) = decode_probe(datagram, !choice.dialer, key) else {
            return false;
        };
        let changed = choice.logic.heard(now, path, &probe);
        changed && self.tell()
    }

    /// Time passed: probes may be due. Returns whether it is sent elsewhere from now on.
    pub(super) fn tick(&mut self, now: Instant) -> bool {
        let Some(choice) = &mut self.choice else {
            return false;
        };
        let Some(key) = choice.key.filter(|_| {
            let due = choice.logic.next_probe();
            due.is_some_and(|due| due <= now)
        }) else {
            return choice.logic.tick(now) && self.tell();
        };
        let behind = |s: &Arc<Socket>| s.busy.load(Ordering::Relaxed) || s.has_unread();
        let behind: Vec<_> = self.sockets.iter().map(behind).collect();
        for probe in choice.logic.probes(now, &behind) {
            let datagram = encode_probe(&probe, choice.dialer, &key);
            self.sockets[usize::from(probe.path)].probe(&datagram);
        }
        choice.logic.tick(now) && self.tell()
    }

    /// Says where it is sent now; true.
    fn tell(&self) -> bool {
        match self.used() {
            [one] => {
                let (local, remote) = (one.local.ip(), one.remote.ip());
                tracing::info!("replication goes from {local} to {remote} now");
            }
            _ => tracing::warn!("the peer is silent: replication goes over all networks now"),
        }
        true
    }

    /// When [`Self::tick`] has something to do.
    pub(super) fn next(&self) -> Option<Instant> {
        self.choice.as_ref()?.logic.next_probe()
    }

    /// The largest datagram that every path carries, so that one may take another's place at any
    /// moment. `None`: there is one path, and QUIC finds out by itself.
    pub(super) fn largest(&self) -> Option<u16> {
        self.choice.as_ref()?;
        let each = self
            .sockets
            .iter()
            .map(|socket| socket.largest().unwrap_or(USUAL));
        Some(u16::try_from(each.min()?).unwrap_or(u16::MAX))
    }

    /// How each path is doing. `link`: the round trip of the link, if it is up.
    pub(super) fn status(&self, now: Instant, link: Option<Duration>) -> Vec<PathStatus> {
        let only = Health {
            current: true,
            alive: link.is_some(),
            round_trip: link,
            loss_percent: 0,
        };
        let health = match &self.choice {
            Some(choice) => choice.logic.health(now),
            None => vec![only],
        };
        let one = |(socket, health): (&Arc<Socket>, Health)| PathStatus {
            local: socket.local.ip().to_string(),
            remote: socket.remote.ip().to_string(),
            current: health.current,
            alive: health.alive,
            round_trip_us: health.round_trip.map(|time| time.as_micros() as u64),
            loss_percent: health.loss_percent,
        };
        self.sockets.iter().zip(health).map(one).collect()
    }
}
