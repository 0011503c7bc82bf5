//! A node's disk that fails where a file lies: the node's image, a file that a loop device reads,
//! is shortened to where the file begins, so that reading from there on fails as a bad sector does,
//! and writing there makes it good again; or it lies on a file system that is full, so that writing
//! to a hole in the image fails.

use crate::sys;
use anyhow::{Context, Result, ensure};
use std::fs::{self, File, OpenOptions};
use std::os::fd::{AsRawFd, OwnedFd};
use std::os::unix::fs::FileExt;
use std::path::{Path, PathBuf};
use std::process::Command;

/// Where the first piece of a file lies on its disk, and the piece's length, bytes. The file must
/// be in one piece and synced.
///
/// # Errors
/// A file system that does not tell, or a file in pieces.
pub fn place(file: &Path) -> Result<(u64, u64)> {
    let fd = OwnedFd::from(File::open(file)?);
    let size = fs::metadata(file)?.len();
    let (at, length) = sys::first_extent(&fd).map_err(|e| anyhow::anyhow!("fiemap: {e}"))?;
    ensure!(
        at > 0 && length >= size,
        "{} lies in pieces",
        file.display()
    );
    Ok((at, length))
}

/// Makes everything unreadable from where `file` lies, forgets what of it is in memory, and returns
/// the length that the image had.
///
/// # Errors
/// As of [`place`].
pub fn unreadable_from(image: &Path, file: &Path) -> Result<u64> {
    let whole = fs::metadata(image)?.len();
    let (at, _) = place(file)?;
    forget(file)?;
    OpenOptions::new().write(true).open(image)?.set_len(at)?;
    let mut byte = [0];
    let read = File::open(file)?.read_at(&mut byte, 0);
    ensure!(read.is_err(), "{} is readable still", file.display());
    Ok(whole)
}

/// Makes an image as long as it was; what was lost reads as zeros.
///
/// # Errors
/// Those of the file system.
pub fn lengthen(image: &Path, length: u64) -> Result<()> {
    Ok(OpenOptions::new()
        .write(true)
        .open(image)?
        .set_len(length)?)
}

/// Drops a file's pages from memory.
///
/// # Errors
/// Those of the file system.
pub fn forget(file: &Path) -> Result<()> {
    let file = File::open(file)?;
    file.sync_all()?;
    // SAFETY: takes numbers only.
    let errno = unsafe { libc::posix_fadvise(file.as_raw_fd(), 0, 0, libc::POSIX_FADV_DONTNEED) };
    ensure!(errno == 0, "fadvise: errno {errno}");
    Ok(())
}

/// A small file system in memory for the images of a cluster; gone when it is dropped.
pub struct Small(PathBuf);

impl Small {
    /// # Errors
    /// Those of `mount`.
    pub fn new(name: &str, megabytes: u64) -> Result<Self> {
        let dir = std::env::temp_dir().join(format!("tandem-small-{}-{name}", std::process::id()));
        fs::create_dir_all(&dir)?;
        let mounted = Command::new("mount")
            .args(["-t", "tmpfs", "-o", &format!("size={megabytes}m"), "tmpfs"])
            .arg(&dir)
            .status();
        ensure!(mounted.context("mount")?.success(), "mount of a tmpfs");
        Ok(Self(dir))
    }

    pub fn path(&self) -> &Path {
        &self.0
    }

    /// Takes all room that is left.
    ///
    /// # Errors
    /// Those of the file system, but for its being full.
    pub fn fill(&self) -> Result<()> {
        let file = File::create(self.0.join("filler"))?;
        let block = vec![1u8; 1 << 20];
        for size in [1 << 20, 4096] {
            while file
                .write_at(&block[..size], file.metadata()?.len())
                .is_ok_and(|n| n == size)
            {}
        }
        Ok(())
    }
}

impl Small {
    /// Makes room again.
    ///
    /// # Errors
    /// Those of the file system.
    pub fn empty(&self) -> Result<()> {
        Ok(fs::remove_file(self.0.join("filler"))?)
    }
}

impl Drop for Small {
    fn drop(&mut self) {
        let _ = Command::new("umount").arg("-l").arg(&self.0).status();
        let _ = fs::remove_dir(&self.0);
    }
}

/// Takes room for the whole image.
///
/// # Errors
/// No room.
pub fn take_room(image: &Path) -> Result<()> {
    let image = OwnedFd::from(OpenOptions::new().write(true).open(image)?);
    let length = File::from(image.try_clone()?).metadata()?.len();
    sys::fallocate(&image, 0, 0, length.cast_signed())
        .map_err(|e| anyhow::anyhow!("fallocate: {e}"))
}

/// Takes the room of a file from the image of its disk, so that changing the file needs new room.
///
/// # Errors
/// As of [`place`].
pub fn punch(image: &Path, file: &Path) -> Result<()> {
    let (at, length) = place(file)?;
    let image = OwnedFd::from(OpenOptions::new().write(true).open(image)?);
    let mode = libc::FALLOC_FL_PUNCH_HOLE | libc::FALLOC_FL_KEEP_SIZE;
    sys::fallocate(&image, mode, at.cast_signed(), length.cast_signed())
        .map_err(|e| anyhow::anyhow!("fallocate: {e}"))
}
