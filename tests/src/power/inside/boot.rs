//! The first process of a guest that systemd runs: it makes the root, and becomes systemd.
//!
//! The root is in memory. It has the programs of this machine below `/usr`, read-only, and from
//! outside what makes the machine (`NODE/root` of the run): its name, its units, the configuration
//! under test. The disks are there before systemd is, as a disk array would be: they and the agent
//! belong to a process that systemd leaves alone until the machine is off.

use super::{agent, drive, init};
use crate::power::{DISK, HOST, network};
use crate::sys;
use anyhow::{Context, Result, bail, ensure};
use std::fs;
use std::io::{BufRead, BufReader};
use std::os::unix::fs::{chroot, symlink};
use std::os::unix::process::CommandExt;
use std::path::Path;
use std::process::{Command, Stdio};

/// Where Debian's package has it.
pub const SYSTEMD: &str = "/usr/lib/systemd/systemd";
/// Where systemd finds its units, and nowhere else: of those that are installed here only a few
/// are wanted.
pub const UNITS: &str = "/etc/systemd/system";
/// In the guest: what brings the card to the network of the cluster up, for `ip -batch`.
pub const CLUSTER_NETWORK: &str = "/etc/network-cluster";
/// The same to every guest: the card that leads there.
pub const CLUSTER_CARD: &str = "/etc/network-cluster.card";
/// The file system of the state disk.
const STATE: &str = "/var/lib/tandem";
/// What the process with disks and agent says when the disks are there.
const READY: &str = "ready";
/// systemd does not end processes with such a name at a shutdown: they hold disks.
const KEEPER: &str = "@power";
const PATH: &str = "/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin";
/// Before it is the root.
const ROOT: &str = "/mnt";

/// Becomes systemd. `host` is the directory of the run outside.
pub fn run(number: u8, host: &str) -> Result<()> {
    let node = network::node(number);
    make_root(host).context("the root")?;
    init::load_modules()?;
    let mut copy = Command::new("cp");
    copy.arg("-a").arg(format!("{HOST}/{node}/root/.")).arg("/");
    let copied = copy.stdin(Stdio::null()).status()?;
    ensure!(copied.success(), "{copy:?}: {copied}");
    // The first card is systemd's: its network comes and goes with a unit.
    let [cluster, control] = init::cards()?;
    let batch = init::batch(&cluster, network::replication(number));
    fs::write(CLUSTER_NETWORK, batch)?;
    fs::write(CLUSTER_CARD, cluster)?;
    init::bring_up(&control, network::control(number))?;
    start_keeper(number)?;
    let none = "/nowhere";
    let error = Command::new(SYSTEMD)
        .env_clear()
        .env("PATH", PATH)
        .env("TERM", "dumb")
        // The kernel's words are ours: `1`, the number of a guest, would be the rescue target.
        .env("SYSTEMD_PROC_CMDLINE", "quiet")
        .env("SYSTEMD_UNIT_PATH", UNITS)
        .env("SYSTEMD_GENERATOR_PATH", none)
        .env("SYSTEMD_ENVIRONMENT_GENERATOR_PATH", none)
        .exec();
    bail!("{SYSTEMD}: {error}")
}

/// Makes a root in memory, and changes to it.
fn make_root(host: &str) -> Result<()> {
    sys::mount_with("root", ROOT, "tmpfs", 0, "mode=755")?;
    std::env::set_current_dir(ROOT)?;
    let host_below = HOST.trim_start_matches('/');
    for dir in ["usr", "proc", "sys", "dev", "run", "root", "etc", "tmp"] {
        fs::create_dir(dir).with_context(|| dir.to_owned())?;
    }
    for place in [host_below, DISK, STATE, "var/tmp"] {
        let place = place.trim_start_matches('/');
        fs::create_dir_all(place).with_context(|| place.to_owned())?;
    }
    symlink("/run", "var/run")?;
    // Most are links into `/usr`, some are directories elsewhere.
    for name in ["bin", "sbin", "lib", "lib32", "lib64", "libx32"] {
        let own = Path::new("/").join(name);
        if let Ok(target) = fs::read_link(&own) {
            symlink(target, name).with_context(|| name.to_owned())?;
        } else if own.exists() {
            fs::create_dir(name)?;
            sys::mount(&own.to_string_lossy(), name, "none", libc::MS_BIND)?;
        }
    }
    sys::mount("/usr", "usr", "none", libc::MS_BIND).context("/usr")?;
    sys::mount(host, host_below, "none", libc::MS_BIND).with_context(|| host.to_owned())?;
    // What somebody has installed here is not to be found.
    sys::mount("programs", "usr/local/bin", "tmpfs", 0).context("/usr/local/bin")?;
    symlink(format!("{HOST}/tandem"), "usr/local/bin/tandem")?;
    for (kind, place) in [("proc", "proc"), ("sysfs", "sys"), ("devtmpfs", "dev")] {
        sys::mount(kind, place, kind, 0).with_context(|| kind.to_owned())?;
    }
    sys::mount("memory", "run", "tmpfs", 0).context("/run")?;
    sys::mount(".", "/", "none", libc::MS_MOVE).context("move")?;
    chroot(".")?;
    Ok(std::env::set_current_dir("/")?)
}

/// Starts the process with disks and agent, and waits until the disks are there.
fn start_keeper(number: u8) -> Result<()> {
    let mut keeper = Command::new(format!("{HOST}/power"));
    keeper.arg0(KEEPER).args(["guest", "keep"]);
    keeper.arg(number.to_string()).stdin(Stdio::null());
    let mut child = keeper.stdout(Stdio::piped()).spawn().context("disks")?;
    let mut line = String::new();
    let said = child.stdout.take().context("its output")?;
    BufReader::new(said).read_line(&mut line)?;
    ensure!(line.trim_end() == READY, "the disks are not there");
    Ok(())
}

/// The process with disks and agent.
pub fn keep(number: u8) -> Result<()> {
    let [data, state] = drive::plug(number)?;
    sys::mount(data, DISK, "ext4", libc::MS_NOATIME).context("disk of the data")?;
    sys::mount(state, STATE, "ext4", libc::MS_NOATIME).context("disk of the state")?;
    println!("{READY}");
    agent::serve(&[("PATH", PATH.to_owned())])
}
