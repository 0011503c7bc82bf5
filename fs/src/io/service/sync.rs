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
use std::time::Instant;
use tandem_repl::logic::latency::Class;
use tandem_repl::logic::member::Gate;
use tandem_repl::op::Op;

impl Service {
    /// Syncs here and on the peer at once.
    pub(crate) fn sync(self: &Arc<Self>, volume: &Arc<Volume>, op: &Op<'static>, finish: Finish) {
        let gate = self.gate();
        let node = names::content_target(op).and_then(|id| volume.nodes.get(id));
        match *gate {
            Gate::Frozen => {
                let parked = self.park_op(*gate, (volume, op), finish);
                drop(gate);
                if let Err((finish, errno)) = parked {
                    finish(Err(errno));
                }
                return;
            }
            Gate::Replicated => {}
            Gate::ReadOnly | Gate::Alone => {
                drop(gate);
                let then = move |r: Result<(), i32>| finish(r.map(|()| nothing()));
                return self.sync_then(volume, *op, Box::new(then));
            }
        }
        let answer = move |result: Result<(), i32>| finish(result.map(|()| nothing()));
        let join = Arc::new(Join::new(2, Box::new(answer)));
        let peer = join.clone();
        let Some(driver) = self.driver.get() else {
            return join.part(Err(libc::EIO));
        };
        driver.ship(
            0,
            |shipment| {
                if node.as_ref().is_some_and(|n| n.orphan()) {
                    return false;
                }
                names::bind_for(shipment, volume, op, &names::Entries::default());
                shipment.op(volume.id, op);
                true
            },
            Box::new(move |result| peer.part(result)),
        );
        drop(gate);
        self.sync_then(volume, *op, Box::new(move |result| join.part(result)));
    }

    /// Syncs this node's disk, in this thread if enough others are left to serve.
    pub(super) fn sync_then(
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

    /// In a thread that may wait for a disk or for the peer.
    pub(crate) fn in_background(self: &Arc<Self>, job: Box<dyn FnOnce(&Self) + Send>) {
        let service = self.clone();
        self.pool.run(Box::new(move || job(&service)));
    }

    fn sync_here(&self, volume: &Volume, op: &Op<'_>) -> Result<(), i32> {
        let began = self.meters.is_on().then(Instant::now);
        let result = sync_file(&volume.backing, &volume.nodes, op).map_err(|e| {
            let what = format!("sync of {}: {e}", volume.backing.path.display());
            tracing::error!("{what}");
            if let Some(driver) = self.driver.get() {
                // What the kernel could not write it has forgotten: asking again would lie.
                driver.local_failed(&what);
            }
            errno_of(&e)
        });
        self.note(Class::Sync, began);
        result
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
