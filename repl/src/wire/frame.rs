//! The frame around a message.

use super::control::Control;
use super::ops::{get_op, kind_of, put_op};
use super::raw::{Put, Reader, WireError};
use crate::ids::{DirId, OpSeq};
use crate::limits::{MAX_BODY, MAX_CONTROL, MAX_DATA};
use crate::logic::resync::messages::{Reply, Request};
use crate::op::{Op, Timespec};

/// Bytes of the fixed header.
pub const HEADER: usize = 16;

pub(super) const KIND_CONTROL: u8 = 1;
pub(super) const KIND_ACK: u8 = 2;
pub(super) const KIND_DATA: u8 = 5;
pub(super) const KIND_REQUEST: u8 = 3;
pub(super) const KIND_REPLY: u8 = 4;

/// The fixed header, already checked for length and kind range.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct FrameHeader {
    pub body_len: usize,
    kind: u8,
    dir: DirId,
    seq: OpSeq,
}

/// A decoded frame; names and data borrow from the received bytes.
#[derive(Debug, PartialEq)]
pub struct Frame<'a> {
    pub seq: OpSeq,
    pub message: Message<'a>,
}

#[derive(Debug, PartialEq)]
// Operations are the common case and are never stored: boxing them would cost each an allocation.
#[allow(clippy::large_enum_variant)]
pub enum Message<'a> {
    Control(Box<Control>),
    /// The operation with the frame's number is done here; `errno` 0 is success.
    Ack {
        errno: i32,
    },
    /// Answer to [`Op::Fetch`] with the frame's number.
    Data(&'a [u8]),
    Op {
        dir: DirId,
        op: Op<'a>,
    },
    /// Of the resync's source; the frame's number is the request's.
    Request(Box<Request>),
    /// To the request with the frame's number.
    Reply(Box<Reply>),
}

impl FrameHeader {
    /// Checks a header before its body is waited for.
    ///
    /// # Errors
    /// Too long a body, or a byte that must be zero and is not.
    pub fn parse(bytes: &[u8; HEADER]) -> Result<Self, WireError> {
        let mut r = Reader(bytes);
        let body_len = r.u32()? as usize;
        let kind = r.u8()?;
        let zero = r.u8()?;
        let dir = DirId(r.u16()?);
        let seq = OpSeq(r.u64()?);
        let limit = if kind == KIND_CONTROL {
            MAX_CONTROL
        } else {
            MAX_BODY
        };
        if body_len > limit {
            return Err(WireError::TooLong {
                len: body_len,
                limit,
            });
        }
        if zero != 0 {
            return Err(WireError::BadValue {
                field: "reserved byte",
                value: zero.into(),
            });
        }
        Ok(Self {
            body_len,
            kind,
            dir,
            seq,
        })
    }

    /// Decodes the body that belongs to this header.
    ///
    /// # Errors
    /// Anything that is not exactly one message.
    pub fn decode<'a>(&self, body: &'a [u8]) -> Result<Frame<'a>, WireError> {
        let mut r = Reader(body);
        let message = match self.kind {
            KIND_CONTROL => Message::Control(Box::new(Control::decode(r.0)?)),
            KIND_ACK => {
                let errno = r.u32()?.cast_signed();
                r.end()?;
                Message::Ack { errno }
            }
            KIND_DATA => {
                let data = r.bytes(MAX_DATA)?;
                r.end()?;
                Message::Data(data)
            }
            KIND_REQUEST => Message::Request(Box::new(Request::decode(r.0)?)),
            KIND_REPLY => Message::Reply(Box::new(Reply::decode(r.0)?)),
            kind => {
                let op = get_op(kind, &mut r)?;
                r.end()?;
                Message::Op { dir: self.dir, op }
            }
        };
        Ok(Frame {
            seq: self.seq,
            message,
        })
    }
}

pub(super) fn get_time(r: &mut Reader<'_>) -> Result<Timespec, WireError> {
    let sec = r.u64()?.cast_signed();
    let nsec = r.u32()?;
    if nsec >= 1_000_000_000 {
        return Err(WireError::BadValue {
            field: "nanoseconds",
            value: nsec.into(),
        });
    }
    Ok(Timespec { sec, nsec })
}

pub(super) fn put_time(out: &mut Vec<u8>, t: Timespec) {
    out.u64(t.sec.cast_unsigned());
    out.u32(t.nsec);
}

/// Writes a header with a length to be filled in, then the body, then the length.
fn framed(
    out: &mut Vec<u8>,
    (kind, dir, seq): (u8, DirId, OpSeq),
    body: impl FnOnce(&mut Vec<u8>),
) {
    let start = out.len();
    out.u32(0);
    out.u8(kind);
    out.u8(0);
    out.u16(dir.0);
    out.u64(seq.0);
    body(out);
    let len = out.len() - start - HEADER;
    assert!(
        len <= MAX_BODY,
        "callers keep names and data within limits.rs"
    );
    let len = u32::try_from(len).expect("MAX_BODY is far below 4 GiB");
    out[start..start + 4].copy_from_slice(&len.to_le_bytes());
}

/// Appends an operation's frame to `out`.
pub fn encode_op(out: &mut Vec<u8>, dir: DirId, seq: OpSeq, op: &Op<'_>) {
    framed(out, (kind_of(op), dir, seq), |out| put_op(out, op));
}

/// Appends an acknowledgement's frame to `out`.
pub fn encode_ack(out: &mut Vec<u8>, seq: OpSeq, errno: i32) {
    framed(out, (KIND_ACK, DirId(0), seq), |out| {
        out.u32(errno.cast_unsigned());
    });
}

/// Appends the frame of an answer to [`Op::Fetch`].
pub fn encode_data(out: &mut Vec<u8>, seq: OpSeq, data: &[u8]) {
    framed(out, (KIND_DATA, DirId(0), seq), |out| out.bytes(data));
}

/// Appends a control message's frame to `out`.
pub fn encode_control(out: &mut Vec<u8>, control: &Control) {
    framed(out, (KIND_CONTROL, DirId(0), OpSeq(0)), |out| {
        control.encode(out);
    });
}

/// Appends the frame of a request of the resync to `out`.
pub fn encode_request(out: &mut Vec<u8>, number: u64, request: &Request) {
    framed(out, (KIND_REQUEST, DirId(0), OpSeq(number)), |out| {
        request.encode(out);
    });
}

/// Appends the frame of a reply of the resync to `out`.
pub fn encode_reply(out: &mut Vec<u8>, number: u64, reply: &Reply) {
    framed(out, (KIND_REPLY, DirId(0), OpSeq(number)), |out| {
        reply.encode(out);
    });
}
