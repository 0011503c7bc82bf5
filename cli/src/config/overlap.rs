//! What two modules, or a module and Tandem itself, must not share: ports and directories.
//!
//! Directories are compared as written and as they really are: `/srv/db` and `/data/db` are one
//! directory if one is a symbolic link to the other. What does not exist yet is compared by the part
//! that does. Only this node's links are seen; the other node checks its own.

use std::path::{Path, PathBuf};

use super::Dirs;
use super::checked::Module;
use super::problem::{Place, Problem};

/// Compares all modules with each other and with Tandem's own directories.
pub(crate) fn check(modules: &[Module], dirs: &Dirs, problems: &mut Vec<Problem>) {
    ports(modules, problems);
    let claims = claims(modules);
    for claim in &claims {
        own_directories(claim, dirs, problems);
    }
    for (index, later) in claims.iter().enumerate() {
        for earlier in &claims[..index] {
            if later.module.shares_node(earlier.module) {
                nested(earlier, later, problems);
            }
        }
    }
}

impl Module {
    fn shares_node(&self, other: &Self) -> bool {
        self.nodes.iter().any(|node| other.nodes.contains(node))
    }
}

fn ports(modules: &[Module], problems: &mut Vec<Problem>) {
    for (index, later) in modules.iter().enumerate() {
        let port = later.port.value;
        let clash = modules[..index]
            .iter()
            .find(|earlier| earlier.port.value == port && earlier.shares_node(later));
        if let Some(earlier) = clash {
            let free = (port..u16::MAX).find(|p| modules.iter().all(|m| m.port.value != *p));
            let remedy = free.map_or(String::new(), |free| format!("; use `port: {free}`"));
            let message = format!(
                "port {port} is the port of module `{}` too{remedy}",
                earlier.name
            );
            problems.push(Problem {
                place: later.port.place.clone(),
                message,
                modules: vec![earlier.name.clone(), later.name.clone()],
            });
        }
    }
}

/// A directory a module wants.
struct Claim<'m> {
    module: &'m Module,
    written: &'m Path,
    real: PathBuf,
    place: &'m Place,
}

fn claims(modules: &[Module]) -> Vec<Claim<'_>> {
    let of_module = |module| {
        let module: &Module = module;
        module.directories.iter().map(move |directory| Claim {
            module,
            written: &directory.value.path,
            real: real_path(&directory.value.path),
            place: &directory.place,
        })
    };
    modules.iter().flat_map(of_module).collect()
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

fn nested(earlier: &Claim<'_>, later: &Claim<'_>, problems: &mut Vec<Problem>) {
    let by_name = relation(later.written, earlier.written);
    let Some(how) = by_name.or_else(|| relation(&later.real, &earlier.real)) else {
        return;
    };
    let links = if by_name.is_none() {
        " (through a symbolic link)"
    } else {
        ""
    };
    problems.push(Problem {
        place: later.place.clone(),
        message: format!(
            "`{}` {how} `{}` of module `{}` ({}){links}; a directory belongs to one module once",
            later.written.display(),
            earlier.written.display(),
            earlier.module.name,
            earlier.place,
        ),
        modules: vec![earlier.module.name.clone(), later.module.name.clone()],
    });
}

/// Tandem's records must not be replicated: each node has its own.
fn own_directories(claim: &Claim<'_>, dirs: &Dirs, problems: &mut Vec<Problem>) {
    let own = [
        (&dirs.state, "state directory"),
        (&dirs.run, "run directory"),
        (&dirs.config, "configuration directory"),
    ];
    for (path, what) in own {
        let related =
            relation(claim.written, path).or_else(|| relation(&claim.real, &real_path(path)));
        if let Some(how) = related {
            problems.push(Problem {
                place: claim.place.clone(),
                message: format!(
                    "`{}` {how} Tandem's {what} `{}`, which must stay outside",
                    claim.written.display(),
                    path.display()
                ),
                modules: vec![claim.module.name.clone()],
            });
        }
    }
}
