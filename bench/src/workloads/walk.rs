//! W9: walking a tree with stat of each entry, as backups, `find` and `git status` do. The first
//! walk after unpacking asks the file system for much; the second should be answered by the kernel.
//!
//! The walker is `find DIR -size +1` of GNU findutils if it is installed: the floor was measured
//! with it. The bench's own makes other system calls (it asks for a file's time of birth too).

use std::fs;
use std::path::Path;
use std::process::{Command, Stdio};
use std::time::{Duration, Instant};

use anyhow::{Context as _, Result, ensure};

use super::tree::Tree;
use super::{Context, Floor, PLAIN, Spec, Tally, files, untar};
use crate::tools::Tool;

/// One walk is too short to be timed well: repeated for this part of a timed run.
const PART: u32 = 4;

pub(super) static FIRST: Spec = Spec {
    id: "W9-first",
    what: "walk that tree with stat, first time",
    unit: "entries/s",
    group: "tree",
    prepare: prepare_first,
    run: |context| run(context, Duration::ZERO),
    check,
    ..PLAIN
};

pub(super) static SECOND: Spec = Spec {
    id: "W9-second",
    what: "walk that tree with stat, again",
    unit: "entries/s",
    group: "tree",
    floor: Floor::With(Tool::Find, 0.9),
    prepare: |context| {
        if !Tree::of(context).root.exists() {
            prepare_first(context)?;
        }
        run(context, Duration::ZERO).map(drop)
    },
    run: |context| run(context, context.sizes.run / PART),
    check,
    ..PLAIN
};

/// A tree that nobody has looked at since it was unpacked (the check of W7 does).
fn prepare_first(context: &Context) -> Result<()> {
    let tree = Tree::of(context);
    files::remove_tree(&tree.root)?;
    untar::unpack(&tree)
}

/// What a walk saw.
#[derive(Debug, Default, PartialEq, Eq)]
pub(super) struct Found {
    pub(super) entries: u64,
    /// Sum of the lengths of all files.
    pub(super) bytes: u64,
}

impl Found {
    /// All of a tree.
    fn of(tree: &Tree) -> Self {
        Self {
            entries: tree.entries(),
            bytes: tree.bytes(),
        }
    }
}

/// Walks at least once, and until `limit` is over.
fn run(context: &Context, limit: Duration) -> Result<Tally> {
    let tree = Tree::of(context);
    let wanted = Found::of(&tree);
    let with_find = Tool::Find.is_installed();
    let start = Instant::now();
    let mut tally = Tally::default();
    while tally.operations == 0 || tally.elapsed < limit {
        if with_find {
            find(&tree.root)?;
        } else {
            same(&walk(&tree.root)?, &wanted)?;
        }
        tally.operations += wanted.entries;
        tally.elapsed = start.elapsed();
    }
    Ok(tally)
}

/// What `find` lists is read by nobody while the clock runs, so it is compared afterwards.
fn check(context: &Context, _: &Tally) -> Result<()> {
    let tree = Tree::of(context);
    if Tool::Find.is_installed() {
        let listed = find_command(&tree.root).output().context("start find")?;
        let lines = listed.stdout.split(|&byte| byte == b'\n');
        let files = lines.filter(|line| line.ends_with(b".c")).count();
        let wanted = tree.files.len();
        ensure!(files == wanted, "find lists {files} files of {wanted}");
    }
    same(&walk(&tree.root)?, &Found::of(&tree))
}

fn same(found: &Found, wanted: &Found) -> Result<()> {
    ensure!(found == wanted, "found {found:?} instead of {wanted:?}");
    Ok(())
}

/// Every file of the tree is larger than the one block of 512 bytes that is asked for.
fn find_command(dir: &Path) -> Command {
    let mut command = Command::new(Tool::Find.name());
    command.arg(dir).args(["-size", "+1"]).stdin(Stdio::null());
    command
}

/// An error of `find` is printed where ours are.
fn find(dir: &Path) -> Result<()> {
    let mut command = find_command(dir);
    let status = command.stdout(Stdio::null()).status();
    let status = status.context("start find")?;
    ensure!(status.success(), "find: {status}");
    Ok(())
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
