//! The network of the guests: a cable between them, and one from each to this process, in a network
//! namespace that has no way out.

use super::command::run;
use crate::sys;
use anyhow::{Context, Result};
use std::net::Ipv4Addr;
use std::path::Path;
use std::process::Command;

/// The name of a node.
pub fn node(number: u8) -> String {
    char::from(b'a' + number - 1).to_string()
}

/// A guest's address for its peer.
pub fn replication(number: u8) -> Ipv4Addr {
    Ipv4Addr::new(10, 99, 0, number)
}

/// A guest's address for us.
pub fn control(number: u8) -> Ipv4Addr {
    Ipv4Addr::new(10, 98, number, 2)
}

/// Our address for a guest.
pub fn outside(number: u8) -> Ipv4Addr {
    Ipv4Addr::new(10, 98, number, 1)
}

/// The port of a guest's drive.
pub fn drive(number: u8, index: usize) -> u16 {
    10_800 + u16::from(number) * 10 + index as u16
}

/// Our ends of the cables a guest is plugged into, in the order of its cards.
pub fn plugs(number: u8) -> [String; 2] {
    [format!("pair{number}"), format!("plug{number}")]
}

/// Leaves the network of the machine for one of our own, and lays the cables.
pub fn lay(scratch: &Path) -> Result<()> {
    sys::private_network().context("a network of our own")?;
    let mut batch = String::from("link set lo up\nlink add pair1 type veth peer name pair2\n");
    for number in [1, 2] {
        let own = outside(number);
        batch.push_str(&format!(
            "link add host{number} type veth peer name plug{number}\n\
             address add {own}/24 dev host{number}\n\
             link set host{number} up\nlink set plug{number} up\nlink set pair{number} up\n"
        ));
    }
    let file = scratch.join("network");
    std::fs::write(&file, batch)?;
    run(Command::new("ip").arg("-batch").arg(&file))
}
