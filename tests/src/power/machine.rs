//! One guest as a machine with a power switch.

use super::disk::Survival;
use super::drive::Drive;
use super::engine::Engine;
use super::network;
use super::patience::{PAUSE, Patience};
use super::remote::{Remote, Running};
use crate::rng::Rng;
use crate::sys;
use anyhow::{Context, Result, bail, ensure};
use std::fs::File;
use std::path::{Path, PathBuf};
use std::process::{Child, Stdio};
use std::thread::JoinHandle;
use std::time::Duration;

const DEATH_LIMIT: Duration = Duration::from_secs(60);

/// A kernel that says one of these has found something that must not be.
const COMPLAINTS: [&str; 4] = ["Kernel panic", "EXT4-fs error", "JBD2: Error", "BUG: "];

/// This program and the one under test, as guests find them.
const POWER: &str = "/mnt/host/power";
const TANDEM: &str = "/mnt/host/tandem";

/// The process of a guest, and the thread that reads what its kernel says.
struct Switched {
    child: Child,
    console: JoinHandle<()>,
}

/// A guest, switched on or off.
pub struct Machine {
    pub number: u8,
    pub name: String,
    /// Its configuration and its logs.
    pub dir: PathBuf,
    /// Of the data and of the state.
    pub drives: [Drive; 2],
    pub engine: Engine,
    /// This program.
    power: PathBuf,
    running: Option<Switched>,
}

impl Machine {
    pub fn new(
        number: u8,
        run: &Path,
        drives: [Drive; 2],
        (engine, power): (&Engine, &Path),
    ) -> Self {
        Self {
            number,
            name: network::node(number),
            dir: run.join(network::node(number)),
            drives,
            engine: engine.clone(),
            power: power.to_path_buf(),
            running: None,
        }
    }

    pub fn is_on(&self) -> bool {
        self.running.is_some()
    }

    /// How one talks to it.
    pub fn remote(&self) -> Remote {
        Remote {
            address: network::control(self.number),
        }
    }

    /// Switches it on; [`Self::is_up`] waits until it can be used. The caller's thread must live
    /// as long as the guest, whose life is bound to it.
    pub fn switch_on(&mut self) -> Result<()> {
        // The lines of the last life would be taken for those of this one.
        std::fs::rename(self.console(), self.dir.join("console.old.log")).ok();
        let mut log = File::create(self.console())?;
        let (mut said, says) = std::io::pipe()?;
        let run = self.dir.parent().unwrap_or(&self.dir);
        let mut command = self.engine.command(self.number, run, &self.power);
        command
            .stdin(Stdio::null())
            .stdout(says.try_clone()?)
            .stderr(says);
        let child = command.spawn().with_context(|| format!("{command:?}"))?;
        // Ends when the last process that could write to the console has.
        let console = std::thread::spawn(move || {
            std::io::copy(&mut said, &mut log).ok();
        });
        self.running = Some(Switched { child, console });
        Ok(())
    }

    /// Waits until programs can be run in it.
    pub fn is_up(&mut self) -> Result<()> {
        let (remote, console) = (self.remote(), self.console());
        let limit = self.engine.kind.boot_limit();
        let alive = || {
            no_complaints(&console)?;
            let running = self.running.as_mut().context("it is switched off")?;
            match running.child.try_wait()? {
                Some(status) => bail!("it ended by itself: {status}"),
                None => Ok(()),
            }
        };
        let up = remote.wait(limit, alive);
        up.with_context(|| {
            let said = std::fs::read_to_string(self.console()).unwrap_or_default();
            let lines = said.lines().filter(|line| !line.starts_with(" ["));
            let lines: Vec<_> = lines.rev().take(12).collect();
            let lines: Vec<_> = lines.into_iter().rev().collect();
            format!("guest {}:\n{}", self.name, lines.join("\n"))
        })
    }

    /// Its kernel found nothing wrong with itself and its disks.
    pub fn is_sound(&self) -> Result<()> {
        no_complaints(&self.console()).with_context(|| format!("kernel of {}", self.name))
    }

    fn console(&self) -> PathBuf {
        self.dir.join("console.log")
    }

    /// All that its kernel and its first process said since it was switched on.
    pub fn said(&self) -> Result<String> {
        let said = std::fs::read(self.console())?;
        Ok(String::from_utf8_lossy(&said).into_owned())
    }

    /// Waits until it has ended by itself, told to; its disks lose what was not flushed.
    pub fn ends(&mut self, limit: Duration) -> Result<()> {
        let mut patience = Patience::new(limit);
        let running = self.running.as_mut().context("it is switched off")?;
        while running.child.try_wait()?.is_none() {
            ensure!(!patience.is_over(), "{} does not end", self.name);
            std::thread::sleep(PAUSE);
        }
        self.settle(Survival::Nothing, &mut Rng::new(0))
    }

    /// Cuts the power: the machine ends at once, and its disks lose what was not flushed.
    pub fn cut(&mut self, survival: Survival, rng: &mut Rng) -> Result<()> {
        self.kill()?;
        self.settle(survival, rng)
    }

    /// The first part of a cut: the machine ends.
    pub fn kill(&mut self) -> Result<()> {
        if let Some(running) = &self.running {
            sys::kill(running.child.id(), libc::SIGKILL)?;
        }
        Ok(())
    }

    /// The second part: when it is gone, its disks lose what they must.
    pub fn settle(&mut self, survival: Survival, rng: &mut Rng) -> Result<()> {
        if let Some(mut running) = self.running.take() {
            running.child.wait()?;
            let mut patience = Patience::new(DEATH_LIMIT);
            while !running.console.is_finished() {
                ensure!(!patience.is_over(), "{} does not die", self.name);
                std::thread::sleep(Duration::from_millis(1));
            }
        }
        self.drives
            .iter()
            .try_for_each(|drive| drive.cut(survival, rng))
    }

    /// Switches it off in order.
    pub fn shut_down(&mut self) -> Result<()> {
        self.remote().run(&["sync"])?;
        self.cut(Survival::Blocks(100), &mut Rng::new(0))
    }

    /// Runs the program under test in the guest.
    pub fn tandem(&self, arguments: &[&str]) -> Result<String> {
        self.remote().run(&[&[TANDEM], arguments].concat())
    }

    /// Starts it instead.
    pub fn start_tandem(&self, arguments: &[&str]) -> Result<Running> {
        self.remote().start(&[&[TANDEM], arguments].concat(), true)
    }

    /// This program's part in the guest.
    pub fn guest<'a>(&self, words: &[&'a str]) -> Vec<&'a str> {
        [&[POWER, "guest"], words].concat()
    }

    /// Waits until something holds, asking often.
    pub fn wait_until(
        &self,
        what: &str,
        limit: Duration,
        mut holds: impl FnMut() -> Result<bool>,
    ) -> Result<()> {
        let limit = limit * self.engine.kind.slowness();
        let mut patience = Patience::new(limit);
        while !holds()? {
            if patience.is_over() {
                bail!("on {}, still not so after {limit:?}: {what}", self.name);
            }
            std::thread::sleep(PAUSE);
        }
        Ok(())
    }
}

/// Fails with the line in which a kernel complains, if there is one.
fn no_complaints(console: &Path) -> Result<()> {
    let said = std::fs::read_to_string(console).unwrap_or_default();
    let complains = |line: &&str| COMPLAINTS.iter().any(|words| line.contains(words));
    match said.lines().find(complains) {
        Some(line) => bail!("{line}"),
        None => Ok(()),
    }
}

impl Drop for Machine {
    fn drop(&mut self) {
        self.kill().ok();
        if let Some(mut running) = self.running.take() {
            running.child.wait().ok();
        }
    }
}
