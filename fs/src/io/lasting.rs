//! A file's lasting identity: the same on both nodes, through renames, links and restarts. It is
//! kept in an extended attribute of the file, which the mount hides.
//!
//! With it is kept a check of the inode's own handle: a copy that was made with all attributes, or
//! a file restored from a backup, is not taken for the original.

use super::sys::{self, Handle};
use std::ffi::CStr;
use std::io;
use std::os::fd::RawFd;
use std::sync::atomic::{AtomicU64, Ordering};
use tandem_repl::ids::{FileId, Uid};
use tandem_repl::logic::resync::PRIVATE;

/// [`Uid::XATTR`].
const NAME: &CStr = c"trusted.tandem.id";
/// Origin, number, check, each 8 bytes, little-endian.
const LEN: usize = 24;

/// Whether an attribute is this one, which nobody outside sees.
pub(crate) fn is_hidden(attribute: &[u8]) -> bool {
    attribute == NAME.to_bytes()
}

/// Whether an entry is Tandem's own directory, which nobody outside sees.
pub(crate) fn is_private(parent: FileId, name: &[u8]) -> bool {
    parent == FileId::ROOT && name == PRIVATE
}

fn value(handle: &Handle, uid: Uid) -> [u8; LEN] {
    let mut hash = blake3::Hasher::new();
    hash.update(&handle.kind.to_le_bytes());
    hash.update(handle.bytes());
    let mut value = [0; LEN];
    value[..8].copy_from_slice(&uid.origin.to_le_bytes());
    value[8..16].copy_from_slice(&uid.number.to_le_bytes());
    value[16..].copy_from_slice(&hash.finalize().as_bytes()[..8]);
    value
}

/// The identity of an open file (`O_PATH` will do); `None` if it has none, or one that belongs to
/// another inode.
///
/// # Errors
/// Attributes that cannot be read.
pub(crate) fn read(fd: RawFd, handle: &Handle) -> io::Result<Option<Uid>> {
    let mut found = [0; LEN];
    match sys::getxattr(fd, NAME, &mut found) {
        Ok(LEN) => {}
        Err(e) if !matches!(e.raw_os_error(), Some(libc::ENODATA | libc::ERANGE)) => return Err(e),
        _ => return Ok(None),
    }
    let word = |at: usize| {
        let bytes = found[at..at + 8].try_into();
        u64::from_le_bytes(bytes.expect("8 of 24 bytes"))
    };
    let uid = Uid {
        origin: word(0),
        number: word(8),
    };
    Ok(Some(uid).filter(|uid| uid.origin != 0 && value(handle, *uid) == found))
}

/// Gives an open file its identity.
///
/// # Errors
/// What the file system says; `EINVAL` for what is no identity.
pub(crate) fn write(fd: RawFd, handle: &Handle, uid: Uid) -> io::Result<()> {
    refuse_none(uid)?;
    sys::setxattr(fd, NAME, &value(handle, uid), 0)
}

/// As [`write`] for the entry of a directory.
///
/// # Errors
/// As of [`write`].
pub(crate) fn write_at(dir: RawFd, entry: &CStr, handle: &Handle, uid: Uid) -> io::Result<()> {
    refuse_none(uid)?;
    sys::setxattr_at(dir, entry, NAME, &value(handle, uid))
}

fn refuse_none(uid: Uid) -> io::Result<()> {
    if uid.origin == 0 {
        return Err(io::Error::from_raw_os_error(libc::EINVAL));
    }
    Ok(())
}

/// Identities for files that were found without one.
pub(crate) struct Found {
    origin: u64,
    next: AtomicU64,
}

impl Default for Found {
    fn default() -> Self {
        Self {
            origin: random() | 1,
            next: AtomicU64::new(1),
        }
    }
}

impl Found {
    /// The identity of an open file, which is given one if it has none. Two who ask at once may
    /// be told different ones, of which the last stays: the caller lets nobody else ask for the
    /// same file.
    ///
    /// # Errors
    /// Attributes that cannot be read or written.
    pub(crate) fn ensure(&self, fd: RawFd, handle: &Handle) -> io::Result<Uid> {
        if let Some(uid) = read(fd, handle)? {
            return Ok(uid);
        }
        let uid = Uid {
            origin: self.origin,
            number: self.next.fetch_add(1, Ordering::Relaxed),
        };
        write(fd, handle, uid)?;
        Ok(uid)
    }
}

/// The origin of what this start of the daemon makes: even, and not 0.
pub(crate) fn origin() -> u64 {
    (random() & !1).max(2)
}

fn random() -> u64 {
    let mut bytes = [0_u8; 8];
    // SAFETY: the buffer is valid for its length.
    let n = unsafe { libc::getrandom(bytes.as_mut_ptr().cast(), bytes.len(), 0) };
    assert_eq!(n, 8, "getrandom returns up to 256 bytes whole");
    u64::from_le_bytes(bytes)
}

/// What is known of a node's identity without asking the file system.
#[derive(Default)]
pub(crate) struct Cached {
    /// 0: none, or not known yet.
    origin: AtomicU64,
    number: AtomicU64,
}

impl Cached {
    pub(crate) fn set(&self, uid: Uid) {
        // Who sees the origin sees the number that belongs to it.
        self.number.store(uid.number, Ordering::Relaxed);
        self.origin.store(uid.origin, Ordering::Release);
    }

    /// [`Uid::NONE`]: it is known that there is none.
    pub(crate) fn get(&self) -> Option<Uid> {
        let origin = self.origin.load(Ordering::Acquire);
        let number = self.number.load(Ordering::Relaxed);
        let uid = Uid { origin, number };
        (origin != 0 || uid == Uid::NONE).then_some(uid)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::fs::File;
    use std::os::fd::AsRawFd;

    #[test]
    fn an_identity_belongs_to_its_inode_alone() {
        let dir = std::env::temp_dir().join(format!("tandem-lasting-{}", std::process::id()));
        let _ = std::fs::remove_dir_all(&dir);
        std::fs::create_dir_all(dir.join("sub")).unwrap();
        std::os::unix::fs::symlink("x", dir.join("link")).unwrap();
        File::create(dir.join("one")).unwrap();
        File::create(dir.join("two")).unwrap();
        let root = File::open(&dir).unwrap();
        let open = |name: &CStr| {
            let flags = libc::O_PATH | libc::O_NOFOLLOW;
            let fd = sys::openat(root.as_raw_fd(), name, flags, 0).unwrap();
            let handle = sys::handle_at(fd.as_raw_fd(), c"").unwrap();
            (fd, handle)
        };
        let uid = Uid {
            origin: origin(),
            number: 7,
        };
        for name in [c"one", c"link", c"sub"] {
            let (fd, handle) = open(name);
            assert_eq!(read(fd.as_raw_fd(), &handle).unwrap(), None);
            write_at(root.as_raw_fd(), name, &handle, uid).unwrap();
            assert_eq!(read(fd.as_raw_fd(), &handle).unwrap(), Some(uid));
            let other = Uid { number: 8, ..uid };
            write(fd.as_raw_fd(), &handle, other).unwrap();
            assert_eq!(read(fd.as_raw_fd(), &handle).unwrap(), Some(other));
        }
        let (one, _) = open(c"one");
        let (two, handle) = open(c"two");
        let mut copied = [0; LEN];
        sys::getxattr(one.as_raw_fd(), NAME, &mut copied).unwrap();
        sys::setxattr(two.as_raw_fd(), NAME, &copied, 0).unwrap();
        assert_eq!(read(two.as_raw_fd(), &handle).unwrap(), None, "a copy");
        let found = Found::default();
        let new = found.ensure(two.as_raw_fd(), &handle).unwrap();
        assert!(new.is_found() && !uid.is_found());
        assert_eq!(found.ensure(two.as_raw_fd(), &handle).unwrap(), new);
        assert!(write(two.as_raw_fd(), &handle, Uid::ROOT).is_err());
        std::fs::remove_dir_all(&dir).unwrap();
    }
}
