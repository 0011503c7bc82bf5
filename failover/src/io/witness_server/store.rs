//! The registers on disk: one small file for each volume of each cluster.
//!
//! ```text
//! STATE_DIR/CLUSTER/VOLUME: magic "TNDMWIT1" (8) ┆ crc32 of the body u32 ┆ body (postcard)
//! ```
//! A change is written beside, flushed, renamed, and the directory flushed, before it is answered.
//! A file that is damaged is never taken for an empty register: its volume gets no answer until an
//! operator has looked at it.

use std::collections::HashMap;
use std::fs::{DirBuilder, File, OpenOptions, TryLockError};
use std::io::{self, ErrorKind, Read, Write};
use std::os::unix::fs::{DirBuilderExt, OpenOptionsExt};
use std::path::{Path, PathBuf};
use std::sync::{Mutex, PoisonError};

use serde::{Deserialize, Serialize};
use tandem_repl::ids::Id128;
use tandem_repl::logic::member::WitnessAnswer;
use tandem_repl::logic::witness::{Question, Register};
use tandem_repl::wire::{Held, Trouble};

const MAGIC: &[u8; 8] = b"TNDMWIT1";
const HEAD: usize = 12;
/// Longest file, bytes: names are bounded before they come here.
const MAX_FILE: u64 = 4096;
/// Volumes of one cluster; more are a mistake, or somebody who fills the disk.
const MAX_VOLUMES: usize = 4096;

/// What a file holds. The names are in it so that a file in the wrong place is noticed.
#[derive(Debug, PartialEq, Eq, Serialize, Deserialize)]
struct Kept {
    cluster: String,
    volume: Id128,
    id: Id128,
}

/// All registers of a witness.
#[derive(Debug)]
pub struct Store {
    dir: PathBuf,
    /// What this process has brought to the disk. A file that is only found may be in the page
    /// cache alone: a flush failed, and the process was started again.
    durable: Mutex<HashMap<(String, Id128), Id128>>,
    /// Held as long as this lives: two witnesses with one directory would each grant.
    _lock: File,
}

impl Store {
    /// Opens the registers below `dir`, which is made if it is missing.
    ///
    /// # Errors
    /// The directory cannot be used, or another witness uses it.
    pub fn open(dir: &Path) -> io::Result<Self> {
        let mut make = DirBuilder::new();
        make.recursive(true).mode(0o700).create(dir)?;
        let lock = OpenOptions::new()
            .write(true)
            .create(true)
            .truncate(false)
            .mode(0o600)
            .open(dir.join("lock"))?;
        lock.try_lock().map_err(|e| match e {
            TryLockError::WouldBlock => {
                io::Error::other("another `tandem witness` uses it; stop that one first")
            }
            TryLockError::Error(e) => e,
        })?;
        Ok(Self {
            dir: dir.into(),
            durable: Mutex::default(),
            _lock: lock,
        })
    }

    /// Puts a question to the register of a volume; what is answered is on the disk.
    ///
    /// # Errors
    /// The file is damaged, or cannot be read or written: nothing is known then.
    pub fn answer(
        &self,
        cluster: &str,
        volume: Id128,
        question: &Question,
    ) -> Result<Held, Trouble> {
        let mut durable = self.durable.lock().unwrap_or_else(PoisonError::into_inner);
        let path = self.dir.join(cluster).join(volume.to_string());
        let trouble = |e: io::Error| Trouble::new("state", format!("{}: {e}", path.display()));
        let found = match read(&path).map_err(trouble)? {
            None => None,
            Some(bytes) => Some(self.checked(&bytes, cluster, volume)?),
        };
        let mut register = Register::load(found);
        let granted = register.answer(question) == WitnessAnswer::Granted;
        let key = (cluster.to_string(), volume);
        if let Some(id) = register.id()
            && durable.get(&key) != Some(&id)
        {
            durable.remove(&key);
            let dir = self.cluster_dir(cluster, found.is_none())?;
            let kept = Kept {
                cluster: cluster.into(),
                volume,
                id,
            };
            write(&dir, &path, &kept).map_err(trouble)?;
            durable.insert(key, id);
        }
        Ok(Held {
            granted,
            id: register.id(),
        })
    }

    fn checked(&self, bytes: &[u8], cluster: &str, volume: Id128) -> Result<Id128, Trouble> {
        let kept = parse(bytes).filter(|kept| kept.cluster == cluster && kept.volume == volume);
        kept.map(|kept| kept.id).ok_or_else(|| {
            let path = self.dir.join(cluster).join(volume.to_string());
            let reason = format!(
                "{} is damaged; if a node of cluster {cluster} serves the volume now, remove the \
                 file, and that node writes it anew",
                path.display()
            );
            Trouble::new("damaged", reason)
        })
    }

    /// The directory of a cluster, with room for one more volume if `more`.
    fn cluster_dir(&self, cluster: &str, more: bool) -> Result<PathBuf, Trouble> {
        let dir = self.dir.join(cluster);
        let trouble = |e: io::Error| Trouble::new("state", format!("{}: {e}", dir.display()));
        match DirBuilder::new().mode(0o700).create(&dir) {
            Ok(()) => sync(&self.dir).map_err(trouble)?,
            Err(e) if e.kind() == ErrorKind::AlreadyExists => {}
            Err(e) => return Err(trouble(e)),
        }
        if more && std::fs::read_dir(&dir).map_err(trouble)?.count() >= MAX_VOLUMES {
            let reason = format!(
                "{} holds {MAX_VOLUMES} volumes; remove the files of those that are gone",
                dir.display()
            );
            return Err(Trouble::new("full", reason));
        }
        Ok(dir)
    }
}

/// A file's bytes; `None` if there is none.
fn read(path: &Path) -> io::Result<Option<Vec<u8>>> {
    let mut bytes = Vec::new();
    match File::open(path) {
        Ok(file) => file.take(MAX_FILE + 1).read_to_end(&mut bytes)?,
        Err(e) if e.kind() == ErrorKind::NotFound => return Ok(None),
        Err(e) => return Err(e),
    };
    Ok(Some(bytes))
}

fn parse(bytes: &[u8]) -> Option<Kept> {
    let (head, body) = bytes.split_at_checked(HEAD)?;
    let crc = u32::from_le_bytes(head.get(8..)?.try_into().ok()?);
    if &head[..8] != MAGIC || crc32fast::hash(body) != crc || bytes.len() as u64 > MAX_FILE {
        return None;
    }
    let (kept, rest) = postcard::take_from_bytes(body).ok()?;
    rest.is_empty().then_some(kept)
}

fn write(dir: &Path, path: &Path, kept: &Kept) -> io::Result<()> {
    let body = postcard::to_stdvec(kept).map_err(io::Error::other)?;
    let crc = crc32fast::hash(&body).to_le_bytes();
    let bytes = [&MAGIC[..], &crc, &body].concat();
    let new = path.with_extension("new");
    // Another file than the last attempt's: a flush that failed once proves nothing afterwards.
    let _ = std::fs::remove_file(&new);
    let mut file = OpenOptions::new()
        .write(true)
        .create_new(true)
        .mode(0o600)
        .open(&new)?;
    file.write_all(&bytes)?;
    file.sync_all()?;
    std::fs::rename(&new, path)?;
    sync(dir)
}

fn sync(dir: &Path) -> io::Result<()> {
    File::open(dir)?.sync_all()
}

#[cfg(test)]
#[allow(clippy::unwrap_used)]
mod tests {
    use super::*;
    use crate::io::witness_server::tests::Scratch;

    fn id(n: u8) -> Id128 {
        Id128([n; 16])
    }

    fn ask(list: &[u8], new: u8) -> Question {
        Question::Ask {
            list: list.iter().map(|n| id(*n)).collect(),
            new: id(new),
        }
    }

    fn tell(list: &[u8], new: u8, force: bool) -> Question {
        Question::Tell {
            list: list.iter().map(|n| id(*n)).collect(),
            id: id(new),
            force,
        }
    }

    fn held(granted: bool, n: u8) -> Result<Held, Trouble> {
        let id = (n > 0).then(|| id(n));
        Ok(Held { granted, id })
    }

    #[test]
    fn what_is_granted_is_kept_for_each_volume_of_each_cluster() {
        let scratch = Scratch::new();
        let store = Store::open(&scratch.0).unwrap();
        assert_eq!(store.answer("shop", id(9), &ask(&[1], 2)), held(false, 0));
        assert!(!scratch.0.join("shop").exists(), "nothing was told");
        assert_eq!(
            store.answer("shop", id(9), &tell(&[1], 1, false)),
            held(true, 1)
        );
        assert_eq!(store.answer("shop", id(9), &ask(&[1], 2)), held(true, 2));
        assert_eq!(
            store.answer("shop", id(9), &ask(&[1], 2)),
            held(true, 2),
            "again"
        );
        assert_eq!(store.answer("shop", id(9), &ask(&[1], 3)), held(false, 2));
        assert_eq!(store.answer("shop", id(8), &ask(&[1], 3)), held(false, 0));
        assert_eq!(store.answer("barn", id(9), &ask(&[1], 3)), held(false, 0));
        assert!(Store::open(&scratch.0).is_err(), "in use");
        drop(store);
        let store = Store::open(&scratch.0).unwrap();
        assert_eq!(store.answer("shop", id(9), &ask(&[1], 3)), held(false, 2));
        assert_eq!(
            store.answer("shop", id(9), &tell(&[3], 3, true)),
            held(true, 3)
        );
    }

    #[test]
    fn a_damaged_or_misplaced_file_grants_nothing() {
        let scratch = Scratch::new();
        let store = Store::open(&scratch.0).unwrap();
        store.answer("shop", id(9), &tell(&[1], 1, false)).unwrap();
        let file = scratch.0.join("shop").join(id(9).to_string());
        let whole = std::fs::read(&file).unwrap();
        let refused = |bytes: &[u8]| {
            std::fs::write(&file, bytes).unwrap();
            for question in [ask(&[1], 2), tell(&[1], 1, true)] {
                let trouble = store.answer("shop", id(9), &question).unwrap_err();
                assert_eq!(trouble.code, "damaged");
            }
            assert_eq!(std::fs::read(&file).unwrap(), bytes, "it is left as it is");
        };
        (0..whole.len()).for_each(|cut| refused(&whole[..cut]));
        for at in 0..whole.len() {
            let mut flipped = whole.clone();
            flipped[at] ^= 0x10;
            refused(&flipped);
        }
        refused(&[whole.as_slice(), b"more"].concat());
        std::fs::write(&file, &whole).unwrap();
        assert_eq!(store.answer("shop", id(9), &ask(&[1], 2)), held(true, 2));
        std::fs::copy(&file, scratch.0.join("shop").join(id(8).to_string())).unwrap();
        let trouble = store.answer("shop", id(8), &ask(&[2], 3)).unwrap_err();
        assert_eq!(trouble.code, "damaged", "it is another volume's");
    }

    #[test]
    fn what_cannot_be_written_is_not_answered() {
        let scratch = Scratch::new();
        let store = Store::open(&scratch.0).unwrap();
        store.answer("shop", id(9), &tell(&[1], 1, false)).unwrap();
        let file = scratch.0.join("shop").join(id(9).to_string());
        // A directory in the way of the new file, which cannot be removed as a file.
        let obstacle = file.with_extension("new");
        std::fs::create_dir(&obstacle).unwrap();
        let trouble = store.answer("shop", id(9), &ask(&[1], 2)).unwrap_err();
        assert_eq!(trouble.code, "state");
        std::fs::remove_dir(&obstacle).unwrap();
        assert_eq!(store.answer("shop", id(9), &ask(&[1], 3)), held(true, 3));
    }
}
