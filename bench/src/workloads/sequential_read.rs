//! W5: reading a large file that is in the page cache, from start to end.

use std::fs::File;
use std::os::unix::fs::FileExt;
use std::time::Instant;

use anyhow::{Context as _, Result};

use super::sequential_write::path;
use super::{Context, Floor, PLAIN, Spec, Tally, files};
use crate::tools::Tool;

pub(super) static W5: Spec = Spec {
    id: "W5",
    what: "1 MiB sequential read, cached",
    unit: "MiB/s",
    group: "sequential",
    floor: Floor::Without(Tool::Fio, 0.65),
    prepare: |context| {
        files::lay_out(&path(context), context.sizes.sequential_file)?;
        read_all(
            &files::open(&path(context), 0)?,
            context.sizes.sequential_file,
        )
    },
    run: read,
    check: |context, _| files::check_length(&path(context), context.sizes.sequential_file),
    ..PLAIN
};

/// Reads a file once; an early end is an error.
pub(super) fn read_all(file: &File, length: u64) -> Result<()> {
    let mut buffer = vec![0; files::LARGE];
    for at in (0..length).step_by(files::LARGE) {
        file.read_exact_at(&mut buffer, at).context("read")?;
    }
    Ok(())
}

/// Whole passes only, so that the run has no beginning that differs from the rest.
fn read(context: &Context) -> Result<Tally> {
    let file = files::open(&path(context), 0)?;
    let mut tally = Tally::default();
    let start = Instant::now();
    while tally.elapsed < context.sizes.run {
        read_all(&file, context.sizes.sequential_file)?;
        tally.operations += context.sizes.sequential_file >> 20;
        tally.elapsed = start.elapsed();
    }
    Ok(tally)
}
