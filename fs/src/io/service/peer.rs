//! What the replication driver asks of the service: the peer's operations, and the gate.

use super::super::apply::{Applier, Ids};
use super::super::{names, times};
use super::sync::sync_file;
use super::{Service, Volume};
use std::io;
use std::sync::PoisonError;
use tandem_repl::ids::FileId;
use tandem_repl::logic::member::Gate;
use tandem_repl::op::Op;

impl Service {
    pub(crate) fn apply_from_peer(&self, volume: &Volume, op: &Op<'_>) -> io::Result<()> {
        Applier {
            nodes: &volume.peers,
            ids: Ids::Peers,
        }
        .apply(op)
        .map(|_| ())
    }

    pub(crate) fn sync_for_peer(&self, volume: &Volume, op: &Op<'_>) -> io::Result<()> {
        sync_file(&volume.backing, &volume.peers, op)
    }

    /// Sends the times of files that have changed.
    pub(crate) fn send_times(&self) {
        for volume in &self.volumes {
            for node in volume.times.take() {
                let gate = self.gate();
                if gate.gate != Gate::Replicated {
                    // Nobody to send them to; a peer that returns is compared with this node.
                    continue;
                }
                let _order = node.lock_order();
                let Some(op) = times::operation(&volume.nodes, &node) else {
                    continue;
                };
                let Some(driver) = self.driver.get() else {
                    continue;
                };
                driver.ship(
                    0,
                    |shipment| {
                        names::bind_for(shipment, volume, &op, &names::Entries::default());
                        shipment.op(volume.id, &op);
                    },
                    Box::new(|_| {}),
                );
            }
        }
    }

    /// Files whose times the peer may not have yet.
    pub(crate) fn times_waiting(&self) -> u64 {
        self.volumes.iter().map(|v| v.times.waiting() as u64).sum()
    }

    pub(crate) fn reset_peer_ids(&self) {
        for volume in &self.volumes {
            volume.peers.clear();
        }
    }

    pub(crate) fn switch_gate(&self, gate: Gate) {
        if gate != Gate::Replicated {
            self.send_times();
        }
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
            // The root's times no operation has carried yet.
            self.volumes
                .iter()
                .for_each(|v| v.times.touch(&v.nodes, FileId::ROOT));
        }
        if gate != Gate::Frozen {
            let parked =
                std::mem::take(&mut *self.parked.lock().unwrap_or_else(PoisonError::into_inner));
            for job in parked {
                self.pool.run(job);
            }
        }
    }
}
