//! What the replication driver asks of the service: the peer's operations, and the gate.

use super::super::apply::{Applier, Ids, stamp};
use super::super::sys;
use super::sync::sync_file;
use super::{Service, Volume};
use std::io;
use std::sync::PoisonError;
use tandem_repl::ids::FileId;
use tandem_repl::logic::member::Gate;
use tandem_repl::op::{Op, Stamp};
use tandem_repl::wire::Stamps;

impl Service {
    pub(crate) fn apply_from_peer(
        &self,
        volume: &Volume,
        op: &Op<'_>,
        stamps: &[Stamp],
    ) -> io::Result<()> {
        if let Op::Unbind { id } = op {
            volume.times.settle(&volume.peers, *id);
        }
        Applier {
            nodes: &volume.peers,
            ids: Ids::Peers,
        }
        .apply(op)?;
        volume.times.note(&volume.peers, stamps);
        Ok(())
    }

    pub(crate) fn sync_for_peer(&self, volume: &Volume, op: &Op<'_>) -> io::Result<()> {
        match op {
            Op::Fsync { id, .. } => volume.times.settle(&volume.peers, *id),
            _ => volume.times.settle_all(&volume.peers),
        }
        sync_file(&volume.backing, &volume.peers, op)
    }

    pub(crate) fn settle_times(&self) {
        for volume in &self.volumes {
            volume.times.settle_all(&volume.peers);
        }
    }

    pub(crate) fn reset_peer_ids(&self) {
        self.settle_times();
        for volume in &self.volumes {
            volume.peers.clear();
        }
    }

    pub(crate) fn switch_gate(&self, gate: Gate) {
        let served = {
            let mut state = self.gate.write().unwrap_or_else(PoisonError::into_inner);
            let served = state.gate != Gate::ReadOnly;
            if !served && gate != Gate::ReadOnly {
                state.period += 1;
            }
            state.gate = gate;
            served
        };
        if gate == Gate::ReadOnly && served {
            self.volumes.iter().for_each(|v| v.drop_kernel_caches());
        }
        if gate == Gate::Replicated {
            self.volumes.iter().for_each(|v| self.send_root(v));
        }
        if gate != Gate::Frozen {
            let parked =
                std::mem::take(&mut *self.parked.lock().unwrap_or_else(PoisonError::into_inner));
            for job in parked {
                self.pool.run(job);
            }
        }
    }

    /// The root's times, which no operation has carried yet.
    fn send_root(&self, volume: &Volume) {
        let Ok(stat) = sys::fstat(volume.backing.root_fd()) else {
            return;
        };
        let Some(driver) = self.driver.get() else {
            return;
        };
        let mut stamps = Stamps::default();
        stamps.push(stamp(FileId::ROOT, &stat));
        let (set, cred) = Default::default();
        let op = Op::SetAttr {
            id: FileId::ROOT,
            set,
            cred,
        };
        driver.ship(0, |s| s.op(volume.id, &op, &stamps), Box::new(|_| {}));
    }
}
