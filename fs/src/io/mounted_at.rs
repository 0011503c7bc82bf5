//! Where the file systems of the replicated directories are mounted, remembered between starts.
//!
//! A directory that has a disk of its own is there without it, too, and empty. A machine that
//! has booted without it (a mount that failed, or that comes later) must not take that for what
//! became of the data: it would serve nothing, and the peer's copy would follow. What somebody has
//! changed in a directory while the module was stopped is another matter ([`super::outside`]).

use super::mount::file_system_at;
use std::collections::BTreeMap;
use std::fs::{self, File};
use std::io::{self, Write};
use std::path::{Path, PathBuf};
use thiserror::Error;

/// In the module's state directory.
const NAME: &str = "mounts.json";

/// A directory, and where the file system is mounted that it is on.
type Places = BTreeMap<PathBuf, PathBuf>;

/// A directory is not where it was.
#[derive(Debug, Error)]
#[error(
    "{}: its file system was mounted at {}, now it is the one at {}; mount it, or, if the data is \
     where it should be, remove {}",
    directory.display(), was.display(), now.display(), file.display()
)]
pub struct Elsewhere {
    directory: PathBuf,
    was: PathBuf,
    now: PathBuf,
    file: PathBuf,
}

/// Compares with the last start, and notes for the next one. `expected`: there is data that must be
/// found again.
///
/// # Errors
/// A directory is on another file system's mount than it was.
pub(crate) fn compare<'p>(
    state_dir: &Path,
    directories: impl Iterator<Item = &'p Path>,
    expected: bool,
) -> Result<(), Elsewhere> {
    let place = |directory: &'p Path| match file_system_at(directory) {
        Ok(at) => Some((directory.to_path_buf(), at)),
        Err(e) => {
            tracing::warn!("{}: its mount is not known: {e}", directory.display());
            None
        }
    };
    compare_with(state_dir, directories.filter_map(place).collect(), expected)
}

fn compare_with(state_dir: &Path, now: Places, expected: bool) -> Result<(), Elsewhere> {
    let file = state_dir.join(NAME);
    let before = read(&file);
    for (directory, now) in now.iter().filter(|_| expected) {
        if let Some(was) = before.get(directory).filter(|was| *was != now) {
            return Err(Elsewhere {
                directory: directory.clone(),
                was: was.clone(),
                now: now.clone(),
                file,
            });
        }
    }
    if before != now
        && let Err(e) = write(&file, &now)
    {
        // The next start knows less; nothing else is wrong.
        tracing::warn!("{}: {e}", file.display());
    }
    Ok(())
}

/// Empty where nothing is known, as before the first start.
fn read(file: &Path) -> Places {
    let text = match fs::read(file) {
        Ok(text) => text,
        Err(e) => {
            if e.kind() != io::ErrorKind::NotFound {
                tracing::warn!("{}: {e}", file.display());
            }
            return Places::new();
        }
    };
    serde_json::from_slice(&text).unwrap_or_else(|e| {
        tracing::warn!("{}: {e}; it is written anew", file.display());
        Places::new()
    })
}

fn write(file: &Path, places: &Places) -> io::Result<()> {
    let draft = file.with_extension("new");
    let mut out = File::create(&draft)?;
    out.write_all(&serde_json::to_vec(places)?)?;
    out.sync_all()?;
    fs::rename(&draft, file)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn places(at: &str) -> Places {
        Places::from([("/srv/shop".into(), at.into())])
    }

    #[test]
    fn a_disk_that_is_missing_is_noticed_and_one_that_returns_is_taken() {
        let dir = std::env::temp_dir().join(format!("mounted-at-{}", std::process::id()));
        fs::create_dir_all(&dir).unwrap();
        // Nothing to be lost yet.
        compare_with(&dir, places("/"), true).unwrap();
        compare_with(&dir, places("/srv/shop"), false).unwrap();
        compare_with(&dir, places("/srv/shop"), true).unwrap();
        for _ in 0..2 {
            let error = compare_with(&dir, places("/"), true).unwrap_err();
            let said = error.to_string();
            assert!(said.contains("/srv/shop: its file system was"), "{said}");
            assert!(said.contains("mounts.json"), "{said}");
        }
        compare_with(&dir, places("/srv/shop"), true).unwrap();
        // The operator's word, and a file that nobody can read.
        fs::remove_file(dir.join(NAME)).unwrap();
        compare_with(&dir, places("/"), true).unwrap();
        fs::write(dir.join(NAME), "{").unwrap();
        compare_with(&dir, places("/srv/shop"), true).unwrap();
        assert!(compare_with(&dir, places("/"), true).is_err());
        // Another directory is new.
        compare_with(&dir, Places::from([("/srv/desk".into(), "/".into())]), true).unwrap();
        fs::remove_dir_all(&dir).unwrap();
    }

    #[test]
    fn a_directory_is_on_the_nearest_mount_above_it() {
        assert_eq!(
            file_system_at(Path::new("/proc/self")).unwrap(),
            Path::new("/proc")
        );
        assert!(file_system_at(Path::new("/nowhere/at/all")).is_err());
    }
}
