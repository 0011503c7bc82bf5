//! The network of the guests: a cable or a switch between them, and a cable from each to this
//! process, in a network namespace that has no way out.

use super::command::run;
use super::engine;
use crate::sys;
use anyhow::{Context, Result, bail};
use std::net::Ipv4Addr;
use std::path::Path;
use std::process::Command;

/// What the guests' first cards are plugged into.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Between {
    /// A cable from one to the other.
    Cable,
    /// A switch, at which this process is a client of theirs.
    Switch,
}

/// The name of a node.
pub fn node(number: u8) -> String {
    char::from(b'a' + number - 1).to_string()
}

/// A guest's address for its peer.
pub fn replication(number: u8) -> Ipv4Addr {
    Ipv4Addr::new(10, 99, 0, number)
}

/// Our address at the switch.
pub fn client() -> Ipv4Addr {
    Ipv4Addr::new(10, 99, 0, 9)
}

/// The address of a service, by its number.
pub fn service(number: u8) -> Ipv4Addr {
    Ipv4Addr::new(10, 99, 0, 100 + number)
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

/// The port of a guest's cable to its peer, where that carries datagrams.
pub fn datagrams(number: u8) -> u16 {
    10_900 + u16::from(number)
}

/// Leaves the network of the machine for one of our own, and lays the cables.
pub fn lay(scratch: &Path, engine: engine::Kind, between: Between) -> Result<()> {
    sys::private_network().context("a network of our own")?;
    let mut batch = String::from("link set lo up\n");
    for number in [1, 2] {
        let own = outside(number);
        let ends = match engine {
            engine::Kind::UserModeLinux => {
                batch.push_str(&format!(
                    "link add host{number} type veth peer name plug{number}\n\
                     link set plug{number} up\n"
                ));
                "host"
            }
            // The other end is in qemu, and so is the cable of the pair.
            engine::Kind::Qemu => {
                batch.push_str(&format!("tuntap add dev plug{number} mode tap\n"));
                "plug"
            }
        };
        batch.push_str(&format!(
            "address add {own}/24 dev {ends}{number}\nlink set {ends}{number} up\n"
        ));
    }
    match (engine, between) {
        (engine::Kind::UserModeLinux, Between::Cable) => batch.push_str(
            "link add pair1 type veth peer name pair2\nlink set pair1 up\nlink set pair2 up\n",
        ),
        (engine::Kind::UserModeLinux, Between::Switch) => {
            let own = client();
            batch.push_str(&format!(
                "link add switch type bridge\naddress add {own}/24 dev switch\n\
                 link set switch up\n"
            ));
            for number in [1, 2] {
                batch.push_str(&format!(
                    "link add pair{number} type veth peer name port{number}\n\
                     link set port{number} master switch\n\
                     link set port{number} up\nlink set pair{number} up\n"
                ));
            }
        }
        (engine::Kind::Qemu, Between::Cable) => {}
        (engine::Kind::Qemu, Between::Switch) => bail!("qemu's guests have a cable only"),
    }
    let file = scratch.join("network");
    std::fs::write(&file, batch)?;
    run(Command::new("ip").arg("-batch").arg(&file))
}
