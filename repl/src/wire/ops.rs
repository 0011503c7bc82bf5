//! Bodies of operation frames.

use super::frame::{get_time, put_time};
use super::raw::{Put, Reader, WireError};
use crate::ids::FileId;
use crate::limits::{MAX_DATA, MAX_NAME, MAX_TARGET, MAX_XATTR};
use crate::op::{AttrSet, Cred, Durability, Kind, Op, TimeSet};

/// Frame kind of an operation. Numbers are never reused.
pub(super) fn kind_of(op: &Op<'_>) -> u8 {
    match op {
        Op::Bind { .. } => 16,
        Op::Unbind { .. } => 17,
        Op::Make { .. } => 18,
        Op::Link { .. } => 19,
        Op::Unlink { .. } => 20,
        Op::Rmdir { .. } => 21,
        Op::Rename { .. } => 22,
        Op::Write { .. } => 23,
        Op::Fallocate { .. } => 24,
        Op::SetAttr { .. } => 25,
        Op::SetXattr { .. } => 26,
        Op::RemoveXattr { .. } => 27,
        Op::SetFlags { .. } => 28,
        Op::Fsync { .. } => 29,
        Op::SyncAll => 30,
    }
}

pub(super) fn put_op(out: &mut Vec<u8>, op: &Op<'_>) {
    match *op {
        Op::Bind { id, parent, name } | Op::Link { id, parent, name } => {
            out.u64(id.0);
            out.u64(parent.0);
            out.bytes(name);
        }
        Op::Unbind { id } => out.u64(id.0),
        Op::Make {
            id,
            parent,
            name,
            kind,
            mode,
            umask,
            cred,
        } => {
            out.u64(id.0);
            out.u64(parent.0);
            out.bytes(name);
            put_kind(out, kind);
            out.u32(mode);
            out.u32(umask);
            put_cred(out, cred);
        }
        Op::Unlink { parent, name } | Op::Rmdir { parent, name } => {
            out.u64(parent.0);
            out.bytes(name);
        }
        Op::Rename {
            parent,
            name,
            new_parent,
            new_name,
            flags,
            cred,
        } => {
            out.u64(parent.0);
            out.bytes(name);
            out.u64(new_parent.0);
            out.bytes(new_name);
            out.u32(flags);
            put_cred(out, cred);
        }
        Op::Write {
            id,
            offset,
            data,
            durability,
            cred,
        } => {
            out.u64(id.0);
            out.u64(offset);
            out.u8(durability as u8);
            put_cred(out, cred);
            out.bytes(data);
        }
        Op::Fallocate {
            id,
            mode,
            offset,
            len,
            cred,
        } => {
            out.u64(id.0);
            out.u32(mode.cast_unsigned());
            out.u64(offset);
            out.u64(len);
            put_cred(out, cred);
        }
        Op::SetAttr { id, set, cred } => {
            out.u64(id.0);
            put_set(out, &set);
            put_cred(out, cred);
        }
        Op::SetXattr {
            id,
            name,
            value,
            flags,
            clear_setgid,
        } => {
            out.u64(id.0);
            out.bytes(name);
            out.bytes(value);
            out.u32(flags.cast_unsigned());
            out.u8(u8::from(clear_setgid));
        }
        Op::RemoveXattr { id, name } => {
            out.u64(id.0);
            out.bytes(name);
        }
        Op::SetFlags { id, flags } => {
            out.u64(id.0);
            out.u32(flags);
        }
        Op::Fsync { id, data_only } => {
            out.u64(id.0);
            out.u8(u8::from(data_only));
        }
        Op::SyncAll => {}
    }
}

pub(super) fn get_op<'a>(kind: u8, r: &mut Reader<'a>) -> Result<Op<'a>, WireError> {
    Ok(match kind {
        16 => Op::Bind {
            id: id(r)?,
            parent: id(r)?,
            name: name(r)?,
        },
        17 => Op::Unbind { id: id(r)? },
        18 => Op::Make {
            id: id(r)?,
            parent: id(r)?,
            name: name(r)?,
            kind: get_kind(r)?,
            mode: r.u32()?,
            umask: r.u32()?,
            cred: get_cred(r)?,
        },
        19 => Op::Link {
            id: id(r)?,
            parent: id(r)?,
            name: name(r)?,
        },
        20 => Op::Unlink {
            parent: id(r)?,
            name: name(r)?,
        },
        21 => Op::Rmdir {
            parent: id(r)?,
            name: name(r)?,
        },
        22 => Op::Rename {
            parent: id(r)?,
            name: name(r)?,
            new_parent: id(r)?,
            new_name: name(r)?,
            flags: r.u32()?,
            cred: get_cred(r)?,
        },
        23 => Op::Write {
            id: id(r)?,
            offset: offset(r)?,
            durability: durability(r)?,
            cred: get_cred(r)?,
            data: r.bytes(MAX_DATA)?,
        },
        24 => Op::Fallocate {
            id: id(r)?,
            mode: r.u32()?.cast_signed(),
            offset: offset(r)?,
            len: offset(r)?,
            cred: get_cred(r)?,
        },
        25 => Op::SetAttr {
            id: id(r)?,
            set: get_set(r)?,
            cred: get_cred(r)?,
        },
        26 => Op::SetXattr {
            id: id(r)?,
            name: xattr_name(r)?,
            value: r.bytes(MAX_XATTR)?,
            flags: r.u32()?.cast_signed(),
            clear_setgid: r.flag("clear_setgid")?,
        },
        27 => Op::RemoveXattr {
            id: id(r)?,
            name: xattr_name(r)?,
        },
        28 => Op::SetFlags {
            id: id(r)?,
            flags: r.u32()?,
        },
        29 => Op::Fsync {
            id: id(r)?,
            data_only: r.flag("data_only")?,
        },
        30 => Op::SyncAll,
        kind => return Err(WireError::UnknownKind(kind)),
    })
}

fn id(r: &mut Reader<'_>) -> Result<FileId, WireError> {
    match r.u64()? {
        0 => Err(WireError::BadValue {
            field: "file id",
            value: 0,
        }),
        v => Ok(FileId(v)),
    }
}

/// One path component: not empty, not `.` or `..`, no `/` and no zero byte, so that no frame can
/// lead out of the replicated directory.
fn name<'a>(r: &mut Reader<'a>) -> Result<&'a [u8], WireError> {
    let name = r.bytes(MAX_NAME)?;
    let bad = name.is_empty() || name == b"." || name == b".." || has(name, b'/') || has(name, 0);
    if bad {
        return Err(WireError::BadValue {
            field: "name",
            value: name.len() as u64,
        });
    }
    Ok(name)
}

fn xattr_name<'a>(r: &mut Reader<'a>) -> Result<&'a [u8], WireError> {
    let name = r.bytes(MAX_NAME)?;
    if name.is_empty() || has(name, 0) {
        return Err(WireError::BadValue {
            field: "attribute name",
            value: name.len() as u64,
        });
    }
    Ok(name)
}

fn has(bytes: &[u8], byte: u8) -> bool {
    bytes.contains(&byte)
}

/// Offsets and lengths fit `off_t`.
fn offset(r: &mut Reader<'_>) -> Result<u64, WireError> {
    match r.u64()? {
        v if v <= i64::MAX as u64 => Ok(v),
        value => Err(WireError::BadValue {
            field: "offset",
            value,
        }),
    }
}

fn put_cred(out: &mut Vec<u8>, cred: Cred) {
    out.u32(cred.uid);
    out.u32(cred.gid);
    out.u8(u8::from(cred.drop_privileges));
}

fn get_cred(r: &mut Reader<'_>) -> Result<Cred, WireError> {
    Ok(Cred {
        uid: r.u32()?,
        gid: r.u32()?,
        drop_privileges: r.flag("drop_privileges")?,
    })
}

fn durability(r: &mut Reader<'_>) -> Result<Durability, WireError> {
    Ok(match r.u8()? {
        0 => Durability::Memory,
        1 => Durability::Data,
        2 => Durability::File,
        v => {
            return Err(WireError::BadValue {
                field: "durability",
                value: v.into(),
            });
        }
    })
}

fn put_kind(out: &mut Vec<u8>, kind: Kind<'_>) {
    match kind {
        Kind::File => out.u8(0),
        Kind::Directory => out.u8(1),
        Kind::Symlink(target) => {
            out.u8(2);
            out.bytes(target);
        }
        Kind::Node { format, rdev } => {
            out.u8(3);
            out.u32(format);
            out.u32(rdev);
        }
    }
}

fn get_kind<'a>(r: &mut Reader<'a>) -> Result<Kind<'a>, WireError> {
    Ok(match r.u8()? {
        0 => Kind::File,
        1 => Kind::Directory,
        2 => {
            let target = r.bytes(MAX_TARGET)?;
            if target.is_empty() || has(target, 0) {
                return Err(WireError::BadValue {
                    field: "target",
                    value: target.len() as u64,
                });
            }
            Kind::Symlink(target)
        }
        3 => Kind::Node {
            format: r.u32()?,
            rdev: r.u32()?,
        },
        v => {
            return Err(WireError::BadValue {
                field: "kind",
                value: v.into(),
            });
        }
    })
}

const HAS_MODE: u8 = 1;
const HAS_UID: u8 = 2;
const HAS_GID: u8 = 4;
const HAS_SIZE: u8 = 8;

fn put_set(out: &mut Vec<u8>, set: &AttrSet) {
    let bit = |present: bool, bit: u8| if present { bit } else { 0 };
    out.u8(bit(set.mode.is_some(), HAS_MODE)
        | bit(set.uid.is_some(), HAS_UID)
        | bit(set.gid.is_some(), HAS_GID)
        | bit(set.size.is_some(), HAS_SIZE));
    for v in [set.mode, set.uid, set.gid].into_iter().flatten() {
        out.u32(v);
    }
    if let Some(size) = set.size {
        out.u64(size);
    }
    for time in [set.atime, set.mtime] {
        match time {
            TimeSet::Keep => out.u8(0),
            TimeSet::Now => out.u8(1),
            TimeSet::To(t) => {
                out.u8(2);
                put_time(out, t);
            }
        }
    }
}

fn get_set(r: &mut Reader<'_>) -> Result<AttrSet, WireError> {
    let bits = r.u8()?;
    if bits > 15 {
        return Err(WireError::BadValue {
            field: "attribute bits",
            value: bits.into(),
        });
    }
    let mut word = |bit| {
        if bits & bit != 0 {
            r.u32().map(Some)
        } else {
            Ok(None)
        }
    };
    let (mode, uid, gid) = (word(HAS_MODE)?, word(HAS_UID)?, word(HAS_GID)?);
    let size = if bits & HAS_SIZE != 0 {
        Some(offset(r)?)
    } else {
        None
    };
    Ok(AttrSet {
        mode,
        uid,
        gid,
        size,
        atime: get_time_set(r)?,
        mtime: get_time_set(r)?,
    })
}

fn get_time_set(r: &mut Reader<'_>) -> Result<TimeSet, WireError> {
    Ok(match r.u8()? {
        0 => TimeSet::Keep,
        1 => TimeSet::Now,
        2 => TimeSet::To(get_time(r)?),
        v => {
            return Err(WireError::BadValue {
                field: "time",
                value: v.into(),
            });
        }
    })
}
