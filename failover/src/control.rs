//! What a failover manager can be asked, over its Unix socket `RUN_DIR/failover.sock` (mode 0600,
//! peer must be root) and, from another node's manager, over the managers' own link.
//!
//! The form is that of a daemon's control socket ([`tandem_repl::control`]): one line of JSON a
//! message, with a version.

use crate::logic::api::{Phase, Wants, Word};
use crate::logic::change::keys::Changed;
use crate::logic::change::pact::{Message, Said};
use crate::logic::level::Running;
use serde::{Deserialize, Serialize};
use std::collections::BTreeMap;
use std::path::{Path, PathBuf};
use tandem_repl::control::{Readiness, Refusal, State, Status};

/// Version of these messages. Raised when a message changes its meaning; fields may be added
/// freely.
pub const MANAGER_VERSION: u32 = 1;

/// The manager's socket below the run directory.
pub fn socket(run_dir: &Path) -> PathBuf {
    run_dir.join("failover.sock")
}

/// Envelope of a request.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Envelope {
    pub version: u32,
    /// For whom: this node when left out, else the named one.
    #[serde(default)]
    pub node: Option<String>,
    pub request: Request,
}

impl Envelope {
    pub fn new(node: Option<String>, request: Request) -> Self {
        Self {
            version: MANAGER_VERSION,
            node,
            request,
        }
    }
}

/// What is asked.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Request {
    /// [`NodeStatus`]. Never waits.
    Status,
    /// Something of one module; answered when it is done or refused.
    Order { module: String, order: Order },
    /// Failovers of a module, the latest first.
    Failovers { module: String },
    /// What the manager decided and did, the latest last.
    Log {
        module: Option<String>,
        lines: usize,
    },
    /// [`Inspection`]: what must be the same on the nodes. The numbers are those of users and
    /// groups whose names are wanted.
    Inspect { uids: Vec<u32>, gids: Vec<u32> },
    /// The files of these modules (all of this node, if empty) as they are on this node, and
    /// `cluster.ron`, are brought to both nodes and taken over. Answered when that is done, or
    /// everything is as it was.
    Apply { modules: Vec<String> },
    /// A step of that, between managers.
    Change(Box<Message>),
}

/// What a module can be told.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Order {
    Start,
    Stop,
    Stopstart,
    Restart,
    Swap,
    Prim { force: bool },
    Second { full: bool },
    Failover(bool),
    Maintenance(bool),
    Checkers(bool),
}

/// What is answered.
#[derive(Clone, Debug, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Answer {
    Status(Box<NodeStatus>),
    /// The order is carried out.
    Done(Box<ModuleStatus>),
    Refused(Refusal),
    Failovers(Vec<Failover>),
    Log(Vec<String>),
    Inspected(Box<Inspection>),
    Applied(Box<Applied>),
    Change(Box<Said>),
}

/// A changed configuration is in place on both nodes.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Applied {
    pub node: String,
    pub peer: String,
    pub files: Vec<String>,
    /// What changed on `node`; the other may have had other differences.
    pub changes: Vec<Changed>,
}

/// What a node shows so that it can be compared with another.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Inspection {
    pub node: String,
    /// Of the program.
    pub version: String,
    /// Its wall clock, milliseconds since 1970. No decision depends on it.
    pub clock_ms: u64,
    /// `cluster.ron` and `modules/NAME.ron`, by their names below the configuration directory.
    pub files: BTreeMap<String, String>,
    /// Names of the users and groups that were asked for and are known.
    pub users: BTreeMap<u32, String>,
    pub groups: BTreeMap<u32, String>,
}

/// A node as its manager sees it.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub struct NodeStatus {
    pub node: String,
    pub pid: u32,
    pub modules: Vec<ModuleStatus>,
    /// The managers of the other nodes.
    pub peers: Vec<PeerStatus>,
}

/// Another node's manager.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub struct PeerStatus {
    pub node: String,
    /// Heard of lately over at least one path.
    pub alive: bool,
    /// Why it is not heard of.
    #[serde(default)]
    pub reason: Option<Refusal>,
    pub paths: Vec<PathStatus>,
    /// What it said of its modules last.
    pub modules: BTreeMap<String, Brief>,
}

/// One way to another node.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct PathStatus {
    pub local: String,
    pub remote: String,
    pub alive: bool,
    /// Milliseconds since something was heard on it; `None`: never.
    pub heard_ms: Option<u64>,
}

/// A module in one line.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Brief {
    pub state: State,
    pub readiness: Readiness,
    pub reason: Option<Refusal>,
    /// What operators said; `None`: of an older version.
    #[serde(default)]
    pub word: Option<Word>,
}

/// A module on this node.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub struct ModuleStatus {
    pub module: String,
    pub node: String,
    pub state: State,
    pub readiness: Readiness,
    pub reason: Option<Refusal>,
    /// Everything that blocks or degrades, the most important first.
    pub why: Vec<Refusal>,
    /// What should be looked at, and changes nothing in what the module does.
    #[serde(default)]
    pub notes: Vec<Refusal>,
    /// What is being done, in a word.
    pub action: Option<String>,
    pub wants: Wants,
    /// Whether the follower takes over by itself.
    pub failover: bool,
    pub running: Running,
    pub virtual_ips: Vec<String>,
    pub checkers: Vec<CheckerStatus>,
    /// What its file system daemon says; `None`: it does not run.
    pub daemon: Option<Box<Status>>,
}

#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct CheckerStatus {
    pub name: String,
    /// `None`: it does not look now, or has not yet.
    pub up: Option<bool>,
    pub detail: String,
}

/// One failover of a module to this node, or back onto it.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Failover {
    /// Seconds since 1970 when it began, by this node's clock.
    pub began: u64,
    /// Milliseconds from its beginning to the end of each phase.
    pub phases: Vec<(Phase, u64)>,
    pub reason: String,
}
