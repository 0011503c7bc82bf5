//! Little-endian fields with bounds: the only place that turns bytes into numbers.

use thiserror::Error;

/// Why bytes are not a frame.
#[derive(Debug, Error, PartialEq, Eq)]
pub enum WireError {
    #[error("frame ends inside a field")]
    Short,
    #[error("{0} bytes are left over after the last field")]
    Trailing(usize),
    #[error("frame of {len} bytes, the limit is {limit}")]
    TooLong { len: usize, limit: usize },
    #[error("unknown frame kind {0}")]
    UnknownKind(u8),
    #[error("{field} has the value {value}, which is not allowed")]
    BadValue { field: &'static str, value: u64 },
    #[error("control message does not decode")]
    Control,
    #[error("message of the resync does not decode, or a value in it is not allowed")]
    Resync,
    #[error("probe of a path that this session's peer did not send")]
    Proof,
}

/// Reads fields from the front of a slice.
pub(super) struct Reader<'a>(pub(super) &'a [u8]);

impl<'a> Reader<'a> {
    pub(super) fn array<const N: usize>(&mut self) -> Result<[u8; N], WireError> {
        let (head, rest) = self.0.split_first_chunk::<N>().ok_or(WireError::Short)?;
        self.0 = rest;
        Ok(*head)
    }

    pub(super) fn u8(&mut self) -> Result<u8, WireError> {
        Ok(self.array::<1>()?[0])
    }

    pub(super) fn u16(&mut self) -> Result<u16, WireError> {
        Ok(u16::from_le_bytes(self.array()?))
    }

    pub(super) fn u32(&mut self) -> Result<u32, WireError> {
        Ok(u32::from_le_bytes(self.array()?))
    }

    pub(super) fn u64(&mut self) -> Result<u64, WireError> {
        Ok(u64::from_le_bytes(self.array()?))
    }

    /// A slice with its length before it, at most `limit` bytes.
    pub(super) fn bytes(&mut self, limit: usize) -> Result<&'a [u8], WireError> {
        let len = self.u32()? as usize;
        if len > limit {
            return Err(WireError::TooLong { len, limit });
        }
        let (head, rest) = self.0.split_at_checked(len).ok_or(WireError::Short)?;
        self.0 = rest;
        Ok(head)
    }

    /// A flag byte: 0 or 1.
    pub(super) fn flag(&mut self, field: &'static str) -> Result<bool, WireError> {
        match self.u8()? {
            0 => Ok(false),
            1 => Ok(true),
            v => Err(WireError::BadValue {
                field,
                value: v.into(),
            }),
        }
    }

    pub(super) fn end(self) -> Result<(), WireError> {
        if self.0.is_empty() {
            Ok(())
        } else {
            Err(WireError::Trailing(self.0.len()))
        }
    }
}

/// Appends fields to a buffer.
pub(super) trait Put {
    fn u8(&mut self, v: u8);
    fn u16(&mut self, v: u16);
    fn u32(&mut self, v: u32);
    fn u64(&mut self, v: u64);
    fn bytes(&mut self, v: &[u8]);
}

impl Put for Vec<u8> {
    fn u8(&mut self, v: u8) {
        self.push(v);
    }
    fn u16(&mut self, v: u16) {
        self.extend_from_slice(&v.to_le_bytes());
    }
    fn u32(&mut self, v: u32) {
        self.extend_from_slice(&v.to_le_bytes());
    }
    fn u64(&mut self, v: u64) {
        self.extend_from_slice(&v.to_le_bytes());
    }
    fn bytes(&mut self, v: &[u8]) {
        let len = u32::try_from(v.len()).expect("callers bound their slices far below 4 GiB");
        Put::u32(self, len);
        self.extend_from_slice(v);
    }
}
