//! What the replication driver asks of the service: the peer's operations, and the gate.

use super::super::apply::{Applier, Ids};
use super::super::nodes::Node;
use super::super::{names, times};
use super::sync::sync_file;
use super::{Service, Volume};
use std::io;
use std::sync::atomic::Ordering;
use std::sync::{Arc, PoisonError};
use tandem_repl::ids::FileId;
use tandem_repl::logic::dirty::{Generation, Marks};
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
        let _one = self
            .sending_times
            .lock()
            .unwrap_or_else(PoisonError::into_inner);
        for volume in &self.volumes {
            if *self.gate() != Gate::Replicated {
                // They stay listed until there is somebody to tell.
                continue;
            }
            for node in volume.times.take() {
                let gate = self.gate();
                if *gate == Gate::Replicated {
                    self.send_time(volume, &node);
                } else {
                    volume.times.relist(node);
                }
            }
        }
        self.flush_stream();
    }

    fn flush_stream(&self) {
        if let Some(driver) = self.driver.get() {
            driver.flush();
        }
    }

    /// Sends what is still listed when writes stand still.
    fn send_last_times(&self) {
        let _one = self
            .sending_times
            .lock()
            .unwrap_or_else(PoisonError::into_inner);
        for volume in &self.volumes {
            for node in volume.times.take() {
                self.send_time(volume, &node);
            }
        }
        self.flush_stream();
    }

    /// Sends one file's times, if they have changed. The caller knows that there is a stream.
    fn send_time(&self, volume: &Volume, node: &Node) {
        let _order = node.lock_order();
        let Some(op) = times::operation(&volume.nodes, node) else {
            return;
        };
        let Some(driver) = self.driver.get() else {
            return;
        };
        driver.ship_later(|shipment| {
            // A file that was forgotten or lost its name meanwhile has no times to tell.
            let none = names::Entries::default();
            if node.orphan() || !names::bind_for(shipment, volume, &op, &none) {
                return false;
            }
            shipment.op(volume.id, &op);
            true
        });
    }

    /// The kernel is about to forget a file: its times go before its binding.
    pub(crate) fn send_time_before_forgetting(&self, volume: &Volume, id: FileId) {
        let Some(node) = volume.nodes.get(id) else {
            return;
        };
        if node.touched.load(Ordering::Acquire) {
            let gate = self.gate();
            if *gate == Gate::Replicated {
                self.send_time(volume, &node);
            }
        }
    }

    /// The device a rename left behind is known to nobody here, so its times are sent at once.
    pub(super) fn send_whiteout_times(&self, volume: &Arc<Volume>, op: &Op<'_>) {
        let Op::Rename { parent, name, .. } = *op else {
            return;
        };
        let Ok((node, _)) = volume.look_up(parent, name) else {
            return;
        };
        node.touched.store(true, Ordering::Release);
        self.send_time(volume, &node);
        if let Some(node) = volume.nodes.forget(node.id, 1) {
            self.unbind(volume, &node);
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
        let before = {
            let mut state = self.gate.write().unwrap_or_else(PoisonError::into_inner);
            if *state == Gate::ReadOnly && gate != Gate::ReadOnly {
                self.begin_serving();
            }
            if *state != Gate::Replicated && gate == Gate::Replicated {
                self.marks.begin_replicating();
            }
            if gate == Gate::ReadOnly {
                self.period.store(0, Ordering::Release);
            }
            std::mem::replace(&mut *state, gate)
        };
        match (before, gate) {
            (Gate::Replicated, Gate::Frozen) => self.send_last_times(),
            (_, Gate::Replicated) => {
                // The root's times no operation has carried yet.
                self.volumes
                    .iter()
                    .for_each(|v| v.times.touch(&v.nodes, FileId::ROOT));
            }
            _ => {}
        }
        if gate != Gate::Frozen {
            self.release();
        }
        if gate == Gate::ReadOnly && before != Gate::ReadOnly {
            self.drop_kernel_caches();
        }
    }

    /// Begins a checkpoint, or a pass of a resync: what is marked from here on is of a new
    /// generation. Of what was done before, the times are on the stream when this returns.
    pub(crate) fn begin_generation(&self) -> Generation {
        let generation = {
            let _none_under_way = self.gate.write().unwrap_or_else(PoisonError::into_inner);
            self.marks.begin_generation()
        };
        // No mark speaks for times that follow a change: the peer has them before the marks go.
        self.send_times();
        generation
    }

    /// What was touched since a generation began, or all that may differ; all with identities.
    pub(crate) fn marks_since(&self, generation: Option<Generation>) -> Marks {
        self.marks.get(generation, &self.volumes, &self.found)
    }

    /// What was learned of names while the peer changed them may be wrong now; the kernel, which
    /// was told to believe nothing for long, asks for each anew.
    fn begin_serving(&self) {
        for volume in &self.volumes {
            volume.nodes.for_each(|node| node.state().names.clear());
        }
        let period = self.periods.fetch_add(1, Ordering::AcqRel) + 1;
        self.period.store(period, Ordering::Release);
    }

    /// In a thread of its own: the kernel waits for requests under way, some of which the caller
    /// has still to answer.
    fn drop_kernel_caches(&self) {
        let volumes = self.volumes.clone();
        let run = move || volumes.iter().for_each(|v| v.drop_kernel_caches());
        if let Err(e) = std::thread::Builder::new().name("caches".into()).spawn(run) {
            tracing::error!("the kernel keeps what it cached: {e}");
        }
    }
}
