//! The record on disk: two slots, written in turn, each whole under a checksum.
//!
//! ```text
//! slot file: magic "TNDMREC3" (8) ┆ generation u64 ┆ length u32 ┆ crc32 of generation, length
//! and body u32 ┆ body (postcard)
//! ```
//! Both files have their full size from the beginning and are overwritten in place, so that a
//! full disk cannot keep a node from recording that it is stale. A write goes to the slot that
//! does not hold the newest valid generation, is flushed, and only then counts. A crash leaves
//! either the old slot alone valid, or both with the new one newer. If files exist but none is
//! valid the record is damaged: that is reported, never guessed (design 8).

use crate::ids::Id128;
use crate::logic::record::Record;
use std::fs::{File, OpenOptions};
use std::io::{ErrorKind, Read, Write};
use std::os::unix::fs::FileExt;
use std::path::{Path, PathBuf};
use thiserror::Error;

const MAGIC: &[u8; 8] = b"TNDMREC3";
const HEAD: usize = 24;
/// Size of a slot, bytes: the full ended list and more.
const SLOT: usize = 64 * 1024;
const MAX_BODY: usize = SLOT - HEAD;

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
    generation: u64,
}

impl RecordStore {
    /// Opens the slots below `dir`, makes those that are missing, and reads the newest record; a
    /// fresh one if none was ever written.
    ///
    /// # Errors
    /// Unreadable files, no room for new ones, or files of which none is valid.
    pub fn open(dir: &Path) -> Result<(Self, Record), RecordError> {
        let paths = [dir.join("record.0"), dir.join("record.1")];
        let mut newest: Option<(u64, Record)> = None;
        let mut damaged = None;
        for path in &paths {
            let io = |source| RecordError::Io {
                path: path.clone(),
                source,
            };
            match read_slot(path).map_err(io)? {
                Slot::Missing => make_slot(dir, path).map_err(io)?,
                Slot::Blank => {}
                Slot::Damaged => damaged = Some(path.clone()),
                Slot::Valid(generation, record) => {
                    if newest.as_ref().is_none_or(|(g, _)| generation > *g) {
                        newest = Some((generation, *record));
                    }
                }
            }
        }
        let (generation, record) = match (newest, damaged) {
            (Some(pair), _) => pair,
            (None, Some(path)) => return Err(RecordError::Damaged { path }),
            (None, None) => (0, Record::default()),
        };
        Ok((Self { paths, generation }, record))
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
        if body.len() > MAX_BODY {
            return Err(io(std::io::Error::other(
                "the record does not fit its slot",
            )));
        }
        let file = OpenOptions::new().write(true).open(path).map_err(io)?;
        file.write_all_at(&encode(generation, &body), 0)
            .map_err(io)?;
        file.sync_all().map_err(io)?;
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

/// What a slot file holds.
enum Slot {
    Missing,
    /// Made and never written.
    Blank,
    Damaged,
    Valid(u64, Box<Record>),
}

fn read_slot(path: &Path) -> std::io::Result<Slot> {
    let mut bytes = Vec::new();
    match File::open(path) {
        Ok(file) => file.take(SLOT as u64 + 1).read_to_end(&mut bytes)?,
        Err(e) if e.kind() == ErrorKind::NotFound => return Ok(Slot::Missing),
        Err(e) => return Err(e),
    };
    Ok(match parse(&bytes) {
        Some((generation, record)) => Slot::Valid(generation, Box::new(record)),
        None if bytes.len() == SLOT && bytes.iter().all(|b| *b == 0) => Slot::Blank,
        None => Slot::Damaged,
    })
}

/// Makes a blank slot. It gets its name only when it is whole, so that a slot of another size is
/// one that was damaged.
fn make_slot(dir: &Path, path: &Path) -> std::io::Result<()> {
    let new = path.with_extension("new");
    let mut file = File::create(&new)?;
    file.write_all(&[0; SLOT])?;
    file.sync_all()?;
    std::fs::rename(&new, path)?;
    File::open(dir)?.sync_all()
}

fn parse(bytes: &[u8]) -> Option<(u64, Record)> {
    let (head, body) = bytes.split_at_checked(HEAD)?;
    let word = |at: usize| Some(u32::from_le_bytes(head.get(at..at + 4)?.try_into().ok()?));
    let generation = u64::from_le_bytes(head.get(8..16)?.try_into().ok()?);
    let body = body.get(..word(16)? as usize)?;
    if &head[..8] != MAGIC || bytes.len() != SLOT {
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
        let used = encode(2, &postcard::to_stdvec(&second).unwrap()).len();
        let older = std::fs::read(&store.paths[1]).unwrap();
        for cut in 0..used {
            // Torn: the beginning is new, the rest is what was there.
            let mut torn = vec![0xaa; SLOT];
            torn[..cut].copy_from_slice(&whole[..cut]);
            std::fs::write(&newest, &torn).unwrap();
            assert_eq!(RecordStore::open(&dir).unwrap().1, first, "torn at {cut}");
            std::fs::write(&newest, &whole[..cut]).unwrap();
            assert_eq!(RecordStore::open(&dir).unwrap().1, first, "cut at {cut}");
        }
        assert_eq!(older.len(), SLOT);
        for at in 0..used {
            let mut flipped = whole.clone();
            flipped[at] ^= 0x10;
            std::fs::write(&newest, &flipped).unwrap();
            assert_eq!(RecordStore::open(&dir).unwrap().1, first, "flipped at {at}");
        }
        for path in &store.paths {
            assert_eq!(std::fs::metadata(path).unwrap().len(), SLOT as u64);
            std::fs::write(path, b"").unwrap();
        }
        let error = RecordStore::open(&dir).unwrap_err();
        assert!(matches!(error, RecordError::Damaged { .. }), "{error}");
        std::fs::remove_dir_all(&dir).unwrap();
    }
}
