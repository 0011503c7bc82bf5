//! Looks at both nodes of a pair during a whole test: who holds the addresses, who acknowledges,
//! where the application listens, what the managers say.
//!
//! Two nodes cannot be looked at in one moment. That both did something at once is proved by one
//! look at the first that lies, from begin to end, between two looks at the other that both found
//! it too.

use super::program::{PORT, now};
use anyhow::{Result, ensure};
use std::net::Ipv4Addr;
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex, PoisonError};
use std::thread::{self, JoinHandle};
use std::time::Duration;
use tandem_failover::client::ControlClient;
use tandem_failover::control::{Answer, Envelope, Request, socket};
use tandem_repl::control as daemon;
use tandem_repl::control::{Readiness, State};

const PACE: Duration = Duration::from_millis(15);
const ASK_LIMIT: Duration = Duration::from_millis(500);
/// Two looks further apart say nothing about the time between them.
const GAP: u64 = 100_000;

/// One look at a node. Times are those of [`now`].
#[derive(Clone, Debug)]
pub struct Look {
    pub begin: u64,
    pub end: u64,
    /// What its manager shows; nothing: it does not answer.
    pub shown: Option<(State, Readiness)>,
    /// What its daemon says.
    pub daemon: Option<State>,
    /// It is being brought up, and says how far it is.
    pub resyncs: bool,
    pub address: bool,
    pub listens: bool,
}

impl Look {
    fn acknowledges(&self) -> bool {
        self.daemon.is_some_and(State::serves)
    }
}

type Looks = Arc<Mutex<Vec<Look>>>;

/// Looks until dropped.
pub struct Watch {
    looks: [Looks; 2],
    ended: Arc<AtomicBool>,
    threads: Vec<JoinHandle<()>>,
}

impl Watch {
    /// Looks at the first two nodes of the lab in `dir`.
    pub fn start(dir: &Path, address: Ipv4Addr) -> Self {
        let ended = Arc::new(AtomicBool::new(false));
        let looks: [Looks; 2] = Default::default();
        let start = |(index, looks): (usize, &Looks)| {
            let (looks, ended) = (looks.clone(), ended.clone());
            let mut eye = Eye {
                dir: dir.into(),
                index,
                address,
                manager: None,
                daemon: None,
            };
            thread::spawn(move || {
                while !ended.load(Ordering::Relaxed) {
                    let look = eye.look();
                    lock(&looks).push(look);
                    thread::sleep(PACE);
                }
            })
        };
        let threads = looks.iter().enumerate().map(start).collect();
        Self {
            looks,
            ended,
            threads,
        }
    }

    /// All looks at a node (1 or 2) since then.
    pub fn looks(&self, node: usize, since: u64) -> Vec<Look> {
        let looks = lock(&self.looks[node - 1]);
        looks.iter().filter(|l| l.begin >= since).cloned().collect()
    }

    /// The states a node showed since then, without repetitions.
    pub fn shown(&self, node: usize, since: u64) -> Vec<(State, Readiness)> {
        let mut all: Vec<_> = self.looks(node, since);
        let mut shown: Vec<_> = all.drain(..).filter_map(|l| l.shown).collect();
        shown.dedup();
        shown
    }

    /// When the address was first seen at a node since then.
    pub fn address_came(&self, node: usize, since: u64) -> Option<u64> {
        let looks = self.looks(node, since);
        looks.iter().find(|l| l.address).map(|l| l.begin)
    }

    /// The two nodes never had the addresses at once, and never acknowledged at once. `planned`:
    /// nor did the application ever run on both.
    ///
    /// # Errors
    /// They did; when and how.
    pub fn never_two(&self, planned: bool) -> Result<()> {
        let both = [1, 2].map(|node| self.looks(node, 0));
        ensure!(
            both.iter().all(|looks| looks.len() > 10),
            "hardly looked at anything: {} and {} times",
            both[0].len(),
            both[1].len()
        );
        never_both(&both, "held the address", |l| l.address)?;
        never_both(&both, "acknowledged", Look::acknowledges)?;
        if planned {
            never_both(&both, "ran the application", |l| l.listens)?;
        }
        Ok(())
    }
}

fn never_both(looks: &[Vec<Look>; 2], what: &str, is: impl Fn(&Look) -> bool) -> Result<()> {
    for (one, other) in [(0, 1), (1, 0)] {
        let around = looks[other].windows(2).filter(|pair| {
            let close = pair[1].begin.saturating_sub(pair[0].end) < GAP;
            close && pair.iter().all(&is)
        });
        for pair in around {
            let inside = |l: &&Look| l.begin >= pair[0].end && l.end <= pair[1].begin;
            let found = looks[one].iter().filter(inside).find(|l| is(l));
            ensure!(
                found.is_none(),
                "both nodes {what} at once: node{} {found:?}, node{} {pair:?}",
                one + 1,
                other + 1
            );
        }
    }
    Ok(())
}

impl Drop for Watch {
    fn drop(&mut self) {
        self.ended.store(true, Ordering::Relaxed);
        for thread in self.threads.drain(..) {
            thread.join().ok();
        }
    }
}

fn lock(looks: &Looks) -> std::sync::MutexGuard<'_, Vec<Look>> {
    looks.lock().unwrap_or_else(PoisonError::into_inner)
}

/// What looks at one node.
struct Eye {
    dir: PathBuf,
    index: usize,
    address: Ipv4Addr,
    manager: Option<ControlClient>,
    daemon: Option<ControlClient>,
}

impl Eye {
    fn look(&mut self) -> Look {
        let begin = now();
        let shown = self.ask_manager();
        let daemon = self.ask_daemon();
        let resyncs = daemon.as_ref().is_some_and(|d| {
            let resync = d.resync.as_ref();
            resync.is_some_and(|r| r.total_bytes > 0)
        });
        let init = init(&self.dir, self.index);
        let read = |what: &str| {
            let path = init.map(|pid| format!("/proc/{pid}/net/{what}"));
            path.and_then(|p| std::fs::read_to_string(p).ok())
                .unwrap_or_default()
        };
        Look {
            shown,
            daemon: daemon.map(|d| d.state),
            resyncs,
            address: has_address(&read("fib_trie"), self.address),
            listens: listens(&read("tcp"), self.address),
            begin,
            end: now(),
        }
    }

    fn run_dir(&self) -> PathBuf {
        self.dir.join(format!("node{}/run", self.index + 1))
    }

    fn ask_manager(&mut self) -> Option<(State, Readiness)> {
        let path = socket(&self.run_dir());
        if self.manager.is_none() {
            self.manager = ControlClient::connect(path).ok();
        }
        let envelope = Envelope::new(None, Request::Status);
        let answer = self.manager.as_mut()?.ask_manager(&envelope, ASK_LIMIT);
        let Ok(Answer::Status(node)) = answer else {
            self.manager = None;
            return None;
        };
        let module = node.modules.into_iter().find(|m| m.module == "data")?;
        Some((module.state, module.readiness))
    }

    fn ask_daemon(&mut self) -> Option<Box<daemon::Status>> {
        let path = self.run_dir().join("data.sock");
        if self.daemon.is_none() {
            self.daemon = ControlClient::connect(path).ok();
        }
        let client = self.daemon.as_mut()?;
        match client.request_within(&daemon::Request::Status, ASK_LIMIT) {
            Ok(daemon::Answer::Status(status)) => Some(status),
            _ => {
                self.daemon = None;
                None
            }
        }
    }
}

/// The process that holds a node's namespaces, by number from 0.
pub(super) fn init(dir: &Path, index: usize) -> Option<u32> {
    let text = std::fs::read_to_string(dir.join("lab.json")).ok()?;
    let lab: serde_json::Value = serde_json::from_str(&text).ok()?;
    u32::try_from(lab["nodes"][index]["init"]["pid"].as_u64()?).ok()
}

/// Whether the kernel's routing table has the address as one of its own.
fn has_address(table: &str, address: Ipv4Addr) -> bool {
    let leaf = format!("-- {address}");
    let mut lines = table.lines();
    while let Some(line) = lines.next() {
        if line.ends_with(&leaf) && lines.next().is_some_and(|l| l.contains("host LOCAL")) {
            return true;
        }
    }
    false
}

fn listens(table: &str, address: Ipv4Addr) -> bool {
    let number = u32::from_ne_bytes(address.octets());
    let local = format!(" {number:08X}:{PORT:04X} 00000000:0000 0A ");
    table.contains(&local)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn look(begin: u64, address: bool) -> Look {
        Look {
            begin,
            end: begin + 5,
            shown: None,
            daemon: None,
            resyncs: false,
            address,
            listens: false,
        }
    }

    #[test]
    fn only_what_lies_between_two_looks_at_the_other_proves_that_both_did_it() {
        let held = |looks: [Vec<Look>; 2]| never_both(&looks, "held it", |l| l.address);
        let around = vec![look(0, true), look(100, true)];
        assert!(held([around.clone(), vec![look(50, true)]]).is_err());
        assert!(held([vec![look(50, true)], around.clone()]).is_err());
        assert!(held([around.clone(), vec![look(50, false)]]).is_ok());
        // It moved between the looks, or the look was not wholly in between.
        let moved = vec![look(0, true), look(100, false)];
        assert!(held([moved, vec![look(50, true)]]).is_ok());
        assert!(held([around, vec![look(97, true)]]).is_ok());
        let apart = vec![look(0, true), look(GAP + 10, true)];
        assert!(held([apart, vec![look(50, true)]]).is_ok());
    }

    #[test]
    fn the_kernels_tables_are_understood() {
        let address = Ipv4Addr::new(10, 77, 0, 100);
        let table = "     |-- 10.77.0.10\n        /32 host LOCAL\n     |-- 10.77.0.100\n        ";
        assert!(has_address(&format!("{table}/32 host LOCAL\n"), address));
        assert!(!has_address(
            &format!("{table}/32 link BROADCAST\n"),
            address
        ));
        let line = " 0: 64004D0A:1B58 00000000:0000 0A 00000000";
        assert!(listens(line, address));
        assert!(!listens(&line.replace(" 0A ", " 01 "), address));
    }
}
