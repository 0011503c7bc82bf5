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
    /// Serve from this node. Refused where the record does not prove the replica current, unless
    /// `force`.
    Prim { force: bool },
    /// Follow the peer: read-only here, operations of the serving peer are applied.
    Second,
    /// Drain, tell the peer, unmount, and end the daemon.
    Stop,
}

/// What a daemon answers.
#[derive(Clone, Debug, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Answer {
    Status(Box<Status>),
    /// The action is complete; the status after it.
    Done(Box<Status>),
    Refused(Refusal),
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
