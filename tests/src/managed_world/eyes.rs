//! Looks, all the time, who has the address of the service. From outside: a node that stands still
//! or is cut off is seen as well as any other.

use crate::sys;
use std::collections::BTreeMap;
use std::fs;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex};
use std::thread::{self, JoinHandle};
use std::time::Duration;

const PAUSE: Duration = Duration::from_millis(2);

/// Since when a node has the address or has it not, by the boot clock.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Change {
    pub at: u64,
    pub node: String,
    pub has: bool,
}

#[derive(Default)]
struct Seen {
    /// Init processes.
    pids: BTreeMap<String, u32>,
    changes: Vec<Change>,
    /// When both had it.
    two: Vec<u64>,
}

/// See the module's opening.
pub struct Eyes {
    seen: Arc<Mutex<Seen>>,
    end: Arc<AtomicBool>,
    thread: Option<JoinHandle<()>>,
}

impl Eyes {
    /// Begins to look.
    pub fn open(address: &str) -> Self {
        let seen = Arc::new(Mutex::new(Seen::default()));
        let end = Arc::new(AtomicBool::new(false));
        let (to, ended) = (seen.clone(), end.clone());
        // How the kernel lists an address of a node's own.
        let line = format!("|-- {address}\n");
        let look = move || {
            while !ended.load(Ordering::Relaxed) {
                to.lock().expect("nobody panics with it").look(&line);
                thread::sleep(PAUSE);
            }
        };
        Self {
            seen,
            end,
            thread: Some(thread::spawn(look)),
        }
    }

    /// From now on a node is this process's; `None`: it is down.
    ///
    /// # Panics
    /// The looking thread has.
    pub fn looks_at(&self, node: &str, pid: Option<u32>) {
        let mut seen = self.seen.lock().expect("nobody panics with it");
        match pid {
            Some(pid) => seen.pids.insert(node.into(), pid),
            None => seen.pids.remove(node),
        };
    }

    /// A node's init process.
    ///
    /// # Panics
    /// The looking thread has.
    pub fn pid(&self, node: &str) -> Option<u32> {
        let seen = self.seen.lock().expect("nobody panics with it");
        seen.pids.get(node).copied()
    }

    /// When both had the address.
    ///
    /// # Panics
    /// The looking thread has.
    pub fn two(&self) -> Vec<u64> {
        self.seen.lock().expect("nobody panics with it").two.clone()
    }

    /// Forgets when both had the address: what follows counts.
    ///
    /// # Panics
    /// The looking thread has.
    pub fn forget(&self) -> Vec<u64> {
        std::mem::take(&mut self.seen.lock().expect("nobody panics with it").two)
    }

    /// Who got and lost the address, and when.
    ///
    /// # Panics
    /// The looking thread has.
    pub fn changes(&self) -> Vec<Change> {
        self.seen
            .lock()
            .expect("nobody panics with it")
            .changes
            .clone()
    }

    /// Whether a node has the address now.
    pub fn has(&self, node: &str) -> bool {
        let changes = self.changes();
        let last = changes.iter().rev().find(|c| c.node == node);
        last.is_some_and(|c| c.has)
    }

    pub fn close(&mut self) {
        self.end.store(true, Ordering::Relaxed);
        if let Some(thread) = self.thread.take() {
            thread.join().ok();
        }
    }
}

impl Seen {
    fn look(&mut self, line: &str) {
        let has = |pid: &u32| {
            let text = fs::read_to_string(format!("/proc/{pid}/net/fib_trie"));
            text.is_ok_and(|text| text.contains(line))
        };
        let who: Vec<(String, u32)> = self.pids.iter().map(|(n, p)| (n.clone(), *p)).collect();
        let all: Vec<bool> = who.iter().map(|(_, pid)| has(pid)).collect();
        // One after the other: only what holds again was there at one time.
        if all.len() == 2 && all[0] && all[1] && has(&who[0].1) {
            self.two.push(sys::boot_clock());
        }
        for node in ["node1", "node2"] {
            let at = who.iter().position(|(name, _)| name == node);
            let has = at.is_some_and(|at| all[at]);
            let last = self.changes.iter().rev().find(|c| c.node == node);
            if last.is_some_and(|c| c.has) != has {
                self.changes.push(Change {
                    at: sys::boot_clock(),
                    node: node.into(),
                    has,
                });
            }
        }
    }
}
