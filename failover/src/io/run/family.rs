//! The processes of one run: those of its process group, and those that left the group and still
//! carry the run's mark in the environment they were started with.
//!
//! A process that does both, leaves the group and throws its environment away, is not found.

use std::os::fd::AsFd;
use std::thread;
use std::time::{Duration, Instant};

use super::sys;
use crate::io::proc;
use crate::io::within::within;

/// The variable that carries the mark.
pub(crate) const MARK: &str = "TANDEM_RUN";

/// How long killed processes may take to be gone. One that does not go is stuck in the kernel.
const KILL_LIMIT: Duration = Duration::from_secs(3);
/// How long looking for them may take: files of a stuck process may not be readable.
const LOOK_LIMIT: Duration = Duration::from_secs(1);
/// Between two looks.
const PAUSE: Duration = Duration::from_millis(20);

/// What makes up one run. Numbers of processes are reused, so the start of the first one is part
/// of it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Family {
    /// The program that was started: leader of its session and group.
    pub(crate) leader: u32,
    pub(crate) started: u64,
    /// Value of [`MARK`].
    pub(crate) mark: String,
}

impl Family {
    /// Whether the program that was started still runs.
    pub(crate) fn leader_lives(&self) -> bool {
        proc::stat(self.leader).is_some_and(|stat| stat.lives() && stat.started == self.started)
    }

    /// Asks all processes to end, waits for `grace`, kills what is left. `own`: the leader is a
    /// child of ours that was not waited for, so that its number still means our group. True when
    /// nothing is left.
    pub(crate) fn end(&self, grace: Duration, own: bool) -> bool {
        // A stopped process would not see the request.
        self.signal(&[libc::SIGTERM, libc::SIGCONT], own);
        if self.gone_within(grace, || {}) {
            return true;
        }
        self.signal(&[libc::SIGKILL], own);
        self.gone_within(KILL_LIMIT, || self.signal(&[libc::SIGKILL], own))
    }

    fn gone_within(&self, limit: Duration, meanwhile: impl Fn()) -> bool {
        let begin = Instant::now();
        loop {
            if self.members().is_empty() {
                return true;
            }
            if begin.elapsed() >= limit {
                return false;
            }
            thread::sleep(PAUSE);
            meanwhile();
        }
    }

    fn signal(&self, signals: &[i32], own: bool) {
        for &signal in signals {
            // In one step, so that none is missed that is being born. None left is no error.
            if own {
                let _ = sys::signal_group(self.leader, signal);
            }
            for pid in self.members() {
                self.signal_one(pid, signal);
            }
        }
    }

    /// The number may have a new owner since it was found. A descriptor cannot: it is taken first,
    /// then its process is recognised again.
    fn signal_one(&self, pid: u32, signal: i32) {
        let Ok(process) = sys::pidfd_open(pid) else {
            return;
        };
        let family = self.clone();
        let ours = within(LOOK_LIMIT, "process", move || family.has(pid));
        if ours == Ok(true) {
            let _ = sys::pidfd_signal(process.as_fd(), signal);
        }
    }

    /// Those that run. Zombies have ended, whoever has not waited for them yet.
    fn members(&self) -> Vec<u32> {
        let family = self.clone();
        let all = move || proc::pids().unwrap_or_default().into_iter();
        let found = within(LOOK_LIMIT, "processes", move || {
            all().filter(|&pid| family.has(pid)).collect()
        });
        // Somebody's process is stuck: the group can still be told without its help.
        found.unwrap_or_else(|_| all().filter(|&pid| self.in_group(pid)).collect())
    }

    fn has(&self, pid: u32) -> bool {
        self.in_group(pid) || self.marked(pid)
    }

    fn in_group(&self, pid: u32) -> bool {
        let Some(stat) = proc::stat(pid) else {
            return false;
        };
        if !stat.lives() || stat.group != self.leader || self.leader == std::process::id() {
            return false;
        }
        // While one of ours is in the group, nobody else gets its number. A leader that began at
        // another time is therefore the head of a new group.
        proc::stat(self.leader).is_none_or(|leader| leader.started == self.started)
    }

    fn marked(&self, pid: u32) -> bool {
        let variable = format!("{MARK}={}", self.mark);
        proc::stat(pid).is_some_and(|stat| stat.lives()) && proc::started_with(pid, &variable)
    }
}

/// The leader of a run of which only the mark is known: the manager died before it learned more.
pub(crate) fn find(mark: &str) -> Option<Family> {
    let variable = format!("{MARK}={mark}");
    let found = within(LOOK_LIMIT, "processes", move || {
        let leads = |&pid: &u32| proc::stat(pid).is_some_and(|stat| stat.session == pid);
        let mut pids = proc::pids().unwrap_or_default().into_iter();
        pids.find(|pid| leads(pid) && proc::started_with(*pid, &variable))
    });
    let leader = found.ok()??;
    Some(Family {
        leader,
        started: proc::stat(leader)?.started,
        mark: mark.to_owned(),
    })
}
