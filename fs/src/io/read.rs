//! What only reads: answered here, never put on the stream.

use super::lasting;
use super::nodes::{Node, Nodes};
use super::readdir;
use super::service::{Service, Volume};
use super::sys::{self, cstring};
use crate::logic::open::{Mode, Opening, mode};
use crate::logic::pattern;
use fuser::{FileAttr, FileType, FopenFlags, INodeNo};
use std::io;
use std::os::fd::AsRawFd;
use std::sync::Arc;
use std::time::{Duration, SystemTime};
use tandem_repl::ids::FileId;
use tandem_repl::limits::MAX_XATTR;

/// Nothing but this node's kernel changes the tree while it serves, so what it knows stays true.
const FOREVER: Duration = Duration::from_secs(365 * 24 * 3600);

impl Volume {
    pub(crate) fn look_up(
        &self,
        parent: FileId,
        name: &[u8],
    ) -> io::Result<(Arc<Node>, libc::stat)> {
        if lasting::is_private(parent, name) {
            return Err(io::Error::from_raw_os_error(libc::ENOENT));
        }
        let dir = self.nodes.expect(parent)?;
        let fd = self.nodes.fd(&dir)?;
        readdir::look_up(&self.nodes, parent, fd.as_raw_fd(), &cstring(name)?)
    }

    pub(crate) fn stat(&self, id: FileId) -> io::Result<libc::stat> {
        let node = self.nodes.expect(id)?;
        let stat = sys::fstat(self.nodes.fd(&node)?.as_raw_fd())?;
        Ok(self.shown(id, stat))
    }

    /// Attributes as the mount shows them: the root without the directory that is hidden in it.
    pub(crate) fn shown(&self, id: FileId, mut stat: libc::stat) -> libc::stat {
        let hidden = || sys::fstatat(self.backing.root_fd(), c".tandem");
        if id == FileId::ROOT && hidden().is_ok_and(|s| s.st_mode & libc::S_IFMT == libc::S_IFDIR) {
            stat.st_nlink -= 1;
        }
        stat
    }

    pub(crate) fn mode(&self, id: FileId) -> io::Result<u32> {
        let node = self.nodes.expect(id)?;
        sys::mode_of(self.nodes.fd(&node)?.as_raw_fd())
    }

    pub(crate) fn read(&self, id: FileId, buf: &mut [u8], offset: u64) -> io::Result<usize> {
        let node = self.nodes.expect(id)?;
        let fd = self.nodes.fd(&node)?;
        let mut done = 0;
        while done < buf.len() {
            match sys::pread(fd.as_raw_fd(), &mut buf[done..], offset + done as u64) {
                Ok(0) => break,
                Ok(n) => done += n,
                Err(e) if e.kind() == io::ErrorKind::Interrupted => {}
                // Also after some bytes: the kernel takes a short answer for the file's end and
                // would give the application zeros.
                Err(e) => return Err(e),
            }
        }
        Ok(done)
    }

    pub(crate) fn readlink(&self, id: FileId) -> io::Result<Vec<u8>> {
        let node = self.nodes.expect(id)?;
        sys::readlinkat(self.nodes.fd(&node)?.as_raw_fd())
    }

    pub(crate) fn seek(&self, id: FileId, offset: i64, whence: i32) -> io::Result<i64> {
        let node = self.nodes.expect(id)?;
        // The position of the shared descriptor means nothing: reads and writes name theirs.
        sys::lseek(self.nodes.fd(&node)?.as_raw_fd(), offset, whence)
    }

    pub(crate) fn getxattr(&self, id: FileId, name: &[u8], buf: &mut [u8]) -> io::Result<usize> {
        if lasting::is_hidden(name) {
            return Err(io::Error::from_raw_os_error(libc::ENODATA));
        }
        let node = self.nodes.expect(id)?;
        sys::getxattr(self.nodes.fd(&node)?.as_raw_fd(), &cstring(name)?, buf)
    }

    /// Names of a file's attributes. Trusted ones are for the administrator's eyes, as the local
    /// file system would have it if it knew who asks.
    pub(crate) fn listxattr(&self, id: FileId, uid: u32) -> io::Result<Vec<u8>> {
        let node = self.nodes.expect(id)?;
        let mut list = vec![0; MAX_XATTR];
        let n = sys::listxattr(self.nodes.fd(&node)?.as_raw_fd(), &mut list)?;
        list.truncate(n);
        let shown = |name: &&[u8]| {
            let name = name.strip_suffix(&[0]).unwrap_or(name);
            !lasting::is_hidden(name) && (uid == 0 || !name.starts_with(b"trusted."))
        };
        let names = list.split_inclusive(|b| *b == 0);
        Ok(names.filter(shown).flatten().copied().collect())
    }

    pub(crate) fn inode_flags(&self, id: FileId) -> io::Result<u32> {
        let node = self.nodes.expect(id)?;
        sys::get_flags(self.nodes.fd(&node)?.as_raw_fd())
    }

    pub(crate) fn fs_xattr(&self, id: FileId) -> io::Result<sys::FsXattr> {
        let node = self.nodes.expect(id)?;
        sys::get_fsxattr(self.nodes.fd(&node)?.as_raw_fd())
    }

    /// Id of the directory above; a directory of its own above the root is not told.
    pub(crate) fn parent_of(&self, id: FileId) -> FileId {
        let node = self.nodes.get(id);
        let parent = node.and_then(|n| n.state().names.first().map(|(parent, _)| *parent));
        parent.unwrap_or(FileId::ROOT)
    }

    /// Whether the configuration names this file for direct access.
    fn named_direct(&self, node: &Node) -> bool {
        if self.direct.is_empty() {
            return false;
        }
        let path = path_of(&self.nodes, node.id);
        self.direct.iter().any(|p| pattern::matches(p, &path))
    }

    /// Makes the kernel forget what it cached while this node served. Called from the director,
    /// which serves no request: the kernel may wait here for requests under way.
    pub(crate) fn drop_kernel_caches(&self) {
        let Some(notifier) = self.notifier.get() else {
            return;
        };
        self.nodes.for_each(|node| {
            let names = node.state().names.clone();
            for (parent, name) in names {
                use std::os::unix::ffi::OsStrExt;
                let name = std::ffi::OsStr::from_bytes(&name);
                // Not cached any more is as good as dropped.
                let _ = notifier.inval_entry(INodeNo(parent.0), name);
            }
            let _ = notifier.inval_inode(INodeNo(node.id.0), 0, 0);
        });
    }
}

/// Path below the directory, as far as names are known.
fn path_of(nodes: &Nodes, id: FileId) -> Vec<u8> {
    let mut parts = Vec::new();
    let mut at = id;
    while at != FileId::ROOT && parts.len() < 4096 {
        let Some(node) = nodes.get(at) else { break };
        let Some((parent, name)) = node.state().names.first().cloned() else {
            break;
        };
        parts.push(name);
        at = parent;
    }
    parts.reverse();
    parts.join(&b'/')
}

impl Service {
    /// How long the kernel may believe an answer.
    pub(crate) fn ttl(&self) -> Duration {
        if self.serving_period().is_some() {
            FOREVER
        } else {
            Duration::ZERO
        }
    }

    /// Opens a file; the flags for the kernel, or an errno.
    pub(crate) fn open(&self, volume: &Volume, id: FileId, flags: i32) -> io::Result<FopenFlags> {
        let node = volume.nodes.expect(id)?;
        let period = self.serving_period();
        let coherent = period.is_some_and(|p| {
            let mut state = node.state();
            let coherent = state.coherent == p;
            // From this open on the kernel's pages are filled while this node serves.
            state.coherent = p;
            coherent
        });
        let opening = Opening {
            writes: flags & libc::O_ACCMODE != libc::O_RDONLY,
            direct: flags & libc::O_DIRECT != 0,
            serving: period.is_some(),
            named_direct: volume.named_direct(&node),
            coherent,
        };
        let how = match mode(opening) {
            Mode::ReadOnly => return Err(io::Error::from_raw_os_error(libc::EROFS)),
            Mode::Direct => FopenFlags::FOPEN_DIRECT_IO | FopenFlags::FOPEN_PARALLEL_DIRECT_WRITES,
            Mode::Cached { keep: true } => FopenFlags::FOPEN_KEEP_CACHE,
            Mode::Cached { keep: false } => FopenFlags::empty(),
        };
        if flags & libc::O_ACCMODE != libc::O_RDONLY {
            // The kernel's inode does not know these flags, and the descriptor may be older.
            let fd = volume.nodes.fd(&node)?;
            let (immutable, append) = sys::protection(fd.as_raw_fd())?;
            if immutable || (append && flags & libc::O_APPEND == 0) {
                return Err(io::Error::from_raw_os_error(libc::EPERM));
            }
        }
        volume.nodes.opened(&node)?;
        Ok(how | FopenFlags::FOPEN_NOFLUSH)
    }
}

/// Attributes as the kernel wants them, under the node's id.
pub(crate) fn attr(id: FileId, stat: &libc::stat) -> FileAttr {
    FileAttr {
        ino: INodeNo(id.0),
        size: stat.st_size.cast_unsigned(),
        blocks: stat.st_blocks.cast_unsigned(),
        atime: time(stat.st_atime, stat.st_atime_nsec),
        mtime: time(stat.st_mtime, stat.st_mtime_nsec),
        ctime: time(stat.st_ctime, stat.st_ctime_nsec),
        crtime: SystemTime::UNIX_EPOCH,
        kind: kind(stat.st_mode),
        perm: (stat.st_mode & 0o7777) as u16,
        nlink: stat.st_nlink as u32,
        uid: stat.st_uid,
        gid: stat.st_gid,
        rdev: stat.st_rdev as u32,
        blksize: stat.st_blksize as u32,
        flags: 0,
    }
}

fn time(sec: i64, nsec: i64) -> SystemTime {
    let nsec = Duration::from_nanos(nsec.cast_unsigned());
    let base = if sec >= 0 {
        SystemTime::UNIX_EPOCH.checked_add(Duration::from_secs(sec.cast_unsigned()))
    } else {
        SystemTime::UNIX_EPOCH.checked_sub(Duration::from_secs(sec.unsigned_abs()))
    };
    base.and_then(|t| t.checked_add(nsec))
        .unwrap_or(SystemTime::UNIX_EPOCH)
}

fn kind(mode: u32) -> FileType {
    match mode & libc::S_IFMT {
        libc::S_IFDIR => FileType::Directory,
        libc::S_IFLNK => FileType::Symlink,
        libc::S_IFIFO => FileType::NamedPipe,
        libc::S_IFSOCK => FileType::Socket,
        libc::S_IFCHR => FileType::CharDevice,
        libc::S_IFBLK => FileType::BlockDevice,
        _ => FileType::RegularFile,
    }
}

/// File type of a directory entry (`d_type`).
pub(crate) fn entry_kind(d_type: u8) -> FileType {
    kind(u32::from(d_type) << 12)
}
