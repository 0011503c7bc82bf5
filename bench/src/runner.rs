//! Running a piece of work in a process of its own, in the namespaces of a node, and getting its
//! answer. A process that hangs is killed after a time; so is every process when the bench is asked
//! to stop.

use std::fs::{self, File};
use std::io::{self, PipeReader, Read, Write};
use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};

use anyhow::{Context, Result, anyhow, bail, ensure};
use serde::Serialize;
use serde::de::DeserializeOwned;

use crate::sys::{self, Kind};

/// How often a waiting bench looks whether it was asked to stop.
const LOOK_PAUSE: Duration = Duration::from_millis(200);
/// The mount namespace last: it changes what `/proc` is.
const NAMESPACES: [&str; 5] = ["user", "net", "uts", "ipc", "mnt"];

/// The bench was asked to stop.
#[derive(Debug)]
pub(crate) struct Interrupted;

impl std::fmt::Display for Interrupted {
    fn fmt(&self, out: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        out.write_str("stopped by a signal")
    }
}

impl std::error::Error for Interrupted {}

/// Where work runs: a directory, and whose view of the file system it belongs to.
#[derive(Clone, Debug)]
pub(crate) struct Side {
    /// What the row's column is called.
    pub(crate) name: &'static str,
    pub(crate) dir: PathBuf,
    /// A process in the node's namespaces; `None`: our own.
    pub(crate) process: Option<u32>,
}

/// Moves this process into all namespaces of another (but for process numbers, so that ours stay
/// what we know).
pub(crate) fn enter(process: u32) -> Result<()> {
    let mut open = Vec::new();
    for name in NAMESPACES {
        let path = format!("/proc/{process}/ns/{name}");
        let same = fs::read_link(&path).ok() == fs::read_link(format!("/proc/self/ns/{name}")).ok();
        if !same {
            open.push((
                name,
                File::open(&path).with_context(|| format!("open {path}"))?,
            ));
        }
    }
    for (name, namespace) in open {
        sys::setns(&namespace).with_context(|| format!("enter the {name} namespace"))?;
    }
    std::env::set_current_dir("/").context("go to /")
}

/// Moves this process into the network namespace that a file such as `/proc/PID/ns/net` means.
pub(crate) fn enter_network(namespace: &Path) -> Result<()> {
    let entered = File::open(namespace).and_then(|file| sys::setns(&file));
    entered.with_context(|| format!("enter {}", namespace.display()))
}

/// The file that means the network namespace of a process.
pub(crate) fn network_of(process: u32) -> PathBuf {
    format!("/proc/{process}/ns/net").into()
}

/// Runs `work` in a process of its own, in the namespaces of `process` if given.
pub(crate) fn run<T, W>(process: Option<u32>, limit: Duration, work: W) -> Result<T>
where
    T: Serialize + DeserializeOwned,
    W: FnOnce() -> Result<T>,
{
    let (mut answers, writer) = io::pipe()?;
    let child = sys::fork(Kind::Leader, || {
        let entered = process.map_or(Ok(()), enter);
        reply(&writer, entered.and_then(|()| work()))
    })
    .context("fork")?;
    drop(writer);
    let text = read_within(&mut answers, limit)?;
    let code = child.wait()?;
    ensure!(
        !text.is_empty(),
        "the process ended without an answer (exit code {code})"
    );
    parse(&text)
}

fn read_within(answers: &mut PipeReader, limit: Duration) -> Result<Vec<u8>> {
    let start = Instant::now();
    let mut text = Vec::new();
    let mut part = vec![0; 1 << 16];
    loop {
        if sys::interrupted() {
            bail!(Interrupted);
        }
        ensure!(start.elapsed() < limit, "no end after {limit:?}: killed");
        if sys::wait_readable([&*answers], LOOK_PAUSE)? == [true] {
            match answers.read(&mut part)? {
                0 => return Ok(text),
                length => text.extend_from_slice(&part[..length]),
            }
        }
    }
}

/// The end of a child: sends its answer. Returns the exit code.
pub(crate) fn reply<T: Serialize>(mut writer: impl Write, answer: Result<T>) -> i32 {
    let answer = answer.map_err(|error| format!("{error:#}"));
    let sent = serde_json::to_vec(&answer).map(|text| writer.write_all(&text));
    i32::from(!matches!(sent, Ok(Ok(()))))
}

/// The other side of [`reply`].
pub(crate) fn parse<T: DeserializeOwned>(text: &[u8]) -> Result<T> {
    let answer: Result<T, String> =
        serde_json::from_slice(text).context("the process ended without an answer")?;
    answer.map_err(|error| anyhow!(error))
}

/// Writes back what is dirty below the directories, so that no run pays for the one before.
pub(crate) fn settle(dirs: &[PathBuf]) -> Result<()> {
    for dir in dirs {
        let synced = File::open(dir).and_then(|dir| sys::syncfs(&dir));
        synced.with_context(|| format!("sync {}", dir.display()))?;
    }
    Ok(())
}
