//! Addresses, ports, and the way to the peer.

use std::io::ErrorKind;
use std::net::{IpAddr, SocketAddr, TcpListener, UdpSocket};
use std::time::Duration;

use socket2::{Domain, Socket, Type};
use tandem_failover::client::ControlClient;
use tandem_failover::config::VirtualIp;

use super::Report;
use super::files::is_running;
use crate::config::{Config, Dirs};
use crate::network::Network;

/// A network that takes longer is not fit for a lease.
const CONNECT: Duration = Duration::from_secs(2);

pub(super) fn look(dirs: &Dirs, config: &Config, report: &mut Report) {
    let network = match Network::look() {
        Ok(network) => network,
        Err(e) => return report.skip("addresses", format!("{e:#}")),
    };
    let own = config.cluster.nodes.iter().find(|n| n.name == config.node);
    let own = own.map(|node| node.addresses.clone()).unwrap_or_default();
    for address in &own {
        let found = network.own.iter().find(|own| own.address == *address);
        match found {
            Some(found) => {
                let interface = &found.interface;
                report.ok("addresses", format!("{address} is on {interface}"));
            }
            None => report.fail(
                "addresses",
                format!(
                    "this machine does not have {address} of node {}",
                    config.node
                ),
                "correct cluster.ron, or node.ron if this is another node; or add the address",
            ),
        }
    }
    if let [only] = own[..] {
        report.warn(
            "networks",
            format!("one network ({only}) is all that connects the nodes"),
            "a second address in each node's list keeps them together when a cable breaks",
        );
    }
    let modules = config.modules.iter();
    let modules: Vec<_> = modules.filter(|m| m.nodes.contains(&config.node)).collect();
    for module in &modules {
        for ip in &module.service.virtual_ips {
            virtual_ip(&ip.value, &network, report);
        }
    }
    let here: Vec<IpAddr> = own.iter().copied().filter(|a| network.has(*a)).collect();
    manager_port(dirs, config, &here, report);
    for module in &modules {
        module_port(dirs, (&module.name, module.port.value), &here, report);
    }
    way_to_peers(config, &own, report);
}

pub(super) fn virtual_ip(ip: &VirtualIp, network: &Network, report: &mut Report) {
    let address = ip.address;
    // While it is here, its own entry says nothing about the network.
    let near = |own: &&crate::network::Own| own.address != address && own.is_near(address);
    let named = ip.interface.as_deref();
    let found = network
        .own
        .iter()
        .find(|own| near(own) && named.is_none_or(|name| name == own.interface));
    match (found, named) {
        (Some(own), _) => report.ok(
            "virtual address",
            format!("{address} belongs to the network of {}", own.interface),
        ),
        (None, Some(name)) if ip.prefix.is_some() => {
            report.ok("virtual address", format!("{address} is to be on {name}"));
        }
        _ => report.fail(
            "virtual address",
            format!("no interface of this machine is in the network of {address}"),
            "correct it, or name its `interface` and `prefix`",
        ),
    }
}

fn manager_port(dirs: &Dirs, config: &Config, own: &[IpAddr], report: &mut Report) {
    let port = config.cluster.port;
    let running = ControlClient::connect(tandem_failover::control::socket(&dirs.run)).is_ok();
    if running {
        report.ok("ports", format!("TCP {port}: the failover manager runs"));
        return;
    }
    let bind = |address: &IpAddr| TcpListener::bind((*address, port)).map(drop);
    free(&format!("TCP {port}"), own.iter().map(bind), report);
}

fn module_port(dirs: &Dirs, (module, port): (&str, u16), own: &[IpAddr], report: &mut Report) {
    if is_running(dirs, module) {
        report.ok("ports", format!("UDP {port}: module {module} runs"));
        return;
    }
    let bind = |address: &IpAddr| UdpSocket::bind((*address, port)).map(drop);
    free(&format!("UDP {port}"), own.iter().map(bind), report);
}

fn free(what: &str, mut tries: impl Iterator<Item = std::io::Result<()>>, report: &mut Report) {
    let fault = tries.find_map(Result::err);
    match fault {
        None => report.ok("ports", format!("{what} is free")),
        Some(e) if e.kind() == ErrorKind::AddrInUse => report.fail(
            "ports",
            format!("{what} is in use by another program"),
            "`ss -lnptu` shows it; end it, or give another `port`",
        ),
        Some(e) => report.skip("ports", format!("{what}: {e}")),
    }
}

/// Each network to each other node, by the managers' port.
fn way_to_peers(config: &Config, own: &[IpAddr], report: &mut Report) {
    let port = config.cluster.port;
    let others = config
        .cluster
        .nodes
        .iter()
        .filter(|n| n.name != config.node);
    for node in others {
        for (local, remote) in own.iter().zip(&node.addresses) {
            let name = &node.name;
            let way = format!("{name} at {remote} (TCP {port})");
            match connect(*local, SocketAddr::new(*remote, port)) {
                Ok(()) => report.ok("peer", format!("{way} answers")),
                Err(e) if e.kind() == ErrorKind::ConnectionRefused => report.warn(
                    "peer",
                    format!("{way} is reached, and no manager listens there"),
                    format!("systemctl start tandem on {name}"),
                ),
                Err(e) => report.fail(
                    "peer",
                    format!("{way} is not reached from {local}: {e}"),
                    format!("look at {name}, the cable, and the firewall of both"),
                ),
            }
        }
    }
    let ports = config.modules.iter().map(|m| m.port.value.to_string());
    let ports: Vec<_> = ports.collect();
    if !ports.is_empty() {
        report.skip(
            "peer (UDP)",
            format!(
                "whether UDP {} passes cannot be tested from one side: the firewalls must let it \
                 through; `tandem status` shows it when the module runs",
                ports.join(", ")
            ),
        );
    }
}

/// From this address, so that the way is the one that is meant.
fn connect(from: IpAddr, to: SocketAddr) -> std::io::Result<()> {
    let socket = Socket::new(Domain::for_address(to), Type::STREAM, None)?;
    socket.bind(&SocketAddr::new(from, 0).into())?;
    socket.connect_timeout(&to.into(), CONNECT)
}

#[cfg(test)]
#[allow(clippy::unwrap_used)]
mod tests {
    use super::super::Level;
    use super::*;
    use crate::network::Own;

    #[test]
    fn a_virtual_address_needs_a_network_or_an_interface_and_prefix() {
        let own = |address: &str| Own {
            interface: "eth0".into(),
            address: address.parse().unwrap(),
            prefix: 24,
        };
        let network = Network {
            own: vec![own("10.0.0.1"), own("10.0.0.9"), own("10.5.0.9")],
            gateways: Vec::new(),
        };
        let level = |address: &str, interface: Option<&str>, prefix| {
            let ip = VirtualIp {
                address: address.parse().unwrap(),
                prefix,
                interface: interface.map(Into::into),
            };
            let mut report = Report::default();
            virtual_ip(&ip, &network, &mut report);
            report.worst()
        };
        assert_eq!(level("10.0.0.9", None, None), Level::Ok);
        assert_eq!(level("10.1.0.9", None, None), Level::Fail);
        // It is here, and nothing else of its network is.
        assert_eq!(level("10.5.0.9", None, None), Level::Fail);
        assert_eq!(level("10.0.0.9", Some("eth1"), None), Level::Fail);
        assert_eq!(level("10.1.0.9", Some("eth0"), Some(24)), Level::Ok);
    }

    #[test]
    fn a_port_in_use_is_found() {
        let taken = UdpSocket::bind("127.0.0.1:0").unwrap();
        let port = taken.local_addr().unwrap().port();
        let mut report = Report::default();
        let bind = || UdpSocket::bind(("127.0.0.1", port)).map(drop);
        free("UDP", [bind()].into_iter(), &mut report);
        assert_eq!(report.worst(), Level::Fail);
        drop(taken);
        let mut report = Report::default();
        free("UDP", [bind()].into_iter(), &mut report);
        assert_eq!(report.worst(), Level::Ok);
    }
}
