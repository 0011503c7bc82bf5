//! Finding the bridge between two nodes, and their ports on it, without being told where it is.
//!
//! A bridge learns which hardware address is behind which port; the nodes' interfaces have
//! addresses that nobody else has. So in each network namespace of the machine every bridge is
//! asked for them.

use std::collections::BTreeMap;
use std::fs;
use std::path::{Path, PathBuf};
use std::time::Duration;

use anyhow::{Context, Result};
use serde::{Deserialize, Serialize};

use crate::{runner, sys};

const LIMIT: Duration = Duration::from_secs(10);
/// Where a namespace's own interfaces are seen, after `mount_own_sysfs`.
const INTERFACES: &str = "/sys/class/net";

type Address = [u8; 6];

/// Two ports of one bridge.
#[derive(Clone, Debug)]
pub(crate) struct Link {
    /// A file that means the namespace.
    pub(crate) namespace: PathBuf,
    pub(crate) bridge: String,
    /// Interface numbers.
    pub(crate) ports: [u32; 2],
}

/// A bridge: its name, and the interface number of the port behind which each address is.
type Bridge = (String, Vec<(Address, u32)>);

/// All bridges that connect the nodes of two processes.
pub(crate) fn between(one: u32, other: u32) -> Result<Vec<Link>> {
    let (ours, theirs) = (addresses(one)?, addresses(other)?);
    let mut links = Vec::new();
    for namespace in namespaces()? {
        // A namespace may end while we look.
        let bridges = in_namespace(&namespace, bridges).unwrap_or_default();
        for (bridge, learned) in bridges {
            let port = |of: &[Address]| {
                learned
                    .iter()
                    .find(|(address, _)| of.contains(address))
                    .map(|&(_, port)| port)
            };
            if let (Some(one), Some(other)) = (port(&ours), port(&theirs)) {
                links.push(Link {
                    namespace: namespace.clone(),
                    bridge,
                    ports: [one, other],
                });
            }
        }
    }
    Ok(links)
}

/// One file for each network namespace that has a process.
fn namespaces() -> Result<Vec<PathBuf>> {
    let mut found = BTreeMap::new();
    for entry in fs::read_dir("/proc").context("list /proc")?.flatten() {
        let file = entry.path().join("ns/net");
        // Not all entries are processes, and processes end.
        if let Ok(identity) = fs::read_link(&file) {
            let is_number = entry.file_name().to_string_lossy().parse::<u32>().is_ok();
            if is_number {
                found.entry(identity).or_insert(file);
            }
        }
    }
    Ok(found.into_values().collect())
}

fn in_namespace<T>(namespace: &Path, work: fn() -> Result<T>) -> Result<T>
where
    T: Serialize + for<'a> Deserialize<'a>,
{
    runner::run(None, LIMIT, || {
        runner::enter_network(namespace)?;
        sys::mount_own_sysfs().context("show the namespace's interfaces")?;
        work()
    })
}

/// Hardware addresses of a node's interfaces.
fn addresses(process: u32) -> Result<Vec<Address>> {
    in_namespace(&runner::network_of(process), || {
        let texts = interfaces()?.into_iter();
        let texts = texts.filter_map(|dir| fs::read_to_string(dir.join("address")).ok());
        Ok(texts
            .filter_map(|text| parse_address(text.trim()))
            .collect())
    })
}

fn interfaces() -> Result<Vec<PathBuf>> {
    let list = fs::read_dir(INTERFACES).with_context(|| format!("list {INTERFACES}"))?;
    Ok(list
        .flatten()
        .map(|entry| entry.path())
        .filter(|path| path.is_dir())
        .collect())
}

/// `None` also for the loopback's, which all have in common.
fn parse_address(text: &str) -> Option<Address> {
    let bytes: Vec<_> = text
        .split(':')
        .map(|byte| u8::from_str_radix(byte, 16))
        .collect::<Result<_, _>>()
        .ok()?;
    Address::try_from(bytes)
        .ok()
        .filter(|address| *address != Address::default())
}

fn bridges() -> Result<Vec<Bridge>> {
    let mut found = Vec::new();
    for dir in interfaces()? {
        let Ok(table) = fs::read(dir.join("brforward")) else {
            continue;
        };
        let mut ports = BTreeMap::new();
        for port in fs::read_dir(dir.join("brif"))?.flatten() {
            let number = fs::read_to_string(port.path().join("port_no"))?;
            let number = u16::from_str_radix(number.trim().trim_start_matches("0x"), 16)?;
            let interface = Path::new(INTERFACES).join(port.file_name()).join("ifindex");
            ports.insert(number, fs::read_to_string(interface)?.trim().parse()?);
        }
        let learned = parse_table(&table).into_iter();
        let learned = learned.filter_map(|(address, number)| Some((address, *ports.get(&number)?)));
        let name = dir
            .file_name()
            .unwrap_or_default()
            .to_string_lossy()
            .into_owned();
        found.push((name, learned.collect()));
    }
    Ok(found)
}

/// Addresses and port numbers of the kernel's table (`struct __fdb_entry`), without the bridge's
/// own.
fn parse_table(table: &[u8]) -> Vec<(Address, u16)> {
    const ENTRY: usize = 16;
    const PORT_LOW: usize = 6;
    const IS_LOCAL: usize = 7;
    const PORT_HIGH: usize = 12;
    let entries = table
        .chunks_exact(ENTRY)
        .filter(|entry| entry[IS_LOCAL] == 0);
    entries
        .filter_map(|entry| {
            let port = u16::from_le_bytes([entry[PORT_LOW], entry[PORT_HIGH]]);
            Some((entry.first_chunk().copied()?, port))
        })
        .collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn addresses_are_read() {
        assert_eq!(
            parse_address("02:fc:00:00:0a:01"),
            Some([2, 0xfc, 0, 0, 10, 1])
        );
        assert_eq!(parse_address("00:00:00:00:00:00"), None);
        assert_eq!(parse_address(""), None);
        assert_eq!(parse_address("02:fc"), None);
    }

    #[test]
    fn only_learned_entries_count() {
        let mut table = [0u8; 40];
        table[..6].copy_from_slice(&[2, 0, 0, 0, 0, 9]);
        table[6] = 3;
        table[12] = 1;
        table[16 + 7] = 1;
        assert_eq!(parse_table(&table), vec![([2, 0, 0, 0, 0, 9], 0x103)]);
    }
}
