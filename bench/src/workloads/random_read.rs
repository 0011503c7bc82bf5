//! W6: small random reads of a file that is in the page cache.

use std::os::unix::fs::FileExt;
use std::time::Instant;

use anyhow::{Context as _, Result};

use super::files::{self, BLOCK, Block};
use super::random_sync::single;
use super::sequential_read::read_all;
use super::{Context, Floor, PLAIN, Spec, Tally};
use crate::random::Random;
use crate::tools::Tool;

/// A read takes about as long as looking at the clock a few times, so the clock is read per batch.
const BATCH: u64 = 64;

pub(super) static W6: Spec = Spec {
    id: "W6",
    what: "4 KiB random read, cached",
    group: "random",
    floor: Floor::Without(Tool::Fio, 0.95),
    prepare: |context| {
        files::lay_out(&single(context), context.sizes.random_file)?;
        read_all(
            &files::open(&single(context), 0)?,
            context.sizes.random_file,
        )
    },
    run: read,
    check: |context, _| files::check_length(&single(context), context.sizes.random_file),
    ..PLAIN
};

fn read(context: &Context) -> Result<Tally> {
    let file = files::open(&single(context), 0)?;
    let mut random = Random::new(context.round, 6);
    let mut block = Block::new(0);
    let blocks = context.sizes.random_file / BLOCK;
    let mut tally = Tally::default();
    let start = Instant::now();
    while tally.elapsed < context.sizes.run {
        for _ in 0..BATCH {
            let at = random.below(blocks) * BLOCK;
            file.read_exact_at(&mut block.0, at).context("read")?;
        }
        tally.operations += BATCH;
        tally.elapsed = start.elapsed();
    }
    Ok(tally)
}
