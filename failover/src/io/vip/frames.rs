//! Ethernet frames that ask for and announce addresses: ARP (RFC 826, 5227) and neighbour
//! discovery (RFC 4861). Bytes in, bytes out; nothing here touches the network.

use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};

use super::Mac;

pub(super) const ETHERTYPE_ARP: u16 = 0x0806;
pub(super) const ETHERTYPE_IPV6: u16 = 0x86dd;
/// Frames longer than this are none of ours; the rest of one is not looked at.
pub(super) const LONGEST: usize = 256;

const ETHERNET: usize = 14;
const IPV6: usize = 40;
const ARP: usize = 28;
const BROADCAST: Mac = Mac([0xff; 6]);
const NOBODY: Mac = Mac([0; 6]);
const REQUEST: u16 = 1;
const REPLY: u16 = 2;
const ICMPV6: u8 = 58;
const SOLICITATION: u8 = 135;
const ADVERTISEMENT: u8 = 136;
const SOURCE_MAC: u8 = 1;
const TARGET_MAC: u8 = 2;
/// "Overwrite what you remember", not an answer to a question.
const OVERRIDE: u32 = 0x2000_0000;
/// A router lowers it, so whoever sent it is on this link.
const ON_LINK: u8 = 255;
const ALL_NODES: Ipv6Addr = Ipv6Addr::new(0xff02, 0, 0, 0, 0, 0, 0, 1);

/// Somebody on the link says that an address is theirs.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Claim {
    pub(super) address: IpAddr,
    pub(super) mac: Mac,
}

/// Asks whether anybody has the address, without saying that we do.
pub(super) fn probe(from: Mac, target: IpAddr) -> Vec<u8> {
    match target {
        // A sender that names an address would change what the neighbours remember.
        IpAddr::V4(target) => {
            let sender = (from, Ipv4Addr::UNSPECIFIED);
            arp(BROADCAST, REQUEST, sender, (NOBODY, target))
        }
        IpAddr::V6(target) => {
            let mut message = vec![SOLICITATION, 0, 0, 0, 0, 0, 0, 0];
            message.extend(target.octets());
            let [.., a, b, c] = target.octets();
            let (high, low) = (0xff00 | u16::from(a), u16::from_be_bytes([b, c]));
            let asked = Ipv6Addr::new(0xff02, 0, 0, 0, 0, 1, high, low);
            icmp(from, Ipv6Addr::UNSPECIFIED, asked, message)
        }
    }
}

/// Tells everybody on the link that the address is here, in each form there is: some listen to
/// ARP requests only, some to replies only.
pub(super) fn announcements(from: Mac, address: IpAddr) -> Vec<Vec<u8>> {
    match address {
        IpAddr::V4(address) => {
            let here = (from, address);
            vec![
                arp(BROADCAST, REQUEST, here, (NOBODY, address)),
                // Linux takes a reply for gratuitous, and believes it at once, only if the
                // target's hardware address is the sender's.
                arp(BROADCAST, REPLY, here, here),
            ]
        }
        IpAddr::V6(address) => {
            let mut message = vec![ADVERTISEMENT, 0, 0, 0];
            message.extend(OVERRIDE.to_be_bytes());
            message.extend(address.octets());
            message.extend([TARGET_MAC, 1]);
            message.extend(from.0);
            vec![icmp(from, address, ALL_NODES, message)]
        }
    }
}

/// Who claims which address with this frame, if anybody does.
pub(super) fn claim(frame: &[u8]) -> Option<Claim> {
    match u16::from_be_bytes(array(frame, 12)?) {
        ETHERTYPE_ARP => arp_claim(frame.get(ETHERNET..)?),
        ETHERTYPE_IPV6 => icmp_claim(Mac(array(frame, 6)?), frame.get(ETHERNET..)?),
        _ => None,
    }
}

fn ethernet(to: Mac, from: Mac, kind: u16) -> Vec<u8> {
    let mut frame = Vec::with_capacity(ETHERNET + IPV6 + 32);
    frame.extend(to.0);
    frame.extend(from.0);
    frame.extend(kind.to_be_bytes());
    frame
}

fn arp(to: Mac, operation: u16, sender: (Mac, Ipv4Addr), target: (Mac, Ipv4Addr)) -> Vec<u8> {
    let mut frame = ethernet(to, sender.0, ETHERTYPE_ARP);
    // Ethernet, IPv4, and the lengths of their addresses.
    frame.extend([0, 1, 8, 0, 6, 4]);
    frame.extend(operation.to_be_bytes());
    for (mac, address) in [sender, target] {
        frame.extend(mac.0);
        frame.extend(address.octets());
    }
    frame
}

fn arp_claim(packet: &[u8]) -> Option<Claim> {
    let packet: [u8; ARP] = array(packet, 0)?;
    let operation = u16::from_be_bytes([packet[6], packet[7]]);
    if packet[..6] != [0, 1, 8, 0, 6, 4] || ![REQUEST, REPLY].contains(&operation) {
        return None;
    }
    let address = Ipv4Addr::from(array::<4>(&packet, 14)?);
    // Without a sender it is somebody else's probe: our kernel answers it.
    (!address.is_unspecified()).then_some(Claim {
        address: address.into(),
        mac: Mac(array(&packet, 8)?),
    })
}

/// A whole frame to a multicast address; the checksum of the message is filled in.
fn icmp(from: Mac, source: Ipv6Addr, to: Ipv6Addr, mut message: Vec<u8>) -> Vec<u8> {
    let [.., a, b, c, d] = to.octets();
    let mut frame = ethernet(Mac([0x33, 0x33, a, b, c, d]), from, ETHERTYPE_IPV6);
    let sum = checksum(source, to, &message);
    message[2..4].copy_from_slice(&sum.to_be_bytes());
    let length = message.len() as u16;
    frame.extend([0x60, 0, 0, 0]);
    frame.extend(length.to_be_bytes());
    frame.extend([ICMPV6, ON_LINK]);
    frame.extend(source.octets());
    frame.extend(to.octets());
    frame.extend(message);
    frame
}

/// The checksum of a message whose checksum is zero; zero for one that has its checksum.
fn checksum(source: Ipv6Addr, to: Ipv6Addr, message: &[u8]) -> u16 {
    let mut bytes = Vec::with_capacity(IPV6 + message.len());
    bytes.extend(source.octets());
    bytes.extend(to.octets());
    bytes.extend((message.len() as u32).to_be_bytes());
    bytes.extend([0, 0, 0, ICMPV6]);
    bytes.extend(message);
    let words = bytes.chunks(2).map(|word| {
        let low = word.get(1).copied().unwrap_or(0);
        u32::from(u16::from_be_bytes([word[0], low]))
    });
    let mut sum: u32 = words.sum();
    while sum > 0xffff {
        sum = (sum & 0xffff) + (sum >> 16);
    }
    !(sum as u16)
}

/// The checksum of what was received is not looked at: between interfaces of one machine it is
/// not filled in yet, and the kernel looks at it anyway.
fn icmp_claim(from: Mac, packet: &[u8]) -> Option<Claim> {
    let header: [u8; IPV6] = array(packet, 0)?;
    if header[0] >> 4 != 6 || header[6] != ICMPV6 || header[7] != ON_LINK {
        return None;
    }
    let length = usize::from(u16::from_be_bytes([header[4], header[5]]));
    // What is longer than was read has its answer at the beginning all the same.
    let end = (IPV6 + length).min(packet.len());
    let message = packet.get(IPV6..end)?;
    let source = Ipv6Addr::from(array::<16>(&header, 8)?);
    let target = Ipv6Addr::from(array::<16>(message, 8)?);
    let options = message.get(24..).unwrap_or_default();
    let (address, option) = match *message.first()? {
        ADVERTISEMENT => (target, TARGET_MAC),
        // Without a source it is a probe: our kernel answers it.
        SOLICITATION if !source.is_unspecified() => (source, SOURCE_MAC),
        _ => return None,
    };
    Some(Claim {
        address: address.into(),
        mac: mac_option(options, option).unwrap_or(from),
    })
}

/// The hardware address among the options of a message of neighbour discovery.
fn mac_option(mut options: &[u8], wanted: u8) -> Option<Mac> {
    loop {
        let [kind, eights] = array(options, 0)?;
        if kind == wanted {
            return Some(Mac(array(options, 2)?));
        }
        if eights == 0 {
            return None;
        }
        options = options.get(usize::from(eights) * 8..)?;
    }
}

fn array<const N: usize>(bytes: &[u8], at: usize) -> Option<[u8; N]> {
    bytes.get(at..)?.first_chunk().copied()
}

#[cfg(test)]
#[path = "frames_tests.rs"]
mod tests;
