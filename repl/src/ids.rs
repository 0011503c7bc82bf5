//! Identifiers as types, so that a file cannot be taken for an epoch nor a sequence number for a
//! size.

use serde::{Deserialize, Serialize};
use std::fmt;

/// A file as the operation stream names it: the serving node's FUSE node id, unique while the
/// session that introduced it lasts. The root of directory `n` is [`FileId::ROOT`].
#[derive(Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord, Debug, Serialize, Deserialize)]
pub struct FileId(pub u64);

impl FileId {
    /// FUSE fixes the root's node id to 1 (`FUSE_ROOT_ID`).
    pub const ROOT: Self = Self(1);
}

/// Which of a module's replicated directories; its index in the module's configuration.
#[derive(Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord, Debug, Serialize, Deserialize)]
pub struct DirId(pub u16);

/// Position of an operation in a session's stream; starts at 1, never reused within a session.
#[derive(
    Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord, Debug, Default, Serialize, Deserialize,
)]
pub struct OpSeq(pub u64);

/// 128 random bits naming a volume (one module's replicated content) or an epoch.
#[derive(Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord, Default, Serialize, Deserialize)]
pub struct Id128(pub [u8; 16]);

impl fmt::Display for Id128 {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0.iter().try_for_each(|b| write!(f, "{b:02x}"))
    }
}

impl fmt::Debug for Id128 {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{self}")
    }
}
