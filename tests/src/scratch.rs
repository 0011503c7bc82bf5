//! Bare directories to test on: a small ext4 of its own for root, a temporary directory otherwise.
//!
//! The ext4 is mounted in a mount namespace of its own and its image file has no name any more:
//! whatever kills the test process, nothing is left behind. Everybody works through the descriptor
//! of the directory; who must stand in the namespace (the kernel obeys suid bits only there) uses
//! [`Place::inside`].

use crate::sys::{self, Sys};
use anyhow::{Context, Result, ensure};
use std::os::fd::OwnedFd;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::sync::atomic::{AtomicU32, Ordering};
use std::thread;

/// Size of the image; it is sparse.
const IMAGE_BYTES: u64 = 1 << 30;

/// A directory, and the mount namespace in which it is at home.
pub struct Place {
    pub dir: OwnedFd,
    pub mounts: Option<OwnedFd>,
}

impl Place {
    /// Runs `act` in a thread of its own that stands in the directory, in its namespace.
    pub fn inside<T: Send>(&self, act: impl FnOnce() -> T + Send) -> T {
        inside(&self.dir, || {
            if let Some(mounts) = &self.mounts {
                sys::enter_mounts(mounts).expect("root enters a namespace it has open");
                sys::fchdir(&self.dir).expect("a directory that the caller has open");
            }
            act()
        })
    }
}

/// A bare directory that vanishes on drop.
pub struct Scratch {
    place: Place,
    plain: Option<PathBuf>,
}

impl Scratch {
    /// Makes one. As root it is an empty ext4, else a directory where temporary files live.
    pub fn new() -> Result<Self> {
        if sys::is_root() {
            return Self::mounted(mount_image);
        }
        let path = unique_path();
        std::fs::create_dir(&path).with_context(|| format!("mkdir {}", path.display()))?;
        let place = Place {
            dir: open_dir(&path)?,
            mounts: None,
        };
        Ok(Self {
            place,
            plain: Some(path),
        })
    }

    /// A file system in memory. It differs from an ext4 in known ways, which a comparison of the
    /// two must find.
    pub fn in_memory() -> Result<Self> {
        Self::mounted(|_| sys::mount("none", "/mnt", "tmpfs", 0).context("mount of a tmpfs"))
    }

    /// Mounts something on `/mnt`, for one namespace only.
    fn mounted(mount: fn(&Path) -> Result<()>) -> Result<Self> {
        let mounted = thread::scope(|scope| scope.spawn(|| mount_aside(mount)).join());
        let place = mounted.unwrap_or_else(|panic| std::panic::resume_unwind(panic))?;
        Ok(Self { place, plain: None })
    }

    /// The directory.
    pub fn dir(&self) -> &OwnedFd {
        &self.place.dir
    }

    pub fn place(&self) -> &Place {
        &self.place
    }
}

impl Drop for Scratch {
    fn drop(&mut self) {
        if let Some(path) = &self.plain {
            std::fs::remove_dir_all(path).ok();
        }
    }
}

fn unique_path() -> PathBuf {
    static NEXT: AtomicU32 = AtomicU32::new(0);
    let number = NEXT.fetch_add(1, Ordering::Relaxed);
    std::env::temp_dir().join(format!("tandem-test-{}-{number}", std::process::id()))
}

/// Runs in a thread of its own, which lends its namespace to the place.
fn mount_aside(mount: fn(&Path) -> Result<()>) -> Result<Place> {
    sys::private_fs().context("unshare(CLONE_FS)")?;
    sys::private_mounts().context("unshare(CLONE_NEWNS)")?;
    sys::mount("none", "/", "none", libc::MS_REC | libc::MS_PRIVATE).context("private mounts")?;
    let_go_of_disks()?;
    let at = Path::new("/mnt");
    mount(at)?;
    let mounts = sys::open("/proc/thread-self/ns/mnt", libc::O_RDONLY, 0).context("namespace")?;
    Ok(Place {
        dir: open_dir(at)?,
        mounts: Some(mounts),
    })
}

/// The new namespace is a copy: it would keep every disk of this machine busy that somebody mounts
/// for a while, such as those of a lab.
fn let_go_of_disks() -> Result<()> {
    let mounts = std::fs::read_to_string("/proc/thread-self/mounts").context("list of mounts")?;
    let points = mounts.lines().filter_map(|line| line.split(' ').nth(1));
    let passing = [
        "/run/",
        "/mnt/",
        "/media/",
        "/tmp/",
        "/var/tmp/",
        "/srv/",
        "/home/",
    ];
    let mut passing: Vec<_> = points
        .filter(|point| passing.iter().any(|place| point.starts_with(place)))
        .collect();
    passing.reverse();
    for point in passing {
        // One that is below another just detached is gone with it.
        sys::detach(point).ok();
    }
    Ok(())
}

fn mount_image(at: &Path) -> Result<()> {
    let image = unique_path();
    let made = make_and_mount(&image, at);
    std::fs::remove_file(&image).ok();
    made
}

fn make_and_mount(image: &Path, at: &Path) -> Result<()> {
    let file = std::fs::File::create(image).with_context(|| format!("{}", image.display()))?;
    file.set_len(IMAGE_BYTES).context("image size")?;
    run(Command::new("mkfs.ext4")
        .args(["-q", "-F", "-E", "lazy_journal_init=1"])
        .arg(image))?;
    run(Command::new("mount")
        .args(["-o", "loop,noatime"])
        .arg(image)
        .arg(at))
}

fn run(command: &mut Command) -> Result<()> {
    let output = command.output().with_context(|| format!("{command:?}"))?;
    let said = String::from_utf8_lossy(&output.stderr);
    ensure!(
        output.status.success(),
        "{command:?}: {}: {said}",
        output.status
    );
    Ok(())
}

/// Opens a directory for use as a starting point.
pub fn open_dir(path: &Path) -> Result<OwnedFd> {
    use std::os::unix::ffi::OsStrExt;
    let name = path.as_os_str().as_bytes();
    sys::open(name, libc::O_RDONLY | libc::O_DIRECTORY, 0)
        .with_context(|| format!("open {}", path.display()))
}

/// Makes a directory in `parent`, open to everybody, and opens it.
pub fn subdir(parent: &OwnedFd, name: &str) -> Result<OwnedFd> {
    inside(parent, || -> Sys<OwnedFd> {
        sys::mkdir(name, 0o777)?;
        sys::chmod(name, 0o777)?;
        sys::open(name, libc::O_RDONLY | libc::O_DIRECTORY, 0)
    })
    .with_context(|| format!("mkdir {name}"))
}

/// Runs `act` in a thread of its own whose working directory is `dir` and whose umask is 022.
/// A panic inside goes on outside.
pub fn inside<T: Send>(dir: &OwnedFd, act: impl FnOnce() -> T + Send) -> T {
    thread::scope(|scope| {
        let handle = scope.spawn(|| {
            sys::private_fs().expect("unshare(CLONE_FS) needs no right");
            sys::fchdir(dir).expect("a directory that the caller has open");
            sys::umask(0o022);
            act()
        });
        handle
            .join()
            .unwrap_or_else(|panic| std::panic::resume_unwind(panic))
    })
}
