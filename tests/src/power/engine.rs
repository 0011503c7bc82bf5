//! What runs a guest.
//!
//! User-Mode Linux is a kernel as a program: it starts in a second and needs nothing but Debian's
//! package. qemu emulates a processor in software, many times slower, and runs Debian's ordinary
//! kernel. Both get the same guest: the root of this machine, read-only, and its disks over the
//! network.

use super::initramfs;
use super::network;
use anyhow::{Context, Result, ensure};
use std::path::{Path, PathBuf};
use std::process::Command;
use std::time::Duration;

/// Program of Debian's package user-mode-linux.
pub const USER_MODE_LINUX: &str = "/usr/bin/linux.uml";
/// Names the directory where a Debian kernel package was unpacked, for qemu.
const KERNEL: &str = "TANDEM_GUEST_KERNEL";
const MEGABYTES: u32 = 384;
/// Where the memory of the guests lies.
pub const MEMORY: &str = "/dev/shm";

/// Which one.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Kind {
    #[default]
    UserModeLinux,
    Qemu,
}

impl Kind {
    pub fn parse(word: &str) -> Result<Self> {
        match word {
            "uml" => Ok(Self::UserModeLinux),
            "qemu" => Ok(Self::Qemu),
            _ => anyhow::bail!("--engine {word}: uml or qemu"),
        }
    }

    /// How much longer everything takes than in User-Mode Linux.
    pub fn slowness(self) -> u32 {
        match self {
            Self::UserModeLinux => 1,
            Self::Qemu => 4,
        }
    }

    /// A guest is there after 2 s; on a busy machine it may take longer.
    pub fn boot_limit(self) -> Duration {
        Duration::from_secs(120) * self.slowness()
    }
}

/// The first process of a guest.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum First {
    /// Our own, which starts nothing but what it is told to.
    Agent,
    /// systemd, in User-Mode Linux.
    Systemd,
}

/// What is needed to switch guests on.
#[derive(Clone, Debug)]
pub struct Engine {
    pub kind: Kind,
    first: First,
    kernel: PathBuf,
    /// Of qemu's guests.
    initramfs: PathBuf,
}

impl Engine {
    /// Looks for the programs, and makes in `dir` what the guests start with.
    pub fn new(kind: Kind, first: First, dir: &Path, power: &Path) -> Result<Self> {
        let initramfs = dir.join("initramfs");
        let kernel = match kind {
            Kind::UserModeLinux => PathBuf::from(USER_MODE_LINUX),
            Kind::Qemu => {
                let place = std::env::var_os(KERNEL);
                let place =
                    place.with_context(|| format!("{KERNEL} is not set; use tests/power"))?;
                initramfs::make(&initramfs, power, Path::new(&place))?
            }
        };
        ensure!(kernel.exists(), "there is no {}", kernel.display());
        ensure!(
            kind == Kind::UserModeLinux || first == First::Agent,
            "systemd runs in User-Mode Linux only"
        );
        Ok(Self {
            kind,
            first,
            kernel,
            initramfs,
        })
    }

    /// The command that runs guest `number`, whose run has this directory. The guest ends with it,
    /// and it with us.
    pub fn command(&self, number: u8, dir: &Path, power: &Path) -> Command {
        let mut command = Command::new("setpriv");
        command.args(["--pdeathsig", "KILL", "unshare", "--pid", "--fork"]);
        command.arg("--kill-child=KILL");
        let number_word = number.to_string();
        let dir_word = dir.display().to_string();
        match self.kind {
            Kind::UserModeLinux => {
                // Its memory is a file, which must not be one of a disk.
                command.env("TMPDIR", MEMORY).arg(&self.kernel);
                command.args(user_mode_linux(number, dir, power));
                let first = match self.first {
                    First::Agent => "init",
                    First::Systemd => "boot",
                };
                command.args(["--", "guest", first, &number_word, &dir_word]);
            }
            Kind::Qemu => {
                command.arg("qemu-system-x86_64").args(qemu(number));
                command.arg("-kernel").arg(&self.kernel);
                command.arg("-initrd").arg(&self.initramfs);
                let words = format!(
                    "console=ttyS0 quiet panic=-1 -- guest start {number} {dir_word} {}",
                    power.display()
                );
                command.args(["-append", &words]);
            }
        }
        command
    }
}

fn user_mode_linux(number: u8, dir: &Path, power: &Path) -> Vec<String> {
    let [pair, plug] = network::plugs(number);
    let card = |index: u8, plug| format!("vec{index}:transport=raw,gro=1,ifname={plug}");
    let words = format!("mem={MEGABYTES}M root=/dev/root rootfstype=hostfs rootflags=/ ro quiet");
    let mut words: Vec<_> = words.split(' ').map(str::to_owned).collect();
    words.push(format!("init={}", power.display()));
    // Its sockets for a console of its own, which nobody uses.
    words.push(format!(
        "uml_dir={}/{}/",
        dir.display(),
        network::node(number)
    ));
    words.extend([card(0, &pair), card(1, &plug)]);
    words.extend(["con0=null,fd:1", "con=null", "ssl=null"].map(str::to_owned));
    words
}

fn qemu(number: u8) -> Vec<String> {
    let [_, plug] = network::plugs(number);
    let (own, peer) = (network::datagrams(number), network::datagrams(3 - number));
    let root = "local,path=/,mount_tag=root,security_model=none,readonly=on,multidevs=remap";
    let pair = format!("socket,id=pair,udp=127.0.0.1:{peer},localaddr=127.0.0.1:{own}");
    let plug = format!("tap,id=plug,ifname={plug},script=no,downscript=no");
    let memory = MEGABYTES.to_string();
    let words = [
        ["-machine", "pc,accel=tcg"],
        ["-cpu", "max"],
        ["-m", &memory],
        ["-display", "none"],
        ["-serial", "stdio"],
        ["-virtfs", root],
        ["-netdev", &pair],
        ["-device", "virtio-net-pci,netdev=pair"],
        ["-netdev", &plug],
        ["-device", "virtio-net-pci,netdev=plug"],
    ];
    let words = words.as_flattened().iter();
    let words = words.chain(&["-nodefaults", "-no-reboot"]);
    words.map(ToString::to_string).collect()
}
