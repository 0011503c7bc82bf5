//! Control messages of a session: greeting, verdict, lease, resync, growing the set, swap, leaving.
//! Rare, so they are encoded by postcard, whose format is documented and stable.

use super::raw::WireError;
use crate::control::State;
use crate::ids::{Id128, OpSeq};
use crate::logic::record::Record;
use serde::{Deserialize, Serialize};

/// First message of both ends.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Hello {
    pub wire_min: u16,
    pub wire_max: u16,
    pub cluster: String,
    pub module: String,
    pub node: String,
    /// Hash of all configuration that must be equal on both nodes.
    pub digest: [u8; 32],
    pub record: Record,
    pub state: State,
}

/// Why a session is ended by its other end.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Reject {
    /// As [`crate::control::Refusal::code`].
    pub code: String,
    pub reason: String,
}

/// The first thing said in a session: what the verdict is made from. Sent when the sender's open
/// intents are given up durably; its record lists them.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Meet {
    pub record: Record,
    /// The sender serves, or holds changes until it may.
    pub serving: bool,
    pub state: State,
}

#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub enum Control {
    Hello(Box<Hello>),
    Reject(Reject),
    /// The sender's state and record are now these.
    State(State, Box<Record>),
    /// Answered by the receiver's own; both then compute the verdict.
    Meet(Box<Meet>),
    /// Number and rule of the sender's verdict; both go on only if they are equal (I7).
    Verdict(u64, String),
    /// The serving node asks for a lease, numbered (I13). Sent in a set of two, and in growth.
    LeaseAsk(u64),
    /// The sender will not serve for a lease from now on.
    LeaseGrant(u64),
    /// The sender wants to go on in epoch `new`, without the receiver, from `parent`: the receiver
    /// is to call itself stale, durably.
    ToldStale {
        parent: Id128,
        new: Id128,
    },
    /// Answer to `ToldStale` with that `new`.
    Told(Id128, Result<(), Reject>),
    /// The sender wants to follow the receiver, which serves. With its verdict of both records;
    /// `everything`: the operator wants all compared; `urgent`: and now.
    Join {
        verdict: u64,
        everything: bool,
        urgent: bool,
    },
    /// Not now; ask again after so many milliseconds, or 0: not before something changed.
    JoinRefused(Reject, u32),
    /// The receiver will be changed: it is to call itself stale durably, and to make ready.
    ResyncBegin {
        round: u64,
        everything: bool,
        keep_aside: bool,
    },
    /// Answer to `ResyncBegin`.
    TargetReady(u64, Result<(), String>),
    /// The resync of that round ended without growth.
    ResyncEnd(u64, Reject),
    /// Growth: the record that counts the receiver from now on, with the whole ended list.
    /// Everything up to this operation is before it in the stream.
    Grow {
        record: Box<Record>,
        position: OpSeq,
    },
    /// The receiver of `Grow` holds all of it durably.
    Grown(Id128),
    /// Bring everything applied to stable storage.
    CheckpointFlush(u64),
    CheckpointFlushed(u64, Result<(), String>),
    /// Both have flushed: marks from before that checkpoint may go.
    CheckpointDone(u64),
    /// The follower's operator wants the roles to change sides.
    SwapAsk,
    SwapRefused(Reject),
    /// The sender serves no more; the receiver does, in this record's epoch. Everything up to
    /// this operation is before it in the stream, and answered.
    Swap {
        record: Box<Record>,
        position: OpSeq,
    },
    /// The receiver of `Swap` serves.
    Swapped(Id128),
    /// The sender stops in order; its replica is complete up to here.
    Leave(Box<Record>),
    /// The receiver of `Leave` has gone on without it, durably.
    LeaveHeard,
}

impl Control {
    pub(super) fn encode(&self, out: &mut Vec<u8>) {
        let bytes = postcard::to_stdvec(self).expect("plain data always encodes");
        out.extend_from_slice(&bytes);
    }

    pub(super) fn decode(bytes: &[u8]) -> Result<Self, WireError> {
        let (control, rest) = postcard::take_from_bytes(bytes).map_err(|_| WireError::Control)?;
        if rest.is_empty() {
            Ok(control)
        } else {
            Err(WireError::Trailing(rest.len()))
        }
    }
}
