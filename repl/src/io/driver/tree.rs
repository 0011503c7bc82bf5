//! What the driver needs of the replicated directories.

use super::target::Requests;
use crate::ids::DirId;
use crate::logic::dirty::{Generation, Marks};
use crate::logic::latency::Meters;
use crate::logic::member::{Gate, Pressure};
use crate::logic::resync::SourceTree;
use crate::op::Op;
use std::sync::Arc;
use std::time::Duration;

/// The replicated directories as the driver needs them.
pub trait Tree: Send + Sync + 'static {
    /// Applies an operation of the peer.
    ///
    /// # Errors
    /// The errno of the local file system.
    fn apply(&self, dir: DirId, op: &Op<'_>) -> Result<(), i32>;
    /// Brings what an operation changed to stable storage: [`Op::Fsync`] or [`Op::SyncAll`]. May be
    /// called from several threads at once.
    ///
    /// # Errors
    /// The errno of the local file system.
    fn sync(&self, dir: DirId, op: &Op<'_>) -> Result<(), i32>;
    /// Whether this tree has what a [`Op::Check`] says.
    ///
    /// # Errors
    /// The errno of what could not be read.
    fn check(&self, dir: DirId, op: &Op<'_>) -> Result<bool, i32>;
    /// The bytes a [`Op::Fetch`] asks for; fewer at the end of the file.
    ///
    /// # Errors
    /// The errno of what could not be read.
    fn fetch(&self, dir: DirId, op: &Op<'_>) -> Result<Vec<u8>, i32>;
    /// A session begins: ids of an earlier one mean nothing any more.
    fn reset_peer_ids(&self);
    /// Returns when no change admitted under the old gate is unfinished.
    fn set_gate(&self, gate: Gate);
    /// The tree as a resync from this node reads it.
    ///
    /// # Errors
    /// A text that names what is in the way.
    fn source(&self) -> Result<Arc<dyn SourceTree>, String>;
    /// Makes ready for a resync of this node.
    ///
    /// # Errors
    /// A text that names what is in the way.
    fn target(&self, keep_aside: bool) -> Result<Arc<dyn Requests>, String>;
    /// Begins a new generation of marks, at a moment when no operation is between its mark and its
    /// place on the stream.
    fn begin_generation(&self) -> Generation;
    /// What was marked since that generation began; all, if none is given.
    fn marks(&self, since: Option<Generation>) -> Marks;
    /// Drops marks last used before that generation.
    ///
    /// # Errors
    /// A text that says why the journal could not be written.
    fn drop_marks(&self, before: Generation, warm: bool) -> Result<(), String>;
    /// Number of the last checkpoint that was completed here.
    fn checkpoints(&self) -> u64;
    /// Notes durably that this node, following, has flushed for the next one.
    ///
    /// # Errors
    /// As of [`Self::drop_marks`].
    fn claim_checkpoint(&self) -> Result<(), String>;
    fn pressure(&self) -> Pressure;
    /// Delays every change by so much, because a resync does not keep up.
    fn slow_down(&self, delay: Duration);
    /// How long answers to the application took.
    fn meters(&self) -> &Meters;
    /// Everything applied to stable storage, times included.
    ///
    /// # Errors
    /// A text that names what could not be flushed.
    fn flush(&self) -> Result<(), String>;
}
