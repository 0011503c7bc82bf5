//! A lab led by managers, with an application whose address moves, a client of that address on a
//! third node, and somebody who looks all the time whether two nodes serve.
//!
//! Power: a killed node loses all its processes at once, and boots with another boot id; its disk
//! keeps what the kernel had. What a disk loses is the subject of the guests of `tests/power`.

pub mod eyes;
pub mod notes;
mod waits;

use crate::application::PORT;
use crate::cluster::{self, Cluster};
use crate::load::{self, WRITERS};
use crate::running::{Running, scratch_dir};
use crate::sys;
use anyhow::{Context, Result, ensure};
use eyes::Eyes;
use serde_json::Value;
use std::ops::Deref;
use std::path::{Path, PathBuf};
use std::thread;
use std::time::{Duration, Instant};

/// The address of the service.
pub const ADDRESS: &str = "10.77.0.100";
/// The replicated directory inside the nodes.
pub const MOUNT: &str = "/mnt/disk/data";
/// The default, which the labs here have: how long a silent peer is waited for.
pub const STALL_LIMIT: Duration = Duration::from_secs(3);
/// How long anything may take that waits for no deadline of the product but the stall limit.
pub const SOON: Duration = Duration::from_secs(20);
const PAUSE: Duration = Duration::from_millis(20);

/// The lab, removed on drop.
pub struct World {
    client: Option<Running>,
    eyes: Eyes,
    notes: PathBuf,
    helper: String,
    cluster: Cluster,
}

impl Deref for World {
    type Target = Cluster;

    fn deref(&self) -> &Cluster {
        &self.cluster
    }
}

impl World {
    /// Three nodes, the first two led by managers; more arguments of `lab up`, more keys of the
    /// module. Nothing and a line where the test cannot run.
    ///
    /// # Panics
    /// The lab does not come up.
    pub fn up(test: &str, helper: &str, more: &[&str], keys: &str) -> Option<Self> {
        let binary = cluster::binary(test)?;
        match Self::make(binary, helper, more, keys) {
            Ok(world) => Some(world),
            Err(e) => panic!("{test}: {e:#}"),
        }
    }

    /// The same, but the module is left as the arguments say: see [`World::begins`].
    ///
    /// # Panics
    /// The lab does not come up.
    pub fn begin(test: &str, helper: &str, more: &[&str], keys: &str) -> Option<Self> {
        let binary = cluster::binary(test)?;
        match Self::bare(&std::env::temp_dir(), binary, helper, more, keys) {
            Ok(world) => Some(world),
            Err(e) => panic!("{test}: {e:#}"),
        }
    }

    /// The same, for programs.
    ///
    /// # Errors
    /// The lab does not come up.
    pub fn make(binary: PathBuf, helper: &str, more: &[&str], keys: &str) -> Result<Self> {
        Self::make_in(&std::env::temp_dir(), binary, helper, more, keys)
    }

    /// The same below a directory.
    ///
    /// # Errors
    /// The lab does not come up.
    pub fn make_in(
        at: &Path,
        binary: PathBuf,
        helper: &str,
        more: &[&str],
        keys: &str,
    ) -> Result<Self> {
        let mut world = Self::bare(at, binary, helper, more, keys)?;
        world.is_settled("node1", "node2", SOON)?;
        if more.contains(&"--witness") {
            world.witness_is_told("node1")?;
        }
        world.starts_client()?;
        Ok(world)
    }

    fn bare(at: &Path, binary: PathBuf, helper: &str, more: &[&str], keys: &str) -> Result<Self> {
        let notes = scratch_dir("managed")?;
        let shown = notes.display();
        let program = format!("\"{helper}\", \"application\"");
        let settings = format!(
            "virtual_ips: [\"{ADDRESS}\"],\n  scripts: (\n    \
             start_prim: [{program}, \"start\", \"{MOUNT}\", \"{shown}\"],\n    \
             stop_prim: [{program}, \"stop\", \"{shown}\"],\n  ),\n  {keys}"
        );
        let three = ["--nodes", "3", "--manager", "--settings", &settings];
        let cluster = Cluster::make_in(at, binary, helper, &[&three, more].concat())?;
        let eyes = Eyes::open(ADDRESS);
        let world = Self {
            client: None,
            eyes,
            notes,
            helper: helper.into(),
            cluster,
        };
        for node in world.cluster.status()?.iter().take(2) {
            world.eyes.looks_at(&node.name, node.pid);
        }
        Ok(world)
    }

    /// The operator's word where nothing was synchronised yet: node1 has the good data.
    ///
    /// # Errors
    /// It does not become PRIM.
    pub fn begins(&mut self) -> Result<()> {
        let started = Instant::now();
        while let Err(e) = self.cluster.tandem("node1", &["prim"]) {
            ensure!(started.elapsed() < SOON, "prim on node1: {e:#}");
            thread::sleep(PAUSE);
        }
        self.is_settled("node1", "node2", SOON)?;
        self.starts_client()
    }

    fn starts_client(&mut self) -> Result<()> {
        let address = format!("{ADDRESS}:{PORT}");
        let notes = self.notes.to_str().context("the notes' path is text")?;
        let program = [&self.helper, "application", "client", &address, notes];
        let command = self.cluster.exec_command("node3", &[], &program);
        self.client = Some(Running::start(command, &self.notes.join("client.output"))?);
        self.is_answered_by("node1", SOON)?;
        // There shall be something to lose.
        thread::sleep(PAUSE * 15);
        Ok(())
    }

    /// What the application and its client wrote down.
    pub fn notes(&self) -> &Path {
        &self.notes
    }

    pub fn eyes(&self) -> &Eyes {
        &self.eyes
    }

    /// Cuts a node's power.
    ///
    /// # Errors
    /// Those of the lab.
    pub fn power_off(&self, node: &str) -> Result<()> {
        self.eyes.looks_at(node, None);
        self.cluster.lab("kill", &[node]).map(drop)
    }

    /// Power returns: the node boots, without the memory it had.
    ///
    /// # Errors
    /// Those of the lab.
    pub fn power_on(&self, node: &str) -> Result<()> {
        self.cluster.lab("start", &["--power-lost", node])?;
        self.eyes.looks_at(node, self.cluster.node(node)?.pid);
        Ok(())
    }

    /// Sends a signal to every process of a node: `SIGSTOP` freezes it as a paused guest.
    ///
    /// # Errors
    /// The node is down, or its processes cannot be seen.
    pub fn signal_all(&self, node: &str, signal: i32) -> Result<()> {
        let init = self
            .eyes
            .pid(node)
            .with_context(|| format!("{node} is down"))?;
        let of = |pid: &str| std::fs::read_link(format!("/proc/{pid}/ns/pid")).ok();
        let own = of(&init.to_string()).context("the node's namespace")?;
        // Twice: one that is stopped starts no others.
        for _ in 0..2 {
            for entry in std::fs::read_dir("/proc")?.flatten() {
                let name = entry.file_name();
                let Some((text, pid)) = name.to_str().and_then(|n| Some((n, n.parse().ok()?)))
                else {
                    continue;
                };
                if of(text).as_ref() == Some(&own) {
                    // It may have ended.
                    sys::kill(pid, signal).ok();
                }
            }
        }
        Ok(())
    }

    /// Kills the witness on node3.
    ///
    /// # Errors
    /// Those of the lab.
    pub fn end_witness(&self) -> Result<()> {
        let script = "for p in /proc/[0-9]*; do if tr '\\0' ' ' <$p/cmdline 2>/dev/null \
             | grep -q 'tandem[^ ]* witness'; then kill -KILL ${p#/proc/}; fi; done";
        self.cluster.exec("node3", &["sh", "-c", script]).map(drop)
    }

    /// Starts it again, and waits until this node has told it.
    ///
    /// # Errors
    /// It is not told.
    pub fn start_witness(&self, node: &str) -> Result<Running> {
        let command = self.cluster.tandem_command("node3", &["witness"])?;
        let running = Running::start(command, &self.notes.join("witness.output"))?;
        self.witness_is_told(node)?;
        Ok(running)
    }

    /// What the manager of a node tells.
    ///
    /// # Errors
    /// It does not answer.
    pub fn manager(&self, node: &str) -> Result<Value> {
        let text = self.cluster.tandem(node, &["status", "--json"])?;
        serde_json::from_str(&text).with_context(|| text.clone())
    }

    /// The lab's module as the manager of a node tells it.
    ///
    /// # Errors
    /// It does not answer.
    pub fn module(&self, node: &str) -> Result<Value> {
        self.module_named(node, "data")
    }

    /// A module as the manager of a node tells it.
    ///
    /// # Errors
    /// It does not answer, or has no such module.
    pub fn module_named(&self, node: &str, name: &str) -> Result<Value> {
        let answer = self.manager(node)?;
        let mut modules = answer["modules"].as_array().into_iter().flatten();
        let found = modules.find(|m| m["module"] == name).cloned();
        found.with_context(|| format!("{node} has no module {name}"))
    }

    /// Why a node is not what it should be; empty if it is.
    ///
    /// # Errors
    /// Those of `tandem lab status`.
    pub fn reason(&self, name: &str) -> Result<String> {
        Ok(self.cluster.node(name)?.reason.unwrap_or_default())
    }

    /// Ends application's writers and client, and looks for everything: what was answered is on
    /// both replicas, they are equal, the count never went back, and nobody served beside another.
    /// Returns what was written down.
    ///
    /// # Errors
    /// What is missing, or more than one.
    pub fn ends_well(&mut self, prim: &str) -> Result<notes::Notes> {
        let notes = self.ends(prim)?;
        notes.never_two()?;
        let seen = self.eyes.two();
        ensure!(seen.is_empty(), "both had the address: {seen:?}");
        Ok(notes)
    }

    /// The same where the policy let both serve for a while: the count of one side is gone.
    ///
    /// # Errors
    /// The replicas differ.
    pub fn settles_after_a_split(&mut self, prim: &str) -> Result<()> {
        self.quiet(prim).map(drop)
    }

    fn ends(&mut self, prim: &str) -> Result<notes::Notes> {
        let notes = self.quiet(prim)?;
        notes.the_count_never_goes_back()?;
        Ok(notes)
    }

    /// Nobody writes any more, and the replicas are equal.
    fn quiet(&mut self, prim: &str) -> Result<notes::Notes> {
        load::end(&self.notes)?;
        self.stops_writers()?;
        if let Some(mut client) = self.client.take() {
            client.wait(SOON)?;
        }
        self.cluster.replicas_are_equal(prim)?;
        let notes = notes::Notes::read(&self.notes)?;
        ensure!(notes.answers.len() > 10, "the client had hardly an answer");
        Ok(notes)
    }

    /// Nothing but the count is written any more.
    ///
    /// # Errors
    /// The notes cannot be read.
    pub fn stops_writers(&self) -> Result<()> {
        for instance in notes::instances(&self.notes)? {
            load::end(&instance.dir)?;
        }
        // What a writer was doing is done.
        thread::sleep(PAUSE * 5);
        Ok(())
    }

    /// Everything that was answered to the application is on a node's disk.
    ///
    /// # Errors
    /// What is missing.
    pub fn everything_is_found(&self, node: &str, except: &[&str]) -> Result<()> {
        let root = self.cluster.node(node)?.replica;
        let mut answered = 0;
        for instance in notes::instances(&self.notes)? {
            if except.contains(&instance.name.as_str()) {
                continue;
            }
            let own = root.join(&instance.name);
            for number in 0..WRITERS {
                let told = load::told(&instance.dir, number)?;
                answered += told.answered;
                told.is_found(&own, number)
                    .with_context(|| format!("{} writer {number} on {node}", instance.name))?;
            }
        }
        ensure!(answered > 100, "only {answered} answers in all");
        Ok(())
    }
}

impl Drop for World {
    fn drop(&mut self) {
        if thread::panicking() {
            for node in ["node1", "node2"] {
                let log = self.cluster.tandem(node, &["log"]);
                println!(
                    "log of {node}:\n{}",
                    log.unwrap_or_else(|e| format!("{e:#}"))
                );
            }
            let events = std::fs::read_to_string(self.notes.join("events"));
            println!("events:\n{}", events.unwrap_or_default());
        }
        self.eyes.close();
        drop(self.client.take());
        std::fs::remove_dir_all(&self.notes).ok();
    }
}
