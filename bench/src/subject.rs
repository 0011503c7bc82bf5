//! What is measured: the two directories of a comparison, and the lab behind them if there is one.

use std::fs;
use std::path::{Path, PathBuf};
use std::time::Duration;

use anyhow::{Context as _, Result, ensure};
use serde::{Deserialize, Serialize};

use crate::args::Args;
use crate::lab::{Lab, Node, Nodes};
use crate::runner::{self, Side};
use crate::sys;
use crate::usage::Usage;
use crate::workloads;

const SHORT: Duration = Duration::from_secs(60);
const END_LIMIT: Duration = Duration::from_secs(10);

/// The directories under test. Dropping it removes everything it made.
pub(crate) struct Subject {
    /// The directory that is measured.
    pub(crate) measured: Side,
    /// What it is compared with.
    pub(crate) bare: Option<Side>,
    /// A directory for sockets and logs.
    pub(crate) scratch: PathBuf,
    /// Directories on all disks that take part, as we see them.
    settle: Vec<PathBuf>,
    nodes: Option<Nodes>,
    lab: Option<Lab>,
}

impl Subject {
    pub(crate) fn new(args: &Args) -> Result<Self> {
        let scratch = make_scratch()?;
        let made = match &args.dir_subject {
            Some(dir) => of_directories(dir, args.dir_bare.as_deref(), scratch.clone()),
            None => of_lab(args, scratch.clone()),
        };
        if made.is_err() {
            remove(&scratch);
        }
        let subject = made?;
        for side in subject.sides() {
            let dir = side.dir.clone();
            runner::run(side.process, SHORT, || make_open_dir(&dir))
                .with_context(|| format!("make {}", side.dir.display()))?;
        }
        Ok(subject)
    }

    pub(crate) fn sides(&self) -> impl Iterator<Item = &Side> {
        self.bare.iter().chain([&self.measured])
    }

    /// The serving node first.
    pub(crate) fn nodes(&self) -> Vec<&Node> {
        self.nodes
            .iter()
            .flat_map(|nodes| [&nodes.serving, &nodes.following])
            .collect()
    }

    /// What the daemons of each node have used so far.
    pub(crate) fn usage(&self) -> Result<Vec<Usage>> {
        let pids = self
            .nodes()
            .into_iter()
            .filter_map(|node| node.pid)
            .collect::<Vec<_>>();
        pids.into_iter().map(Usage::of_node).collect()
    }

    /// Writes everything back on all disks.
    pub(crate) fn settle(&self) -> Result<()> {
        runner::settle(&self.settle)
    }

    /// An error if the subject is no longer what is to be measured.
    pub(crate) fn check(&self) -> Result<()> {
        self.lab
            .as_ref()
            .map_or(Ok(()), |lab| lab.nodes().map(drop))
    }

    /// Waits until it is again.
    pub(crate) fn wait_ready(&self) -> Result<()> {
        self.lab
            .as_ref()
            .map_or(Ok(()), |lab| lab.wait_ready().map(drop))
    }

    /// Removes what the workloads left in a directory.
    pub(crate) fn empty(&self, side: &Side) -> Result<()> {
        let dir = side.dir.clone();
        let work = || {
            for entry in fs::read_dir(&dir)? {
                let entry = entry?;
                if entry.file_type()?.is_dir() {
                    fs::remove_dir_all(entry.path())?;
                } else {
                    fs::remove_file(entry.path())?;
                }
            }
            Ok(())
        };
        runner::run(side.process, SHORT * 5, work)
            .with_context(|| format!("empty {}", side.dir.display()))
    }
}

impl Drop for Subject {
    fn drop(&mut self) {
        // What was killed may still be ending, with files open.
        sys::reap_all(END_LIMIT);
        // A lab is removed as a whole, disks and all.
        if self.lab.take().is_none() {
            for side in self.sides() {
                remove(&side.dir);
            }
        }
        remove(&self.scratch);
    }
}

fn remove(dir: &Path) {
    match fs::remove_dir_all(dir) {
        Err(error) if error.kind() != std::io::ErrorKind::NotFound => {
            eprintln!("tandem-bench: {} is left behind: {error}", dir.display());
        }
        _ => {}
    }
}

fn of_directories(subject: &Path, bare: Option<&Path>, scratch: PathBuf) -> Result<Subject> {
    let side = |name, dir: &Path| -> Result<Side> {
        let dir = dir
            .canonicalize()
            .with_context(|| format!("{}", dir.display()))?;
        Ok(Side {
            name,
            dir: own(&dir),
            process: None,
        })
    };
    let measured = side("subject", subject)?;
    let bare = bare.map(|dir| side("bare", dir)).transpose()?;
    ensure!(
        bare.as_ref().is_none_or(|bare| bare.dir != measured.dir),
        "--dir-subject and --dir-bare are the same directory"
    );
    let settle = bare
        .iter()
        .chain([&measured])
        .filter_map(|side| side.dir.parent());
    let settle = settle.map(Path::to_path_buf).collect();
    Ok(Subject {
        measured,
        bare,
        scratch,
        settle,
        nodes: None,
        lab: None,
    })
}

fn of_lab(args: &Args, scratch: PathBuf) -> Result<Subject> {
    let lab = Lab::up(args)?;
    let nodes = lab.wait_ready()?;
    let node = &nodes.serving;
    let disk = |node: &Node| node.replica.parent().map(Path::to_path_buf);
    let outside = disk(node).context("the replica has no parent directory")?;
    let settle = [Some(outside.clone()), disk(&nodes.following)]
        .into_iter()
        .flatten()
        .collect();
    let bare = (!args.mount_only)
        .then(|| bare_beside(node, &outside))
        .transpose()?;
    let measured = Side {
        name: "mount",
        dir: own(&node.mount),
        process: node.pid,
    };
    Ok(Subject {
        measured,
        bare,
        scratch,
        settle,
        nodes: Some(nodes),
        lab: Some(lab),
    })
}

/// A directory beside the replica, on the same disk. Seen from inside the node where that is
/// possible, because the path from outside may be closed to other users.
fn bare_beside(node: &Node, disk: &Path) -> Result<Side> {
    #[derive(Serialize, Deserialize, PartialEq)]
    struct Identity(u64, u64);
    let identity = |dir: &Path| -> Result<Identity> {
        use std::os::unix::fs::MetadataExt;
        let found = fs::metadata(dir)?;
        Ok(Identity(found.dev(), found.ino()))
    };
    let seen = identity(disk).with_context(|| format!("{}", disk.display()))?;
    let inside = node
        .mount
        .parent()
        .map(Path::to_path_buf)
        .unwrap_or_default();
    let same = runner::run(node.pid, SHORT, || identity(&inside)).is_ok_and(|found| found == seen);
    let (dir, process) = if same {
        (own(&inside), node.pid)
    } else {
        (own(disk), None)
    };
    Ok(Side {
        name: "bare",
        dir,
        process,
    })
}

/// A name of our own in a directory that may hold other things.
fn own(dir: &Path) -> PathBuf {
    dir.join(format!("tandem-bench-{}", std::process::id()))
}

/// Makes a directory that another user may pass.
fn make_open_dir(dir: &Path) -> Result<()> {
    use std::os::unix::fs::PermissionsExt;
    fs::create_dir(dir)?;
    Ok(fs::set_permissions(dir, fs::Permissions::from_mode(0o755))?)
}

/// For the database server's socket: a short path, and the server's own directory.
fn make_scratch() -> Result<PathBuf> {
    let dir = own(&std::env::temp_dir());
    make_open_dir(&dir).with_context(|| format!("make {}", dir.display()))?;
    if let Some((user, group)) = workloads::postgres_user().ok().flatten() {
        std::os::unix::fs::chown(&dir, Some(user), Some(group))?;
    }
    Ok(dir)
}
