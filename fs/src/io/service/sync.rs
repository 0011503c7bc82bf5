//! Changes that must reach the disk, here and on the peer at once.

use super::super::backing::Backing;
use super::super::names;
use super::super::nodes::Nodes;
use super::super::sys;
use super::{Done, Finish, INLINE_SYNCS, Service, Volume};
use crate::error::errno_of;
use crate::logic::join::Join;
use std::io;
use std::os::fd::AsRawFd;
use std::sync::Arc;
use std::sync::atomic::Ordering;
use tandem_repl::logic::member::Gate;
use tandem_repl::op::Op;

impl Service {
    /// A change that must also reach the disk: a sync, or a write with `O_SYNC`.
    pub(crate) fn change_synced(
        self: &Arc<Self>,
        volume: &Arc<Volume>,
        op: &Op<'_>,
        finish: Finish,
    ) {
        let Some(sync) = op.sync_part() else {
            return self.change(volume, op, finish);
        };
        let is_write = matches!(op, Op::Write { .. });
        let (service, own) = (self.clone(), volume.clone());
        if !is_write {
            return self.sync(volume, &sync, finish);
        }
        // First the write as such: on both nodes; the peer syncs before it answers.
        let local = Box::new(move |result: Result<Done, i32>| match result {
            Ok(done) => service.in_background(Box::new(move |service| {
                let result = service.sync_here(&own, &sync);
                finish(result.map(|()| done));
            })),
            Err(errno) => finish(Err(errno)),
        });
        self.change(volume, op, local);
    }

    /// Syncs here and on the peer at once.
    fn sync(self: &Arc<Self>, volume: &Arc<Volume>, op: &Op<'static>, finish: Finish) {
        let gate = self.gate();
        let orphan = names::content_target(op)
            .and_then(|id| volume.nodes.get(id))
            .is_some_and(|n| n.orphan());
        match gate.gate {
            Gate::Frozen => return self.park(volume, op, finish),
            Gate::Replicated if !orphan => {}
            Gate::ReadOnly | Gate::Alone | Gate::Replicated => {
                drop(gate);
                return self.sync_then(
                    volume,
                    *op,
                    Box::new(move |r| finish(r.map(|()| nothing()))),
                );
            }
        }
        let answer = move |result: Result<(), i32>| finish(result.map(|()| nothing()));
        let join = Arc::new(Join::new(2, Box::new(answer)));
        let Some(driver) = self.driver.get() else {
            return join.part(Err(libc::EIO));
        };
        let peer = join.clone();
        driver.ship(
            0,
            |shipment| {
                names::bind_for(shipment, volume, op, &names::Entries::default());
                shipment.op(volume.id, op);
            },
            Box::new(move |result| peer.part(result)),
        );
        drop(gate);
        self.sync_then(volume, *op, Box::new(move |result| join.part(result)));
    }

    /// Syncs this node's disk, in this thread if enough others are left to serve.
    fn sync_then(
        self: &Arc<Self>,
        volume: &Arc<Volume>,
        op: Op<'static>,
        then: Box<dyn FnOnce(Result<(), i32>) + Send>,
    ) {
        if self.inline_syncs.fetch_add(1, Ordering::Relaxed) < INLINE_SYNCS {
            let result = self.sync_here(volume, &op);
            self.inline_syncs.fetch_sub(1, Ordering::Relaxed);
            return then(result);
        }
        self.inline_syncs.fetch_sub(1, Ordering::Relaxed);
        let volume = volume.clone();
        self.in_background(Box::new(move |service| {
            then(service.sync_here(&volume, &op));
        }));
    }

    fn in_background(self: &Arc<Self>, job: Box<dyn FnOnce(&Self) + Send>) {
        let service = self.clone();
        self.pool.run(Box::new(move || job(&service)));
    }

    fn sync_here(&self, volume: &Volume, op: &Op<'_>) -> Result<(), i32> {
        sync_file(&volume.backing, &volume.nodes, op).map_err(|e| {
            tracing::error!("sync of {}: {e}", volume.backing.path.display());
            errno_of(&e)
        })
    }
}

fn nothing() -> Done {
    Done {
        stat: None,
        node: None,
        written: 0,
    }
}

pub(super) fn sync_file(backing: &Backing, nodes: &Nodes, op: &Op<'_>) -> io::Result<()> {
    match *op {
        Op::Fsync { id, data_only } => {
            let node = nodes.expect(id)?;
            if !node.is_file() && !node.is_dir() {
                return backing.sync();
            }
            sys::fsync(nodes.fd(&node)?.as_raw_fd(), data_only)
        }
        _ => backing.sync(),
    }
}
