//! What is kept aside before a resync overwrites or removes it, because only this node had it.
//!
//! ```text
//! .tandem/aside/parked.jsonl       where what is parked came from
//! .tandem/aside/ID/index.jsonl     one line a file; a later line about the same one replaces it
//! .tandem/aside/ID/N               the old content of a file that was overwritten
//! .tandem/aside/ID/parked/…        what was removed, as it was parked
//! ```
//! A copy shares its blocks with the original where the file system can (reflink). No decision is
//! made by the times in the list; they are for people.

use super::super::service::Volume;
use super::super::sys;
use super::parking::{self, remove_tree};
use serde::{Deserialize, Serialize};
use std::collections::HashMap;
use std::fs::{self, File, OpenOptions};
use std::io::{self, BufRead, BufReader, Write};
use std::os::fd::{AsRawFd, OwnedFd, RawFd};
use std::os::unix::ffi::OsStrExt;
use std::os::unix::fs::MetadataExt;
use std::path::{Path, PathBuf};
use std::sync::{Mutex, MutexGuard, PoisonError};
use tandem_repl::control::AsideFile;
use tandem_repl::ids::{DirId, Id128, Key};
use tandem_repl::logic::resync::messages::Attrs;

const ASIDE: &[u8] = b"aside";
const INDEX: &str = "index.jsonl";
const PARKED: &str = "parked.jsonl";

/// A line of the index.
#[derive(Clone, Serialize, Deserialize)]
struct Line {
    /// Path from the root of the replicated directory; bytes that are no UTF-8 are replaced.
    path: String,
    /// File in this directory, or path below `parked/`.
    kept: Option<String>,
    size: u64,
    modified: i64,
    now: Option<(u64, i64)>,
}

#[derive(Serialize, Deserialize)]
struct ParkedLine {
    parked: String,
    path: String,
}

/// Keeping aside for one session.
pub(super) struct Keeper {
    id: Id128,
    limit: u64,
    state: Mutex<State>,
}

#[derive(Default)]
struct State {
    /// Files kept already, and their lines.
    kept: HashMap<(DirId, Key), Line>,
    next: u64,
    bytes: Option<u64>,
}

impl Keeper {
    pub(super) fn new(id: Id128, limit: u64) -> Self {
        Self {
            id,
            limit,
            state: Mutex::default(),
        }
    }

    fn lock(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn place(&self, volume: &Volume) -> io::Result<(OwnedFd, PathBuf)> {
        let aside = parking::inner(volume, ASIDE, true)?;
        let aside = aside.ok_or_else(|| io::Error::from_raw_os_error(libc::EIO))?;
        let dir = way(&aside).join(self.id.to_string());
        match fs::create_dir(&dir) {
            Err(e) if e.kind() != io::ErrorKind::AlreadyExists => return Err(e),
            _ => {}
        }
        Ok((aside, dir))
    }

    /// Before an entry is parked: from where.
    pub(super) fn note_parked(
        &self,
        volume: &Volume,
        parent: RawFd,
        name: &[u8],
        parked: &[u8],
    ) -> io::Result<()> {
        let (aside, _) = self.place(volume)?;
        let mut path = sys::path_of_fd(parent)?;
        if path.last() != Some(&b'/') {
            path.push(b'/');
        }
        path.extend_from_slice(name);
        append(
            &way(&aside).join(PARKED),
            &ParkedLine {
                parked: text(parked),
                path: text(&path),
            },
        )
    }

    /// Before the content (no `attrs`) or the attributes of a file are changed.
    pub(super) fn keep(
        &self,
        volume: &Volume,
        (dir, key): (DirId, Key),
        fd: RawFd,
        attrs: Option<&Attrs>,
    ) -> io::Result<()> {
        let stat = sys::fstat(fd)?;
        if stat.st_mode & libc::S_IFMT != libc::S_IFREG {
            return Ok(());
        }
        let mut state = self.lock();
        let now = attrs.map(|a| (a.size, a.mtime.0));
        if let Some(line) = state.kept.get_mut(&(dir, key)) {
            if now.is_some() && line.now != now {
                line.now = now;
                let (_aside, place) = self.place(volume)?;
                append(&place.join(INDEX), line)?;
            }
            return Ok(());
        }
        let size = stat.st_size.cast_unsigned();
        if attrs.is_some_and(|a| a.size >= size) {
            // The content stays.
            return Ok(());
        }
        let (aside, place) = self.place(volume)?;
        let used = match state.bytes {
            Some(used) => used,
            None => usage(&way(&aside))?,
        };
        let blocks = stat.st_blocks.cast_unsigned() * 512;
        if used + blocks > self.limit {
            tracing::error!(
                "no room to keep {} aside: `tandem divergence` lists, exports and discards",
                volume.backing.path.display()
            );
            return Err(io::Error::from_raw_os_error(libc::EDQUOT));
        }
        state.bytes = Some(used + blocks);
        let name = state.next.to_string();
        state.next += 1;
        copy(fd, &place.join(&name))?;
        let line = Line {
            path: text(&sys::path_of_fd(fd)?),
            kept: Some(name),
            size,
            modified: stat.st_mtime,
            now,
        };
        append(&place.join(INDEX), &line)?;
        state.kept.insert((dir, key), line);
        Ok(())
    }

    /// What is parked stays here, with a line for each file in it.
    pub(super) fn take_parked(&self, volume: &Volume) -> io::Result<()> {
        let Some(own) = parking::parked(volume, false)? else {
            return Ok(());
        };
        drop(own);
        let (aside, place) = self.place(volume)?;
        let from = way(&aside).join("../parked");
        let to = place.join("parked");
        fs::rename(&from, &to)?;
        let notes = way(&aside).join(PARKED);
        let origins: HashMap<String, String> = lines::<ParkedLine>(&notes)
            .map(|line| (line.parked, line.path))
            .collect();
        for entry in fs::read_dir(&to)?.flatten() {
            let name = entry.file_name();
            let path = origin(&origins, &name.to_string_lossy());
            list_below(&place, &to, &entry.path(), &path)?;
        }
        match fs::remove_file(notes) {
            Err(e) if e.kind() != io::ErrorKind::NotFound => Err(e),
            _ => Ok(()),
        }
    }
}

/// Where something parked came from; what it was parked out of may have been parked before.
fn origin(origins: &HashMap<String, String>, parked: &str) -> String {
    let unknown = || format!("/{parked}");
    let mut path = origins.get(parked).cloned().unwrap_or_else(unknown);
    // Each step leads out of one parked directory.
    for _ in 0..origins.len() {
        let Some((above, rest)) = path
            .strip_prefix("/.tandem/parked/")
            .and_then(|inner| inner.split_once('/'))
        else {
            break;
        };
        match origins.get(above) {
            Some(outer) => path = format!("{outer}/{rest}"),
            None => break,
        }
    }
    path
}

/// A line for everything below a parked entry but directories.
fn list_below(place: &Path, parked: &Path, root: &Path, origin: &str) -> io::Result<()> {
    let mut todo = vec![root.to_path_buf()];
    while let Some(at) = todo.pop() {
        let meta = fs::symlink_metadata(&at)?;
        if meta.is_dir() {
            todo.extend(fs::read_dir(&at)?.flatten().map(|e| e.path()));
            continue;
        }
        let below = at.strip_prefix(root).unwrap_or(&at);
        let mut path = origin.to_string();
        if !below.as_os_str().is_empty() {
            path = format!("{path}/{}", below.display());
        }
        let kept = at.strip_prefix(parked).unwrap_or(&at);
        let line = Line {
            path,
            kept: Some(format!("parked/{}", kept.display())),
            size: meta.len(),
            modified: meta.mtime(),
            now: None,
        };
        append(&place.join(INDEX), &line)?;
    }
    Ok(())
}

/// A path through an open directory.
fn way(dir: &OwnedFd) -> PathBuf {
    PathBuf::from(format!("/proc/self/fd/{}", dir.as_raw_fd()))
}

fn text(bytes: &[u8]) -> String {
    String::from_utf8_lossy(bytes).into_owned()
}

fn append(path: &Path, line: &impl Serialize) -> io::Result<()> {
    let mut bytes = serde_json::to_vec(line)?;
    bytes.push(b'\n');
    OpenOptions::new()
        .create(true)
        .append(true)
        .open(path)?
        .write_all(&bytes)
}

/// A torn last line is left out.
fn lines<T: for<'de> Deserialize<'de>>(path: &Path) -> impl Iterator<Item = T> {
    let file = File::open(path).ok();
    let lines = file.into_iter().flat_map(|f| BufReader::new(f).lines());
    lines.filter_map(|line| serde_json::from_str(&line.ok()?).ok())
}

/// Bytes of everything kept.
fn usage(aside: &Path) -> io::Result<u64> {
    let mut todo = vec![aside.to_path_buf()];
    let mut sum = 0;
    while let Some(at) = todo.pop() {
        for entry in fs::read_dir(at)?.flatten() {
            let meta = entry.metadata()?;
            sum += meta.blocks() * 512;
            if meta.is_dir() {
                todo.push(entry.path());
            }
        }
    }
    Ok(sum)
}

/// Shares the blocks where that is possible, else copies.
fn copy(fd: RawFd, to: &Path) -> io::Result<()> {
    let new = OpenOptions::new()
        .create(true)
        .truncate(true)
        .write(true)
        .open(to)?;
    // SAFETY: both descriptors live through the call, which takes no memory of ours.
    if unsafe { libc::ioctl(new.as_raw_fd(), libc::FICLONE, fd) } == 0 {
        return Ok(());
    }
    let from = File::open(format!("/proc/self/fd/{fd}"))?;
    io::copy(&mut &from, &mut &new)?;
    new.sync_all()
}

/// What is kept of a volume.
pub(crate) fn list(volume: &Volume) -> io::Result<Vec<AsideFile>> {
    let Some(aside) = parking::inner(volume, ASIDE, false)? else {
        return Ok(Vec::new());
    };
    let shown = volume.backing.path.join(".tandem/aside");
    let mut all = Vec::new();
    for (dir, line) in entries(&way(&aside))? {
        all.push(AsideFile {
            path: line.path,
            kept: line
                .kept
                .map(|kept| shown.join(&dir).join(kept).display().to_string()),
            size: line.size,
            modified: line.modified,
            now: line.now,
        });
    }
    all.sort_by(|a, b| a.path.cmp(&b.path));
    Ok(all)
}

/// Lines of all resyncs, the last about each file.
fn entries(aside: &Path) -> io::Result<Vec<(PathBuf, Line)>> {
    let mut all = Vec::new();
    for dir in fs::read_dir(aside)?.flatten() {
        let mut last: HashMap<Option<String>, Line> = HashMap::new();
        for line in lines::<Line>(&dir.path().join(INDEX)) {
            last.insert(line.kept.clone(), line);
        }
        let name = PathBuf::from(dir.file_name());
        all.extend(last.into_values().map(|line| (name.clone(), line)));
    }
    Ok(all)
}

/// Copies everything kept below `to`, under the paths it had.
pub(crate) fn export(volume: &Volume, to: &Path) -> io::Result<()> {
    let Some(aside) = parking::inner(volume, ASIDE, false)? else {
        return Ok(());
    };
    for (dir, line) in entries(&way(&aside))? {
        let Some(kept) = line.kept else { continue };
        let from = way(&aside).join(&dir).join(kept);
        let path = Path::new(line.path.trim_start_matches('/'));
        let mut target = to.join(path);
        if target.exists() {
            // The same path of another resync.
            let mut name = target.file_name().unwrap_or_default().as_bytes().to_vec();
            name.extend_from_slice(format!(".{}", dir.display()).as_bytes());
            target.set_file_name(std::ffi::OsStr::from_bytes(&name));
        }
        if let Some(parent) = target.parent() {
            fs::create_dir_all(parent)?;
        }
        let meta = fs::symlink_metadata(&from)?;
        if meta.is_symlink() {
            std::os::unix::fs::symlink(fs::read_link(&from)?, &target)?;
        } else if meta.is_file() {
            fs::copy(&from, &target)?;
        }
    }
    Ok(())
}

/// Removes everything kept.
pub(crate) fn discard(volume: &Volume) -> io::Result<()> {
    if let Some(own) = parking::own(volume)? {
        match remove_tree(&own, ASIDE) {
            Err(e) if e.raw_os_error() == Some(libc::ENOENT) => {}
            result => result?,
        }
    }
    Ok(())
}
