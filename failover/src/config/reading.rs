//! The configuration as files, and what they mean: so that the manager can take over a changed one
//! while it runs. How files are read is the command line's knowledge; it hands it over as [`Read`].

use super::Module;
use std::collections::BTreeMap;
use std::path::PathBuf;

/// Texts of `cluster.ron` and `modules/NAME.ron`, by these names.
pub type Files = BTreeMap<String, String>;

/// What a file says, key by key, each value in a form that is equal where the meaning is.
pub type Keys = BTreeMap<String, String>;

/// The directories of this node.
#[derive(Clone, Debug)]
pub struct Places {
    pub config: PathBuf,
    pub state: PathBuf,
    pub run: PathBuf,
}

/// What all files together mean.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Reading {
    /// Of `cluster.ron`.
    pub cluster: Keys,
    /// The modules of this node.
    pub modules: Vec<Described>,
}

/// A module, and what its file says.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Described {
    pub module: Module,
    pub keys: Keys,
}

impl Reading {
    pub fn module(&self, name: &str) -> Option<&Described> {
        self.modules.iter().find(|m| m.module.name == name)
    }
}

/// Reads files as if they were those of this node. Of the modules that are named it is also looked
/// whether this machine has what they need: programs, units, interfaces, directories.
///
/// The error is every problem, one line each.
pub type Read = fn(&Places, &Files, &[String]) -> Result<Reading, String>;
