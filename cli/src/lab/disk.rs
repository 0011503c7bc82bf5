//! A node's disk: a sparse image, formatted by us, loop-mounted in the host's mount namespace.
//!
//! The mount takes the propagation of the file system below it. Were it made private, a copy in
//! another program's mount namespace would outlive our unmount and keep the loop device busy.

use std::fs::{self, OpenOptions};
use std::path::Path;
use std::thread;
use std::time::{Duration, Instant};

use anyhow::{Context, Result};

use super::place::NodePlace;
use super::{loopdev, mkext4, mounts, sys};

/// The kernel frees a loop device shortly after the unmount.
const RELEASE_LIMIT: Duration = Duration::from_secs(5);
const RELEASE_PAUSE: Duration = Duration::from_millis(20);

/// Makes the image. It must not exist.
pub(crate) fn create(place: &NodePlace, size: u64, label: &str) -> Result<()> {
    let path = place.image();
    let image = OpenOptions::new()
        .read(true)
        .write(true)
        .create_new(true)
        .open(&path)
        .with_context(|| format!("create {}", path.display()))?;
    mkext4::format(&image, size, label).with_context(|| format!("format {}", path.display()))
}

/// Mounts the image, unless it is mounted, and makes the directories that every disk has.
pub(crate) fn mount(place: &NodePlace) -> Result<()> {
    let (image, point) = (place.image(), place.disk());
    if !mounts::below(&point)?.contains(&point) {
        fs::create_dir_all(&point).with_context(|| format!("create {}", point.display()))?;
        let device = loopdev::attach(&image)
            .with_context(|| format!("attach {} to a loop device", image.display()))?;
        sys::mount(&device.path, &point, "ext4", libc::MS_NOATIME).with_context(|| {
            let device = device.path.display();
            format!(
                "mount {device} on {}; see the kernel's log",
                point.display()
            )
        })?;
    }
    for dir in [place.replica(), place.state()] {
        fs::create_dir_all(&dir).with_context(|| format!("create {}", dir.display()))?;
    }
    Ok(())
}

/// Frees the loop devices of an image that is no longer mounted.
pub(crate) fn release(image: &Path) -> Result<()> {
    let start = Instant::now();
    loop {
        let devices = loopdev::attached(image);
        let Some(device) = devices.first() else {
            return Ok(());
        };
        if start.elapsed() >= RELEASE_LIMIT {
            return loopdev::detach(device).with_context(|| format!("free {}", device.display()));
        }
        thread::sleep(RELEASE_PAUSE);
    }
}
