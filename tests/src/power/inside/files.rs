//! Small files: made, written, synced and renamed by several writers, who tell of every step that
//! was answered.
//!
//! Step `n` of writer 0 makes the file `new{n}`, writes it (`w`) and appends a record to its
//! journal (`a`); it never syncs anything. Step `n` of any other writer makes the file `new{n}`,
//! writes it (`w`), syncs it, gives it its name `{n}` and syncs the directory (`s`); appends to the
//! journal (`a`), which it syncs every few steps (`d`); and removes an old file and syncs the
//! directory (`u`).

use crate::power::told::{KEPT, RECORD, SYNC_EVERY, WRITERS, content, record};
use anyhow::{Context, Result, anyhow};
use std::fs::{self, File};
use std::io::Write;
use std::os::unix::fs::FileExt;
use std::path::{Path, PathBuf};
use std::thread;
use std::time::Duration;

/// Between steps of the writer that never syncs, or it would leave no time to the others.
const PAUSE: Duration = Duration::from_millis(2);

/// Runs until the standard input ends. With `lie` nothing is synced, but claimed to be.
pub fn run(dir: &Path, lie: bool) -> Result<()> {
    let sync = |file: &File| if lie { Ok(()) } else { file.sync_all() };
    fs::create_dir_all(dir)?;
    sync(&File::open(
        dir.parent().context("a directory below another")?,
    )?)?;
    thread::spawn(|| {
        std::io::copy(&mut std::io::stdin(), &mut std::io::sink()).ok();
        std::process::exit(0);
    });
    let (sync, none) = (&sync, &|_: &File| Ok(()));
    thread::scope(|scope| {
        let writer = |number: u64| {
            scope.spawn(move || match number {
                0 => write_only(dir, none),
                _ => write(dir, number, sync),
            })
        };
        let writers: Vec<_> = (0..WRITERS).map(writer).collect();
        let mut ends = writers.into_iter().map(thread::ScopedJoinHandle::join);
        ends.try_for_each(|end| end.map_err(|_| anyhow!("a writer panicked"))?)
    })
}

type Sync<'a> = &'a (dyn Fn(&File) -> std::io::Result<()> + std::marker::Sync);

/// A writer's directory, and its journal in there.
fn begin(dir: &Path, writer: u64, sync: Sync) -> Result<(PathBuf, File)> {
    let dir = dir.join(writer.to_string());
    fs::create_dir(&dir)?;
    let journal = File::create_new(dir.join("journal"))?;
    sync(&journal)?;
    sync(&File::open(&dir)?)?;
    sync(&File::open(dir.join(".."))?)?;
    Ok((dir, journal))
}

/// Makes file `n` under its first name.
fn make(dir: &Path, writer: u64, n: u64) -> Result<(PathBuf, File)> {
    let new = dir.join(format!("new{n}"));
    let file = File::create_new(&new).with_context(|| new.display().to_string())?;
    file.write_all_at(&content(writer, n), 0)?;
    tell(writer, 'w', n)?;
    Ok((new, file))
}

/// One system call for each line, so that it leaves at once and whole.
fn tell(writer: u64, step: char, n: u64) -> std::io::Result<()> {
    let line = format!("{writer} {step} {n}\n");
    std::io::stdout().write_all(line.as_bytes())
}

fn write_only(dir: &Path, sync: Sync) -> Result<()> {
    let (dir, journal) = begin(dir, 0, sync)?;
    for n in 0.. {
        if n < KEPT {
            make(&dir, 0, n)?;
        }
        journal.write_all_at(&record(0, n), n * RECORD)?;
        tell(0, 'a', n)?;
        thread::sleep(PAUSE);
    }
    Ok(())
}

fn write(dir: &Path, writer: u64, sync: Sync) -> Result<()> {
    let (dir, journal) = begin(dir, writer, sync)?;
    let parent = File::open(&dir)?;
    let tell = |step, n| tell(writer, step, n);
    for n in 0.. {
        let (new, file) = make(&dir, writer, n)?;
        sync(&file)?;
        fs::rename(&new, dir.join(n.to_string()))?;
        sync(&parent)?;
        tell('s', n)?;
        journal.write_all_at(&record(writer, n), n * RECORD)?;
        tell('a', n)?;
        if n % SYNC_EVERY == 0 {
            sync(&journal)?;
            tell('d', n)?;
        }
        if let Some(old) = n.checked_sub(KEPT) {
            fs::remove_file(dir.join(old.to_string()))?;
            sync(&parent)?;
            tell('u', old)?;
        }
    }
    Ok(())
}
