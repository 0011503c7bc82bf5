//! What a directory tree is, in every respect an application or an administrator can see, and the
//! readable differences between two of them. The oracle of "both replicas are equal".

use crate::scratch::inside;
use crate::sys::{self, Sys};
use std::collections::BTreeMap;
use std::collections::hash_map::DefaultHasher;
use std::fmt::Write as _;
use std::hash::{Hash, Hasher};
use std::os::fd::OwnedFd;

/// Unit in which the data of files is compared and reported.
const CHUNK: usize = 64 * 1024;
/// Unit in which the layout of data and holes is compared.
const BLOCK: u64 = 4096;
/// Modification times below this moment (2001) were set by a test on purpose, see [`Times`].
pub const EXPLICIT_BEFORE: i64 = 1_000_000_000;

/// Everything about one name.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Entry {
    pub mode: u32,
    pub uid: u32,
    pub gid: u32,
    pub size: u64,
    pub links: u64,
    pub mtime: (i64, i64),
    pub device: u64,
    /// The first of the names that share this file, in order of the tree.
    pub same_as: Option<Vec<u8>>,
    pub target: Vec<u8>,
    pub xattrs: BTreeMap<Vec<u8>, Vec<u8>>,
    /// One hash per [`CHUNK`] that is not all zeros: a hole and stored zeros read the same.
    pub data: BTreeMap<u64, u64>,
    /// Allocated ranges in units of [`BLOCK`].
    pub layout: Vec<(u64, u64)>,
    pub allocated: u64,
}

/// A captured tree: path below the root (the root itself is the empty path) to entry.
pub type Tree = BTreeMap<Vec<u8>, Entry>;

/// How modification times are compared.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Times {
    /// To the nanosecond: two replicas.
    Equal,
    /// Only where one side shows a time set by a test: two executions of the same operations. An
    /// operation that forgot to change the time on one side is found by this, too.
    Explicit,
    Ignored,
}

/// How the layout of data and holes is compared.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Holes {
    /// The same blocks are data.
    Equal,
    /// About the same space is allocated: for files that were preallocated, where the kernel may
    /// show the same region as data or as hole depending on what is cached.
    Lenient,
    Ignored,
}

/// What to compare.
#[derive(Clone, Debug)]
pub struct Options {
    pub times: Times,
    pub holes: Holes,
    /// Names directly below the root that are not part of the tree.
    pub skip: Vec<Vec<u8>>,
}

impl Options {
    /// Two replicas of one volume: everything must be equal.
    pub fn replicas() -> Self {
        Self {
            times: Times::Equal,
            holes: Holes::Lenient,
            skip: vec![b"lost+found".to_vec()],
        }
    }

    /// The same operations executed on two directories.
    pub fn executions() -> Self {
        Self {
            times: Times::Explicit,
            ..Self::replicas()
        }
    }
}

/// Captures everything below `dir`.
pub fn capture(dir: &OwnedFd, options: &Options) -> Result<Tree, String> {
    inside(dir, || {
        let mut walk = Walk {
            tree: Tree::new(),
            seen: BTreeMap::new(),
            options,
        };
        walk.directory(dir, b"")?;
        Ok(walk.tree)
    })
}

/// A walk in progress. It stands in the directory it reads (names stay short however deep it is).
struct Walk<'a> {
    tree: Tree,
    seen: BTreeMap<(u64, u64), Vec<u8>>,
    options: &'a Options,
}

impl Walk<'_> {
    fn directory(&mut self, dir: &OwnedFd, path: &[u8]) -> Result<(), String> {
        let note = |error| format!("{}: {error}", show(path));
        sys::fchdir(dir).map_err(note)?;
        let own = entry(b".").map_err(note)?;
        self.tree.insert(path.to_vec(), own);
        let names = sys::names(".").map_err(note)?;
        for name in names {
            if path.is_empty() && self.options.skip.contains(&name) {
                continue;
            }
            let mut below = path.to_vec();
            if !below.is_empty() {
                below.push(b'/');
            }
            below.extend(&name);
            let note = |error| format!("{}: {error}", show(&below));
            let stat = sys::lstat(&name).map_err(note)?;
            if stat.st_mode & libc::S_IFMT == libc::S_IFDIR {
                let flags = libc::O_RDONLY | libc::O_DIRECTORY | libc::O_NOFOLLOW;
                let inner = sys::open(&name, flags, 0).map_err(note)?;
                self.directory(&inner, &below)?;
                sys::fchdir(dir).map_err(note)?;
                continue;
            }
            let mut entry = entry(&name).map_err(note)?;
            if stat.st_nlink > 1 {
                let first = self.seen.entry((stat.st_dev, stat.st_ino));
                entry.same_as = Some(first.or_insert_with(|| below.clone()).clone());
            }
            self.tree.insert(below, entry);
        }
        Ok(())
    }
}

fn entry(name: &[u8]) -> Sys<Entry> {
    let stat = sys::lstat(name)?;
    let kind = stat.st_mode & libc::S_IFMT;
    let mut entry = Entry {
        mode: stat.st_mode,
        uid: stat.st_uid,
        gid: stat.st_gid,
        size: if kind == libc::S_IFDIR {
            0
        } else {
            stat.st_size as u64
        },
        links: stat.st_nlink,
        mtime: (stat.st_mtime, stat.st_mtime_nsec),
        device: stat.st_rdev,
        same_as: None,
        target: if kind == libc::S_IFLNK {
            sys::readlink(name)?
        } else {
            Vec::new()
        },
        xattrs: BTreeMap::new(),
        data: BTreeMap::new(),
        layout: Vec::new(),
        allocated: 0,
    };
    for key in sys::listxattr(name)? {
        let value = sys::getxattr(name, &key)?;
        entry.xattrs.insert(key, value);
    }
    if kind == libc::S_IFREG {
        let file = sys::open(name, libc::O_RDONLY | libc::O_NOFOLLOW | libc::O_NOATIME, 0)
            .or_else(|_| sys::open(name, libc::O_RDONLY | libc::O_NOFOLLOW, 0))?;
        // Layout first: reading fills the cache, which the kernel then shows as data.
        entry.allocated = stat.st_blocks as u64 * 512;
        entry.layout = layout(&file, entry.size)?;
        entry.data = hashes(&file, entry.size, &entry.layout)?;
    }
    Ok(entry)
}

/// Ranges of blocks that hold data.
fn layout(file: &OwnedFd, size: u64) -> Sys<Vec<(u64, u64)>> {
    let mut ranges: Vec<(u64, u64)> = Vec::new();
    let mut at = 0;
    while at < size {
        let start = match sys::lseek(file, at as i64, libc::SEEK_DATA) {
            Err(sys::Errno(libc::ENXIO)) => break,
            other => other?,
        };
        at = sys::lseek(file, start as i64, libc::SEEK_HOLE)?;
        let range = (start / BLOCK, at.div_ceil(BLOCK));
        match ranges.last_mut() {
            Some(last) if last.1 >= range.0 => last.1 = range.1,
            _ => ranges.push(range),
        }
    }
    Ok(ranges)
}

/// Holes are not read: a file may be terabytes of them.
fn hashes(file: &OwnedFd, size: u64, layout: &[(u64, u64)]) -> Sys<BTreeMap<u64, u64>> {
    let mut hashes = BTreeMap::new();
    let per_chunk = CHUNK as u64 / BLOCK;
    for (from, to) in layout {
        for chunk in from / per_chunk..to.div_ceil(per_chunk) {
            let at = chunk * CHUNK as u64;
            if at >= size || hashes.contains_key(&chunk) {
                continue;
            }
            let data = sys::read_all(file, at, CHUNK)?;
            if data.iter().any(|byte| *byte != 0) {
                let mut hasher = DefaultHasher::new();
                data.hash(&mut hasher);
                hashes.insert(chunk, hasher.finish());
            }
        }
    }
    Ok(hashes)
}

/// One thing that is not the same on both sides.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Difference {
    pub path: String,
    pub field: String,
    pub left: String,
    pub right: String,
}

impl std::fmt::Display for Difference {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        let Self {
            path,
            field,
            left,
            right,
        } = self;
        write!(f, "{path}: {field}: {left} | {right}")
    }
}

/// All differences of two trees, in order of the paths.
pub fn compare(left: &Tree, right: &Tree, options: &Options) -> Vec<Difference> {
    let mut found = Vec::new();
    for (path, entry) in left {
        match right.get(path) {
            Some(other) => compare_entry(path, (entry, other), options, &mut found),
            None => found.push(difference(path, "name", "exists", "missing")),
        }
    }
    for path in right.keys().filter(|path| !left.contains_key(*path)) {
        found.push(difference(path, "name", "missing", "exists"));
    }
    found.sort_by(|one, other| one.path.cmp(&other.path));
    found
}

/// The differences of two directories, as text, empty if there are none.
pub fn report(left: &OwnedFd, right: &OwnedFd, options: &Options) -> Result<String, String> {
    let (left, right) = (capture(left, options)?, capture(right, options)?);
    let found = compare(&left, &right, options);
    let mut text = String::new();
    for difference in found.iter().take(20) {
        writeln!(text, "  {difference}").expect("writing to a string");
    }
    if found.len() > 20 {
        writeln!(text, "  and {} more", found.len() - 20).expect("writing to a string");
    }
    Ok(text)
}

fn compare_entry(
    path: &[u8],
    (left, right): (&Entry, &Entry),
    options: &Options,
    found: &mut Vec<Difference>,
) {
    let mut field = |name: &str, left: String, right: String| {
        if left != right {
            found.push(difference(path, name, &left, &right));
        }
    };
    field(
        "mode",
        format!("{:o}", left.mode),
        format!("{:o}", right.mode),
    );
    field("uid", left.uid.to_string(), right.uid.to_string());
    field("gid", left.gid.to_string(), right.gid.to_string());
    field("size", left.size.to_string(), right.size.to_string());
    field("links", left.links.to_string(), right.links.to_string());
    field(
        "device",
        format!("{:x}", left.device),
        format!("{:x}", right.device),
    );
    field("target", show(&left.target), show(&right.target));
    let group = |entry: &Entry| entry.same_as.as_deref().map_or("alone".into(), show);
    field("same file as", group(left), group(right));
    for key in left.xattrs.keys().chain(right.xattrs.keys()) {
        let value = |entry: &Entry| entry.xattrs.get(key).map_or("none".into(), |v| show(v));
        field(&format!("xattr {}", show(key)), value(left), value(right));
    }
    if compares_time(left, right, options.times) {
        let time = |entry: &Entry| format!("{}.{:09}", entry.mtime.0, entry.mtime.1);
        field("mtime", time(left), time(right));
    }
    if left.data != right.data && left.size == right.size {
        let other = |chunk: &&u64| left.data.get(*chunk) != right.data.get(*chunk);
        let chunks = left.data.keys().chain(right.data.keys()).filter(other);
        let at = chunks.min().map_or(0, |chunk| chunk * CHUNK as u64);
        let range = format!("differs first in {at}..{}", at + CHUNK as u64);
        field("data", range, "other bytes".into());
    }
    match options.holes {
        Holes::Equal => field("data blocks", blocks(&left.layout), blocks(&right.layout)),
        Holes::Lenient if !about_equal(left.allocated, right.allocated) => {
            field(
                "allocated",
                left.allocated.to_string(),
                right.allocated.to_string(),
            );
        }
        Holes::Lenient | Holes::Ignored => {}
    }
}

fn compares_time(left: &Entry, right: &Entry, times: Times) -> bool {
    match times {
        Times::Equal => true,
        // Using a fifo moves its time on an ext4, and on no FUSE mount.
        Times::Explicit if left.mode & libc::S_IFMT == libc::S_IFIFO => false,
        Times::Explicit => left.mtime.0 < EXPLICIT_BEFORE || right.mtime.0 < EXPLICIT_BEFORE,
        Times::Ignored => false,
    }
}

/// Within a quarter and 128 KiB: speculative preallocation and zeroed edges differ, lost sparseness
/// does not hide in that.
fn about_equal(one: u64, two: u64) -> bool {
    one.abs_diff(two) <= one.max(two) / 4 + 128 * 1024
}

fn blocks(layout: &[(u64, u64)]) -> String {
    let ranges: Vec<_> = layout
        .iter()
        .map(|(from, to)| format!("{from}..{to}"))
        .collect();
    ranges.join(" ")
}

fn difference(path: &[u8], field: &str, left: &str, right: &str) -> Difference {
    let path = if path.is_empty() {
        "(root)".into()
    } else {
        show(path)
    };
    Difference {
        path,
        field: field.into(),
        left: left.into(),
        right: right.into(),
    }
}

/// Bytes as text, what is not printable as escapes, long ones cut.
pub fn show(bytes: &[u8]) -> String {
    let text = bytes.escape_ascii().to_string();
    if text.len() <= 160 {
        return text;
    }
    // The end is shown too: two long values often differ there only.
    let mut hasher = DefaultHasher::new();
    bytes.hash(&mut hasher);
    format!(
        "{}… ({} bytes, {:016x})",
        &text[..100],
        bytes.len(),
        hasher.finish()
    )
}
