//! What a module's file system daemon must know, already validated (the command line turns files
//! into this; nothing here is read from disk by the daemon itself).

use std::net::SocketAddr;
use std::path::PathBuf;
use std::time::Duration;

pub use tandem_repl::io::driver::Apart;
pub use tandem_repl::io::witness::WitnessConfig;
pub use tandem_repl::logic::member::Isolation;

/// When a write is acknowledged (design, section 2).
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Ack {
    /// The peer holds it in memory.
    Written,
    /// The peer holds it on stable storage.
    Durable,
}

/// One directory covered in place.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Directory {
    /// Absolute, without `.`, `..` or a trailing slash.
    pub path: PathBuf,
    /// Shell patterns (`*`, `?`, `**`) on the path below the directory. Matching files are opened
    /// without the kernel's page cache, so that several writers of one file do not wait for each
    /// other's round trip; their reads go through the daemon.
    pub direct: Vec<String>,
}

/// A data node of the module.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Node {
    pub name: String,
    /// Where its replication link listens (UDP), the preferred network first. What is at the same
    /// place of both nodes' lists is in the same network.
    pub addresses: Vec<SocketAddr>,
}

/// PEM texts: the cluster's CA, this node's certificate (its name is the node's) and private key.
#[derive(Clone)]
pub struct Credentials {
    pub ca_pem: String,
    pub cert_pem: String,
    pub key_pem: String,
}

/// One mirror module as its daemon needs it.
#[derive(Clone)]
pub struct ModuleConfig {
    pub cluster: String,
    pub module: String,
    pub local: Node,
    pub peer: Node,
    pub directories: Vec<Directory>,
    pub ack: Ack,
    /// Longest time an application waits for a silent peer before it is taken out of the set.
    pub stall_limit: Duration,
    /// Bytes that may be touched between two checkpoints, and so be compared after a crash.
    pub hot_limit: u64,
    /// Bytes kept aside at most before they are overwritten.
    pub aside_limit: u64,
    /// How much longer than undisturbed answers may take while a resync runs, percent (95th
    /// percentile); `None`: however long.
    pub resync_slowdown: Option<u32>,
    /// Time between two background verifications; `None`: none.
    pub scrub: Option<Duration>,
    /// Whether character and block devices may be made in the directories.
    pub devices: bool,
    /// What decides when this node cannot reach its peer.
    pub apart: Apart,
    /// A failover manager leads this node; otherwise an operator's word does.
    pub managed: bool,
    /// Hash of everything that must be equal on both nodes.
    pub digest: [u8; 32],
    /// `STATE_DIR/MODULE`: record and saved tables. Made if missing.
    pub state_dir: PathBuf,
    /// Control socket path.
    pub socket: PathBuf,
    pub credentials: Credentials,
}
