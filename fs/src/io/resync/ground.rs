//! Files of the underlying trees by their keys, and a few descriptors kept for use again.

use super::super::lasting;
use super::super::service::Volume;
use super::super::sys::{self, Handle, cstring};
use crate::error::errno_of;
use std::io;
use std::os::fd::{AsRawFd, OwnedFd, RawFd};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use tandem_repl::ids::{DirId, Key, Uid};
use tandem_repl::logic::resync::messages::Kind;

/// Descriptors kept.
const SLOTS: usize = 256;

type Slot = Mutex<Option<(DirId, Key, Arc<OwnedFd>)>>;

pub(super) struct Ground {
    pub(super) volumes: Vec<Arc<Volume>>,
    slots: Vec<Slot>,
}

/// An entry as it is.
pub(super) struct Entry {
    pub(super) fd: OwnedFd,
    pub(super) handle: Handle,
    pub(super) uid: Option<Uid>,
    pub(super) kind: Kind,
    pub(super) links: u64,
}

impl Ground {
    pub(super) fn new(volumes: &[Arc<Volume>]) -> Self {
        Self {
            volumes: volumes.to_vec(),
            slots: (0..SLOTS).map(|_| Mutex::default()).collect(),
        }
    }

    pub(super) fn volume(&self, dir: DirId) -> Result<&Arc<Volume>, i32> {
        self.volumes.get(usize::from(dir.0)).ok_or(libc::ENOENT)
    }

    fn slot(&self, key: &Key) -> MutexGuard<'_, Option<(DirId, Key, Arc<OwnedFd>)>> {
        let bytes = key.bytes().iter();
        let mix = bytes.fold(0_usize, |h, b| {
            h.wrapping_mul(31).wrapping_add(usize::from(*b))
        });
        let slot = &self.slots[mix % SLOTS];
        slot.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// A descriptor for all that the file's kind allows.
    pub(super) fn open(&self, dir: DirId, key: Key) -> Result<Arc<OwnedFd>, i32> {
        if let Some((d, k, fd)) = &*self.slot(&key)
            && (*d, *k) == (dir, key)
        {
            return Ok(fd.clone());
        }
        let fd = Arc::new(self.open_anew(dir, key).map_err(|e| errno_of(&e))?);
        self.keep(dir, key, fd.clone());
        Ok(fd)
    }

    /// The file has a name, whichever.
    pub(super) fn is_alive(&self, dir: DirId, key: Key) -> bool {
        self.open(dir, key).is_ok_and(|fd| exists(&fd))
    }

    /// A descriptor that was opened elsewhere.
    pub(super) fn keep(&self, dir: DirId, key: Key, fd: Arc<OwnedFd>) {
        *self.slot(&key) = Some((dir, key, fd));
    }

    pub(super) fn forget(&self, key: Key) {
        *self.slot(&key) = None;
    }

    fn open_anew(&self, dir: DirId, key: Key) -> io::Result<OwnedFd> {
        let stale = || io::Error::from_raw_os_error(libc::ESTALE);
        let volume = self.volume(dir).map_err(io::Error::from_raw_os_error)?;
        let handle = Handle::of_key(&key).ok_or_else(stale)?;
        let mount = volume.nodes.mount_fd();
        let path = sys::open_handle(mount, &handle, libc::O_PATH | libc::O_NOFOLLOW)?;
        let format = sys::mode_of(path.as_raw_fd())? & libc::S_IFMT;
        match format {
            libc::S_IFDIR => sys::open_handle(mount, &handle, libc::O_RDONLY | libc::O_DIRECTORY),
            libc::S_IFREG => {
                let flags = libc::O_NONBLOCK | libc::O_NOFOLLOW;
                match sys::open_handle(mount, &handle, libc::O_RDWR | flags) {
                    // Immutable, append-only, or a program that runs.
                    Err(e)
                        if matches!(
                            e.raw_os_error(),
                            Some(libc::EPERM | libc::ETXTBSY | libc::EROFS)
                        ) =>
                    {
                        sys::open_handle(mount, &handle, libc::O_RDONLY | flags)
                    }
                    result => result,
                }
            }
            _ => Ok(path),
        }
    }

    /// What an entry leads to; `None` if there is none.
    pub(super) fn look(&self, dir: DirId, parent: Key, name: &[u8]) -> Result<Option<Entry>, i32> {
        if parent == self.volume(dir)?.nodes.root_key()
            && name == tandem_repl::logic::resync::PRIVATE
        {
            return Ok(None);
        }
        let above = self.open(dir, parent)?;
        match entry_at(above.as_raw_fd(), name) {
            Ok(entry) => Ok(Some(entry)),
            Err(e) if e.raw_os_error() == Some(libc::ENOENT) => Ok(None),
            Err(e) => Err(errno_of(&e)),
        }
    }

    /// Directory above and name in it, of a directory below the root.
    pub(super) fn above(&self, dir: DirId, key: Key) -> Result<(Key, Box<[u8]>), i32> {
        let work = || -> io::Result<(Key, Box<[u8]>)> {
            let stale = || io::Error::from_raw_os_error(libc::ESTALE);
            let fd = self.open(dir, key).map_err(io::Error::from_raw_os_error)?;
            let path = sys::path_of_fd(fd.as_raw_fd())?;
            let cut = path.iter().rposition(|b| *b == b'/').ok_or_else(stale)?;
            let name = &path[cut + 1..];
            if name.is_empty() || path.ends_with(b" (deleted)") && !exists(&fd) {
                return Err(stale());
            }
            let flags = libc::O_PATH | libc::O_DIRECTORY;
            let above = sys::openat(fd.as_raw_fd(), c"..", flags, 0)?;
            let parent = sys::handle_at(above.as_raw_fd(), c"")?.key();
            // The name must lead back to it.
            if sys::handle_at(above.as_raw_fd(), &cstring(name)?)?.key() != key {
                return Err(stale());
            }
            Ok((parent, name.into()))
        };
        work().map_err(|e| match errno_of(&e) {
            libc::ENOENT => libc::ESTALE,
            errno => errno,
        })
    }
}

fn exists(fd: &OwnedFd) -> bool {
    sys::size_and_links(fd.as_raw_fd()).is_ok_and(|(_, links)| links > 0)
}

/// What a name in an open directory leads to.
pub(super) fn entry_at(dir: RawFd, name: &[u8]) -> io::Result<Entry> {
    let name = cstring(name)?;
    let fd = sys::openat(dir, &name, libc::O_PATH | libc::O_NOFOLLOW, 0)?;
    entry_of(fd)
}

pub(super) fn entry_of(fd: OwnedFd) -> io::Result<Entry> {
    let handle = sys::handle_at(fd.as_raw_fd(), c"")?;
    let stat = sys::fstat(fd.as_raw_fd())?;
    let kind = match stat.st_mode & libc::S_IFMT {
        libc::S_IFREG => Kind::File,
        libc::S_IFDIR => Kind::Directory,
        libc::S_IFLNK => Kind::Symlink(sys::readlinkat(fd.as_raw_fd())?),
        format => Kind::Node {
            format,
            rdev: stat.st_rdev,
        },
    };
    Ok(Entry {
        uid: lasting::read(fd.as_raw_fd(), &handle)?,
        handle,
        kind,
        links: stat.st_nlink,
        fd,
    })
}

/// Some names of a directory, and where the next ones are; `None` after the last.
pub(super) type Names = (Vec<Box<[u8]>>, Option<u64>);

/// Names in a directory from a cookie on, at most `limit`, and the next cookie.
pub(super) fn names(dir: &OwnedFd, cookie: u64, limit: usize) -> io::Result<Names> {
    // A description of its own: positions of a shared one are everybody's.
    let flags = libc::O_RDONLY | libc::O_DIRECTORY;
    let own = sys::openat(dir.as_raw_fd(), c".", flags, 0)?;
    sys::lseek(own.as_raw_fd(), cookie.cast_signed(), libc::SEEK_SET)?;
    let mut names = Vec::new();
    let mut buf = vec![0u8; 32 * 1024];
    loop {
        let n = sys::getdents(own.as_raw_fd(), &mut buf)?;
        if n == 0 {
            return Ok((names, None));
        }
        for entry in sys::dirents(&buf[..n]) {
            let name = entry.name.to_bytes();
            if !matches!(name, b"." | b"..") {
                names.push(name.into());
            }
            if names.len() >= limit {
                return Ok((names, Some(entry.next.cast_unsigned())));
            }
        }
    }
}
