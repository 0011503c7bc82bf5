//! What the daemons of each node cost: processor time and memory, from `/proc`.
//!
//! A node's daemons are the `tandem` processes in its process namespace, but for its init.

use std::fs;
use std::path::Path;
use std::time::Duration;

use anyhow::{Context, Result, ensure};

use crate::sys;

const PROGRAM: &str = "tandem";
/// Fields of `stat` after the name: user time, then system time.
const USER_TIME_FIELD: usize = 11;

/// One node's daemons at one moment.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Usage {
    daemons: Vec<u32>,
    pub(crate) cpu: Duration,
    pub(crate) rss_kib: u64,
}

impl Usage {
    /// `process` is any process of the node.
    pub(crate) fn of_node(process: u32) -> Result<Self> {
        let namespace = |process: u32| fs::read_link(format!("/proc/{process}/ns/pid"));
        let node = namespace(process).with_context(|| format!("process {process} of a node"))?;
        let mut usage = Self {
            daemons: Vec::new(),
            cpu: Duration::ZERO,
            rss_kib: 0,
        };
        for entry in fs::read_dir("/proc")?.flatten() {
            let Some(number) = entry
                .file_name()
                .to_str()
                .and_then(|name| name.parse().ok())
            else {
                continue;
            };
            let dir = entry.path();
            // Each of these reads fails for a process that has just ended.
            if is_daemon(&dir) && namespace(number).is_ok_and(|found| found == node) {
                usage.add(number, &dir);
            }
        }
        Ok(usage)
    }

    fn add(&mut self, number: u32, dir: &Path) {
        let (Some(cpu), Some(rss_kib)) = (cpu(dir), status_number(dir, "VmRSS:")) else {
            return;
        };
        self.daemons.push(number);
        self.cpu += cpu;
        self.rss_kib += rss_kib;
    }

    /// Processor time since `before`; an error if other daemons run now.
    pub(crate) fn since(&self, before: &Self) -> Result<Duration> {
        ensure!(
            self.daemons == before.daemons,
            "a daemon ended or started during the run"
        );
        Ok(self.cpu.saturating_sub(before.cpu))
    }
}

fn is_daemon(dir: &Path) -> bool {
    let program = fs::read_link(dir.join("exe")).ok();
    let is_tandem = program.as_deref().and_then(Path::file_name) == Some(PROGRAM.as_ref());
    // The last number is the one in the innermost namespace.
    is_tandem && status_number(dir, "NSpid:") != Some(1)
}

/// The last number on a line of `status`.
fn status_number(dir: &Path, key: &str) -> Option<u64> {
    let status = fs::read_to_string(dir.join("status")).ok()?;
    let line = status.lines().find_map(|line| line.strip_prefix(key))?;
    line.split_ascii_whitespace()
        .rev()
        .find_map(|field| field.parse().ok())
}

fn cpu(dir: &Path) -> Option<Duration> {
    let stat = fs::read_to_string(dir.join("stat")).ok()?;
    // The name, in brackets, may hold blanks and brackets itself.
    let (_, fields) = stat.rsplit_once(')')?;
    let times = fields
        .split_ascii_whitespace()
        .skip(USER_TIME_FIELD)
        .take(2);
    let ticks: u32 = times.map(|field| field.parse().unwrap_or(0)).sum();
    Some(sys::clock_tick() * ticks)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn own_process_is_seen_but_is_no_daemon() {
        let own = Path::new("/proc/self");
        assert!(!is_daemon(own));
        assert!(cpu(own).is_some());
        assert!(status_number(own, "VmRSS:").unwrap() > 0);
        let usage = Usage::of_node(std::process::id()).unwrap();
        assert!(!usage.daemons.contains(&std::process::id()));
    }
}
