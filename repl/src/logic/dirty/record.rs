//! What the journal says.

use super::Births;
use crate::ids::{DirId, Key, Uid};
use serde::{Deserialize, Serialize};

/// One record of the journal. Together they say what may differ; each only adds to it.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub enum Record {
    Everything,
    Births(Births),
    /// Attributes and these ranges (offset, length) of a file.
    File {
        dir: DirId,
        key: Key,
        uid: Uid,
        place: Option<(Key, Box<[u8]>)>,
        ranges: Vec<(u64, u64)>,
    },
    /// These entries of a directory.
    Names {
        dir: DirId,
        key: Key,
        uid: Uid,
        names: Vec<Box<[u8]>>,
    },
    /// All entries of a directory; `deep`: and all of the files directly in it.
    Folder {
        dir: DirId,
        key: Key,
        uid: Uid,
        deep: bool,
    },
}
