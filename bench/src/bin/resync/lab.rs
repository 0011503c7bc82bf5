//! A lab of two nodes, driven through the `tandem` program.

use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::sync::atomic::{AtomicU32, Ordering};
use std::thread;
use std::time::{Duration, Instant};

use anyhow::{Context, Result, bail, ensure};
use serde_json::Value;

const PAUSE: Duration = Duration::from_millis(20);
/// Where a node sees the replicated directory.
pub(crate) const MOUNT: &str = "/mnt/disk/data";

/// Removed on drop.
pub(crate) struct Lab {
    program: PathBuf,
    dir: PathBuf,
    name: String,
}

impl Lab {
    /// Both nodes up, neither told its role.
    pub(crate) fn up(disk: &str, env: &[(&str, &str)]) -> Result<Self> {
        static NEXT: AtomicU32 = AtomicU32::new(0);
        let number = NEXT.fetch_add(1, Ordering::Relaxed);
        let name = format!("bench-resync-{}-{number}", std::process::id());
        let lab = Self {
            program: program()?,
            dir: Path::new("/var/tmp").join(&name),
            name,
        };
        let mut up = lab.command("up");
        up.args(["--no-roles", "--disk-size", disk])
            .envs(env.iter().copied());
        output(up)?;
        Ok(lab)
    }

    fn command(&self, verb: &str) -> Command {
        let mut command = Command::new(&self.program);
        command
            .args(["lab", verb, "--name", &self.name, "--dir"])
            .arg(&self.dir);
        command.stdin(Stdio::null());
        command
    }

    pub(crate) fn lab(&self, verb: &str, more: &[&str]) -> Result<String> {
        let mut command = self.command(verb);
        command.args(more);
        output(command)
    }

    /// The tree below the mount, from outside.
    pub(crate) fn replica(&self, node: &str) -> PathBuf {
        self.dir.join(node).join("disk/data")
    }

    /// A directory beside it, on the same disk.
    pub(crate) fn beside(&self, node: &str) -> PathBuf {
        self.dir.join(node).join("disk/beside")
    }

    /// Runs a script inside a node.
    pub(crate) fn sh(&self, node: &str, script: &str) -> Result<String> {
        let mut command = self.command("exec");
        command.args([node, "--", "sh", "-c", script]);
        output(command)
    }

    /// Starts one that goes on.
    pub(crate) fn start_sh(&self, node: &str, script: &str) -> Result<Child> {
        let mut command = self.command("exec");
        command.args([node, "--", "sh", "-c", script]);
        command.stdout(Stdio::piped()).stderr(Stdio::null());
        Ok(command.spawn()?)
    }

    /// The `tandem` program inside a node.
    pub(crate) fn tandem(&self, node: &str, words: &[&str]) -> Result<String> {
        let mut command = self.command("exec");
        command.args([node, "--"]).arg(&self.program).args(words);
        output(command)
    }

    pub(crate) fn status(&self, node: &str) -> Result<Value> {
        let text = self.tandem(node, &["status", "--json"])?;
        let answer: Value = serde_json::from_str(&text).with_context(|| text.clone())?;
        Ok(answer["status"].clone())
    }

    pub(crate) fn sent(&self, node: &str) -> Result<u64> {
        Ok(self.status(node)?["counters"]["bytes_sent"]
            .as_u64()
            .unwrap_or(0))
    }

    pub(crate) fn rss(&self, node: &str) -> Result<u64> {
        Ok(self.status(node)?["counters"]["rss_bytes"]
            .as_u64()
            .unwrap_or(0))
    }

    pub(crate) fn wait_for(&self, node: &str, state: &str, limit: Duration) -> Result<()> {
        let start = Instant::now();
        loop {
            if let Ok(status) = self.status(node)
                && status["state"] == state
                && status["readiness"] == "Ready"
            {
                return Ok(());
            }
            if start.elapsed() > limit {
                bail!(
                    "{node} is not {state} after {limit:?}: {}",
                    self.status(node)?
                );
            }
            thread::sleep(PAUSE);
        }
    }

    /// `second` on the second node, until it is in the set. Time and bytes that travelled.
    pub(crate) fn follow(&self, limit: Duration) -> Result<(Duration, u64)> {
        let before = self.sent("node1")?;
        let mut start = Instant::now();
        // A node that has just been left behind is not taken back at once.
        while let Err(error) = self.tandem("node2", &["second"]) {
            ensure!(format!("{error:#}").contains("back-off"), error);
            std::thread::sleep(Duration::from_millis(20));
            start = Instant::now();
        }
        self.wait_for("node1", "PRIM", limit)?;
        let took = start.elapsed();
        Ok((took, self.sent("node1")? - before))
    }

    pub(crate) fn settle(&self) -> Result<()> {
        output(Command::new("sync")).map(drop)
    }
}

impl Drop for Lab {
    fn drop(&mut self) {
        if let Err(error) = output(self.command("down")) {
            eprintln!("the lab {} is left behind: {error:#}", self.name);
        }
    }
}

pub(crate) fn output(mut command: Command) -> Result<String> {
    let output = command.output().with_context(|| format!("{command:?}"))?;
    let said = String::from_utf8_lossy(&output.stderr);
    ensure!(
        output.status.success(),
        "{command:?}: {}: {said}",
        output.status
    );
    Ok(String::from_utf8_lossy(&output.stdout).into_owned())
}

fn program() -> Result<PathBuf> {
    if let Some(program) = std::env::var_os("TANDEM_BIN") {
        return Ok(PathBuf::from(program));
    }
    let own = std::env::current_exe().context("find the bench's own program")?;
    let beside = own.with_file_name("tandem");
    ensure!(
        beside.is_file(),
        "{}: build it first, or set TANDEM_BIN",
        beside.display()
    );
    Ok(beside)
}
