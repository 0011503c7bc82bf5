//! Generations, and the checkpoints that end them: what may be forgotten, and when changes wait.

use super::super::lasting::Found;
use super::super::service::Volume;
use super::Marks;
use super::place::identify;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use tandem_repl::io::journal::Checkpoints;
use tandem_repl::logic::dirty::{self, Generation, Map};

impl Marks {
    /// Generation of what is touched now.
    pub(in super::super) fn generation(&self) -> Generation {
        self.map().generation()
    }

    /// From here on what is touched is of a new generation. No operation may be between its mark
    /// and its local end.
    pub(in super::super) fn begin_generation(&self) -> Generation {
        self.map().begin_generation()
    }

    /// What was touched in a generation or after it, or all that may differ. Everything in it has
    /// an identity.
    pub(in super::super) fn get(
        &self,
        generation: Option<Generation>,
        volumes: &[Arc<Volume>],
        found: &Found,
    ) -> dirty::Marks {
        let mut marks = {
            let map = self.map();
            match generation {
                Some(generation) => map.marks_since(generation),
                None => map.marks(),
            }
        };
        identify(volumes, found, &mut marks);
        marks
    }

    /// Drops, durably, what was not touched in this generation or after: the checkpoint that began
    /// with it is complete.
    ///
    /// # Errors
    /// The journal could not be written. What was marked is marked still.
    pub(crate) fn drop_before(&self, generation: Generation, warm: bool) -> Result<(), String> {
        if self.off {
            return Ok(());
        }
        let take = |count: &AtomicU64| count.swap(0, Ordering::Relaxed);
        tracing::debug!(
            "marks: {} flushes, {} operations waited {} us",
            take(&self.waits.flushes),
            take(&self.waits.operations),
            take(&self.waits.time)
        );
        let written = {
            let mut journal = self.journal();
            let before = journal.checkpoints;
            journal.checkpoints.completed += 1;
            let written = self.rewrite(&mut journal, |map| map.drop_before(generation, warm));
            if written.is_err() {
                journal.checkpoints = before;
            }
            written
        };
        let result = self.written(written);
        let hot = self.map().hot();
        self.hold.checkpoint(result.is_ok(), hot);
        result
    }

    /// Everything may differ; durable when this returns.
    ///
    /// # Errors
    /// As of [`Self::drop_before`].
    pub(crate) fn mark_everything(&self) -> Result<(), String> {
        let written = self.rewrite(&mut self.journal(), Map::set_everything);
        self.written(written)
    }

    /// Numbers of the last checkpoints of both nodes.
    pub(crate) fn checkpoints(&self) -> Checkpoints {
        self.journal().checkpoints
    }

    /// This node has flushed for the checkpoint that its peer is about to complete.
    ///
    /// # Errors
    /// As of [`Self::drop_before`].
    pub(crate) fn claim_checkpoint(&self) -> Result<(), String> {
        let completed = self.checkpoints().completed;
        let claimed = completed + 1;
        self.set_checkpoints(Checkpoints { completed, claimed })
    }

    /// What the numbers are from here on.
    ///
    /// # Errors
    /// As of [`Self::drop_before`].
    pub(crate) fn set_checkpoints(&self, numbers: Checkpoints) -> Result<(), String> {
        let written = {
            let mut journal = self.journal();
            if journal.checkpoints == numbers {
                return Ok(());
            }
            journal.checkpoints = numbers;
            self.rewrite(&mut journal, |_| {})
        };
        self.written(written)
    }

    /// Whether changes are to wait for the checkpoint that is due.
    pub(crate) fn is_full(&self) -> bool {
        !self.off && self.hold.is_full()
    }

    /// Changes go to both nodes from now on.
    pub(crate) fn begin_replicating(&self) {
        self.hold.begin(self.map().hot());
    }
}
