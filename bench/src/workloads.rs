//! The workloads: what each does, in which unit it is counted, and the floor it must reach.
//!
//! A workload is three functions of a directory. `prepare` makes what the run needs and is not
//! timed; `run` measures itself; `check` proves that the run did what it counted, so that an error
//! cannot pass for speed. Each is called in a process of its own, which sees the directory as an
//! application would.

mod create;
mod files;
mod fio;
mod fio_report;
mod floor;
mod gang;
mod one_file;
mod pg_server;
mod pgbench;
mod random_buffered;
mod random_read;
mod random_sync;
mod remove;
mod sequential_read;
mod sequential_write;
mod tree;
mod untar;
mod walk;

pub(crate) use floor::Floor;
pub(crate) use pg_server::{is_installed as postgres_is_installed, user as postgres_user};

use std::path::PathBuf;
use std::time::{Duration, Instant};

use anyhow::Result;
use serde::{Deserialize, Serialize};

use crate::args::Sizes;
use crate::histogram::Histogram;
use crate::sys;

/// Files that match are opened without the page cache in the lab (PW-pattern).
pub(crate) const DIRECT_PATTERN: &str = "**/*.direct";

/// Where and how a workload runs.
pub(crate) struct Context {
    /// Exists, belongs to the bench alone, and keeps its contents between the runs of a group.
    pub(crate) dir: PathBuf,
    /// A directory outside of what is measured, for sockets.
    pub(crate) scratch: PathBuf,
    pub(crate) sizes: Sizes,
    pub(crate) round: u64,
}

/// What a run did.
#[derive(Clone, Debug, Default, Serialize, Deserialize)]
pub(crate) struct Tally {
    pub(crate) operations: u64,
    pub(crate) elapsed: Duration,
    /// Of single operations; empty where they are not timed.
    pub(crate) latency: Histogram,
}

impl Tally {
    pub(crate) fn rate(&self) -> f64 {
        self.operations as f64 / self.elapsed.as_secs_f64().max(1e-9)
    }

    /// Adds what was done afterwards.
    fn append(&mut self, next: &Self) {
        self.operations += next.operations;
        self.elapsed += next.elapsed;
        self.latency.merge(&next.latency);
    }

    /// Adds what another process did at the same time.
    fn merge(&mut self, other: &Self) {
        self.operations += other.operations;
        self.elapsed = self.elapsed.max(other.elapsed);
        self.latency.merge(&other.latency);
    }
}

/// What a row compares.
#[derive(Clone, Copy)]
pub(crate) enum Base {
    /// The same run on the bare directory.
    Bare,
    /// Another run on the subject; the text names it.
    Subject(&'static str, fn(&Context) -> Result<Tally>),
}

/// What a workload cannot run without.
#[derive(Clone, Copy, PartialEq, Eq)]
pub(crate) enum Needs {
    Nothing,
    /// Only a lab's mount has what is measured.
    Lab,
    Postgres,
    Fio,
}

/// One workload.
pub(crate) struct Spec {
    pub(crate) id: &'static str,
    pub(crate) what: &'static str,
    /// What is counted per second.
    pub(crate) unit: &'static str,
    /// Workloads of a group share files and run together, round by round.
    pub(crate) group: &'static str,
    /// Smallest accepted ratio of subject to base.
    pub(crate) floor: Floor,
    pub(crate) needs: Needs,
    /// Runs a second time with a slow network, and only there has its floor.
    pub(crate) also_delayed: bool,
    pub(crate) base: Base,
    pub(crate) prepare: fn(&Context) -> Result<()>,
    pub(crate) run: fn(&Context) -> Result<Tally>,
    pub(crate) check: fn(&Context, &Tally) -> Result<()>,
}

/// What most workloads have in common.
const PLAIN: Spec = Spec {
    id: "",
    what: "",
    unit: "ops/s",
    group: "",
    floor: Floor::None,
    needs: Needs::Nothing,
    also_delayed: false,
    base: Base::Bare,
    prepare: |_| Ok(()),
    run: |_| {
        Ok(Tally {
            operations: 0,
            elapsed: Duration::ZERO,
            latency: Histogram::default(),
        })
    },
    check: |_, _| Ok(()),
};

/// All of them, in the order of the table.
pub(crate) fn all() -> &'static [&'static Spec] {
    static ALL: [&Spec; 23] = [
        &fio::F1,
        &fio::F2,
        &fio::F3,
        &fio::F4,
        &fio::F5,
        &fio::F6,
        &random_sync::W1,
        &random_sync::W2,
        &random_buffered::W3,
        &sequential_write::W4,
        &sequential_read::W5,
        &random_read::W6,
        &untar::W7,
        &create::W8,
        &create::W8X8,
        &walk::FIRST,
        &walk::SECOND,
        &remove::W10,
        &one_file::BUFFERED,
        &one_file::PATTERN,
        &one_file::O_DIRECT,
        &pgbench::C1,
        &pgbench::C8,
    ];
    &ALL
}

/// Repeats an operation for `limit` and times each. The clock is read once per operation: the end
/// of one is the start of the next.
fn timed(limit: Duration, mut operation: impl FnMut() -> Result<()>) -> Result<Tally> {
    let mut tally = Tally::default();
    let start = Instant::now();
    let mut before = start;
    while tally.elapsed < limit {
        operation()?;
        let now = Instant::now();
        tally.latency.record(now - before);
        tally.operations += 1;
        tally.elapsed = now - start;
        before = now;
    }
    Ok(tally)
}

/// Times one piece of work that counts as many operations as it returns.
fn timed_once(work: impl FnOnce() -> Result<u64>) -> Result<Tally> {
    let start = Instant::now();
    let operations = work()?;
    Ok(Tally {
        operations,
        elapsed: start.elapsed(),
        latency: Histogram::default(),
    })
}

/// Owner and group for files that are given away: as root an ordinary user, otherwise our own.
fn stranger() -> Option<u32> {
    const ORDINARY: u32 = 1000;
    sys::is_root().then_some(ORDINARY)
}
