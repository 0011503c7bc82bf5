//! What the target tells of its own marks.

use crate::ids::{DirId, Uid};
use serde::{Deserialize, Serialize};

/// A mark of the target's, in words the source understands: the way from the root to the file or
/// directory, by identity and name.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct PeerMark {
    pub dir: DirId,
    /// From the entry below the root down to the file itself; empty: the root.
    pub way: Vec<(Uid, Vec<u8>)>,
    /// A file with several names, of which only one is told.
    pub several: bool,
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
