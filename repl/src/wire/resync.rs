//! Requests and replies of the resync: postcard, and then every value is compared with its bounds.

use super::raw::WireError;
use crate::logic::resync::messages::{Reply, Request};
use serde::Serialize;
use serde::de::DeserializeOwned;

fn encode<T: Serialize>(value: &T, out: &mut Vec<u8>) {
    let taken = std::mem::take(out);
    *out = postcard::to_extend(value, taken).expect("plain data always encodes");
}

fn decode<T: DeserializeOwned>(bytes: &[u8], is_sane: fn(&T) -> bool) -> Result<T, WireError> {
    let (value, rest) = postcard::take_from_bytes(bytes).map_err(|_| WireError::Resync)?;
    if !rest.is_empty() {
        return Err(WireError::Trailing(rest.len()));
    }
    if is_sane(&value) {
        Ok(value)
    } else {
        Err(WireError::Resync)
    }
}

impl Request {
    pub(super) fn encode(&self, out: &mut Vec<u8>) {
        encode(self, out);
    }

    pub(super) fn decode(bytes: &[u8]) -> Result<Self, WireError> {
        decode(bytes, Self::is_sane)
    }
}

impl Reply {
    pub(super) fn encode(&self, out: &mut Vec<u8>) {
        encode(self, out);
    }

    pub(super) fn decode(bytes: &[u8]) -> Result<Self, WireError> {
        decode(bytes, Self::is_sane)
    }
}
