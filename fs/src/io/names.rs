//! Names of files as operations change them, and the frames that introduce files to the peer.

use super::apply::Applied;
use super::lasting;
use super::nodes::{Node, Nodes};
use super::service::Volume;
use super::sys::{self, Handle, cstring};
use crate::config::Ack;
use std::os::fd::{AsRawFd, OwnedFd};
use std::sync::Arc;
use tandem_repl::ids::FileId;
use tandem_repl::io::driver::Shipment;
use tandem_repl::op::{Durability, Kind, Op};

/// Longest chain of directories that is introduced at once. Deeper than `PATH_MAX` allows.
const MAX_DEPTH: usize = 4096;

/// Known nodes behind the entries an operation names, before it is done.
#[derive(Default)]
pub(crate) struct Entries {
    /// Behind the (old) name, with its number of links.
    first: Option<(Arc<Node>, u64)>,
    /// Behind the new name of a rename.
    second: Option<(Arc<Node>, u64)>,
}

impl Entries {
    pub(crate) fn nodes(&self) -> impl Iterator<Item = &Arc<Node>> {
        let entries = [&self.first, &self.second];
        entries.into_iter().flatten().map(|(node, _)| node)
    }
}

/// The file whose content or attributes an operation changes; such operations on one file keep
/// their order. Entries are ordered by the kernel, which locks their directory until the answer.
pub(crate) fn content_target(op: &Op<'_>) -> Option<FileId> {
    match *op {
        Op::Write { id, .. }
        | Op::Fallocate { id, .. }
        | Op::SetAttr { id, .. }
        | Op::SetXattr { id, .. }
        | Op::RemoveXattr { id, .. }
        | Op::SetFlags { id, .. }
        | Op::Fsync { id, .. }
        | Op::Check { id, .. }
        | Op::Fetch { id, .. } => Some(id),
        _ => None,
    }
}

/// Whether an operation names what the mount hides.
pub(crate) fn is_private(op: &Op<'_>) -> bool {
    match *op {
        Op::Make { parent, name, .. }
        | Op::Link { parent, name, .. }
        | Op::Unlink { parent, name }
        | Op::Rmdir { parent, name } => lasting::is_private(parent, name),
        Op::Rename {
            parent,
            name,
            new_parent,
            new_name,
            ..
        } => lasting::is_private(parent, name) || lasting::is_private(new_parent, new_name),
        Op::SetXattr { name, .. } | Op::RemoveXattr { name, .. } => lasting::is_hidden(name),
        _ => false,
    }
}

/// The file, or the directories, whose changes an operation must keep in order with others. The
/// kernel orders changes of a directory among themselves; a verification is the other one.
pub(crate) fn ordered(nodes: &Nodes, op: &Op<'_>) -> [Option<Arc<Node>>; 2] {
    let (first, second) = match *op {
        Op::Make { parent, .. }
        | Op::Link { parent, .. }
        | Op::Unlink { parent, .. }
        | Op::Rmdir { parent, .. } => (Some(parent), None),
        Op::Rename {
            parent, new_parent, ..
        } if parent != new_parent => {
            // One order for all, so that two renames do not wait for each other.
            (Some(parent.min(new_parent)), Some(parent.max(new_parent)))
        }
        Op::Rename { parent, .. } => (Some(parent), None),
        _ => (content_target(op), None),
    };
    [first, second].map(|id| id.and_then(|id| nodes.get(id)))
}

/// Bytes an operation carries beside its fixed fields.
pub(crate) fn payload(op: &Op<'_>) -> usize {
    match op {
        Op::Write { data, .. } => data.len(),
        Op::SetXattr { value, .. } => value.len(),
        _ => 0,
    }
}

/// Looks at what an operation will take a name from.
pub(crate) fn before(nodes: &Nodes, op: &Op<'_>) -> Entries {
    match *op {
        Op::Unlink { parent, name } | Op::Rmdir { parent, name } => Entries {
            first: entry(nodes, parent, name),
            second: None,
        },
        Op::Rename {
            parent,
            name,
            new_parent,
            new_name,
            ..
        } => Entries {
            first: entry(nodes, parent, name),
            second: entry(nodes, new_parent, new_name),
        },
        _ => Entries::default(),
    }
}

fn entry(nodes: &Nodes, parent: FileId, name: &[u8]) -> Option<(Arc<Node>, u64)> {
    let dir = nodes.fd(&*nodes.get(parent)?).ok()?;
    let name = cstring(name).ok()?;
    let node = nodes.find(&sys::handle_at(dir.as_raw_fd(), &name).ok()?)?;
    let links = sys::fstatat(dir.as_raw_fd(), &name).ok()?.st_nlink;
    if !node.is_file() {
        // Opening a fifo or entering a directory is not told here, so its holders are not known:
        // it stays reachable until the kernel forgets it.
        nodes.pin(&node);
    }
    Some((node, links))
}

/// Whether a rename leaves a device behind where the file was.
pub(crate) fn leaves_whiteout(op: &Op<'_>) -> bool {
    matches!(op, Op::Rename { flags, .. } if flags & libc::RENAME_WHITEOUT != 0)
}

/// Keeps the names true after an operation.
pub(crate) fn after(nodes: &Nodes, op: &Op<'_>, entries: &Entries) {
    match *op {
        Op::Link { id, parent, name } => {
            if let Some(node) = nodes.get(id) {
                add(&node, parent, name);
            }
        }
        Op::Unlink { parent, name } | Op::Rmdir { parent, name } => {
            if let Some((node, links)) = &entries.first {
                take(node, parent, name, *links);
            }
        }
        Op::Rename {
            parent,
            name,
            new_parent,
            new_name,
            flags,
            ..
        } => {
            let exchange = flags & libc::RENAME_EXCHANGE != 0;
            let same = matches!((&entries.first, &entries.second),
                (Some((a, _)), Some((b, _))) if Arc::ptr_eq(a, b));
            if same {
                // Two names of one file: renaming one to the other does nothing.
                return;
            }
            if let Some((node, links)) = &entries.second {
                if exchange {
                    drop_name(node, new_parent, new_name);
                    add(node, parent, name);
                } else {
                    take(node, new_parent, new_name, *links);
                }
            }
            if let Some((node, _)) = &entries.first {
                drop_name(node, parent, name);
                add(node, new_parent, new_name);
            }
        }
        _ => {}
    }
}

fn add(node: &Node, parent: FileId, name: &[u8]) {
    let mut state = node.state();
    if !state
        .names
        .iter()
        .any(|(p, n)| *p == parent && **n == *name)
    {
        state.names.push((parent, name.into()));
    }
}

fn drop_name(node: &Node, parent: FileId, name: &[u8]) {
    node.state()
        .names
        .retain(|(p, n)| !(*p == parent && **n == *name));
}

/// A name is gone; with the last one the file belongs to its holders alone.
fn take(node: &Node, parent: FileId, name: &[u8], links: u64) {
    drop_name(node, parent, name);
    if links <= 1 || node.is_dir() {
        node.state().orphan = true;
    }
}

/// The operation as the peer gets it: with the new file's id, what was really written, and the
/// durability the module asks for.
pub(crate) fn as_shipped<'a>(op: &Op<'a>, applied: &Applied, ack: Ack) -> Op<'a> {
    let mut op = *op;
    match &mut op {
        Op::Make { id, kind, .. } => {
            if let Some(node) = &applied.node {
                *id = node.id;
            }
            debug_assert!(!matches!(kind, Kind::Node { format: 0, .. }));
        }
        Op::Write {
            data, durability, ..
        } => {
            *data = &data[..applied.written.min(data.len())];
            if ack == Ack::Durable && *durability == Durability::Memory {
                *durability = Durability::Data;
            }
        }
        _ => {}
    }
    op
}

/// Introduces every file an operation names, unless the peer knows it from this session already.
/// False if one cannot be introduced.
pub(crate) fn bind_for(
    shipment: &mut Shipment<'_>,
    volume: &Volume,
    op: &Op<'_>,
    entries: &Entries,
) -> bool {
    match *op {
        Op::Make { parent, .. } | Op::Rmdir { parent, .. } => bind(shipment, volume, parent),
        Op::Unlink { parent, .. } => {
            bind_survivor(shipment, volume, entries.first.as_ref());
            bind(shipment, volume, parent)
        }
        Op::Link { id, parent, .. } => bind(shipment, volume, id) && bind(shipment, volume, parent),
        Op::Rename {
            parent, new_parent, ..
        } => {
            bind_survivor(shipment, volume, entries.second.as_ref());
            bind(shipment, volume, parent) && bind(shipment, volume, new_parent)
        }
        _ => content_target(op).is_none_or(|id| bind(shipment, volume, id)),
    }
}

/// A file that loses a name but not its last one is introduced while the name still leads to it:
/// its other names may not be known here.
fn bind_survivor(shipment: &mut Shipment<'_>, volume: &Volume, entry: Option<&(Arc<Node>, u64)>) {
    if let Some((node, links)) = entry
        && *links > 1
    {
        bind(shipment, volume, node.id);
    }
}

fn bind(shipment: &mut Shipment<'_>, volume: &Volume, id: FileId) -> bool {
    let session = shipment.session();
    let nodes = &volume.nodes;
    // From the file upwards to a directory the peer knows, then down again.
    let mut chain = Vec::new();
    let mut at = id;
    while at != FileId::ROOT {
        let Some(node) = nodes.get(at).filter(|_| chain.len() < MAX_DEPTH) else {
            return false;
        };
        let state = node.state();
        if state.bound == session {
            break;
        }
        let names = state.names.clone();
        drop(state);
        let known = names.into_iter().find(|(p, _)| nodes.get(*p).is_some());
        let Some((parent, name)) = known else {
            if !bind_by_path(shipment, volume, &node) {
                return false;
            }
            break;
        };
        chain.push((node, parent, name));
        at = parent;
    }
    for (node, parent, name) in chain.into_iter().rev() {
        shipment.bind(volume.id, node.id, parent, &name);
        node.state().bound = session;
    }
    true
}

/// Introduces a file whose names are not known here (it was opened before this node served, or its
/// known name is gone) by the path under which the kernel has it.
fn bind_by_path(shipment: &mut Shipment<'_>, volume: &Volume, node: &Node) -> bool {
    let nodes = &volume.nodes;
    let Some(way) = way(volume, node) else {
        return false;
    };
    let mut parent = FileId::ROOT;
    for (handle, name) in way {
        let id = nodes.id_of(&handle);
        shipment.bind(volume.id, id, parent, &name);
        if let Some(node) = nodes.get(id) {
            node.state().bound = shipment.session();
        }
        parent = id;
    }
    true
}

/// The way from the root to a file as the kernel has it, handles and names; the file is the last.
/// Nothing if it does not lead back to the very file.
pub(crate) fn way(volume: &Volume, node: &Node) -> Option<Vec<(Handle, Box<[u8]>)>> {
    let fd = volume.nodes.fd(node).ok()?;
    let path = sys::path_of_fd(fd.as_raw_fd()).ok()?;
    let mut dir = None::<OwnedFd>;
    let mut way: Vec<(Handle, Box<[u8]>)> = Vec::new();
    for name in path.split(|b| *b == b'/').filter(|n| !n.is_empty()) {
        let dir_fd = dir
            .as_ref()
            .map_or(volume.backing.root_fd(), |d| d.as_raw_fd());
        let cname = cstring(name).ok()?;
        way.push((sys::handle_at(dir_fd, &cname).ok()?, name.into()));
        let flags = libc::O_PATH | libc::O_NOFOLLOW;
        dir = Some(sys::openat(dir_fd, &cname, flags, 0).ok()?);
    }
    way.last()
        .is_some_and(|(handle, _)| *handle == node.handle)
        .then_some(way)
}
