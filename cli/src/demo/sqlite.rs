//! The SQLite ledger as an [`Application`].

use std::io::{BufRead, BufReader, Read};
use std::os::unix::process::CommandExt;
use std::process::Stdio;
use std::sync::mpsc::{Sender, channel};
use std::thread;
use std::time::Instant;

use anyhow::{Context, Result, ensure};

use super::application::{
    Acknowledged, Application, Findings, Load, Processes, Progress, first_writer,
};
use super::ledger::Checked;
use crate::lab::cluster::Lab;

pub(super) const DATABASE: &str = "/mnt/disk/data/ledger.db";
/// This program as a node sees it, wherever its file lies: the node's init is one.
pub(super) const THIS_PROGRAM: &str = "/proc/1/exe";

pub(super) struct Sqlite;

/// Looks for acknowledged rows in the database of a node, and whether it is sound.
pub(super) fn look(lab: &Lab, node: &str, last: &Progress) -> Result<Findings> {
    let pairs: Vec<_> = last
        .iter()
        .map(|(writer, last)| format!("{writer}={last}"))
        .collect();
    let mut program = vec![THIS_PROGRAM, "demo-ledger", "--db", DATABASE];
    program.extend(pairs.iter().flat_map(|pair| ["--check", pair]));
    let output = lab
        .exec(node, &[], &program)
        .stderr(Stdio::inherit())
        .output()?;
    ensure!(
        output.status.success(),
        "the ledger on {node} cannot be read ({})",
        output.status
    );
    let checked: Checked =
        serde_json::from_slice(&output.stdout).context("the ledger's findings")?;
    let sound = checked.integrity == "ok" && checked.balance == 0;
    let Checked {
        found,
        integrity,
        balance,
    } = checked;
    let found = u64::try_from(found)?;
    let integrity = format!("integrity_check: {integrity}; sum of all accounts: {balance}");
    Ok(Findings {
        found,
        integrity,
        sound,
    })
}

impl Application for Sqlite {
    fn name(&self) -> String {
        "an SQLite ledger".into()
    }

    fn prepare(&self, _lab: &Lab, _node: &str) -> Result<()> {
        Ok(())
    }

    fn start(&self, lab: &Lab, node: &str) -> Result<Load> {
        let writer = first_writer(node);
        let number = writer.to_string();
        let program = [
            THIS_PROGRAM,
            "demo-ledger",
            "--db",
            DATABASE,
            "--writer",
            &number,
        ];
        let mut command = lab.exec(node, &[], &program);
        // Ctrl-C is for us; the ledger ends with its input.
        command
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .process_group(0);
        let mut child = command.spawn().context("start the ledger")?;
        let input = child.stdin.take();
        let output = child.stdout.take().context("the ledger has no output")?;
        let (sender, commits) = channel();
        thread::spawn(move || pass_on(output, writer, &sender));
        let processes = Processes(vec![child]);
        Ok(Load {
            commits,
            stop: Box::new(move || drop(input)),
            processes,
        })
    }

    fn check(&self, lab: &Lab, node: &str, last: &Progress) -> Result<Findings> {
        look(lab, node, last)
    }
}

/// Reads what the ledger prints. A line cut short by the kill is no acknowledgement.
pub(super) fn pass_on(output: impl Read, writer: u32, commits: &Sender<Acknowledged>) {
    let mut output = BufReader::new(output);
    let mut line = String::new();
    while output.read_line(&mut line).is_ok_and(|length| length > 0) {
        let at = Instant::now();
        let Some(Ok(number)) = line.strip_suffix('\n').map(str::parse) else {
            return;
        };
        if commits.send(Acknowledged { writer, number, at }).is_err() {
            return;
        }
        line.clear();
    }
}
