//! The record on disk: two slots, written in turn, each whole under a checksum.
//!
//! ```text
//! slot file: magic "TNDMREC1" (8) ┆ generation u64 ┆ length u32 ┆ crc32 of generation, length
//! and body u32 ┆ body (postcard)
//! ```
//! A write goes to the slot that does not hold the newest valid generation, is flushed, and only
//! then counts. A crash leaves either the old slot alone valid, or both with the new one newer. If
//! files exist but none is valid the record is damaged: that is reported, never guessed (design 8).

use crate::ids::Id128;
use crate::logic::record::Record;
use std::fs::{File, OpenOptions};
use std::io::{ErrorKind, Read, Write};
use std::path::{Path, PathBuf};
use thiserror::Error;

const MAGIC: &[u8; 8] = b"TNDMREC1";
const HEAD: usize = 24;
/// Largest body accepted, bytes: the full ended list and a little.
const MAX_BODY: usize = 64 * 1024;

#[derive(Debug, Error)]
pub enum RecordError {
    #[error("{path}: {source}")]
    Io {
        path: PathBuf,
        source: std::io::Error,
    },
    #[error(
        "{path} and its twin are damaged: no slot has a valid checksum; \
         restore the state directory, or remove it to start as a node without data"
    )]
    Damaged { path: PathBuf },
}

/// The two slots of one module.
#[derive(Debug)]
pub struct RecordStore {
    paths: [PathBuf; 2],
    dir: PathBuf,
    generation: u64,
}

impl RecordStore {
    /// Opens the slots below `dir` and reads the newest; a fresh record if none was ever written.
    ///
    /// # Errors
    /// Unreadable files, or files of which none is valid.
    pub fn open(dir: &Path) -> Result<(Self, Record), RecordError> {
        let paths = [dir.join("record.0"), dir.join("record.1")];
        let mut newest: Option<(u64, Record)> = None;
        let mut found = false;
        for path in &paths {
            let mut bytes = Vec::new();
            match File::open(path) {
                Ok(file) => {
                    let limit = (HEAD + MAX_BODY + 1) as u64;
                    let read = file.take(limit).read_to_end(&mut bytes);
                    read.map_err(|source| RecordError::Io {
                        path: path.clone(),
                        source,
                    })?;
                    found = true;
                }
                Err(e) if e.kind() == ErrorKind::NotFound => continue,
                Err(source) => {
                    return Err(RecordError::Io {
                        path: path.clone(),
                        source,
                    });
                }
            }
            if let Some((generation, record)) = parse(&bytes)
                && newest.as_ref().is_none_or(|(g, _)| generation > *g)
            {
                newest = Some((generation, record));
            }
        }
        let (generation, record) = match newest {
            Some(pair) => pair,
            None if found => {
                return Err(RecordError::Damaged {
                    path: paths[0].clone(),
                });
            }
            None => (0, Record::default()),
        };
        Ok((
            Self {
                paths,
                dir: dir.to_path_buf(),
                generation,
            },
            record,
        ))
    }

    /// Makes `record` the newest, on stable storage when this returns.
    ///
    /// # Errors
    /// Any failed write or flush; the old record is then still the valid one.
    pub fn write(&mut self, record: &Record) -> Result<(), RecordError> {
        let generation = self.generation + 1;
        let path = &self.paths[usize::from(!generation.is_multiple_of(2))];
        let io = |source| RecordError::Io {
            path: path.clone(),
            source,
        };
        let body = postcard::to_stdvec(record).expect("plain data always encodes");
        let bytes = encode(generation, &body);
        let mut file = OpenOptions::new();
        let mut file = file
            .write(true)
            .create(true)
            .truncate(true)
            .open(path)
            .map_err(io)?;
        file.write_all(&bytes).map_err(io)?;
        file.sync_all().map_err(io)?;
        // The slot's directory entry must be durable as well, the first time at least.
        File::open(&self.dir)
            .and_then(|d| d.sync_all())
            .map_err(io)?;
        self.generation = generation;
        Ok(())
    }
}

fn encode(generation: u64, body: &[u8]) -> Vec<u8> {
    let mut bytes = Vec::with_capacity(HEAD + body.len());
    bytes.extend_from_slice(MAGIC);
    bytes.extend_from_slice(&generation.to_le_bytes());
    bytes.extend_from_slice(&u32::try_from(body.len()).unwrap_or(u32::MAX).to_le_bytes());
    let mut crc = crc32fast::Hasher::new();
    crc.update(&bytes[8..]);
    crc.update(body);
    bytes.extend_from_slice(&crc.finalize().to_le_bytes());
    bytes.extend_from_slice(body);
    bytes
}

fn parse(bytes: &[u8]) -> Option<(u64, Record)> {
    let (head, body) = bytes.split_at_checked(HEAD)?;
    let word = |at: usize| Some(u32::from_le_bytes(head.get(at..at + 4)?.try_into().ok()?));
    let generation = u64::from_le_bytes(head.get(8..16)?.try_into().ok()?);
    let len = word(16)? as usize;
    if &head[..8] != MAGIC || len != body.len() || len > MAX_BODY {
        return None;
    }
    let mut crc = crc32fast::Hasher::new();
    crc.update(&head[8..20]);
    crc.update(body);
    if crc.finalize() != word(20)? {
        return None;
    }
    Some((generation, postcard::from_bytes(body).ok()?))
}

/// Id of this boot: page caches from before it are gone. All zero where the kernel does not tell.
pub fn boot_id() -> Id128 {
    let text = std::fs::read_to_string("/proc/sys/kernel/random/boot_id").unwrap_or_default();
    let hex: Vec<u8> = text.bytes().filter(u8::is_ascii_hexdigit).collect();
    let mut id = [0; 16];
    for (byte, pair) in id.iter_mut().zip(hex.chunks_exact(2)) {
        let text = std::str::from_utf8(pair).unwrap_or("0");
        *byte = u8::from_str_radix(text, 16).unwrap_or(0);
    }
    Id128(id)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn scratch(name: &str) -> PathBuf {
        let dir = std::env::temp_dir().join(format!("tandem-{}-{name}", std::process::id()));
        let _ = std::fs::remove_dir_all(&dir);
        std::fs::create_dir_all(&dir).unwrap();
        dir
    }

    #[test]
    fn a_torn_write_leaves_the_older_record_and_damage_is_not_guessed() {
        let dir = scratch("record");
        let (mut store, fresh) = RecordStore::open(&dir).unwrap();
        assert_eq!(fresh, Record::default());
        let first = fresh.next_epoch(Id128([1; 16]), Id128([9; 16]), vec!["a".into()]);
        let second = first.next_epoch(Id128([2; 16]), Id128([9; 16]), vec!["a".into()]);
        store.write(&first).unwrap();
        store.write(&second).unwrap();
        let newest = store.paths[usize::from(!store.generation.is_multiple_of(2))].clone();
        assert_eq!(RecordStore::open(&dir).unwrap().1, second);

        let whole = std::fs::read(&newest).unwrap();
        for cut in 0..whole.len() {
            std::fs::write(&newest, &whole[..cut]).unwrap();
            assert_eq!(RecordStore::open(&dir).unwrap().1, first, "torn at {cut}");
        }
        for at in 0..whole.len() {
            let mut flipped = whole.clone();
            flipped[at] ^= 0x10;
            std::fs::write(&newest, &flipped).unwrap();
            assert_eq!(RecordStore::open(&dir).unwrap().1, first, "flipped at {at}");
        }
        for path in &store.paths {
            std::fs::write(path, b"").unwrap();
        }
        let error = RecordStore::open(&dir).unwrap_err();
        assert!(matches!(error, RecordError::Damaged { .. }), "{error}");
        std::fs::remove_dir_all(&dir).unwrap();
    }
}
