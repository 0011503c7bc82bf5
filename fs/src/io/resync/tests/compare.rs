//! Where two trees differ.

use super::super::super::{lasting, sys};
use super::super::attributes;
use std::collections::{BTreeMap, HashMap};
use std::os::fd::AsRawFd;
use std::os::unix::ffi::OsStrExt;
use std::path::Path;

/// What stands at a path.
#[derive(PartialEq, Debug)]
struct One {
    kind: u32,
    attrs: String,
    identity: String,
    links: u64,
    /// First path of the same file.
    first: Vec<u8>,
    content: String,
}

fn tree(root: &Path) -> BTreeMap<Vec<u8>, One> {
    let mut found = BTreeMap::new();
    let mut firsts = HashMap::new();
    let mut todo = vec![Vec::new()];
    while let Some(path) = todo.pop() {
        let full = root.join(std::ffi::OsStr::from_bytes(&path));
        let cpath = sys::path_cstring(&full).unwrap();
        let fd = sys::openat(libc::AT_FDCWD, &cpath, libc::O_PATH | libc::O_NOFOLLOW, 0).unwrap();
        let stat = sys::fstat(fd.as_raw_fd()).unwrap();
        let kind = stat.st_mode & libc::S_IFMT;
        let readable = matches!(kind, libc::S_IFREG | libc::S_IFDIR);
        let open = readable.then(|| {
            let flags = libc::O_RDONLY | libc::O_NONBLOCK;
            sys::openat(libc::AT_FDCWD, &cpath, flags, 0).unwrap()
        });
        let handle = sys::handle_at(fd.as_raw_fd(), c"").unwrap();
        let identity = match path.is_empty() {
            true => None,
            false => lasting::read(fd.as_raw_fd(), &handle).unwrap(),
        };
        let raw = open.as_ref().map_or(fd.as_raw_fd(), AsRawFd::as_raw_fd);
        let mut attrs = attributes::read(raw).unwrap();
        // This very comparison reads.
        attrs.atime = (0, 0);
        let content = match kind {
            libc::S_IFREG => blake3::hash(&std::fs::read(&full).unwrap()).to_string(),
            libc::S_IFLNK => format!("{:?}", std::fs::read_link(&full).unwrap()),
            libc::S_IFDIR => {
                for entry in std::fs::read_dir(&full).unwrap() {
                    let name = entry.unwrap().file_name();
                    if path.is_empty() && name.as_bytes() == tandem_repl::logic::resync::PRIVATE {
                        continue;
                    }
                    let mut below = path.clone();
                    if !below.is_empty() {
                        below.push(b'/');
                    }
                    below.extend_from_slice(name.as_bytes());
                    todo.push(below);
                }
                String::new()
            }
            _ => stat.st_rdev.to_string(),
        };
        let links = if kind == libc::S_IFDIR {
            0
        } else {
            stat.st_nlink
        };
        found.insert(
            path.clone(),
            One {
                kind,
                attrs: format!("{attrs:?}"),
                identity: format!("{identity:?}"),
                links,
                first: path.clone(),
                content,
            },
        );
        let first = firsts.entry(stat.st_ino).or_insert_with(|| path.clone());
        *first = first.clone().min(path);
    }
    // The first path in order stands for a file with several names.
    let inode = |path: &[u8]| {
        let full = root.join(std::ffi::OsStr::from_bytes(path));
        let stat = std::fs::symlink_metadata(full).unwrap();
        std::os::unix::fs::MetadataExt::ino(&stat)
    };
    for (path, one) in &mut found {
        one.first = firsts[&inode(path)].clone();
    }
    found
}

pub(super) fn differences(source: &Path, target: &Path) -> Vec<String> {
    let (one, two) = (tree(source), tree(target));
    let mut found = Vec::new();
    for (path, left) in &one {
        let name = String::from_utf8_lossy(path);
        match two.get(path) {
            None => found.push(format!("{name}: missing")),
            Some(right) if left != right => found.push(format!("{name}:\n  {left:?}\n  {right:?}")),
            Some(_) => {}
        }
    }
    for path in two.keys().filter(|p| !one.contains_key(*p)) {
        found.push(format!("{}: too much", String::from_utf8_lossy(path)));
    }
    found
}
