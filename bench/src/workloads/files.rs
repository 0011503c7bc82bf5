//! What the workloads on single files share: laying a file out, blocks of data that can be told
//! apart, and positions in it.

use std::fs::{self, File, OpenOptions};
use std::os::unix::fs::{FileExt, OpenOptionsExt};
use std::path::Path;
use std::time::Duration;

use anyhow::{Context as _, Result, ensure};

use super::{Tally, timed};
use crate::random::Random;

/// Size of the small reads and writes.
pub(super) const BLOCK: u64 = 4096;
/// Size of the large ones.
pub(super) const LARGE: usize = 1 << 20;

/// A block of data, aligned as O_DIRECT asks.
#[repr(align(4096))]
pub(super) struct Block(pub(super) [u8; BLOCK as usize]);

impl Block {
    /// Bytes that no compression or zero detection makes cheap.
    pub(super) fn new(seed: u64) -> Box<Self> {
        let mut block = Box::new(Self([0; BLOCK as usize]));
        fill(&mut block.0, seed);
        block
    }

    /// Makes the block different from all before it.
    pub(super) fn stamp(&mut self, number: u64) {
        self.0[..8].copy_from_slice(&number.to_le_bytes());
    }
}

fn fill(bytes: &mut [u8], seed: u64) {
    let mut random = Random::new(seed, 0);
    for word in bytes.chunks_exact_mut(8) {
        word.copy_from_slice(&random.next().to_le_bytes());
    }
}

/// A large buffer of such bytes.
pub(super) fn large(seed: u64) -> Vec<u8> {
    let mut bytes = vec![0; LARGE];
    fill(&mut bytes, seed);
    bytes
}

/// Makes sure that the file exists with `length` bytes, all of them written and synced.
pub(super) fn lay_out(path: &Path, length: u64) -> Result<()> {
    if fs::metadata(path).is_ok_and(|found| found.len() == length) {
        return Ok(());
    }
    let work = || -> Result<()> {
        let file = File::create(path)?;
        let bytes = large(7);
        for at in (0..length).step_by(LARGE) {
            let part = bytes.len().min(usize::try_from(length - at)?);
            file.write_all_at(&bytes[..part], at)?;
        }
        Ok(file.sync_all()?)
    };
    work().with_context(|| format!("lay out {} ({length} bytes)", path.display()))
}

pub(super) fn open(path: &Path, flags: i32) -> Result<File> {
    let mut options = OpenOptions::new();
    let file = options
        .read(true)
        .write(true)
        .custom_flags(flags)
        .open(path);
    file.with_context(|| format!("open {}", path.display()))
}

/// Overwrites random blocks of `file` within `span` for `limit`, then reads the last one back.
pub(super) fn overwrite(
    file: &File,
    span: std::ops::Range<u64>,
    limit: Duration,
    mut random: Random,
    sync: bool,
) -> Result<Tally> {
    let mut block = Block::new(1);
    let blocks = (span.end - span.start) / BLOCK;
    let (mut number, mut at) = (0, span.start);
    let tally = timed(limit, || {
        number += 1;
        block.stamp(number);
        at = span.start + random.below(blocks) * BLOCK;
        let written = file.write_at(&block.0, at).context("write")?;
        ensure!(written as u64 == BLOCK, "short write: {written} bytes");
        if sync {
            file.sync_all().context("fsync")
        } else {
            Ok(())
        }
    })?;
    let mut found = Block::new(2);
    file.read_exact_at(&mut found.0, at).context("read back")?;
    ensure!(
        found.0 == block.0,
        "the last block written at {at} does not read back"
    );
    Ok(tally)
}

/// The file still has the length it was laid out with.
pub(super) fn check_length(path: &Path, length: u64) -> Result<()> {
    let found = fs::metadata(path)
        .with_context(|| format!("stat {}", path.display()))?
        .len();
    ensure!(
        found == length,
        "{}: {found} bytes instead of {length}",
        path.display()
    );
    Ok(())
}

/// Removes a directory tree, if there is one.
pub(super) fn remove_tree(path: &Path) -> Result<()> {
    match fs::remove_dir_all(path) {
        Err(error) if error.kind() == std::io::ErrorKind::NotFound => Ok(()),
        other => other.with_context(|| format!("remove {}", path.display())),
    }
}
