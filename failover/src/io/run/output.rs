//! Where a program's output goes: a file, so that the program outlives the manager; bounded, so
//! that a babbling one fills no disk.
//!
//! `NAME.log` is the last run, `NAME.log.1` the one before, and so on.

use std::fs::{self, File, OpenOptions};
use std::io::{self, Write};
use std::os::fd::AsFd;
use std::os::unix::fs::{DirBuilderExt, FileExt, OpenOptionsExt};
use std::path::{Path, PathBuf};

use super::sys;

/// Older runs whose output is kept, per name.
const OLDER: u32 = 3;
/// Most output kept of one run. It is looked at now and then, so there may be more for a moment.
pub(crate) const MOST: u64 = 1 << 20;
/// What is left of it when there is more: the end.
const LEFT: u64 = 64 << 10;
/// Holes begin and end at blocks.
const BLOCK: u64 = 4096;
/// What an outcome shows.
const TAIL: u64 = 4 << 10;

/// The output of one run.
pub(crate) struct Output {
    file: File,
    /// Where what is kept begins; before it is a hole, which takes no room.
    hole: u64,
}

/// Makes room in `dir` for the output of a new run, and opens it.
pub(crate) fn begin(dir: &Path, name: &str) -> io::Result<Output> {
    fs::DirBuilder::new()
        .recursive(true)
        .mode(0o700)
        .create(dir)?;
    let path = |number: u32| match number {
        0 => dir.join(format!("{name}.log")),
        number => dir.join(format!("{name}.log.{number}")),
    };
    for number in (0..OLDER).rev() {
        match fs::rename(path(number), path(number + 1)) {
            Err(error) if error.kind() != io::ErrorKind::NotFound => return Err(error),
            _ => {}
        }
    }
    let mut options = OpenOptions::new();
    // Appending: what was cut off by `trim` is not followed by a hole.
    options.read(true).append(true).create_new(true).mode(0o600);
    Ok(Output {
        file: options.open(path(0))?,
        hole: 0,
    })
}

impl Output {
    /// For standard output, or standard error.
    pub(crate) fn for_child(&self) -> io::Result<File> {
        self.file.try_clone()
    }

    /// Bytes that take room.
    pub(crate) fn size(&self) -> u64 {
        let end = self.file.metadata().map_or(0, |data| data.len());
        end.saturating_sub(self.hole)
    }

    /// Gives back the room of what is too much, while the program writes on. Nothing of the end is
    /// lost, as it could be by [`trim`], only the beginning becomes a hole.
    pub(crate) fn relieve(&mut self) -> io::Result<()> {
        if self.size() <= MOST {
            return Ok(());
        }
        let to = (self.hole + self.size() - LEFT) / BLOCK * BLOCK;
        if sys::punch_hole(self.file.as_fd(), to).is_ok() {
            self.hole = to;
            return Ok(());
        }
        // Not every file system has holes.
        self.hole = 0;
        trim(&mut self.file)
    }

    /// Once the program has ended: without the hole, so that the file can be read.
    pub(crate) fn finish(&mut self) -> io::Result<()> {
        trim(&mut self.file)
    }

    /// The last of what was written.
    pub(crate) fn tail(&self) -> String {
        let bytes = end(&self.file, TAIL).unwrap_or_default();
        // A cut may fall into a character; lossy as everything a program says.
        String::from_utf8_lossy(&bytes).into_owned()
    }
}

fn end(file: &File, most: u64) -> io::Result<Vec<u8>> {
    let from = file.metadata()?.len().saturating_sub(most);
    let mut bytes = vec![0; usize::try_from(most).map_err(io::Error::other)?];
    let mut have = 0;
    while have < bytes.len() {
        match file.read_at(&mut bytes[have..], from + have as u64) {
            Ok(0) => break,
            Ok(read) => have += read,
            Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
            Err(error) => return Err(error),
        }
    }
    bytes.truncate(have);
    Ok(bytes)
}

/// Cuts a file that has grown too long down to its end. What a program that still runs writes
/// between reading and cutting is lost.
fn trim(file: &mut File) -> io::Result<()> {
    if file.metadata()?.len() <= MOST {
        return Ok(());
    }
    let end = end(file, LEFT)?;
    file.set_len(0)?;
    let mut text = format!("[tandem: more than {MOST} bytes; only the end is kept]\n").into_bytes();
    text.extend(end);
    file.write_all(&text)
}

/// Cuts down what has grown since its run ended: programs that a script left running write on
/// into its file.
pub(crate) fn trim_all(dir: &Path) -> io::Result<()> {
    for path in outputs(dir)? {
        let mut options = OpenOptions::new();
        let options = options.read(true).append(true);
        let opened = options.custom_flags(libc::O_NOFOLLOW).open(path);
        match opened.and_then(|mut file| trim(&mut file)) {
            Err(error) if error.kind() != io::ErrorKind::NotFound => return Err(error),
            _ => {}
        }
    }
    Ok(())
}

fn outputs(dir: &Path) -> io::Result<Vec<PathBuf>> {
    let entries = match fs::read_dir(dir) {
        Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(Vec::new()),
        entries => entries?,
    };
    let mut found = Vec::new();
    for entry in entries {
        let path = entry?.path();
        let name = path.file_name().unwrap_or_default().to_string_lossy();
        let base = name.trim_end_matches(|char: char| char.is_ascii_digit());
        if base.strip_suffix('.').unwrap_or(base).ends_with(".log") {
            found.push(path);
        }
    }
    Ok(found)
}
