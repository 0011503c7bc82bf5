//! What a directory tree is, in every respect an application or an administrator can see, and the
//! readable differences between two of them. The oracle of "both replicas are equal".

mod capture;

pub use capture::capture;

use serde::{Deserialize, Serialize};
use std::collections::BTreeMap;
use std::collections::hash_map::DefaultHasher;
use std::fmt::Write as _;
use std::hash::{Hash, Hasher};
use std::os::fd::OwnedFd;

/// Unit in which the data of files is compared and reported.
const CHUNK: usize = 64 * 1024;
/// Modification times below this moment (2001) were set by a test on purpose, see [`Times`].
pub const EXPLICIT_BEFORE: i64 = 1_000_000_000;

/// Everything about one name.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
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
    /// Allocated ranges in units of 4 KiB.
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
            skip: vec![b"lost+found".to_vec(), b".tandem".to_vec()],
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
    Ok(listed(&compare(&left, &right, options)))
}

/// The first differences as text, empty if there are none.
pub fn listed(found: &[Difference]) -> String {
    let mut text = String::new();
    for difference in found.iter().take(20) {
        writeln!(text, "  {difference}").expect("writing to a string");
    }
    if found.len() > 20 {
        writeln!(text, "  and {} more", found.len() - 20).expect("writing to a string");
    }
    text
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
