//! The first process of a guest: mounts, network, then the agent.
//!
//! The guest's root is the root of this machine, read-only, so the guest has every program that is
//! installed here and no image must be built. What is written goes to memory, or to the guest's own
//! disks.

use super::{agent, drive};
use crate::power::{BELOW, DISK, HOST, STATE, network};
use crate::sys;
use anyhow::{Context, Result, anyhow, ensure};
use std::fs;
use std::net::Ipv4Addr;
use std::os::fd::OwnedFd;
use std::path::Path;
use std::process::{Command, Stdio};

/// Directories that programs write to, and that no disk of the guest holds.
const IN_MEMORY: [&str; 3] = ["/run", "/tmp", "/dev/shm"];

/// Runs until the power is cut. `host` is the directory of the run outside.
pub fn run(number: u8, host: &str) -> Result<()> {
    kernel_file_systems().context("file systems of the kernel")?;
    for place in [HOST, DISK, STATE, BELOW] {
        fs::create_dir_all(place).with_context(|| place.to_owned())?;
    }
    // Before something covers it, such as the memory at `/tmp`.
    sys::mount(host, HOST, "none", libc::MS_BIND).with_context(|| host.to_owned())?;
    for place in IN_MEMORY {
        in_memory(place)?;
    }
    load_modules()?;
    sys::set_host_name(&network::node(number)).context("name")?;
    let [pair, plug] = cards()?;
    bring_up(&pair, network::replication(number))?;
    bring_up(&plug, network::control(number))?;
    let [data, state] = drive::plug(number)?;
    sys::mount(data, DISK, "ext4", libc::MS_NOATIME).context("disk of the data")?;
    sys::mount(state, STATE, "ext4", libc::MS_NOATIME).context("disk of the state")?;
    // Here the tree can be seen when the replicated directory is covered.
    sys::mount(DISK, BELOW, "none", libc::MS_BIND).context("the tree below")?;
    let node = network::node(number);
    let environment = [
        ("PATH", "/usr/sbin:/usr/bin:/sbin:/bin".to_owned()),
        ("TANDEM_CONFIG_DIR", format!("{HOST}/{node}/etc")),
        ("TANDEM_STATE_DIR", STATE.to_owned()),
    ];
    agent::serve(&environment)
}

fn kernel_file_systems() -> Result<()> {
    sys::mount("proc", "/proc", "proc", 0)?;
    sys::mount("sys", "/sys", "sysfs", 0)?;
    // Some kernels have done it already.
    match sys::mount("dev", "/dev", "devtmpfs", 0) {
        Err(sys::Errno(libc::EBUSY)) => {}
        done => done.context("/dev")?,
    }
    fs::create_dir_all("/dev/shm")?;
    in_memory("/mnt")
}

fn in_memory(place: &str) -> Result<()> {
    sys::mount("memory", place, "tmpfs", 0).with_context(|| place.to_owned())
}

/// Those that Tandem and the drives need.
pub(super) fn load_modules() -> Result<()> {
    if !Path::new("/dev/fuse").exists() {
        load("fs/fuse/fuse.ko", "")?;
        load("drivers/block/nbd.ko", "nbds_max=2 max_part=0")?;
        load("drivers/watchdog/softdog.ko", "nowayout=0")?;
    }
    Ok(())
}

/// Loads a module of the kernel from where Debian's package puts it.
fn load(module: &str, parameters: &str) -> Result<()> {
    let release = sys::kernel_release();
    let file = format!("/usr/lib/uml/modules/{release}/kernel/{module}");
    let opened = fs::File::open(&file).with_context(|| file.clone())?;
    sys::load_module(&OwnedFd::from(opened), parameters).with_context(|| file)
}

/// Names of both cards: the first leads to the peer, the second to the machine around.
pub(super) fn cards() -> Result<[String; 2]> {
    let cards = fs::read_dir("/sys/class/net")?;
    let cards = cards.map(|card| Ok(card?.file_name().to_string_lossy().into_owned()));
    let mut cards: Vec<String> = cards.collect::<Result<_>>()?;
    cards.retain(|card| card != "lo");
    cards.sort();
    let two = <[String; 2]>::try_from(cards);
    two.map_err(|cards| anyhow!("two network cards, not {cards:?}"))
}

/// What `ip -batch` does to bring up a card with an address.
pub(super) fn batch(card: &str, address: Ipv4Addr) -> String {
    // The same after each start, or the others would look for it at the old one.
    let [.., two, one, zero] = address.octets();
    let mac = format!("02:00:00:{two:02x}:{one:02x}:{zero:02x}");
    format!(
        "link set lo up\nlink set {card} address {mac}\naddress add {address}/24 dev {card}\n\
         link set {card} up\n"
    )
}

/// Brings up a card with an address.
pub(super) fn bring_up(card: &str, address: Ipv4Addr) -> Result<()> {
    let file = format!("/run/network-{card}");
    fs::write(&file, batch(card, address))?;
    let mut ip = Command::new("ip");
    let status = ip.args(["-batch", &file]).stdin(Stdio::null()).status()?;
    ensure!(status.success(), "{ip:?}: {status}");
    Ok(())
}
