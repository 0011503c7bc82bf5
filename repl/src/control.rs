//! Control messages of a module's file system daemon, spoken over its Unix socket
//! `RUN_DIR/MODULE.sock` (mode 0600, peer must be root).
//!
//! One connection carries any number of exchanges. Each message is one line of JSON; a request is
//! `{"version":1,"request":…}`, an answer is an [`Answer`]. The failover manager and the command
//! line use the same messages; a daemon refuses a version it does not know with [`Refusal`] code
//! `version`.

use serde::{Deserialize, Serialize};

/// Version of these messages. Raised when a message changes its meaning; fields may be added
/// freely.
pub const CONTROL_VERSION: u32 = 1;

/// Longest wait of [`Request::Watch`], milliseconds.
pub const WATCH_LIMIT_MS: u64 = 60_000;

/// Longest control line accepted, bytes.
pub const MAX_LINE: usize = 1 << 20;

/// Envelope of a request.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub struct Envelope {
    pub version: u32,
    pub request: Request,
}

/// What a daemon can be asked to do.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Request {
    /// Report [`Status`]. Never waits.
    Status,
    /// Report [`Status`] as soon as its version is another one than `after`, or when `limit_ms` is
    /// over ([`WATCH_LIMIT_MS`] at most).
    Watch { after: u64, limit_ms: u64 },
    /// A fence command proved the peer off. Refused while the peer answers.
    Fenced,
    /// Serve from this node. Refused where the record does not prove the replica current, unless
    /// `force`.
    Prim { force: bool },
    /// Follow the peer: read-only here, operations of the serving peer are applied.
    Second,
    /// Drain, tell the peer, unmount, and end the daemon.
    Stop,
    /// Hand the service over to the follower and follow it; asked of the serving node.
    Swap,
    /// Bring this replica up from the serving peer now; asked of the following node. Done when the
    /// resync has begun or nothing is to be done. `everything`: compare all of it.
    Resync { everything: bool },
    /// Compare both replicas while the application runs; asked of the serving node. Done when it
    /// has begun.
    Verify,
    /// What was kept aside before it was overwritten here.
    Divergence(Divergence),
}

/// What to do with files kept aside.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Divergence {
    List,
    /// Copy them below this absolute path, which must not exist.
    Export {
        to: String,
    },
    /// Remove them.
    Discard,
}

/// What a daemon answers.
#[derive(Clone, Debug, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Answer {
    Status(Box<Status>),
    /// The action is complete; the status after it.
    Done(Box<Status>),
    Refused(Refusal),
    /// Answer to [`Divergence`].
    Divergence(Vec<AsideFile>),
}

/// A file that was kept aside.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct AsideFile {
    /// Path in the replicated directory when it was overwritten or removed.
    pub path: String,
    /// Where it is kept.
    pub kept: Option<String>,
    /// Bytes, and seconds since 1970 of the last change, of what is kept.
    pub size: u64,
    pub modified: i64,
    /// The same of what took its place; `None`: nothing did.
    pub now: Option<(u64, i64)>,
}

/// Why something was refused or blocked, and what would release it (invariant I12).
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, thiserror::Error)]
#[error("{reason} ({code}); {remedy}")]
pub struct Refusal {
    /// Short stable word, such as `stale`, `peer-serves`, `version`.
    pub code: String,
    /// What is the matter, in a sentence without a final stop.
    pub reason: String,
    /// What would release it, in a sentence without a final stop.
    pub remedy: String,
}

impl Refusal {
    pub fn new(code: &str, reason: impl Into<String>, remedy: impl Into<String>) -> Self {
        Self {
            code: code.into(),
            reason: reason.into(),
            remedy: remedy.into(),
        }
    }
}

/// Mirror states (design: words).
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "UPPERCASE")]
pub enum State {
    Stop,
    Wait,
    Alone,
    Prim,
    Second,
}

impl State {
    /// Applications on a node in this state are answered.
    #[must_use]
    pub fn serves(self) -> bool {
        matches!(self, Self::Alone | Self::Prim)
    }
}

/// How far a state is reached.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub enum Readiness {
    /// Blocked; `Status::reason` says why.
    NotReady,
    /// Moving by itself.
    Transient,
    Ready,
}

/// Everything a daemon tells about itself.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub struct Status {
    pub module: String,
    pub node: String,
    pub state: State,
    pub readiness: Readiness,
    /// Present when not Ready.
    pub reason: Option<Refusal>,
    pub pid: u32,
    /// Epoch number and id this node's record holds; `None` before the first.
    pub epoch: Option<(u64, String)>,
    /// Names of the nodes that must hold a write before it is acknowledged.
    pub in_sync: Vec<String>,
    pub peer: PeerStatus,
    pub directories: Vec<DirectoryStatus>,
    pub counters: Counters,
    /// Everything that blocks or degrades, the most important first.
    #[serde(default)]
    pub why: Vec<Refusal>,
    /// What may differ between the replicas, by this node's marks.
    #[serde(default)]
    pub marks: MarksStatus,
    /// A resync from this node, under way.
    #[serde(default)]
    pub resync: Option<ResyncStatus>,
    /// The verification under way, or the last one.
    #[serde(default)]
    pub verify: Option<VerifyStatus>,
    /// Counts changes of state, readiness, reason, peer (connection and state), `in_sync`, and of
    /// whether changes are held. Begins anew with the daemon; never 0 once it decides.
    #[serde(default)]
    pub version: u64,
    /// By its record this node served last.
    #[serde(default)]
    pub served: bool,
    /// How long a serving node has answered no change because its lease is over, or because it is
    /// finding out whether it may go on without its peer; `None`: changes flow. Another node may
    /// serve soon.
    #[serde(default)]
    pub held_ms: Option<u64>,
    /// Until when a serving node may answer for the module if it hears nothing more, in
    /// milliseconds since the machine booted; `None`: no other node may begin, or this one does
    /// not serve.
    #[serde(default)]
    pub serves_until_ms: Option<u64>,
    /// Of this node's record: its page cache was lost, its copy is not good, it left in order.
    #[serde(default)]
    pub lost: bool,
    #[serde(default)]
    pub stale: bool,
    #[serde(default)]
    pub left: bool,
    /// `None`: no witness is configured.
    #[serde(default)]
    pub witness: Option<WitnessStatus>,
}

/// How the witness was met last.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct WitnessStatus {
    /// `tandem` or `etcd`.
    pub kind: String,
    /// Milliseconds since its last answer; `None`: none since the daemon started.
    pub answered_ago_ms: Option<u64>,
    /// Why it did not answer, if the last question failed.
    pub last_error: Option<String>,
}

#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct MarksStatus {
    pub files: u64,
    pub directories: u64,
    /// Bytes written since the last checkpoint of both nodes; 0 while the peer is away.
    pub hot_bytes: u64,
    /// Nothing is known, or too much was marked: all must be compared.
    pub everything: bool,
}

#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct ResyncStatus {
    /// What is being done, in a word or two.
    pub phase: String,
    /// Bytes looked at, and to be looked at as far as is known.
    pub done_bytes: u64,
    pub total_bytes: u64,
    /// Bytes that had to travel.
    pub sent_bytes: u64,
    pub files: u64,
    pub bytes_per_second: u64,
    /// Seconds left at this rate.
    pub eta_s: Option<u64>,
    /// Why nothing moves, when nothing moves.
    pub stuck: Option<String>,
    /// Percent of the time in which it works, so that the application is not disturbed; `None`: it
    /// takes what it gets.
    #[serde(default)]
    pub share_percent: Option<u64>,
    /// How long the application's answers take, as last measured; undisturbed ones are 100.
    #[serde(default)]
    pub latency_percent: Option<u64>,
    /// Microseconds by which every change is delayed, because the resync does not keep up.
    #[serde(default)]
    pub change_delay_us: u64,
}

#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct VerifyStatus {
    pub running: bool,
    /// Asked for, not the background scrub.
    pub asked: bool,
    pub files: u64,
    pub bytes: u64,
    /// Paths that differed, the first of them.
    pub differing: Vec<String>,
    pub differences: u64,
    /// Why it ended early.
    pub ended: Option<String>,
}

#[derive(Clone, Debug, Serialize, Deserialize)]
pub struct PeerStatus {
    pub node: String,
    pub connected: bool,
    /// What the peer said last in this session.
    pub state: Option<State>,
    /// Smoothed round trip of the replication link, microseconds.
    pub round_trip_us: Option<u64>,
    /// Why the link is down, when it is.
    pub reason: Option<String>,
    /// The networks between the nodes, in the order of the configuration.
    #[serde(default)]
    pub paths: Vec<PathStatus>,
}

/// One network between the nodes.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct PathStatus {
    /// Both nodes' addresses in it.
    pub local: String,
    pub remote: String,
    /// What this node sends goes there now.
    pub current: bool,
    /// What this node sends there arrives.
    pub alive: bool,
    pub round_trip_us: Option<u64>,
    /// Of the last probes, in the worse direction; 0 where there is one network only.
    pub loss_percent: u8,
}

#[derive(Clone, Debug, Serialize, Deserialize)]
pub struct DirectoryStatus {
    pub path: String,
    pub mounted: bool,
}

/// Counters since the daemon started.
#[derive(Clone, Debug, Default, Serialize, Deserialize)]
pub struct Counters {
    /// Operations applied here first and acknowledged to the application.
    pub acknowledged: u64,
    /// Operations of the peer applied here.
    pub applied: u64,
    /// Operations waiting for the peer now.
    pub in_flight: u64,
    /// Payload bytes sent to and received from the peer.
    pub bytes_sent: u64,
    pub bytes_received: u64,
    /// Resident memory, bytes; CPU time of the daemon, microseconds.
    pub rss_bytes: u64,
    pub cpu_us: u64,
}
