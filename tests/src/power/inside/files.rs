//! Small files: made, written, synced and renamed by several writers, who tell of every step that
//! was answered.
//!
//! Step `n` of a writer makes the file `new{n}`, writes it (`w`), syncs it, gives it its name `{n}`
//! and syncs the directory (`s`); appends a record to the writer's journal (`a`), which it syncs
//! every few steps (`d`); and removes an old file and syncs the directory (`u`).

use crate::power::told::{KEPT, RECORD, SYNC_EVERY, WRITERS, content, record};
use anyhow::{Context, Result, anyhow};
use std::fs::{self, File};
use std::io::Write;
use std::os::unix::fs::FileExt;
use std::path::Path;
use std::thread;

/// Runs until the standard input ends. With `lie` nothing is synced, but claimed to be.
pub fn run(dir: &Path, lie: bool) -> Result<()> {
    let sync = |file: &File| if lie { Ok(()) } else { file.sync_all() };
    fs::create_dir_all(dir)?;
    sync(&File::open(dir.parent().context("a directory below another")?)?)?;
    thread::spawn(|| {
        std::io::copy(&mut std::io::stdin(), &mut std::io::sink()).ok();
        std::process::exit(0);
    });
    let sync = &sync;
    thread::scope(|scope| {
        let writer = |number: u64| scope.spawn(move || write(dir, number, sync));
        let writers: Vec<_> = (0..WRITERS).map(writer).collect();
        let mut ends = writers.into_iter().map(thread::ScopedJoinHandle::join);
        ends.try_for_each(|end| end.map_err(|_| anyhow!("a writer panicked"))?)
    })
}

fn write(dir: &Path, writer: u64, sync: &dyn Fn(&File) -> std::io::Result<()>) -> Result<()> {
    let dir = dir.join(writer.to_string());
    fs::create_dir(&dir)?;
    let journal = File::create_new(dir.join("journal"))?;
    sync(&journal)?;
    let parent = File::open(&dir)?;
    sync(&parent)?;
    sync(&File::open(dir.join(".."))?)?;
    // One system call for each line, so that it leaves at once and whole.
    let tell = |step: char, n: u64| std::io::stdout().write_all(line(writer, step, n).as_bytes());
    for n in 0.. {
        let new = dir.join(format!("new{n}"));
        let file = File::create_new(&new).with_context(|| new.display().to_string())?;
        file.write_all_at(&content(writer, n), 0)?;
        tell('w', n)?;
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

fn line(writer: u64, step: char, n: u64) -> String {
    format!("{writer} {step} {n}\n")
}
