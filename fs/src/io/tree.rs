//! The service as the replication driver sees it.

use super::resync::{FsTarget, Source};
use super::service::{Service, Volume};
use crate::error::errno_of;
use std::io;
use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::time::Duration;
use tandem_repl::ids::DirId;
use tandem_repl::io::driver::{Requests, Tree};
use tandem_repl::logic::dirty::{Generation, Level, Marks};
use tandem_repl::logic::latency::Meters;
use tandem_repl::logic::member::{Gate, Pressure};
use tandem_repl::logic::resync::SourceTree;
use tandem_repl::op::Op;

impl Service {
    fn volume(&self, dir: DirId) -> Result<&Arc<Volume>, i32> {
        self.volumes.get(usize::from(dir.0)).ok_or(libc::ENOENT)
    }
}

impl Tree for Service {
    fn apply(&self, dir: DirId, op: &Op<'_>) -> Result<(), i32> {
        let volume = self.volume(dir)?;
        self.apply_from_peer(volume, op).map_err(|e| errno_of(&e))
    }

    fn sync(&self, dir: DirId, op: &Op<'_>) -> Result<(), i32> {
        self.sync_for_peer(self.volume(dir)?, op)
            .map_err(|e| errno_of(&e))
    }

    fn check(&self, dir: DirId, op: &Op<'_>) -> Result<bool, i32> {
        self.check_for_peer(self.volume(dir)?, op)
            .map_err(|e| errno_of(&e))
    }

    fn fetch(&self, dir: DirId, op: &Op<'_>) -> Result<Vec<u8>, i32> {
        self.fetch_for_peer(self.volume(dir)?, op)
            .map_err(|e| errno_of(&e))
    }

    fn reset_peer_ids(&self) {
        Self::reset_peer_ids(self);
    }

    fn set_gate(&self, gate: Gate) {
        self.switch_gate(gate);
    }

    fn source(&self) -> Result<Arc<dyn SourceTree>, String> {
        let own = self.own().ok_or("the daemon is ending")?;
        Ok(Arc::new(Source::new(&own)))
    }

    fn target(&self, _keep_aside: bool) -> Result<Arc<dyn Requests>, String> {
        let own = self.own().ok_or("the daemon is ending")?;
        Ok(Arc::new(FsTarget::new(&own).session()))
    }

    fn begin_generation(&self) -> Generation {
        Self::begin_generation(self)
    }

    fn marks(&self, since: Option<Generation>) -> Marks {
        self.marks_since(since)
    }

    fn drop_marks(&self, before: Generation, warm: bool) -> Result<(), String> {
        let dropped = self.marks.drop_before(before, warm);
        self.outside_is_settled(before);
        self.go_on();
        dropped
    }

    fn checkpoints(&self) -> u64 {
        self.marks.checkpoints().completed
    }

    fn claim_checkpoint(&self) -> Result<(), String> {
        self.marks.claim_checkpoint()
    }

    fn pressure(&self) -> Pressure {
        let now = self.marks.pressure();
        Pressure {
            marked: now.level > Level::Quiet,
            urgent: now.level >= Level::Due,
            quiet: self.is_quiet(),
        }
    }

    fn slow_down(&self, delay: Duration) {
        let delay = u64::try_from(delay.as_micros()).unwrap_or(u64::MAX);
        self.delay_us.store(delay, Ordering::Relaxed);
    }

    fn meters(&self) -> &Meters {
        &self.meters
    }

    fn flush(&self) -> Result<(), String> {
        for volume in &self.volumes {
            let named = |e: io::Error| format!("{}: {e}", volume.backing.path.display());
            volume.backing.sync().map_err(named)?;
        }
        Ok(())
    }
}
