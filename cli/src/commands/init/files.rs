//! A new configuration, written as a whole or not at all, and never over anything that is there.
//!
//! It is made in a directory of its own beside its place, checked there as the daemons would check
//! it, and only then moved file by file.

use std::fs::{self, DirBuilder, OpenOptions};
use std::io::{ErrorKind, Write};
use std::os::unix::fs::{DirBuilderExt, OpenOptionsExt};
use std::path::{Path, PathBuf};

use anyhow::{Context, Result, bail};

use crate::config::{Config, Dirs, Problems, load};

const PUBLIC: u32 = 0o644;
const SECRET: u32 = 0o600;

/// Files of the configuration directory, in the order in which they are to appear.
#[derive(Default)]
pub(crate) struct Files(Vec<File>);

struct File {
    /// Below the configuration directory.
    path: String,
    text: String,
    mode: u32,
}

impl Files {
    pub(crate) fn add(&mut self, path: &str, text: impl Into<String>) {
        self.push(path, text.into(), PUBLIC);
    }

    /// A private key.
    pub(crate) fn add_secret(&mut self, path: &str, text: impl Into<String>) {
        self.push(path, text.into(), SECRET);
    }

    fn push(&mut self, path: &str, text: String, mode: u32) {
        self.0.push(File {
            path: path.into(),
            text,
            mode,
        });
    }

    /// Refuses if one of these is there already.
    ///
    /// # Errors
    /// Which.
    pub(crate) fn check_free<'p>(
        dirs: &Dirs,
        paths: impl IntoIterator<Item = &'p str>,
    ) -> Result<()> {
        let there = paths.into_iter().map(|path| dirs.config.join(path));
        let there: Vec<_> = there
            .filter(|path| path.symlink_metadata().is_ok())
            .collect();
        let Some(first) = there.first() else {
            return Ok(());
        };
        let more = match there.len() {
            1 => String::new(),
            count => format!(" (and {} more)", count - 1),
        };
        bail!(
            "{}{more} exists already and is not overwritten; this node is configured. Move {} \
             away to begin anew, or give another --config-dir",
            first.display(),
            dirs.config.display()
        )
    }

    /// Checks everything and writes it.
    ///
    /// # Errors
    /// A file that exists already, what is wrong with the configuration, or what could not be
    /// written; then nothing is left of it.
    pub(crate) fn write(&self, dirs: &Dirs) -> Result<Config> {
        Self::check_free(dirs, self.0.iter().map(|file| file.path.as_str()))?;
        let draft = Draft::make(dirs)?;
        for file in &self.0 {
            draft.write(file)?;
        }
        let mut there = dirs.clone();
        there.config.clone_from(&draft.0);
        load(&there)
            .complete()
            .map_err(|problems| draft.named(problems, dirs))?;
        let mut moved = Vec::new();
        for file in &self.0 {
            let to = dirs.config.join(&file.path);
            if let Err(error) = draft.publish(&file.path, &to) {
                for path in &moved {
                    let _ = fs::remove_file(path);
                }
                return Err(error);
            }
            moved.push(to);
        }
        drop(draft);
        let parents = ["", "pki", "modules"].map(|name| dirs.config.join(name));
        for parent in parents.iter().filter(|parent| parent.is_dir()) {
            sync(parent)?;
        }
        Ok(load(dirs).complete()?)
    }
}

/// The directory in which a configuration is made; removed when dropped.
struct Draft(PathBuf);

impl Draft {
    fn make(dirs: &Dirs) -> Result<Self> {
        let path = dirs.config.join(format!(".new-{}", std::process::id()));
        for directory in [&path.join("pki"), &path.join("modules")] {
            make_directory(directory)?;
        }
        Ok(Self(path))
    }

    fn write(&self, file: &File) -> Result<()> {
        let path = self.0.join(&file.path);
        let write = || {
            let mut options = OpenOptions::new();
            options.write(true).create_new(true).mode(file.mode);
            let mut open = options.open(&path)?;
            open.write_all(file.text.as_bytes())?;
            open.sync_all()
        };
        write().with_context(|| format!("writing {}", path.display()))
    }

    /// Gives a file its name, unless that is taken.
    fn publish(&self, name: &str, to: &Path) -> Result<()> {
        if let Some(parent) = to.parent() {
            make_directory(parent)?;
        }
        fs::hard_link(self.0.join(name), to).map_err(|error| match error.kind() {
            ErrorKind::AlreadyExists => anyhow::anyhow!(
                "{} has just been made by somebody else; nothing was changed",
                to.display()
            ),
            _ => anyhow::anyhow!("writing {}: {error}", to.display()),
        })
    }

    /// The problems, with the places that the files are to have.
    fn named(&self, mut problems: Problems, dirs: &Dirs) -> Problems {
        for problem in &mut problems.0 {
            if let Ok(below) = problem.place.file.strip_prefix(&self.0) {
                problem.place.file = dirs.config.join(below);
            }
            let here = self.0.display().to_string();
            problem.message = problem
                .message
                .replace(&here, &dirs.config.to_string_lossy());
        }
        problems
    }
}

impl Drop for Draft {
    fn drop(&mut self) {
        if let Err(error) = fs::remove_dir_all(&self.0) {
            tracing::warn!("{} could not be removed: {error}", self.0.display());
        }
    }
}

fn make_directory(path: &Path) -> Result<()> {
    DirBuilder::new()
        .recursive(true)
        .mode(0o700)
        .create(path)
        .with_context(|| format!("making {}", path.display()))
}

fn sync(directory: &Path) -> Result<()> {
    let open = fs::File::open(directory).and_then(|directory| directory.sync_all());
    open.with_context(|| format!("writing {}", directory.display()))
}
