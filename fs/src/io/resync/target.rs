//! This node's tree as the peer's resync changes it.

use super::super::identity::assume_root;
use super::super::lasting;
use super::super::service::Service;
use super::super::sys::{self, Handle, cstring};
use super::aside::Keeper;
use super::attributes::unlocked;
use super::ground::{Entry, Ground, names};
use super::parking::{self, Unfinished};
use super::{attributes, content, peer_marks};
use crate::error::errno_of;
use std::io;
use std::os::fd::{AsRawFd, OwnedFd};
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex, PoisonError};
use tandem_repl::ids::{DirId, Id128, Key, Uid};
use tandem_repl::io::journal::Checkpoints;
use tandem_repl::io::record::boot_id;
use tandem_repl::logic::resync::messages::{Attrs, Hash, Kind, Open, PeerMark};
use tandem_repl::logic::resync::target::{Begun, Listing, TargetTree, There};
use tandem_repl::logic::resync::{MAX_LISTED, PRIVATE};

/// Marks told at once.
const MARKS: usize = 256;

pub(crate) struct FsTarget {
    pub(super) ground: Ground,
    /// Whose marks are told; a test has none.
    pub(super) service: Option<Arc<Service>>,
    pub(super) boot: Id128,
    /// Own marks in the peer's words, made when they are first asked for.
    marks: Mutex<Option<(bool, Vec<PeerMark>)>>,
    /// What only this node has is kept aside.
    pub(super) keeper: Mutex<Option<Arc<Keeper>>>,
    pub(super) aside_limit: u64,
    /// Of the source.
    pub(super) checkpoints: AtomicU64,
}

impl FsTarget {
    /// An earlier resync, not finished, was comparing whole trees.
    fn was_walked(&self) -> bool {
        let first = self.ground.volumes.first();
        let note = first.and_then(|first| parking::read_note(first).ok().flatten());
        note.is_some_and(|note| note.walked)
    }

    pub(crate) fn new(service: &Arc<Service>) -> Self {
        Self {
            ground: Ground::new(&service.volumes),
            service: Some(service.clone()),
            boot: boot_id(),
            marks: Mutex::default(),
            keeper: Mutex::default(),
            aside_limit: service.aside_limit,
            checkpoints: AtomicU64::new(0),
        }
    }

    #[cfg(test)]
    pub(super) fn of(volumes: &[Arc<super::super::service::Volume>]) -> Self {
        Self {
            ground: Ground::new(volumes),
            service: None,
            boot: Id128::default(),
            marks: Mutex::default(),
            keeper: Mutex::default(),
            aside_limit: 1 << 30,
            checkpoints: AtomicU64::new(0),
        }
    }

    fn keeper(&self) -> Option<Arc<Keeper>> {
        let keeper = self.keeper.lock();
        keeper.unwrap_or_else(PoisonError::into_inner).clone()
    }

    fn fd(&self, dir: DirId, key: Key) -> Result<Arc<OwnedFd>, i32> {
        assume_root();
        self.ground.open(dir, key)
    }

    /// Does something to a file whatever its flags forbid.
    fn on<T>(&self, dir: DirId, key: Key, work: impl Fn(i32) -> io::Result<T>) -> Result<T, i32> {
        let fd = self.fd(dir, key)?;
        let done = unlocked(fd.as_raw_fd(), || work(fd.as_raw_fd()));
        match done {
            // Opened for reading when its flags forbade more.
            Err(e) if e.raw_os_error() == Some(libc::EBADF) => {
                let forbidden = || Err::<(), _>(io::Error::from_raw_os_error(libc::EPERM));
                let _ = unlocked(fd.as_raw_fd(), forbidden);
                self.ground.forget(key);
                let fd = self.fd(dir, key)?;
                work(fd.as_raw_fd()).map_err(|e| errno_of(&e))
            }
            result => result.map_err(|e| errno_of(&e)),
        }
    }

    /// Does something to the entries of one or two directories, and to the file they lead to.
    fn rename_unlocked(
        &self,
        dir: DirId,
        (from, name): (Key, &[u8]),
        (to, new_name): (Key, &[u8]),
    ) -> io::Result<()> {
        let raw = |key| self.fd(dir, key).map_err(io::Error::from_raw_os_error);
        let (from, to) = (raw(from)?, raw(to)?);
        let (name, new_name) = (cstring(name)?, cstring(new_name)?);
        let rename = || {
            let flags = libc::RENAME_NOREPLACE;
            sys::renameat2(
                (from.as_raw_fd(), &name),
                (to.as_raw_fd(), &new_name),
                flags,
            )
        };
        match rename() {
            Err(e) if e.raw_os_error() == Some(libc::EPERM) => {
                unlock_entry(&from, &name);
                let inner = || unlocked(from.as_raw_fd(), rename);
                unlocked(to.as_raw_fd(), inner)
            }
            result => result,
        }
    }

    fn there(entry: Entry) -> There {
        There {
            key: entry.handle.key(),
            uid: entry.uid,
            kind: entry.kind,
            links: entry.links,
        }
    }
}

/// What keeps a file where it is goes.
fn unlock_entry(dir: &OwnedFd, name: &std::ffi::CStr) {
    let flags = libc::O_RDONLY | libc::O_NONBLOCK | libc::O_NOFOLLOW;
    if let Ok(fd) = sys::openat(dir.as_raw_fd(), name, flags, 0) {
        let forbidden = || Err::<(), _>(io::Error::from_raw_os_error(libc::EPERM));
        let _ = unlocked(fd.as_raw_fd(), forbidden);
    }
}

pub(super) fn of<T>(result: io::Result<T>) -> Result<T, i32> {
    result.map_err(|e| errno_of(&e))
}

impl TargetTree for FsTarget {
    fn begin(&self, open: &Open) -> Result<Begun, i32> {
        self.open_session(open)
    }

    fn walking(&self) -> Result<(), i32> {
        let first = self.ground.volumes.first().ok_or(libc::ENOENT)?;
        match of(parking::read_note(first))? {
            Some(note) if !note.walked => {
                let walked = true;
                of(parking::write_note(first, &Unfinished { walked, ..note }))
            }
            _ => Ok(()),
        }
    }

    fn marks(&self, from: u64) -> (bool, Vec<PeerMark>, Option<u64>) {
        let mut kept = self.marks.lock().unwrap_or_else(PoisonError::into_inner);
        let (everything, marks) = kept.get_or_insert_with(|| match &self.service {
            // What was not marked may be parked still.
            _ if self.was_walked() => (true, Vec::new()),
            Some(service) => peer_marks::of(&self.ground, &service.marks_since(None)),
            None => (false, Vec::new()),
        });
        if *everything {
            return (true, Vec::new(), None);
        }
        let from = usize::try_from(from).unwrap_or(usize::MAX).min(marks.len());
        let to = (from + MARKS).min(marks.len());
        let next = (to < marks.len()).then_some(to as u64);
        (false, marks[from..to].to_vec(), next)
    }

    fn root(&self, dir: DirId) -> Key {
        let volume = self.ground.volume(dir).ok();
        let root = volume.map(|v| v.nodes.root_key());
        root.or_else(|| Key::new(&[]))
            .expect("an empty key is a key")
    }

    fn parking(&self, dir: DirId, make: bool) -> Result<Option<Key>, i32> {
        let volume = self.ground.volume(dir)?;
        let Some(fd) = of(parking::parked(volume, make))? else {
            return Ok(None);
        };
        let handle = of(sys::handle_at(fd.as_raw_fd(), c""))?;
        Ok(Some(handle.key()))
    }

    fn look(&self, dir: DirId, parent: Key, name: &[u8]) -> Result<Option<There>, i32> {
        Ok(self.ground.look(dir, parent, name)?.map(Self::there))
    }

    fn list(&self, dir: DirId, parent: Key, cookie: u64) -> Result<Listing, i32> {
        let fd = self.fd(dir, parent)?;
        let (names, next) = of(names(&fd, cookie, MAX_LISTED))?;
        let root = parent == self.root(dir);
        let mut list = Vec::with_capacity(names.len());
        for name in names {
            if root && *name == *PRIVATE {
                continue;
            }
            if let Some(there) = self.look(dir, parent, &name)? {
                list.push((name, there));
            }
        }
        Ok((list, next))
    }

    fn above(&self, dir: DirId, key: Key) -> Result<(Key, Box<[u8]>), i32> {
        self.ground.above(dir, key)
    }

    fn make(&self, dir: DirId, parent: Key, name: &[u8], kind: &Kind) -> Result<Key, i32> {
        let above = self.fd(dir, parent)?;
        let above = above.as_raw_fd();
        let work = || -> io::Result<(Handle, Option<OwnedFd>)> {
            let name = cstring(name)?;
            match kind {
                Kind::File => {
                    let flags = libc::O_CREAT | libc::O_EXCL | libc::O_RDWR | libc::O_NOFOLLOW;
                    let fd = sys::openat(above, &name, flags, 0o600)?;
                    return Ok((sys::handle_at(fd.as_raw_fd(), c"")?, Some(fd)));
                }
                Kind::Directory => sys::mkdirat(above, &name, 0o700)?,
                Kind::Symlink(target) => sys::symlinkat(&cstring(target)?, above, &name)?,
                Kind::Node { format, rdev } => {
                    sys::mknodat(above, &name, (format & libc::S_IFMT) | 0o600, *rdev as u32)?;
                }
            }
            Ok((sys::handle_at(above, &name)?, None))
        };
        let (handle, fd) = of(unlocked(above, work))?;
        let key = handle.key();
        self.ground.forget(key);
        if let Some(fd) = fd {
            self.ground.keep(dir, key, Arc::new(fd));
        }
        Ok(key)
    }

    fn link(&self, dir: DirId, key: Key, parent: Key, name: &[u8]) -> Result<(), i32> {
        let above = self.fd(dir, parent)?;
        let name = of(cstring(name))?;
        self.on(dir, key, |fd| sys::link_fd(fd, above.as_raw_fd(), &name))
    }

    fn rename(&self, dir: DirId, from: (Key, &[u8]), to: (Key, &[u8])) -> Result<(), i32> {
        of(self.rename_unlocked(dir, from, to))
    }

    fn unlink(&self, dir: DirId, parent: Key, name: &[u8]) -> Result<(), i32> {
        let above = self.fd(dir, parent)?;
        let name = of(cstring(name))?;
        let unlink = || sys::unlinkat(above.as_raw_fd(), &name, 0);
        match unlocked(above.as_raw_fd(), unlink) {
            Err(e) if e.raw_os_error() == Some(libc::EPERM) => {
                unlock_entry(&above, &name);
                of(unlink())
            }
            result => of(result),
        }
    }

    fn set_uid(&self, dir: DirId, key: Key, uid: Uid) -> Result<(), i32> {
        if uid == Uid::ROOT {
            return Ok(());
        }
        let handle = Handle::of_key(&key).ok_or(libc::ESTALE)?;
        self.on(dir, key, |fd| lasting::write(fd, &handle, uid))
    }

    fn note_parked(&self, dir: DirId, from: (Key, &[u8]), parked: &[u8]) -> Result<(), i32> {
        let Some(keeper) = self.keeper() else {
            return Ok(());
        };
        let (volume, parent) = (self.ground.volume(dir)?, self.fd(dir, from.0)?);
        of(keeper.note_parked(volume, parent.as_raw_fd(), from.1, parked))
    }

    fn keep(&self, dir: DirId, key: Key, attrs: Option<&Attrs>) -> Result<(), i32> {
        let Some(keeper) = self.keeper() else {
            return Ok(());
        };
        let (volume, fd) = (self.ground.volume(dir)?, self.fd(dir, key)?);
        of(keeper.keep(volume, (dir, key), fd.as_raw_fd(), attrs))
    }

    fn write(&self, dir: DirId, key: Key, offset: u64, data: &[u8]) -> Result<(), i32> {
        self.on(dir, key, |fd| {
            let mut done = 0;
            while done < data.len() {
                match sys::pwrite(fd, &data[done..], offset + done as u64) {
                    Ok(0) => return Err(io::ErrorKind::WriteZero.into()),
                    Ok(n) => done += n,
                    Err(e) if e.kind() == io::ErrorKind::Interrupted => {}
                    Err(e) => return Err(e),
                }
            }
            Ok(())
        })
    }

    fn zero(&self, dir: DirId, key: Key, offset: u64, len: u64) -> Result<(), i32> {
        self.on(dir, key, |fd| content::zero(fd, offset, len))
    }

    fn set_attrs(
        &self,
        dir: DirId,
        key: Key,
        attrs: &Attrs,
        others: &[Vec<u8>],
        uid: Option<Uid>,
    ) -> Result<(), i32> {
        self.on(dir, key, |fd| {
            let (size, _) = sys::size_and_links(fd)?;
            let file = sys::mode_of(fd)? & libc::S_IFMT == libc::S_IFREG;
            if file && size != attrs.size {
                sys::ftruncate(fd, attrs.size)?;
            }
            Ok(())
        })?;
        if let Some(uid) = uid {
            self.set_uid(dir, key, uid)?;
        }
        let fd = self.fd(dir, key)?;
        of(attributes::set(fd.as_raw_fd(), attrs, others))
    }

    fn set_xattrs(&self, dir: DirId, key: Key, set: &[(Vec<u8>, Vec<u8>)]) -> Result<(), i32> {
        self.on(dir, key, |fd| {
            set.iter()
                .try_for_each(|(name, value)| attributes::put_xattr(fd, name, value, true))
        })
    }

    fn hashes(
        &self,
        dir: DirId,
        key: Key,
        offset: u64,
        count: usize,
        size: u64,
    ) -> Result<Vec<Hash>, i32> {
        let fd = self.fd(dir, key)?;
        // Where a flush failed the kernel calls pages clean that the disk never took. Compared as
        // the disk has it, a file is written again there.
        of(sys::drop_clean_pages(fd.as_raw_fd()))?;
        of(content::hashes(fd.as_raw_fd(), offset, count, size))
    }

    fn sweep(&self) -> Result<(), i32> {
        if let Some(first) = self.ground.volumes.first() {
            of(parking::drop_note(first))?;
        }
        for volume in &self.ground.volumes {
            if let Some(keeper) = self.keeper() {
                of(keeper.take_parked(volume))?;
            }
            of(parking::put_away(volume))?;
        }
        if let Some(service) = &self.service {
            let completed = self.checkpoints.load(Ordering::Relaxed);
            let claimed = completed;
            let set = service
                .marks
                .set_checkpoints(Checkpoints { completed, claimed });
            set.map_err(|_| libc::EIO)?;
        }
        Ok(())
    }

    fn flush(&self) -> Result<(), i32> {
        for volume in &self.ground.volumes {
            of(volume.backing.sync())?;
        }
        Ok(())
    }
}
