//! A small application that writes down, outside the replicated directory, every operation that was
//! answered: what it was told is done must be found on the other node.
//!
//! Each writer does the same steps for 0, 1, 2 …, so its log alone says what must exist. A line of
//! the log is written after the answer: `KIND NUMBER MICROSECONDS BEGAN`, or `error …` at its end.
//! When an operation began is told by the clock that all nodes share.

use crate::scratch::{inside, subdir};
use crate::sys::{self, Sys};
use anyhow::{Context, Result, bail, ensure};
use std::collections::{BTreeMap, BTreeSet};
use std::fs::{File, OpenOptions};
use std::io::Write;
use std::os::fd::OwnedFd;
use std::path::{Path, PathBuf};
use std::thread;
use std::time::{Duration, Instant};

/// Writers side by side.
pub const WRITERS: usize = 4;
/// What one write writes.
pub const BLOCK: usize = 4096;
/// Blocks of a writer's file; then the first is written anew.
const BLOCKS: u64 = 64;
/// How many files a writer keeps.
const KEPT: u64 = 10;
/// Ends the writers when it exists beside the logs.
const END: &str = "end";

/// What one writer's log tells.
#[derive(Debug, Default)]
pub struct Told {
    /// Answered operations by kind, with their numbers.
    done: BTreeMap<String, BTreeSet<u64>>,
    /// How many operations were answered.
    pub answered: usize,
    pub longest: Duration,
    /// When the first and the last answered operation began, by [`sys::boot_clock`].
    pub began: Option<(u64, u64)>,
    pub error: Option<String>,
}

/// The name of a writer's directory and log.
pub fn writer(number: usize) -> String {
    format!("writer{number}")
}

/// What block `number` of a writer holds; also the content of its files.
fn block(number: u64) -> Vec<u8> {
    let text = format!("{number:015} ");
    text.bytes().cycle().take(BLOCK).collect()
}

/// Runs the writers in the replicated directory, below one with the name of the logs' directory,
/// until told to end or an operation fails.
///
/// # Errors
/// What the first failed operation said.
pub fn run(dir: &OwnedFd, logs: &Path) -> Result<(), String> {
    run_with_pauses(dir, logs, Duration::ZERO)
}

/// The same with a pause after each round of steps, for loads that are to last.
///
/// # Errors
/// What the first failed operation said.
pub fn run_with_pauses(dir: &OwnedFd, logs: &Path, pause: Duration) -> Result<(), String> {
    let own = logs.file_name().unwrap_or_default().to_string_lossy();
    let dir = &subdir(dir, &own).map_err(|error| format!("{error:#}"))?;
    let one = |number: usize| -> Result<(), String> {
        let name = writer(number);
        let mut log = Log::new(logs, &name).map_err(|error| format!("{name}: {error}"))?;
        let written = inside(dir, || {
            sys::mkdir(&name, 0o700)?;
            sys::chdir(&name)?;
            write_on(&mut log, pause)
        });
        written.map_err(|error| {
            let text = format!("error {error} after {} steps", log.lines);
            log.line(&text);
            format!("{name}: {text}")
        })
    };
    thread::scope(|scope| {
        let threads: Vec<_> = (0..WRITERS)
            .map(|number| scope.spawn(move || one(number)))
            .collect();
        let ended = threads.into_iter().map(|thread| thread.join());
        let ended: Vec<_> = ended.collect();
        ended
            .into_iter()
            .try_for_each(|end| end.unwrap_or_else(|_| Err("a writer panicked".into())))
    })
}

struct Log {
    file: File,
    end: PathBuf,
    lines: u64,
}

impl Log {
    fn new(logs: &Path, name: &str) -> std::io::Result<Self> {
        let path = logs.join(name);
        let file = OpenOptions::new().create(true).append(true).open(path)?;
        Ok(Self {
            file,
            end: logs.join(END),
            lines: 0,
        })
    }

    fn line(&mut self, text: &str) {
        // One system call: a line is whole or not there.
        let text = format!("{text}\n");
        self.file
            .write_all(text.as_bytes())
            .expect("the log's disk has room");
        self.lines += 1;
    }

    /// Does one operation and writes down that it was answered.
    fn step(&mut self, kind: &str, number: u64, act: impl FnOnce() -> Sys<()>) -> Sys<()> {
        let began = sys::boot_clock();
        let started = Instant::now();
        act()?;
        let took = started.elapsed().as_micros();
        self.line(&format!("{kind} {number} {took} {began}"));
        Ok(())
    }
}

/// The steps, again and again.
fn write_on(log: &mut Log, pause: Duration) -> Sys<()> {
    let flags = libc::O_CREAT | libc::O_RDWR;
    let data = sys::open("data", flags, 0o600)?;
    for n in 0.. {
        if log.end.exists() {
            return Ok(());
        }
        let block = block(n);
        let at = n % BLOCKS * BLOCK as u64;
        log.step("write", n, || sys::write_all(&data, &block, at))?;
        if n % 4 == 0 {
            log.step("fsync", n, || sys::fsync(&data))?;
        }
        log.step("create", n, || {
            let file = sys::open(format!("new{n}"), flags | libc::O_EXCL, 0o640)?;
            sys::write_all(&file, &block, 0)
        })?;
        let (new, kept) = (format!("new{n}"), format!("kept{n}"));
        log.step("rename", n, || sys::rename(&new, &kept))?;
        if let Some(old) = n.checked_sub(KEPT) {
            log.step("unlink", old, || sys::unlink(format!("kept{old}")))?;
        }
        log.step("tree", n, || {
            sys::mkdir("tree", 0o755)?;
            drop(sys::open("tree/file", flags, 0o600)?);
            sys::rename("tree", "moved")?;
            sys::chmod("moved/file", 0o640)?;
            sys::unlink("moved/file")?;
            sys::rmdir("moved")
        })?;
        if !pause.is_zero() {
            thread::sleep(pause);
        }
    }
    Ok(())
}

/// Tells the writers to end.
pub fn end(logs: &Path) -> Result<()> {
    File::create(logs.join(END)).context("the logs' directory")?;
    Ok(())
}

/// Reads one writer's log.
pub fn told(logs: &Path, number: usize) -> Result<Told> {
    let text = std::fs::read_to_string(logs.join(writer(number))).unwrap_or_default();
    let mut told = Told::default();
    for line in text.lines() {
        if let Some(error) = line.strip_prefix("error ") {
            told.error = Some(error.into());
            continue;
        }
        let mut words = line.split(' ');
        let (Some(kind), Some(number), Some(took)) = (words.next(), words.next(), words.next())
        else {
            bail!("a line of the log is cut: {line:?}");
        };
        let number = number.parse().with_context(|| line.to_string())?;
        let took = Duration::from_micros(took.parse().with_context(|| line.to_string())?);
        told.done.entry(kind.into()).or_default().insert(number);
        told.longest = told.longest.max(took);
        told.answered += 1;
        if let Some(began) = words.next() {
            let began: u64 = began.parse().with_context(|| line.to_string())?;
            told.began = Some((told.began.map_or(began, |(first, _)| first), began));
        }
    }
    Ok(told)
}

impl Told {
    fn has(&self, kind: &str, number: u64) -> bool {
        let done = self.done.get(kind);
        done.is_some_and(|done| done.contains(&number))
    }

    /// Numbers of a kind, in order.
    fn all(&self, kind: &str) -> impl Iterator<Item = u64> {
        self.done.get(kind).into_iter().flatten().copied()
    }

    /// Everything answered is there, in the writer's directory below `root`. The step after the
    /// last answered one may have happened or not.
    pub fn is_found(&self, root: &Path, number: usize) -> Result<()> {
        let dir = root.join(writer(number));
        self.blocks_are_found(&dir)?;
        for n in self.all("create") {
            let (new, kept) = (dir.join(format!("new{n}")), dir.join(format!("kept{n}")));
            let renamed = self.has("rename", n);
            if self.has("unlink", n) {
                ensure!(!kept.exists(), "{} was removed", kept.display());
                continue;
            }
            let removing = self.has("rename", n + KEPT);
            if removing && !kept.exists() {
                continue;
            }
            let path = if renamed || !new.exists() { kept } else { new };
            let content = std::fs::read(&path);
            let content = content.with_context(|| format!("{} was made", path.display()))?;
            ensure!(content == block(n), "{} has other content", path.display());
            ensure!(
                !renamed || !dir.join(format!("new{n}")).exists(),
                "new{n} was renamed"
            );
        }
        Ok(())
    }

    /// The newest answered write of every block, or the one write that was not answered.
    fn blocks_are_found(&self, dir: &Path) -> Result<()> {
        let mut newest = BTreeMap::new();
        newest.extend(self.all("write").map(|n| (n % BLOCKS, n)));
        if newest.is_empty() {
            return Ok(());
        }
        let data = std::fs::read(dir.join("data")).context("the writer's file")?;
        let next = self.all("write").last().map_or(0, |last| last + 1);
        for (place, n) in newest {
            let at = place as usize * BLOCK;
            let found = data.get(at..at + BLOCK).unwrap_or_default();
            let in_flight = place == next % BLOCKS && is_prefix_of_both(found, next, n);
            ensure!(
                found == block(n) || in_flight,
                "block {place} is not write {n}: {:?}",
                String::from_utf8_lossy(&found[..found.len().min(32)])
            );
        }
        Ok(())
    }
}

/// A write that nobody was told of may be there up to any byte.
fn is_prefix_of_both(found: &[u8], newer: u64, older: u64) -> bool {
    let (newer, older) = (block(newer), block(older));
    let same = found.iter().zip(&newer).take_while(|(a, b)| a == b).count();
    found.len() == BLOCK && found[same..] == older[same..]
}
