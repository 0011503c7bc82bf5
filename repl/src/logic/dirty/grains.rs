//! The grains of a file, in chunks: how large they are, when each was used, which the journal has.

/// First byte beyond all offsets.
pub(super) const END: u64 = 1 << 63;
/// Grains of a chunk.
pub(super) const CHUNK: u64 = 16;
/// Grains are 64 KiB to 16 MiB, so that a file has at most `GRAINS`.
const SMALLEST: u8 = 16;
const LARGEST: u8 = 24;
const GRAINS: u64 = 16 << 10;
/// Only a file of more than this many of the largest has larger ones still, as do those of a map
/// that is too large.
pub(super) const MOST_GRAINS: u64 = 1 << 20;
/// And one that is marked beyond its end: all offsets fit a chunk.
const WHOLE: u8 = 59;
/// No file is that large, bytes: who reaches that is marked beyond its end, or was when a journal
/// was written.
const ENDLESS: u64 = 1 << 58;

pub(super) struct Chunk {
    /// First grain, in chunks.
    pub(super) index: u32,
    pub(super) kept: u16,
    /// The journal's number of the last record about this chunk.
    pub(super) seq: u64,
    pub(super) used: [u32; CHUNK as usize],
}

impl Chunk {
    pub(super) fn new(index: u64) -> Self {
        Self {
            // At most `MOST_GRAINS` and a run ahead of them.
            index: index as u32,
            kept: 0,
            seq: 0,
            used: [0; CHUNK as usize],
        }
    }
}

/// Bits `from..to`.
pub(super) fn bits(from: u64, to: u64) -> u16 {
    (((1_u32 << (to - from)) - 1) << from) as u16
}

/// How fine a file of this many bytes is marked.
pub(super) fn shift_for(extent: u64) -> u8 {
    if extent >= ENDLESS {
        return WHOLE;
    }
    let mut shift = SMALLEST;
    while shift < LARGEST && extent >> shift > GRAINS {
        shift += 2;
    }
    while extent >> shift > MOST_GRAINS {
        shift += 1;
    }
    shift
}
