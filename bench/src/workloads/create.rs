//! W8: making small files, by one process and by eight in directories of their own: mail spools,
//! caches, object stores.

use std::fs::{self, OpenOptions};
use std::io::Write;
use std::path::{Path, PathBuf};
use std::time::Instant;

use anyhow::{Context as _, Result, ensure};

use super::files::{self, BLOCK, Block};
use super::walk::{self, Found};
use super::{Context, Floor, PLAIN, Spec, Tally, gang};

const PROCESSES: u64 = 8;

pub(super) static W8: Spec = Spec {
    id: "W8",
    what: "create + write 4 KiB + close, 1 process",
    unit: "files/s",
    group: "create",
    floor: Floor::Always(0.06),
    prepare: |context| prepare(context, 1),
    run: |context| create(&dir_of(context, 0), context.sizes.created_files),
    check: |context, tally| check(context, 1, tally),
    ..PLAIN
};

pub(super) static W8X8: Spec = Spec {
    id: "W8x8",
    what: "the same, 8 processes, own directories",
    unit: "files/s",
    group: "create",
    prepare: |context| prepare(context, PROCESSES),
    run: |context| {
        gang::run(PROCESSES, |process| {
            let dir = dir_of(context, process);
            let count = context.sizes.created_files / PROCESSES;
            Ok(move || create(&dir, count))
        })
    },
    check: |context, tally| check(context, PROCESSES, tally),
    ..PLAIN
};

fn root(context: &Context) -> PathBuf {
    context.dir.join("create")
}

fn dir_of(context: &Context, process: u64) -> PathBuf {
    root(context).join(process.to_string())
}

fn prepare(context: &Context, processes: u64) -> Result<()> {
    files::remove_tree(&root(context))?;
    for process in 0..processes {
        fs::create_dir_all(dir_of(context, process)).context("create a directory")?;
    }
    Ok(())
}

fn create(dir: &Path, count: u64) -> Result<Tally> {
    let block = Block::new(8);
    let mut tally = Tally {
        operations: count,
        ..Tally::default()
    };
    let start = Instant::now();
    let mut before = start;
    for number in 0..count {
        let path = dir.join(format!("message{number:06}"));
        let mut options = OpenOptions::new();
        let mut file = options
            .write(true)
            .create_new(true)
            .open(path)
            .context("create")?;
        file.write_all(&block.0).context("write")?;
        drop(file);
        let now = Instant::now();
        tally.latency.record(now - before);
        before = now;
    }
    tally.elapsed = before - start;
    Ok(tally)
}

fn check(context: &Context, processes: u64, tally: &Tally) -> Result<()> {
    let wanted = Found {
        entries: processes + tally.operations,
        bytes: tally.operations * BLOCK,
    };
    let found = walk::walk(&root(context))?;
    ensure!(found == wanted, "found {found:?} instead of {wanted:?}");
    Ok(())
}
