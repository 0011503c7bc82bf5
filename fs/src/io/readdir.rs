//! Listing directories. The kernel is told that directories need no opening, which saves two
//! requests per listing that it answers from its own cache; so a request names nothing but
//! directory and offset, and the descriptors are ours to keep. Entries come with attributes.

use super::lasting;
use super::nodes::{Node, Nodes};
use super::sys;
use std::collections::HashMap;
use std::ffi::CString;
use std::io;
use std::os::fd::{AsRawFd, OwnedFd};
use std::sync::{Arc, Mutex, PoisonError};
use tandem_repl::ids::FileId;

const BUFFER: usize = 32 * 1024;
/// Directories whose descriptors are kept between requests.
const KEPT: usize = 128;

/// A directory being listed. Several readers share it: who comes with another offset seeks.
pub(crate) struct DirStream {
    fd: OwnedFd,
    inner: Mutex<Position>,
}

#[derive(Default)]
struct Position {
    /// Entries read and not given out, and where the next one in them starts.
    buf: Vec<u8>,
    at: usize,
    /// Offset at which the next entry in `buf` is.
    next: i64,
}

/// An entry as the kernel wants it.
pub(crate) struct Entry {
    pub(crate) name: CString,
    /// Offset of the entry after it.
    pub(crate) next: i64,
    /// Absent for `.` and `..`; counted as a reference of the kernel.
    pub(crate) node: Option<(Arc<Node>, libc::stat)>,
    pub(crate) kind: u8,
}

#[derive(Default)]
pub(crate) struct Streams {
    kept: Mutex<HashMap<FileId, Arc<DirStream>>>,
}

impl Streams {
    pub(crate) fn get(&self, nodes: &Nodes, id: FileId) -> io::Result<Arc<DirStream>> {
        if let Some(stream) = self.table().get(&id) {
            return Ok(stream.clone());
        }
        let node = nodes.expect(id)?;
        let flags = libc::O_RDONLY | libc::O_DIRECTORY;
        let fd = sys::open_handle(nodes.mount_fd(), &node.handle, flags)?;
        let stream = Arc::new(DirStream {
            fd,
            inner: Mutex::default(),
        });
        let mut table = self.table();
        if table.len() >= KEPT {
            table.clear();
        }
        table.insert(id, stream.clone());
        Ok(stream)
    }

    /// The kernel knows the directory no more.
    pub(crate) fn drop_one(&self, id: FileId) {
        self.table().remove(&id);
    }

    fn table(&self) -> std::sync::MutexGuard<'_, HashMap<FileId, Arc<DirStream>>> {
        self.kept.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl DirStream {
    /// Gives entries from `offset` on to `take`, until it returns false for one it has no room for.
    /// With `nodes` they come with attributes and count as references.
    pub(crate) fn read(
        &self,
        dir: FileId,
        nodes: Option<&Nodes>,
        offset: i64,
        mut take: impl FnMut(&Entry) -> bool,
    ) -> io::Result<()> {
        let mut inner = self.inner.lock().unwrap_or_else(PoisonError::into_inner);
        // Who begins anew wants to see what is there now.
        if offset == 0 || inner.next != offset || inner.buf.is_empty() {
            sys::lseek(self.fd.as_raw_fd(), offset, libc::SEEK_SET)?;
            inner.buf.clear();
            inner.at = 0;
            inner.next = offset;
        }
        loop {
            if inner.at >= inner.buf.len() {
                inner.buf.resize(BUFFER, 0);
                let n = sys::getdents(self.fd.as_raw_fd(), &mut inner.buf)?;
                inner.buf.truncate(n);
                inner.at = 0;
                if n == 0 {
                    return Ok(());
                }
            }
            let Some(raw) = sys::dirents(&inner.buf[inner.at..]).next() else {
                return Err(io::Error::from_raw_os_error(libc::EIO));
            };
            let (len, next, kind) = (raw.len, raw.next, raw.kind);
            let name = raw.name.to_owned();
            let Some(entry) = self.entry(dir, nodes, name, next, kind)? else {
                inner.at += len;
                inner.next = next;
                continue;
            };
            if !take(&entry) {
                if let (Some(nodes), Some((node, _))) = (nodes, &entry.node) {
                    nodes.forget(node.id, 1);
                }
                return Ok(());
            }
            inner.at += len;
            inner.next = next;
        }
    }

    /// The entry, or nothing if it vanished since it was read, or is not to be seen.
    fn entry(
        &self,
        dir: FileId,
        nodes: Option<&Nodes>,
        name: CString,
        next: i64,
        kind: u8,
    ) -> io::Result<Option<Entry>> {
        if lasting::is_private(dir, name.to_bytes()) {
            return Ok(None);
        }
        let dots = matches!(name.to_bytes(), b"." | b"..");
        let Some(nodes) = nodes.filter(|_| !dots) else {
            return Ok(Some(Entry {
                name,
                next,
                node: None,
                kind,
            }));
        };
        match look_up(nodes, dir, self.fd.as_raw_fd(), name.as_c_str()) {
            Ok(found) => Ok(Some(Entry {
                name,
                next,
                node: Some(found),
                kind,
            })),
            Err(e) if e.raw_os_error() == Some(libc::ENOENT) => Ok(None),
            Err(e) => Err(e),
        }
    }
}

/// Finds an entry of a directory and counts a reference of the kernel to it.
pub(crate) fn look_up(
    nodes: &Nodes,
    dir: FileId,
    dir_fd: i32,
    name: &std::ffi::CStr,
) -> io::Result<(Arc<Node>, libc::stat)> {
    let handle = sys::handle_at(dir_fd, name)?;
    let stat = sys::fstatat(dir_fd, name)?;
    let entry = Some((dir, name.to_bytes()));
    let node = nodes.look_up(handle, stat.st_mode & libc::S_IFMT, entry);
    Ok((node, stat))
}

/// Names of all entries of a directory opened for this.
pub(crate) fn names(dir: &OwnedFd) -> io::Result<Vec<Box<[u8]>>> {
    let mut names = Vec::new();
    let mut buf = vec![0; BUFFER];
    loop {
        let n = sys::getdents(dir.as_raw_fd(), &mut buf)?;
        if n == 0 {
            return Ok(names);
        }
        let found = sys::dirents(&buf[..n]).map(|entry| entry.name.to_bytes());
        let found = found.filter(|name| !matches!(*name, b"." | b".."));
        names.extend(found.map(Box::from));
    }
}
