//! What happens, and when.

use super::super::change::Change;
use super::super::faults::Fault;
use super::super::net::Packet;
use super::super::seat::Act;
use super::super::tree::SyncToken;
use super::super::{Msg, Time};
use tandem_repl::ids::OpSeq;
use tandem_repl::logic::member::WitnessAnswer;
use tandem_repl::logic::resync::messages::Request;

/// Something within a daemon; void when that daemon is gone.
pub enum Local {
    Tick,
    Persisted,
    Journaled,
    Applied(u64),
    Synced(u64),
    Flushed(u64, SyncToken),
    Apply(Box<(u64, OpSeq, u64, Change)>),
    PeerSynced(u64, OpSeq, Box<Change>),
    Prepared(u64),
    Poll(u64),
    Requested(u64, u64, Box<Request>),
    AskAgain(u64),
    Answered(u64, WitnessAnswer),
}

pub enum Event {
    Packet {
        to: usize,
        packet: Packet<Msg>,
    },
    /// In a node's daemon of that life.
    Local {
        node: usize,
        life: u64,
        what: Local,
    },
    Client(usize),
    Manager(usize),
    /// Something for the failover manager of that life.
    Seat {
        node: usize,
        life: u64,
        act: Act,
    },
    Operator,
    Fault(Fault),
    /// A question reaches the witness: node, its life, round, and again the same later.
    Witness {
        node: usize,
        life: u64,
        round: u64,
    },
    Look,
}

pub(super) struct Due {
    pub(super) at: Time,
    pub(super) order: u64,
    pub(super) event: Event,
}

impl PartialEq for Due {
    fn eq(&self, other: &Self) -> bool {
        (self.at, self.order) == (other.at, other.order)
    }
}

impl Eq for Due {}

impl PartialOrd for Due {
    fn partial_cmp(&self, other: &Self) -> Option<std::cmp::Ordering> {
        Some(self.cmp(other))
    }
}

impl Ord for Due {
    fn cmp(&self, other: &Self) -> std::cmp::Ordering {
        (self.at, self.order).cmp(&(other.at, other.order))
    }
}
