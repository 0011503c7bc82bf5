//! Applications that run in a guest, and tell outside what they were promised.

use super::DATA;
use super::machine::Machine;
use super::patience::Patience;
use super::postgresql::{self, Postgresql, Server, Sync};
use super::promises::{Promises, files_dir};
use super::remote::Running;
use super::told::{Level, Told};
use anyhow::{Context, Result, bail, ensure};
use std::fmt;
use std::net::{Shutdown, TcpStream};
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex, MutexGuard};
use std::thread::JoinHandle;
use std::time::{Duration, Instant};

/// Every load has something acknowledged within this.
const FIRST_LIMIT: Duration = Duration::from_secs(60);
const END_LIMIT: Duration = Duration::from_secs(60);

/// An application.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Kind {
    Files,
    Sqlite,
    Postgresql,
}

impl fmt::Display for Kind {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Files => "files",
            Self::Sqlite => "sqlite",
            Self::Postgresql => "postgresql",
        })
    }
}

/// Running applications of one round.
pub struct Loads {
    /// What was acknowledged since they began.
    acknowledged: Arc<Mutex<Promises>>,
    threads: Vec<JoinHandle<Result<()>>>,
    connections: Vec<TcpStream>,
    ended: Arc<AtomicBool>,
    server: Option<Server>,
    postgresql: Option<Postgresql>,
    kinds: Vec<Kind>,
    round: u64,
}

impl Loads {
    /// Starts applications on the replicated directory, and waits until each of them has been
    /// acknowledged something.
    pub fn start(
        machine: &Machine,
        round: u64,
        kinds: &[Kind],
        postgresql: Option<&Postgresql>,
    ) -> Result<Self> {
        let mut loads = Self::none(round, kinds, postgresql);
        for kind in kinds {
            match kind {
                Kind::Files => loads.start_files(machine, DATA, false)?,
                Kind::Sqlite => loads.start_sqlite(machine)?,
                Kind::Postgresql => loads.start_postgresql(machine)?,
            }
        }
        loads.has_begun(machine)?;
        Ok(loads)
    }

    /// Starts small files only, in any directory; they may lie about what they sync.
    pub fn start_on(machine: &Machine, data: &str, round: u64, lie: bool) -> Result<Self> {
        let mut loads = Self::none(round, &[Kind::Files], None);
        loads.start_files(machine, data, lie)?;
        loads.has_begun(machine)?;
        Ok(loads)
    }

    fn none(round: u64, kinds: &[Kind], postgresql: Option<&Postgresql>) -> Self {
        Self {
            acknowledged: Arc::default(),
            threads: Vec::new(),
            connections: Vec::new(),
            ended: Arc::default(),
            server: None,
            postgresql: postgresql.cloned(),
            kinds: kinds.to_vec(),
            round,
        }
    }

    fn has_begun(&mut self, machine: &Machine) -> Result<()> {
        machine.wait_until("every load has begun", FIRST_LIMIT, || {
            self.has_not_failed()?;
            Ok(self.counts().iter().all(|count| *count > 0))
        })
    }

    /// What was promised until now.
    pub fn so_far(&self) -> Promises {
        self.locked().clone()
    }

    fn locked(&self) -> MutexGuard<'_, Promises> {
        lock(&self.acknowledged)
    }

    /// Acknowledged operations by kind.
    fn counts(&self) -> Vec<u64> {
        let promises = self.locked();
        let count = |kind: &Kind| match kind {
            Kind::Files => promises
                .files
                .values()
                .map(|(_, told)| told.len() as u64)
                .sum(),
            Kind::Sqlite => promises.sqlite.values().sum(),
            Kind::Postgresql => promises.postgresql.values().sum(),
        };
        self.kinds.iter().map(count).collect()
    }

    /// Reads what a program prints, on a thread of its own.
    fn follow(
        &mut self,
        mut running: Running,
        mut take: impl FnMut(&mut Promises, &str) -> Result<()> + Send + 'static,
    ) -> Result<()> {
        self.connections.push(running.handle()?);
        let promises = self.acknowledged.clone();
        self.threads.push(std::thread::spawn(move || {
            while let Some(line) = running.line() {
                match line.strip_prefix("exit ") {
                    Some("0") => return Ok(()),
                    Some(code) => bail!("a load ended by itself: exit {code}"),
                    // Before the end there is an empty line.
                    None if line.is_empty() => {}
                    None => take(&mut lock(&promises), &line)?,
                }
            }
            Ok(())
        }));
        Ok(())
    }

    fn start_files(&mut self, machine: &Machine, data: &str, lie: bool) -> Result<()> {
        let round = self.round;
        let dir = files_dir(data, round);
        let words = machine.guest(&[if lie { "lying-files" } else { "files" }, &dir]);
        let running = machine.remote().start(&words, true)?;
        self.follow(running, move |promises, line| {
            let begin = || (Level::Answered, Told::default());
            let (_, told) = promises.files.entry(round).or_insert_with(begin);
            told.add(line)
        })
    }

    fn start_sqlite(&mut self, machine: &Machine) -> Result<()> {
        let writer = self.round;
        let (database, number) = (format!("{DATA}/ledger.db"), writer.to_string());
        let words = ["demo-ledger", "--db", &database, "--writer", &number];
        let running = machine.start_tandem(&words)?;
        self.follow(running, move |promises, line| {
            let number = line
                .parse()
                .with_context(|| format!("the ledger said {line:?}"))?;
            promises.sqlite.insert(writer, number);
            Ok(())
        })
    }

    fn start_postgresql(&mut self, machine: &Machine) -> Result<()> {
        let postgresql = self
            .postgresql
            .clone()
            .context("PostgreSQL is not installed")?;
        let data = format!("{DATA}/pg");
        self.server = Some(postgresql.serve(machine, &data, Sync::Files)?);
        postgresql.make_table(machine)?;
        for client in 0..postgresql::CLIENTS {
            let writer = self.round * postgresql::CLIENTS + client;
            let mut running = postgresql.client(machine)?;
            self.connections.push(running.handle()?);
            let (promises, ended) = (self.acknowledged.clone(), self.ended.clone());
            self.threads.push(std::thread::spawn(move || {
                for number in 1.. {
                    if ended.load(Ordering::Relaxed) {
                        break;
                    }
                    // A connection that is gone shows when nothing is answered.
                    running.say(&postgresql::insert(writer, number)).ok();
                    let Some(answer) = running.line() else { break };
                    ensure!(answer == number.to_string(), "psql said {answer:?}");
                    lock(&promises).postgresql.insert(writer, number);
                }
                Ok(())
            }));
        }
        Ok(())
    }

    /// An application that ended by itself has failed.
    fn has_not_failed(&mut self) -> Result<()> {
        if let Some(index) = self.threads.iter().position(JoinHandle::is_finished) {
            join(self.threads.swap_remove(index))?;
            bail!("a load ended by itself");
        }
        Ok(())
    }

    /// They go on: every one of them gets something more acknowledged within the limit.
    pub fn go_on(&mut self, machine: &Machine, limit: Duration) -> Result<Duration> {
        let (before, started) = (self.counts(), Instant::now());
        machine.wait_until("every load goes on", limit, || {
            self.has_not_failed()?;
            let now = self.counts();
            Ok(now.iter().zip(&before).all(|(now, before)| now > before))
        })?;
        Ok(started.elapsed())
    }

    /// Ends them in order; what they were promised.
    pub fn end(mut self, machine: &Machine) -> Result<Promises> {
        self.ended.store(true, Ordering::Relaxed);
        let clients = self.kinds.contains(&Kind::Postgresql);
        let programs = self.connections.len() - if clients { 3 } else { 0 };
        for connection in &self.connections[..programs] {
            connection.shutdown(Shutdown::Write).ok();
        }
        let mut patience = Patience::new(END_LIMIT);
        while self.threads.iter().any(|thread| !thread.is_finished()) {
            ensure!(!patience.is_over(), "the loads do not end");
            std::thread::sleep(Duration::from_millis(10));
        }
        self.threads.drain(..).try_for_each(join)?;
        if let (Some(server), Some(postgresql)) = (&self.server, &self.postgresql) {
            postgresql.stop(machine, server)?;
        }
        Ok(std::mem::take(&mut *self.locked()))
    }

    /// The guest they ran in is gone; what they were promised.
    pub fn cut(mut self) -> Result<Promises> {
        self.ended.store(true, Ordering::Relaxed);
        for connection in &self.connections {
            // What has arrived can still be read.
            connection.shutdown(Shutdown::Both).ok();
        }
        self.threads.drain(..).try_for_each(join)?;
        Ok(std::mem::take(&mut *self.locked()))
    }
}

fn lock(promises: &Arc<Mutex<Promises>>) -> MutexGuard<'_, Promises> {
    promises.lock().expect("nobody panics with the promises")
}

fn join(thread: JoinHandle<Result<()>>) -> Result<()> {
    thread.join().unwrap_or_else(|_| bail!("a thread panicked"))
}
