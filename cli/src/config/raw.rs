//! The three kinds of file as they were typed: keys known, values of the right kind, nothing yet
//! checked against anything else. The keys and their defaults are listed here and nowhere else.

use std::time::Duration;

use super::apart::{self, RawApart};
use super::problem::{At, Place};
use super::reader::Reader;
use super::service::{self, Service};
use super::tree::{Shape, Tree};
use super::units::{
    DURATION_FORM, PERCENT_FORM, SIZE_FORM, parse_duration, parse_percent, parse_size,
};
use super::witness::{self, RawWitness};

/// `cluster.ron`, the same on all nodes.
pub(crate) struct RawCluster {
    pub(crate) name: Option<At<String>>,
    pub(crate) nodes: Option<At<Vec<RawNode>>>,
    pub(crate) port: Option<At<u16>>,
    pub(crate) watchdog: Option<At<String>>,
    /// Inner: nothing if it could not be read.
    pub(crate) witness: Option<Option<RawWitness>>,
}

pub(crate) struct RawNode {
    pub(crate) place: Place,
    pub(crate) name: Option<At<String>>,
    pub(crate) addresses: Option<Vec<At<String>>>,
}

/// `modules/NAME.ron`, the same on all nodes of the module.
pub(crate) struct RawModule {
    pub(crate) mode: Option<At<&'static str>>,
    pub(crate) nodes: Option<At<Vec<At<String>>>>,
    pub(crate) directories: Option<At<Vec<RawDirectory>>>,
    pub(crate) port: Option<At<u16>>,
    pub(crate) ack: Option<At<&'static str>>,
    pub(crate) stall_limit: Option<At<Duration>>,
    pub(crate) hot_limit: Option<At<u64>>,
    pub(crate) aside_limit: Option<At<u64>>,
    /// Percent. Nothing: off.
    pub(crate) resync_slowdown: Option<At<Option<u32>>>,
    /// Nothing: off.
    pub(crate) scrub: Option<At<Option<Duration>>>,
    pub(crate) devices: Option<At<bool>>,
    /// The failover manager's part.
    pub(crate) service: Service,
    pub(crate) apart: RawApart,
}

pub(crate) struct RawDirectory {
    pub(crate) path: Option<At<String>>,
    pub(crate) direct: Vec<At<String>>,
}

const NODES_EXAMPLE: &str = "[(name: \"a\", addresses: [\"10.0.0.1\"]), …]";

/// Reads `cluster.ron`.
pub(crate) fn cluster(reader: &mut Reader<'_>) -> Option<RawCluster> {
    let tree = reader.tree()?;
    let keys = reader.keys(&tree, &["name", "nodes", "port", "watchdog", "witness"])?;
    let name = reader
        .required(&keys, "name", "\"NAME\"")
        .and_then(|t| reader.string(t));
    let nodes = reader
        .required(&keys, "nodes", NODES_EXAMPLE)
        .and_then(|tree| {
            let nodes = reader.list(tree, NODES_EXAMPLE)?;
            let value = nodes
                .iter()
                .filter_map(|tree| cluster_node(reader, tree))
                .collect();
            Some(At {
                value,
                place: reader.place(tree),
            })
        });
    let port = keys
        .optional("port")
        .and_then(|t| reader.value(t, "a TCP port from 1 to 65535"));
    let watchdog = keys.optional("watchdog").and_then(|t| reader.string(t));
    let witness = keys
        .optional("witness")
        .map(|tree| witness::read(reader, tree));
    Some(RawCluster {
        name,
        nodes,
        port,
        watchdog,
        witness,
    })
}

fn cluster_node<'s>(reader: &mut Reader<'s>, tree: &Tree<'s>) -> Option<RawNode> {
    let keys = reader.keys(tree, &["name", "addresses"])?;
    let name = reader
        .required(&keys, "name", "\"NAME\"")
        .and_then(|t| reader.string(t));
    let example = "[\"10.0.0.1\"]";
    let addresses = reader
        .required(&keys, "addresses", example)
        .and_then(|t| reader.strings(t, example));
    Some(RawNode {
        place: keys.place,
        name,
        addresses,
    })
}

/// Reads `node.ron`: which node of the cluster this is.
pub(crate) fn node(reader: &mut Reader<'_>) -> Option<At<String>> {
    let tree = reader.tree()?;
    let keys = reader.keys(&tree, &["name"])?;
    reader
        .required(&keys, "name", "\"NAME\"")
        .and_then(|t| reader.string(t))
}

/// The keys of `modules/NAME.ron`.
pub(crate) fn module_keys() -> Vec<&'static str> {
    let mut known = vec![
        "mode",
        "nodes",
        "directories",
        "port",
        "ack",
        "stall_limit",
        "hot_limit",
        "aside_limit",
        "resync_slowdown",
        "scrub",
        "devices",
    ];
    known.extend(service::KEYS);
    known.extend(apart::KEYS);
    known
}

/// Reads `modules/NAME.ron`.
pub(crate) fn module(reader: &mut Reader<'_>, name: &str) -> Option<RawModule> {
    let tree = reader.tree()?;
    let known = module_keys();
    let keys = reader.keys(&tree, &known)?;
    let service = service::read(reader, &keys, name);
    let mode = reader
        .required(&keys, "mode", "mirror")
        .and_then(|t| mode(reader, t));
    let example = "[\"a\", \"b\"]";
    let nodes = reader.required(&keys, "nodes", example).and_then(|tree| {
        let value = reader.strings(tree, example)?;
        Some(At {
            value,
            place: reader.place(tree),
        })
    });
    let example = "[\"/var/lib/NAME\"]";
    let directories = reader
        .required(&keys, "directories", example)
        .and_then(|tree| {
            let entries = reader.list(tree, example)?;
            let value = entries
                .iter()
                .filter_map(|tree| directory(reader, tree))
                .collect();
            Some(At {
                value,
                place: reader.place(tree),
            })
        });
    let port = keys
        .optional("port")
        .and_then(|t| reader.value(t, "a UDP port from 1 to 65535"));
    let ack = keys.optional("ack").and_then(|t| ack(reader, t));
    let stall_limit = keys
        .optional("stall_limit")
        .and_then(|t| duration(reader, t));
    let hot_limit = keys.optional("hot_limit").and_then(|t| size(reader, t));
    let aside_limit = keys.optional("aside_limit").and_then(|t| size(reader, t));
    let resync_slowdown = keys
        .optional("resync_slowdown")
        .and_then(|t| slowdown(reader, t));
    let scrub = keys
        .optional("scrub")
        .and_then(|t| optional_duration(reader, t));
    let devices = keys
        .optional("devices")
        .and_then(|t| reader.value(t, "true or false"));
    Some(RawModule {
        mode,
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
        apart: apart::raw_apart(reader, &keys),
    })
}

fn mode<'s>(reader: &mut Reader<'s>, tree: &Tree<'s>) -> Option<At<&'static str>> {
    let mode = reader.word(tree, &["mirror", "farm", "light"])?;
    if mode.value != "mirror" {
        let message = format!("mode `{}` is not built yet, expected mirror", mode.value);
        reader.note(tree.at, message);
        return None;
    }
    Some(mode)
}

fn ack<'s>(reader: &mut Reader<'s>, tree: &Tree<'s>) -> Option<At<&'static str>> {
    let ack = reader.word(tree, &["written", "durable", "synced"])?;
    if ack.value == "synced" {
        reader.note(
            tree.at,
            "ack `synced` is not built yet, expected written or durable",
        );
        return None;
    }
    Some(ack)
}

/// A path, or a structure with the path and what else is to be said about the directory.
fn directory<'s>(reader: &mut Reader<'s>, tree: &Tree<'s>) -> Option<RawDirectory> {
    if !matches!(tree.shape, Shape::Structure(_)) {
        let expected = "a path in double quotes, or (path: \"…\", direct: [\"…\"])";
        let path = reader.value(tree, expected)?;
        return Some(RawDirectory {
            path: Some(path),
            direct: Vec::new(),
        });
    }
    let keys = reader.keys(tree, &["path", "direct"])?;
    let path = reader
        .required(&keys, "path", "\"/…\"")
        .and_then(|t| reader.string(t));
    let direct = keys
        .optional("direct")
        .and_then(|t| reader.strings(t, "[\"*.ibd\"]"));
    Some(RawDirectory {
        path,
        direct: direct.unwrap_or_default(),
    })
}

/// A time, or `"off"`.
pub(crate) fn optional_duration<'s>(
    reader: &mut Reader<'s>,
    tree: &Tree<'s>,
) -> Option<At<Option<Duration>>> {
    let text: At<String> = reader.value(tree, DURATION_FORM)?;
    if text.value == "off" {
        return Some(text.map(|_| None));
    }
    duration(reader, tree).map(|time| time.map(Some))
}

/// A share, or `"off"`.
fn slowdown<'s>(reader: &mut Reader<'s>, tree: &Tree<'s>) -> Option<At<Option<u32>>> {
    let text: At<String> = reader.value(tree, PERCENT_FORM)?;
    if text.value == "off" {
        return Some(text.map(|_| None));
    }
    match parse_percent(&text.value) {
        Ok(percent) => Some(text.map(|_| Some(percent))),
        Err(message) => {
            reader.note(tree.at, message);
            None
        }
    }
}

fn duration<'s>(reader: &mut Reader<'s>, tree: &Tree<'s>) -> Option<At<Duration>> {
    let text: At<String> = reader.value(tree, DURATION_FORM)?;
    match parse_duration(&text.value) {
        Ok(duration) => Some(text.map(|_| duration)),
        Err(message) => {
            reader.note(tree.at, message);
            None
        }
    }
}

fn size<'s>(reader: &mut Reader<'s>, tree: &Tree<'s>) -> Option<At<u64>> {
    let text: At<String> = reader.value(tree, SIZE_FORM)?;
    match parse_size(&text.value) {
        Ok(size) => Some(text.map(|_| size)),
        Err(message) => {
            reader.note(tree.at, message);
            None
        }
    }
}
