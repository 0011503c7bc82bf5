//! Waiting for nodes that are led by managers, and what they say when it was in vain.

use super::{PAUSE, SOON, World, notes};
use crate::cluster::Node;
use crate::sys;
use anyhow::{Context, Result, ensure};
use std::thread;
use std::time::{Duration, Instant};

impl World {
    /// Waits until the witness knows the volume from this node: before that it grants nothing.
    ///
    /// # Errors
    /// It is not told.
    pub fn witness_is_told(&self, node: &str) -> Result<()> {
        let began = Instant::now();
        loop {
            let witness = &self.module(node)?["daemon"]["witness"];
            if witness["answered_ago_ms"].is_u64() && witness["last_error"].is_null() {
                return Ok(());
            }
            ensure!(began.elapsed() < SOON, "{witness}");
            thread::sleep(PAUSE);
        }
    }

    /// Waits until `prim` serves with `second` behind it, both Ready.
    ///
    /// # Errors
    /// They do not get there.
    pub fn is_settled(&self, prim: &str, second: &str, limit: Duration) -> Result<()> {
        let what = format!("{prim} is PRIM and {second} SECOND, both ready");
        let ready = |nodes: &[Node], name: &str, state: &str| {
            let mut nodes = nodes.iter();
            nodes.any(|n| n.name == name && n.state == state && n.readiness == "Ready")
        };
        let both = |n: &[Node]| ready(n, prim, "PRIM") && ready(n, second, "SECOND");
        self.cluster.wait_until(&what, limit, both)
    }

    /// Waits until one serves with the other behind it, both Ready: their names.
    ///
    /// # Errors
    /// They do not get there.
    pub fn settles(&self, limit: Duration) -> Result<(String, String)> {
        let mut found = None;
        let what = "one is PRIM and the other SECOND, both ready";
        let ready = |nodes: &[Node]| {
            let name = |state: &str| {
                let mut nodes = nodes.iter().take(2);
                let node = nodes.find(|n| n.state == state && n.readiness == "Ready");
                node.map(|n| n.name.clone())
            };
            found = name("PRIM").zip(name("SECOND"));
            found.is_some()
        };
        self.cluster.wait_until(what, limit, ready)?;
        found.context("they were settled a moment ago")
    }

    /// Waits until a node is in a state and Ready, or for `WAIT` not.
    ///
    /// # Errors
    /// It does not get there.
    pub fn is_in(&self, name: &str, state: &str, limit: Duration) -> Result<()> {
        let rest = if state == "WAIT" { "NotReady" } else { "Ready" };
        let there = |n: &Node| n.name == name && n.state == state && n.readiness == rest;
        let what = format!("{name} is {state}, {rest}");
        self.cluster
            .wait_until(&what, limit, |nodes| nodes.iter().any(there))
    }

    /// Waits until the client has an answer that this node began to give after now.
    ///
    /// # Errors
    /// There is none.
    pub fn is_answered_by(&self, node: &str, limit: Duration) -> Result<()> {
        let (now, started) = (sys::boot_clock(), Instant::now());
        loop {
            let answers = notes::last_answers(&self.notes)?;
            let by = |a: &notes::Answered| a.began > now && a.node() == node;
            if answers.iter().any(by) {
                return Ok(());
            }
            let last = answers.last();
            ensure!(
                started.elapsed() < limit,
                "the client has no answer of {node}; the last one is {last:?}; {:?}",
                self.cluster.status()
            );
            thread::sleep(PAUSE);
        }
    }

    /// Waits for words in the reason of a node.
    ///
    /// # Errors
    /// They do not come.
    pub fn says(&self, node: &str, words: &str, limit: Duration) -> Result<()> {
        let says = |nodes: &[Node]| {
            let mut nodes = nodes.iter().filter(|n| n.name == node);
            nodes.any(|n| n.reason.as_ref().is_some_and(|r| r.contains(words)))
        };
        let what = format!("{node} says {words}");
        self.cluster.wait_until(&what, limit, says)
    }

    /// Prints what the managers did and what the application's scripts did.
    pub fn tell(&self) {
        for node in ["node1", "node2"] {
            let log = self.cluster.tandem(node, &["log"]);
            println!(
                "log of {node}:\n{}",
                log.unwrap_or_else(|e| format!("{e:#}"))
            );
        }
        let events = std::fs::read_to_string(self.notes.join("events")).unwrap_or_default();
        let lines: Vec<_> = events.lines().collect();
        let last = lines.len().saturating_sub(30);
        println!("events:\n{}", lines[last..].join("\n"));
    }
}
