//! The files of a changed configuration: prepared beside the old ones, put in place, put back; and
//! what a node keeps of the agreement on them until it is settled.
//!
//! A file is whole at every moment: it is written beside, synced, and renamed.

use crate::config::Files;
use crate::logic::change::pact::{Record, Texts, Which, after_death};
use std::collections::BTreeMap;
use std::fs::{self, File};
use std::io::{self, ErrorKind, Write};
use std::path::{Path, PathBuf};
use thiserror::Error;

/// Why a file could not be written or read.
#[derive(Debug, Error)]
pub enum ChangeError {
    #[error("{}: {source}", path.display())]
    Io { path: PathBuf, source: io::Error },
    #[error(
        "{}: {why}; compare the configuration with the other node's by hand, then remove the file",
        path.display()
    )]
    Damaged { path: PathBuf, why: String },
}

/// What is kept of an agreement.
#[derive(Clone, Debug)]
pub struct Journal(PathBuf);

impl Journal {
    pub fn new(state_dir: &Path) -> Self {
        Self(state_dir.join("change.json"))
    }

    /// # Errors
    /// It cannot be read, or is damaged.
    pub fn read(&self) -> Result<Option<Record>, ChangeError> {
        let text = match fs::read(&self.0) {
            Ok(text) => text,
            Err(e) if e.kind() == ErrorKind::NotFound => return Ok(None),
            Err(source) => return Err(self.fault(source)),
        };
        let record = serde_json::from_slice(&text);
        record.map(Some).map_err(|e| ChangeError::Damaged {
            path: self.0.clone(),
            why: e.to_string(),
        })
    }

    /// Durable when it returns.
    ///
    /// # Errors
    /// It cannot be written.
    pub fn save(&self, record: Option<&Record>) -> Result<(), ChangeError> {
        let work = || match record {
            Some(record) => put(&self.0, &serde_json::to_vec(record)?),
            None => remove(&self.0),
        };
        work().map_err(|source| self.fault(source))
    }

    fn fault(&self, source: io::Error) -> ChangeError {
        let path = self.0.clone();
        ChangeError::Io { path, source }
    }
}

/// Before the configuration is read: files of an agreement that a node died in are made whole, the
/// old ones or the new ones. What remains to be settled is kept.
///
/// # Errors
/// What cannot be read or written.
pub fn recover(config_dir: &Path, state_dir: &Path) -> Result<(), ChangeError> {
    let journal = Journal::new(state_dir);
    let Some(record) = journal.read()? else {
        return Ok(());
    };
    let (which, left) = after_death(record.clone());
    tracing::warn!(
        "a change of the configuration was under way: the {which:?} files are put in place"
    );
    install(config_dir, &record, which)?;
    journal.save(left.as_ref())
}

/// Puts one set of an agreement's files in place. What is neither old nor new was written by an
/// operator meanwhile: the old ones do not replace it, and where the new ones do a copy stays
/// beside as `NAME.ron.before`. What the leader's operator wanted, and is not kept, stays beside as
/// `NAME.ron.refused`.
///
/// # Errors
/// A file that cannot be written; some may be in place already.
pub fn install(config_dir: &Path, record: &Record, which: Which) -> Result<(), ChangeError> {
    let fault = |path: &Path, source| ChangeError::Io {
        path: path.into(),
        source,
    };
    for (name, texts) in &record.files {
        let path = config_dir.join(name);
        let wanted = match which {
            Which::Old => texts.old.as_deref(),
            Which::New => Some(texts.new.as_str()),
        };
        let there = read(&path).map_err(|e| fault(&path, e))?;
        let known = |t: &&String| **t == texts.new || texts.old.as_ref() == Some(*t);
        let foreign = there.as_ref().is_some_and(|t| !known(&t));
        if there.as_deref() == wanted || (foreign && which == Which::Old) {
            remove(&draft(&path)).map_err(|e| fault(&path, e))?;
            continue;
        }
        let wish = record.leads && which == Which::Old && there.as_ref() == Some(&texts.new);
        if let Some(text) = there.as_ref().filter(|_| foreign || wish) {
            let end = if wish { "ron.refused" } else { "ron.before" };
            let beside = path.with_extension(end);
            put(&beside, text.as_bytes()).map_err(|e| fault(&beside, e))?;
        }
        let done = match wanted {
            Some(text) => put(&path, text.as_bytes()),
            None => remove(&path),
        };
        done.map_err(|e| fault(&path, e))?;
    }
    Ok(())
}

/// Writes the new files beside the old ones: whether there is room, and the right, is known then.
/// The files before and after; `old` knows of some what they were.
///
/// # Errors
/// What cannot be read or written.
pub fn prepare(
    config_dir: &Path,
    new: &Files,
    old: impl Fn(&str) -> Option<Option<String>>,
) -> Result<BTreeMap<String, Texts>, ChangeError> {
    let mut all = BTreeMap::new();
    for (name, text) in new {
        let path = config_dir.join(name);
        let fault = |source| ChangeError::Io {
            path: path.clone(),
            source,
        };
        let there = read(&path).map_err(fault)?;
        write_synced(&draft(&path), text.as_bytes()).map_err(fault)?;
        let texts = Texts {
            old: old(name).unwrap_or(there),
            new: text.clone(),
        };
        all.insert(name.clone(), texts);
    }
    Ok(all)
}

/// Removes what [`prepare`] wrote.
pub fn forget(config_dir: &Path, names: impl Iterator<Item = String>) {
    for name in names {
        let path = draft(&config_dir.join(name));
        if let Err(e) = remove(&path) {
            tracing::warn!("{}: {e}", path.display());
        }
    }
}

fn draft(path: &Path) -> PathBuf {
    path.with_extension("ron.prepared")
}

fn read(path: &Path) -> io::Result<Option<String>> {
    match fs::read_to_string(path) {
        Ok(text) => Ok(Some(text)),
        Err(e) if e.kind() == ErrorKind::NotFound => Ok(None),
        Err(e) => Err(e),
    }
}

fn write_synced(path: &Path, bytes: &[u8]) -> io::Result<()> {
    let mut file = File::create(path)?;
    file.write_all(bytes)?;
    file.sync_all()
}

/// Whole or not at all, and durable.
fn put(path: &Path, bytes: &[u8]) -> io::Result<()> {
    let draft = if path.extension().is_some_and(|e| e == "ron") {
        draft(path)
    } else {
        path.with_extension("draft")
    };
    write_synced(&draft, bytes)?;
    fs::rename(&draft, path)?;
    sync_parent(path)
}

fn remove(path: &Path) -> io::Result<()> {
    match fs::remove_file(path) {
        Ok(()) => sync_parent(path),
        Err(e) if e.kind() == ErrorKind::NotFound => Ok(()),
        Err(e) => Err(e),
    }
}

fn sync_parent(path: &Path) -> io::Result<()> {
    path.parent()
        .map_or(Ok(()), |dir| File::open(dir)?.sync_all())
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::logic::change::pact::Stage;

    struct Dir(PathBuf);

    impl Dir {
        fn new(name: &str) -> Self {
            let name = format!("tandem-change-{name}-{}", std::process::id());
            let dir = std::env::temp_dir().join(name);
            fs::create_dir_all(dir.join("modules")).unwrap();
            fs::create_dir_all(dir.join("state")).unwrap();
            Self(dir)
        }

        fn at(&self, name: &str) -> Option<String> {
            read(&self.0.join(name)).unwrap()
        }

        fn put(&self, name: &str, text: &str) {
            fs::write(self.0.join(name), text).unwrap();
        }
    }

    impl Drop for Dir {
        fn drop(&mut self) {
            let _ = fs::remove_dir_all(&self.0);
        }
    }

    const ONE: &str = "modules/one.ron";
    const TWO: &str = "modules/two.ron";

    fn record(dir: &Dir, leads: bool, stage: Stage) -> Record {
        let new = [ONE, TWO].map(|name| (name.to_string(), "new".to_string()));
        let old = |name: &str| (leads && name == ONE).then(|| Some("old".to_string()));
        let files = prepare(&dir.0, &Files::from(new), old).unwrap();
        Record {
            id: "x".into(),
            peer: "b".into(),
            leads,
            stage,
            files,
        }
    }

    #[test]
    fn who_dies_half_way_finds_the_old_files_or_the_new_ones() {
        for (leads, stage, expected) in [
            (true, Stage::Prepared, "old"),
            (true, Stage::Trial, "old"),
            (true, Stage::Kept, "new"),
            (false, Stage::Prepared, "old"),
            (false, Stage::Trial, "old"),
            (false, Stage::Undone, "old"),
        ] {
            // So many of the two were put in place.
            for placed in 0..3 {
                let dir = Dir::new(&format!("die-{leads}-{stage:?}-{placed}"));
                dir.put(ONE, "old");
                dir.put(TWO, "old");
                let record = record(&dir, leads, stage);
                for name in [ONE, TWO].iter().take(placed) {
                    let path = dir.0.join(name);
                    fs::rename(draft(&path), path).unwrap();
                }
                let state = dir.0.join("state");
                Journal::new(&state).save(Some(&record)).unwrap();
                recover(&dir.0, &state).unwrap();
                for name in [ONE, TWO] {
                    assert_eq!(dir.at(name).as_deref(), Some(expected), "{leads} {stage:?}");
                    assert_eq!(dir.at(&format!("{name}.prepared")), None);
                }
                let left = Journal::new(&state).read().unwrap();
                let settles = stage == Stage::Kept || (!leads && stage != Stage::Prepared);
                assert_eq!(left.is_some(), settles, "{leads} {stage:?}");
            }
        }
    }

    #[test]
    fn what_an_operator_wrote_is_not_lost() {
        let dir = Dir::new("lost");
        dir.put(ONE, "new");
        let record = record(&dir, true, Stage::Trial);
        install(&dir.0, &record, Which::New).unwrap();
        install(&dir.0, &record, Which::Old).unwrap();
        assert_eq!(dir.at(ONE).as_deref(), Some("old"));
        assert_eq!(dir.at("modules/one.ron.refused").as_deref(), Some("new"));
        // The second was not there before.
        assert_eq!(dir.at(TWO), None);
        dir.put(ONE, "mine");
        install(&dir.0, &record, Which::New).unwrap();
        assert_eq!(dir.at("modules/one.ron.before").as_deref(), Some("mine"));
    }

    #[test]
    fn damage_is_said_with_its_remedy() {
        let dir = Dir::new("damage");
        dir.put("state/change.json", "{");
        let error = recover(&dir.0, &dir.0.join("state")).unwrap_err();
        assert!(error.to_string().contains("by hand"), "{error}");
    }
}
