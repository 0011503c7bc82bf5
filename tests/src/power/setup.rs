//! Everything the guests need, made anew for each run in a directory of its own.

use super::command::run;
use super::disk::Disk;
use super::drive::Drive;
use super::engine::{self, Engine, First};
use super::machine::Machine;
use super::network::Between;
use super::postgresql::Postgresql;
use super::{DATA, MODULE, network};
use crate::sys;
use anyhow::{Context, Result, ensure};
use std::fs::{self, File};
use std::os::unix::fs::PermissionsExt;
use std::path::{Path, PathBuf};
use std::process::Command;

/// Both are sparse files.
pub const DATA_BYTES: u64 = 2 << 30;
pub const STATE_BYTES: u64 = 256 << 20;

/// The directory of a run, removed at its end.
pub struct Scratch {
    pub dir: PathBuf,
    engine: engine::Kind,
    keep: bool,
    failed: bool,
}

impl Scratch {
    /// Makes it, and leaves mounts and network of the machine for those of our own.
    pub fn new(engine: engine::Kind, between: Between, keep: bool) -> Result<Self> {
        ensure!(
            sys::is_root(),
            "needs root: it mounts disks and makes networks"
        );
        let dir = std::env::temp_dir().join(format!("tandem-power-{}", std::process::id()));
        fs::create_dir_all(&dir).with_context(|| dir.display().to_string())?;
        let dir = dir.canonicalize()?;
        // The user of PostgreSQL makes its files below.
        fs::set_permissions(&dir, fs::Permissions::from_mode(0o755))?;
        let scratch = Self {
            dir,
            engine,
            keep,
            failed: false,
        };
        sys::private_mounts().context("mounts of our own")?;
        sys::mount("none", "/", "none", libc::MS_REC | libc::MS_PRIVATE)?;
        // Containers give it 64 MiB.
        let memory = engine::MEMORY;
        sys::mount_with("memory", memory, "tmpfs", 0, "size=75%").context(memory)?;
        network::lay(&scratch.dir, engine, between)?;
        Ok(scratch)
    }

    /// The run failed: disks and logs are worth looking at.
    pub fn failed(&mut self) {
        self.failed = true;
    }

    /// This program and the one under test, where guests find them too, without what only a
    /// debugger reads.
    fn programs(&self) -> Result<[PathBuf; 2]> {
        let tandem = std::env::var_os("TANDEM_BIN").context("TANDEM_BIN names no program")?;
        let copy = |from: &Path, name: &str| -> Result<PathBuf> {
            let to = self.dir.join(name);
            run(Command::new("strip").arg("-o").arg(&to).arg(from))?;
            Ok(to)
        };
        let power = std::env::current_exe()?;
        Ok([copy(&power, "power")?, copy(Path::new(&tandem), "tandem")?])
    }

    /// Two machines with equal trees on their disks, switched off.
    pub fn machines(&self, postgresql: Option<&Postgresql>) -> Result<[Machine; 2]> {
        let seed = self.dir.join("seed");
        fs::create_dir_all(seed.join("data"))?;
        if let Some(postgresql) = postgresql {
            postgresql.make(&seed.join("data").join("pg"))?;
        }
        // The default, where guests are as fast as machines.
        let stall = 3 * self.engine.slowness();
        // The pace of a resync is measured by answers, which take as long as the machine is
        // busy in a guest with one processor; here it is about what is lost.
        let module = format!(
            "(mode: mirror, nodes: [\"a\", \"b\"], directories: [\"{DATA}\"], \
             stall_limit: \"{stall}s\", resync_slowdown: \"off\")\n"
        );
        self.assemble(First::Agent, &seed, "etc", &[(MODULE, module)])
    }

    /// Two machines with what is in `seed` on their data disks, switched off; `etc` names the
    /// directory of the configuration below that of the node.
    pub fn assemble(
        &self,
        first: First,
        seed: &Path,
        etc: &str,
        modules: &[(&str, String)],
    ) -> Result<[Machine; 2]> {
        let [power, tandem] = self.programs()?;
        let engine = Engine::new(self.engine, first, &self.dir, &power)?;
        let (data, state) = (self.dir.join("data"), self.dir.join("state"));
        make_disk(&data, DATA_BYTES, Some(seed))?;
        make_disk(&state, STATE_BYTES, None)?;
        self.configure(&tandem, etc, modules)?;
        let machine = |number| -> Result<Machine> {
            let node = network::node(number);
            let drive = |index: usize, what: &str, from: &Path| -> Result<Drive> {
                let to = self.dir.join(format!("{node}-{what}.img"));
                run(Command::new("cp").arg("--sparse=always").arg(from).arg(&to))?;
                let medium = File::options().read(true).write(true).open(&to)?;
                Drive::new(Disk::new(medium), network::drive(number, index))
            };
            let drives = [drive(0, "data", &data)?, drive(1, "state", &state)?];
            Ok(Machine::new(number, &self.dir, drives, (&engine, &power)))
        };
        Ok([machine(1)?, machine(2)?])
    }

    /// The configuration of both nodes, as an operator would write it.
    fn configure(&self, tandem: &Path, etc: &str, modules: &[(&str, String)]) -> Result<()> {
        let ca = self.dir.join("ca");
        let mut init = Command::new(tandem);
        run(init
            .args(["pki", "init", "--cluster", MODULE, "--out"])
            .arg(&ca))?;
        let mut nodes = String::new();
        for number in [1, 2] {
            let (node, address) = (network::node(number), network::replication(number));
            nodes.push_str(&format!("(name: \"{node}\", addresses: [\"{address}\"]), "));
        }
        for number in [1, 2] {
            let node = network::node(number);
            let etc = self.dir.join(&node).join(etc);
            fs::create_dir_all(etc.join("modules"))?;
            fs::write(etc.join("node.ron"), format!("(name: \"{node}\")\n"))?;
            let cluster = format!("(name: \"{MODULE}\", nodes: [{nodes}])\n");
            fs::write(etc.join("cluster.ron"), cluster)?;
            for (name, module) in modules {
                fs::write(etc.join("modules").join(format!("{name}.ron")), module)?;
            }
            let mut issue = Command::new(tandem);
            issue.args(["pki", "issue", &node, "--ca"]).arg(&ca);
            run(issue.arg("--out").arg(etc.join("pki")))?;
        }
        Ok(())
    }
}

/// A disk with an ext4, which holds what is in `content`.
fn make_disk(path: &Path, bytes: u64, content: Option<&Path>) -> Result<()> {
    File::create(path)?.set_len(bytes)?;
    let mut mkfs = Command::new("mkfs.ext4");
    // Nothing is left to be initialised in the background: the guests write only what they must.
    mkfs.args(["-q", "-F", "-J", "size=32", "-E", "lazy_itable_init=0"]);
    if let Some(content) = content {
        mkfs.arg("-d").arg(content);
    }
    run(mkfs.arg(path))
}

impl Scratch {
    /// Removes everything but the logs.
    fn keep_logs(&self) -> std::io::Result<()> {
        for entry in fs::read_dir(&self.dir)? {
            let path = entry?.path();
            let is_node = [1, 2].iter().any(|n| path.ends_with(network::node(*n)));
            if path.is_dir() && !is_node {
                fs::remove_dir_all(&path)?;
            } else if !path.is_dir() {
                fs::remove_file(&path)?;
            }
        }
        Ok(())
    }
}

impl Drop for Scratch {
    fn drop(&mut self) {
        let dir = self.dir.display();
        if self.keep {
            println!("disks and logs are in {dir}; remove it when you are done");
            return;
        }
        let removed = if self.failed {
            eprintln!("logs are in {dir}; --keep leaves the disks, too");
            self.keep_logs()
        } else {
            fs::remove_dir_all(&self.dir)
        };
        if let Err(error) = removed {
            println!("{dir} is left behind: {error}");
        }
    }
}
