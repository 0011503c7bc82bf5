//! W4: overwriting a large file from start to end, with one fsync at the end: copies and backups.

use std::os::unix::fs::FileExt;
use std::path::PathBuf;

use anyhow::{Context as _, Result};

use super::{Context, Floor, PLAIN, Spec, Tally, files, timed_once};
use crate::tools::Tool;

pub(super) static W4: Spec = Spec {
    id: "W4",
    what: "1 MiB sequential write, one fsync at the end",
    unit: "MiB/s",
    group: "sequential",
    floor: Floor::Without(Tool::Fio, 0.15),
    prepare: |context| files::lay_out(&path(context), context.sizes.sequential_file),
    run: write,
    check: |context, _| files::check_length(&path(context), context.sizes.sequential_file),
    ..PLAIN
};

/// The file of this group.
pub(super) fn path(context: &Context) -> PathBuf {
    context.dir.join("sequential")
}

fn write(context: &Context) -> Result<Tally> {
    let file = files::open(&path(context), 0)?;
    let bytes = files::large(context.round);
    timed_once(|| {
        for at in (0..context.sizes.sequential_file).step_by(files::LARGE) {
            file.write_all_at(&bytes, at).context("write")?;
        }
        file.sync_all().context("fsync")?;
        Ok(context.sizes.sequential_file >> 20)
    })
}
