//! Times that arrived with the peer's operations and are not set yet.
//!
//! Setting them with every write would cost a system call and a dirty inode each; so the newest of
//! each file waits here until it matters: a sync of the file, the end of its use, promotion, a moment
//! of rest. What is read on the following node meanwhile may show its own clock's time.

use super::apply::set_stamp;
use super::nodes::Nodes;
use std::collections::HashMap;
use std::sync::{Mutex, PoisonError};
use tandem_repl::ids::FileId;
use tandem_repl::op::Stamp;

/// Files whose times may wait; beyond it all are settled.
const MAX_WAITING: usize = 4096;

#[derive(Default)]
pub(crate) struct Times {
    waiting: Mutex<HashMap<FileId, Stamp>>,
}

impl Times {
    pub(crate) fn note(&self, nodes: &Nodes, stamps: &[Stamp]) {
        if stamps.is_empty() {
            return;
        }
        let mut waiting = self.waiting.lock().unwrap_or_else(PoisonError::into_inner);
        for stamp in stamps {
            waiting.insert(stamp.id, *stamp);
        }
        let full = waiting.len() > MAX_WAITING;
        drop(waiting);
        if full {
            self.settle_all(nodes);
        }
    }

    pub(crate) fn settle(&self, nodes: &Nodes, id: FileId) {
        let mut waiting = self.waiting.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some(stamp) = waiting.remove(&id) {
            apply(nodes, &stamp);
        }
    }

    pub(crate) fn settle_all(&self, nodes: &Nodes) {
        // Held throughout, so that nobody sees "none waiting" before the last is set.
        let mut waiting = self.waiting.lock().unwrap_or_else(PoisonError::into_inner);
        for (_, stamp) in waiting.drain() {
            apply(nodes, &stamp);
        }
    }
}

fn apply(nodes: &Nodes, stamp: &Stamp) {
    if let Err(e) = set_stamp(nodes, stamp)
        && e.raw_os_error() != Some(libc::ESTALE)
    {
        // Gone files are normal (ESTALE); anything else concerns a time, not data.
        tracing::warn!("time of a file could not be set: {e}");
    }
}
