//! Files that are known by a number: the kernel's node ids on the serving side, the peer's on the
//! following side. A node is its file handle; descriptors are opened from it when needed, pinned
//! while the file is open, and otherwise kept in a small cache. So the table can be rebuilt from
//! (id, handle, names) by a successor process.

use super::lasting::{self, Cached};
use super::sys::{self, Handle};
use std::collections::HashMap;
use std::io;
use std::os::fd::{AsRawFd, OwnedFd, RawFd};
use std::sync::atomic::AtomicBool;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use tandem_repl::ids::{FileId, Key, Uid};

/// Locks the table is spread over.
const SHARDS: usize = 64;
/// Descriptors kept for files that are not open. Bounds what the daemon holds beyond what
/// applications hold open.
const CACHED: usize = 1024;
/// `FILEID_INO32_GEN`: 32 bit inode and generation, as ext4 makes them.
const INO32_GEN: i32 = 1;

pub(crate) struct Node {
    pub(crate) id: FileId,
    pub(crate) handle: Handle,
    /// `S_IFMT` bits.
    pub(crate) format: u32,
    /// Held from a change of this file's content or attributes until it is on the stream, so that
    /// both nodes do overlapping changes in the same order (I9).
    pub(crate) order: Mutex<()>,
    /// Its times have changed since the peer was told them; it is listed in
    /// [`super::times::Times`].
    pub(crate) touched: AtomicBool,
    /// Its lasting identity, where it is known.
    pub(crate) uid: Cached,
    state: Mutex<NodeState>,
}

#[derive(Default)]
pub(crate) struct NodeState {
    /// References the kernel holds.
    pub(crate) lookups: u64,
    /// Known entries that lead here: parent and name.
    pub(crate) names: Vec<(FileId, Box<[u8]>)>,
    pub(crate) opens: u32,
    /// Pinned while open.
    fd: Option<Arc<OwnedFd>>,
    /// Unlinked while open: nobody but its holders can see it, so it is not replicated.
    pub(crate) orphan: bool,
    /// Session in which the peer was told of it.
    pub(crate) bound: u64,
    /// Serving period in which its cached pages are known to be true.
    pub(crate) coherent: u64,
}

impl Node {
    fn new(id: FileId, handle: Handle, format: u32, state: NodeState) -> Arc<Self> {
        Arc::new(Self {
            id,
            handle,
            format,
            order: Mutex::default(),
            touched: AtomicBool::new(false),
            uid: Cached::default(),
            state: Mutex::new(state),
        })
    }

    pub(crate) fn state(&self) -> MutexGuard<'_, NodeState> {
        lock(&self.state)
    }

    pub(crate) fn is_dir(&self) -> bool {
        self.format == libc::S_IFDIR
    }

    pub(crate) fn is_file(&self) -> bool {
        self.format == libc::S_IFREG
    }

    pub(crate) fn orphan(&self) -> bool {
        self.state().orphan
    }

    pub(crate) fn lock_order(&self) -> MutexGuard<'_, ()> {
        lock(&self.order)
    }
}

type Slot = Mutex<Option<(FileId, Arc<OwnedFd>)>>;

pub(crate) struct Nodes {
    /// Any descriptor on the mount, for opening handles.
    mount: Arc<OwnedFd>,
    shards: Vec<Mutex<HashMap<FileId, Arc<Node>>>>,
    slots: Vec<Slot>,
    root: Handle,
}

impl Nodes {
    pub(crate) fn new(mount: Arc<OwnedFd>, root: Handle) -> Self {
        let nodes = Self {
            mount,
            shards: (0..SHARDS).map(|_| Mutex::default()).collect(),
            slots: (0..CACHED).map(|_| Mutex::default()).collect(),
            root,
        };
        let node = nodes.insert(FileId::ROOT, root, libc::S_IFDIR);
        node.state().lookups = 1;
        nodes
    }

    fn shard(&self, id: FileId) -> MutexGuard<'_, HashMap<FileId, Arc<Node>>> {
        lock(&self.shards[mix(id) % SHARDS])
    }

    pub(crate) fn get(&self, id: FileId) -> Option<Arc<Node>> {
        self.shard(id).get(&id).cloned()
    }

    /// The node, or `ESTALE`.
    pub(crate) fn expect(&self, id: FileId) -> io::Result<Arc<Node>> {
        self.get(id)
            .ok_or_else(|| io::Error::from_raw_os_error(libc::ESTALE))
    }

    /// Makes `id` name this handle, whatever it named before.
    pub(crate) fn insert(&self, id: FileId, handle: Handle, format: u32) -> Arc<Node> {
        let node = Node::new(id, handle, format, NodeState::default());
        self.shard(id).insert(id, node.clone());
        *self.slot(id) = None;
        node
    }

    /// The node of a handle seen by the kernel, counted as one more of its references.
    pub(crate) fn look_up(
        &self,
        handle: Handle,
        format: u32,
        entry: Option<(FileId, &[u8])>,
    ) -> Arc<Node> {
        let mut id = self.id_of(&handle);
        loop {
            let mut shard = self.shard(id);
            if let Some(node) = shard.get(&id) {
                if node.handle != handle {
                    // Two handles with one hash; practically never, but never wrong either.
                    id = FileId(id.0.wrapping_add(1));
                    continue;
                }
                let node = node.clone();
                let mut state = node.state();
                state.lookups += 1;
                add_name(&mut state, entry);
                drop(state);
                return node;
            }
            let mut state = NodeState {
                lookups: 1,
                ..NodeState::default()
            };
            add_name(&mut state, entry);
            let node = Node::new(id, handle, format, state);
            shard.insert(id, node.clone());
            return node;
        }
    }

    /// The node of a handle, if it is known.
    pub(crate) fn find(&self, handle: &Handle) -> Option<Arc<Node>> {
        self.get(self.id_of(handle)).filter(|n| n.handle == *handle)
    }

    /// The kernel gives references back; true if they were the last and the node is gone.
    pub(crate) fn forget(&self, id: FileId, count: u64) -> Option<Arc<Node>> {
        if id == FileId::ROOT {
            return None;
        }
        let mut shard = self.shard(id);
        let node = shard.get(&id)?;
        let mut state = node.state();
        state.lookups = state.lookups.saturating_sub(count);
        if state.lookups > 0 || state.opens > 0 {
            return None;
        }
        drop(state);
        let node = shard.remove(&id);
        drop(shard);
        self.drop_cached(id);
        node
    }

    pub(crate) fn remove(&self, id: FileId) {
        self.shard(id).remove(&id);
        self.drop_cached(id);
    }

    /// Forgets everything but the root.
    pub(crate) fn clear(&self) {
        for shard in &self.shards {
            lock(shard).retain(|id, _| *id == FileId::ROOT);
        }
        for slot in &self.slots {
            *lock(slot) = None;
        }
    }

    pub(crate) fn for_each(&self, mut visit: impl FnMut(&Arc<Node>)) {
        for shard in &self.shards {
            let nodes: Vec<_> = lock(shard).values().cloned().collect();
            nodes.iter().for_each(&mut visit);
        }
    }

    /// A descriptor for reading, writing and attributes; for what cannot be opened, an `O_PATH`
    /// one.
    pub(crate) fn fd(&self, node: &Node) -> io::Result<Arc<OwnedFd>> {
        if let Some(fd) = &node.state().fd {
            return Ok(fd.clone());
        }
        if let Some((id, fd)) = &*self.slot(node.id)
            && *id == node.id
        {
            return Ok(fd.clone());
        }
        let (fd, whole) = self.open(node)?;
        let fd = Arc::new(fd);
        if whole {
            *self.slot(node.id) = Some((node.id, fd.clone()));
        }
        Ok(fd)
    }

    /// The lasting identity of a file; [`Uid::NONE`] if it has none.
    pub(crate) fn uid(&self, node: &Node) -> io::Result<Uid> {
        if node.id == FileId::ROOT {
            return Ok(Uid::ROOT);
        }
        if let Some(known) = node.uid.get() {
            return Ok(known);
        }
        let fd = self.fd(node)?;
        let uid = lasting::read(fd.as_raw_fd(), &node.handle)?.unwrap_or(Uid::NONE);
        node.uid.set(uid);
        Ok(uid)
    }

    /// Keeps a descriptor until the node is forgotten.
    pub(crate) fn pin(&self, node: &Node) {
        if let Ok(fd) = self.fd(node) {
            node.state().fd.get_or_insert(fd);
        }
    }

    /// Inode flags have changed: what may be opened now is another thing.
    pub(crate) fn drop_descriptors(&self, node: &Node) {
        node.state().fd = None;
        self.drop_cached(node.id);
    }

    /// Puts a descriptor that is open already (of a file just made) where [`Self::fd`] finds it.
    pub(crate) fn keep(&self, node: &Node, fd: Arc<OwnedFd>) {
        *self.slot(node.id) = Some((node.id, fd));
    }

    /// Counts an open; the descriptor stays until the last close.
    pub(crate) fn opened(&self, node: &Node) -> io::Result<()> {
        let fd = self.fd(node)?;
        let mut state = node.state();
        state.opens += 1;
        state.fd.get_or_insert(fd);
        Ok(())
    }

    /// Counts a close. Returns the node if it is gone with it: the kernel's last reference may be
    /// given back before the last close arrives.
    pub(crate) fn closed(&self, id: FileId) -> Option<Arc<Node>> {
        let mut shard = self.shard(id);
        let node = shard.get(&id)?.clone();
        let mut state = node.state();
        state.opens = state.opens.saturating_sub(1);
        if state.opens > 0 {
            return None;
        }
        state.fd = None;
        let gone = state.lookups == 0 && id != FileId::ROOT;
        let orphan = state.orphan;
        drop(state);
        if gone {
            shard.remove(&id);
        }
        drop(shard);
        if gone || orphan {
            self.drop_cached(id);
        }
        gone.then_some(node)
    }

    /// A descriptor, and whether it can do all that the file's kind allows.
    fn open(&self, node: &Node) -> io::Result<(OwnedFd, bool)> {
        let mount = self.mount.as_raw_fd();
        let open = |flags| sys::open_handle(mount, &node.handle, flags);
        let refused = |e: &io::Error| {
            matches!(
                e.raw_os_error(),
                Some(libc::EPERM | libc::EROFS | libc::ETXTBSY)
            )
        };
        match node.format {
            libc::S_IFREG => {
                let base = libc::O_NONBLOCK;
                match open(libc::O_RDWR | base) {
                    Err(e) if refused(&e) => {}
                    result => return result.map(|fd| (fd, true)),
                }
                // Append-only files may be opened so; the write's place is then the end anyway.
                match open(libc::O_RDWR | libc::O_APPEND | base) {
                    Err(e) if refused(&e) => {}
                    result => return result.map(|fd| (fd, false)),
                }
                // Immutable files, and programs that run from the underlying directory.
                open(libc::O_RDONLY | base).map(|fd| (fd, false))
            }
            libc::S_IFDIR => open(libc::O_RDONLY | libc::O_DIRECTORY).map(|fd| (fd, true)),
            _ => open(libc::O_PATH | libc::O_NOFOLLOW).map(|fd| (fd, true)),
        }
    }

    /// Node ids are derived from handles, so that a successor finds the same ones. ext4's handle is
    /// inode and generation, which together fit; of longer ones a hash is taken.
    pub(crate) fn id_of(&self, handle: &Handle) -> FileId {
        if *handle == self.root {
            return FileId::ROOT;
        }
        let bytes = handle.bytes();
        if handle.kind == INO32_GEN
            && let Ok(bytes) = <[u8; 8]>::try_from(bytes)
        {
            return FileId(u64::from_ne_bytes(bytes));
        }
        // FNV-1a: spread well enough for a table that checks the handle.
        let hash = bytes.iter().fold(0xcbf2_9ce4_8422_2325_u64, |h, b| {
            (h ^ u64::from(*b)).wrapping_mul(0x0100_0000_01b3)
        });
        FileId(hash | 1 << 63)
    }

    fn slot(&self, id: FileId) -> MutexGuard<'_, Option<(FileId, Arc<OwnedFd>)>> {
        lock(&self.slots[mix(id) / SHARDS % CACHED])
    }

    fn drop_cached(&self, id: FileId) {
        let mut slot = self.slot(id);
        if slot.as_ref().is_some_and(|(owner, _)| *owner == id) {
            *slot = None;
        }
    }

    /// The root as the dirty map names it.
    pub(crate) fn root_key(&self) -> Key {
        self.root.key()
    }

    pub(crate) fn mount_fd(&self) -> RawFd {
        self.mount.as_raw_fd()
    }
}

fn add_name(state: &mut NodeState, entry: Option<(FileId, &[u8])>) {
    if let Some((parent, name)) = entry
        && !state
            .names
            .iter()
            .any(|(p, n)| *p == parent && **n == *name)
    {
        state.names.push((parent, name.into()));
    }
}

/// Spreads ids over shards and slots.
fn mix(id: FileId) -> usize {
    (id.0.wrapping_mul(0x9e37_79b9_7f4a_7c15) >> 32) as usize
}

fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    // A panic elsewhere leaves these tables whole: every change is one step.
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}
