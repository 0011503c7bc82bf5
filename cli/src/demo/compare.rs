//! Two trees compared from outside, with nothing of the replication's own code.

use std::collections::BTreeMap;
use std::fs;
use std::os::unix::ffi::OsStrExt;
use std::os::unix::fs::MetadataExt;
use std::path::Path;

use anyhow::{Context, Result};

/// Differences told in words; the rest is only counted.
const TOLD: usize = 10;

pub(super) struct Compared {
    pub(super) equal: bool,
    pub(super) entries: usize,
    pub(super) differences: Vec<String>,
}

/// Compares names, kinds, modes, owners, links, sizes, times of files, and bytes.
pub(super) fn compare(first: &Path, second: &Path) -> Result<Compared> {
    let (one, two) = (describe(first)?, describe(second)?);
    let mut differences = Vec::new();
    for path in one
        .keys()
        .chain(two.keys().filter(|p| !one.contains_key(*p)))
    {
        let (a, b) = (one.get(path), two.get(path));
        if a != b {
            let name = String::from_utf8_lossy(path);
            differences.push(format!("{name}: {a:?} and {b:?}"));
        }
    }
    let equal = differences.is_empty();
    differences.truncate(TOLD);
    Ok(Compared {
        equal,
        entries: one.len(),
        differences,
    })
}

/// Everything below a directory by its path; Tandem's own directory is left out.
fn describe(root: &Path) -> Result<BTreeMap<Vec<u8>, String>> {
    let mut found = BTreeMap::new();
    let mut todo = vec![root.to_path_buf()];
    while let Some(dir) = todo.pop() {
        let context = || format!("read {}", dir.display());
        for entry in fs::read_dir(&dir).with_context(context)? {
            let path = entry.with_context(context)?.path();
            if dir == root && path.file_name().is_some_and(|n| n == ".tandem") {
                continue;
            }
            let meta = fs::symlink_metadata(&path)?;
            let mut text = format!(
                "mode {:o}, owner {}:{}, {} links",
                meta.mode(),
                meta.uid(),
                meta.gid(),
                meta.nlink()
            );
            if meta.is_dir() {
                todo.push(path.clone());
            } else {
                let content = match meta.is_file() {
                    true => blake3::hash(&fs::read(&path)?).to_hex().to_string(),
                    false => format!("{:?}", fs::read_link(&path).ok()),
                };
                text += &format!(
                    ", {} bytes, changed {}.{:09}, {content}",
                    meta.len(),
                    meta.mtime(),
                    meta.mtime_nsec()
                );
            }
            let name = path.strip_prefix(root).unwrap_or(&path);
            found.insert(name.as_os_str().as_bytes().to_vec(), text);
        }
    }
    Ok(found)
}
