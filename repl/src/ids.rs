//! Identifiers as types, so that a file cannot be taken for an epoch nor a sequence number for a
//! size.

use serde::de::Error;
use serde::{Deserialize, Deserializer, Serialize, Serializer};
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

/// A file's lasting identity, the same on both nodes, through renames, links and restarts. It is
/// kept in an extended attribute of the file ([`Uid::XATTR`]); the root of a directory has
/// [`Uid::ROOT`] without one.
#[derive(
    Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord, Debug, Default, Serialize, Deserialize,
)]
pub struct Uid {
    /// 64 random bits of the daemon start that gave it. The lowest bit is set where a file was
    /// found without an identity and given one ([`Uid::is_found`]).
    pub origin: u64,
    /// Counts up within the origin, from 1.
    pub number: u64,
}

impl Uid {
    pub const ROOT: Self = Self {
        origin: 0,
        number: 0,
    };
    /// Of a file whose identity is not known here, or that has none.
    pub const NONE: Self = Self {
        origin: 0,
        number: u64::MAX,
    };
    /// Where a file's identity is kept: origin, number, and a check of the file's own handle (so
    /// that a copy made with all attributes is not taken for the original), little-endian.
    pub const XATTR: &'static str = "trusted.tandem.id";

    /// The file existed before it was given this identity: it is not one of the births a
    /// checkpoint has not covered yet.
    pub fn is_found(self) -> bool {
        self.origin & 1 == 1
    }
}

/// Longest [`Key`], bytes: kind and handle of every file system the product supports.
pub const MAX_KEY: usize = 44;

/// A file as this node's own file system names it: kind and bytes of its file handle. Valid while
/// the inode lives; means nothing on the other node.
#[derive(Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct Key {
    len: u8,
    bytes: [u8; MAX_KEY],
}

impl Key {
    /// `None` if there are more than [`MAX_KEY`] bytes.
    pub fn new(bytes: &[u8]) -> Option<Self> {
        let mut key = Self {
            len: u8::try_from(bytes.len()).ok()?,
            bytes: [0; MAX_KEY],
        };
        key.bytes.get_mut(..bytes.len())?.copy_from_slice(bytes);
        Some(key)
    }

    pub fn bytes(&self) -> &[u8] {
        &self.bytes[..usize::from(self.len)]
    }
}

impl Serialize for Key {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.serialize_bytes(self.bytes())
    }
}

impl<'de> Deserialize<'de> for Key {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        let bytes = <&[u8]>::deserialize(deserializer)?;
        Self::new(bytes).ok_or_else(|| D::Error::custom("a key that is too long"))
    }
}

impl fmt::Debug for Key {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.bytes().iter().try_for_each(|b| write!(f, "{b:02x}"))
    }
}
