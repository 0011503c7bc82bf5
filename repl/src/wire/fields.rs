//! Fields of operations: checked once here, so that nothing downstream has to doubt them.

use super::frame::{get_time, put_time};
use super::raw::{Put, Reader, WireError};
use crate::ids::{FileId, Uid};
use crate::limits::{MAX_CHECK, MAX_DATA, MAX_NAME, MAX_TARGET};
use crate::op::{AttrSet, Checked, Cred, Durability, Kind, Privileges, TimeSet};

pub(super) fn id(r: &mut Reader<'_>) -> Result<FileId, WireError> {
    match r.u64()? {
        0 => Err(WireError::BadValue {
            field: "file id",
            value: 0,
        }),
        v => Ok(FileId(v)),
    }
}

pub(super) fn put_uid(out: &mut Vec<u8>, uid: Uid) {
    out.u64(uid.origin);
    out.u64(uid.number);
}

pub(super) fn get_uid(r: &mut Reader<'_>) -> Result<Uid, WireError> {
    Ok(Uid {
        origin: r.u64()?,
        number: r.u64()?,
    })
}

/// One path component: not empty, not `.` or `..`, no `/` and no zero byte, so that no frame can
/// lead out of the replicated directory.
pub(super) fn name<'a>(r: &mut Reader<'a>) -> Result<&'a [u8], WireError> {
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

pub(super) fn xattr_name<'a>(r: &mut Reader<'a>) -> Result<&'a [u8], WireError> {
    let name = r.bytes(MAX_NAME)?;
    if name.is_empty() || has(name, 0) {
        return Err(WireError::BadValue {
            field: "attribute name",
            value: name.len() as u64,
        });
    }
    Ok(name)
}

pub(super) fn has(bytes: &[u8], byte: u8) -> bool {
    bytes.contains(&byte)
}

/// Offsets and lengths fit `off_t`.
pub(super) fn offset(r: &mut Reader<'_>) -> Result<u64, WireError> {
    match r.u64()? {
        v if v <= i64::MAX as u64 => Ok(v),
        value => Err(WireError::BadValue {
            field: "offset",
            value,
        }),
    }
}

/// Length of what is to be read and sent back.
pub(super) fn piece(r: &mut Reader<'_>) -> Result<u32, WireError> {
    bounded(r, MAX_DATA)
}

fn bounded(r: &mut Reader<'_>, limit: usize) -> Result<u32, WireError> {
    match r.u32()? {
        v if v as usize <= limit => Ok(v),
        v => Err(WireError::TooLong {
            len: v as usize,
            limit,
        }),
    }
}

pub(super) fn put_checked(out: &mut Vec<u8>, what: Checked) {
    match what {
        Checked::Data { offset, len } => {
            out.u8(0);
            out.u64(offset);
            out.u32(len);
        }
        Checked::Attrs { times } => {
            out.u8(1);
            out.u8(u8::from(times));
        }
        Checked::Names => out.u8(2),
    }
}

pub(super) fn get_checked(r: &mut Reader<'_>) -> Result<Checked, WireError> {
    match r.u8()? {
        0 => Ok(Checked::Data {
            offset: offset(r)?,
            len: bounded(r, MAX_CHECK)?,
        }),
        1 => Ok(Checked::Attrs {
            times: r.flag("times")?,
        }),
        2 => Ok(Checked::Names),
        value => Err(WireError::BadValue {
            field: "what is compared",
            value: value.into(),
        }),
    }
}

pub(super) fn put_cred(out: &mut Vec<u8>, cred: Cred) {
    out.u32(cred.uid);
    out.u32(cred.gid);
    out.u8(cred.privileges as u8);
}

pub(super) fn get_cred(r: &mut Reader<'_>) -> Result<Cred, WireError> {
    let (uid, gid) = (r.u32()?, r.u32()?);
    let privileges = match r.u8()? {
        0 => Privileges::AsRoot,
        1 => Privileges::Drop,
        2 => Privileges::DropAsMember,
        3 => Privileges::Keep,
        v => {
            return Err(WireError::BadValue {
                field: "privileges",
                value: v.into(),
            });
        }
    };
    Ok(Cred {
        uid,
        gid,
        privileges,
    })
}

pub(super) fn durability(r: &mut Reader<'_>) -> Result<Durability, WireError> {
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

pub(super) fn put_kind(out: &mut Vec<u8>, kind: Kind<'_>) {
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

pub(super) fn get_kind<'a>(r: &mut Reader<'a>) -> Result<Kind<'a>, WireError> {
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

pub(super) fn put_set(out: &mut Vec<u8>, set: &AttrSet) {
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

pub(super) fn get_set(r: &mut Reader<'_>) -> Result<AttrSet, WireError> {
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

pub(super) fn get_time_set(r: &mut Reader<'_>) -> Result<TimeSet, WireError> {
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
