//! W7: what `tar -x` does as root with an archive of many small files: for each an exclusive
//! create, writes as they fall in the archive's records, times, owner and mode.

use std::fs::{self, File, FileTimes, OpenOptions, Permissions};
use std::io::Write;
use std::os::unix::fs::{PermissionsExt, fchown};
use std::path::Path;
use std::time::{Duration, SystemTime};

use anyhow::{Context as _, Result, ensure};

use super::tree::Tree;
use super::walk::{self, Found};
use super::{Context, PLAIN, Spec, Tally, files, stranger, timed_once};

/// Size of an archive's record: tar writes no more than the rest of one at a time.
const RECORD: u64 = 10_240;
/// Each file has a header of one block before it, and fills its last block.
const ARCHIVE_BLOCK: u64 = 512;

pub(super) static W7: Spec = Spec {
    id: "W7",
    what: "unpack a tree of small files",
    unit: "files/s",
    group: "tree",
    prepare: |context| files::remove_tree(&Tree::of(context).root),
    run: |context| {
        let tree = Tree::of(context);
        timed_once(|| unpack(&tree).map(|()| tree.files.len() as u64))
    },
    check,
    ..PLAIN
};

fn check(context: &Context, _: &Tally) -> Result<()> {
    let tree = Tree::of(context);
    let wanted = Found {
        entries: tree.entries(),
        bytes: tree.bytes(),
    };
    ensure!(
        walk::walk(&tree.root)? == wanted,
        "the tree differs from the archive"
    );
    for (path, _) in &tree.files {
        let found = fs::metadata(path)?;
        let mode = found.permissions().mode() & 0o7777;
        ensure!(mode == 0o644, "{}: mode {mode:o}", path.display());
        ensure!(
            found.modified()? == moment(),
            "{}: time not set",
            path.display()
        );
    }
    Ok(())
}

/// The time of everything in the archive.
fn moment() -> SystemTime {
    SystemTime::UNIX_EPOCH + Duration::from_secs(1_700_000_000)
}

pub(super) fn unpack(tree: &Tree) -> Result<()> {
    let bytes = files::large(9);
    let mut position = 0;
    for dir in &tree.dirs {
        fs::create_dir(dir).with_context(|| format!("create {}", dir.display()))?;
    }
    for (path, size) in &tree.files {
        position += ARCHIVE_BLOCK;
        extract(path, &bytes[..usize::try_from(*size)?], position)
            .with_context(|| format!("extract {}", path.display()))?;
        position += size.next_multiple_of(ARCHIVE_BLOCK);
    }
    // As tar does: directories last, as what is made in them changes their times.
    for dir in tree.dirs.iter().rev() {
        finish(&File::open(dir)?, 0o755).with_context(|| format!("{}", dir.display()))?;
    }
    Ok(())
}

fn extract(path: &Path, mut rest: &[u8], mut position: u64) -> Result<()> {
    let mut file = OpenOptions::new().write(true).create_new(true).open(path)?;
    while !rest.is_empty() {
        let part = usize::try_from(RECORD - position % RECORD)?.min(rest.len());
        file.write_all(&rest[..part])?;
        position += part as u64;
        rest = &rest[part..];
    }
    finish(&file, 0o644)
}

fn finish(file: &File, mode: u32) -> Result<()> {
    file.set_times(
        FileTimes::new()
            .set_accessed(moment())
            .set_modified(moment()),
    )?;
    fchown(file, stranger(), stranger())?;
    Ok(file.set_permissions(Permissions::from_mode(mode))?)
}
