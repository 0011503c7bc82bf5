//! Two real nodes on this machine, made and removed by `tandem lab`, for tests.
//!
//! A test gets a cluster or a plain line why not; what it did in the cluster ends with the
//! comparison of both replicas, seen from below, without the file system under test.

use crate::scratch::open_dir;
use crate::sys;
use crate::tree::{self, Options};
use anyhow::{Context, Result, bail, ensure};
use serde::Deserialize;
use std::fs;
use std::io::{Read, Write};
use std::os::fd::OwnedFd;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use std::sync::atomic::{AtomicU32, Ordering};
use std::thread;
use std::time::{Duration, Instant};

/// A program inside a node that takes longer hangs; its node is then killed.
const EXEC_LIMIT: Duration = Duration::from_secs(300);
/// How long replicas may take to become equal once nobody writes. Far beyond what is normal: the
/// test reports when it was not at once.
const SETTLE_LIMIT: Duration = Duration::from_secs(20);

/// One node as `lab status` shows it.
#[derive(Clone, Debug, Deserialize)]
pub struct Node {
    pub name: String,
    pub state: String,
    pub readiness: String,
    /// The replicated directory inside the node.
    pub mount: String,
    /// The tree below it, from outside.
    pub replica: PathBuf,
    pub pid: Option<u32>,
    pub reason: Option<String>,
}

#[derive(Deserialize)]
struct Nodes {
    nodes: Vec<Node>,
}

/// A cluster of two nodes, removed on drop.
pub struct Cluster {
    binary: PathBuf,
    helper: PathBuf,
    name: String,
    dir: PathBuf,
}

/// The program under test, or nothing and a line that says why the test is skipped. With
/// `TANDEM_REQUIRE_CLUSTER` set (as the one command that runs all tests does) that is a failure.
pub fn binary(test: &str) -> Option<PathBuf> {
    let missing = match std::env::var_os("TANDEM_BIN") {
        None => "TANDEM_BIN does not name the tandem program",
        Some(_) if !sys::is_root() => "it needs root",
        Some(binary) => return Some(PathBuf::from(binary)),
    };
    let required = std::env::var_os("TANDEM_REQUIRE_CLUSTER").is_some();
    assert!(!required, "{test} cannot run on two nodes: {missing}");
    skipped(test, missing);
    None
}

/// Says that a test did not run, past the capturing of the test harness.
pub fn skipped(test: &str, why: &str) {
    writeln!(std::io::stderr(), "skipped: {test}: {why}").ok();
}

impl Cluster {
    /// Brings a cluster up, with more arguments for `lab up`. `helper` is the program that runs
    /// inside the nodes.
    pub fn up(binary: PathBuf, helper: &str, more: &[&str]) -> Result<Self> {
        let cluster = Self::make(binary, helper, more)?;
        let nodes = cluster.status()?;
        let states: Vec<_> = nodes
            .iter()
            .take(2)
            .map(|node| node.state.as_str())
            .collect();
        ensure!(
            states == ["PRIM", "SECOND"],
            "the new lab is not in order: {nodes:?}"
        );
        Ok(cluster)
    }

    /// The same in whatever state the arguments leave it.
    pub fn make(binary: PathBuf, helper: &str, more: &[&str]) -> Result<Self> {
        // Where temporary files live: who sets TMPDIR can find what a killed test left there.
        Self::make_in(&std::env::temp_dir(), binary, helper, more)
    }

    /// The same below a directory.
    pub fn make_in(at: &Path, binary: PathBuf, helper: &str, more: &[&str]) -> Result<Self> {
        static NEXT: AtomicU32 = AtomicU32::new(0);
        let number = NEXT.fetch_add(1, Ordering::Relaxed);
        let name = format!("test-{}-{number}", std::process::id());
        let dir = at.join(format!("tandem-lab-{name}"));
        let cluster = Self {
            binary,
            helper: PathBuf::from(helper),
            name,
            dir,
        };
        cluster.lab("up", more)?;
        if more.contains(&"--ping") && !more.contains(&"--no-roles") {
            cluster.pings()?;
        }
        Ok(cluster)
    }

    /// A daemon that has not found its address before it loses its peer takes itself for cut off.
    /// In a network that was made a moment ago the first answer may take a second.
    fn pings(&self) -> Result<()> {
        let started = Instant::now();
        for node in ["node1", "node2"] {
            let log = self.node_dir(node).join("log");
            while !fs::read_to_string(&log)?.contains("an address of `ping` answers") {
                let late = started.elapsed() > Duration::from_secs(10);
                ensure!(!late, "{node} does not reach what it pings");
                thread::sleep(Duration::from_millis(20));
            }
        }
        // And since then it has heard of its peer: a lease is renewed every half second.
        thread::sleep(Duration::from_millis(700));
        Ok(())
    }

    fn command(&self, command: &str) -> Command {
        let mut lab = Command::new(&self.binary);
        lab.args(["lab", command, "--name", &self.name, "--dir"])
            .arg(&self.dir);
        lab
    }

    /// A command of `tandem lab`; its output.
    pub fn lab(&self, command: &str, arguments: &[&str]) -> Result<String> {
        let mut lab = self.command(command);
        lab.args(arguments);
        let output = lab.output().with_context(|| format!("{lab:?}"))?;
        let said = String::from_utf8_lossy(&output.stderr);
        ensure!(
            output.status.success(),
            "tandem lab {command}: {}: {said}",
            output.status
        );
        Ok(String::from_utf8_lossy(&output.stdout).into_owned())
    }

    /// All nodes.
    pub fn status(&self) -> Result<Vec<Node>> {
        let text = self.lab("status", &["--json"])?;
        let nodes: Nodes = serde_json::from_str(&text).with_context(|| text.clone())?;
        Ok(nodes.nodes)
    }

    /// One node by name.
    pub fn node(&self, name: &str) -> Result<Node> {
        let node = self.status()?.into_iter().find(|node| node.name == name);
        node.with_context(|| format!("no node is called {name}"))
    }

    /// Runs a program inside a node; its output if it succeeded, else an error with it.
    pub fn exec(&self, node: &str, program: &[&str]) -> Result<String> {
        let mut exec = self.command("exec");
        exec.args([node, "--"]).args(program);
        exec.stdin(Stdio::null())
            .stdout(Stdio::piped())
            .stderr(Stdio::piped());
        let mut child = exec.spawn().with_context(|| format!("{exec:?}"))?;
        let mut streams = [reader(child.stdout.take()), reader(child.stderr.take())].into_iter();
        let started = Instant::now();
        let status = loop {
            if let Some(status) = child.try_wait()? {
                break status;
            }
            if started.elapsed() > EXEC_LIMIT {
                self.lab("kill", &[node]).ok();
                child.wait().ok();
                bail!("{program:?} on {node} hung; the node was killed");
            }
            thread::sleep(Duration::from_millis(5));
        };
        let mut text = || {
            streams
                .next()
                .and_then(|stream| stream.join().ok())
                .unwrap_or_default()
        };
        let (output, errors) = (text(), text());
        ensure!(
            status.success(),
            "{program:?} on {node}: {status}\n{output}{errors}"
        );
        Ok(output)
    }

    /// The command that runs a program inside a node, to be started by the caller.
    pub fn exec_command(&self, node: &str, options: &[&str], program: &[&str]) -> Command {
        let mut exec = self.command("exec");
        exec.args(options).args([node, "--"]).args(program);
        exec
    }

    /// The command that runs the helper inside a node, on the replicated directory.
    pub fn helper_command(&self, node: &str, what: &str, arguments: &[&str]) -> Result<Command> {
        let helper = self.helper.to_str().context("the helper's path is text")?;
        let mount = self.node(node)?.mount;
        let program = [&[helper, what, mount.as_str()], arguments].concat();
        Ok(self.exec_command(node, &[], &program))
    }

    /// The `tandem` program inside a node; its output if it succeeded, else an error with it.
    pub fn tandem(&self, node: &str, arguments: &[&str]) -> Result<String> {
        let binary = self.binary.to_str().context("the program's path is text")?;
        self.exec(node, &[&[binary], arguments].concat())
    }

    /// The command that runs the `tandem` program inside a node.
    pub fn tandem_command(&self, node: &str, arguments: &[&str]) -> Result<Command> {
        let binary = self.binary.to_str().context("the program's path is text")?;
        Ok(self.exec_command(node, &[], &[&[binary], arguments].concat()))
    }

    /// The program under test.
    pub fn binary(&self) -> &Path {
        &self.binary
    }

    /// The directory of a node from outside: `disk`, `etc`, `run` and `log` are in it.
    pub fn node_dir(&self, node: &str) -> PathBuf {
        self.dir.join(node)
    }

    /// The replicated directory as a node's applications see it, as a path from outside.
    pub fn mount_path(&self, node: &str) -> Result<PathBuf> {
        let node = self.node(node)?;
        let pid = node.pid.with_context(|| format!("{} is down", node.name))?;
        Ok(PathBuf::from(format!("/proc/{pid}/root{}", node.mount)))
    }

    /// Runs the helper inside the node, on the replicated directory.
    pub fn inside(&self, node: &str, what: &str, arguments: &[&str]) -> Result<String> {
        let helper = self.helper.to_str().context("the helper's path is text")?;
        let mount = self.node(node)?.mount;
        let command = [&[helper, what, mount.as_str()], arguments].concat();
        self.exec(node, &command)
    }

    /// Waits until something holds; the error says what did not, and how the nodes are.
    pub fn wait_until(
        &self,
        what: &str,
        limit: Duration,
        mut holds: impl FnMut(&[Node]) -> bool,
    ) -> Result<()> {
        let started = Instant::now();
        loop {
            let nodes = self.status()?;
            if holds(&nodes) {
                return Ok(());
            }
            ensure!(
                started.elapsed() < limit,
                "still not so: {what}; nodes: {nodes:?}"
            );
            thread::sleep(Duration::from_millis(50));
        }
    }

    /// The directory as the applications of a node see it.
    pub fn mount_dir(&self, node: &str) -> Result<OwnedFd> {
        open_dir(&self.mount_path(node)?)
    }

    /// Writes back what only the kernel of the serving node holds (stores through mappings), then
    /// compares both replicas, and the directory as the application sees it with what is below.
    pub fn replicas_are_equal(&self, serving: &str) -> Result<()> {
        self.replicas_are_equal_within(serving, SETTLE_LIMIT)
    }

    /// The same with a limit of the caller's.
    pub fn replicas_are_equal_within(&self, serving: &str, limit: Duration) -> Result<()> {
        self.inside(serving, "sync", &[])?;
        let nodes = self.status()?;
        ensure!(nodes.len() >= 2, "two nodes hold the module: {nodes:?}");
        let (one, two) = (open_dir(&nodes[0].replica)?, open_dir(&nodes[1].replica)?);
        let options = Options::replicas();
        let settled = settle("replicas", (&one, &two), &options, limit);
        let mount = self.mount_dir(serving)?;
        let below = if nodes[0].name == serving { &one } else { &two };
        settled?;
        settle("directory and replica", (&mount, below), &options, limit)
    }
}

/// Compares until two trees are equal, or the limit.
fn settle(
    what: &str,
    (left, right): (&OwnedFd, &OwnedFd),
    options: &Options,
    limit: Duration,
) -> Result<()> {
    let started = Instant::now();
    let mut first = None;
    loop {
        let found = tree::report(left, right, options).unwrap_or_else(|error| error);
        if found.is_empty() {
            if let Some(first) = first {
                let late = started.elapsed().as_millis();
                println!("{what}: equal only after {late} ms; at first:\n{first}");
            }
            return Ok(());
        }
        ensure!(started.elapsed() < limit, "{what} differ:\n{found}");
        first.get_or_insert(found);
        thread::sleep(Duration::from_millis(200));
    }
}

/// Reads a stream to its end beside the waiting, so that a full pipe stops nobody.
fn reader(stream: Option<impl Read + Send + 'static>) -> thread::JoinHandle<String> {
    thread::spawn(move || {
        let mut bytes = Vec::new();
        if let Some(mut stream) = stream {
            // What was read before an error is still worth showing.
            stream.read_to_end(&mut bytes).ok();
        }
        String::from_utf8_lossy(&bytes).into_owned()
    })
}

impl Drop for Cluster {
    fn drop(&mut self) {
        if thread::panicking() {
            // The node's own log says more than the failed assertion.
            for node in self.status().unwrap_or_default() {
                let log = node.replica.ancestors().nth(2).map(|dir| dir.join("log"));
                let text = log
                    .and_then(|log| std::fs::read_to_string(log).ok())
                    .unwrap_or_default();
                let lines: Vec<_> = text.lines().rev().take(30).collect();
                println!("last lines of {}:", node.name);
                lines.iter().rev().for_each(|line| println!("  {line}"));
            }
        }
        if let Err(error) = self.lab("down", &[]) {
            println!("the lab {} is left behind: {error:#}", self.name);
        }
    }
}
