//! A tree in memory with everything a resync can see: for the tests of the engine and for the
//! simulator. It is a source ([`super::SourceTree`]) and a target ([`super::target::TargetTree`]),
//! can be changed as an application does ([`Model::make`] and so on), says which marks that leaves
//! ([`marking`]), and can be compared with another one ([`Model::differences`]).

mod changes;
mod compare;
pub mod marking;
mod source;
mod target;

use super::messages::{Attrs, BLOCK, Kind};
use crate::ids::{Id128, Key, Uid};
use std::collections::{BTreeMap, HashMap};
use std::sync::{Mutex, MutexGuard, PoisonError};

/// `EEXIST`, `ENOENT` and others, as on Linux.
pub mod errno {
    pub const ENOENT: i32 = 2;
    pub const EEXIST: i32 = 17;
    pub const ENOTDIR: i32 = 20;
    pub const EISDIR: i32 = 21;
    pub const EINVAL: i32 = 22;
    pub const EPERM: i32 = 1;
    pub const ENOTEMPTY: i32 = 39;
    pub const ESTALE: i32 = 116;
}

/// One file.
#[derive(Clone, Debug)]
pub(super) struct Inode {
    pub(super) kind: Kind,
    /// Without the size.
    pub(super) attrs: Attrs,
    pub(super) uid: Option<Uid>,
    pub(super) links: u64,
    pub(super) size: u64,
    /// Blocks by number; a missing one is a hole.
    pub(super) blocks: BTreeMap<u64, Box<[u8]>>,
    pub(super) entries: BTreeMap<Box<[u8]>, Key>,
    /// Of a directory.
    pub(super) above: Option<(Key, Box<[u8]>)>,
}

#[derive(Debug)]
pub(super) struct Inner {
    pub(super) inodes: HashMap<Key, Inode>,
    pub(super) root: Key,
    /// Parked things; not in the root.
    pub(super) parking: Option<Key>,
    pub(super) next: u64,
    /// For identities of files that were found without one.
    pub(super) found: u64,
    /// What [`Model::begin`] has noted: baseline, boot, whether trees were compared.
    pub(super) unfinished: Option<(Id128, Id128, bool)>,
    pub(super) boot: Id128,
    /// Bytes written, to see that what was there was not sent again.
    pub(super) written: u64,
    /// Parked things that a sweep has taken away.
    pub(super) swept: u64,
    /// Remaining room for files, if limited.
    pub(super) room: Option<u64>,
}

/// See the module's page. All directories of a module are one here: only [`crate::ids::DirId`] 0 is
/// used.
#[derive(Debug)]
pub struct Model {
    inner: Mutex<Inner>,
    /// Distinguishes identities given by this node.
    origin: u64,
}

impl Model {
    /// An empty tree of node number `node`.
    pub fn new(node: u64) -> Self {
        let root = key(1);
        let mut inodes = HashMap::new();
        inodes.insert(root, Inode::new(Kind::Directory));
        let inner = Inner {
            inodes,
            root,
            parking: None,
            next: 2,
            found: 0,
            unfinished: None,
            boot: Id128([1; 16]),
            written: 0,
            swept: 0,
            room: None,
        };
        Self {
            inner: Mutex::new(inner),
            // Odd: what it finds existed before.
            origin: node << 8 | 1,
        }
    }

    pub(super) fn inner(&self) -> MutexGuard<'_, Inner> {
        self.inner.lock().unwrap_or_else(PoisonError::into_inner)
    }

    pub fn root_key(&self) -> Key {
        self.inner().root
    }

    /// Bytes of data written as a target so far.
    pub fn written(&self) -> u64 {
        self.inner().written
    }

    /// Things that were parked and never came back.
    pub fn swept(&self) -> u64 {
        self.inner().swept
    }

    /// Files and directories, without the root.
    pub fn len(&self) -> usize {
        let inner = self.inner();
        let mut todo = vec![inner.root];
        let mut count = 0;
        while let Some(key) = todo.pop() {
            let Some(inode) = inner.inodes.get(&key) else {
                continue;
            };
            count += inode.entries.len();
            if inode.kind == Kind::Directory {
                todo.extend(inode.entries.values());
            }
        }
        count
    }

    pub fn is_empty(&self) -> bool {
        self.len() == 0
    }

    /// The node lost power: it boots anew.
    pub fn reboot(&self) {
        let mut inner = self.inner();
        inner.boot.0[0] = inner.boot.0[0].wrapping_add(1);
    }

    /// As a target it has room for so many bytes more.
    pub fn set_room(&self, bytes: Option<u64>) {
        self.inner().room = bytes;
    }

    /// A copy of the tree, with its identities, for another node.
    pub fn copy(&self, node: u64) -> Self {
        let inner = self.inner();
        let copy = Inner {
            inodes: inner.inodes.clone(),
            parking: None,
            unfinished: None,
            written: 0,
            swept: 0,
            found: 0,
            ..*inner
        };
        Self {
            inner: Mutex::new(copy),
            origin: node << 8 | 1,
        }
    }
}

impl Inode {
    pub(super) fn new(kind: Kind) -> Self {
        Self {
            kind,
            attrs: Attrs {
                mode: 0o700,
                uid: 0,
                gid: 0,
                size: 0,
                atime: (0, 0),
                mtime: (0, 0),
                flags: 0,
                xattrs: Vec::new(),
            },
            uid: None,
            links: 1,
            size: 0,
            blocks: BTreeMap::new(),
            entries: BTreeMap::new(),
            above: None,
        }
    }

    /// With the size.
    pub(super) fn attrs(&self) -> Attrs {
        let mut attrs = self.attrs.clone();
        attrs.size = self.size;
        attrs
    }

    /// Writes into blocks; those that were holes are filled up with zeros.
    pub(super) fn write(&mut self, offset: u64, data: &[u8]) {
        let mut done = 0;
        while done < data.len() {
            let at = offset + done as u64;
            let within = (at % BLOCK) as usize;
            let len = (BLOCK as usize - within).min(data.len() - done);
            let empty = || vec![0; BLOCK as usize].into_boxed_slice();
            let block = self.blocks.entry(at / BLOCK).or_insert_with(empty);
            block[within..within + len].copy_from_slice(&data[done..done + len]);
            done += len;
        }
        self.size = self.size.max(offset + data.len() as u64);
    }

    /// Makes whole blocks holes, and zeros of parts.
    pub(super) fn zero(&mut self, offset: u64, len: u64) {
        let end = offset + len;
        let mut at = offset;
        while at < end {
            let next = (at / BLOCK + 1) * BLOCK;
            let stop = next.min(end);
            if at.is_multiple_of(BLOCK) && (stop == next || stop >= self.size) {
                self.blocks.remove(&(at / BLOCK));
            } else if let Some(block) = self.blocks.get_mut(&(at / BLOCK)) {
                block[(at % BLOCK) as usize..][..(stop - at) as usize].fill(0);
            }
            at = stop;
        }
        self.size = self.size.max(end);
    }

    pub(super) fn truncate(&mut self, size: u64) {
        self.blocks.retain(|n, _| n * BLOCK < size);
        if !size.is_multiple_of(BLOCK)
            && let Some(block) = self.blocks.get_mut(&(size / BLOCK))
        {
            block[(size % BLOCK) as usize..].fill(0);
        }
        self.size = size;
    }
}

impl Inner {
    pub(super) fn get(&self, key: Key) -> Result<&Inode, i32> {
        self.inodes.get(&key).ok_or(errno::ESTALE)
    }

    pub(super) fn get_mut(&mut self, key: Key) -> Result<&mut Inode, i32> {
        self.inodes.get_mut(&key).ok_or(errno::ESTALE)
    }

    pub(super) fn dir(&mut self, key: Key) -> Result<&mut Inode, i32> {
        let inode = self.get_mut(key)?;
        if inode.kind == Kind::Directory {
            Ok(inode)
        } else {
            Err(errno::ENOTDIR)
        }
    }

    pub(super) fn child(&self, parent: Key, name: &[u8]) -> Result<Option<Key>, i32> {
        Ok(self.get(parent)?.entries.get(name).copied())
    }

    pub(super) fn add(&mut self, parent: Key, name: &[u8], inode: Inode) -> Result<Key, i32> {
        if self.dir(parent)?.entries.contains_key(name) {
            return Err(errno::EEXIST);
        }
        let new = key(self.next);
        self.next += 1;
        let mut inode = inode;
        if inode.kind == Kind::Directory {
            inode.above = Some((parent, name.into()));
        }
        self.inodes.insert(new, inode);
        self.dir(parent)?.entries.insert(name.into(), new);
        Ok(new)
    }

    /// Takes a name away; the file goes with its last one.
    pub(super) fn remove(&mut self, parent: Key, name: &[u8]) -> Result<(), i32> {
        let key = self.dir(parent)?.entries.remove(name);
        let key = key.ok_or(errno::ENOENT)?;
        let inode = self.get_mut(key)?;
        inode.links -= 1;
        if inode.links == 0 || inode.kind == Kind::Directory {
            self.inodes.remove(&key);
        }
        Ok(())
    }

    /// Moves an entry to a name that is free.
    pub(super) fn shift(&mut self, from: (Key, &[u8]), to: (Key, &[u8])) -> Result<(), i32> {
        let key = self.child(from.0, from.1)?.ok_or(errno::ENOENT)?;
        if self.child(to.0, to.1)?.is_some() {
            return Err(errno::EEXIST);
        }
        if self.is_below(to.0, key) {
            return Err(errno::EINVAL);
        }
        self.dir(from.0)?.entries.remove(from.1);
        self.dir(to.0)?.entries.insert(to.1.into(), key);
        let inode = self.get_mut(key)?;
        if inode.kind == Kind::Directory {
            inode.above = Some((to.0, to.1.into()));
        }
        Ok(())
    }

    /// Whether a directory is another one, or lies below it.
    pub(super) fn is_below(&self, mut key: Key, top: Key) -> bool {
        loop {
            if key == top {
                return true;
            }
            match self.inodes.get(&key).and_then(|i| i.above.as_ref()) {
                Some((above, _)) => key = *above,
                None => return false,
            }
        }
    }
}

pub(super) fn key(number: u64) -> Key {
    Key::new(&number.to_le_bytes()).unwrap_or_else(|| unreachable!("eight bytes fit a key"))
}
