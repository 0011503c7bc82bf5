//! Covering a directory in place, and uncovering it.

use super::backing::Backing;
use super::fuse::Adapter;
use super::service::SERVERS;
use super::sys::{self, path_cstring};
use fuser::{Config, Notifier, Session, SessionACL};
use std::fs::{File, OpenOptions};
use std::io;
use std::os::fd::{AsFd, OwnedFd};
use std::path::{Path, PathBuf};
use std::thread::JoinHandle;
use thiserror::Error;

/// Why a directory cannot be replicated.
#[derive(Debug, Error)]
pub enum MountError {
    #[error("{}: {source}; make the directory, or correct its path in the module", path.display())]
    Directory { path: PathBuf, source: io::Error },
    #[error("{}: not a directory; replicate the directory that holds it", path.display())]
    NotADirectory { path: PathBuf },
    #[error(
        "{}: already covered by a replicated directory; is the module running?",
        path.display()
    )]
    AlreadyMounted { path: PathBuf },
    #[error(
        "{}: the file system mounted at {} lies inside and would not be replicated; unmount it, \
         or make it a directory of its own in the module",
        path.display(), inside.display()
    )]
    Submount { path: PathBuf, inside: PathBuf },
    #[error(
        "{}: its file system has no extended attributes ({source}); use ext4, xfs or btrfs",
        path.display()
    )]
    NoXattrs { path: PathBuf, source: io::Error },
    #[error("{}: its file system cannot be used for replication: {source}", path.display())]
    Unusable { path: PathBuf, source: io::Error },
    #[error("/dev/fuse: {0}; load the fuse module (`modprobe fuse`)")]
    NoFuse(io::Error),
    #[error("{}: cannot be covered: {source}", path.display())]
    Mount { path: PathBuf, source: io::Error },
}

/// Checks a directory and takes hold of its underlying tree, touching nothing but what a dead
/// daemon left on it.
pub(crate) fn examine(path: &Path) -> Result<Backing, MountError> {
    let path = path.to_path_buf();
    uncover_dead(&path);
    let meta = std::fs::metadata(&path).map_err(|source| MountError::Directory {
        path: path.clone(),
        source,
    })?;
    if !meta.is_dir() {
        return Err(MountError::NotADirectory { path });
    }
    for mount in mounts() {
        if mount.point == path && mount.kind.starts_with("fuse.tandem") {
            return Err(MountError::AlreadyMounted { path });
        }
        if mount.point != path && mount.point.starts_with(&path) {
            return Err(MountError::Submount {
                path,
                inside: mount.point,
            });
        }
    }
    let backing = Backing::open(&path).map_err(|source| MountError::Unusable {
        path: path.clone(),
        source,
    })?;
    match sys::getxattr(backing.root_fd(), c"trusted.tandem", &mut []) {
        Err(e) if e.raw_os_error() == Some(libc::EOPNOTSUPP) => {
            return Err(MountError::NoXattrs { path, source: e });
        }
        _ => {}
    }
    Ok(backing)
}

/// A daemon that was killed leaves its mount behind, on which every access fails. Nobody can serve
/// that one any more, so it is taken away; who has files open through it keeps their errors.
fn uncover_dead(path: &Path) {
    while let Err(e) = std::fs::metadata(path) {
        let dead = e.raw_os_error() == Some(libc::ENOTCONN);
        let Ok(target) = path_cstring(path) else {
            return;
        };
        if !dead || !is_mounted(path) || sys::umount(&target, libc::MNT_DETACH).is_err() {
            return;
        }
        tracing::warn!("{}: the cover of a dead daemon is removed", path.display());
    }
}

/// A line of the mount table.
struct MountLine {
    point: PathBuf,
    kind: String,
}

fn mounts() -> Vec<MountLine> {
    let text = std::fs::read_to_string("/proc/self/mountinfo").unwrap_or_default();
    let lines = text.lines().filter_map(|line| {
        let (left, right) = line.split_once(" - ")?;
        let point = unescape(left.split(' ').nth(4)?);
        Some(MountLine {
            point,
            kind: right.split(' ').next()?.to_string(),
        })
    });
    lines.collect()
}

/// Where the file system below a directory is mounted.
pub(crate) fn file_system_at(path: &Path) -> io::Result<PathBuf> {
    let path = std::fs::canonicalize(path)?;
    let mounts = mounts().into_iter();
    let above = mounts.filter(|m| path.starts_with(&m.point) && !m.kind.starts_with("fuse.tandem"));
    let nearest = above.max_by_key(|m| m.point.components().count());
    nearest
        .map(|m| m.point)
        .ok_or_else(|| io::ErrorKind::NotFound.into())
}

/// The mount table writes blanks and the like as `\040`.
fn unescape(text: &str) -> PathBuf {
    use std::os::unix::ffi::OsStringExt;
    let mut out = Vec::new();
    let mut rest = text.as_bytes();
    while let Some((first, tail)) = rest.split_first() {
        let octal = tail.get(..3).and_then(|d| std::str::from_utf8(d).ok());
        let code = octal.and_then(|d| u8::from_str_radix(d, 8).ok());
        match code.filter(|_| *first == b'\\') {
            Some(code) => {
                out.push(code);
                rest = &tail[3..];
            }
            None => {
                out.push(*first);
                rest = tail;
            }
        }
    }
    PathBuf::from(std::ffi::OsString::from_vec(out))
}

/// A covered directory. Dropping it uncovers it.
pub(crate) struct Mounted {
    path: PathBuf,
    thread: Option<JoinHandle<io::Result<()>>>,
}

impl Mounted {
    pub(crate) fn start(
        module: &str,
        adapter: Adapter,
        devices: bool,
    ) -> Result<(Self, Notifier), MountError> {
        let path = adapter.volume.backing.path.clone();
        let failed = |source| MountError::Mount {
            path: path.clone(),
            source,
        };
        let mut options = OpenOptions::new();
        let device: File = options
            .read(true)
            .write(true)
            .open("/dev/fuse")
            .map_err(MountError::NoFuse)?;
        let source = sys::cstring(format!("tandem:{module}").as_bytes()).map_err(failed)?;
        let target = path_cstring(&path).map_err(failed)?;
        let flags = inherited_flags(adapter.volume.backing.root_fd(), devices);
        sys::mount_fuse(&source, &target, device.as_fd(), flags).map_err(failed)?;
        // From here on the mount must not outlive a failure.
        let mut mounted = Self {
            path: path.clone(),
            thread: None,
        };
        let mut config = Config::default();
        config.acl = SessionACL::All;
        config.n_threads = Some(SERVERS);
        config.clone_fd = false;
        let device = OwnedFd::from(device);
        let session = Session::from_fd(adapter, device, SessionACL::All, config).map_err(failed)?;
        let notifier = session.notifier();
        let run = move || session.run();
        let thread = std::thread::Builder::new().name("fuse".into()).spawn(run);
        mounted.thread = Some(thread.map_err(failed)?);
        Ok((mounted, notifier))
    }

    /// Uncovers the directory. Files still open through it go on to be served until they are
    /// closed.
    pub(crate) fn stop(&mut self) {
        let Ok(target) = path_cstring(&self.path) else {
            return;
        };
        if let Err(e) = sys::umount(&target, 0)
            && e.raw_os_error() == Some(libc::EBUSY)
        {
            tracing::warn!(
                "{} is in use; it is uncovered all the same",
                self.path.display()
            );
            let _ = sys::umount(&target, libc::MNT_DETACH);
        }
        if let Some(thread) = self.thread.take_if(|t| t.is_finished()) {
            let _ = thread.join();
        }
    }
}

impl Drop for Mounted {
    fn drop(&mut self) {
        self.stop();
    }
}

/// The cover forbids what the covered file system forbids, and devices unless configured.
fn inherited_flags(root: i32, devices: bool) -> libc::c_ulong {
    let below = sys::fstatvfs(root).map_or(0, |s| s.f_flag);
    let mut flags = libc::MS_NOATIME;
    for (bit, flag) in [
        (libc::ST_NOSUID, libc::MS_NOSUID),
        (libc::ST_NOEXEC, libc::MS_NOEXEC),
    ] {
        if below & bit != 0 {
            flags |= flag;
        }
    }
    if below & libc::ST_NODEV != 0 || !devices {
        flags |= libc::MS_NODEV;
    }
    flags
}

/// Whether a replicated directory covers `path` now.
pub(crate) fn is_mounted(path: &Path) -> bool {
    mounts()
        .iter()
        .any(|m| m.point == path && m.kind.starts_with("fuse.tandem"))
}
