//! Packet filters, as far as they can be seen: the chains of nftables that look at what comes in,
//! by netlink, and whether rules of the older kind are loaded. Rules are not read, so what is found
//! is a hint and never a proof.

use std::io::{self, ErrorKind, Read};
use std::time::Duration;

use socket2::{Domain, Protocol, Socket, Type};

use super::Report;
use crate::config::Config;

const LIMIT: Duration = Duration::from_secs(2);
/// Of one answer of the kernel.
const BUFFER: usize = 64 << 10;

// From linux/netfilter/nf_tables.h and nfnetlink.h.
const GET_CHAINS: u16 = 10 << 8 | 4;
const CHAIN: u16 = 10 << 8 | 3;
const CHAIN_TABLE: u16 = 1;
const CHAIN_NAME: u16 = 3;
const CHAIN_HOOK: u16 = 4;
const CHAIN_POLICY: u16 = 5;
const HOOK_NUMBER: u16 = 1;
const LOCAL_IN: u32 = 1;
const DROP: u32 = 0;
/// `inet`, `ip`, `ip6`: those in which hook 1 is what comes in.
const FAMILIES: [u8; 3] = [1, 2, 10];
/// Type and length of an attribute; kind, flags, number, sender of a message.
const ATTRIBUTE: usize = 4;
const MESSAGE: usize = 16;

/// A chain that looks at what comes in.
#[derive(Debug, PartialEq, Eq)]
struct Chain {
    name: String,
    drops: bool,
}

pub(super) fn look(config: &Config, report: &mut Report) {
    let ports = config
        .modules
        .iter()
        .map(|m| format!("UDP {}", m.port.value));
    let open: Vec<_> = ports
        .chain([format!("TCP {}", config.cluster.port)])
        .collect();
    let open = format!("let {} in from the other node", open.join(" and "));
    match chains() {
        Ok(chains) => {
            report.ok("nftables", "this kernel has it");
            let suspects: Vec<_> = chains
                .iter()
                .filter(|chain| chain.drops || chain.name.starts_with("firewalld "))
                .map(|chain| chain.name.as_str())
                .collect();
            if suspects.is_empty() {
                let count = chains.len();
                report.ok(
                    "firewall",
                    format!("none of {count} input chain(s) drops by default"),
                );
            } else {
                let found = format!("what comes in is filtered by {}", suspects.join(", "));
                report.warn("firewall", found, open.clone());
            }
        }
        Err(e) if e.kind() == ErrorKind::PermissionDenied => {
            report.skip("firewall", "only root can look at it");
        }
        Err(e) => {
            report.warn(
                "nftables",
                format!("not to be had: {e}"),
                "modprobe nf_tables; the farm needs it, a mirror does not",
            );
            report.skip(
                "firewall",
                format!("not looked at; if there is one, {open}"),
            );
        }
    }
    let old = ["/proc/net/ip_tables_names", "/proc/net/ip6_tables_names"];
    let loaded = |file: &&str| {
        let names = std::fs::read_to_string(file).unwrap_or_default();
        names.lines().any(|name| name == "filter")
    };
    if old.iter().any(loaded) {
        let found = "rules of iptables (legacy) are loaded, and are not looked at";
        report.warn("firewall", found, open);
    }
}

/// Asks the kernel for all chains.
fn chains() -> io::Result<Vec<Chain>> {
    let kind = Type::RAW;
    let protocol = Protocol::from(libc::NETLINK_NETFILTER);
    let mut socket = Socket::new(Domain::from(libc::AF_NETLINK), kind, Some(protocol))?;
    socket.set_read_timeout(Some(LIMIT))?;
    // Length, kind, "request, all of them", number, sender; all families, version 0.
    let mut request = Vec::with_capacity(MESSAGE + 4);
    request.extend(20_u32.to_ne_bytes());
    request.extend(GET_CHAINS.to_ne_bytes());
    request.extend(0x301_u16.to_ne_bytes());
    request.extend([0; 8]);
    request.extend([0; 4]);
    socket.send(&request)?;
    let mut found = Vec::new();
    let mut buffer = vec![0; BUFFER];
    loop {
        let count = socket.read(&mut buffer)?;
        if !read_answer(&buffer[..count], &mut found)? {
            return Ok(found);
        }
    }
}

/// Reads the messages of one answer. False: it was the last one.
fn read_answer(mut bytes: &[u8], found: &mut Vec<Chain>) -> io::Result<bool> {
    while let (Some(length), Some(kind)) = (u32_at(bytes, 0), u16_at(bytes, 4)) {
        let length = length as usize;
        let message = bytes.get(MESSAGE..length).unwrap_or_default();
        match i32::from(kind) {
            libc::NLMSG_DONE => return Ok(false),
            libc::NLMSG_ERROR => {
                let code = u32_at(message, 0).map_or(0, u32::cast_signed);
                return match code {
                    0 => Ok(false),
                    _ => Err(io::Error::from_raw_os_error(-code)),
                };
            }
            _ if kind == CHAIN => found.extend(chain(message)),
            _ => {}
        }
        let step = length.next_multiple_of(4);
        if length < MESSAGE || step > bytes.len() {
            break;
        }
        bytes = &bytes[step..];
    }
    Ok(true)
}

/// A chain that looks at what comes in; nothing for all others.
fn chain(message: &[u8]) -> Option<Chain> {
    if !FAMILIES.contains(message.first()?) {
        return None;
    }
    let (mut table, mut name, mut hook, mut policy) = (String::new(), String::new(), None, None);
    for (kind, value) in attributes(message.get(4..)?) {
        match kind {
            CHAIN_TABLE => table = text(value),
            CHAIN_NAME => name = text(value),
            CHAIN_HOOK => {
                let mut parts = attributes(value);
                hook =
                    parts.find_map(|(kind, value)| (kind == HOOK_NUMBER).then(|| number(value))?);
            }
            CHAIN_POLICY => policy = number(value),
            _ => {}
        }
    }
    (hook? == LOCAL_IN).then(|| Chain {
        name: format!("{table} {name}"),
        drops: policy == Some(DROP),
    })
}

/// Kinds and values of the attributes, as far as they are whole.
fn attributes(mut bytes: &[u8]) -> impl Iterator<Item = (u16, &[u8])> {
    std::iter::from_fn(move || {
        let length = usize::from(u16_at(bytes, 0)?);
        // The two highest bits say "nested" and "network order".
        let kind = u16_at(bytes, 2)? & 0x3fff;
        let value = bytes.get(ATTRIBUTE..length)?;
        bytes = bytes.get(length.next_multiple_of(4)..).unwrap_or_default();
        Some((kind, value))
    })
}

fn text(value: &[u8]) -> String {
    let end = value.iter().position(|&b| b == 0).unwrap_or(value.len());
    String::from_utf8_lossy(&value[..end]).into_owned()
}

fn number(value: &[u8]) -> Option<u32> {
    value.try_into().ok().map(u32::from_be_bytes)
}

fn u32_at(bytes: &[u8], at: usize) -> Option<u32> {
    let part = bytes.get(at..at + 4)?;
    part.try_into().ok().map(u32::from_ne_bytes)
}

fn u16_at(bytes: &[u8], at: usize) -> Option<u16> {
    let part = bytes.get(at..at + 2)?;
    part.try_into().ok().map(u16::from_ne_bytes)
}

#[cfg(test)]
#[path = "firewall_tests.rs"]
mod tests;
