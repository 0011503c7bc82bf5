//! A client in a node without the module, and what it was told.

use super::program::{APART, now};
use crate::cluster::Cluster;
use crate::running::{Running, scratch_dir};
use anyhow::{Context, Result, ensure};
use std::collections::BTreeSet;
use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};

/// The client's node.
pub const OUTSIDE: &str = "node3";
const LIMIT: Duration = Duration::from_secs(30);
const PAUSE: Duration = Duration::from_millis(10);

/// An answered request.
#[derive(Clone, Debug)]
pub struct Ack {
    /// By [`now`].
    pub at: u64,
    pub number: u64,
    /// Who answered.
    pub node: String,
    pub pid: u32,
}

/// Something that happened to a connection: `lost`, `waits` or `idle`, address, and how.
#[derive(Clone, Debug)]
pub struct Event {
    pub at: u64,
    pub what: String,
    pub address: String,
    pub how: String,
}

/// Everything a client wrote down.
#[derive(Debug, Default)]
pub struct Heard {
    pub acks: Vec<Ack>,
    pub events: Vec<Event>,
}

/// Clients that run; ended on drop.
pub struct Client {
    program: Running,
    logs: PathBuf,
}

impl Client {
    /// Starts them, and waits until the application answers.
    ///
    /// # Errors
    /// Nobody answers.
    pub fn start(cluster: &Cluster, helper: &str, addresses: &[&str]) -> Result<Self> {
        let logs = scratch_dir("client")?;
        let text = logs.to_string_lossy();
        let command = [&[helper, "ask", &*text], addresses].concat();
        let command = cluster.exec_command(OUTSIDE, &[], &command);
        let program = Running::start(command, &logs.join("output"))?;
        let client = Self { program, logs };
        let all = |heard: &Heard| {
            let answered = |index: usize| {
                let first = index as u64 * APART;
                heard.acks.iter().any(|a| a.number >= first)
            };
            (0..addresses.len()).all(answered)
        };
        client.until("every address answers", all)?;
        Ok(client)
    }

    /// What was heard until now.
    ///
    /// # Errors
    /// The log is not as it should be.
    pub fn heard(&self) -> Result<Heard> {
        Heard::read(&self.logs)
    }

    fn until(&self, what: &str, holds: impl Fn(&Heard) -> bool) -> Result<()> {
        let started = Instant::now();
        loop {
            let heard = self.heard()?;
            if holds(&heard) {
                return Ok(());
            }
            ensure!(
                started.elapsed() < LIMIT,
                "still not so: {what}; heard last {:?} and {:?}; {}",
                heard.acks.last(),
                heard.events.last(),
                self.program.output()
            );
            std::thread::sleep(PAUSE);
        }
    }

    /// Waits until a node has answered some more requests from now on; when the first of them was.
    ///
    /// # Errors
    /// It does not.
    pub fn answered_by(&self, node: &str) -> Result<u64> {
        let from = now();
        let of = |heard: &Heard| -> Vec<u64> {
            let acks = heard.acks.iter();
            let acks = acks.filter(|a| a.at > from && a.node == node);
            acks.map(|a| a.at).collect()
        };
        self.until(&format!("{node} answers"), |heard| of(heard).len() >= 5)?;
        of(&self.heard()?).first().copied().context("an answer")
    }

    /// Ends them.
    ///
    /// # Errors
    /// They do not end.
    pub fn end(&mut self) -> Result<()> {
        std::fs::write(self.logs.join("end"), "")?;
        let status = self.program.wait(LIMIT)?;
        ensure!(status.success(), "the client: {}", self.program.output());
        Ok(())
    }
}

impl Drop for Client {
    fn drop(&mut self) {
        self.end().ok();
        std::fs::remove_dir_all(&self.logs).ok();
    }
}

impl Heard {
    /// What clients wrote down in this directory.
    ///
    /// # Errors
    /// The log is not as it should be.
    pub fn read(logs: &Path) -> Result<Self> {
        let text = std::fs::read_to_string(logs.join("told")).unwrap_or_default();
        let mut heard = Self::default();
        for line in text.lines() {
            heard.add(line).with_context(|| line.to_string())?;
        }
        Ok(heard)
    }

    fn add(&mut self, line: &str) -> Result<()> {
        let words: Vec<&str> = line.split(' ').collect();
        match words[..] {
            [at, "ack", number, node, pid] => self.acks.push(Ack {
                at: at.parse()?,
                number: number.parse()?,
                node: node.into(),
                pid: pid.parse()?,
            }),
            [at, what, address, ref rest @ ..] => self.events.push(Event {
                at: at.parse()?,
                what: what.into(),
                address: address.into(),
                how: rest.join(" "),
            }),
            _ => anyhow::bail!("no line of a client"),
        }
        Ok(())
    }

    /// The longest time between two answers of the first address since then.
    pub fn longest_pause(&self, since: u64) -> Duration {
        let acks = self.acks.iter().filter(|a| a.number < APART);
        let after = acks.map(|a| a.at).filter(|at| *at >= since);
        let times: Vec<u64> = std::iter::once(since).chain(after).collect();
        let pauses = times.windows(2).map(|pair| pair[1] - pair[0]);
        Duration::from_micros(pauses.max().unwrap_or(u64::MAX))
    }

    /// Processes that answered since then, in the order of their first answer.
    pub fn servers(&self, since: u64) -> Vec<(String, u32)> {
        let mut all: Vec<(String, u32)> = Vec::new();
        for ack in self.acks.iter().filter(|a| a.at >= since) {
            let server = (ack.node.clone(), ack.pid);
            if !all.contains(&server) {
                all.push(server);
            }
        }
        all
    }

    /// How connections on which nothing is said ended since then.
    pub fn idle_ends(&self, since: u64) -> Vec<&Event> {
        let idle = |e: &&Event| e.what == "idle" && e.at >= since;
        self.events.iter().filter(idle).collect()
    }

    /// Every answered number is in this copy of the application's file.
    ///
    /// # Errors
    /// One is missing.
    pub fn is_found(&self, journal: &Path) -> Result<()> {
        let text = std::fs::read_to_string(journal);
        let text = text.with_context(|| journal.display().to_string())?;
        let kept: BTreeSet<&str> = text.lines().collect();
        ensure!(!self.acks.is_empty(), "nothing was acknowledged");
        let is_missing = |a: &&Ack| !kept.contains(a.number.to_string().as_str());
        let missing: Vec<&Ack> = self.acks.iter().filter(is_missing).collect();
        ensure!(
            missing.is_empty(),
            "{} of {} acknowledged numbers are not in {}, the first {:?}",
            missing.len(),
            self.acks.len(),
            journal.display(),
            missing[0]
        );
        Ok(())
    }
}
