//! `services` or `scripts`.

use super::super::reader::Keys;
use super::super::tree::{Shape, Tree};
use super::{Words, duration};
use std::collections::BTreeMap;
use std::time::Duration;
use tandem_failover::config::{Action, Application, Script};

/// As the reference products have it; an application that needs longer says so.
const DEFAULT_LIMIT: Duration = Duration::from_secs(300);
const EXAMPLE: &str = "[\"/etc/shop/start\", \"argument\"]";

pub(super) fn application<'s>(words: &mut Words<'_, 's, '_>, keys: &Keys<'_, 's>) -> Application {
    let none = || Application::Scripts(BTreeMap::new());
    let (services, scripts) = (keys.optional("services"), keys.optional("scripts"));
    if let (Some(services), Some(_)) = (services, scripts) {
        let message = "give either `services` or `scripts`, a script can start units itself";
        words.reader.note(services.at, message);
        return none();
    }
    if let Some(tree) = services {
        let units = words.texts(tree, "[\"postgresql\"]").unwrap_or_default();
        return Application::Services(units.into_iter().map(|u| unit(&u.value)).collect());
    }
    let Some(tree) = scripts else { return none() };
    let known: Vec<&'static str> = Script::ALL.iter().map(|s| s.name()).collect();
    let Some(keys) = words.reader.keys(tree, &known) else {
        return none();
    };
    let mut all = BTreeMap::new();
    for script in Script::ALL {
        let tree = keys.optional(script.name());
        if let Some(action) = tree.and_then(|t| action(words, t)) {
            all.insert(script, action);
        }
    }
    Application::Scripts(all)
}

/// A unit without its kind is a service.
pub(super) fn unit(name: &str) -> String {
    if name.contains('.') {
        name.to_string()
    } else {
        format!("{name}.service")
    }
}

/// `["/program", "argument"]`, or `(run: […], limit: "60s")`.
pub(super) fn action<'s>(words: &mut Words<'_, 's, '_>, tree: &Tree<'s>) -> Option<Action> {
    let (list, limit) = if let Shape::Structure(_) = tree.shape {
        let keys = words.reader.keys(tree, &["run", "limit"])?;
        let limit = keys.optional("limit");
        let limit = limit.and_then(|t| duration(words.reader, t));
        (words.reader.required(&keys, "run", EXAMPLE)?, limit)
    } else {
        (tree, None)
    };
    let command = command(words, list)?;
    Some(Action {
        command,
        limit: limit.unwrap_or(DEFAULT_LIMIT),
    })
}

/// A program by its absolute path, and its arguments.
pub(super) fn command<'s>(words: &mut Words<'_, 's, '_>, tree: &Tree<'s>) -> Option<Vec<String>> {
    let command = words.texts(tree, EXAMPLE)?;
    let command: Vec<String> = command.into_iter().map(|word| word.value).collect();
    match command.first() {
        Some(program) if program.starts_with('/') => Some(command),
        Some(program) => {
            let message = format!("found program `{program}`, expected its whole path, from `/`");
            words.reader.note(tree.at, message);
            None
        }
        None => {
            let message = format!("found no program, expected a list such as {EXAMPLE}");
            words.reader.note(tree.at, message);
            None
        }
    }
}
