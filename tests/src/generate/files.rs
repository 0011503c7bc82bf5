//! Operations on open files: where to write, how much, and which ranges to move.

use super::{Generator, MODES};
use crate::ops::{Op, SLOTS};

impl Generator {
    pub(super) fn data(&mut self) -> Op {
        let slot = self.slot();
        let (at, len, fill) = (self.offset(), self.len(), self.rng.below(256) as u8);
        match self.rng.below(14) {
            0..=1 => Op::Write { slot, len, fill },
            2..=4 => Op::Pwrite {
                slot,
                at,
                len,
                fill,
            },
            5 => {
                let lens = [self.len(), self.len(), self.len()];
                let at = self.rng.chance(50).then_some(at);
                Op::Writev {
                    slot,
                    at,
                    lens,
                    fill,
                }
            }
            6 => Op::Read { slot, len },
            7..=8 => Op::Pread { slot, at, len },
            9 => {
                let whence = *self
                    .rng
                    .pick(&[libc::SEEK_SET, libc::SEEK_CUR, libc::SEEK_END]);
                Op::Seek {
                    slot,
                    at: at as i64 - 4096,
                    whence,
                }
            }
            10 => Op::KeepMap { slot },
            11..=12 => {
                let sync = self.rng.chance(40);
                Op::Store {
                    slot,
                    at: at / 4,
                    len,
                    fill,
                    sync,
                }
            }
            _ => Op::Load {
                slot,
                at: at / 4,
                len,
            },
        }
    }

    pub(super) fn ranges(&mut self) -> Op {
        let slot = self.slot();
        let at = self.offset();
        match self.rng.below(10) {
            0..=1 => Op::Ftruncate {
                slot,
                len: at as i64 - 1,
            },
            2 => Op::Truncate {
                path: self.old(),
                len: at as i64,
            },
            3..=5 => {
                let mode = *self.rng.pick(&[
                    0,
                    libc::FALLOC_FL_KEEP_SIZE,
                    libc::FALLOC_FL_KEEP_SIZE | libc::FALLOC_FL_PUNCH_HOLE,
                    libc::FALLOC_FL_ZERO_RANGE,
                    libc::FALLOC_FL_ZERO_RANGE | libc::FALLOC_FL_KEEP_SIZE,
                    libc::FALLOC_FL_COLLAPSE_RANGE,
                    libc::FALLOC_FL_INSERT_RANGE,
                ]);
                let shifts = libc::FALLOC_FL_COLLAPSE_RANGE | libc::FALLOC_FL_INSERT_RANGE;
                let mode = if self.features.shifts {
                    mode
                } else {
                    mode & !shifts
                };
                let whole_blocks = mode & libc::FALLOC_FL_COLLAPSE_RANGE != 0
                    || mode & libc::FALLOC_FL_INSERT_RANGE != 0;
                let unit = if whole_blocks && self.rng.chance(90) {
                    4096
                } else {
                    1
                };
                let len = (self.len() as i64 / unit).max(1) * unit;
                Op::Fallocate {
                    slot,
                    mode,
                    at: at as i64 / unit * unit,
                    len,
                }
            }
            6..=7 => {
                let (to, to_at, len) = (self.slot(), self.offset(), self.len());
                Op::CopyRange {
                    from: slot,
                    at,
                    to,
                    to_at,
                    len,
                }
            }
            _ => Op::SeekData {
                slot,
                at,
                hole: self.rng.chance(50),
            },
        }
    }

    pub(super) fn on_slot(&mut self) -> Op {
        let slot = self.slot();
        match self.rng.below(12) {
            0..=2 => Op::Close { slot },
            3 => Op::Fsync { slot },
            4 => Op::Fdatasync { slot },
            5 => Op::Syncfs { slot },
            6..=8 => Op::Fstat { slot },
            9 => Op::Fchmod {
                slot,
                mode: *self.rng.pick(&MODES),
            },
            10 => {
                let (uid, gid) = self.ids();
                Op::Fchown { slot, uid, gid }
            }
            _ => Op::LinkOpen {
                slot,
                path: self.any(),
            },
        }
    }

    /// Mostly an open descriptor, and mostly one that can be written.
    fn slot(&mut self) -> usize {
        if self.rng.chance(4) {
            return self.rng.index(SLOTS);
        }
        let writable_only = self.rng.chance(85);
        let open = self
            .open
            .iter()
            .filter(|(_, writable)| **writable || !writable_only);
        let open: Vec<usize> = open.map(|(slot, _)| *slot).collect();
        if open.is_empty() {
            self.rng.index(SLOTS)
        } else {
            *self.rng.pick(&open)
        }
    }

    /// Offsets like the edges of blocks and pages, sometimes far away.
    fn offset(&mut self) -> u64 {
        let block = match self.rng.below(20) {
            0 => self.rng.below(1 << 20),
            1..=3 => self.rng.below(300),
            _ => self.rng.below(24),
        };
        let edge = [0, 0, 1, 4095, 2048, 17, 511][self.rng.index(7)];
        block * 4096 + edge
    }

    fn len(&mut self) -> usize {
        match self.rng.below(12) {
            0 => 0,
            1..=3 => 1 + self.rng.index(20),
            4..=7 => 1 + self.rng.index(9000),
            8..=9 => 4096 << self.rng.below(4),
            _ => 1 + self.rng.index(140_000),
        }
    }
}
