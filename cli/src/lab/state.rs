//! What exists of a lab, in `lab.json`.
//!
//! Everything but processes has a path that follows from the lab's directory and the names of its
//! nodes, and the names are written before anything is made. A process is written here before it
//! is told to begin, and ends by itself if it never is. So whatever happens in between, `lab down`
//! finds all there is.

use std::fs::{self, File, OpenOptions, TryLockError};
use std::io::{self, ErrorKind};
use std::os::fd::OwnedFd;
use std::os::unix::fs::MetadataExt;
use std::time::Duration;

use anyhow::{Context, Result, bail, ensure};
use serde::{Deserialize, Serialize};

use super::place::Place;
use super::sys;

const STATE_VERSION: u32 = 2;
/// A killed init ends at once; only a process stuck in the kernel can delay it.
const KILL_LIMIT: Duration = Duration::from_secs(15);

#[derive(Clone, Debug, Serialize, Deserialize)]
pub(crate) struct State {
    pub(crate) version: u32,
    pub(crate) name: String,
    /// False: the directory was there before, and stays.
    pub(crate) made_dir: bool,
    /// Largest packet of each network.
    pub(crate) mtus: Vec<u32>,
    /// Holder of the network namespace with the bridges.
    pub(crate) hub: Option<Init>,
    pub(crate) nodes: Vec<NodeState>,
}

#[derive(Clone, Debug, Serialize, Deserialize)]
pub(crate) struct NodeState {
    pub(crate) name: String,
    /// Last byte of its address.
    pub(crate) number: u8,
    pub(crate) runs: Runs,
    /// Its init process, while it lives or lived.
    pub(crate) init: Option<Init>,
}

/// What a node's init starts.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize, clap::ValueEnum)]
#[serde(rename_all = "snake_case")]
pub(crate) enum Runs {
    Nothing,
    /// The module's daemon, led by hand.
    Module,
    /// The module's daemon, led by a manager.
    Managed,
    /// The failover manager, which starts the module's daemon; and again when it dies.
    Manager,
    Witness,
}

impl Runs {
    /// As an argument of the hidden command.
    pub(crate) fn word(self) -> &'static str {
        match self {
            Self::Nothing => "nothing",
            Self::Module => "module",
            Self::Managed => "managed",
            Self::Manager => "manager",
            Self::Witness => "witness",
        }
    }

    pub(crate) fn is_module(self) -> bool {
        matches!(self, Self::Module | Self::Managed | Self::Manager)
    }
}

impl NodeState {
    /// Its address in a network, counted from 0.
    pub(crate) fn address(&self, network: u8) -> std::net::Ipv4Addr {
        std::net::Ipv4Addr::new(10, 77 + network, 0, self.number)
    }

    /// The node's init, or an error that says what to do.
    pub(crate) fn alive(&self) -> Result<&Init> {
        let init = self.init.as_ref().filter(|init| init.is_alive());
        init.with_context(|| format!("{} is down; `tandem lab start {0}` starts it", self.name))
    }
}

/// A process, told apart from later ones of the same number by its start time and boot.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct Init {
    pub(crate) pid: u32,
    start_ticks: u64,
    boot_id: String,
}

impl Init {
    /// The process that has number `pid` now.
    pub(crate) fn of(pid: u32) -> io::Result<Self> {
        Ok(Self {
            pid,
            start_ticks: start_ticks(pid)?,
            boot_id: boot_id()?,
        })
    }

    pub(crate) fn is_alive(&self) -> bool {
        self.pidfd().is_ok()
    }

    /// A descriptor of exactly this process; `NotFound` if it has ended.
    pub(crate) fn pidfd(&self) -> io::Result<OwnedFd> {
        let gone = || io::Error::from(ErrorKind::NotFound);
        if boot_id()? != self.boot_id {
            return Err(gone());
        }
        let fd = sys::pidfd_open(self.pid).map_err(|error| match error.raw_os_error() {
            Some(libc::ESRCH) => gone(),
            _ => error,
        })?;
        // Asked after opening: from now on the number cannot come to mean another process unseen.
        let same = start_ticks(self.pid).is_ok_and(|ticks| ticks == self.start_ticks);
        let ended = sys::wait_readable(&fd, Duration::ZERO)?;
        if same && !ended { Ok(fd) } else { Err(gone()) }
    }

    /// SIGKILL; the kernel kills and reaps everything else in the process's PID namespace before
    /// the process itself ends, which is waited for.
    pub(crate) fn kill(&self) -> Result<()> {
        let pidfd = match self.pidfd() {
            Err(error) if error.kind() == ErrorKind::NotFound => return Ok(()),
            other => other.with_context(|| format!("init process {}", self.pid))?,
        };
        sys::pidfd_kill(&pidfd).with_context(|| format!("kill init process {}", self.pid))?;
        let ended = sys::wait_readable(&pidfd, KILL_LIMIT)?;
        ensure!(
            ended,
            "init process {} did not end within {KILL_LIMIT:?} after SIGKILL; \
             look for processes in state D in its PID namespace",
            self.pid
        );
        Ok(())
    }
}

fn boot_id() -> io::Result<String> {
    Ok(fs::read_to_string("/proc/sys/kernel/random/boot_id")?
        .trim()
        .to_owned())
}

/// Start time of a process in clock ticks since boot: field 22 of its `stat`.
fn start_ticks(pid: u32) -> io::Result<u64> {
    const AFTER_NAME: usize = 19;
    let stat = fs::read_to_string(format!("/proc/{pid}/stat"))?;
    // The name before the last bracket may hold blanks and brackets.
    let fields = stat
        .rsplit_once(')')
        .map(|(_, rest)| rest.split_ascii_whitespace());
    let field = fields.and_then(|mut fields| fields.nth(AFTER_NAME));
    field
        .and_then(|ticks| ticks.parse().ok())
        .ok_or_else(|| io::Error::other("no start time"))
}

impl State {
    pub(crate) fn new(name: &str, made_dir: bool, mtus: Vec<u32>, nodes: Vec<NodeState>) -> Self {
        Self {
            version: STATE_VERSION,
            name: name.into(),
            made_dir,
            mtus,
            hub: None,
            nodes,
        }
    }

    /// `None`: there is no such lab.
    pub(crate) fn read(place: &Place) -> Result<Option<Self>> {
        let path = place.state();
        let text = match fs::read_to_string(&path) {
            Err(error) if error.kind() == ErrorKind::NotFound => return Ok(None),
            other => other.with_context(|| format!("read {}", path.display()))?,
        };
        let state: Self =
            serde_json::from_str(&text).with_context(|| format!("parse {}", path.display()))?;
        ensure!(
            state.version == STATE_VERSION,
            "{}: version {}, this program knows {STATE_VERSION}; use the program that made the lab",
            path.display(),
            state.version
        );
        Ok(Some(state))
    }

    /// Replaces `lab.json` in one step, so that readers never see half of it.
    pub(crate) fn save(&self, place: &Place) -> Result<()> {
        let (path, new) = (place.state(), place.state_draft());
        let text = serde_json::to_string_pretty(self)?;
        fs::write(&new, text).with_context(|| format!("write {}", new.display()))?;
        fs::rename(&new, &path).with_context(|| format!("write {}", path.display()))
    }

    /// The networks, counted from 0.
    pub(crate) fn networks(&self) -> std::ops::Range<u8> {
        0..u8::try_from(self.mtus.len()).unwrap_or(u8::MAX)
    }

    pub(crate) fn node(&self, name: &str) -> Result<&NodeState> {
        let node = self.nodes.iter().find(|node| node.name == name);
        node.with_context(|| self.no_such_node(name))
    }

    pub(crate) fn node_mut(&mut self, name: &str) -> Result<&mut NodeState> {
        let error = self.no_such_node(name);
        self.nodes
            .iter_mut()
            .find(|node| node.name == name)
            .context(error)
    }

    fn no_such_node(&self, name: &str) -> String {
        let names: Vec<_> = self.nodes.iter().map(|node| node.name.as_str()).collect();
        format!(
            "lab {} has no node {name:?}; it has {}",
            self.name,
            names.join(", ")
        )
    }
}

/// Exclusive right to change a lab, until dropped.
pub(crate) struct Lock {
    _file: File,
}

impl Lock {
    /// Waits for other commands that change the same lab. `None`: the directory is gone.
    pub(crate) fn take(place: &Place) -> Result<Option<Self>> {
        let path = place.lock();
        loop {
            let file = match OpenOptions::new()
                .write(true)
                .create(true)
                .truncate(false)
                .open(&path)
            {
                Err(error) if error.kind() == ErrorKind::NotFound => return Ok(None),
                other => other.with_context(|| format!("open {}", path.display()))?,
            };
            match file.try_lock() {
                Ok(()) => {}
                Err(TryLockError::WouldBlock) => {
                    eprintln!("waiting for another command on {}", place.dir().display());
                    file.lock()
                        .with_context(|| format!("lock {}", path.display()))?;
                }
                Err(TryLockError::Error(error)) => bail!("lock {}: {error}", path.display()),
            }
            // `lab down` may have removed the file while we waited; then the lock is worth nothing.
            let held = file.metadata()?.ino();
            if fs::metadata(&path).is_ok_and(|found| found.ino() == held) {
                return Ok(Some(Self { _file: file }));
            }
        }
    }
}
