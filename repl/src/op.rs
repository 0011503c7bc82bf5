//! Everything that can change a tree. The same operation is applied here and on the peer, by the
//! same code, so it carries all that decides its effect: the caller's identity, umask and flags.
//!
//! Files are named by [`FileId`]; the first operation on a file in a session is preceded by
//! [`Op::Bind`], which tells the peer where that file is. So an operation needs no path, and the
//! rename of an ancestor cannot lead it astray.

use crate::ids::{FileId, Uid};

/// What happens to set-id bits and file capabilities when a file is written or truncated.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Default)]
pub enum Privileges {
    /// As the local file system does for root.
    #[default]
    AsRoot,
    /// The caller lacks `CAP_FSETID`: set-id bits go as well.
    Drop,
    /// The same, but the caller belongs to the file's group, so a set-group-id bit without group
    /// execution stays.
    DropAsMember,
    /// A page that was stored through a mapping: nothing goes.
    Keep,
}

/// Whose rights an operation is done with.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Default)]
pub struct Cred {
    pub uid: u32,
    pub gid: u32,
    pub privileges: Privileges,
}

/// Seconds and nanoseconds since 1970, seconds may be negative.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Default)]
pub struct Timespec {
    pub sec: i64,
    pub nsec: u32,
}

/// A time to be set.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Default)]
pub enum TimeSet {
    #[default]
    Keep,
    Now,
    To(Timespec),
}

/// What [`Op::Make`] makes.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Kind<'a> {
    File,
    Directory,
    Symlink(&'a [u8]),
    /// Fifo, socket or device: `S_IFMT` bits and device number.
    Node {
        format: u32,
        rdev: u32,
    },
}

/// How far a write must be on disk when it is answered.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Default)]
pub enum Durability {
    #[default]
    Memory,
    /// As after `fdatasync` (`O_DSYNC`).
    Data,
    /// As after `fsync` (`O_SYNC`).
    File,
}

/// Attributes to be set; `None` and [`TimeSet::Keep`] leave them.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Default)]
pub struct AttrSet {
    pub mode: Option<u32>,
    pub uid: Option<u32>,
    pub gid: Option<u32>,
    pub size: Option<u64>,
    pub atime: TimeSet,
    pub mtime: TimeSet,
}

/// One change of a tree.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Op<'a> {
    /// From now on `id` is the entry `name` of `parent`. Changes nothing.
    Bind {
        id: FileId,
        parent: FileId,
        name: &'a [u8],
    },
    /// `id` will not be used again. Changes nothing.
    Unbind {
        id: FileId,
    },
    /// `uid` is the file's lasting identity, which the serving node chooses.
    Make {
        id: FileId,
        uid: Uid,
        parent: FileId,
        name: &'a [u8],
        kind: Kind<'a>,
        mode: u32,
        umask: u32,
        cred: Cred,
    },
    Link {
        id: FileId,
        parent: FileId,
        name: &'a [u8],
    },
    Unlink {
        parent: FileId,
        name: &'a [u8],
    },
    Rmdir {
        parent: FileId,
        name: &'a [u8],
    },
    /// `flags` as of `renameat2`; with `RENAME_WHITEOUT` a device is made, as the caller's.
    Rename {
        parent: FileId,
        name: &'a [u8],
        new_parent: FileId,
        new_name: &'a [u8],
        flags: u32,
        cred: Cred,
    },
    Write {
        id: FileId,
        offset: u64,
        data: &'a [u8],
        durability: Durability,
        cred: Cred,
    },
    /// `mode` as of `fallocate`.
    Fallocate {
        id: FileId,
        mode: i32,
        offset: u64,
        len: u64,
        cred: Cred,
    },
    SetAttr {
        id: FileId,
        set: AttrSet,
        cred: Cred,
    },
    /// `flags` as of `setxattr`.
    SetXattr {
        id: FileId,
        name: &'a [u8],
        value: &'a [u8],
        flags: i32,
        /// An access list set by somebody outside the file's group: the set-group-id bit goes.
        clear_setgid: bool,
    },
    RemoveXattr {
        id: FileId,
        name: &'a [u8],
    },
    /// Inode flags as of `FS_IOC_SETFLAGS`.
    SetFlags {
        id: FileId,
        flags: u32,
    },
    Fsync {
        id: FileId,
        data_only: bool,
    },
    /// Everything of the directory to stable storage.
    SyncAll,
    /// Compare: the receiver, which has done exactly what came before on the stream, answers
    /// [`DIFFERS`] if its hash is another. Changes nothing.
    Check {
        id: FileId,
        what: Checked,
        hash: [u8; 16],
    },
    /// Read: the receiver answers with the bytes. Changes nothing.
    Fetch {
        id: FileId,
        offset: u64,
        /// At most [`crate::limits::MAX_DATA`].
        len: u32,
    },
}

/// What [`Op::Check`] compares.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Checked {
    /// Bytes from `offset`, at most `len`.
    Data { offset: u64, len: u32 },
    /// Kind, identity, mode, owner, size, extended attributes, inode flags; `times`: and the time
    /// of the last change of the content.
    Attrs { times: bool },
    /// Names and kinds of a directory's entries.
    Names,
}

/// The answer to [`Op::Check`] that something differs; no errno has this value.
pub const DIFFERS: i32 = 1 << 20;

impl Op<'_> {
    /// What must reach the disk before the operation is answered, beyond applying it. It is done
    /// aside, because others should not wait behind it.
    pub fn sync_part(&self) -> Option<Op<'static>> {
        match *self {
            Self::Fsync { id, data_only } => Some(Op::Fsync { id, data_only }),
            Self::SyncAll => Some(Op::SyncAll),
            Self::Write {
                id,
                durability: Durability::Data,
                ..
            } => Some(Op::Fsync {
                id,
                data_only: true,
            }),
            Self::Write {
                id,
                durability: Durability::File,
                ..
            } => Some(Op::Fsync {
                id,
                data_only: false,
            }),
            _ => None,
        }
    }

    /// Whether it only asks the peer something.
    pub fn is_question(&self) -> bool {
        matches!(self, Self::Check { .. } | Self::Fetch { .. })
    }

    /// Whether the peer answers it; bindings only accompany other operations.
    pub fn is_acknowledged(&self) -> bool {
        !matches!(self, Self::Bind { .. } | Self::Unbind { .. })
    }
}

impl Op<'_> {
    /// What it does, for messages.
    pub fn describe(&self) -> String {
        let text = |name: &[u8]| String::from_utf8_lossy(name).into_owned();
        match self {
            Self::Make { name, .. } => format!("create {}", text(name)),
            Self::Link { name, .. } => format!("link {}", text(name)),
            Self::Unlink { name, .. } => format!("unlink {}", text(name)),
            Self::Rmdir { name, .. } => format!("rmdir {}", text(name)),
            Self::Rename { name, new_name, .. } => {
                format!("rename {} to {}", text(name), text(new_name))
            }
            Self::Bind { name, .. } => format!("find {}", text(name)),
            Self::Write { offset, data, .. } => format!("write {} bytes at {offset}", data.len()),
            Self::Fallocate { .. } => "fallocate".into(),
            Self::SetAttr { .. } => "set attributes".into(),
            Self::SetXattr { name, .. } => format!("set attribute {}", text(name)),
            Self::RemoveXattr { name, .. } => format!("remove attribute {}", text(name)),
            Self::SetFlags { .. } => "set inode flags".into(),
            Self::Fsync { .. } => "fsync".into(),
            Self::SyncAll => "sync".into(),
            Self::Check { .. } => "compare".into(),
            Self::Fetch { len, offset, .. } => format!("read {len} bytes at {offset}"),
            Self::Unbind { .. } => "forget".into(),
        }
    }
}
