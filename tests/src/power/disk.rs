//! A virtual disk with a volatile write cache, as real disks have one.
//!
//! What is written lies in the cache until a flush brings it to the medium. When the power is cut,
//! the cache is gone but for what the disk happened to have written before, in any order: a seeded
//! choice among blocks, or among single sectors. A flush that somebody forgot is a loss here,
//! while an ordinary virtual disk would keep the write in the page cache of the host.

use crate::rng::Rng;
use std::collections::BTreeMap;
use std::fmt;
use std::fs::File;
use std::io;
use std::os::unix::fs::FileExt;
use std::time::{Duration, Instant};

/// A disk writes a sector wholly or not at all.
const SECTOR: usize = 512;
const BLOCK: usize = 4096;
const SECTORS: usize = BLOCK / SECTOR;
/// The block with ext4's superblock, which is never torn: the kernel checks its sum before it reads
/// the journal that would mend it, so ext4 needs a disk that writes these two sectors at once. Real
/// ones do, whose physical sector is a block.
const SUPERBLOCK: u64 = 0;

/// What of the cache had reached the medium when the power went.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Survival {
    Nothing,
    /// Each block with this probability.
    Blocks(u64),
    /// Each sector with this probability: blocks are torn.
    Sectors(u64),
}

impl fmt::Display for Survival {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Nothing => f.write_str("nothing"),
            Self::Blocks(percent) => write!(f, "{percent} % of blocks"),
            Self::Sectors(percent) => write!(f, "{percent} % of sectors"),
        }
    }
}

impl Survival {
    /// The harshest case most often: nothing else shows every forgotten flush.
    pub fn choose(rng: &mut Rng) -> Self {
        match rng.below(10) {
            0..=3 => Self::Nothing,
            4..=6 => Self::Blocks(50),
            7 => Self::Blocks(90),
            _ => Self::Sectors(50),
        }
    }
}

/// Whether a disk does what it is told.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Honesty {
    #[default]
    Honest,
    /// Answers flushes at once and keeps everything in its cache: what a program that does not
    /// flush would get from an honest disk.
    IgnoresFlush,
}

/// What a disk was asked for since it was made, and lost.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Counters {
    pub writes: u64,
    pub flushes: u64,
    /// Sectors that were in the cache at a cut, and did not survive it.
    pub lost: u64,
}

/// A block in the cache: its data, and which of its sectors are valid.
struct Cached {
    data: Box<[u8; BLOCK]>,
    valid: [bool; SECTORS],
}

impl Cached {
    fn new() -> Self {
        Self {
            data: Box::new([0; BLOCK]),
            valid: [false; SECTORS],
        }
    }
}

/// One disk; its medium is a file.
pub struct Disk {
    medium: File,
    cache: BTreeMap<u64, Cached>,
    pub honesty: Honesty,
    pub counters: Counters,
    flushed: Option<Instant>,
    /// How long after its last flush the power went.
    pub unflushed: Option<Duration>,
}

impl Disk {
    pub fn new(medium: File) -> Self {
        Self {
            medium,
            cache: BTreeMap::new(),
            honesty: Honesty::Honest,
            counters: Counters::default(),
            flushed: None,
            unflushed: None,
        }
    }

    pub fn size(&self) -> io::Result<u64> {
        Ok(self.medium.metadata()?.len())
    }

    /// Reads what was written last, be it in the cache or on the medium.
    pub fn read(&self, offset: u64, length: usize) -> io::Result<Vec<u8>> {
        let length = length.min(self.size()?.saturating_sub(offset) as usize);
        let mut data = vec![0; length];
        self.medium.read_exact_at(&mut data, offset)?;
        let end = offset + length as u64;
        let blocks = offset / BLOCK as u64..end.div_ceil(BLOCK as u64);
        for (number, cached) in self.cache.range(blocks) {
            for sector in (0..SECTORS).filter(|sector| cached.valid[*sector]) {
                let at = number * BLOCK as u64 + (sector * SECTOR) as u64;
                let (from, to) = (at.max(offset), (at + SECTOR as u64).min(end));
                if from < to {
                    let source = (from - number * BLOCK as u64) as usize;
                    let target = (from - offset) as usize;
                    let count = (to - from) as usize;
                    data[target..target + count]
                        .copy_from_slice(&cached.data[source..source + count]);
                }
            }
        }
        Ok(data)
    }

    /// Writes whole sectors into the cache.
    pub fn write(&mut self, offset: u64, data: &[u8]) -> io::Result<()> {
        let end = offset + data.len() as u64;
        let whole = offset.is_multiple_of(SECTOR as u64) && data.len().is_multiple_of(SECTOR);
        if !whole || end > self.size()? {
            return Err(io::ErrorKind::InvalidInput.into());
        }
        self.counters.writes += 1;
        for (index, sector) in data.chunks(SECTOR).enumerate() {
            let at = offset + (index * SECTOR) as u64;
            let cached = self.cache.entry(at / BLOCK as u64);
            let cached = cached.or_insert_with(Cached::new);
            let inside = (at % BLOCK as u64) as usize;
            cached.data[inside..inside + SECTOR].copy_from_slice(sector);
            cached.valid[inside / SECTOR] = true;
        }
        Ok(())
    }

    /// Writes whole sectors to the medium, past the cache.
    pub fn write_durable(&mut self, offset: u64, data: &[u8]) -> io::Result<()> {
        self.write(offset, data)?;
        if self.honesty == Honesty::IgnoresFlush {
            return Ok(());
        }
        self.medium.write_all_at(data, offset)?;
        for at in (offset..offset + data.len() as u64).step_by(SECTOR) {
            if let Some(cached) = self.cache.get_mut(&(at / BLOCK as u64)) {
                cached.valid[(at % BLOCK as u64) as usize / SECTOR] = false;
            }
        }
        Ok(())
    }

    /// Brings the cache to the medium.
    pub fn flush(&mut self) -> io::Result<()> {
        self.counters.flushes += 1;
        self.flushed = Some(Instant::now());
        match self.honesty {
            Honesty::Honest => self.empty_cache(|_, _| true),
            Honesty::IgnoresFlush => Ok(()),
        }
    }

    /// The power goes.
    pub fn cut(&mut self, survival: Survival, rng: &mut Rng) -> io::Result<()> {
        self.unflushed = self.flushed.map(|flushed| flushed.elapsed());
        let mut lost = 0;
        let mut block = (u64::MAX, false);
        let result = self.empty_cache(|number, _| {
            let survives = match survival {
                Survival::Nothing => false,
                Survival::Sectors(percent) if number != SUPERBLOCK => rng.chance(percent),
                Survival::Blocks(percent) | Survival::Sectors(percent) => {
                    if block.0 != number {
                        block = (number, rng.chance(percent));
                    }
                    block.1
                }
            };
            lost += u64::from(!survives);
            survives
        });
        self.counters.lost += lost;
        result
    }

    /// Brings to the medium what `survives` (block and sector) chooses, and forgets the rest.
    fn empty_cache(&mut self, mut survives: impl FnMut(u64, usize) -> bool) -> io::Result<()> {
        for (number, cached) in std::mem::take(&mut self.cache) {
            for sector in (0..SECTORS).filter(|sector| cached.valid[*sector]) {
                if survives(number, sector) {
                    let inside = sector * SECTOR;
                    let at = number * BLOCK as u64 + inside as u64;
                    self.medium
                        .write_all_at(&cached.data[inside..inside + SECTOR], at)?;
                }
            }
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// A disk of 1 MiB whose file has no name any more.
    fn disk(name: &str) -> Disk {
        let path = std::env::temp_dir().join(format!("disk-{}-{name}", std::process::id()));
        let mut options = File::options();
        let options = options.read(true).write(true).create(true).truncate(true);
        let medium = options.open(&path).unwrap();
        std::fs::remove_file(&path).unwrap();
        medium.set_len(1 << 20).unwrap();
        Disk::new(medium)
    }

    #[test]
    fn a_flush_keeps_and_a_cut_without_one_loses() {
        let mut disk = disk("keeps");
        disk.write(4096, &[1; 4096]).unwrap();
        disk.flush().unwrap();
        disk.write(4096, &[2; 512]).unwrap();
        disk.write(9216, &[3; 8192]).unwrap();
        assert_eq!(disk.read(4096, 512).unwrap(), [2; 512]);
        assert_eq!(disk.read(9000, 300).unwrap()[..216], [0; 216]);
        assert_eq!(disk.read(9000, 300).unwrap()[216..], [3; 84]);
        disk.cut(Survival::Nothing, &mut Rng::new(1)).unwrap();
        assert_eq!(disk.read(4096, 4096).unwrap(), [1; 4096]);
        assert_eq!(disk.read(9216, 8192).unwrap(), [0; 8192]);
        assert_eq!(disk.counters.lost, 17);
    }

    #[test]
    fn a_durable_write_survives_and_replaces_what_was_cached() {
        let mut disk = disk("durable");
        disk.write(0, &[1; 1024]).unwrap();
        disk.write_durable(0, &[2; 512]).unwrap();
        assert_eq!(disk.read(0, 512).unwrap(), [2; 512]);
        disk.cut(Survival::Nothing, &mut Rng::new(1)).unwrap();
        assert_eq!(disk.read(0, 512).unwrap(), [2; 512]);
        assert_eq!(disk.read(512, 512).unwrap(), [0; 512]);
    }

    #[test]
    fn a_disk_that_ignores_flushes_loses_what_was_flushed() {
        let mut disk = disk("ignores");
        disk.honesty = Honesty::IgnoresFlush;
        disk.write(0, &[1; 512]).unwrap();
        disk.flush().unwrap();
        assert_eq!(disk.read(0, 512).unwrap(), [1; 512]);
        disk.cut(Survival::Nothing, &mut Rng::new(1)).unwrap();
        assert_eq!(disk.read(0, 512).unwrap(), [0; 512]);
    }

    #[test]
    fn blocks_survive_wholly_and_sectors_alone() {
        for (survival, torn) in [(Survival::Blocks(50), false), (Survival::Sectors(50), true)] {
            let mut disk = disk("survive");
            disk.write(0, &[7; 64 * BLOCK]).unwrap();
            disk.cut(survival, &mut Rng::new(3)).unwrap();
            let data = disk.read(0, 64 * BLOCK).unwrap();
            let kept: Vec<_> = data
                .chunks(BLOCK)
                .map(|block| block.chunks(SECTOR).filter(|s| s[0] == 7).count())
                .collect();
            let some = kept.iter().any(|kept| *kept > 0 && *kept < SECTORS);
            assert_eq!(some, torn, "{kept:?}");
            assert!(kept.contains(&0) || torn);
        }
    }

    #[test]
    fn the_superblock_is_not_torn() {
        let mut both = [false, false];
        for seed in 0..20 {
            let mut disk = disk("superblock");
            disk.write(1024, &[7; 1024]).unwrap();
            disk.cut(Survival::Sectors(50), &mut Rng::new(seed))
                .unwrap();
            let data = disk.read(1024, 1024).unwrap();
            assert!(data.iter().all(|byte| *byte == data[0]));
            both[usize::from(data[0] == 7)] = true;
        }
        assert_eq!(both, [true, true]);
    }

    #[test]
    fn nothing_is_written_beyond_the_end_or_in_parts_of_sectors() {
        let mut disk = disk("end");
        assert!(disk.write((1 << 20) - 512, &[0; 1024]).is_err());
        assert!(disk.write(100, &[0; 512]).is_err());
        assert!(disk.write(0, &[0; 100]).is_err());
        assert_eq!(disk.read((1 << 20) - 100, 512).unwrap().len(), 100);
    }
}
