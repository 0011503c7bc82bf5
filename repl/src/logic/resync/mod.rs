//! Resync: bringing the stale replica (the *target*) up from the current one (the *source*) while
//! the application runs on the source.
//!
//! The source works in passes. A pass takes the marks made since the last one began, looks at what
//! is there *now*, and makes the target equal there; what changes meanwhile is marked again and
//! belongs to the next pass. So newer bytes are never replaced by older ones (I8): every byte is
//! read after its mark was taken, and a mark is taken only when no operation it covers is half
//! done. When what is left is small the member machine holds writes for a moment, the last pass
//! runs, and the target grows into the set.
//!
//! Nothing is ordered by time and no tree is walked. Files are named by their lasting identity
//! ([`Uid`]), so a directory that was renamed while the target was away is renamed there.
//!
//! * [`run`]: the source. An `async fn` without an executor: in the product a thread waits for it,
//!   in the simulator it is polled by hand. It reaches the world through [`SourceTree`] (what is
//!   there), [`Pipe`] (the target) and [`Feed`] (marks, pace, what the member machine says).
//! * [`messages`]: what source and target say to each other.
//! * [`target`]: what the other end does.
//! * [`model`]: a tree in memory, for tests.
//! * [`pace`]: how much of the time it works, so that the application is not disturbed.
//! * [`progress`]: what `status` shows.

pub mod bounded;
mod engine;
pub mod messages;
pub mod model;
pub mod pace;
pub mod progress;
pub mod target;
#[cfg(test)]
mod tests;

/// Most entries a tree gives in one piece of a listing.
pub const MAX_LISTED: usize = 512;

use crate::ids::{DirId, Id128, Key, Uid};
use crate::logic::dirty::{Births, Marks};
use messages::{Aside, Attrs, Hash, Kind, Reply, Request};
use progress::Progress;
use std::future::Future;
use std::sync::Arc;
use thiserror::Error;

/// Name in the root of a replicated directory below which the product keeps its own; the mount
/// hides it, and it is not replicated.
pub const PRIVATE: &[u8] = b".tandem";

/// An entry of the source's tree as it is now.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Entry {
    pub key: Key,
    /// The source gives an identity to a file that has none before it answers.
    pub uid: Uid,
    pub kind: Kind,
    pub links: u64,
}

/// A piece of a file's data.
#[derive(Debug, PartialEq, Eq)]
pub enum Piece {
    /// So many bytes were read into the buffer.
    Data(usize),
    /// So many zeros that take no room.
    Hole(u64),
    /// The file ends here.
    End,
}

/// A file's attributes, with its data if it is small.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Loaded {
    pub attrs: Attrs,
    /// All of it; `None` for a larger file, one with holes, or one that holds no data.
    pub data: Option<Vec<u8>>,
}

/// Entries of a directory, and where the next ones are; `None` after the last.
pub type Listing = (Vec<(Box<[u8]>, Entry)>, Option<u64>);

/// The source's tree as the resync reads it. Every method shows the state after all operations
/// that were admitted before the call; errors are errnos, `ESTALE` for a file that is gone.
/// [`PRIVATE`] in the root is not shown.
pub trait SourceTree: Send + Sync {
    /// The root of a directory.
    fn root(&self, dir: DirId) -> Key;
    /// Number of replicated directories.
    fn dirs(&self) -> u16;
    /// # Errors
    /// As the trait says.
    fn entry(&self, dir: DirId, parent: Key, name: &[u8]) -> Result<Option<Entry>, i32>;
    /// The file itself, wherever it is. `ESTALE` if it has no name any more.
    ///
    /// # Errors
    /// As the trait says.
    fn file(&self, dir: DirId, key: Key) -> Result<Entry, i32>;
    /// All entries of a directory, in pieces of some hundred: `cookie` 0 first, then as returned.
    ///
    /// # Errors
    /// As the trait says.
    fn list(&self, dir: DirId, parent: Key, cookie: u64) -> Result<Listing, i32>;
    /// Directory above and name in it, of a directory below the root.
    ///
    /// # Errors
    /// As the trait says.
    fn above(&self, dir: DirId, key: Key) -> Result<(Key, Box<[u8]>), i32>;
    /// # Errors
    /// As the trait says.
    fn attrs(&self, dir: DirId, key: Key) -> Result<Attrs, i32>;
    /// # Errors
    /// As the trait says.
    fn read(&self, dir: DirId, key: Key, offset: u64, buf: &mut [u8]) -> Result<Piece, i32>;
    /// Attributes, and data of at most `limit` bytes; opened once. With data the size is that of
    /// the data.
    ///
    /// # Errors
    /// As the trait says.
    fn load(&self, dir: DirId, key: Key, limit: usize) -> Result<Loaded, i32>;
    /// Hashes of at most `count` blocks from `offset` on, a multiple of [`messages::BLOCK`]; fewer
    /// at the end of the file. With the file's size.
    ///
    /// # Errors
    /// As the trait says.
    fn hashes(
        &self,
        dir: DirId,
        key: Key,
        offset: u64,
        count: usize,
    ) -> Result<(Vec<Hash>, u64), i32>;
    /// These files will be loaded soon, in this order.
    fn ahead(&self, _dir: DirId, _keys: &[Key]) {}
}

/// Names a request until its reply is taken.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct Ticket(pub u64);

/// The target cannot be reached any more.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Error)]
#[error("the link to the target is lost")]
pub struct Gone;

/// The way to the target. Requests arrive in the order they were sent.
pub trait Pipe {
    /// Sends a request, waiting for room: the bytes of requests without a reply are bounded. Room
    /// comes from replies that arrive, not from replies that are taken.
    fn send(&self, request: Request) -> impl Future<Output = Result<Ticket, Gone>>;
    /// Waits for the reply. The engine takes each reply once.
    fn reply(&self, ticket: Ticket) -> impl Future<Output = Result<Reply, Gone>>;
}

/// Since when marks are asked for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Since {
    /// A session begins: all marks, with this node's own of all times. If a pass that was
    /// [complete](PassReport::complete) ended in an earlier session of the same boot of the target,
    /// those since it began will do.
    ///
    /// `checkpoints`: the target has flushed for that one. A target that lacks one the source has
    /// completed is older than marks that are dropped, as a disk that was restored from a backup
    /// is: then everything may differ.
    Start { boot: Id128, checkpoints: u64 },
    /// Since the last call.
    Last,
}

/// The resync is to end.
#[derive(Clone, Debug, PartialEq, Eq, Error)]
#[error("{0}")]
pub struct Stop(pub String);

/// How a pass went.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct PassReport {
    /// From 1.
    pub number: u32,
    /// Everything marked is equal and on the target's stable storage.
    pub complete: bool,
    /// Files, directories and names that were looked at.
    pub looked: u64,
    /// Bytes of files that were sent.
    pub sent: u64,
    /// Bytes of files that were compared.
    pub compared: u64,
}

/// What to do after a pass.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Next {
    /// Another pass; the application goes on.
    Again,
    /// Writes are held now: the last pass.
    Last,
}

/// What the source's own node says to its resync.
pub trait Feed {
    /// Begins a new generation of marks and returns those before it. Waits until no operation that
    /// they cover is half done.
    fn next_marks(&self, since: Since) -> impl Future<Output = Result<Marks, Stop>>;
    /// Births of all times since the replicas were equal; asked once, after the first marks. The
    /// births of the marks alone will do if those are marks of all times: a file may have been
    /// renamed before an earlier pass met it.
    fn births(&self) -> Vec<Births> {
        Vec::new()
    }
    /// About so many bytes will be read, or sent. Waits while that would disturb the application,
    /// or while the resync is paused.
    fn permit(&self, bytes: u64) -> impl Future<Output = Result<(), Stop>>;
    /// A pass has ended. Waits until there is a reason for the next one, or writes are held.
    fn passed(&self, report: PassReport) -> impl Future<Output = Result<Next, Stop>>;
}

/// Rules of the protocol. All hold in the product; the simulator breaks one at a time and must
/// notice.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Rules {
    /// Marks are taken before what they cover is read.
    pub take_before_read: bool,
    /// The target's own marks are compared, too.
    pub union_of_marks: bool,
    /// Everything marked is looked at before anything is placed.
    pub park_first: bool,
    /// What the target made counts as whole only when all of it is there.
    pub whole_when_settled: bool,
    /// After a power cut of the target everything that a marked name leads to is compared.
    pub suspect_after_power_cut: bool,
    /// Nothing is removed before the last pass.
    pub sweep_last: bool,
    /// What was done is on the target's disk before the resync says that it has ended.
    pub last_flush: bool,
    /// After an interrupted resync what was in a deep directory of the target is looked for at
    /// marked names, too.
    pub doubt_when_resumed: bool,
    /// What is moved at a target that has deep directories is compared.
    pub compare_moved: bool,
}

impl Default for Rules {
    fn default() -> Self {
        Self {
            take_before_read: true,
            union_of_marks: true,
            park_first: true,
            whole_when_settled: true,
            suspect_after_power_cut: true,
            sweep_last: true,
            last_flush: true,
            doubt_when_resumed: true,
            compare_moved: true,
        }
    }
}

/// What is to be done.
#[derive(Clone, Debug, Default)]
pub struct Order {
    /// Since when the marks count: the same through all sessions until the target has grown into
    /// the set, and never again after that. The id of the epoch in which the replicas were last
    /// equal will do, together with its number of ends.
    pub baseline: Id128,
    /// Keep what the target has and the source never had.
    pub aside: Option<Aside>,
    /// Take the target's own marks, too: it has served, or may have applied what this node lost.
    pub peer_marks: bool,
    /// Number of this node's last checkpoint.
    pub checkpoints: u64,
    pub rules: Rules,
    pub progress: Arc<Progress>,
}

/// The target is equal, but for its flush.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Outcome {
    pub passes: u32,
    /// Bytes of files that were sent.
    pub sent: u64,
    pub compared: u64,
    pub files: u64,
    /// Directories settled.
    pub directories: u64,
    /// Places that were not marked and yet differed; they were compared wholly.
    pub anomalies: u64,
}

/// Why a resync ended early. What is marked stays marked.
#[derive(Clone, Debug, PartialEq, Eq, Error)]
pub enum Failure {
    #[error(transparent)]
    Gone(#[from] Gone),
    #[error("stopped: {0}")]
    Stopped(#[from] Stop),
    /// No room, a broken disk, or nothing that a later pass could mend.
    #[error("the target: {what}: errno {errno}")]
    Target { errno: i32, what: String },
    #[error("reading {what}: errno {errno}")]
    Source { errno: i32, what: String },
    #[error("the target answered a request with something else")]
    Protocol,
}

/// Makes the target equal to `tree`.
///
/// # Errors
/// See [`Failure`].
pub async fn run<P: Pipe, F: Feed>(
    tree: &dyn SourceTree,
    pipe: &P,
    feed: &F,
    order: Order,
) -> Result<Outcome, Failure> {
    engine::run(tree, pipe, feed, order).await
}
