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

pub mod messages;

use crate::ids::{DirId, Key, Uid};
use messages::{Attrs, Kind};

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

/// The source's tree as the resync reads it. Every method shows the state after all operations
/// that were admitted before the call; errors are errnos, `ESTALE` for a file that is gone.
pub trait SourceTree: Send + Sync {
    /// The root of a directory.
    fn root(&self, dir: DirId) -> Key;
    /// Number of replicated directories.
    fn dirs(&self) -> u16;
    /// # Errors
    /// As the trait says.
    fn entry(&self, dir: DirId, parent: Key, name: &[u8]) -> Result<Option<Entry>, i32>;
    /// All entries of a directory, in pieces: `cookie` 0 first, then as returned; `None` ends.
    ///
    /// # Errors
    /// As the trait says.
    #[allow(clippy::type_complexity)]
    fn list(
        &self,
        dir: DirId,
        parent: Key,
        cookie: u64,
    ) -> Result<(Vec<(Box<[u8]>, Entry)>, Option<u64>), i32>;
    /// Directory above and name in it, of a directory below the root.
    ///
    /// # Errors
    /// As the trait says.
    fn above(&self, dir: DirId, key: Key) -> Result<(Key, Box<[u8]>), i32>;
    /// # Errors
    /// As the trait says.
    fn uid(&self, dir: DirId, key: Key) -> Result<Uid, i32>;
    /// # Errors
    /// As the trait says.
    fn attrs(&self, dir: DirId, key: Key) -> Result<Attrs, i32>;
    /// # Errors
    /// As the trait says.
    fn read(&self, dir: DirId, key: Key, offset: u64, buf: &mut [u8]) -> Result<Piece, i32>;
}
