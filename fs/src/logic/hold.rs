//! The hot limit: how much may have been written since the last checkpoint of both nodes, and so
//! how much travels after a crash. At half of it a checkpoint is due; who writes faster than both
//! disks take it waits at the limit until that checkpoint is complete.

use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};

/// What was written since the last checkpoint, against the limit.
pub(crate) struct Hold {
    limit: u64,
    /// What had been written when changes began to go to both nodes: it is marked anyway.
    base: AtomicU64,
    full: AtomicBool,
    /// A checkpoint failed: nobody waits for one any more until another is complete.
    excused: AtomicBool,
}

impl Hold {
    pub(crate) fn new(limit: u64) -> Self {
        Self {
            limit,
            base: AtomicU64::new(0),
            full: AtomicBool::new(false),
            excused: AtomicBool::new(false),
        }
    }

    pub(crate) fn is_full(&self) -> bool {
        self.full.load(Ordering::SeqCst)
    }

    /// So much was written since the last checkpoint, all in all.
    pub(crate) fn written(&self, hot: u64) {
        let new = hot.saturating_sub(self.base.load(Ordering::Relaxed));
        if new >= self.limit && !self.excused.load(Ordering::Relaxed) {
            self.full.store(true, Ordering::SeqCst);
        }
    }

    /// Changes go to both nodes from now on.
    pub(crate) fn begin(&self, hot: u64) {
        self.base.store(hot, Ordering::Relaxed);
        self.excused.store(false, Ordering::Relaxed);
        self.full.store(false, Ordering::SeqCst);
    }

    /// A checkpoint ended; what was written since it began remains.
    pub(crate) fn checkpoint(&self, complete: bool, hot: u64) {
        self.base.store(0, Ordering::Relaxed);
        self.excused.store(!complete, Ordering::Relaxed);
        self.full.store(false, Ordering::SeqCst);
        self.written(hot);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_limit_holds_from_one_checkpoint_to_the_next() {
        let hold = Hold::new(100);
        hold.begin(5_000);
        hold.written(5_099);
        assert!(!hold.is_full(), "what was written alone does not count");
        hold.written(5_100);
        assert!(hold.is_full());
        hold.checkpoint(true, 40);
        assert!(!hold.is_full());
        hold.written(100);
        assert!(hold.is_full(), "from the checkpoint on");
        hold.checkpoint(true, 100);
        assert!(hold.is_full(), "the checkpoint was too slow");
        hold.checkpoint(false, 130);
        assert!(!hold.is_full(), "nobody waits for what does not come");
        hold.written(200);
        assert!(!hold.is_full());
    }
}
