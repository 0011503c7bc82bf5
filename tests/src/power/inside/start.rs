//! The first process of an ordinary kernel: it mounts the root of this machine, and goes on there.

use crate::power::initramfs::MODULES;
use crate::sys;
use anyhow::{Context, Result, bail};
use std::fs::{self, File};
use std::os::fd::OwnedFd;
use std::os::unix::process::CommandExt;
use std::process::Command;

/// Loads all modules, and becomes the `init` of guest `number` below the root.
pub fn run(number: &str, host: &str, power: &str) -> Result<()> {
    let modules = fs::read_dir(format!("/{MODULES}"))?;
    let mut modules: Vec<_> = modules.flatten().map(|entry| entry.path()).collect();
    modules.sort();
    for module in modules {
        let name = module.display().to_string();
        let parameters = if name.ends_with("-nbd.ko") {
            "nbds_max=2 max_part=0"
        } else {
            ""
        };
        let file = OwnedFd::from(File::open(&module)?);
        sys::load_module(&file, parameters).with_context(|| name)?;
    }
    let options = "trans=virtio,version=9p2000.L,cache=loose,msize=262144";
    sys::mount_with("root", "/root", "9p", libc::MS_RDONLY, options).context("the root")?;
    std::os::unix::fs::chroot("/root")?;
    std::env::set_current_dir("/")?;
    let error = Command::new(power)
        .args(["guest", "init", number, host])
        .exec();
    bail!("{power}: {error}")
}
