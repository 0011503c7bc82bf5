//! A ledger in PostgreSQL as an [`Application`]: a real server on the replicated directory, and
//! `psql` processes that each wait for one commit before they send the next.

use std::env;
use std::fs;
use std::io::{BufRead, BufReader, Write};
use std::os::unix::process::CommandExt;
use std::path::{Path, PathBuf};
use std::process::{Child, ChildStdin, ChildStdout, Stdio};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::mpsc::{Sender, channel};
use std::thread;
use std::time::{Duration, Instant};

use anyhow::{Context, Result, bail, ensure};

use super::application::{
    Acknowledged, Application, Findings, Load, Processes, Progress, first_writer,
};
use crate::lab::cluster::Lab;
use crate::lab::signals::interrupted;

const DATA: &str = "/mnt/disk/data/postgresql";
/// A file system that each node has for itself.
const SOCKETS: &str = "/mnt";
const CLIENTS: u32 = 4;
const START_LIMIT: Duration = Duration::from_secs(30);
const START_PAUSE: Duration = Duration::from_millis(50);
const TABLE: &str = "CREATE TABLE ledger (writer int, number bigint, at timestamptz, \
                     PRIMARY KEY (writer, number))";

pub(super) struct Postgresql {
    programs: PathBuf,
    /// The server refuses to run as root.
    user: &'static str,
}

impl Postgresql {
    /// The installed server, in the search path or where distributions put it.
    pub(super) fn find() -> Result<Self> {
        let path = env::var_os("PATH").unwrap_or_default();
        let mut places: Vec<_> = env::split_paths(&path).collect();
        let versions = fs::read_dir("/usr/lib/postgresql")
            .into_iter()
            .flatten()
            .flatten();
        places.extend(versions.map(|version| version.path().join("bin")));
        let complete = |place: &PathBuf| {
            ["postgres", "initdb", "psql"]
                .iter()
                .all(|program| place.join(program).is_file())
        };
        // A `postgres` in the path may be a link; its companions lie beside what it means.
        let real = |place: PathBuf| {
            let link = place.join("postgres").canonicalize().ok();
            [
                Some(place),
                link.and_then(|link| link.parent().map(Path::to_path_buf)),
            ]
        };
        let mut places = places.into_iter().flat_map(real).flatten();
        let programs = places.find(complete).context(
            "postgres, initdb and psql are neither in PATH nor in /usr/lib/postgresql/*/bin; \
             install a PostgreSQL server, or use --app sqlite",
        )?;
        let users = fs::read_to_string("/etc/passwd").unwrap_or_default();
        let has_own = users.lines().any(|line| line.starts_with("postgres:"));
        Ok(Self {
            programs,
            user: if has_own { "postgres" } else { "nobody" },
        })
    }

    fn program(&self, name: &str) -> String {
        self.programs.join(name).to_string_lossy().into_owned()
    }

    /// Runs a program inside a node as the server's user; the error shows what it said.
    fn run(&self, lab: &Lab, node: &str, program: &[&str]) -> Result<String> {
        let output = lab.exec(node, &["--user", self.user], program).output()?;
        let errors = String::from_utf8_lossy(&output.stderr);
        ensure!(
            output.status.success(),
            "{} on {node}: {}",
            program[0],
            errors.trim_end()
        );
        Ok(String::from_utf8_lossy(&output.stdout)
            .trim_end()
            .to_owned())
    }

    /// Options of every `psql`: no start-up file, quiet, bare values, stop at an error.
    fn psql(&self) -> Vec<String> {
        let words = [
            "-X",
            "-qAt",
            "-v",
            "ON_ERROR_STOP=1",
            "-h",
            SOCKETS,
            "-d",
            "postgres",
        ];
        let words = words.iter().map(ToString::to_string);
        [self.program("psql")].into_iter().chain(words).collect()
    }

    fn query(&self, lab: &Lab, node: &str, query: &str) -> Result<String> {
        let mut program = self.psql();
        program.extend(["-c".to_owned(), query.to_owned()]);
        let program: Vec<_> = program.iter().map(String::as_str).collect();
        self.run(lab, node, &program)
    }

    fn start_server(&self, lab: &Lab, node: &str) -> Result<Child> {
        let program = self.program("postgres");
        let program = [
            &program,
            "-D",
            DATA,
            "-k",
            SOCKETS,
            "-c",
            "listen_addresses=",
        ];
        let mut command = lab.exec(node, &["--user", self.user], &program);
        let log = lab.place().node(node).dir().join("postgresql.log");
        let output = fs::File::create(&log).with_context(|| format!("create {}", log.display()))?;
        command
            .stdin(Stdio::null())
            .stdout(output.try_clone()?)
            .stderr(output)
            .process_group(0);
        let mut server = command.spawn().context("start the server")?;
        let start = Instant::now();
        while let Err(error) = self.query(lab, node, "SELECT 1") {
            interrupted()?;
            if start.elapsed() >= START_LIMIT || server.try_wait()?.is_some() {
                let said = fs::read_to_string(&log).unwrap_or_default();
                let _ = server.kill();
                let _ = server.wait();
                bail!(
                    "the server on {node} did not start: {error:#}\n{}",
                    said.trim_end()
                );
            }
            thread::sleep(START_PAUSE);
        }
        Ok(server)
    }

    fn start_client(&self, lab: &Lab, node: &str) -> Result<Child> {
        let program = self.psql();
        let program: Vec<_> = program.iter().map(String::as_str).collect();
        let mut command = lab.exec(node, &["--user", self.user], &program);
        command
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .stderr(Stdio::null());
        command.process_group(0).spawn().context("start psql")
    }
}

impl Application for Postgresql {
    fn name(&self) -> String {
        format!("a PostgreSQL server with {CLIENTS} clients")
    }

    fn prepare(&self, lab: &Lab, node: &str) -> Result<()> {
        let script = format!(
            "mkdir {DATA} && chown {} {DATA} && chmod 700 {DATA}",
            self.user
        );
        let made = lab.exec(node, &[], &["sh", "-c", &script]).status()?;
        ensure!(made.success(), "make {DATA} on {node}: {made}");
        let initdb = self.program("initdb");
        let initdb = [
            &initdb,
            "-D",
            DATA,
            "--no-locale",
            "-E",
            "UTF8",
            "-A",
            "trust",
        ];
        self.run(lab, node, &initdb).map(drop)
    }

    fn start(&self, lab: &Lab, node: &str) -> Result<Load> {
        let first = first_writer(node);
        if first != 1 {
            // Of a server that is surely dead; its number may mean another process here.
            let file = format!("{DATA}/postmaster.pid");
            lab.exec(node, &[], &["rm", "-f", &file]).status()?;
        }
        let mut processes = Processes(vec![self.start_server(lab, node)?]);
        if first == 1 {
            self.query(lab, node, TABLE)?;
        }
        let (sender, commits) = channel();
        let ended = Arc::new(AtomicBool::new(false));
        for writer in first..first + CLIENTS {
            let mut client = self.start_client(lab, node)?;
            let pipes = client.stdin.take().zip(client.stdout.take());
            processes.0.push(client);
            let (input, output) = pipes.context("psql has no pipes")?;
            let (sender, ended) = (sender.clone(), Arc::clone(&ended));
            thread::spawn(move || commit_on(writer, input, output, &sender, &ended));
        }
        let stop = Box::new(move || ended.store(true, Ordering::Relaxed));
        Ok(Load {
            commits,
            stop,
            processes,
        })
    }

    fn check(&self, lab: &Lab, node: &str, last: &Progress) -> Result<Findings> {
        let wanted: Vec<_> = last
            .iter()
            .map(|(writer, last)| format!("({writer},{last})"))
            .collect();
        let wanted = wanted.join(",");
        let found = |way: &str| {
            let query = format!(
                "SET enable_{way} = off; SELECT count(*) FROM ledger l JOIN (VALUES {wanted}) \
                 w(writer, last) ON l.writer = w.writer AND l.number BETWEEN 1 AND w.last"
            );
            let answer = self.query(lab, node, &query)?;
            answer
                .parse::<u64>()
                .with_context(|| format!("psql answered {answer:?}"))
        };
        // Once through the index and once through the table: both must tell the same.
        let (by_index, by_table) = (found("seqscan")?, found("indexscan")?);
        let integrity = format!("rows by index: {by_index}; rows by table: {by_table}");
        Ok(Findings {
            found: by_table,
            integrity,
            sound: by_index == by_table,
        })
    }
}

/// Commits one row after the other and reports each whose `INSERT` has answered.
fn commit_on(
    writer: u32,
    mut input: ChildStdin,
    output: ChildStdout,
    commits: &Sender<Acknowledged>,
    ended: &AtomicBool,
) {
    let mut answers = BufReader::new(output);
    let mut answer = String::new();
    for number in 1.. {
        if ended.load(Ordering::Relaxed) {
            return;
        }
        let insert = format!(
            "INSERT INTO ledger VALUES ({writer}, {number}, clock_timestamp()) RETURNING number;\n"
        );
        answer.clear();
        let answered = input
            .write_all(insert.as_bytes())
            .and_then(|()| answers.read_line(&mut answer));
        let acknowledged = answered.is_ok() && answer == format!("{number}\n");
        let commit = Acknowledged {
            writer,
            number,
            at: Instant::now(),
        };
        if !acknowledged || commits.send(commit).is_err() {
            return;
        }
    }
}
