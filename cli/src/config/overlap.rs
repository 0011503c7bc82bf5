//! What two modules, or a module and Tandem itself, must not share: ports and directories.
//!
//! Directories are compared as written and as they really are: `/srv/db` and `/data/db` are one
//! directory if one is a symbolic link to the other. What does not exist yet is compared by the
//! part that does. Only this node's links are seen; the other node checks its own.

use std::path::{Path, PathBuf};

use super::Dirs;
use super::checked::DEFAULT_PORT;
use super::names::path_fault;
use super::problem::{At, Place, Problem};
use super::raw::RawModule;

/// What a module takes for itself. Taken from the file as typed, so that a module with another
/// mistake is compared all the same.
pub(crate) struct Claims {
    module: String,
    nodes: Vec<String>,
    port: At<u16>,
    directories: Vec<Claimed>,
}

struct Claimed {
    written: PathBuf,
    real: PathBuf,
    place: Place,
}

impl Claims {
    /// The claims of one module; what is faulty by itself is left out.
    pub(crate) fn of(module: &str, raw: &RawModule, file: &Place) -> Self {
        let default_port = || At {
            value: DEFAULT_PORT,
            place: file.clone(),
        };
        let nodes = raw.nodes.iter().flat_map(|nodes| &nodes.value);
        let directories = raw
            .directories
            .iter()
            .flat_map(|directories| &directories.value);
        let paths = directories.filter_map(|directory| directory.path.as_ref());
        let claimed = |path: &At<String>| Claimed {
            written: PathBuf::from(&path.value),
            real: real_path(Path::new(&path.value)),
            place: path.place.clone(),
        };
        Self {
            module: module.into(),
            nodes: nodes.map(|node| node.value.clone()).collect(),
            port: raw.port.clone().unwrap_or_else(default_port),
            directories: paths
                .filter(|p| path_fault(&p.value).is_none())
                .map(claimed)
                .collect(),
        }
    }

    fn shares_node(&self, other: &Self) -> bool {
        self.nodes.iter().any(|node| other.nodes.contains(node))
    }
}

/// Compares all modules with each other and with Tandem's own directories.
pub(crate) fn check(claims: &[Claims], dirs: &Dirs, problems: &mut Vec<Problem>) {
    for (index, later) in claims.iter().enumerate() {
        for claimed in &later.directories {
            own_directories(later, claimed, dirs, problems);
        }
        inside_module(later, problems);
        for earlier in claims[..index]
            .iter()
            .filter(|earlier| earlier.shares_node(later))
        {
            if earlier.port.value == later.port.value {
                problems.push(port_taken(earlier, later, claims));
            }
            for outer in &earlier.directories {
                for inner in &later.directories {
                    problems.extend(nested((earlier, outer), (later, inner)));
                }
            }
        }
    }
}

fn inside_module(module: &Claims, problems: &mut Vec<Problem>) {
    for (index, later) in module.directories.iter().enumerate() {
        for earlier in &module.directories[..index] {
            problems.extend(nested((module, earlier), (module, later)));
        }
    }
}

fn port_taken(earlier: &Claims, later: &Claims, all: &[Claims]) -> Problem {
    let port = later.port.value;
    let free = (port..u16::MAX).find(|free| all.iter().all(|m| m.port.value != *free));
    let remedy = free.map_or(String::new(), |free| format!("; write `port: {free}`"));
    Problem {
        place: later.port.place.clone(),
        message: format!(
            "port {port} is the port of module `{}` too{remedy}",
            earlier.module
        ),
        modules: vec![earlier.module.clone(), later.module.clone()],
    }
}

/// The path without symbolic links, as far as it exists.
fn real_path(path: &Path) -> PathBuf {
    let exists = path
        .ancestors()
        .find_map(|part| Some((part, part.canonicalize().ok()?)));
    match exists {
        Some((part, real)) => match path.strip_prefix(part) {
            Ok(rest) if !rest.as_os_str().is_empty() => real.join(rest),
            _ => real,
        },
        None => path.to_path_buf(),
    }
}

/// How one path lies to another.
fn relation(inner: &Path, outer: &Path) -> Option<&'static str> {
    if inner == outer {
        Some("is")
    } else if inner.starts_with(outer) {
        Some("lies inside")
    } else if outer.starts_with(inner) {
        Some("contains")
    } else {
        None
    }
}

fn nested(
    (earlier, first): (&Claims, &Claimed),
    (later, second): (&Claims, &Claimed),
) -> Option<Problem> {
    let by_name = relation(&second.written, &first.written);
    let how = by_name.or_else(|| relation(&second.real, &first.real))?;
    let links = if by_name.is_none() {
        " (through a symbolic link)"
    } else {
        ""
    };
    Some(Problem {
        place: second.place.clone(),
        message: format!(
            "`{}` {how} `{}` of module `{}` ({}){links}; a directory belongs to one module once",
            second.written.display(),
            first.written.display(),
            earlier.module,
            first.place,
        ),
        modules: vec![earlier.module.clone(), later.module.clone()],
    })
}

/// Tandem's records must not be replicated: each node has its own.
fn own_directories(module: &Claims, claimed: &Claimed, dirs: &Dirs, problems: &mut Vec<Problem>) {
    let own = [
        (&dirs.state, "state directory"),
        (&dirs.run, "run directory"),
        (&dirs.config, "configuration directory"),
    ];
    for (path, what) in own {
        let related =
            relation(&claimed.written, path).or_else(|| relation(&claimed.real, &real_path(path)));
        if let Some(how) = related {
            problems.push(Problem {
                place: claimed.place.clone(),
                message: format!(
                    "`{}` {how} Tandem's {what} `{}`; the two must be apart",
                    claimed.written.display(),
                    path.display()
                ),
                modules: vec![module.module.clone()],
            });
        }
    }
}
