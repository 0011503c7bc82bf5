//! What source and target say to each other. A request is answered by exactly one reply with its
//! number. The target does requests in an order that keeps [`Request::lane`].

mod bounds;
mod marks;

pub use marks::{PeerMark, PeerTouch};

use super::bounded::{Blob, Name, list};
use crate::ids::{DirId, Id128, Uid};
use serde::{Deserialize, Serialize};

/// Bytes of a block whose hash is compared.
pub const BLOCK: u64 = 8 * 1024;
pub type Hash = [u8; 16];
/// The block is a hole altogether.
pub const HOLE: Hash = [0; 16];

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
    #[serde(deserialize_with = "list")]
    pub xattrs: Vec<(Vec<u8>, Vec<u8>)>,
}

/// What the target has at a name.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Found {
    /// `None`: it never got an identity.
    pub uid: Option<Uid>,
    pub kind: Kind,
    /// A file with several names.
    pub several: bool,
}

/// A way from the root down: identity and name of each step; empty: the root.
pub type Way = Vec<(Uid, Name)>;

/// A place: directory and name.
pub type Place = (Uid, Name);

/// A file, and places where it is found if the target does not remember it.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct At {
    pub uid: Uid,
    #[serde(deserialize_with = "list")]
    pub places: Vec<Place>,
}

/// What the source has at a name.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Has {
    pub uid: Uid,
    pub kind: Kind,
    /// A file with several names: the target remembers it.
    pub several: bool,
}

/// A name, and what the source has there.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Expect {
    pub name: Name,
    pub there: Option<Has>,
    /// A directory without an identity may be taken for it.
    pub adopt: bool,
}

/// An entry that is to be on the target.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Put {
    pub name: Name,
    pub has: Has,
    /// Other places where the target may have it.
    #[serde(deserialize_with = "list")]
    pub places: Vec<Place>,
    /// Make it if the target has it nowhere, or take something without an identity for it.
    pub make: bool,
}

/// Attributes of a file, after its data; with data if it is small and all of it is to be written.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Whole {
    pub at: At,
    pub attrs: Attrs,
    /// Names of further extended attributes, which were set before by [`Request::Xattrs`].
    #[serde(deserialize_with = "list")]
    pub others: Vec<Vec<u8>>,
    pub data: Option<Blob>,
}

/// Hashes of a run of blocks of a file.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Hashes {
    pub at: At,
    /// A multiple of [`BLOCK`].
    pub offset: u64,
    /// Size of the file at the source: a block ends there.
    pub size: u64,
    #[serde(deserialize_with = "list")]
    pub blocks: Vec<Hash>,
}

/// A directory all of whose entries are in place.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Settle {
    pub uid: Uid,
    pub attrs: Attrs,
    /// As in [`Whole::others`].
    #[serde(deserialize_with = "list")]
    pub others: Vec<Vec<u8>>,
}

/// What the source says first.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Open {
    /// Since when the marks count: what was parked under another one is gone.
    pub baseline: Id128,
    /// Name of this resync for what is kept aside; `None`: nothing is.
    pub aside: Option<Aside>,
    /// Whether the target's marks are to be had.
    pub marks: bool,
    /// The source's last completed checkpoint.
    pub checkpoints: u64,
}

/// Keep what is overwritten or removed.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Aside {
    pub id: Id128,
    /// Why the target's version lost, for the list.
    pub reason: String,
    /// The operator has allowed to go on when there is no room to keep more.
    pub beyond: bool,
}

#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub enum Request {
    /// The first of a session. Reply: [`Reply::Opened`].
    Open(Open),
    /// The target's own marks from the `from`th on. Reply: [`Reply::Marks`].
    Marks { from: u64 },
    /// A pass begins; the last one runs while writes are held. One that `walks` compares whole
    /// trees. Reply: [`Reply::Done`].
    Pass {
        number: u32,
        last: bool,
        walks: bool,
    },
    /// Finds directories by identity. Reply: [`Reply::Resolved`].
    Resolve {
        dir: DirId,
        #[serde(deserialize_with = "list")]
        ways: Vec<Way>,
    },
    /// Parks what the source does not have at these names. Reply: [`Reply::Checked`].
    Check {
        dir: DirId,
        parent: Uid,
        #[serde(deserialize_with = "list")]
        entries: Vec<Expect>,
    },
    /// The entries of a directory, in pieces. Reply: [`Reply::Listed`].
    List {
        dir: DirId,
        parent: Uid,
        cookie: u64,
    },
    /// Makes entries be there. Reply: [`Reply::Placed`].
    Put {
        dir: DirId,
        parent: Uid,
        #[serde(deserialize_with = "list")]
        entries: Vec<Put>,
    },
    /// Sets attributes, and the data of small files. Reply: [`Reply::Done`], one errno a file.
    Files {
        dir: DirId,
        #[serde(deserialize_with = "list")]
        files: Vec<Whole>,
    },
    /// Extended attributes beyond what one request holds. Reply: [`Reply::Done`].
    Xattrs {
        dir: DirId,
        at: At,
        #[serde(deserialize_with = "list")]
        set: Vec<(Vec<u8>, Vec<u8>)>,
    },
    /// Reply: [`Reply::Differ`].
    Hashes {
        dir: DirId,
        #[serde(deserialize_with = "list")]
        files: Vec<Hashes>,
    },
    /// Reply: [`Reply::Done`].
    Data {
        dir: DirId,
        at: At,
        offset: u64,
        data: Blob,
    },
    /// Zeros that take no room. Reply: [`Reply::Done`].
    Zero {
        dir: DirId,
        at: At,
        offset: u64,
        len: u64,
    },
    /// Attributes of directories, children before parents. From here on they count as whole.
    /// Reply: [`Reply::Settled`].
    Settle {
        dir: DirId,
        #[serde(deserialize_with = "list")]
        dirs: Vec<Settle>,
    },
    /// These directories are not named again in this pass. Reply: [`Reply::Done`].
    Forget {
        dir: DirId,
        #[serde(deserialize_with = "list")]
        uids: Vec<Uid>,
    },
    /// What is parked is gone at the source. Reply: [`Reply::Done`].
    Sweep,
    /// All to stable storage. Reply: [`Reply::Done`].
    Flush,
}

/// What the target had at a name it was asked to check.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub enum Seen {
    Nothing,
    /// The very file.
    Same,
    /// Of the right kind, but without an identity: it may become the source's file when that is
    /// put. A directory has become it, if it might.
    Strange,
    /// Another file, which is parked now.
    Parked,
    Failed(i32),
}

/// What became of an entry.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub enum Placed {
    /// The very file was there.
    Was,
    /// It was found elsewhere, whole.
    Moved,
    /// Something without an identity was taken for it: all of it may differ.
    Adopted,
    /// It is new and empty.
    Made,
    /// The target has it nowhere, and was not to make it.
    Missing,
    Failed(i32),
}

#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub enum Reply {
    Opened {
        boot: Id128,
        /// The target lost power in an unfinished resync: what that one did may be incomplete.
        suspect: bool,
        /// An earlier resync was not finished: it may have moved files.
        resumed: bool,
        /// The last checkpoint for which the target flushed.
        checkpoints: u64,
    },
    Marks {
        everything: bool,
        #[serde(deserialize_with = "list")]
        marks: Vec<PeerMark>,
        next: Option<u64>,
    },
    /// For each way `None` if it was found, or the step at which the target has another thing.
    Resolved(#[serde(deserialize_with = "list")] Vec<Option<u16>>),
    Checked {
        #[serde(deserialize_with = "list")]
        seen: Vec<Seen>,
        /// Directories that were parked.
        #[serde(deserialize_with = "list")]
        parked: Vec<Uid>,
        /// Files of which the target has two: their content must be compared.
        #[serde(deserialize_with = "list")]
        doubles: Vec<Uid>,
    },
    Listed {
        #[serde(deserialize_with = "list")]
        entries: Vec<(Name, Found)>,
        next: Option<u64>,
    },
    Placed {
        #[serde(deserialize_with = "list")]
        placed: Vec<Placed>,
        /// Directories that were parked.
        #[serde(deserialize_with = "list")]
        parked: Vec<Uid>,
        #[serde(deserialize_with = "list")]
        doubles: Vec<Uid>,
    },
    /// One errno for each part of the request; 0 is success.
    Done(#[serde(deserialize_with = "list")] Vec<i32>),
    /// For each file a bit for each block that differs, or an errno.
    Differ(#[serde(deserialize_with = "list")] Vec<Result<Blob, i32>>),
    Settled {
        /// They do not count as whole, because something in this pass went wrong.
        #[serde(deserialize_with = "list")]
        refused: Vec<Uid>,
    },
    /// The request as a whole failed.
    Failed { errno: i32, what: String },
}

/// What may run beside what, see [`Request::lane`].
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Lane {
    /// After everything before it, and before everything after it.
    Alone,
    /// One after the other, each before the file requests sent after it.
    Names,
    /// In any order, but requests about one file in the order they were sent.
    Files,
}

impl Request {
    /// The order the target must keep.
    pub fn lane(&self) -> Lane {
        match self {
            Self::Open(_)
            | Self::Marks { .. }
            | Self::Pass { .. }
            | Self::Settle { .. }
            | Self::Forget { .. }
            | Self::Sweep
            | Self::Flush => Lane::Alone,
            Self::Resolve { .. } | Self::Check { .. } | Self::List { .. } | Self::Put { .. } => {
                Lane::Names
            }
            Self::Files { .. }
            | Self::Xattrs { .. }
            | Self::Hashes { .. }
            | Self::Data { .. }
            | Self::Zero { .. } => Lane::Files,
        }
    }

    /// The files a request of [`Lane::Files`] is about.
    pub fn files(&self) -> Vec<Uid> {
        match self {
            Self::Files { files, .. } => files.iter().map(|f| f.at.uid).collect(),
            Self::Hashes { files, .. } => files.iter().map(|f| f.at.uid).collect(),
            Self::Xattrs { at, .. } | Self::Data { at, .. } | Self::Zero { at, .. } => {
                vec![at.uid]
            }
            _ => Vec::new(),
        }
    }
}
