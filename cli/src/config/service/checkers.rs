//! `checkers: [(name: "web", http: "http://10.0.0.9/", on_failure: restart)]`

use super::super::reader::Keys;
use super::super::tree::Tree;
use super::{Words, duration, scripts};
use std::time::Duration;
use tandem_failover::config::{Checker, CheckerKind, Reaction, When};

/// What is looked at; exactly one of them.
const KINDS: [&str; 9] = [
    "process",
    "service",
    "tcp",
    "http",
    "ping",
    "interface",
    "virtual_ip",
    "command",
    "module",
];
const OTHERS: [&str; 11] = [
    "name",
    "interval",
    "timeout",
    "failures",
    "on_failure",
    "run",
    "when",
    "arguments",
    "at_least",
    "at_most",
    "statuses",
];
const DEFAULT_INTERVAL: Duration = Duration::from_secs(10);
const DEFAULT_TIMEOUT: Duration = Duration::from_secs(5);
/// One lost answer is no failure.
const DEFAULT_FAILURES: u32 = 2;

pub(super) fn read<'s>(words: &mut Words<'_, 's, '_>, keys: &Keys<'_, 's>) -> Vec<Checker> {
    let Some(tree) = keys.optional("checkers") else {
        return Vec::new();
    };
    let example = "[(name: \"web\", http: \"http://10.0.0.9/\", on_failure: restart)]";
    let Some(list) = words.reader.list(tree, example) else {
        return Vec::new();
    };
    let mut all: Vec<Checker> = Vec::new();
    for tree in list {
        let Some(checker) = checker(words, tree) else {
            continue;
        };
        if all.iter().any(|c| c.name == checker.name) {
            let message = format!("checker `{}` is named again", checker.name);
            words.reader.note(tree.at, message);
            continue;
        }
        all.push(checker);
    }
    all
}

fn checker<'s>(words: &mut Words<'_, 's, '_>, tree: &Tree<'s>) -> Option<Checker> {
    let known: Vec<&'static str> = OTHERS.iter().chain(&KINDS).copied().collect();
    let keys = words.reader.keys(tree, &known)?;
    let name = words.reader.required(&keys, "name", "\"web\"")?;
    let name = words.reader.string(name)?;
    if let Some(fault) = super::super::names::name_fault(&name.value) {
        words.reader.note(tree.at, fault);
        return None;
    }
    let given: Vec<&str> = KINDS
        .iter()
        .copied()
        .filter(|kind| keys.optional(kind).is_some())
        .collect();
    let [kind] = given[..] else {
        let message = format!(
            "checker `{}` looks at {}, expected exactly one of {}",
            name.value,
            if given.is_empty() {
                "nothing".to_string()
            } else {
                given.join(" and ")
            },
            KINDS.join(", ")
        );
        words.reader.note(tree.at, message);
        return None;
    };
    let interval = keys
        .optional("interval")
        .and_then(|t| duration(words.reader, t));
    let timeout = keys
        .optional("timeout")
        .and_then(|t| duration(words.reader, t));
    let failures = keys.optional("failures");
    let failures = failures.and_then(|t| words.reader.value::<u32>(t, "a number from 1"));
    let kind = self::kind(words, &keys, kind)?;
    let when = keys
        .optional("when")
        .and_then(|t| words.reader.word(t, &["prim", "second", "both", "started"]));
    let on_failure = reaction(words, &keys)?;
    let when = match when.map(|w| w.value) {
        Some("prim") => When::Prim,
        Some("second") => When::Second,
        Some("both") => When::Both,
        Some(_) => When::Started,
        // What the module waits for must be there before it starts.
        None if on_failure == Reaction::Wait => When::Started,
        None => When::Prim,
    };
    Some(Checker {
        name: name.value,
        kind,
        interval: interval.unwrap_or(DEFAULT_INTERVAL),
        timeout: timeout.unwrap_or(DEFAULT_TIMEOUT),
        failures: failures.map_or(DEFAULT_FAILURES, |n| n.value.max(1)),
        on_failure,
        when,
    })
}

fn kind<'s>(words: &mut Words<'_, 's, '_>, keys: &Keys<'_, 's>, kind: &str) -> Option<CheckerKind> {
    let tree = keys.optional(kind)?;
    Some(match kind {
        "command" => CheckerKind::Command(scripts::command(words, tree)?),
        "virtual_ip" => {
            words.reader.value::<bool>(tree, "true")?;
            CheckerKind::VirtualIp
        }
        "process" => process(words, keys, tree)?,
        "tcp" => {
            let text = words.text(tree)?;
            let parts = text.value.rsplit_once(':');
            let parts = parts.and_then(|(host, port)| Some((host, port.parse().ok()?)));
            let Some((host, port)) = parts else {
                let message = format!("found `{}`, expected \"HOST:PORT\"", text.value);
                words.reader.note(tree.at, message);
                return None;
            };
            let host = host
                .trim_start_matches('[')
                .trim_end_matches(']')
                .to_string();
            CheckerKind::Tcp { host, port }
        }
        "http" => {
            let url = words.text(tree)?.value;
            if !url.starts_with("http://") {
                let message = format!("found `{url}`, expected \"http://HOST[:PORT]/PATH\"");
                words.reader.note(tree.at, message);
                return None;
            }
            CheckerKind::Http {
                url,
                statuses: statuses(words, keys)?,
            }
        }
        "service" => CheckerKind::Service(scripts::unit(&words.text(tree)?.value)),
        "ping" => CheckerKind::Ping {
            host: words.text(tree)?.value,
        },
        "interface" => CheckerKind::Interface {
            name: words.text(tree)?.value,
        },
        _ => CheckerKind::Module(words.text(tree)?.value),
    })
}

fn statuses<'s>(words: &mut Words<'_, 's, '_>, keys: &Keys<'_, 's>) -> Option<Vec<u16>> {
    let Some(tree) = keys.optional("statuses") else {
        return Some(Vec::new());
    };
    let list = words.reader.list(tree, "[200, 204]")?;
    let one = |tree| {
        words
            .reader
            .value::<u16>(tree, "an HTTP status such as 200")
    };
    Some(list.iter().filter_map(one).map(|n| n.value).collect())
}

fn process<'s>(
    words: &mut Words<'_, 's, '_>,
    keys: &Keys<'_, 's>,
    tree: &Tree<'s>,
) -> Option<CheckerKind> {
    let mut number = |key: &str| {
        let tree = keys.optional(key)?;
        words.reader.value::<u32>(tree, "a number of processes")
    };
    let (at_least, at_most) = (number("at_least"), number("at_most"));
    let at_least = at_least.map_or(1, |n| n.value);
    let at_most = at_most.map(|n| n.value);
    if at_most.is_some_and(|most| most < at_least) {
        let message = "`at_most` is less than `at_least`";
        words.reader.note(tree.at, message);
        return None;
    }
    let arguments = keys.optional("arguments").and_then(|t| words.text(t));
    Some(CheckerKind::Process {
        name: words.text(tree)?.value,
        arguments: arguments.map(|a| a.value),
        at_least,
        at_most,
    })
}

fn reaction<'s>(words: &mut Words<'_, 's, '_>, keys: &Keys<'_, 's>) -> Option<Reaction> {
    let known = ["restart", "stopstart", "wait", "stop", "swap", "run"];
    let tree = words.reader.required(keys, "on_failure", "restart")?;
    let word = words.reader.word(tree, &known)?;
    let run = keys.optional("run");
    Some(match (word.value, run) {
        ("run", Some(run)) => Reaction::Run(scripts::action(words, run)?),
        ("run", None) => {
            words.reader.note(tree.at, "add `run: [\"/program\"]`");
            return None;
        }
        (_, Some(run)) => {
            words
                .reader
                .note(run.at, "`run` goes with `on_failure: run`");
            return None;
        }
        ("restart", _) => Reaction::Restart,
        ("stopstart", _) => Reaction::Stopstart,
        ("wait", _) => Reaction::Wait,
        ("stop", _) => Reaction::Stop,
        _ => Reaction::Swap,
    })
}
