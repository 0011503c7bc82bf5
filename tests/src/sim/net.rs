//! The network between the two nodes, as QUIC shows it: connections that carry messages reliably
//! and in order in both directions, that are slow when packets are lost, and that end when nothing
//! is heard for too long. A message of an old connection never arrives in a new one.

use super::Time;
use crate::rng::Rng;
use std::collections::VecDeque;

/// What travels, in order within a direction.
#[derive(Clone, Debug)]
pub enum Packet<M> {
    /// The dialling node wants a connection with this number.
    Dial(u64),
    /// The other took it.
    Taken(u64),
    /// The dialling node heard so.
    Settled(u64),
    /// Nothing else to say.
    Alive(u64),
    Close(u64, String),
    /// No such connection here: the process that had it is gone.
    Unknown(u64),
    Data(u64, M),
}

/// One direction.
#[derive(Debug)]
pub struct Lane<M> {
    pub is_open: bool,
    /// Microseconds, at least and at most.
    pub delay: (Time, Time),
    /// Percent of packets that need another attempt.
    pub loss: u64,
    /// When the last packet arrives: later ones do not overtake it.
    last: Time,
    /// Stopped by a partition.
    pub waiting: VecDeque<Packet<M>>,
}

impl<M> Lane<M> {
    pub fn new(delay: (Time, Time)) -> Self {
        Self {
            is_open: true,
            delay,
            loss: 0,
            last: 0,
            waiting: VecDeque::new(),
        }
    }

    /// When something sent now arrives.
    pub fn arrival(&mut self, now: Time, rng: &mut Rng) -> Time {
        let (least, most) = self.delay;
        let mut at = now + least + rng.below(most - least + 1);
        let mut again = 30_000;
        while rng.chance(self.loss) && again < 1_000_000 {
            at += again;
            again *= 2;
        }
        self.last = self.last.max(at);
        self.last
    }
}

/// One node's end of the link, in its daemon.
#[derive(Debug, Default)]
pub struct End {
    /// The connection in use.
    pub conn: Option<u64>,
    /// Dialled, and when.
    pub dialling: Option<(u64, Time)>,
    pub heard: Time,
}

/// What a packet means to the daemon.
#[derive(Debug)]
pub enum LinkEvent<M> {
    Up,
    Down(String),
    Data(M),
}

/// Time without any packet after which a connection is over.
pub const IDLE: Time = 2_000_000;
/// Time between attempts.
pub const DIAL: Time = 300_000;

impl End {
    /// Takes a packet; answers go to `reply`.
    pub fn take<M>(
        &mut self,
        now: Time,
        packet: Packet<M>,
        reply: &mut Vec<Packet<M>>,
    ) -> Vec<LinkEvent<M>> {
        let mut events = Vec::new();
        match packet {
            Packet::Dial(conn) => reply.push(Packet::Taken(conn)),
            Packet::Taken(conn) => {
                if self.dialling.is_some_and(|(dialled, _)| dialled == conn) {
                    self.dialling = None;
                    self.begin(now, conn, &mut events);
                    reply.push(Packet::Settled(conn));
                }
            }
            Packet::Settled(conn) => {
                if self.conn.is_none_or(|current| conn > current) {
                    self.begin(now, conn, &mut events);
                }
            }
            Packet::Alive(conn) => {
                if self.conn == Some(conn) {
                    self.heard = now;
                } else {
                    reply.push(Packet::Unknown(conn));
                }
            }
            Packet::Close(conn, why) => {
                if self.conn == Some(conn) {
                    self.conn = None;
                    events.push(LinkEvent::Down(why));
                }
            }
            Packet::Unknown(conn) => {
                if self.conn == Some(conn) {
                    self.conn = None;
                    events.push(LinkEvent::Down("the peer forgot the connection".into()));
                }
            }
            Packet::Data(conn, message) => {
                if self.conn == Some(conn) {
                    self.heard = now;
                    events.push(LinkEvent::Data(message));
                } else {
                    reply.push(Packet::Unknown(conn));
                }
            }
        }
        events
    }

    fn begin<M>(&mut self, now: Time, conn: u64, events: &mut Vec<LinkEvent<M>>) {
        if self.conn.is_some() {
            events.push(LinkEvent::Down("the peer connected anew".into()));
        }
        self.conn = Some(conn);
        self.heard = now;
        events.push(LinkEvent::Up);
    }

    /// Time passes: sends what keeps the connection alive, ends it when it is not.
    pub fn tick<M>(
        &mut self,
        now: Time,
        dials: Option<u64>,
        reply: &mut Vec<Packet<M>>,
    ) -> Option<String> {
        if let Some(conn) = self.conn {
            if now.saturating_sub(self.heard) > IDLE {
                self.conn = None;
                reply.push(Packet::Close(conn, "timed out".into()));
                return Some("timed out".into());
            }
            reply.push(Packet::Alive(conn));
        } else if let Some(new) = dials {
            let due = self.dialling.is_none_or(|(_, since)| now >= since + DIAL);
            if due {
                self.dialling = Some((new, now));
                reply.push(Packet::Dial(new));
            }
        }
        None
    }
}
