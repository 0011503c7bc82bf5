//! What the kernel says of this node's network: its own addresses, and where its default routes
//! lead.

use std::net::IpAddr;
use std::time::Duration;

use anyhow::{Context, Result, anyhow};
use futures_util::TryStreamExt;
use rtnetlink::packet_route::address::{AddressAttribute, AddressMessage};
use rtnetlink::packet_route::link::LinkAttribute;
use rtnetlink::packet_route::route::{RouteAddress, RouteAttribute, RouteHeader, RouteMessage};
use rtnetlink::{Handle, RouteMessageBuilder};

/// The kernel answers at once; a socket that does not is broken.
const LIMIT: Duration = Duration::from_secs(5);

/// An address of this node.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Own {
    pub(crate) interface: String,
    pub(crate) address: IpAddr,
    pub(crate) prefix: u8,
}

impl Own {
    /// Whether another address is in the network of this one.
    pub(crate) fn is_near(&self, other: IpAddr) -> bool {
        match (self.address, other) {
            (IpAddr::V4(own), IpAddr::V4(other)) => {
                let differ = own.to_bits() ^ other.to_bits();
                differ.leading_zeros() >= u32::from(self.prefix)
            }
            (IpAddr::V6(own), IpAddr::V6(other)) => {
                let differ = own.to_bits() ^ other.to_bits();
                differ.leading_zeros() >= u32::from(self.prefix)
            }
            _ => false,
        }
    }
}

/// What there is.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(crate) struct Network {
    pub(crate) own: Vec<Own>,
    /// The routers of the default routes, the preferred one first.
    pub(crate) gateways: Vec<IpAddr>,
}

impl Network {
    /// Asks the kernel.
    ///
    /// # Errors
    /// It does not answer.
    pub(crate) fn look() -> Result<Self> {
        let context = "asking the kernel for addresses and routes";
        let runtime = tokio::runtime::Builder::new_current_thread()
            .enable_all()
            .build()
            .context(context)?;
        let look = async {
            let (connection, handle, _) = rtnetlink::new_connection()?;
            tokio::spawn(connection);
            ask(&handle).await
        };
        let found = runtime.block_on(async { tokio::time::timeout(LIMIT, look).await });
        found
            .map_err(|_| anyhow!("no answer within {} s", LIMIT.as_secs()))
            .flatten()
            .context(context)
    }

    pub(crate) fn has(&self, address: IpAddr) -> bool {
        self.own.iter().any(|own| own.address == address)
    }

    /// Addresses that others can reach: the first of each interface that is not the loopback.
    pub(crate) fn reachable(&self) -> Vec<&Own> {
        let mut found: Vec<&Own> = Vec::new();
        for own in &self.own {
            let local = match own.address {
                IpAddr::V4(v4) => v4.is_loopback() || v4.is_link_local(),
                IpAddr::V6(v6) => v6.is_loopback() || v6.is_unicast_link_local(),
            };
            if !local && !found.iter().any(|o| o.interface == own.interface) {
                found.push(own);
            }
        }
        // The one through which the others are reached, first.
        let gateway = self.gateways.first().copied();
        found.sort_by_key(|own| !gateway.is_some_and(|gateway| own.is_near(gateway)));
        found
    }
}

async fn ask(net: &Handle) -> Result<Network> {
    let mut names = std::collections::HashMap::new();
    let mut links = net.link().get().execute();
    while let Some(link) = links.try_next().await? {
        let name = link
            .attributes
            .iter()
            .find_map(|attribute| match attribute {
                LinkAttribute::IfName(name) => Some(name.clone()),
                _ => None,
            });
        names.insert(link.header.index, name.unwrap_or_default());
    }
    let mut own = Vec::new();
    let mut addresses = net.address().get().execute();
    while let Some(message) = addresses.try_next().await? {
        if let Some(address) = local(&message) {
            own.push(Own {
                interface: names
                    .get(&message.header.index)
                    .cloned()
                    .unwrap_or_default(),
                address,
                prefix: message.header.prefix_len,
            });
        }
    }
    let mut gateways = Vec::new();
    let v4 = RouteMessageBuilder::<std::net::Ipv4Addr>::new().build();
    let v6 = RouteMessageBuilder::<std::net::Ipv6Addr>::new().build();
    for family in [v4, v6] {
        let mut routes = net.route().get(family).execute();
        while let Some(route) = routes.try_next().await? {
            gateways.extend(gateway(&route));
        }
    }
    // The lowest number is used first.
    gateways.sort_by_key(|(priority, _)| *priority);
    Ok(Network {
        own,
        gateways: gateways.into_iter().map(|(_, address)| address).collect(),
    })
}

/// The own address: on a link between two points the other one is also named.
fn local(message: &AddressMessage) -> Option<IpAddr> {
    let of = |attribute: &AddressAttribute| match attribute {
        AddressAttribute::Local(address) => Some((0, *address)),
        AddressAttribute::Address(address) => Some((1, *address)),
        _ => None,
    };
    let found = message.attributes.iter().filter_map(of);
    found.min_by_key(|(rank, _)| *rank).map(|(_, a)| a)
}

/// The router of a default route of the main table, and the route's metric.
fn gateway(route: &RouteMessage) -> Option<(u32, IpAddr)> {
    let header = &route.header;
    if header.destination_prefix_length != 0 || header.table != RouteHeader::RT_TABLE_MAIN {
        return None;
    }
    let mut priority = 0;
    let mut router = None;
    for attribute in &route.attributes {
        match attribute {
            RouteAttribute::Priority(metric) => priority = *metric,
            RouteAttribute::Gateway(RouteAddress::Inet(v4)) => router = Some(IpAddr::V4(*v4)),
            // One that needs an interface to be reached cannot stand in a configuration.
            RouteAttribute::Gateway(RouteAddress::Inet6(v6)) if !v6.is_unicast_link_local() => {
                router = Some(IpAddr::V6(*v6));
            }
            _ => {}
        }
    }
    Some((priority, router?))
}

#[cfg(test)]
#[allow(clippy::unwrap_used)]
mod tests {
    use super::*;

    fn own(interface: &str, address: &str, prefix: u8) -> Own {
        Own {
            interface: interface.into(),
            address: address.parse().unwrap(),
            prefix,
        }
    }

    #[test]
    fn near_is_what_is_in_the_same_network() {
        let own = own("eth0", "10.0.1.5", 23);
        assert!(own.is_near("10.0.0.254".parse().unwrap()));
        assert!(!own.is_near("10.0.2.1".parse().unwrap()));
        assert!(!own.is_near("2001:db8::1".parse().unwrap()));
    }

    #[test]
    fn the_address_toward_the_gateway_is_proposed_first() {
        let network = Network {
            own: vec![
                own("lo", "127.0.0.1", 8),
                own("eth1", "192.168.7.1", 24),
                own("eth0", "10.0.0.1", 24),
                own("eth0", "10.0.0.99", 24),
                own("eth0", "fe80::1", 64),
            ],
            gateways: vec!["10.0.0.254".parse().unwrap()],
        };
        let found: Vec<_> = network.reachable().iter().map(|o| &*o.interface).collect();
        assert_eq!(found, ["eth0", "eth1"]);
    }

    #[test]
    fn the_kernel_answers() {
        let network = Network::look().unwrap();
        assert!(network.own.iter().all(|own| !own.interface.is_empty()));
    }
}
