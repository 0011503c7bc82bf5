//! From what was typed to what is meant: each file checked by itself and against the cluster.

use std::net::{IpAddr, SocketAddr};
use std::time::Duration;

use tandem_fs::config::{Ack, Directory};

use super::apart::{self, Policy};
use super::names::{address, name_fault, path_fault, pattern_fault};
use super::networks::networks_fault;
use super::problem::{At, Place, Problem, did_you_mean};
use super::raw::{RawCluster, RawDirectory, RawModule, RawNode};
use super::service::Service;
use super::units::{show_duration, show_size};
use super::watchdog::Watchdog;
use super::witness::{self, Witness};

pub(crate) const DEFAULT_PORT: u16 = 7400;
const DEFAULT_MANAGER_PORT: u16 = 7401;
/// Room for what is kept aside.
const DEFAULT_ASIDE_LIMIT: u64 = 10 << 30;
/// A week, as others do.
const DEFAULT_SCRUB: Duration = Duration::from_secs(7 * 24 * 3600);
const SHORTEST_SCRUB: Duration = Duration::from_secs(60);
const DEFAULT_STALL_LIMIT: Duration = Duration::from_secs(3);
/// Below half a second, an ordinary pause of disk or network would look like a dead peer.
const SHORTEST_STALL: Duration = Duration::from_millis(500);
/// Above a minute, applications give up by themselves.
const LONGEST_STALL: Duration = Duration::from_secs(60);

/// Answers that take a third longer nobody notices; the client's figure.
const DEFAULT_SLOWDOWN: u32 = 30;
/// Below this the difference is not to be told from chance; above it "off" says it better.
const SLOWDOWNS: std::ops::RangeInclusive<u32> = 5..=1000;

const DEFAULT_HOT_LIMIT: u64 = 1 << 30;
/// Below this a busy application would have checkpoints all the time.
const SMALLEST_HOT: u64 = 16 << 20;
/// Above this bringing a crashed node back would take as long as copying it.
const LARGEST_HOT: u64 = 1 << 40;

/// The cluster.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Cluster {
    pub(crate) name: String,
    pub(crate) nodes: Vec<ClusterNode>,
    /// TCP port of the failover managers' own link.
    pub(crate) port: u16,
    pub(crate) watchdog: Watchdog,
    pub(crate) witness: Option<Witness>,
}

#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct ClusterNode {
    pub(crate) name: String,
    pub(crate) addresses: Vec<IpAddr>,
}

impl ClusterNode {
    /// Where the replication link of a module listens on this node.
    pub(crate) fn endpoints(&self, port: u16) -> Vec<SocketAddr> {
        self.addresses
            .iter()
            .map(|&address| SocketAddr::new(address, port))
            .collect()
    }
}

/// A mirror module.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Module {
    pub(crate) name: String,
    /// In the order of names, so that the order in the file means nothing.
    pub(crate) nodes: [String; 2],
    pub(crate) directories: Vec<At<Directory>>,
    /// UDP. A default has the file as its place.
    pub(crate) port: At<u16>,
    pub(crate) ack: Ack,
    pub(crate) stall_limit: Duration,
    pub(crate) hot_limit: u64,
    pub(crate) aside_limit: u64,
    pub(crate) resync_slowdown: Option<u32>,
    pub(crate) scrub: Option<Duration>,
    pub(crate) devices: bool,
    /// The failover manager's part.
    pub(crate) service: Service,
    pub(crate) policy: Policy,
}

/// Notes a fault, if there is one, at the place of its value.
pub(crate) fn note(problems: &mut Vec<Problem>, place: &Place, fault: Option<String>) -> bool {
    let faulty = fault.is_some();
    problems.extend(fault.map(|message| Problem::new(place.clone(), message)));
    faulty
}

/// Checks `cluster.ron`. `None` if nothing can be built from it; the problems say why.
pub(crate) fn cluster(raw: RawCluster, problems: &mut Vec<Problem>) -> Option<Cluster> {
    if let Some(name) = &raw.name {
        note(problems, &name.place, name_fault(&name.value));
    }
    let At {
        value: raw_nodes,
        place,
    } = raw.nodes?;
    if raw_nodes.len() < 2 {
        let message = format!("found {} node(s), expected at least two", raw_nodes.len());
        problems.push(Problem::new(place, message));
    }
    let mut names: Vec<At<String>> = Vec::new();
    let mut addresses: Vec<(IpAddr, Place)> = Vec::new();
    let mut nodes = Vec::new();
    for node in raw_nodes {
        let addresses = node_addresses(&node, &mut addresses, problems);
        let Some(name) = node.name else { continue };
        note(problems, &name.place, name_fault(&name.value));
        if let Some(first) = names.iter().find(|first| first.value == name.value) {
            let message = format!(
                "node `{}` is named again, first at {}",
                name.value, first.place
            );
            problems.push(Problem::new(name.place, message));
            continue;
        }
        nodes.push(ClusterNode {
            name: name.value.clone(),
            addresses,
        });
        names.push(name);
    }
    let witness = match raw.witness {
        None => None,
        // Without what it says of its witness a cluster is not known.
        Some(witness) => Some(witness::check(witness?, problems)?),
    };
    Some(Cluster {
        name: raw.name?.value,
        nodes,
        port: raw.port.map_or(DEFAULT_MANAGER_PORT, |port| port.value),
        watchdog: Watchdog::check(raw.watchdog, problems),
        witness,
    })
}

/// The addresses of one node, none of which another node has (`taken`).
fn node_addresses(
    node: &RawNode,
    taken: &mut Vec<(IpAddr, Place)>,
    problems: &mut Vec<Problem>,
) -> Vec<IpAddr> {
    let Some(raw) = &node.addresses else {
        return Vec::new();
    };
    if raw.is_empty() {
        let message = "a node needs at least one address; add `addresses: [\"10.0.0.1\"]`";
        problems.push(Problem::new(node.place.clone(), message));
    }
    let mut addresses = Vec::new();
    for text in raw {
        match address(&text.value) {
            Ok(address) => {
                if let Some((_, first)) = taken.iter().find(|(taken, _)| *taken == address) {
                    let message = format!("address `{address}` is used again, first at {first}");
                    problems.push(Problem::new(text.place.clone(), message));
                    continue;
                }
                taken.push((address, text.place.clone()));
                addresses.push(address);
            }
            Err(message) => problems.push(Problem::new(text.place.clone(), message)),
        }
    }
    addresses
}

/// Checks that `node.ron` names a node of the cluster.
pub(crate) fn node(name: &At<String>, cluster: &Cluster, problems: &mut Vec<Problem>) {
    note(problems, &name.place, unknown_node(&name.value, cluster));
}

fn unknown_node(name: &str, cluster: &Cluster) -> Option<String> {
    let known = || cluster.nodes.iter().map(|node| node.name.as_str());
    if known().any(|node| node == name) {
        return None;
    }
    let hint = did_you_mean(name, known());
    let known = known().collect::<Vec<_>>().join(", ");
    Some(format!(
        "node `{name}` is not in cluster.ron, expected one of {known}{hint}"
    ))
}

/// Checks `modules/NAME.ron`. `None` if a problem was found; `cluster` is `None` when that file is
/// itself wrong, and its nodes are then not compared.
pub(crate) fn module(
    name: &str,
    raw: RawModule,
    file: &Place,
    cluster: Option<&Cluster>,
    problems: &mut Vec<Problem>,
) -> Option<Module> {
    let before = problems.len();
    note(problems, file, name_fault(name));
    let nodes = raw
        .nodes
        .and_then(|nodes| module_nodes(nodes, cluster, problems));
    let directories = raw
        .directories
        .and_then(|entries| directories(entries, problems));
    let port = raw.port.unwrap_or_else(|| At {
        value: DEFAULT_PORT,
        place: file.clone(),
    });
    if port.value == 0 {
        problems.push(Problem::new(
            port.place.clone(),
            "found port 0, expected 1 to 65535",
        ));
    }
    let stall_limit = raw.stall_limit.map_or(DEFAULT_STALL_LIMIT, |limit| {
        let bad = !(SHORTEST_STALL..=LONGEST_STALL).contains(&limit.value);
        let fault = bad.then(|| stall_fault(limit.value));
        note(problems, &limit.place, fault);
        limit.value
    });
    let hot_limit = raw.hot_limit.map_or(DEFAULT_HOT_LIMIT, |limit| {
        let bad = !(SMALLEST_HOT..=LARGEST_HOT).contains(&limit.value);
        let fault = bad.then(|| hot_fault(limit.value));
        note(problems, &limit.place, fault);
        limit.value
    });
    let aside_limit = raw
        .aside_limit
        .map_or(DEFAULT_ASIDE_LIMIT, |limit| limit.value);
    let resync_slowdown = match raw.resync_slowdown {
        None => Some(DEFAULT_SLOWDOWN),
        Some(chosen) => {
            let bad = chosen.value.filter(|percent| !SLOWDOWNS.contains(percent));
            let fault = bad.map(|percent| {
                let (least, most) = (SLOWDOWNS.start(), SLOWDOWNS.end());
                format!(
                    "found resync_slowdown {percent}%, expected {least}% to {most}%, or \"off\""
                )
            });
            note(problems, &chosen.place, fault);
            chosen.value
        }
    };
    let scrub = match raw.scrub {
        None => Some(DEFAULT_SCRUB),
        Some(chosen) => {
            let short = chosen.value.filter(|time| *time < SHORTEST_SCRUB);
            let fault = short.map(|time| {
                let [found, shortest] = [time, SHORTEST_SCRUB].map(show_duration);
                format!("found scrub {found}, expected at least {shortest}, or \"off\"")
            });
            note(problems, &chosen.place, fault);
            chosen.value
        }
    };
    let policy = apart::policy(raw.apart, cluster, problems);
    if let (Some(nodes), Some(cluster)) = (&nodes, cluster) {
        apart::not_on_its_nodes(nodes, cluster, &policy, file, problems);
    }
    let ack = match raw.ack.map(|ack| ack.value) {
        Some("durable") => Ack::Durable,
        _ => Ack::Written,
    };
    if let (Some(preferred), Some(nodes)) = (&raw.service.preferred, &nodes) {
        note(
            problems,
            &preferred.place,
            preferred_fault(&preferred.value, nodes),
        );
    }
    raw.mode?;
    if problems.len() > before {
        return None;
    }
    let devices = raw.devices.is_some_and(|devices| devices.value);
    let service = raw.service;
    let (nodes, directories) = (nodes?, directories?);
    Some(Module {
        name: name.into(),
        nodes,
        directories,
        port,
        ack,
        stall_limit,
        hot_limit,
        aside_limit,
        resync_slowdown,
        scrub,
        devices,
        service,
        policy,
    })
}

fn preferred_fault(found: &str, nodes: &[String; 2]) -> Option<String> {
    if nodes.iter().any(|node| node == found) {
        return None;
    }
    let hint = did_you_mean(found, nodes.iter().map(String::as_str));
    let [a, b] = nodes;
    Some(format!(
        "found preferred `{found}`, expected {a} or {b}{hint}"
    ))
}

fn stall_fault(found: Duration) -> String {
    let [found, shortest, longest] = [found, SHORTEST_STALL, LONGEST_STALL].map(show_duration);
    format!("found stall_limit {found}, expected {shortest} to {longest}")
}

fn hot_fault(found: u64) -> String {
    let [found, smallest, largest] = [found, SMALLEST_HOT, LARGEST_HOT].map(show_size);
    format!("found hot_limit {found}, expected {smallest} to {largest}")
}

/// The two nodes of a mirror, in the order of their names.
fn module_nodes(
    nodes: At<Vec<At<String>>>,
    cluster: Option<&Cluster>,
    problems: &mut Vec<Problem>,
) -> Option<[String; 2]> {
    let before = problems.len();
    let At {
        value: nodes,
        place,
    } = nodes;
    for (index, node) in nodes.iter().enumerate() {
        if nodes[..index].iter().any(|first| first.value == node.value) {
            let message = format!("node `{}` is named twice", node.value);
            problems.push(Problem::new(node.place.clone(), message));
        } else if let Some(cluster) = cluster {
            note(problems, &node.place, unknown_node(&node.value, cluster));
        }
    }
    let mut names: Vec<String> = nodes.into_iter().map(|node| node.value).collect();
    names.sort();
    let count = names.len();
    if let (Some(cluster), [one, other]) = (cluster, names.as_slice()) {
        let known = |name: &String| cluster.nodes.iter().find(|node| node.name == *name);
        let fault = known(one).zip(known(other)).and_then(networks_fault);
        note(problems, &place, fault);
    }
    match <[String; 2]>::try_from(names) {
        Ok(names) if problems.len() == before => Some(names),
        Ok(_) => None,
        Err(_) => {
            let message = format!("found {count} node(s), expected exactly two for a mirror");
            problems.push(Problem::new(place, message));
            None
        }
    }
}

fn directories(
    entries: At<Vec<RawDirectory>>,
    problems: &mut Vec<Problem>,
) -> Option<Vec<At<Directory>>> {
    if entries.value.is_empty() {
        let message = "found no directory, expected at least one";
        problems.push(Problem::new(entries.place, message));
        return None;
    }
    let mut directories = Vec::new();
    for entry in entries.value {
        for pattern in &entry.direct {
            note(problems, &pattern.place, pattern_fault(&pattern.value));
        }
        let Some(path) = entry.path else { continue };
        if !note(problems, &path.place, path_fault(&path.value)) {
            let direct = entry
                .direct
                .into_iter()
                .map(|pattern| pattern.value)
                .collect();
            directories.push(path.map(|path| Directory {
                path: path.into(),
                direct,
            }));
        }
    }
    Some(directories)
}
