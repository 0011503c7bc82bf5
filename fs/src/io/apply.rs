//! One operation done to the underlying tree: the same code on the serving node and on its peer.
//!
//! The nodes differ in one thing only: on the serving node a new file's id comes from its handle,
//! on the peer it comes with the operation.

mod attributes;

use attributes::{Capability, chmod, fallocate, set_attr, with_rights};
pub(crate) use attributes::{times_of, timespecs};

use super::identity::{assume, assume_root};
use super::lasting;
use super::nodes::{Node, Nodes};
use super::sys::{self, Handle, cstring};
use std::ffi::CStr;
use std::io;
use std::os::fd::{AsRawFd, OwnedFd, RawFd};
use std::sync::Arc;
use tandem_repl::ids::{FileId, Uid};
use tandem_repl::op::{AttrSet, Cred, Kind, Op, Privileges};

/// Whose ids a table holds.
#[derive(Clone, Copy, PartialEq, Eq)]
pub(crate) enum Ids {
    /// This node serves: derived from handles, counted as the kernel's references.
    Own,
    /// The serving peer's.
    Peers,
}

/// What came of an operation.
#[derive(Default)]
pub(crate) struct Applied {
    /// Attributes afterwards, of the file made, linked or set.
    pub(crate) stat: Option<libc::stat>,
    /// The file made.
    pub(crate) node: Option<Arc<Node>>,
    /// Bytes written.
    pub(crate) written: usize,
}

pub(crate) struct Applier<'a> {
    pub(crate) nodes: &'a Nodes,
    pub(crate) ids: Ids,
}

impl Applier<'_> {
    /// Does `op`. Syncs and durability are the caller's; this only changes the tree.
    ///
    /// # Errors
    /// What the local file system says.
    pub(crate) fn apply(&self, op: &Op<'_>) -> io::Result<Applied> {
        match *op {
            Op::Bind { id, parent, name } => self.bind(id, parent, name),
            Op::Unbind { id } => {
                self.nodes.remove(id);
                Ok(Applied::default())
            }
            Op::Make {
                id,
                uid,
                parent,
                name,
                kind,
                mode,
                umask,
                cred,
            } => {
                // The kernel has settled the mode already, set-group-id bit included.
                assume(
                    Cred {
                        privileges: Privileges::AsRoot,
                        ..cred
                    },
                    umask,
                );
                self.make((id, uid), (parent, name), kind, mode)
            }
            Op::Link { id, parent, name } => self.link(id, parent, name),
            Op::Unlink { parent, name } => self.unlink(parent, name, 0),
            Op::Rmdir { parent, name } => self.unlink(parent, name, libc::AT_REMOVEDIR),
            Op::Rename {
                parent,
                name,
                new_parent,
                new_name,
                flags,
                cred,
            } => {
                if flags & libc::RENAME_WHITEOUT != 0 {
                    assume(cred, 0);
                } else {
                    assume_root();
                }
                self.rename((parent, name), (new_parent, new_name), flags)
            }
            Op::Write {
                id,
                offset,
                data,
                cred,
                ..
            } => self.write(id, offset, data, cred),
            Op::Fallocate {
                id,
                mode,
                offset,
                len,
                cred,
            } => self.on_node(id, |fd, _| {
                with_rights(fd, cred, || fallocate(fd, mode, offset, len))
            }),
            Op::SetAttr { id, set, cred } => self.set_attributes(id, &set, cred),
            Op::SetXattr { .. } => self.set_xattr(op),
            Op::RemoveXattr { id, name } => {
                assume_root();
                let name = cstring(name)?;
                self.on_node(id, |fd, _| sys::removexattr(fd, &name))
            }
            Op::SetFlags { id, flags } => {
                assume_root();
                self.on_node(id, |fd, node| {
                    sys::set_flags(fd, flags)?;
                    self.nodes.drop_descriptors(node);
                    if node.state().opens > 0 {
                        self.nodes.pin(node);
                    }
                    Ok(())
                })
            }
            Op::Fsync { .. } | Op::SyncAll | Op::Check { .. } | Op::Fetch { .. } => {
                Ok(Applied::default())
            }
        }
    }

    fn set_attributes(&self, id: FileId, set: &AttrSet, cred: Cred) -> io::Result<Applied> {
        let mut stat = None;
        let mut applied = self.on_node(id, |fd, node| {
            set_attr(fd, node, set, cred)?;
            if self.ids == Ids::Own {
                stat = Some(sys::fstat(fd)?);
            }
            Ok(())
        })?;
        applied.stat = stat;
        Ok(applied)
    }

    fn set_xattr(&self, op: &Op<'_>) -> io::Result<Applied> {
        let Op::SetXattr {
            id,
            name,
            value,
            flags,
            clear_setgid,
        } = *op
        else {
            return Ok(Applied::default());
        };
        assume_root();
        let name = cstring(name)?;
        self.on_node(id, |fd, node| {
            sys::setxattr(fd, &name, value, flags)?;
            if clear_setgid {
                let mode = sys::fstat(fd)?.st_mode & 0o7777;
                chmod(fd, node, mode & !libc::S_ISGID)?;
            }
            Ok(())
        })
    }

    fn dir(&self, id: FileId) -> io::Result<Arc<OwnedFd>> {
        let node = self.nodes.expect(id)?;
        if !node.is_dir() {
            return Err(io::Error::from_raw_os_error(libc::ENOTDIR));
        }
        self.nodes.fd(&node)
    }

    /// Does something to an open file.
    fn on_node(
        &self,
        id: FileId,
        work: impl FnOnce(RawFd, &Node) -> io::Result<()>,
    ) -> io::Result<Applied> {
        let node = self.nodes.expect(id)?;
        let fd = self.nodes.fd(&node)?;
        work(fd.as_raw_fd(), &node)?;
        Ok(Applied::default())
    }

    fn bind(&self, id: FileId, parent: FileId, name: &[u8]) -> io::Result<Applied> {
        let dir = self.dir(parent)?;
        let name = cstring(name)?;
        let handle = sys::handle_at(dir.as_raw_fd(), &name)?;
        let stat = sys::fstatat(dir.as_raw_fd(), &name)?;
        self.nodes.insert(id, handle, stat.st_mode & libc::S_IFMT);
        Ok(Applied::default())
    }

    fn make(
        &self,
        (id, uid): (FileId, Uid),
        (parent, name): (FileId, &[u8]),
        kind: Kind<'_>,
        mode: u32,
    ) -> io::Result<Applied> {
        let dir_fd = self.dir(parent)?;
        let dir = dir_fd.as_raw_fd();
        let cname = cstring(name)?;
        let mode = mode & 0o7777;
        let file = make_entry(dir, &cname, kind, mode)?;
        let known = mark_made(dir, &cname, file, uid);
        let (handle, stat, file) = known.inspect_err(|_| {
            // Refused after all, so it must not stay.
            let flags = if kind == Kind::Directory {
                libc::AT_REMOVEDIR
            } else {
                0
            };
            let _ = sys::unlinkat(dir, &cname, flags);
        })?;
        let format = stat.st_mode & libc::S_IFMT;
        let node = match self.ids {
            Ids::Own => self.nodes.look_up(handle, format, Some((parent, name))),
            Ids::Peers => self.nodes.insert(id, handle, format),
        };
        node.uid.set(uid);
        if let Some(file) = file {
            self.nodes.keep(&node, Arc::new(file));
        }
        Ok(Applied {
            stat: Some(stat),
            node: Some(node),
            written: 0,
        })
    }

    fn link(&self, id: FileId, parent: FileId, name: &[u8]) -> io::Result<Applied> {
        assume_root();
        let node = self.nodes.expect(id)?;
        let fd = self.nodes.fd(&node)?;
        let dir = self.dir(parent)?;
        sys::link_fd(fd.as_raw_fd(), dir.as_raw_fd(), &cstring(name)?)?;
        let stat = sys::fstat(fd.as_raw_fd())?;
        Ok(Applied {
            stat: Some(stat),
            ..Applied::default()
        })
    }

    fn unlink(&self, parent: FileId, name: &[u8], flags: i32) -> io::Result<Applied> {
        assume_root();
        let dir = self.dir(parent)?;
        sys::unlinkat(dir.as_raw_fd(), &cstring(name)?, flags)?;
        Ok(Applied {
            ..Applied::default()
        })
    }

    fn rename(
        &self,
        (parent, name): (FileId, &[u8]),
        (new_parent, new_name): (FileId, &[u8]),
        flags: u32,
    ) -> io::Result<Applied> {
        let from = self.dir(parent)?;
        let to = self.dir(new_parent)?;
        let (name, new_name) = (cstring(name)?, cstring(new_name)?);
        sys::renameat2(
            (from.as_raw_fd(), &name),
            (to.as_raw_fd(), &new_name),
            flags,
        )?;
        Ok(Applied {
            ..Applied::default()
        })
    }

    fn write(&self, id: FileId, offset: u64, data: &[u8], cred: Cred) -> io::Result<Applied> {
        let node = self.nodes.expect(id)?;
        let fd = self.nodes.fd(&node)?;
        let fd = fd.as_raw_fd();
        let keeps = cred.privileges == Privileges::Keep;
        let kept = if keeps { Capability::of(fd) } else { None };
        let written = with_rights(fd, cred, || self.write_all(fd, offset, data))?;
        if let Some(kept) = kept {
            kept.restore(fd)?;
        }
        Ok(Applied {
            written,
            ..Applied::default()
        })
    }

    fn write_all(&self, fd: RawFd, offset: u64, data: &[u8]) -> io::Result<usize> {
        let mut written = 0;
        while written < data.len() {
            match sys::pwrite(fd, &data[written..], offset + written as u64) {
                Ok(0) => break,
                Ok(n) => written += n,
                Err(e) if e.kind() == io::ErrorKind::Interrupted => {}
                // A short write says as much as the error would; the next one will bring it.
                Err(_) if written > 0 && self.ids == Ids::Own => break,
                Err(e) => return Err(e),
            }
        }
        Ok(written)
    }
}

/// Gives what was just made its lasting identity; returns its handle and attributes, and it itself
/// if it can be kept open.
fn mark_made(
    dir: RawFd,
    name: &CStr,
    file: Option<OwnedFd>,
    uid: Uid,
) -> io::Result<(Handle, libc::stat, Option<OwnedFd>)> {
    let Some(file) = file else {
        let handle = sys::handle_at(dir, name)?;
        lasting::write_at(dir, name, &handle, uid)?;
        return Ok((handle, sys::fstatat(dir, name)?, None));
    };
    let fd = file.as_raw_fd();
    let handle = sys::handle_at(fd, c"")?;
    lasting::write(fd, &handle, uid)?;
    Ok((handle, sys::fstat(fd)?, Some(file)))
}

/// Makes the entry with the identity the thread has; files and directories are returned open.
fn make_entry(dir: RawFd, name: &CStr, kind: Kind<'_>, mode: u32) -> io::Result<Option<OwnedFd>> {
    match kind {
        Kind::File => {
            let flags = libc::O_CREAT | libc::O_EXCL | libc::O_RDWR | libc::O_NOFOLLOW;
            return sys::openat(dir, name, flags, mode).map(Some);
        }
        Kind::Directory => {
            sys::mkdirat(dir, name, mode)?;
            // Something will be made in it.
            let flags = libc::O_RDONLY | libc::O_DIRECTORY | libc::O_NOFOLLOW;
            return Ok(sys::openat(dir, name, flags, 0).ok());
        }
        Kind::Symlink(target) => sys::symlinkat(&cstring(target)?, dir, name)?,
        Kind::Node { format, rdev } => {
            sys::mknodat(dir, name, (format & libc::S_IFMT) | mode, rdev)?;
        }
    }
    Ok(None)
}
