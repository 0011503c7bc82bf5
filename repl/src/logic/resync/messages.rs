//! What source and target say to each other. A request is answered by exactly one reply with its
//! number; the target does requests about one file in the order they were sent.

use crate::ids::{DirId, Uid};
use serde::{Deserialize, Serialize};

/// What an entry is.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub enum Kind {
    File,
    Directory,
    /// With its target.
    Symlink(Vec<u8>),
    /// Fifo, socket or device: `S_IFMT` bits and device number.
    Node {
        format: u32,
        rdev: u64,
    },
}

/// Seconds and nanoseconds since 1970.
pub type Time = (i64, u32);

/// All attributes of a file that are replicated.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Attrs {
    /// Permission bits.
    pub mode: u32,
    pub uid: u32,
    pub gid: u32,
    /// Of a regular file; 0 otherwise.
    pub size: u64,
    pub atime: Time,
    pub mtime: Time,
    /// Inode flags that can be set, as of `FS_IOC_GETFLAGS`.
    pub flags: u32,
    /// Sorted by name; without [`Uid::XATTR`].
    pub xattrs: Vec<(Vec<u8>, Vec<u8>)>,
}

/// What the target has at a name.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Found {
    /// `None`: it never got an identity.
    pub uid: Option<Uid>,
    pub kind: Kind,
}

/// A mark of the target's, in words the source understands: the way from the root to the file or
/// directory, by identity and name.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct PeerMark {
    pub dir: DirId,
    /// From the entry below the root down to the file itself; empty: the root.
    pub way: Vec<(Uid, Vec<u8>)>,
    pub what: PeerTouch,
}

#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub enum PeerTouch {
    /// Ranges of data (offset, length), and attributes.
    Data(Vec<(u64, u64)>),
    /// The whole file.
    Whole,
    /// These entries of the directory.
    Names(Vec<Vec<u8>>),
    /// All entries of the directory; `deep`: and the content of all files in it.
    Entries { deep: bool },
}
