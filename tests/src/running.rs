//! A running load in a cluster, and other things of a node that a test begins and must end.

use crate::cluster::Cluster;
use crate::load::{self, Told, WRITERS};
use crate::sys;
use anyhow::{Context, Result, ensure};
use std::fs::File;
use std::os::fd::OwnedFd;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, ExitStatus, Stdio};
use std::sync::atomic::{AtomicU32, Ordering};
use std::thread;
use std::time::{Duration, Instant};

/// A program in a node that should end does so within this, whatever it waits for.
const END_LIMIT: Duration = Duration::from_secs(30);
const PAUSE: Duration = Duration::from_millis(20);

/// A program inside a node, killed on drop.
pub struct Running {
    child: Child,
    output: PathBuf,
}

impl Running {
    /// Starts it; its output goes to `output`.
    pub fn start(mut command: Command, output: &Path) -> Result<Self> {
        let file = File::create(output).with_context(|| output.display().to_string())?;
        command
            .stdin(Stdio::null())
            .stdout(file.try_clone()?)
            .stderr(file);
        let child = command.spawn().with_context(|| format!("{command:?}"))?;
        let output = output.to_path_buf();
        Ok(Self { child, output })
    }

    pub fn output(&self) -> String {
        std::fs::read_to_string(&self.output).unwrap_or_default()
    }

    pub fn has_ended(&mut self) -> Result<bool> {
        Ok(self.child.try_wait()?.is_some())
    }

    /// How it ends by itself.
    pub fn wait(&mut self, limit: Duration) -> Result<ExitStatus> {
        let started = Instant::now();
        loop {
            if let Some(status) = self.child.try_wait()? {
                return Ok(status);
            }
            let output = self.output();
            ensure!(started.elapsed() < limit, "has not ended; said: {output}");
            thread::sleep(PAUSE);
        }
    }
}

impl Drop for Running {
    fn drop(&mut self) {
        // The one outside passes it on; what does not end dies with its node.
        sys::kill(self.child.id(), libc::SIGTERM).ok();
        if self.wait(Duration::from_secs(2)).is_err() {
            self.child.kill().ok();
            self.child.wait().ok();
        }
    }
}

/// Writers inside a node, and a directory for their logs.
pub struct Load {
    program: Running,
    logs: PathBuf,
}

impl Load {
    /// Starts the writers and waits until all of them write.
    pub fn start(cluster: &Cluster, node: &str) -> Result<Self> {
        let logs = scratch_dir("load")?;
        let command = cluster.helper_command(node, "load", &[&logs.to_string_lossy()])?;
        let program = Running::start(command, &logs.join("output"))?;
        let mut load = Self { program, logs };
        load.goes_on(100)?;
        Ok(load)
    }

    /// What every writer's log tells by now.
    pub fn told(&self) -> Result<Vec<Told>> {
        (0..WRITERS).map(|n| load::told(&self.logs, n)).collect()
    }

    /// Waits until every writer was answered that many times more.
    pub fn goes_on(&mut self, more: usize) -> Result<()> {
        let started = Instant::now();
        let before: Vec<_> = self.told()?.iter().map(|told| told.answered).collect();
        loop {
            let told = self.told()?;
            let mut pairs = told.iter().zip(&before);
            if pairs.all(|(now, before)| now.answered >= before + more) {
                return Ok(());
            }
            ensure!(
                started.elapsed() < END_LIMIT && !self.program.has_ended()?,
                "the writers do not go on: {:?}; {}",
                told.iter().map(|told| &told.error).collect::<Vec<_>>(),
                self.program.output()
            );
            thread::sleep(PAUSE);
        }
    }

    /// Ends the writers; an error if an operation of theirs failed.
    pub fn end(&mut self) -> Result<()> {
        load::end(&self.logs)?;
        let status = self.program.wait(END_LIMIT)?;
        let output = self.program.output();
        ensure!(status.success(), "the writers failed: {status}: {output}");
        Ok(())
    }

    /// Waits until the writers have ended because their node or its module has.
    pub fn wait(&mut self) -> Result<()> {
        self.program.wait(END_LIMIT).map(drop)
    }

    /// Everything that was answered is found in the replicated directory at `root`.
    pub fn is_found(&self, root: &Path) -> Result<()> {
        let root = &root.join(self.logs.file_name().unwrap_or_default());
        for (number, told) in self.told()?.iter().enumerate() {
            ensure!(told.answered > 0, "writer {number} wrote nothing");
            told.is_found(root, number)
                .with_context(|| format!("writer {number}, {} answers", told.answered))?;
        }
        Ok(())
    }

    /// The longest time that an operation took.
    pub fn longest(&self) -> Result<Duration> {
        let told = self.told()?;
        Ok(told
            .iter()
            .map(|told| told.longest)
            .max()
            .unwrap_or_default())
    }
}

impl Drop for Load {
    fn drop(&mut self) {
        if thread::panicking() {
            for (number, told) in self.told().unwrap_or_default().iter().enumerate() {
                let Told {
                    answered,
                    longest,
                    error,
                    ..
                } = told;
                println!("writer {number}: {answered} answers, longest {longest:?}, {error:?}");
            }
        }
        std::fs::remove_dir_all(&self.logs).ok();
    }
}

/// A new directory for what a test keeps outside of the replicated one.
pub fn scratch_dir(name: &str) -> Result<PathBuf> {
    static NEXT: AtomicU32 = AtomicU32::new(0);
    let number = NEXT.fetch_add(1, Ordering::Relaxed);
    let name = format!("tandem-{name}-{}-{number}", std::process::id());
    let dir = std::env::temp_dir().join(name);
    std::fs::create_dir(&dir).with_context(|| dir.display().to_string())?;
    Ok(dir)
}

/// A file that leaves a disk no more than `left` bytes, removed on drop.
pub struct Filler(PathBuf);

impl Filler {
    /// Fills the disk of a node from outside, beside the replicated directory.
    pub fn new(disk: &Path, left: u64) -> Result<Self> {
        let filler = Self(disk.join("filler"));
        let file = File::create(&filler.0).context("a file on the node's disk")?;
        let mut size = 0;
        // From large to small pieces: the free blocks are not in one.
        let mut piece = 64 << 20;
        while piece >= 4096 {
            if free(disk)? <= left + piece {
                piece /= 2;
                continue;
            }
            let fd = OwnedFd::from(file.try_clone()?);
            match sys::fallocate(&fd, 0, size, piece.cast_signed()) {
                Ok(()) => size += piece.cast_signed(),
                Err(error) if error.0 == libc::ENOSPC => piece /= 2,
                Err(error) => return Err(error).context("fill the disk"),
            }
        }
        file.sync_all()?;
        Ok(filler)
    }
}

impl Drop for Filler {
    fn drop(&mut self) {
        std::fs::remove_file(&self.0).ok();
    }
}

fn free(disk: &Path) -> Result<u64> {
    let status = sys::statfs(disk.as_os_str().as_encoded_bytes())?;
    Ok(status.f_bavail * status.f_bsize.cast_unsigned())
}
