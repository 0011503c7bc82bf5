//! W9: walking a tree with stat of each entry, as backups, `find` and `git status` do. The first
//! walk after unpacking asks the file system for much; the second should be answered by the kernel.

use std::fs::{self, File};
use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};

use anyhow::{Context as _, Result, ensure};

use super::tree::Tree;
use super::{Context, PLAIN, Spec, Tally, files, untar};

/// One walk is too short to be timed well: repeated for this part of a timed run.
const PART: u32 = 4;

pub(super) static FIRST: Spec = Spec {
    id: "W9-first",
    what: "walk that tree with stat, first time",
    unit: "entries/s",
    group: "tree",
    prepare: prepare_first,
    run: |context| run(context, Duration::ZERO),
    ..PLAIN
};

pub(super) static SECOND: Spec = Spec {
    id: "W9-second",
    what: "walk that tree with stat, again",
    unit: "entries/s",
    group: "tree",
    floor: Some(0.9),
    prepare: |context| {
        if !Tree::of(context).root.exists() {
            prepare_first(context)?;
        }
        run(context, Duration::ZERO).map(drop)
    },
    run: |context| run(context, context.sizes.run / PART),
    ..PLAIN
};

/// Stands beside the tree when it has been walked.
fn mark(context: &Context) -> PathBuf {
    context.dir.join("tree.walked")
}

/// A tree that was unpacked and not walked since.
fn prepare_first(context: &Context) -> Result<()> {
    let tree = Tree::of(context);
    if mark(context).exists() || !tree.root.exists() {
        files::remove_tree(&tree.root)?;
        untar::unpack(&tree)?;
    }
    File::create(mark(context))
        .context("mark the tree as walked")
        .map(drop)
}

/// What a walk saw.
#[derive(Debug, Default, PartialEq, Eq)]
pub(super) struct Found {
    pub(super) entries: u64,
    /// Sum of the lengths of all files.
    pub(super) bytes: u64,
}

/// Walks at least once, and until `limit` is over.
fn run(context: &Context, limit: Duration) -> Result<Tally> {
    let tree = Tree::of(context);
    let wanted = Found {
        entries: tree.entries(),
        bytes: tree.bytes(),
    };
    let start = Instant::now();
    let mut tally = Tally::default();
    while tally.operations == 0 || tally.elapsed < limit {
        let found = walk(&tree.root)?;
        ensure!(found == wanted, "found {found:?} instead of {wanted:?}");
        tally.operations += wanted.entries;
        tally.elapsed = start.elapsed();
    }
    Ok(tally)
}

/// Counts everything below `dir`.
pub(super) fn walk(dir: &Path) -> Result<Found> {
    let mut sum = Found::default();
    for entry in fs::read_dir(dir).with_context(|| format!("list {}", dir.display()))? {
        let entry = entry?;
        // A stat relative to the open directory; the type comes with it, as find does it.
        let found = entry.metadata()?;
        sum.entries += 1;
        if found.is_dir() {
            let below = walk(&entry.path())?;
            sum.entries += below.entries;
            sum.bytes += below.bytes;
        } else {
            sum.bytes += found.len();
        }
    }
    Ok(sum)
}
