//! W10: `rm -rf` of the tree.

use anyhow::{Context as _, ensure};

use super::tree::Tree;
use super::{PLAIN, Spec, timed_once, untar};

pub(super) static W10: Spec = Spec {
    id: "W10",
    what: "rm -rf that tree",
    unit: "entries/s",
    group: "tree",
    prepare: |context| {
        let tree = Tree::of(context);
        if tree.root.exists() {
            Ok(())
        } else {
            untar::unpack(&tree)
        }
    },
    run: |context| {
        let tree = Tree::of(context);
        timed_once(|| {
            std::fs::remove_dir_all(&tree.root).context("remove the tree")?;
            Ok(tree.entries())
        })
    },
    check: |context, _| {
        let root = Tree::of(context).root;
        ensure!(!root.exists(), "{} is still there", root.display());
        Ok(())
    },
    ..PLAIN
};
