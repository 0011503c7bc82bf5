//! Where a lab keeps what: every path of it is made here, from the lab's directory alone.
//!
//! ```text
//! DIR/lab.json             what exists, so that any process can go on or clean up
//! DIR/lock                 held by the command that changes the lab
//! DIR/hub.log              output of the bridge's holder
//! DIR/node1/disk.img       the node's disk, a sparse file
//! DIR/node1/disk/          the same, mounted on the host: data/ is the replica, state/ the record
//! DIR/node1/etc/  run/     configuration and run directory of the node
//! DIR/node1/log            output of its init and its daemon
//! ```

use std::path::{Path, PathBuf};

use anyhow::{Context, Result, ensure};

/// Labs live here unless `--dir` says otherwise.
pub(crate) const DEFAULT_ROOT: &str = "/run/tandem-lab";
/// The one module of a lab.
pub(crate) const MODULE: &str = "data";
/// Where a node sees its disk. The rest of its `/mnt` is an empty file system of its own.
pub(crate) const DISK_INSIDE: &str = "/mnt/disk";
/// The replicated directory as an application on a node sees it.
pub(crate) const MOUNT: &str = "/mnt/disk/data";
/// Longest path of a Unix socket that the kernel takes.
const SOCKET_PATH_MAX: usize = 107;

/// A lab's directory.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Place(PathBuf);

impl Place {
    /// The directory that `--name` and `--dir` mean, in absolute form.
    pub(crate) fn new(name: &str, dir: Option<&Path>) -> Result<Self> {
        let valid = !name.is_empty() && name != "." && name != ".." && !name.contains('/');
        ensure!(
            valid,
            "lab name {name:?}: give a name that can be a file name"
        );
        let dir = dir.map_or_else(|| Path::new(DEFAULT_ROOT).join(name), Path::to_path_buf);
        let dir = std::path::absolute(&dir).with_context(|| format!("directory {dir:?}"))?;
        // Symbolic links would make our paths differ from those that the kernel reports.
        Ok(Self(dir.canonicalize().unwrap_or(dir)))
    }

    pub(crate) fn dir(&self) -> &Path {
        &self.0
    }

    pub(crate) fn state(&self) -> PathBuf {
        self.0.join("lab.json")
    }

    /// The next `lab.json` before it replaces the present one.
    pub(crate) fn state_draft(&self) -> PathBuf {
        self.0.join("lab.json.new")
    }

    pub(crate) fn lock(&self) -> PathBuf {
        self.0.join("lock")
    }

    pub(crate) fn hub_log(&self) -> PathBuf {
        self.0.join("hub.log")
    }

    pub(crate) fn node(&self, name: &str) -> NodePlace {
        NodePlace(self.0.join(name))
    }

    /// Refuses directories in which a lab cannot work, before anything is made.
    pub(crate) fn check(&self) -> Result<()> {
        let dir = &self.0;
        ensure!(
            !dir.starts_with("/mnt"),
            "lab directory {}: nodes have a /mnt of their own and would not see it; choose another",
            dir.display()
        );
        let socket = self.node("node16").socket();
        ensure!(
            socket.as_os_str().len() <= SOCKET_PATH_MAX,
            "lab directory {}: too long for the sockets in it; give one {} bytes shorter",
            dir.display(),
            socket.as_os_str().len() - SOCKET_PATH_MAX
        );
        Ok(())
    }
}

/// A node's part of the lab's directory.
#[derive(Clone, Debug)]
pub(crate) struct NodePlace(PathBuf);

impl NodePlace {
    pub(crate) fn dir(&self) -> &Path {
        &self.0
    }

    pub(crate) fn image(&self) -> PathBuf {
        self.0.join("disk.img")
    }

    pub(crate) fn disk(&self) -> PathBuf {
        self.0.join("disk")
    }

    /// The underlying tree of the replicated directory, readable also when the node is dead.
    pub(crate) fn replica(&self) -> PathBuf {
        self.disk().join(MODULE)
    }

    pub(crate) fn etc(&self) -> PathBuf {
        self.0.join("etc")
    }

    /// On the node's own disk, as on a real machine, where a power cut hits it too.
    pub(crate) fn state(&self) -> PathBuf {
        self.disk().join("state")
    }

    pub(crate) fn run(&self) -> PathBuf {
        self.0.join("run")
    }

    pub(crate) fn socket(&self) -> PathBuf {
        self.run().join(MODULE).with_extension("sock")
    }

    /// Written by the node's init when the daemon it started has ended: how.
    pub(crate) fn daemon_end(&self) -> PathBuf {
        self.run().join("daemon.ended")
    }

    pub(crate) fn log(&self) -> PathBuf {
        self.0.join("log")
    }

    /// The boot id that the node shows instead of its machine's, once its power was cut.
    pub(crate) fn boot_id(&self) -> PathBuf {
        self.0.join("boot_id")
    }

    /// What tells a `tandem` process inside the node where its files are.
    pub(crate) fn environment(&self) -> [(&'static str, PathBuf); 3] {
        [
            ("TANDEM_CONFIG_DIR", self.etc()),
            ("TANDEM_STATE_DIR", self.state()),
            ("TANDEM_RUN_DIR", self.run()),
        ]
    }
}
