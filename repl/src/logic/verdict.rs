//! What two records, or one record and what is known of the other node, allow: who is the source,
//! how much is to be copied, who may serve.
//!
//! [`meet`] is one pure symmetric function over the claims of both nodes. Its result names nodes,
//! never "local" and "peer", so that both ends compute the same value and compare it (I7). The
//! rules are tried in a fixed order and the first that matches decides; `docs/verdict.md` shows
//! each with an example, made by the tests from this code. [`alone`] is for a node that cannot
//! meet its peer.
//!
//! Ancestry decides, never a number: one replica holds everything of another if the other's epoch
//! is among those the first one knows to have ended.

mod alone;
mod meet;
#[cfg(test)]
mod table;
#[cfg(test)]
mod tests;

pub use alone::{Alone, Evidence, May, Policy, Witness, alone};
pub use meet::{meet, meet_with};

use super::record::Record;
use crate::control::Refusal;
use serde::{Deserialize, Serialize};
use std::fmt;

/// What a node says of itself when it meets another.
#[derive(Clone, Copy, Debug)]
pub struct Claim<'a> {
    pub node: &'a str,
    pub record: &'a Record,
    /// It acknowledges changes now, or holds them until it may.
    pub serving: bool,
}

/// The rule that decided. Names are those of the design.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
pub enum Rule {
    /// Volume ids differ.
    V1,
    /// One was never synchronised, or neither.
    V2,
    /// Same epoch, both in the set, both ended in order.
    V3,
    /// Same epoch, both in the set.
    V4,
    /// Same epoch, set of one.
    V4a,
    /// V5 and V6: one's epoch is in the other's list of ended ones.
    V5,
    /// Split brain.
    V7,
    /// A cloned disk.
    V8,
    /// No common ancestor.
    V9,
    /// The set is this node alone.
    W1,
    /// W2 and W3: the witness answers.
    W3,
    /// As W3, by a node that lost its page cache.
    W3r,
    /// Fenced.
    W4,
    /// No witness, no proof: the policy.
    W5,
    W5a,
    /// Stale, or left.
    W6,
    /// No witness needed, because the peer is durably stale; or it is silent.
    W7,
}

impl fmt::Display for Rule {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::V5 => f.write_str("V5/V6"),
            Self::W3 => f.write_str("W2/W3"),
            other => write!(f, "{other:?}"),
        }
    }
}

/// How much is to be copied.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
pub enum Scope {
    Nothing,
    /// What either node has marked.
    Marks,
    /// All, compared by checksum.
    Everything,
}

/// Why two nodes do not come together, or one does not serve.
#[derive(Clone, Debug, PartialEq, Eq, Hash, Serialize, Deserialize)]
pub struct Block {
    pub code: String,
    pub reason: String,
    pub remedy: String,
}

impl Block {
    fn new(code: &str, reason: String, remedy: String) -> Self {
        Self {
            code: code.to_string(),
            reason,
            remedy,
        }
    }
}

impl From<Block> for Refusal {
    fn from(block: Block) -> Self {
        Self {
            code: block.code,
            reason: block.reason,
            remedy: block.remedy,
        }
    }
}

#[derive(Clone, Debug, PartialEq, Eq, Hash, Serialize, Deserialize)]
pub enum Outcome {
    /// `node` is the source: it, and no other, may serve, and clears its own stale and left.
    Source {
        node: String,
        copy: Scope,
        /// The target's differing data is kept aside before it is overwritten.
        keep_aside: bool,
    },
    Refuse(Block),
}

/// The same value on both nodes.
#[derive(Clone, Debug, PartialEq, Eq, Hash, Serialize, Deserialize)]
pub struct Verdict {
    pub rule: Rule,
    /// Nodes whose epoch acknowledged nothing (V5a), each as often as it stepped back.
    pub stepped_back: Vec<String>,
    pub outcome: Outcome,
}

impl Verdict {
    /// The source's name, if the two may come together.
    pub fn source(&self) -> Option<&str> {
        match &self.outcome {
            Outcome::Source { node, .. } => Some(node),
            Outcome::Refuse(_) => None,
        }
    }

    /// Why they may not.
    pub fn refusal(&self) -> Option<Refusal> {
        match &self.outcome {
            Outcome::Source { .. } => None,
            Outcome::Refuse(block) => Some(block.clone().into()),
        }
    }

    /// A number both ends compare instead of the whole (FNV-1a over the encoding). Equal code
    /// gives equal numbers for equal verdicts; different ones refuse each other, which is safe.
    pub fn digest(&self) -> u64 {
        let bytes = postcard::to_stdvec(self).expect("plain data always encodes");
        bytes.iter().fold(0xcbf2_9ce4_8422_2325, |hash, byte| {
            (hash ^ u64::from(*byte)).wrapping_mul(0x0100_0000_01b3)
        })
    }
}
