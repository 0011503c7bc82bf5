//! Marks of one file: grains of its data and its attributes, each with the generation of its last
//! use and whether the journal has it.

use super::Record;
use super::grains::{CHUNK, Chunk, END, MOST_GRAINS, bits, shift_for};
use crate::ids::{DirId, Key, Uid};

/// What is marked ahead of a run, at most, bytes.
const RUN: u64 = 64 << 20;
/// What keeping a mark of attributes counts as, bytes.
const META: u64 = 4096;
/// What is marked at once: a part of the file, within these bounds. A flush saved now is worth
/// more than bytes to be compared after a crash.
const PART: u64 = 64;
const LEAST: u64 = 1 << 20;
const MOST: u64 = 16 << 20;
/// So many marks of one size, then larger ones: a file that is written all over is soon covered.
const MISSES: u32 = 32;

pub(super) struct File {
    pub(super) uid: Uid,
    pub(super) place: Option<(Key, Box<[u8]>)>,
    /// The place is what a journal said; the file may have been renamed since.
    pub(super) doubt: bool,
    meta_used: u32,
    meta_kept: bool,
    meta_seq: u64,
    /// Grains are `1 << shift` bytes.
    shift: u8,
    /// Sorted by index.
    chunks: Vec<Chunk>,
    /// Marks made since the last checkpoint.
    misses: u32,
    /// Largest end that was seen, bytes.
    extent: u64,
    /// Where the last mark ended, and how much it was, in grains.
    run_end: u64,
    run: u64,
}

/// What came of touching a file.
#[derive(Clone, Copy, Default)]
pub(super) struct Touched {
    /// Bytes of grains not touched before in this generation.
    pub(super) fresh: u64,
    /// The journal does not have all of it.
    pub(super) missing: bool,
    /// What it has is durable with this number.
    pub(super) seq: u64,
}

impl File {
    pub(super) fn new(uid: Uid, extent: u64) -> Self {
        Self {
            uid,
            place: None,
            doubt: false,
            meta_used: 0,
            meta_kept: false,
            meta_seq: 0,
            shift: shift_for(extent),
            chunks: Vec::new(),
            misses: 0,
            extent,
            run_end: u64::MAX,
            run: 0,
        }
    }

    pub(super) fn chunks(&self) -> usize {
        self.chunks.len()
    }

    /// The directory it is in for certain.
    pub(super) fn parent(&self) -> Option<Key> {
        let place = self.place.as_ref().filter(|_| !self.doubt);
        place.map(|(parent, _)| *parent)
    }

    pub(super) fn set_place(&mut self, place: Option<(Key, &[u8])>) {
        let Some((parent, name)) = place else { return };
        self.doubt = false;
        let same = |(p, n): &(Key, Box<[u8]>)| *p == parent && **n == *name;
        if !self.place.as_ref().is_some_and(same) {
            self.place = Some((parent, name.into()));
        }
    }

    /// What a journal says of it. It counts as touched, and the journal does not have it: the next
    /// snapshot will.
    pub(super) fn replay(
        &mut self,
        generation: u32,
        place: Option<(Key, &[u8])>,
        ranges: &[(u64, u64)],
    ) {
        self.set_place(place);
        self.doubt = place.is_some();
        self.touch_meta(generation);
        for (offset, len) in ranges {
            let end = offset.saturating_add(*len).min(END);
            if *offset < end {
                self.touch(generation, *offset, end);
            }
        }
    }

    fn grains(&self, offset: u64, end: u64) -> (u64, u64) {
        (offset >> self.shift, ((end - 1) >> self.shift) + 1)
    }

    /// Attributes are about to change.
    pub(super) fn touch_meta(&mut self, generation: u32) -> Touched {
        self.meta_used = generation;
        let (missing, seq) = self.has_meta();
        Touched {
            fresh: 0,
            missing,
            seq,
        }
    }

    /// Attributes come with every mark of the file.
    fn has_meta(&self) -> (bool, u64) {
        if self.meta_kept {
            return (false, self.meta_seq);
        }
        (true, 0)
    }

    /// The bytes from `offset` to `end` are about to change; there is at least one.
    pub(super) fn touch(&mut self, generation: u32, offset: u64, end: u64) -> Touched {
        let needed = shift_for(end);
        if needed > self.shift {
            self.regrain(needed);
        }
        let (first, last) = self.grains(offset, end);
        let mut touched = Touched::default();
        let shift = self.shift;
        for chunk in self.span(first, last) {
            let base = u64::from(chunk.index) * CHUNK;
            let from = first.max(base) - base;
            let to = last.min(base + CHUNK) - base;
            for used in &mut chunk.used[from as usize..to as usize] {
                if *used != generation {
                    *used = generation;
                    touched.fresh += 1 << shift;
                }
            }
            touched.missing |= chunk.kept & bits(from, to) != bits(from, to);
            touched.seq = touched.seq.max(chunk.seq);
        }
        touched
    }

    /// The chunks of a range of grains, made where there are none.
    fn span(&mut self, first: u64, last: u64) -> &mut [Chunk] {
        let (low, high) = (first / CHUNK, last.div_ceil(CHUNK));
        let index = |c: &Chunk| u64::from(c.index);
        let from = self.chunks.partition_point(|c| index(c) < low);
        let wanted = (high - low) as usize;
        let there = |at: usize| self.chunks.get(at).is_some_and(|c| index(c) == high - 1);
        if !there(from + wanted - 1) {
            let to = self.chunks.partition_point(|c| index(c) < high);
            if wanted == 1 {
                self.chunks.insert(from, Chunk::new(low));
            } else {
                let mut old = self.chunks.drain(from..to).peekable();
                let all: Vec<_> = (low..high)
                    .map(|n| {
                        old.next_if(|c| index(c) == n)
                            .unwrap_or_else(|| Chunk::new(n))
                    })
                    .collect();
                drop(old);
                self.chunks.splice(from..from, all);
            }
        }
        &mut self.chunks[from..from + wanted]
    }

    /// Makes a mark of what was touched and the journal does not have, and perhaps more around it.
    /// Returns the range in bytes.
    pub(super) fn mark(&mut self, (offset, end, size): (u64, u64, u64), seq: u64) -> (u64, u64) {
        let (first, last) = self.grains(offset, end);
        let most = (MOST_GRAINS << self.shift.min(43)).min(END);
        self.extent = self.extent.max(size).max(end).min(most);
        let (_, whole) = self.grains(0, self.extent);
        // A file that goes on missing is marked ever wider.
        let unit = (self.extent / PART).next_power_of_two().clamp(LEAST, MOST) >> self.shift;
        let wide = unit.max(1) << (2 * (self.misses / MISSES)).min(20);
        self.misses += 1;
        let low = first / wide * wide;
        let around = last.next_multiple_of(wide).min(whole);
        // Who goes on where the last mark ended is marked ahead.
        let most = (RUN >> self.shift).max(1);
        self.run = if first <= self.run_end && self.run_end < last {
            (self.run * 2).clamp(1, most)
        } else {
            (last - first).min(most)
        };
        let high = last.max(around).max(first + self.run);
        self.run_end = high;
        self.keep(low, high, seq);
        (low << self.shift, (high - low) << self.shift)
    }

    fn keep(&mut self, low: u64, high: u64, seq: u64) {
        for chunk in self.span(low, high) {
            let base = u64::from(chunk.index) * CHUNK;
            chunk.kept |= bits(low.max(base) - base, high.min(base + CHUNK) - base);
            chunk.seq = seq;
        }
        self.keep_meta(seq);
    }

    pub(super) fn keep_meta(&mut self, seq: u64) {
        self.meta_kept = true;
        self.meta_seq = seq;
    }

    /// Makes grains of `1 << shift` bytes. What the journal has only part of it has not.
    pub(super) fn regrain(&mut self, shift: u8) {
        let by = shift - self.shift;
        let old = std::mem::take(&mut self.chunks);
        self.shift = shift;
        (self.run_end, self.run) = (u64::MAX, 0);
        let mut at = (u64::MAX, 0_u64);
        for chunk in old {
            for (n, used) in chunk.used.iter().enumerate() {
                let kept = chunk.kept & (1 << n) != 0;
                if *used == 0 && !kept {
                    continue;
                }
                let grain = (u64::from(chunk.index) * CHUNK + n as u64) >> by;
                if at.0 != grain {
                    at = (grain, 0);
                }
                at.1 += u64::from(kept);
                let whole = at.1 == 1 << by;
                let new = &mut self.span(grain, grain + 1)[0];
                let n = (grain % CHUNK) as usize;
                new.used[n] = new.used[n].max(*used);
                new.kept |= u16::from(whole) << n;
                new.seq = new.seq.max(chunk.seq);
            }
        }
    }

    /// Makes grains larger until there are at most so many chunks.
    pub(super) fn shrink(&mut self, chunks: usize) {
        while self.chunks.len() > chunks && self.shift < 62 {
            self.regrain(self.shift + 1);
        }
    }

    /// Whether anything was touched in this generation or after.
    pub(super) fn used_since(&self, generation: u32) -> bool {
        self.meta_used >= generation || self.grains_used().any(|(_, used)| used >= generation)
    }

    fn grains_used(&self) -> impl Iterator<Item = (u64, u32)> {
        self.chunks.iter().flat_map(|chunk| {
            let base = u64::from(chunk.index) * CHUNK;
            let used = chunk.used.iter().enumerate();
            used.map(move |(n, used)| (base + n as u64, *used))
        })
    }

    /// What was touched in this generation or after, offsets and lengths.
    pub(super) fn ranges_since(&self, generation: u32) -> Vec<(u64, u64)> {
        let grains = self.grains_used();
        self.joined(
            grains
                .filter(|(_, used)| *used >= generation)
                .map(|(g, _)| g),
        )
    }

    fn joined(&self, grains: impl Iterator<Item = u64>) -> Vec<(u64, u64)> {
        let grain = 1 << self.shift;
        let mut ranges: Vec<(u64, u64)> = Vec::new();
        for n in grains {
            match ranges.last_mut() {
                Some((offset, len)) if *offset + *len == n << self.shift => *len += grain,
                _ => ranges.push((n << self.shift, grain)),
            }
        }
        ranges
    }

    /// Forgets what was last touched before `generation`, but for what the journal has of chunks
    /// used in the generation `warm` or after, or ahead of a run that went on then, as long as
    /// there is room for such bytes. False if nothing is left.
    pub(super) fn drop_before(&mut self, generation: u32, warm: u32, room: &mut u64) -> bool {
        self.misses = 0;
        let grain = 1_u64 << self.shift;
        let ahead = self.run_end.saturating_sub(self.run)..self.run_end;
        let runs = self
            .grains_used()
            .any(|(n, used)| used >= warm && ahead.contains(&n));
        self.chunks.retain_mut(|chunk| {
            let base = u64::from(chunk.index) * CHUNK;
            let ahead = runs && base < ahead.end && base + CHUNK > ahead.start;
            let last = chunk.used.iter().copied().max().unwrap_or(0);
            let last = if ahead { last.max(warm) } else { last };
            let mut cold = 0_u16;
            for (n, used) in chunk.used.iter_mut().enumerate() {
                if *used < generation {
                    *used = 0;
                    cold |= 1 << n;
                }
            }
            let idle = u64::from((chunk.kept & cold).count_ones()) * grain;
            if last >= warm && idle <= *room {
                *room -= idle;
            } else {
                chunk.kept &= !cold;
            }
            last >= generation || chunk.kept != 0
        });
        if self.meta_used < generation {
            let stays = self.meta_kept && self.meta_used >= warm && *room >= META;
            *room -= if stays { META } else { 0 };
            self.meta_kept &= stays || !self.chunks.is_empty();
            self.meta_used = 0;
        }
        self.meta_used >= generation || self.meta_kept || !self.chunks.is_empty()
    }

    /// What the journal is to have of this file from the number `seq` on: all that was touched, and
    /// what it has already; nothing if the file is `covered` by something else.
    pub(super) fn snapshot(
        &mut self,
        (dir, key): (DirId, Key),
        covered: bool,
        (floor, seq): (u32, u64),
    ) -> Option<Record> {
        if covered {
            self.meta_kept = false;
            self.chunks.iter_mut().for_each(|c| c.kept = 0);
            return None;
        }
        for chunk in &mut self.chunks {
            for (n, used) in chunk.used.iter().enumerate() {
                chunk.kept |= u16::from(*used >= floor) << n;
            }
            chunk.seq = seq;
        }
        let kept = self.chunks.iter().flat_map(|chunk| {
            let base = u64::from(chunk.index) * CHUNK;
            (0..CHUNK)
                .filter(|n| chunk.kept & (1 << n) != 0)
                .map(move |n| base + n)
        });
        let ranges = self.joined(kept);
        if ranges.is_empty() && !self.meta_kept && self.meta_used < floor {
            return None;
        }
        self.keep_meta(seq);
        Some(Record::File {
            dir,
            key,
            uid: self.uid,
            place: self.place.clone(),
            ranges,
        })
    }
}
