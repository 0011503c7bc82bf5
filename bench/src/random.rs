//! A small generator of random numbers (SplitMix64). Seeded with the round and the worker, so that
//! both directories of a round see the same sequence of offsets.

/// The generator's state.
pub(crate) struct Random(u64);

impl Random {
    pub(crate) fn new(round: u64, worker: u64) -> Self {
        Self((round << 32) ^ worker ^ 0x5eed_7a4d)
    }

    pub(crate) fn next(&mut self) -> u64 {
        self.0 = self.0.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let mut mixed = self.0;
        mixed = (mixed ^ (mixed >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        mixed = (mixed ^ (mixed >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        mixed ^ (mixed >> 31)
    }

    /// A number below `bound`, which is far below 2^32, so that the remainder is even enough.
    pub(crate) fn below(&mut self, bound: u64) -> u64 {
        self.next() % bound
    }
}
