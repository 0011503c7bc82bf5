//! What one node shows another so that the two can be compared: the text of the files that must be
//! the same, its clock, and whom it knows under a number.
//!
//! No secret is among it: certificates and keys lie in `pki/`, which is not looked at.

use crate::control::{Answer, Inspection};
use nix::unistd::{Gid, Group, Uid, User};
use std::collections::BTreeMap;
use std::fs::File;
use std::io::{ErrorKind, Read};
use std::path::Path;
use std::time::{SystemTime, UNIX_EPOCH};
use tandem_repl::control::{MAX_LINE, Refusal};

/// Longest file that is read, bytes; as long as one of a configuration may be.
const MAX_FILE: u64 = 1 << 20;
/// Numbers asked at once.
pub const MAX_NUMBERS: usize = 1000;

/// Looks at this node. May take long: names may be asked of another machine.
pub fn inspect(node: &str, config_dir: &Path, uids: &[u32], gids: &[u32]) -> Answer {
    let files = match files(config_dir) {
        Ok(files) => files,
        Err((path, error)) => {
            let remedy = format!("correct it on {node}");
            let reason = format!("{path}: {error}");
            return Answer::Refused(Refusal::new("configuration", reason, remedy));
        }
    };
    let clock = SystemTime::now().duration_since(UNIX_EPOCH);
    let user = |uid: &u32| {
        let found = User::from_uid(Uid::from_raw(*uid)).ok().flatten();
        found.map(|user| (*uid, user.name))
    };
    let group = |gid: &u32| {
        let found = Group::from_gid(Gid::from_raw(*gid)).ok().flatten();
        found.map(|group| (*gid, group.name))
    };
    let inspection = Inspection {
        node: node.into(),
        version: env!("CARGO_PKG_VERSION").into(),
        clock_ms: clock.map_or(0, |since| since.as_millis() as u64),
        files,
        users: uids.iter().take(MAX_NUMBERS).filter_map(user).collect(),
        groups: gids.iter().take(MAX_NUMBERS).filter_map(group).collect(),
    };
    // It must fit a line of the link, or it would cost the connection.
    let length = serde_json::to_vec(&inspection).map_or(usize::MAX, |line| line.len());
    if length > MAX_LINE / 2 {
        let reason =
            format!("the configuration of {node} is too long to be shown ({length} bytes)");
        let remedy = "compare the files by hand";
        return Answer::Refused(Refusal::new("too-long", reason, remedy));
    }
    Answer::Inspected(Box::new(inspection))
}

type Fault = (String, std::io::Error);

/// `cluster.ron` and the modules' files, by their names.
///
/// # Errors
/// What cannot be read, with its path.
pub fn files(config_dir: &Path) -> Result<BTreeMap<String, String>, Fault> {
    let mut files = BTreeMap::new();
    let mut add = |name: String| -> Result<(), Fault> {
        let path = config_dir.join(&name);
        match read(&path) {
            Ok(text) => {
                files.insert(name, text);
                Ok(())
            }
            Err(e) if e.kind() == ErrorKind::NotFound => Ok(()),
            Err(e) => Err((path.display().to_string(), e)),
        }
    };
    add("cluster.ron".into())?;
    let modules = config_dir.join("modules");
    let list = std::fs::read_dir(&modules);
    let list = list.map_err(|e| (modules.display().to_string(), e))?;
    for entry in list.flatten() {
        let name = entry.file_name();
        let Some(name) = name.to_str() else { continue };
        if name.ends_with(".ron") && !name.starts_with('.') {
            add(format!("modules/{name}"))?;
        }
    }
    Ok(files)
}

fn read(path: &Path) -> std::io::Result<String> {
    let mut text = String::new();
    File::open(path)?.take(MAX_FILE).read_to_string(&mut text)?;
    Ok(text)
}
