//! Where a virtual address belongs: the interface, and the bits of its network. Pure.

use std::collections::BTreeSet;
use std::net::IpAddr;

use crate::config::VirtualIp;

use super::{Mac, VipError};

/// An interface as the kernel shows it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Link {
    pub(super) index: u32,
    pub(super) name: String,
    /// Only of an Ethernet.
    pub(super) mac: Option<Mac>,
    /// It is switched on and has a carrier.
    pub(super) up: bool,
    pub(super) loopback: bool,
}

/// An address on an interface.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Own {
    pub(super) index: u32,
    pub(super) address: IpAddr,
    pub(super) prefix: u8,
}

/// Where an address is to be.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Place {
    pub(super) address: IpAddr,
    pub(super) link: Link,
    pub(super) prefix: u8,
}

/// The place of `wanted`. Addresses in `virtuals` say nothing about it: they may be on the wrong
/// interface.
pub(super) fn find(
    wanted: &VirtualIp,
    links: &[Link],
    addresses: &[Own],
    virtuals: &BTreeSet<IpAddr>,
) -> Result<Place, VipError> {
    let address = wanted.address;
    let whole = if address.is_ipv4() { 32 } else { 128 };
    if let Some(prefix) = wanted.prefix.filter(|prefix| *prefix > whole) {
        return Err(VipError::Prefix { address, prefix });
    }
    let near = |own: &&Own| {
        own.address != address
            && !virtuals.contains(&own.address)
            && same_network(address, own.address, own.prefix)
    };
    let near: Vec<&Own> = addresses.iter().filter(near).collect();
    let link = match &wanted.interface {
        Some(interface) => {
            let link = links.iter().find(|link| link.name == *interface);
            link.ok_or_else(|| VipError::NoInterface {
                address,
                interface: interface.clone(),
            })?
        }
        None => only_one(address, links, &near)?,
    };
    // The narrowest network says most about where the neighbours are.
    let beside = near.iter().filter(|own| own.index == link.index);
    let prefix = wanted.prefix.or(beside.map(|own| own.prefix).max());
    Ok(Place {
        address,
        prefix: prefix.ok_or_else(|| VipError::NoPrefix {
            address,
            interface: link.name.clone(),
        })?,
        link: link.clone(),
    })
}

fn only_one<'a>(address: IpAddr, links: &'a [Link], near: &[&Own]) -> Result<&'a Link, VipError> {
    let has = |link: &&Link| !link.loopback && near.iter().any(|own| own.index == link.index);
    let mut candidates = links.iter().filter(has);
    match (candidates.next(), candidates.next()) {
        (None, _) => Err(VipError::NoNetwork { address }),
        (Some(link), None) => Ok(link),
        (Some(one), Some(other)) => Err(VipError::Several {
            address,
            interfaces: format!("{} and {}", one.name, other.name),
        }),
    }
}

/// Whether both are in the network of `prefix` bits around either.
pub(super) fn same_network(one: IpAddr, other: IpAddr, prefix: u8) -> bool {
    let (one, other, width) = match (one, other) {
        (IpAddr::V4(one), IpAddr::V4(other)) => {
            (u128::from(one.to_bits()), u128::from(other.to_bits()), 32)
        }
        (IpAddr::V6(one), IpAddr::V6(other)) => (one.to_bits(), other.to_bits(), 128),
        _ => return false,
    };
    // A shift by the whole width is the network of everything.
    let rest = u32::from(width - prefix.min(width));
    (one ^ other).checked_shr(rest).unwrap_or(0) == 0
}

#[cfg(test)]
mod tests {
    use super::*;

    fn link(index: u32, name: &str) -> Link {
        Link {
            index,
            name: name.into(),
            mac: Some(Mac([2, 0, 0, 0, 0, 1])),
            up: true,
            loopback: name == "lo",
        }
    }

    fn own(index: u32, address: &str, prefix: u8) -> Own {
        Own {
            index,
            address: address.parse().unwrap(),
            prefix,
        }
    }

    fn wanted(address: &str) -> VirtualIp {
        VirtualIp {
            address: address.parse().unwrap(),
            prefix: None,
            interface: None,
        }
    }

    fn place(wanted: &VirtualIp) -> Result<(String, u8), String> {
        let links = [link(1, "lo"), link(2, "lan"), link(3, "dmz")];
        let addresses = [
            own(1, "127.0.0.1", 8),
            own(2, "10.0.1.7", 24),
            own(2, "10.0.1.8", 28),
            own(2, "fe80::7", 64),
            own(2, "2001:db8:1::7", 64),
            own(3, "10.0.2.7", 24),
            own(3, "10.0.0.7", 16),
            own(3, "fe80::8", 64),
            // The address itself and another virtual one, left on the wrong interface.
            own(3, "192.168.0.50", 24),
            own(3, "192.168.0.51", 24),
            own(2, "192.168.0.7", 24),
        ];
        let virtuals = BTreeSet::from(["192.168.0.51".parse().unwrap()]);
        find(wanted, &links, &addresses, &virtuals)
            .map(|place| (place.link.name, place.prefix))
            .map_err(|error| error.to_string())
    }

    #[test]
    fn the_interface_with_an_address_in_the_same_network() {
        assert_eq!(place(&wanted("2001:db8:1::99")), Ok(("lan".into(), 64)));
        assert_eq!(place(&wanted("10.0.2.99")), Ok(("dmz".into(), 24)));
        assert_eq!(place(&wanted("192.168.0.50")), Ok(("lan".into(), 24)));
    }

    #[test]
    fn none_or_several_are_refused_with_the_remedy() {
        let none = place(&wanted("172.16.0.1")).unwrap_err();
        assert!(
            none.contains("172.16.0.1") && none.contains("`interface`"),
            "{none}"
        );
        let loopback = place(&wanted("127.0.0.9")).unwrap_err();
        assert!(loopback.contains("`interface`"), "{loopback}");
        for address in ["10.0.1.99", "fe80::99"] {
            let several = place(&wanted(address)).unwrap_err();
            assert!(several.contains("lan and dmz"), "{several}");
        }
    }

    #[test]
    fn what_is_given_counts() {
        let mut given = wanted("10.0.1.9");
        given.interface = Some("lan".into());
        assert_eq!(place(&given), Ok(("lan".into(), 28)), "the narrowest");
        given.prefix = Some(32);
        assert_eq!(place(&given), Ok(("lan".into(), 32)));
        given.prefix = Some(33);
        assert!(place(&given).unwrap_err().contains("33"));
        given = wanted("172.16.0.1");
        given.interface = Some("lan".into());
        assert!(place(&given).unwrap_err().contains("`prefix`"));
        given.interface = Some("wan".into());
        assert!(place(&given).unwrap_err().contains("wan"));
    }

    #[test]
    fn networks_are_compared_by_their_bits() {
        let same = |one: &str, other: &str, prefix| {
            same_network(one.parse().unwrap(), other.parse().unwrap(), prefix)
        };
        assert!(same("10.0.0.1", "10.0.0.254", 24));
        assert!(!same("10.0.0.1", "10.0.1.1", 24));
        assert!(same("10.0.0.1", "10.0.1.1", 23));
        assert!(same("10.0.0.1", "192.168.0.1", 0));
        assert!(same("10.0.0.1", "10.0.0.1", 32));
        assert!(!same("10.0.0.1", "10.0.0.0", 32));
        assert!(same("::1", "ffff::", 0));
        assert!(!same("::1", "::2", 128));
        assert!(same("2001:db8::1", "2001:db8::2", 64));
        assert!(!same("10.0.0.1", "::a00:1", 0), "families differ");
        assert!(same("10.0.0.1", "10.0.0.1", 255), "no length panics");
    }
}
