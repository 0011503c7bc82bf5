//! Looks whether an interface is up and its link too.
//!
//! The kernel is asked, not `/sys`, which may show another network namespace than ours.

use std::io;
use std::mem;
use std::os::fd::AsRawFd;

use socket2::{Domain, Socket, Type};

pub(super) fn look(name: &str) -> Result<(), String> {
    let flags = match flags(name) {
        Ok(flags) => flags,
        Err(error) if error.raw_os_error() == Some(libc::ENODEV) => {
            return Err(format!("there is no interface {name}"));
        }
        Err(error) => return Err(format!("interface {name} cannot be looked at: {error}")),
    };
    let has = |flag: libc::c_int| i32::from(flags) & flag != 0;
    if !has(libc::IFF_UP) {
        return Err(format!("interface {name} is down: ip link set {name} up"));
    }
    if !has(libc::IFF_RUNNING) {
        return Err(format!(
            "interface {name} has no link: see cable and switch"
        ));
    }
    Ok(())
}

fn flags(name: &str) -> io::Result<libc::c_short> {
    // SAFETY: for this structure of numbers and bytes, all zero is a valid value.
    let mut request: libc::ifreq = unsafe { mem::zeroed() };
    let room = request.ifr_name.len() - 1;
    if name.is_empty() || name.len() > room || name.contains('\0') {
        return Err(io::Error::from_raw_os_error(libc::ENODEV));
    }
    for (to, byte) in request.ifr_name.iter_mut().zip(name.bytes()) {
        *to = libc::c_char::from_ne_bytes([byte]);
    }
    // Any socket will do for asking.
    let socket = Socket::new(Domain::UNIX, Type::DGRAM, None)?;
    // SAFETY: the structure is the one this request takes, and lives until the call returns.
    let result = unsafe { libc::ioctl(socket.as_raw_fd(), libc::SIOCGIFFLAGS, &raw mut request) };
    if result < 0 {
        return Err(io::Error::last_os_error());
    }
    // SAFETY: this request has filled the flags of the union.
    Ok(unsafe { request.ifr_ifru.ifru_flags })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_cannot_be_a_name_is_not_there() {
        for name in ["", "tandem-none", "a-name-longer-than-any", "a\0b"] {
            let error = look(name).unwrap_err();
            assert!(error.contains("there is no interface"), "{error}");
        }
    }
}
