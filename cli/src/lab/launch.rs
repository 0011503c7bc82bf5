//! Starting a node's init process in its namespaces, in two steps that leave nothing behind.
//!
//! A namespace for process numbers only holds later children, so `tandem lab-node` starts a second
//! process of itself: the init, number 1 in there. The init waits for a word on its standard input;
//! the word comes after its number is in `lab.json` and its network is connected. If we die before
//! that, the pipe closes and the init ends.

use std::fs::OpenOptions;
use std::io::{BufRead, BufReader, Write};
use std::os::unix::process::CommandExt;
use std::path::Path;
use std::process::{ChildStdin, ChildStdout, Command, Stdio};

use anyhow::{Context, Result, bail};

use super::place::Place;
use super::state::{Init, Runs};
use super::sys;

/// What the init reads when it may begin.
pub(super) const GO: &str = "go";
/// What it answers when it has.
pub(super) const READY: &str = "ready";
/// The hub's name where a node's name stands: the holder of the bridge.
pub(super) const HUB: &str = "hub";

/// An init process that waits for its word.
pub(crate) struct Launched {
    pub(crate) init: Init,
    go: ChildStdin,
    answers: BufReader<ChildStdout>,
}

/// Starts the init of `node`, or of the hub.
pub(crate) fn launch(place: &Place, node: &str, runs: Runs) -> Result<Launched> {
    let log = if node == HUB {
        place.hub_log()
    } else {
        place.node(node).log()
    };
    let mut command = Command::new(sys::SELF);
    command
        .arg0("tandem")
        .args(["lab-node", "--node", node, "--dir"])
        .arg(place.dir());
    command.args(["--runs", runs.word()]);
    let errors = append(&log)?;
    command
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .stderr(errors);
    let mut child = command
        .spawn()
        .with_context(|| format!("start the init of {node}"))?;
    let (go, answers) = (child.stdin.take(), child.stdout.take());
    let (Some(go), Some(answers)) = (go, answers) else {
        bail!("{node}: no pipes to its init")
    };
    let mut answers = BufReader::new(answers);
    let answer = read_answer(&mut answers);
    let status = child
        .wait()
        .with_context(|| format!("start the init of {node}"))?;
    let answer = answer.with_context(|| format!("init of {node} ({status})"))?;
    let pid = answer.strip_prefix("pid ").and_then(|pid| pid.parse().ok());
    let pid = pid.with_context(|| format!("init of {node}: {answer}"))?;
    let init = Init::of(pid).with_context(|| format!("init of {node}: process {pid}"))?;
    Ok(Launched { init, go, answers })
}

impl Launched {
    /// Lets the init begin and waits until it has set up the node.
    pub(crate) fn begin(mut self) -> Result<()> {
        writeln!(self.go, "{GO}")?;
        let answer = read_answer(&mut self.answers)?;
        if answer == READY {
            Ok(())
        } else {
            bail!("{answer}")
        }
    }
}

fn read_answer(answers: &mut impl BufRead) -> Result<String> {
    let mut line = String::new();
    answers.read_line(&mut line)?;
    match line.trim_end() {
        "" => bail!("its init process ended without an answer"),
        answer => Ok(answer.to_owned()),
    }
}

/// Opens a log for several writers.
pub(super) fn append(path: &Path) -> Result<std::fs::File> {
    let file = OpenOptions::new().append(true).create(true).open(path);
    file.with_context(|| format!("open {}", path.display()))
}
