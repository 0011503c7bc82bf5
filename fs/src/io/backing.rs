//! One replicated directory's underlying tree, held by a private detached clone of its mount: no
//! path leads to it from outside, nothing mounted over or into the directory can get in the way.

use super::nodes::Nodes;
use super::sys::{self, Handle};
use std::io;
use std::os::fd::{AsRawFd, OwnedFd, RawFd};
use std::path::{Path, PathBuf};
use std::sync::Arc;

pub(crate) struct Backing {
    pub(crate) path: PathBuf,
    root: Arc<OwnedFd>,
    root_handle: Handle,
}

impl Backing {
    /// Clones the mount at `path`. Do this before covering it.
    ///
    /// # Errors
    /// The directory cannot be opened, or its file system has no file handles.
    pub(crate) fn open(path: &Path) -> io::Result<Self> {
        let tree = sys::open_tree_clone(path)?;
        if let Err(e) = sys::mount_no_atime(&tree) {
            tracing::debug!("access times of {} are kept: {e}", path.display());
        }
        let flags = libc::O_RDONLY | libc::O_DIRECTORY;
        let root = Arc::new(sys::openat(tree.as_raw_fd(), c".", flags, 0)?);
        let root_handle = sys::handle_at(root.as_raw_fd(), c"")?;
        Ok(Self {
            path: path.to_path_buf(),
            root,
            root_handle,
        })
    }

    pub(crate) fn root_fd(&self) -> RawFd {
        self.root.as_raw_fd()
    }

    /// An empty table of nodes of this tree.
    pub(crate) fn nodes(&self) -> Nodes {
        Nodes::new(self.root.clone(), self.root_handle)
    }

    /// Everything written to this file system to stable storage.
    pub(crate) fn sync(&self) -> io::Result<()> {
        sys::syncfs(self.root_fd())
    }
}
