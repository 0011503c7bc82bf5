//! Control messages of a session: greeting, joining, growing the set, leaving. Rare, so they are
//! encoded by postcard, whose format is documented and stable.

use super::raw::WireError;
use crate::control::State;
use crate::ids::Id128;
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

#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub enum Control {
    Hello(Box<Hello>),
    Reject(Reject),
    /// The sender's state and record are now these.
    State(State, Box<Record>),
    /// The sender wants to follow the receiver.
    Join,
    /// Both compare their trees; the server asks and numbers the comparison.
    DigestRequest(u64),
    /// Digest of the sender's whole tree in that comparison; an error text if it could not be
    /// taken.
    Digest(u64, Result<[u8; 32], String>),
    /// Growth: the epoch that counts the receiver from now on, with the whole ended list.
    Grow(Box<Record>),
    /// The receiver of `Grow` holds it durably.
    Grown(Id128),
    JoinRefused(Reject),
    /// The sender stops in order; its replica is complete up to here.
    Leave(Box<Record>),
    /// The receiver of `Leave` has heard it.
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
