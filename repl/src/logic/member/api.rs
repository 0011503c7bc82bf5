//! What goes into the machine and what comes out of it: the words the driver and the simulator
//! share with it.
//!
//! Outputs are performed in their order. Some are answered by an input: `Persist` by `Persisted`
//! (in order, one each; nothing that depends on it happens before), `Gate` by `Gated`, and those
//! with a round by the input with the same round. Answers may come late or after the session that
//! caused them ended: the machine then ignores them. Inputs of one session stop at its
//! `SessionDown`; a `Control` of an earlier session is never delivered.

use crate::control::Refusal;
use crate::ids::{Id128, OpSeq};
use crate::logic::record::Record;
use crate::logic::rules::Rules;
use crate::logic::verdict::Scope;
use crate::wire::{Control, Hello};
use std::time::Duration;

/// What a member must know from the start.
#[derive(Clone, Debug)]
pub struct MemberConfig {
    pub local: String,
    pub peer: String,
    /// Longest time an application waits because of the peer.
    pub stall_limit: Duration,
    /// How long this node may acknowledge after it asked its peer for a lease, and how long it
    /// keeps from serving after it gave one (I13). The same on both nodes, below the stall limit.
    pub lease: Duration,
    /// A witness is configured.
    pub witness: bool,
    pub isolation: Isolation,
    /// Time after which a node that lost its page cache may serve alone; `None`: never by itself.
    pub after_power_loss: Option<Duration>,
    /// No manager decides: an unforced `prim` is the operator's word, and counts as policy
    /// [`Isolation::Alone`] where no witness is configured.
    pub by_hand: bool,
    pub rules: Rules,
}

/// What a node does that lost its peer, where neither witness nor fence can tell (W5).
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Isolation {
    /// The serving node goes on, any other waits.
    Wait,
    /// Serve if the configured address answers ([`Input::Reachable`]).
    Ping,
    /// Serve. May split.
    Alone,
}

/// What may happen.
#[derive(Clone, Debug)]
pub enum Input {
    /// A session with the peer stands; its greeting was accepted.
    SessionUp(Box<Hello>),
    SessionDown(String),
    Control(Control),
    /// The operator's or the manager's word; `token` comes back in [`Output::Resolve`].
    Prim {
        token: u64,
        force: bool,
    },
    Second {
        token: u64,
    },
    Stop {
        token: u64,
    },
    /// The roles change sides; given on either node.
    Swap {
        token: u64,
    },
    /// On the following node: ask to be taken in now, without waiting for a back-off, and where
    /// the replicas were written apart agree to be the one whose changes are set aside.
    /// `everything`: all is compared, whatever the marks say.
    Resync {
        token: u64,
        everything: bool,
    },
    /// The last [`Output::Persist`] is on stable storage, or could not be written.
    Persisted(Result<(), String>),
    /// The last [`Output::Gate`] holds: no operation admitted under the old one is unfinished here.
    Gated,
    Flushed(u64, Result<(), String>),
    /// Answer to [`Output::AskWitness`] or [`Output::TellWitness`].
    Witness(u64, WitnessAnswer),
    ResyncEvent(u64, ResyncEvent),
    TargetPrepared(u64, Result<(), String>),
    /// Answer to [`Output::BeginCheckpoint`]: a new generation of marks began; operations up to
    /// this number belong to the old ones.
    Generation(u64, OpSeq),
    MarksDropped(u64, Result<(), String>),
    /// State of the dirty map; given before each tick.
    Pressure(Pressure),
    /// Whether the address of policy [`Isolation::Ping`] answers; given at every change.
    Reachable(bool),
    /// The peer answered an operation with an error.
    PeerFailed {
        errno: i32,
    },
    /// This node could not apply an operation of the peer.
    ApplyFailed {
        what: String,
    },
    /// What this node serves could not be brought to its disk: its replica is not trusted.
    LocalFailed {
        what: String,
    },
    /// A fence command proved the peer off. Void as soon as a session with it stands again.
    Fenced,
    /// Time passes.
    Tick,
}

/// What is to be done.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Output {
    Send(Control),
    CloseSession(String),
    Persist(Box<Record>),
    Gate(Gate),
    /// Answer every waiting operation: the set no longer holds the peer, durably.
    CompleteAll,
    /// Answer these operations: the peer acknowledged them while this node might not answer.
    Complete(Vec<OpSeq>),
    /// Answer every waiting operation with an error: this node can keep no promise any more.
    FailAll,
    /// Bring everything applied to stable storage.
    Flush(u64),
    /// Compare-and-set at the witness ([`crate::logic::witness::Register::ask`]). The driver
    /// repeats until an answer or its own deadline, then answers [`WitnessAnswer::Silent`].
    AskWitness {
        round: u64,
        list: Vec<Id128>,
        new: Id128,
    },
    /// The node that serves repeats its record at the witness
    /// ([`crate::logic::witness::Register::tell`]); `force`: the operator overrules what is there.
    TellWitness {
        round: u64,
        record: Box<Record>,
        force: bool,
    },
    Resync(ResyncOrder),
    /// Make ready to be changed by the peer's resync.
    PrepareTarget {
        round: u64,
        keep_aside: bool,
    },
    /// The resync is over, in growth or without it: drop what belongs to it.
    EndTarget {
        round: u64,
    },
    /// Begin a new generation of marks; answered by [`Input::Generation`].
    BeginCheckpoint(u64),
    /// Drop the marks last used before that generation; answered by [`Input::MarksDropped`]. Those
    /// that cost nothing to use again may stay if `warm`.
    DropMarks {
        round: u64,
        warm: bool,
    },
    Resolve {
        token: u64,
        result: Result<(), Refusal>,
    },
    Exit,
}

/// What a change of the tree meets at this node.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Gate {
    /// Refused with `EROFS`.
    ReadOnly,
    /// Waits, for a bounded time.
    Frozen,
    /// Done here, answered at once.
    Alone,
    /// Done here and on the peer.
    Replicated,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum WitnessAnswer {
    Granted,
    /// Holds this id, which is not in the asker's list; nothing if it never held one or was
    /// restored.
    Refused(Option<Id128>),
    Silent,
}

/// The source's order to its resync engine.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum ResyncOrder {
    /// Copy what differs while the application runs; answered by events with this round.
    Start {
        round: u64,
        copy: Scope,
        /// The target keeps a copy of what differs before it is overwritten.
        peer_keeps_aside: bool,
    },
    /// Writes are held: do the last pass, flush the target, then [`ResyncEvent::Finished`].
    Finish {
        round: u64,
    },
    /// Finishing took too long and writes flow again: go on with passes until
    /// [`ResyncEvent::Converged`] is said again. A `Finished` said before is void.
    Resume {
        round: u64,
    },
    Abort {
        round: u64,
    },
}

#[derive(Clone, Debug, PartialEq, Eq)]
pub enum ResyncEvent {
    /// So little is left that a last pass will be short.
    Converged,
    /// The last pass is done and flushed on the target: the replicas are equal.
    Finished,
    Failed(String),
}

/// State of the dirty map.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Pressure {
    /// Anything is marked.
    pub marked: bool,
    /// A checkpoint is due now: half of what may be hot is.
    pub urgent: bool,
    /// Nothing was touched since the last look.
    pub quiet: bool,
}
