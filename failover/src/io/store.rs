//! What the manager keeps: what operators want, durably; what runs here, for a successor on this
//! boot; the failovers that were.

use crate::control::Failover;
use crate::logic::api::Wants;
use crate::logic::level::Running;
use serde::de::DeserializeOwned;
use std::fs::{self, File};
use std::io::{self, Write};
use std::path::{Path, PathBuf};
use thiserror::Error;

/// Failovers kept of each module.
const MAX_FAILOVERS: usize = 200;

/// Why something could not be kept or found again.
#[derive(Debug, Error)]
pub enum StoreError {
    #[error("{}: {source}", path.display())]
    Io { path: PathBuf, source: io::Error },
    #[error(
        "{}: {why}; remove the file, then `tandem start` or `tandem stop` says anew what is wanted",
        path.display()
    )]
    Damaged { path: PathBuf, why: String },
}

/// The files of one module.
#[derive(Clone, Debug)]
pub struct Store {
    wants: PathBuf,
    running: PathBuf,
    failovers: PathBuf,
}

impl Store {
    /// `state_dir` is the module's own, `run_dir` the manager's.
    ///
    /// # Errors
    /// A directory that cannot be made.
    pub fn open(state_dir: &Path, run_dir: &Path, module: &str) -> Result<Self, StoreError> {
        for dir in [state_dir, run_dir] {
            fs::create_dir_all(dir).map_err(|source| StoreError::Io {
                path: dir.into(),
                source,
            })?;
        }
        Ok(Self {
            wants: state_dir.join("wants.json"),
            running: run_dir.join(format!("{module}.running.json")),
            failovers: state_dir.join("failovers.json"),
        })
    }

    /// What operators want; the default where nothing was ever said.
    ///
    /// # Errors
    /// A file that cannot be read or understood.
    pub fn wants(&self) -> Result<Wants, StoreError> {
        Ok(read(&self.wants)?.unwrap_or_default())
    }

    /// Durable when it returns.
    ///
    /// # Errors
    /// Where it cannot be written.
    pub fn save(&self, wants: &Wants) -> Result<(), StoreError> {
        write(&self.wants, wants, true)
    }

    /// What a predecessor left running on this boot. What cannot be read is doubtful.
    pub fn running(&self) -> Running {
        match read(&self.running) {
            Ok(found) => found.unwrap_or_default(),
            Err(_) => Running {
                doubtful: true,
                ..Running::NOTHING
            },
        }
    }

    /// Kept until the machine boots again: the run directory is emptied then.
    ///
    /// # Errors
    /// Where it cannot be written.
    pub fn remember(&self, running: Running) -> Result<(), StoreError> {
        write(&self.running, &running, false)
    }

    /// The latest first.
    pub fn failovers(&self) -> Vec<Failover> {
        read(&self.failovers).ok().flatten().unwrap_or_default()
    }

    /// # Errors
    /// Where it cannot be written.
    pub fn add_failover(&self, failover: Failover) -> Result<(), StoreError> {
        let mut all = self.failovers();
        all.insert(0, failover);
        all.truncate(MAX_FAILOVERS);
        write(&self.failovers, &all, false)
    }
}

fn read<T: DeserializeOwned>(path: &Path) -> Result<Option<T>, StoreError> {
    let text = match fs::read(path) {
        Ok(text) => text,
        Err(e) if e.kind() == io::ErrorKind::NotFound => return Ok(None),
        Err(source) => {
            return Err(StoreError::Io {
                path: path.into(),
                source,
            });
        }
    };
    let parsed = serde_json::from_slice(&text);
    parsed.map(Some).map_err(|e| StoreError::Damaged {
        path: path.into(),
        why: e.to_string(),
    })
}

/// Whole or not at all.
fn write(path: &Path, value: &impl serde::Serialize, durable: bool) -> Result<(), StoreError> {
    let work = || {
        let draft = path.with_extension("new");
        let mut file = File::create(&draft)?;
        file.write_all(&serde_json::to_vec(value)?)?;
        if durable {
            file.sync_all()?;
        }
        fs::rename(&draft, path)?;
        match path.parent() {
            Some(dir) if durable => File::open(dir)?.sync_all(),
            _ => Ok(()),
        }
    };
    work().map_err(|source: io::Error| StoreError::Io {
        path: path.into(),
        source,
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_kept_is_found_again_and_damage_is_said() {
        let dir = std::env::temp_dir().join(format!("tandem-store-{}", std::process::id()));
        let store = Store::open(&dir.join("state"), &dir.join("run"), "shop").unwrap();
        assert_eq!(store.wants().unwrap(), Wants::default());
        let wants = Wants {
            started: true,
            ..Wants::default()
        };
        store.save(&wants).unwrap();
        store.remember(Running::PRIM).unwrap();
        assert_eq!(store.wants().unwrap(), wants);
        assert_eq!(store.running(), Running::PRIM);
        fs::write(dir.join("state/wants.json"), "{\"started\":").unwrap();
        let text = store.wants().unwrap_err().to_string();
        assert!(
            text.contains("wants.json") && text.contains("tandem start"),
            "{text}"
        );
        fs::write(dir.join("run/shop.running.json"), "?").unwrap();
        assert!(store.running().doubtful);
        fs::remove_dir_all(&dir).unwrap();
    }
}
