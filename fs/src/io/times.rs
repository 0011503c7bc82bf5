//! File times follow.
//!
//! Both nodes take times from their own clocks when they apply an operation; the serving node's
//! are the true ones. Sending them with every write would cost a system call and a dirty inode
//! per write, and asking a recent kernel for a time makes the next write dirty the inode again.
//! So files whose times have changed are listed here, and a moment later their times are sent, as
//! an operation of its own, which arrives after every operation they come from.
//!
//! After an unclean loss of the serving node a file changed in the last moment may have the time
//! of the other node's clock. A clean stop sends everything first.

use super::nodes::{Node, Nodes};
use super::sys;
use std::os::fd::AsRawFd;
use std::sync::atomic::Ordering;
use std::sync::{Arc, Mutex, PoisonError, Weak};
use tandem_repl::ids::FileId;
use tandem_repl::op::{Op, TimeSet};

/// Files listed at most.
const MAX_LISTED: usize = 100_000;

/// Files with times to be sent.
#[derive(Default)]
pub(crate) struct Times {
    /// Not held: what is removed while there is no peer to tell would keep its descriptor. What
    /// the kernel forgets is told before that.
    touched: Mutex<Vec<Weak<Node>>>,
}

impl Times {
    /// After `op` is on the stream.
    pub(crate) fn note(&self, nodes: &Nodes, op: &Op<'_>, made: Option<&Arc<Node>>) {
        match *op {
            Op::SetAttr { id, set, .. } => {
                let both = [set.atime, set.mtime]
                    .iter()
                    .all(|t| matches!(t, TimeSet::To(_)));
                if both && let Some(node) = nodes.get(id) {
                    // The operation itself has told them.
                    node.touched.store(false, Ordering::Release);
                } else {
                    self.touch(nodes, id);
                }
            }
            Op::Write { id, .. } | Op::Fallocate { id, .. } => self.touch(nodes, id),
            Op::Make { parent, .. } => {
                self.touch(nodes, parent);
                if let Some(made) = made {
                    self.touch_node(made);
                }
            }
            Op::Link { parent, .. } | Op::Unlink { parent, .. } | Op::Rmdir { parent, .. } => {
                self.touch(nodes, parent);
            }
            Op::Rename {
                parent, new_parent, ..
            } => {
                self.touch(nodes, parent);
                self.touch(nodes, new_parent);
            }
            _ => {}
        }
    }

    pub(crate) fn touch(&self, nodes: &Nodes, id: FileId) {
        if let Some(node) = nodes.get(id) {
            self.touch_node(&node);
        }
    }

    fn touch_node(&self, node: &Arc<Node>) {
        if !node.touched.swap(true, Ordering::AcqRel) {
            let mut list = self.list();
            if list.len() >= MAX_LISTED {
                // Without a peer for long; the resync compares times as well.
                let known = list.drain(..).filter_map(|n| n.upgrade());
                known.for_each(|n| n.touched.store(false, Ordering::Release));
            }
            list.push(Arc::downgrade(node));
        }
    }

    /// Files whose times the peer may not have yet.
    pub(crate) fn waiting(&self) -> usize {
        self.list().iter().filter(|n| n.strong_count() > 0).count()
    }

    /// Takes everything listed; each file is listed again by its next change.
    pub(crate) fn take(&self) -> Vec<Arc<Node>> {
        let listed = std::mem::take(&mut *self.list());
        listed.iter().filter_map(Weak::upgrade).collect()
    }

    /// Puts one back that could not be sent.
    pub(crate) fn relist(&self, node: Arc<Node>) {
        self.list().push(Arc::downgrade(&node));
    }

    fn list(&self) -> std::sync::MutexGuard<'_, Vec<Weak<Node>>> {
        self.touched.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// The operation that gives the peer a file's times; nothing if they were told meanwhile or the
/// file is gone. The caller holds the file's order.
pub(crate) fn operation(nodes: &Nodes, node: &Node) -> Option<Op<'static>> {
    if !node.touched.swap(false, Ordering::AcqRel) || node.orphan() {
        return None;
    }
    let fd = nodes.fd(node).ok()?;
    let stat = sys::fstat(fd.as_raw_fd()).ok()?;
    let set = super::apply::times_of(&stat);
    Some(Op::SetAttr {
        id: node.id,
        set,
        cred: Default::default(),
    })
}
