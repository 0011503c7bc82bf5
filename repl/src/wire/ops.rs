//! Bodies of operation frames.

use super::fields::{
    durability, get_checked, get_cred, get_kind, get_set, get_uid, id, name, offset, piece,
    put_checked, put_cred, put_kind, put_set, put_uid, xattr_name,
};
use super::raw::{Put, Reader, WireError};
use crate::limits::{MAX_DATA, MAX_XATTR};
use crate::op::Op;

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
        Op::Check { .. } => 31,
        Op::Fetch { .. } => 32,
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
            uid,
            parent,
            name,
            kind,
            mode,
            umask,
            cred,
        } => {
            out.u64(id.0);
            put_uid(out, uid);
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
        Op::SetXattr { .. } => put_set_xattr(out, op),
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
        Op::Check { .. } | Op::Fetch { .. } => put_question(out, op),
    }
}

fn put_question(out: &mut Vec<u8>, op: &Op<'_>) {
    match *op {
        Op::Check { id, what, hash } => {
            out.u64(id.0);
            put_checked(out, what);
            out.extend_from_slice(&hash);
        }
        Op::Fetch { id, offset, len } => {
            out.u64(id.0);
            out.u64(offset);
            out.u32(len);
        }
        _ => {}
    }
}

fn put_set_xattr(out: &mut Vec<u8>, op: &Op<'_>) {
    if let Op::SetXattr {
        id,
        name,
        value,
        flags,
        clear_setgid,
    } = *op
    {
        out.u64(id.0);
        out.bytes(name);
        out.bytes(value);
        out.u32(flags.cast_unsigned());
        out.u8(u8::from(clear_setgid));
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
            uid: get_uid(r)?,
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
        31 => Op::Check {
            id: id(r)?,
            what: get_checked(r)?,
            hash: r.array()?,
        },
        32 => Op::Fetch {
            id: id(r)?,
            offset: offset(r)?,
            len: piece(r)?,
        },
        kind => return Err(WireError::UnknownKind(kind)),
    })
}
