//! The part of a module's file that is the failover manager's: addresses, application, checkers.
//!
//! ```text
//! virtual_ips: ["10.0.0.9"],
//! services: ["postgresql"],          // or scripts: (start_prim: ["/etc/shop/start"], …)
//! checkers: [(name: "web", http: "http://10.0.0.9/", on_failure: restart)],
//! ```

mod checkers;
mod scripts;

use super::problem::At;
use super::reader::{Keys, Reader};
use super::tree::{Shape, Tree};
use super::units::{DURATION_FORM, parse_duration};
use std::collections::BTreeMap;
use std::net::IpAddr;
use std::time::Duration;
use tandem_failover::config::{Action, Application, Boot, Checker, VirtualIp};

/// Keys of a module's file that are read here.
pub(crate) const KEYS: [&str; 11] = [
    "preferred",
    "failover",
    "boot",
    "max_restarts",
    "restart_window",
    "virtual_ips",
    "services",
    "scripts",
    "variables",
    "checkers",
    "fence",
];
const DEFAULT_RESTARTS: u32 = 3;
const DEFAULT_WINDOW: Duration = Duration::from_secs(24 * 3600);

/// What the failover manager is to do for a module.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Service {
    pub(crate) preferred: Option<At<String>>,
    pub(crate) failover: bool,
    pub(crate) boot: Boot,
    pub(crate) max_restarts: u32,
    pub(crate) restart_window: Duration,
    pub(crate) virtual_ips: Vec<At<VirtualIp>>,
    pub(crate) application: Application,
    pub(crate) checkers: Vec<Checker>,
    pub(crate) variables: BTreeMap<String, String>,
    pub(crate) fence: Option<Action>,
}

/// Reads it; what does not fit is noted.
pub(crate) fn read<'s>(reader: &mut Reader<'s>, keys: &Keys<'_, 's>, module: &str) -> Service {
    let variables = variables(reader, keys, module);
    let mut words = Words {
        reader,
        variables: &variables,
    };
    let application = scripts::application(&mut words, keys);
    let fence = keys
        .optional("fence")
        .and_then(|tree| scripts::action(&mut words, tree));
    let checkers = checkers::read(&mut words, keys);
    let virtual_ips = virtual_ips(&mut words, keys);
    let reader = words.reader;
    let preferred = keys.optional("preferred").and_then(|t| reader.string(t));
    let on_off = ["on", "off"];
    let failover = keys
        .optional("failover")
        .and_then(|t| reader.word(t, &on_off));
    let boot = keys
        .optional("boot")
        .and_then(|t| reader.word(t, &["on", "off", "auto"]));
    let max_restarts = keys
        .optional("max_restarts")
        .and_then(|t| reader.value(t, "a number of restarts, 0 for no limit"));
    let restart_window = keys
        .optional("restart_window")
        .and_then(|t| duration(reader, t));
    Service {
        preferred,
        failover: failover.is_none_or(|w| w.value == "on"),
        boot: match boot.map(|w| w.value) {
            Some("on") => Boot::On,
            Some("off") => Boot::Off,
            _ => Boot::Auto,
        },
        max_restarts: max_restarts.map_or(DEFAULT_RESTARTS, |n| n.value),
        restart_window: restart_window.unwrap_or(DEFAULT_WINDOW),
        virtual_ips,
        application,
        checkers,
        variables,
        fence,
    }
}

/// Texts in which `${NAME}` stands for a variable.
struct Words<'r, 's, 'v> {
    reader: &'r mut Reader<'s>,
    variables: &'v BTreeMap<String, String>,
}

impl<'s> Words<'_, 's, '_> {
    fn text(&mut self, tree: &Tree<'s>) -> Option<At<String>> {
        let text = self.reader.string(tree)?;
        match expand(&text.value, self.variables) {
            Ok(value) => Some(text.map(|_| value)),
            Err(why) => {
                self.reader.note(tree.at, why);
                None
            }
        }
    }

    fn texts(&mut self, tree: &Tree<'s>, example: &str) -> Option<Vec<At<String>>> {
        let values = self.reader.list(tree, example)?;
        Some(values.iter().filter_map(|value| self.text(value)).collect())
    }
}

/// `${NAME}` becomes the variable's value, `$$` a dollar.
fn expand(text: &str, variables: &BTreeMap<String, String>) -> Result<String, String> {
    let mut out = String::new();
    let mut rest = text;
    while let Some(at) = rest.find('$') {
        out.push_str(&rest[..at]);
        rest = &rest[at + 1..];
        if let Some(after) = rest.strip_prefix('$') {
            out.push('$');
            rest = after;
        } else if let Some((name, after)) = rest.strip_prefix('{').and_then(|r| r.split_once('}')) {
            let value = variables.get(name).ok_or_else(|| {
                let known: Vec<_> = variables.keys().map(String::as_str).collect();
                let hint = super::problem::did_you_mean(name, known.iter().copied());
                format!(
                    "`${{{name}}}` is not in `variables`, which has {}{hint}",
                    known.join(", ")
                )
            })?;
            out.push_str(value);
            rest = after;
        } else {
            return Err("`$` begins a variable, `${NAME}`; write `$$` for a dollar".into());
        }
    }
    out.push_str(rest);
    Ok(out)
}

/// `variables: (NAME: "value", …)`, and those every module has.
fn variables<'s>(
    reader: &mut Reader<'s>,
    keys: &Keys<'_, 's>,
    module: &str,
) -> BTreeMap<String, String> {
    let mut all = BTreeMap::from([("MODULE".to_string(), module.to_string())]);
    let Some(tree) = keys.optional("variables") else {
        return all;
    };
    let Shape::Structure(fields) = &tree.shape else {
        reader.note(tree.at, "expected variables such as (DATA: \"/srv/data\")");
        return all;
    };
    for field in fields {
        let good = |c: char| c.is_ascii_uppercase() || c.is_ascii_digit() || c == '_';
        if !field.key.chars().all(good) || field.key.starts_with("TANDEM_") {
            let message = format!(
                "found variable `{}`, expected A-Z, 0-9 and `_`, not beginning with TANDEM_",
                field.key
            );
            reader.note(field.at, message);
            continue;
        }
        let Some(text) = reader.string(&field.value) else {
            continue;
        };
        match expand(&text.value, &all) {
            Ok(value) => {
                all.insert(field.key.to_string(), value);
            }
            Err(why) => reader.note(field.value.at, why),
        }
    }
    all
}

fn virtual_ips<'s>(words: &mut Words<'_, 's, '_>, keys: &Keys<'_, 's>) -> Vec<At<VirtualIp>> {
    let Some(tree) = keys.optional("virtual_ips") else {
        return Vec::new();
    };
    let example = "[\"10.0.0.9\"]";
    let Some(list) = words.reader.list(tree, example) else {
        return Vec::new();
    };
    let mut all: Vec<At<VirtualIp>> = Vec::new();
    for tree in list {
        let Some(one) = virtual_ip(words, tree) else {
            continue;
        };
        if let Some(first) = all.iter().find(|v| v.value.address == one.value.address) {
            let message = format!(
                "`{}` is given again, first at {}",
                one.value.address, first.place
            );
            words.reader.note(tree.at, message);
            continue;
        }
        all.push(one);
    }
    all
}

fn virtual_ip<'s>(words: &mut Words<'_, 's, '_>, tree: &Tree<'s>) -> Option<At<VirtualIp>> {
    let structure = matches!(tree.shape, Shape::Structure(_));
    let (text, prefix, interface) = if structure {
        let keys = words
            .reader
            .keys(tree, &["address", "prefix", "interface"])?;
        let text = words.reader.required(&keys, "address", "\"10.0.0.9\"")?;
        let prefix = keys.optional("prefix");
        let prefix = prefix.and_then(|t| words.reader.value(t, "bits of the network, such as 24"));
        let interface = keys.optional("interface").and_then(|t| words.text(t));
        (words.text(text)?, prefix, interface)
    } else {
        (words.text(tree)?, None, None)
    };
    let address = match super::names::address(&text.value) {
        Ok(address) => address,
        Err(why) => {
            words.reader.note(tree.at, why);
            return None;
        }
    };
    let prefix: Option<u8> = prefix.map(|p: At<u8>| p.value);
    let longest = if matches!(address, IpAddr::V4(_)) {
        32
    } else {
        128
    };
    if prefix.is_some_and(|p| p == 0 || p > longest) {
        let message = format!("found a prefix outside 1 to {longest} bits");
        words.reader.note(tree.at, message);
        return None;
    }
    Some(text.map(|_| VirtualIp {
        address,
        prefix,
        interface: interface.map(|i| i.value),
    }))
}

fn duration<'s>(reader: &mut Reader<'s>, tree: &Tree<'s>) -> Option<Duration> {
    let text: At<String> = reader.value(tree, DURATION_FORM)?;
    match parse_duration(&text.value) {
        Ok(duration) => Some(duration),
        Err(message) => {
            reader.note(tree.at, message);
            None
        }
    }
}

#[cfg(test)]
mod tests;
