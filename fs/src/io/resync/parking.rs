//! Tandem's own directory in the root of a replicated one: what is parked, what is left to be
//! removed, and a note of the resync that is not finished.
//!
//! ```text
//! .tandem/parked/    what the source does not have where the target had it, by identity
//! .tandem/swept-N/   the same after the resync: removed in the background
//! .tandem/aside/     what is kept
//! .tandem/resync     baseline, boot, flags of an unfinished resync (first directory only)
//! ```

use super::super::identity::assume_root;
use super::super::service::Volume;
use super::super::sys::{self, cstring};
use super::attributes::unlocked;
use super::ground::names;
use std::fs::File;
use std::io::{self, Read, Write};
use std::os::fd::{AsRawFd, OwnedFd, RawFd};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;
use tandem_repl::ids::Id128;
use tandem_repl::logic::resync::PRIVATE;

const PARKED: &[u8] = b"parked";
const NOTE: &std::ffi::CStr = c"resync";
const NEW_NOTE: &std::ffi::CStr = c"resync.new";
const DIRECTORY: i32 = libc::O_RDONLY | libc::O_DIRECTORY | libc::O_NOFOLLOW;

/// What is known of a resync that has not ended.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Unfinished {
    pub(super) baseline: Id128,
    /// The boot in which it was last sound.
    pub(super) boot: Id128,
    /// Whole trees were compared.
    pub(super) walked: bool,
}

/// Held while something is made in there, or the empty directory is removed.
static HOUSE: Mutex<()> = Mutex::new(());

fn house() -> MutexGuard<'static, ()> {
    HOUSE.lock().unwrap_or_else(PoisonError::into_inner)
}

/// The product's own directory; made if need be, without a trace on the root.
fn private(volume: &Volume, make: bool) -> io::Result<Option<OwnedFd>> {
    let root = volume.backing.root_fd();
    let name = cstring(PRIVATE)?;
    match sys::openat(root, &name, DIRECTORY, 0) {
        Ok(fd) => return Ok(Some(fd)),
        Err(e) if e.raw_os_error() != Some(libc::ENOENT) => return Err(e),
        Err(_) if !make => return Ok(None),
        Err(_) => {}
    }
    without_trace(root, || sys::mkdirat(root, &name, 0o700))?;
    sys::openat(root, &name, DIRECTORY, 0).map(Some)
}

/// Does something to a directory's entries and gives it back its times.
fn without_trace(dir: RawFd, work: impl FnOnce() -> io::Result<()>) -> io::Result<()> {
    assume_root();
    let before = sys::fstat(dir)?;
    work()?;
    let atime = (before.st_atime, before.st_atime_nsec as u32);
    let mtime = (before.st_mtime, before.st_mtime_nsec as u32);
    sys::utimens(dir, &super::super::apply::timespecs(atime, mtime))
}

/// The product's own directory, if there is one.
pub(super) fn own(volume: &Volume) -> io::Result<Option<OwnedFd>> {
    private(volume, false)
}

/// What an earlier start left: to be called while nothing else changes the tree.
pub(crate) fn tidy_at_start(volume: &Arc<Volume>) {
    if let Err(e) = remove_if_empty(volume) {
        tracing::warn!("{}: .tandem: {e}", volume.backing.path.display());
    }
    remove_swept(volume);
}

/// Removes the product's own directory if there is nothing in it. Nothing else may change the root
/// meanwhile: it gets the times back that it had.
pub(super) fn remove_if_empty(volume: &Volume) -> io::Result<()> {
    let _house = house();
    let root = volume.backing.root_fd();
    let name = cstring(PRIVATE)?;
    match without_trace(root, || sys::unlinkat(root, &name, libc::AT_REMOVEDIR)) {
        Err(e) if matches!(e.raw_os_error(), Some(libc::ENOENT | libc::ENOTEMPTY)) => Ok(()),
        result => result,
    }
}

/// A directory of its own in there.
pub(super) fn inner(volume: &Volume, name: &[u8], make: bool) -> io::Result<Option<OwnedFd>> {
    let _house = house();
    let Some(own) = private(volume, make)? else {
        return Ok(None);
    };
    let name = cstring(name)?;
    match sys::openat(own.as_raw_fd(), &name, DIRECTORY, 0) {
        Err(e) if e.raw_os_error() == Some(libc::ENOENT) && make => {
            assume_root();
            sys::mkdirat(own.as_raw_fd(), &name, 0o700)?;
            sys::openat(own.as_raw_fd(), &name, DIRECTORY, 0).map(Some)
        }
        Err(e) if e.raw_os_error() == Some(libc::ENOENT) => Ok(None),
        result => result.map(Some),
    }
}

pub(super) fn parked(volume: &Volume, make: bool) -> io::Result<Option<OwnedFd>> {
    inner(volume, PARKED, make)
}

pub(super) fn read_note(volume: &Volume) -> io::Result<Option<Unfinished>> {
    let Some(own) = private(volume, false)? else {
        return Ok(None);
    };
    let fd = match sys::openat(own.as_raw_fd(), NOTE, libc::O_RDONLY, 0) {
        Err(e) if e.raw_os_error() == Some(libc::ENOENT) => return Ok(None),
        result => result?,
    };
    let mut bytes = Vec::new();
    File::from(fd).take(64).read_to_end(&mut bytes)?;
    let id = |at: usize| -> Option<Id128> { Some(Id128(bytes.get(at..at + 16)?.try_into().ok()?)) };
    let read = || {
        Some(Unfinished {
            baseline: id(0)?,
            boot: id(16)?,
            walked: *bytes.get(32)? != 0,
        })
    };
    // A torn note says only that there was one: nothing that resync did is relied on.
    Ok(Some(read().unwrap_or(Unfinished {
        baseline: Id128::default(),
        boot: Id128::default(),
        walked: true,
    })))
}

/// Durable when it returns.
pub(super) fn write_note(volume: &Volume, note: &Unfinished) -> io::Result<()> {
    let _house = house();
    let own = private(volume, true)?.ok_or_else(|| io::Error::from_raw_os_error(libc::EIO))?;
    assume_root();
    let flags = libc::O_WRONLY | libc::O_CREAT | libc::O_TRUNC | libc::O_NOFOLLOW;
    let mut file = File::from(sys::openat(own.as_raw_fd(), NEW_NOTE, flags, 0o600)?);
    let mut bytes = [note.baseline.0, note.boot.0].concat();
    bytes.push(note.walked.into());
    file.write_all(&bytes)?;
    file.sync_all()?;
    sys::renameat2((own.as_raw_fd(), NEW_NOTE), (own.as_raw_fd(), NOTE), 0)?;
    sys::fsync(own.as_raw_fd(), false)
}

pub(super) fn drop_note(volume: &Volume) -> io::Result<()> {
    let Some(own) = private(volume, false)? else {
        return Ok(());
    };
    match sys::unlinkat(own.as_raw_fd(), NOTE, 0) {
        Err(e) if e.raw_os_error() == Some(libc::ENOENT) => Ok(()),
        result => result,
    }
}

/// Takes what is parked out of sight; it is removed in the background. The caller lets nobody else
/// change the tree.
pub(super) fn put_away(volume: &Arc<Volume>) -> io::Result<()> {
    sweep(volume)?;
    remove_if_empty(volume)?;
    remove_swept(volume);
    Ok(())
}

fn sweep(volume: &Volume) -> io::Result<()> {
    let Some(own) = private(volume, false)? else {
        return Ok(());
    };
    assume_root();
    let raw = own.as_raw_fd();
    for n in 0_u32.. {
        let to = cstring(format!("swept-{n}").as_bytes())?;
        match sys::renameat2((raw, &cstring(PARKED)?), (raw, &to), libc::RENAME_NOREPLACE) {
            Err(e) if e.raw_os_error() == Some(libc::EEXIST) => {}
            Err(e) if e.raw_os_error() == Some(libc::ENOENT) => return Ok(()),
            result => return result,
        }
    }
    Ok(())
}

/// When it is removed. Tests have no growth to wait for.
const LATER: Duration = Duration::from_secs(if cfg!(test) { 0 } else { 5 });

/// Removes what was swept, in the background; what an earlier start left, too. The directory around
/// it stays for the next resync or start: its removal would show in the root's times.
fn remove_swept(volume: &Arc<Volume>) {
    if !matches!(private(volume, false), Ok(Some(_))) {
        return;
    }
    let volume = volume.clone();
    let run = move || {
        // Not while the set grows: its flushes would wait for all that is removed.
        std::thread::sleep(LATER);
        if let Err(e) = remove_all_swept(&volume) {
            tracing::warn!("what a resync left behind is not removed: {e}");
        }
    };
    if let Err(e) = std::thread::Builder::new().name("sweep".into()).spawn(run) {
        tracing::warn!("what a resync left behind is removed by the next one: {e}");
    }
}

fn remove_all_swept(volume: &Volume) -> io::Result<()> {
    let Some(own) = private(volume, false)? else {
        return Ok(());
    };
    let (all, _) = names(&own, 0, usize::MAX)?;
    for name in all.iter().filter(|n| n.starts_with(b"swept-")) {
        remove_tree(&own, name)?;
    }
    Ok(())
}

/// Removes an entry and all below it. Descends by descriptors, so that no path is too long.
pub(super) fn remove_tree(parent: &OwnedFd, name: &[u8]) -> io::Result<()> {
    assume_root();
    let mut stack: Vec<(OwnedFd, Box<[u8]>)> = vec![(parent.try_clone()?, name.into())];
    while let Some((dir, name)) = stack.pop() {
        let cname = cstring(&name)?;
        let raw = dir.as_raw_fd();
        match unlocked(raw, || unlink(raw, &cname)) {
            Ok(()) => continue,
            Err(e) if e.raw_os_error() == Some(libc::ENOENT) => continue,
            Err(e) if e.raw_os_error() == Some(libc::ENOTEMPTY) => {}
            Err(e) => return Err(e),
        }
        let below = sys::openat(raw, &cname, DIRECTORY, 0)?;
        let (entries, _) = names(&below, 0, usize::MAX)?;
        stack.push((dir, name));
        for entry in entries {
            stack.push((below.try_clone()?, entry));
        }
    }
    Ok(())
}

fn unlink(dir: i32, name: &std::ffi::CStr) -> io::Result<()> {
    match sys::unlinkat(dir, name, 0) {
        Err(e) if e.raw_os_error() == Some(libc::EISDIR) => {
            sys::unlinkat(dir, name, libc::AT_REMOVEDIR)
        }
        Err(e) if e.raw_os_error() == Some(libc::EPERM) => {
            // An immutable file, as a rule.
            let fd = sys::openat(
                dir,
                name,
                libc::O_RDONLY | libc::O_NONBLOCK | libc::O_NOFOLLOW,
                0,
            )?;
            unlocked(fd.as_raw_fd(), || {
                Err::<(), _>(io::Error::from_raw_os_error(libc::EPERM))
            })
            .ok();
            sys::unlinkat(dir, name, 0)
        }
        result => result,
    }
}
