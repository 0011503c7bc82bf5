//! Directories at the end of a pass: their attributes, and that they are whole now. A directory
//! made by this resync counts as whole when all below it does, so that after an interruption
//! nothing half done is taken for whole.

use super::super::messages::{At, Attrs, Request, Settle};
use super::super::{Failure, Feed, Pipe};
use super::{Dir, Engine, REQUEST, Then, is_gone};
use crate::ids::{DirId, Uid};

/// Directories that wait to be settled together: the target finishes everything before.
pub(super) const MOST: usize = 256;

/// A directory being placed.
struct Node {
    dir: Dir,
    parent: Option<usize>,
    /// Parts that are not done: its own listing, requests, files, directories in it.
    open: u32,
    /// Something below it is left to the next pass.
    spoiled: bool,
    /// The target need not remember it afterwards.
    forget: bool,
}

#[derive(Default)]
pub(super) struct Nodes {
    slots: Vec<Option<Node>>,
    idle: Vec<usize>,
}

impl Nodes {
    /// A directory with one part to be done: its listing.
    pub(super) fn open(&mut self, dir: Dir, parent: Option<usize>, forget: bool) -> usize {
        if let Some(parent) = parent {
            self.hold(parent);
        }
        let node = Node {
            dir,
            parent,
            open: 1,
            spoiled: false,
            forget,
        };
        if let Some(slot) = self.idle.pop() {
            self.slots[slot] = Some(node);
            return slot;
        }
        self.slots.push(Some(node));
        self.slots.len() - 1
    }

    /// One more part.
    pub(super) fn hold(&mut self, node: usize) {
        if let Some(Some(node)) = self.slots.get_mut(node) {
            node.open += 1;
        }
    }

    pub(super) fn spoil(&mut self, node: usize) {
        if let Some(Some(node)) = self.slots.get_mut(node) {
            node.spoiled = true;
        }
    }

    pub(super) fn dir(&self, node: usize) -> Option<Dir> {
        self.slots.get(node)?.as_ref().map(|node| node.dir)
    }

    /// One part is done; the node if it was the last.
    fn release(&mut self, node: usize) -> Option<Node> {
        let slot = self.slots.get_mut(node)?;
        let open = slot.as_mut()?;
        open.open = open.open.saturating_sub(1);
        if open.open > 0 {
            return None;
        }
        self.idle.push(node);
        slot.take()
    }
}

/// A directory that waits to be settled.
pub(super) struct Settling {
    dir: Dir,
    attrs: Attrs,
    forget: bool,
}

impl<P: Pipe, F: Feed> Engine<'_, P, F> {
    /// One part of a directory is done; if it was the last, the directory is settled, and with it
    /// perhaps the one above.
    pub(super) fn release(&mut self, node: usize) -> Result<(), Failure> {
        let mut at = Some(node);
        while let Some(node) = at.and_then(|at| self.nodes.release(at)) {
            if node.spoiled {
                self.refused.push(node.dir);
                if let Some(parent) = node.parent {
                    self.nodes.spoil(parent);
                }
            } else {
                self.settle(node.dir, node.forget)?;
            }
            at = node.parent;
        }
        Ok(())
    }

    /// Has a directory settled.
    pub(super) fn settle(&mut self, dir: Dir, forget: bool) -> Result<(), Failure> {
        match self.tree.attrs(dir.dir, dir.key) {
            Ok(attrs) => {
                self.settles.push(Settling { dir, attrs, forget });
                Ok(())
            }
            Err(errno) if is_gone(errno) => Ok(()),
            Err(errno) => Err(Failure::Source {
                errno,
                what: "a directory's attributes".into(),
            }),
        }
    }

    pub(super) async fn post_settles(&mut self) -> Result<(), Failure> {
        let mut settles = std::mem::take(&mut self.settles).into_iter().peekable();
        while let Some(first) = settles.peek() {
            let dir = first.dir.dir;
            let mut bytes = 0;
            let (mut dirs, mut told, mut forgets) = (Vec::new(), Vec::new(), Vec::new());
            while bytes < REQUEST
                && let Some(settling) = settles.next_if(|s| s.dir.dir == dir)
            {
                let Settling { dir, attrs, forget } = settling;
                if forget {
                    forgets.push(dir.uid);
                }
                let at = At {
                    uid: dir.uid,
                    places: Vec::new(),
                };
                let (attrs, others) = self.split(dir.dir, &at, attrs).await?;
                let xattrs = attrs.xattrs.iter();
                bytes += 128 + xattrs.map(|(n, v)| n.len() + v.len()).sum::<usize>();
                told.push(dir);
                dirs.push(Settle {
                    uid: dir.uid,
                    attrs,
                    others,
                });
            }
            self.outcome.directories += dirs.len() as u64;
            self.post(Request::Settle { dir, dirs }, Then::Settled(told))
                .await?;
            for uid in forgets {
                self.forget(dir, uid).await?;
            }
        }
        Ok(())
    }

    pub(super) fn settled(&mut self, dirs: &[Dir], refused: &[Uid]) {
        let dirs = dirs.iter().filter(|dir| refused.contains(&dir.uid));
        self.refused.extend(dirs);
    }

    /// Settles what an earlier pass could not, if this one has left nothing over.
    pub(super) async fn settle_refused(&mut self) -> Result<(), Failure> {
        if self.refused.is_empty() || !self.again.is_empty() {
            return Ok(());
        }
        // The target refuses while something failed in the pass.
        self.begin_at_target(false).await?;
        for dir in std::mem::take(&mut self.refused) {
            self.settle(dir, false)?;
        }
        self.work().await
    }

    /// A whole tree of a directory is compared because what was not marked differed.
    pub(super) fn anomaly(&mut self, dir: DirId) {
        let root = (dir, self.tree.root(dir), Uid::ROOT);
        let plan = if self.last {
            &mut self.plan
        } else {
            &mut self.again
        };
        if !plan.walks.contains(&root) {
            self.outcome.anomalies += 1;
            plan.walks.push(root);
        }
    }
}
