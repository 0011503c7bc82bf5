//! The journal of the dirty map on disk: two files, used in turn. A file begins with all that was
//! marked when it was begun, and goes on with what was marked since.
//!
//! Both have their full size from the beginning, and every byte of it was really written: adding to
//! them allocates nothing, so a flush is one write to the disk and no commit of the file system's
//! own journal, and a full disk keeps nobody from marking.
//!
//! What can be found after a crash, and why nothing is lost then, is in `docs/disk-format.md`. In
//! doubt everything is marked, never nothing (I6).

mod found;
mod frame;
#[cfg(test)]
mod tests;

pub use found::{Checkpoints, Found};

use crate::ids::Id128;
use crate::logic::dirty::Record;
use found::judge;
use frame::{ALIGN, HEAD, Place, claimed, encode, find, frames};
use serde::{Deserialize, Serialize};
use std::fs::{File, OpenOptions};
use std::io::{ErrorKind, Read, Write};
use std::os::unix::fs::FileExt;
use std::path::{Path, PathBuf};
use thiserror::Error;

/// Raised when a record changes its meaning.
const VERSION: u32 = 2;
/// Size of a file to begin with, bytes.
const SIZE: u64 = 4 << 20;
/// A file that would be larger is not made.
const LARGEST: u64 = 256 << 20;

#[derive(Debug, Error)]
pub enum JournalError {
    #[error("{path}: {source}")]
    Io {
        path: PathBuf,
        source: std::io::Error,
    },
    /// Nothing was written. A snapshot makes room; if a snapshot has none, something shorter must
    /// be said.
    #[error("the journal of marks is full")]
    Full,
}

/// What a file begins with, before the records.
#[derive(Serialize, Deserialize)]
struct Start {
    version: u32,
    /// Of the file, bytes.
    size: u64,
    boot: Id128,
    clean: bool,
    checkpoints: Checkpoints,
}

/// The two files of a module.
#[derive(Debug)]
pub struct Journal {
    dir: PathBuf,
    boot: Id128,
    /// Written with the next file that is begun.
    pub checkpoints: Checkpoints,
    /// Of the file in use; the other has an earlier one.
    generation: u64,
    files: [Option<(File, u64)>; 2],
    /// Where the next frame goes in the file in use, and which it is.
    at: u64,
    index: u64,
    /// A write or flush failed: what the disk has is not known.
    broken: bool,
}

/// A file as it was found.
enum State {
    Missing,
    /// It does not begin with a whole frame: the generation that this frame says it has, and the
    /// newest of any other.
    Torn {
        head: u64,
        newest: u64,
    },
    /// No crash makes this.
    Ruined,
    Whole(Box<Whole>),
}

struct Whole {
    start: Start,
    generation: u64,
    records: Vec<Record>,
    /// Frames after the first.
    more: u64,
    damaged: bool,
}

impl Journal {
    /// Opens the files below `dir`, or makes them. `expected`: this node has held data, so they
    /// must be there.
    ///
    /// # Errors
    /// Files that cannot be made.
    pub fn open(dir: &Path, boot: Id128, expected: bool) -> Result<(Self, Found), JournalError> {
        let states = [0, 1].map(|n| read(&path_of(dir, n)));
        let newest = states.iter().map(State::newest).max().unwrap_or(0);
        let mut journal = Self {
            dir: dir.to_path_buf(),
            boot,
            checkpoints: Checkpoints::default(),
            generation: newest,
            files: [None, None],
            at: 0,
            index: 0,
            broken: false,
        };
        let found = judge(states, expected);
        journal.checkpoints = found.checkpoints;
        if found.damage.is_some() || newest < 2 {
            // Both anew. Whatever a crash leaves of this is read as it is now.
            journal.rewrite(&found.records, false)?;
            journal.rewrite(&found.records, false)?;
            return Ok((journal, found));
        }
        for n in 0..2 {
            let path = path_of(dir, n);
            let io = |source| JournalError::Io {
                path: path.clone(),
                source,
            };
            let mut options = OpenOptions::new();
            let file = options.read(true).write(true).open(&path).map_err(io)?;
            let size = file.metadata().map_err(io)?.len();
            journal.files[n as usize] = Some((file, size)).filter(|_| size >= SIZE);
        }
        // What comes after a torn tail must not follow it in the same file.
        journal.rewrite(&found.records, false)?;
        Ok((journal, found))
    }

    fn path(&self) -> PathBuf {
        path_of(&self.dir, self.generation)
    }

    fn slot(&mut self) -> &mut Option<(File, u64)> {
        &mut self.files[(self.generation % 2) as usize]
    }

    fn io(&self, source: std::io::Error) -> JournalError {
        let path = self.path();
        JournalError::Io { path, source }
    }

    /// Adds records; they are on stable storage when this returns.
    ///
    /// # Errors
    /// No room, or a failed write or flush: then nothing can be marked any more.
    pub fn append(&mut self, records: &[Record]) -> Result<(), JournalError> {
        let body = postcard::to_stdvec(records).expect("plain data always encodes");
        let place = Place {
            generation: self.generation,
            index: self.index,
        };
        let frame = encode(place, &body);
        let end = self.at + frame.len() as u64;
        if self.slot().as_ref().is_none_or(|(_, size)| end > *size) {
            return Err(JournalError::Full);
        }
        self.write(&frame, self.at)?;
        self.at = end;
        self.index += 1;
        Ok(())
    }

    /// Writes to the file in use. What the disk has after a failure is not known, so it is the
    /// last.
    fn write(&mut self, frame: &[u8], at: u64) -> Result<(), JournalError> {
        if self.broken {
            return Err(self.io(std::io::Error::other("an earlier write failed")));
        }
        let Some((file, _)) = self.slot() else {
            return Err(JournalError::Full);
        };
        let written = file.write_all_at(frame, at).and_then(|()| file.sync_data());
        self.broken = written.is_err();
        written.map_err(|e| self.io(e))
    }

    /// Begins the other file with these records, which stand for all that came before; they are on
    /// stable storage when this returns. `clean`: nothing will be added before an end in order.
    ///
    /// # Errors
    /// As of [`Self::append`]. Without room, the file in use is still the one that counts.
    pub fn rewrite(&mut self, records: &[Record], clean: bool) -> Result<(), JournalError> {
        self.generation += 1;
        let result = self.begin(records, clean);
        match result {
            Ok(len) => (self.at, self.index) = (len, 1),
            Err(_) => self.generation -= 1,
        }
        result.map(|_| ())
    }

    fn begin(&mut self, records: &[Record], clean: bool) -> Result<u64, JournalError> {
        let (generation, boot) = (self.generation, self.boot);
        let checkpoints = self.checkpoints;
        let frame = |size| {
            let start = Start {
                version: VERSION,
                size,
                boot,
                clean,
                checkpoints,
            };
            let body = postcard::to_stdvec(&(start, records)).expect("plain data always encodes");
            let index = 0;
            encode(Place { generation, index }, &body)
        };
        let size = self.slot().as_ref().map_or(0, |(_, size)| *size);
        let mut first = frame(size);
        // Half of a file is left for what will be added.
        if 2 * first.len() as u64 <= size {
            self.write(&first, 0)?;
            return Ok(first.len() as u64);
        }
        let size = (4 * first.len() as u64).next_power_of_two().max(SIZE);
        if size > LARGEST {
            return Err(JournalError::Full);
        }
        first = frame(size);
        if self.broken {
            return Err(self.io(std::io::Error::other("an earlier write failed")));
        }
        let made = make(&self.dir, &self.path(), &first, size);
        let file = made.map_err(|e| match e.kind() {
            ErrorKind::StorageFull | ErrorKind::QuotaExceeded => JournalError::Full,
            _ => {
                self.broken = true;
                self.io(e)
            }
        })?;
        *self.slot() = Some((file, size));
        Ok(first.len() as u64)
    }
}

/// Odd generations are in `marks.1`, even ones in `marks.0`.
fn path_of(dir: &Path, generation: u64) -> PathBuf {
    dir.join(format!("marks.{}", generation % 2))
}

/// Makes a file that begins with `first`. It gets its name when it is whole.
fn make(dir: &Path, path: &Path, first: &[u8], size: u64) -> std::io::Result<File> {
    let new = path.with_extension("new");
    let mut options = OpenOptions::new();
    let options = options.read(true).write(true).create(true).truncate(true);
    let written = options.open(&new).and_then(|mut file| {
        file.write_all(first)?;
        let zeros = vec![0; 1 << 20];
        let mut left = size - first.len() as u64;
        while left > 0 {
            let n = left.min(zeros.len() as u64);
            file.write_all(&zeros[..n as usize])?;
            left -= n;
        }
        file.sync_all()?;
        std::fs::rename(&new, path)?;
        File::open(dir)?.sync_all()?;
        Ok(file)
    });
    written.inspect_err(|_| {
        let _ = std::fs::remove_file(&new);
    })
}

fn read(path: &Path) -> State {
    let mut bytes = Vec::new();
    let read = File::open(path).and_then(|f| f.take(LARGEST + 1).read_to_end(&mut bytes));
    match read {
        Ok(_) => parse(&bytes),
        Err(e) if e.kind() == ErrorKind::NotFound => State::Missing,
        Err(_) => State::Ruined,
    }
}

fn parse(bytes: &[u8]) -> State {
    let mut all = frames(bytes);
    let start = all.next().and_then(|(place, body)| {
        let (start, records): (Start, Vec<Record>) = postcard::from_bytes(body).ok()?;
        let own = place.index == 0 && start.version == VERSION;
        own.then_some((place.generation, start, records))
    });
    let Some((generation, start, mut records)) = start else {
        // Sectors are written whole, so even a torn file begins like one.
        return match claimed(bytes).filter(|_| bytes.len() as u64 >= SIZE) {
            Some(head) => State::Torn {
                head,
                newest: find(bytes).map(|p| p.generation).max().unwrap_or(0),
            },
            None => State::Ruined,
        };
    };
    if start.size != bytes.len() as u64 {
        return State::Ruined;
    }
    let mut damaged = false;
    let mut more = 0;
    for (place, body) in all {
        if place.generation != generation || place.index != more + 1 {
            break;
        }
        match postcard::from_bytes::<Vec<Record>>(body) {
            Ok(new) => records.extend(new),
            Err(_) => damaged = true,
        }
        more += 1;
    }
    // Only the last thing written may be torn: nothing whole comes after it.
    damaged |= find(bytes).any(|p| p.generation == generation && p.index > more);
    State::Whole(Box::new(Whole {
        start,
        generation,
        records,
        more,
        damaged,
    }))
}

impl State {
    /// Newest generation that anything in the file has.
    fn newest(&self) -> u64 {
        match self {
            Self::Missing | Self::Ruined => 0,
            Self::Torn { newest, .. } => *newest,
            Self::Whole(whole) => whole.generation,
        }
    }
}

const _: () = assert!(HEAD <= ALIGN, "a head lies in one sector");
