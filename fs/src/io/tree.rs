//! The service as the replication driver sees it.

use super::digest;
use super::service::{Service, Volume};
use crate::error::errno_of;
use std::io;
use std::sync::Arc;
use tandem_repl::ids::DirId;
use tandem_repl::io::driver::Tree;
use tandem_repl::logic::member::Gate;
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

    fn digest(&self) -> Result<[u8; 32], String> {
        let mut hash = blake3::Hasher::new();
        for volume in &self.volumes {
            hash.update(&digest::tree(volume.backing.root_fd())?);
        }
        Ok(*hash.finalize().as_bytes())
    }

    fn flush(&self) -> Result<(), String> {
        for volume in &self.volumes {
            let named = |e: io::Error| format!("{}: {e}", volume.backing.path.display());
            volume.backing.sync().map_err(named)?;
        }
        Ok(())
    }
}
