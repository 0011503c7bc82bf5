//! Reads a tree as it is.

use super::{CHUNK, Entry, Options, Tree, show};
use crate::scratch::inside;
use crate::sys::{self, Sys};
use std::collections::BTreeMap;
use std::collections::hash_map::DefaultHasher;
use std::hash::{Hash, Hasher};
use std::os::fd::OwnedFd;

/// Files up to this size are read whole.
const READ_WHOLE: u64 = 64 << 20;
/// Unit in which the layout of data and holes is compared.
const BLOCK: u64 = 4096;
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
                // Only one of the nodes may have something to keep aside.
                if name == b".tandem"
                    && let Some(root) = self.tree.get_mut(path)
                {
                    root.links -= 1;
                }
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
    let lasting = tandem_repl::ids::Uid::XATTR.as_bytes();
    for key in sys::listxattr(name)? {
        // Seen only below the mount, and another for every run.
        if key == lasting {
            continue;
        }
        let value = sys::getxattr(name, &key)?;
        entry.xattrs.insert(key, value);
    }
    if kind == libc::S_IFREG {
        let file = sys::open(name, libc::O_RDONLY | libc::O_NOFOLLOW | libc::O_NOATIME, 0)
            .or_else(|_| sys::open(name, libc::O_RDONLY | libc::O_NOFOLLOW, 0))?;
        if entry.size > READ_WHOLE {
            // Stores through a mapping may not be known below before.
            sys::fsync(&file)?;
        }
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

/// One hash per chunk that is not all zeros. What is called a hole is read as well, because that
/// may be wrong; only in very large files it is believed.
fn hashes(file: &OwnedFd, size: u64, layout: &[(u64, u64)]) -> Sys<BTreeMap<u64, u64>> {
    let mut hashes = BTreeMap::new();
    let per_chunk = CHUNK as u64 / BLOCK;
    let everything = [(0, size.div_ceil(BLOCK))];
    let ranges = if size <= READ_WHOLE {
        &everything
    } else {
        layout
    };
    for (from, to) in ranges {
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
