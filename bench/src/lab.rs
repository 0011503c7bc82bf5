//! Two nodes in a lab, started and removed by the `tandem` program itself.

use std::ffi::OsStr;
use std::os::unix::process::CommandExt;
use std::path::{Path, PathBuf};
use std::process::{Command, Output, Stdio};
use std::thread;
use std::time::{Duration, Instant};

use anyhow::{Context, Result, bail, ensure};
use serde::Deserialize;

use crate::args::Args;
use crate::runner::Interrupted;
use crate::sys;
use crate::workloads::DIRECT_PATTERN;

const READY_LIMIT: Duration = Duration::from_secs(60);
const PAUSE: Duration = Duration::from_millis(100);
/// Where labs are made; a temporary directory that survives a boot is not in memory.
const ON_DISK: &str = "/var/tmp";
/// Room for the files of the largest group, twice, and for two databases. Takes what is written.
const DISK_SIZE: &str = "8GiB";
const SERVING: &str = "PRIM";
const FOLLOWING: &str = "SECOND";
const READY: &str = "Ready";

/// A running lab. Dropping it removes it.
pub(crate) struct Lab {
    program: PathBuf,
    name: String,
    dir: PathBuf,
}

/// What `tandem lab status --json` says.
#[derive(Debug, Deserialize)]
struct Status {
    nodes: Vec<Node>,
}

/// One node.
#[derive(Clone, Debug, Deserialize)]
pub(crate) struct Node {
    pub(crate) name: String,
    #[serde(default)]
    state: String,
    #[serde(default)]
    readiness: String,
    /// The replicated directory as the node's processes see it.
    pub(crate) mount: PathBuf,
    /// The tree below it as we see it.
    pub(crate) replica: PathBuf,
    /// A process in the node's namespaces.
    #[serde(default)]
    pub(crate) pid: Option<u32>,
    #[serde(default)]
    reason: Option<String>,
}

impl Node {
    fn is(&self, state: &str) -> bool {
        self.state.eq_ignore_ascii_case(state) && self.readiness.eq_ignore_ascii_case(READY)
    }
}

/// Both nodes of a lab in which everything is replicated.
#[derive(Clone, Debug)]
pub(crate) struct Nodes {
    pub(crate) serving: Node,
    pub(crate) following: Node,
}

impl Lab {
    pub(crate) fn up(args: &Args) -> Result<Self> {
        let program = program()?;
        let name = format!("bench-{}", std::process::id());
        // The usual place of labs may be in memory.
        let usual = || Path::new(ON_DISK).join(&name);
        let dir = args.lab_dir.clone().unwrap_or_else(usual);
        let lab = Self { program, name, dir };
        let fixed = ["--direct", DIRECT_PATTERN, "--disk-size", DISK_SIZE];
        let mut more: Vec<&OsStr> = fixed.map(AsRef::as_ref).to_vec();
        if let Some(ack) = &args.ack {
            more.extend(["--ack".as_ref(), OsStr::new(ack)]);
        }
        // From here on `lab` is dropped, and so removed, whatever happens.
        lab.command("up", &more).map(|_| lab)
    }

    /// Waits until one node serves and the other follows.
    pub(crate) fn wait_ready(&self) -> Result<Nodes> {
        let start = Instant::now();
        loop {
            if sys::interrupted() {
                bail!(Interrupted);
            }
            match self.nodes() {
                Ok(nodes) => return Ok(nodes),
                Err(error) if start.elapsed() > READY_LIMIT => {
                    return Err(error.context(format!("lab not ready after {READY_LIMIT:?}")));
                }
                Err(_) => thread::sleep(PAUSE),
            }
        }
    }

    /// The nodes; an error unless both hold every write. A node that serves alone would be measured
    /// without replication.
    pub(crate) fn nodes(&self) -> Result<Nodes> {
        let text = self.command("status", &["--json".as_ref()])?;
        let status: Status = serde_json::from_str(&text)
            .with_context(|| format!("tandem lab status --json: {text}"))?;
        let find = |state| status.nodes.iter().find(|node| node.is(state)).cloned();
        match (find(SERVING), find(FOLLOWING)) {
            (Some(serving), Some(following)) => Ok(Nodes { serving, following }),
            _ => {
                let nodes = status.nodes.iter().map(|node| {
                    let reason = node.reason.as_deref().unwrap_or("no reason given");
                    format!(
                        "{} is {} {} ({reason})",
                        node.name, node.state, node.readiness
                    )
                });
                bail!("not replicating: {}", nodes.collect::<Vec<_>>().join(", "))
            }
        }
    }

    /// `tandem lab VERB`; its output.
    fn command(&self, verb: &str, more: &[&OsStr]) -> Result<String> {
        let mut command = Command::new(&self.program);
        command.args(["lab", verb, "--name", &self.name]);
        command.arg("--dir").arg(&self.dir);
        command.args(more).stdin(Stdio::null());
        // Ctrl-C is for us; what it does to the lab we decide.
        command.process_group(0);
        let Output {
            status,
            stdout,
            stderr,
        } = command
            .output()
            .with_context(|| format!("run {} lab {verb}", self.program.display()))?;
        let stderr = String::from_utf8_lossy(&stderr);
        ensure!(
            status.success(),
            "tandem lab {verb}: {status}: {}",
            stderr.trim()
        );
        Ok(String::from_utf8_lossy(&stdout).into_owned())
    }
}

impl Drop for Lab {
    fn drop(&mut self) {
        if let Err(error) = self.command("down", &[]) {
            eprintln!(
                "tandem-bench: the lab {} is left behind: {error:#}",
                self.name
            );
        }
    }
}

/// The program to test: `TANDEM_BIN`, or `tandem` beside the bench.
fn program() -> Result<PathBuf> {
    if let Some(program) = std::env::var_os("TANDEM_BIN") {
        let program = PathBuf::from(program);
        ensure!(
            program.is_file(),
            "TANDEM_BIN={}: no such file",
            program.display()
        );
        return Ok(program);
    }
    let own = std::env::current_exe().context("find the bench's own program")?;
    let beside = own.parent().unwrap_or(Path::new("/")).join("tandem");
    ensure!(
        beside.is_file(),
        "{}: no such file; build it (`cargo build --release -p tandem`) or set TANDEM_BIN",
        beside.display()
    );
    Ok(beside)
}
