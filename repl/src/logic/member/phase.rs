//! Where a node stands. Names of waits say what ends them.

use super::{Instant, Scope, Witness};
use crate::control::State;
use crate::ids::Id128;
use crate::logic::record::Record;
use crate::logic::verdict::Verdict;

#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) enum Phase {
    /// Serves nothing, follows nobody.
    Wait,
    /// On the way from `Wait` to `Alone`.
    Promote(Promote),
    /// Serves; the set is this node.
    Alone,
    /// Serves; the set is both, the peer does not count yet: nothing is answered.
    Growing {
        frozen: Instant,
    },
    /// Serves; the set is both.
    Prim,
    /// Served in a set of both; writes stand still until it may go on without the peer.
    Shrink(Shrink),
    /// Asked the serving peer to be taken in.
    Follow(Follow),
    Second,
    /// A clean stop.
    Leave(Leave),
    /// This node hands its role over.
    Swap(Swap),
    Gone,
}

/// What a node that wants to go on without its peer is waiting for.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Ask {
    /// Id of the epoch to be.
    pub new: Id128,
    /// Number of the question to the witness.
    pub round: u64,
    /// `NotAsked` until it answers.
    pub witness: Witness,
    pub told: Told,
}

/// Whether the peer called itself stale.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Told {
    Waiting,
    Yes,
    /// It refused, or cannot be asked.
    No,
}

#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Promote {
    pub token: u64,
    /// The operator insists.
    pub force: bool,
    pub step: PromoteStep,
    pub ask: Ask,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum PromoteStep {
    /// A session stands, the verdict is not agreed yet.
    Meeting,
    /// The lease given to the peer is not over.
    Lease,
    /// The peer is the target and says soon that it is stale.
    PeerStale,
    /// Witness, or told-stale.
    Asking,
    /// The record is being written.
    Record,
}

#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Shrink {
    pub ask: Ask,
    /// Since when nothing is answered: the lease may have been over before.
    pub held: Instant,
    /// When the lease ends, or ended, that this node had.
    pub until: Instant,
    /// The questions were put.
    pub asked: bool,
    /// The session is ended when this is over: what the peer dropped of it cannot be made up.
    pub close: bool,
    /// The peer left in order and waits for the answer.
    pub left: bool,
    /// The command to stop that goes on afterwards.
    pub stop: Option<u64>,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Follow {
    /// `Join` was sent.
    Asked,
    /// Making ready; when prepared, `TargetReady` is sent.
    Preparing { round: u64 },
    /// The peer changes this replica.
    Target { round: u64 },
    /// In the peer's new set; flushing, then the record.
    Adopting,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Leave {
    pub token: u64,
    pub served: bool,
    pub step: LeaveStep,
    /// This node's flush is done; the peer's, or none is needed.
    pub flushed: (bool, bool),
    pub round: u64,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum LeaveStep {
    /// Nothing new is admitted, what was is being answered.
    Drain,
    Flush,
    /// A follower's second flush: nothing more is applied.
    Still,
    Record,
    /// Waits for the peer to have gone on.
    Tell,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Swap {
    /// `None`: the peer's operator asked.
    pub token: Option<u64>,
    pub step: SwapStep,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum SwapStep {
    Drain,
    Record,
    /// The peer serves when its record is written.
    Tell,
    /// On the new server: its record is written, the old one has not shown yet that it goes along.
    Lease,
}

/// The source's part of a rejoin, while it serves alone.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Join {
    pub round: u64,
    pub copy: Scope,
    pub keep_aside: bool,
    pub step: JoinStep,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum JoinStep {
    /// The target makes itself stale and ready.
    Preparing,
    Copying,
    /// Writes stand still since then.
    Freezing(Instant),
    Finishing(Instant),
}

/// A session and what was said in it.
#[derive(Clone, Debug)]
pub(super) struct Session {
    pub peer_record: Record,
    pub peer_state: State,
    /// What this node said of itself at the start: the verdict is of that.
    pub said: Option<(Record, bool)>,
    /// What the peer said of itself at the start.
    pub heard: Option<(Record, bool)>,
    pub verdict: Option<Verdict>,
    /// The peer's verdict: number and rule.
    pub theirs: Option<(u64, String)>,
    /// Both verdicts are equal.
    pub met: bool,
}

/// Why the record is being written: what is done when it is durable.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) enum Then {
    /// Nothing changes.
    Noted,
    /// Own intents are given up: say what this node is.
    Voided,
    /// The peer's intents are listed: the verdict can be made.
    Listed,
    /// Ask the witness.
    Intent,
    Promoted,
    Shrunk,
    /// The peer left: go on in a set of one.
    Inherited,
    /// This replica is not good any more: wait.
    Stale,
    /// As told by the peer for that epoch.
    Told(Id128),
    /// The resync of that round may begin.
    TargetStale {
        round: u64,
        keep_aside: bool,
    },
    Grown {
        frozen: Instant,
    },
    Adopted,
    Left,
    /// The peer goes on without this node, which knows that now.
    LeftStale,
    SwappedOut,
    SwappedIn,
}

/// What a flush is for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum FlushFor {
    /// Nothing waits for it: what was not on disk when the peer was lost.
    Alone,
    Adopt,
    /// Of the same number at the peer.
    Checkpoint,
    /// The peer asked, with this number.
    Peer(u64),
    Leave,
}
