//! Bare directories to test on: a small ext4 of its own for root, a temporary directory otherwise.
//!
//! The ext4 is mounted in a mount namespace that ends at once; after that only the descriptor of
//! the directory keeps it, and its image file has no name any more: whatever kills the test
//! process, nothing is left behind. Everybody works through the descriptor.

use crate::sys::{self, Sys};
use anyhow::{Context, Result, ensure};
use std::os::fd::OwnedFd;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::sync::atomic::{AtomicU32, Ordering};
use std::thread;

/// Size of the image; it is sparse.
const IMAGE_BYTES: u64 = 1 << 30;

/// A bare directory that vanishes on drop.
pub struct Scratch {
    dir: OwnedFd,
    plain: Option<PathBuf>,
}

impl Scratch {
    /// Makes one. As root it is an empty ext4, else a directory where temporary files live.
    pub fn new() -> Result<Self> {
        let place = unique_path();
        std::fs::create_dir(&place).with_context(|| format!("mkdir {}", place.display()))?;
        if !sys::is_root() {
            let dir = open_dir(&place)?;
            return Ok(Self {
                dir,
                plain: Some(place),
            });
        }
        let mounted = thread::scope(|scope| scope.spawn(|| mount_image(&place)).join());
        std::fs::remove_dir(&place).with_context(|| format!("rmdir {}", place.display()))?;
        let dir = mounted.unwrap_or_else(|panic| std::panic::resume_unwind(panic))?;
        Ok(Self { dir, plain: None })
    }

    /// The directory.
    pub fn dir(&self) -> &OwnedFd {
        &self.dir
    }
}

impl Drop for Scratch {
    fn drop(&mut self) {
        if let Some(place) = &self.plain {
            std::fs::remove_dir_all(place).ok();
        }
    }
}

fn unique_path() -> PathBuf {
    static NEXT: AtomicU32 = AtomicU32::new(0);
    let number = NEXT.fetch_add(1, Ordering::Relaxed);
    std::env::temp_dir().join(format!("tandem-test-{}-{number}", std::process::id()))
}

/// Runs in a thread of its own, whose mount namespace ends with it.
fn mount_image(place: &Path) -> Result<OwnedFd> {
    sys::private_fs().context("unshare(CLONE_FS)")?;
    sys::private_mounts().context("unshare(CLONE_NEWNS)")?;
    sys::mount("none", "/", "none", libc::MS_REC | libc::MS_PRIVATE).context("private mounts")?;
    let image = place.with_extension("img");
    let made = make_and_mount(&image, place);
    std::fs::remove_file(&image).ok();
    made?;
    open_dir(place)
}

fn make_and_mount(image: &Path, place: &Path) -> Result<()> {
    let file = std::fs::File::create(image).with_context(|| format!("{}", image.display()))?;
    file.set_len(IMAGE_BYTES).context("image size")?;
    run(Command::new("mkfs.ext4")
        .args(["-q", "-F", "-E", "lazy_journal_init=1"])
        .arg(image))?;
    run(Command::new("mount")
        .args(["-o", "loop,noatime"])
        .arg(image)
        .arg(place))
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
