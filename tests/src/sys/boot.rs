//! What only the first process of a guest does: load a module, name the machine, switch it off.

use super::{Sys, c, call, raw};
use std::os::fd::{AsRawFd, OwnedFd};

/// Loads a kernel module from its file.
pub fn load_module(file: &OwnedFd, parameters: &str) -> Sys<()> {
    let parameters = c(parameters);
    raw!(SYS_finit_module(file.as_raw_fd(), parameters.as_ptr(), 0)).map(drop)
}

pub fn set_host_name(name: &str) -> Sys<()> {
    call!(sethostname(name.as_ptr().cast(), name.len())).map(drop)
}

/// A request to a device that takes a number.
pub fn control(device: &OwnedFd, request: u64, value: u64) -> Sys<()> {
    call!(ioctl(device.as_raw_fd(), request, value)).map(drop)
}

/// Writes back what all file systems hold.
pub fn sync_all() {
    // SAFETY: takes nothing, always succeeds.
    unsafe { libc::sync() };
}

/// Ends the machine this process is the first of. Nothing is written back.
pub fn power_off() -> Sys<()> {
    call!(reboot(libc::RB_POWER_OFF)).map(drop)
}

/// The release of the running kernel.
pub fn kernel_release() -> String {
    let text = std::fs::read_to_string("/proc/sys/kernel/osrelease");
    text.unwrap_or_default().trim_end().to_owned()
}
