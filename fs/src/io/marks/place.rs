//! Where a marked file is, and who it is.

use super::super::lasting::Found;
use super::super::nodes::{Node, Nodes};
use super::super::service::Volume;
use super::super::sys::{self, Handle, cstring};
use super::super::{names, readdir};
use std::collections::HashMap;
use std::io;
use std::os::fd::{AsRawFd, OwnedFd};
use std::sync::Arc;
use tandem_repl::ids::{DirId, FileId, Key, Uid};
use tandem_repl::logic::dirty;

/// Directory and name.
pub(super) type Place = (Key, Box<[u8]>);

/// Entries of directories that are looked through, at most, for files that were renamed just
/// before a crash.
const LOOKED_AT: usize = 1 << 20;

pub(super) enum Whereabouts {
    At(Place),
    /// The root, which needs no name.
    Root,
    /// It has no name any more; nobody but its holders can see it.
    Gone,
    Unknown,
}

/// Where a file is now.
pub(super) fn whereabouts(volume: &Volume, node: &Node) -> Whereabouts {
    if node.id == FileId::ROOT {
        return Whereabouts::Root;
    }
    if let Some(place) = known_place(&volume.nodes, node) {
        return Whereabouts::At(place);
    }
    if node.orphan() {
        return Whereabouts::Gone;
    }
    let Ok(fd) = volume.nodes.fd(node) else {
        return Whereabouts::Unknown;
    };
    if let Ok((_, 0)) = sys::size_and_links(fd.as_raw_fd()) {
        return Whereabouts::Gone;
    }
    let way = names::way(volume, node).unwrap_or_default();
    let parent = match way.iter().rev().nth(1) {
        Some((handle, _)) => handle.key(),
        None => volume.nodes.root_key(),
    };
    match way.last() {
        Some((_, name)) => Whereabouts::At((parent, name.clone())),
        None => Whereabouts::Unknown,
    }
}

/// A place by the names known here.
pub(super) fn known_place(nodes: &Nodes, node: &Node) -> Option<Place> {
    let names = node.state().names.clone();
    let mut places = names.into_iter();
    places.find_map(|(parent, name)| Some((nodes.get(parent)?.handle.key(), name)))
}

fn open(volume: &Volume, key: &Key, flags: i32) -> io::Result<(OwnedFd, Handle)> {
    let stale = || io::Error::from_raw_os_error(libc::ESTALE);
    let handle = Handle::of_key(key).ok_or_else(stale)?;
    Ok((
        sys::open_handle(volume.nodes.mount_fd(), &handle, flags)?,
        handle,
    ))
}

/// Looks for files after a crash: a journal knows where they were when it was told of them.
pub(super) struct Finder<'a> {
    volumes: &'a [Arc<Volume>],
    marks: dirty::Marks,
    /// What the marked names lead to; made when it is needed.
    named: Option<HashMap<(DirId, Key), Place>>,
}

impl<'a> Finder<'a> {
    pub(super) fn new(volumes: &'a [Arc<Volume>], marks: dirty::Marks) -> Self {
        Self {
            volumes,
            marks,
            named: None,
        }
    }

    /// Where a file is now, which was at `place`. A file is renamed from and to marked names.
    pub(super) fn find(&mut self, dir: DirId, key: Key, place: &Place) -> Option<Place> {
        let volume = self.volumes.get(usize::from(dir.0))?;
        if leads_to(volume, place).ok() == Some(key) {
            return Some(place.clone());
        }
        if self.marks.everything {
            return None;
        }
        if self.named.is_none() {
            self.named = Some(self.look());
        }
        self.named.as_ref()?.get(&(dir, key)).cloned()
    }

    fn look(&self) -> HashMap<(DirId, Key), Place> {
        let mut found = HashMap::new();
        for mark in &self.marks.dirs {
            let Some(volume) = self.volumes.get(usize::from(mark.dir.0)) else {
                continue;
            };
            let mut names = mark.names.clone();
            if mark.all && found.len() < LOOKED_AT {
                let flags = libc::O_RDONLY | libc::O_DIRECTORY;
                let listed = open(volume, &mark.key, flags).and_then(|(fd, _)| readdir::names(&fd));
                names = listed.unwrap_or_default();
            }
            for name in names {
                let place = (mark.key, name);
                if let Ok(key) = leads_to(volume, &place) {
                    found.insert((mark.dir, key), place);
                }
            }
        }
        found
    }
}

fn leads_to(volume: &Volume, (parent, name): &Place) -> io::Result<Key> {
    let (dir, _) = open(volume, parent, libc::O_PATH | libc::O_DIRECTORY)?;
    Ok(sys::handle_at(dir.as_raw_fd(), &cstring(name)?)?.key())
}

/// Gives an identity to what is marked without one. What is gone is not marked any more: the name
/// that led to it is. If one cannot be given, everything is to be compared.
pub(super) fn identify(volumes: &[Arc<Volume>], found: &Found, marks: &mut dirty::Marks) {
    let mut everything = false;
    let mut stays = |dir: DirId, key: &Key, uid: &mut Uid| {
        if *uid != Uid::NONE {
            return true;
        }
        match identity(volumes, found, (dir, key)) {
            Ok(known) => *uid = known,
            Err(e) if e.raw_os_error() == Some(libc::ESTALE) => {}
            Err(e) => {
                tracing::error!("identity of a marked file: {e}; everything will be compared");
                everything = true;
            }
        }
        *uid != Uid::NONE
    };
    marks.files.retain_mut(|m| stays(m.dir, &m.key, &mut m.uid));
    marks.dirs.retain_mut(|m| stays(m.dir, &m.key, &mut m.uid));
    marks.everything |= everything;
}

fn identity(volumes: &[Arc<Volume>], found: &Found, (dir, key): (DirId, &Key)) -> io::Result<Uid> {
    let stale = || io::Error::from_raw_os_error(libc::ESTALE);
    let volume = volumes.get(usize::from(dir.0)).ok_or_else(stale)?;
    if *key == volume.nodes.root_key() {
        return Ok(Uid::ROOT);
    }
    let (fd, handle) = open(volume, key, libc::O_PATH)?;
    found.ensure(fd.as_raw_fd(), &handle)
}
