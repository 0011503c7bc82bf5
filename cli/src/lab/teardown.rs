//! `tandem lab down`: removing a lab, whatever state it is in.
//!
//! Processes are in `lab.json`, all else follows from the directory. Every step is one that may be
//! repeated, so a lab half removed by a crash is removed the rest of the way by the next `down`.

use std::fs;
use std::io::ErrorKind;
use std::os::unix::ffi::OsStrExt;
use std::path::{Path, PathBuf};

use anyhow::{Context, Result, bail};

use super::place::{DEFAULT_ROOT, Place};
use super::state::{Lock, State};
use super::{disk, mounts};

/// Removes the lab in `place`. There need not be one.
pub(crate) fn down(place: &Place) -> Result<()> {
    if !place.dir().exists() {
        return Ok(());
    }
    if !place.state().exists() && !place.lock().exists() {
        return remove_empty(place);
    }
    match Lock::take(place)? {
        Some(lock) => remove(place, lock),
        None => Ok(()),
    }
}

/// An `up` that was killed at once may have left an empty directory. Elsewhere than in the default
/// place it may also be the user's own, and stays.
fn remove_empty(place: &Place) -> Result<()> {
    let dir = place.dir();
    let mut entries = fs::read_dir(dir).with_context(|| format!("read {}", dir.display()))?;
    if entries.next().is_some() {
        bail!("{} is not a lab; nothing was removed", dir.display());
    }
    if dir.parent() == Some(Path::new(DEFAULT_ROOT)) {
        absent(fs::remove_dir(dir), dir)?;
        let _ = fs::remove_dir(DEFAULT_ROOT);
    }
    Ok(())
}

/// Removes the lab whose lock is held.
pub(crate) fn remove(place: &Place, lock: Lock) -> Result<()> {
    // Made, and died before it knew what it would be: an empty directory with a lock.
    let state = State::read(place)?;
    if let Some(state) = &state {
        for node in &state.nodes {
            if let Some(init) = &node.init {
                init.kill().with_context(|| format!("kill {}", node.name))?;
            }
        }
        if let Some(hub) = &state.hub {
            hub.kill().context("kill the bridge's holder")?;
        }
    }
    let dir = place.dir();
    for point in mounts::below(dir)?
        .iter()
        .rev()
        .filter(|point| *point != dir)
    {
        mounts::unmount(point).with_context(|| format!("unmount {}", point.display()))?;
    }
    for node in state.iter().flat_map(|state| &state.nodes) {
        disk::release(&place.node(&node.name).image())?;
    }
    remove_files(place, state.as_ref(), lock)
}

/// Removes what the lab made and nothing else. `lab.json` goes last but for the lock: what is left
/// after a crash is still known to be a lab.
fn remove_files(place: &Place, state: Option<&State>, lock: Lock) -> Result<()> {
    for node in state.iter().flat_map(|state| &state.nodes) {
        let dir = place.node(&node.name).dir().to_path_buf();
        absent(fs::remove_dir_all(&dir), &dir)?;
    }
    let files = [
        place.hub_log(),
        place.state_draft(),
        place.state(),
        place.lock(),
    ];
    for file in files {
        absent(fs::remove_file(&file), &file)?;
    }
    drop(lock);
    if state.is_none_or(|state| state.made_dir) {
        absent(fs::remove_dir(place.dir()), place.dir())?;
        // Other labs may be in there; then it stays.
        let _ = fs::remove_dir(DEFAULT_ROOT);
    }
    Ok(())
}

fn absent(removed: std::io::Result<()>, path: &Path) -> Result<()> {
    match removed {
        Err(error) if error.kind() == ErrorKind::NotFound => Ok(()),
        other => other.with_context(|| format!("remove {}", path.display())),
    }
}

/// Directories of labs that have a process, from the arguments of those processes.
pub(crate) fn dirs_of_processes() -> Vec<PathBuf> {
    let entries = fs::read_dir("/proc").into_iter().flatten().flatten();
    let lines = entries.filter_map(|entry| fs::read(entry.path().join("cmdline")).ok());
    lines.filter_map(|line| dir_of(&line)).collect()
}

/// `--dir` in the arguments of an init process.
fn dir_of(line: &[u8]) -> Option<PathBuf> {
    let mut arguments = line.split(|&byte| byte == 0);
    let (_, command) = (arguments.next()?, arguments.next()?);
    if command != b"lab-node" || !arguments.any(|argument| argument == b"--dir") {
        return None;
    }
    arguments
        .next()
        .map(|dir| PathBuf::from(std::ffi::OsStr::from_bytes(dir)))
}

#[cfg(test)]
#[allow(clippy::unwrap_used)]
mod tests {
    use super::*;

    #[test]
    fn an_init_tells_its_lab() {
        let line = b"tandem\0lab-node\0--init\0--node\0node1\0--dir\0/run/x y\0--daemon\0";
        assert_eq!(dir_of(line), Some(PathBuf::from("/run/x y")));
        assert_eq!(dir_of(b"tandem\0lab\0up\0--dir\0/run/x\0"), None);
        assert_eq!(dir_of(b""), None);
    }
}
