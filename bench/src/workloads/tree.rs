//! The directory tree that W7 unpacks, W9 walks and W10 removes: known files of known sizes, so
//! that what is found can be compared with what was made.

use std::path::{Path, PathBuf};

use super::Context;
use crate::random::Random;

const FILES_PER_DIR: u64 = 40;
const DIRS_PER_GROUP: u64 = 10;
/// Sizes are even between the two, 12.5 KiB on average, as in a source tree.
const SIZE_MIN: u64 = 1 << 10;
const SIZE_MAX: u64 = 24 << 10;

/// The tree of one directory under test.
pub(super) struct Tree {
    pub(super) root: PathBuf,
    /// Parents before children, the root first.
    pub(super) dirs: Vec<PathBuf>,
    pub(super) files: Vec<(PathBuf, u64)>,
}

impl Tree {
    pub(super) fn of(context: &Context) -> Self {
        let root = context.dir.join("tree");
        let mut tree = Self {
            dirs: vec![root.clone()],
            root,
            files: Vec::new(),
        };
        let mut random = Random::new(0, 7);
        for number in 0..context.sizes.tree_files {
            let dir = number / FILES_PER_DIR;
            let group = tree.root.join(format!("group{}", dir / DIRS_PER_GROUP));
            let parent = group.join(format!("part{}", dir % DIRS_PER_GROUP));
            tree.add_dir(&group);
            tree.add_dir(&parent);
            let size = SIZE_MIN + random.below(SIZE_MAX - SIZE_MIN);
            tree.files
                .push((parent.join(format!("file{number:05}.c")), size));
        }
        tree
    }

    fn add_dir(&mut self, dir: &Path) {
        if !self.dirs.iter().any(|known| known == dir) {
            self.dirs.push(dir.to_path_buf());
        }
    }

    /// Directories and files below the root.
    pub(super) fn entries(&self) -> u64 {
        (self.dirs.len() - 1 + self.files.len()) as u64
    }

    pub(super) fn bytes(&self) -> u64 {
        self.files.iter().map(|(_, size)| size).sum()
    }
}
