//! Configuration: a directory of small RON files, read as a whole, checked as a whole.
//!
//! ```text
//! CONFIG_DIR/cluster.ron        the cluster and its nodes; the same on all nodes
//! CONFIG_DIR/node.ron           which of them this one is
//! CONFIG_DIR/modules/NAME.ron   one file per module; the same on the module's nodes
//! CONFIG_DIR/pki/               ca.pem, node.pem, node-key.pem
//! ```
//!
//! All problems of all files are reported together. A problem in the file of one module does not
//! keep another module from starting: that may be happening right after a failure. An overlap of
//! two modules stops both, because either alone may be the one that is wrong.
//!
//! The way: text → [`tree`] → [`reader`] → [`raw`] (as typed) → [`checked`] (as meant), and
//! [`overlap`] between modules; [`witness`] and [`apart`] say what decides
//! when nodes are apart. What only the live directory can tell (it exists, supports extended
//! attributes, holds no other mount) is checked by the daemon.

mod apart;
mod checked;
mod credentials;
mod digest;
mod manager;
mod meaning;
mod names;
mod networks;
mod overlap;
mod problem;
mod raw;
mod reader;
mod service;
mod tree;
mod units;
mod watchdog;
mod witness;

use std::path::{Path, PathBuf};

use tandem_failover::config::Files;
use tandem_fs::config::{Credentials, ModuleConfig, Node, WitnessConfig};

pub(crate) use checked::Module;

use checked::Cluster;
use overlap::Claims;
use problem::{At, Place, Problem, Source};
use reader::Reader;

pub(crate) use credentials::secret_fault;
pub(crate) use names::{address, name_fault, path_fault};
pub(crate) use problem::{Problems, did_you_mean};
pub(crate) use units::{parse_duration, show_duration};

/// Where configuration, durable state and sockets are.
#[derive(Clone, Debug)]
pub(crate) struct Dirs {
    pub(crate) config: PathBuf,
    pub(crate) state: PathBuf,
    pub(crate) run: PathBuf,
}

impl Dirs {
    /// The control socket of a module's daemon.
    pub(crate) fn socket(&self, module: &str) -> PathBuf {
        self.run.join(format!("{module}.sock"))
    }

    fn modules(&self) -> PathBuf {
        self.config.join("modules")
    }
}

/// The validated configuration of this node.
pub(crate) struct Config {
    dirs: Dirs,
    pub(crate) cluster: Cluster,
    /// This node's name.
    pub(crate) node: String,
    /// Those without problems.
    pub(crate) modules: Vec<Module>,
    credentials: Credentials,
    witness: Option<WitnessConfig>,
}

/// What reading gave: as much as could be built, and everything that is wrong.
pub(crate) struct Loaded {
    config: Option<Config>,
    problems: Problems,
    /// Files in `modules/` whose names do not end in `.ron`.
    pub(crate) ignored: Vec<PathBuf>,
}

impl Loaded {
    /// The configuration, if nothing at all is wrong.
    ///
    /// # Errors
    /// Every problem.
    pub(crate) fn complete(self) -> Result<Config, Problems> {
        match self.config {
            Some(config) if self.problems.is_empty() => Ok(config),
            _ => Err(self.problems),
        }
    }

    /// The configuration, if nothing is wrong that concerns this module. Problems of other modules
    /// are logged.
    ///
    /// # Errors
    /// The problems that concern the module.
    pub(crate) fn for_module(self, module: &str) -> Result<Config, Problems> {
        let (mine, others): (Vec<_>, Vec<_>) = self
            .problems
            .0
            .into_iter()
            .partition(|problem| problem.concerns(module));
        match self.config {
            Some(config) if mine.is_empty() => {
                for problem in others {
                    tracing::warn!("{problem} (does not concern module {module})");
                }
                Ok(config)
            }
            _ => Err(Problems(mine)),
        }
    }
}

/// Reads and checks everything.
pub(crate) fn load(dirs: &Dirs) -> Loaded {
    load_with(dirs, None)
}

/// The same where `cluster.ron` and the modules' files have these texts, whatever is on the disk.
pub(crate) fn load_with(dirs: &Dirs, files: Option<&Files>) -> Loaded {
    let mut problems = Vec::new();
    let file = dirs.config.join("cluster.ron");
    let remedy = "it names the nodes, see --config-dir";
    let source = source(&file, "cluster.ron", remedy, files);
    let cluster = read(source, raw::cluster, &mut problems)
        .and_then(|raw| checked::cluster(raw, &mut problems));
    let file = dirs.config.join("node.ron");
    let source = Source::read(&file, "write `(name: \"THIS-NODE\")`");
    let node = read(source, raw::node, &mut problems);
    if let (Some(node), Some(cluster)) = (&node, &cluster) {
        checked::node(node, cluster, &mut problems);
    }
    let node: Option<String> = node.map(|At { value, .. }| value);
    let pki = dirs.config.join("pki");
    let credentials = credentials::load(&pki, node.as_deref(), &mut problems);
    let witness = cluster.as_ref().and_then(|c| c.witness.as_ref());
    let witness = witness.and_then(|w| witness::load(w, &dirs.config, &mut problems));

    let listed = match files {
        Some(files) => Ok((named_modules(files), Vec::new())),
        None => list_modules(&dirs.modules()),
    };
    let (names, ignored) = listed.unwrap_or_else(|problem| {
        problems.push(problem);
        (Vec::new(), Vec::new())
    });
    let mut modules = Vec::new();
    let mut claims = Vec::new();
    for name in &names {
        modules.extend(load_module(
            (dirs, files),
            name,
            cluster.as_ref(),
            &mut claims,
            &mut problems,
        ));
    }
    overlap::check(&claims, dirs, &mut problems);

    let config = (|| {
        let dirs = dirs.clone();
        Some(Config {
            dirs,
            cluster: cluster?,
            node: node?,
            modules,
            credentials: credentials?,
            witness,
        })
    })();
    Loaded {
        config,
        problems: Problems(problems),
        ignored,
    }
}

/// A file's text from among `files`, or from the disk.
fn source(file: &Path, name: &str, remedy: &str, files: Option<&Files>) -> Result<Source, Problem> {
    let Some(files) = files else {
        return Source::read(file, remedy);
    };
    let text = files.get(name).cloned();
    let text = text.ok_or_else(|| Problem::new(Place::file(file), format!("is missing; {remedy}")));
    text.map(|text| Source {
        file: file.into(),
        text,
    })
}

fn named_modules(files: &Files) -> Vec<String> {
    let name = |file: &String| {
        let name = file.strip_prefix("modules/")?.strip_suffix(".ron")?;
        Some(name.to_string())
    };
    files.keys().filter_map(name).collect()
}

fn read<T>(
    source: Result<Source, Problem>,
    parse: impl FnOnce(&mut Reader<'_>) -> Option<T>,
    problems: &mut Vec<Problem>,
) -> Option<T> {
    let source = source.map_err(|problem| problems.push(problem)).ok()?;
    let mut reader = Reader::new(&source);
    let value = parse(&mut reader);
    problems.extend(reader.problems);
    value
}

fn load_module(
    (dirs, files): (&Dirs, Option<&Files>),
    name: &str,
    cluster: Option<&Cluster>,
    claims: &mut Vec<Claims>,
    problems: &mut Vec<Problem>,
) -> Option<Module> {
    let before = problems.len();
    let file = dirs.modules().join(format!("{name}.ron"));
    let parse = |reader: &mut Reader<'_>| raw::module(reader, name);
    let remedy = "it describes a module";
    let source = source(&file, &format!("modules/{name}.ron"), remedy, files);
    let module = read(source, parse, problems).and_then(|raw| {
        let place = Place::file(&file);
        claims.push(Claims::of(name, &raw, &place));
        checked::module(name, raw, &place, cluster, problems)
    });
    for problem in &mut problems[before..] {
        problem.modules = vec![name.to_string()];
    }
    module.filter(|_| problems.len() == before)
}

/// The module names by their files, in order, and the files that are none.
fn list_modules(directory: &Path) -> Result<(Vec<String>, Vec<PathBuf>), Problem> {
    let fail = |e: std::io::Error| {
        let message = format!("cannot be read: {e}; it holds one file NAME.ron per module");
        Problem::new(Place::file(directory), message)
    };
    let (mut names, mut ignored) = (Vec::new(), Vec::new());
    for entry in std::fs::read_dir(directory).map_err(fail)? {
        let path = entry.map_err(fail)?.path();
        let name = path
            .file_name()
            .and_then(|name| name.to_str())
            .unwrap_or_default();
        match name.strip_suffix(".ron") {
            Some(name) if !name.starts_with('.') => names.push(name.to_string()),
            _ => ignored.push(path),
        }
    }
    names.sort();
    ignored.sort();
    Ok((names, ignored))
}

/// The names of the configured modules, without reading their files: a running daemon can be asked
/// and stopped even while the configuration is wrong.
///
/// # Errors
/// When the directory cannot be listed.
pub(crate) fn module_names(dirs: &Dirs) -> Result<Vec<String>, Problems> {
    list_modules(&dirs.modules())
        .map(|(names, _)| names)
        .map_err(|p| Problems(vec![p]))
}

/// Why there is no daemon configuration of a module.
#[derive(Debug, thiserror::Error)]
pub(crate) enum ModuleError {
    #[error("module `{name}` is not configured{hint}")]
    Unknown { name: String, hint: String },
    #[error("module `{name}` runs on {} and {}, and this is {node}", nodes[0], nodes[1])]
    Elsewhere {
        name: String,
        nodes: [String; 2],
        node: String,
    },
}

impl Config {
    /// What the daemon of a module needs to know.
    ///
    /// # Errors
    /// When no such module is configured, or it does not run on this node.
    pub(crate) fn module_config(&self, name: &str) -> Result<ModuleConfig, ModuleError> {
        let module = self
            .modules
            .iter()
            .find(|module| module.name == name)
            .ok_or_else(|| {
                let known = self.modules.iter().map(|module| module.name.as_str());
                ModuleError::Unknown {
                    name: name.into(),
                    hint: did_you_mean(name, known),
                }
            })?;
        let elsewhere = || ModuleError::Elsewhere {
            name: name.into(),
            nodes: module.nodes.clone(),
            node: self.node.clone(),
        };
        let peer = match &module.nodes {
            [first, peer] if *first == self.node => peer,
            [peer, second] if *second == self.node => peer,
            _ => return Err(elsewhere()),
        };
        let node = |name: &str| {
            let node = self.cluster.nodes.iter().find(|node| node.name == *name);
            let addresses = node.map(|node| node.endpoints(module.port.value));
            addresses.map(|addresses| Node {
                name: name.into(),
                addresses,
            })
        };
        Ok(ModuleConfig {
            cluster: self.cluster.name.clone(),
            module: name.into(),
            local: node(&self.node).ok_or_else(elsewhere)?,
            peer: node(peer).ok_or_else(elsewhere)?,
            directories: module.directories.iter().map(|d| d.value.clone()).collect(),
            ack: module.ack,
            stall_limit: module.stall_limit,
            hot_limit: module.hot_limit,
            aside_limit: module.aside_limit,
            resync_slowdown: module.resync_slowdown,
            scrub: module.scrub,
            devices: module.devices,
            apart: module.policy.with(self.witness.clone()),
            managed: false,
            digest: digest::digest(&self.cluster, module),
            state_dir: self.dirs.state.join(name),
            socket: self.dirs.socket(name),
            credentials: self.credentials.clone(),
        })
    }
}

#[cfg(test)]
pub(crate) mod testing;
#[cfg(test)]
mod tests;
