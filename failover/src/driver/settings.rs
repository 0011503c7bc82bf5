//! What the manager is told before it starts, and why it may not.

use crate::config::{Files, Module, Places, Read, Reading};
use crate::io::change::ChangeError;
use crate::io::store::StoreError;
use crate::io::vip::VipError;
use std::net::IpAddr;
use std::path::PathBuf;
use tandem_repl::io::tls::TlsError;
use thiserror::Error;

/// What the manager must know.
#[derive(Clone, Debug)]
pub struct Settings {
    pub cluster: String,
    pub node: String,
    pub nodes: Vec<Node>,
    /// TCP port of the managers' own link.
    pub port: u16,
    pub state_dir: PathBuf,
    pub run_dir: PathBuf,
    /// Shown to other nodes, without its secrets.
    pub config_dir: PathBuf,
    /// The kernel's device that resets this machine if the manager hangs.
    pub watchdog: Option<PathBuf>,
    /// What was read there, what it means, and how it is read anew.
    pub files: Files,
    pub reading: Reading,
    pub read: Read,
    /// The `tandem` program and the arguments that name its directories.
    pub program: Vec<String>,
    /// PEM texts: authority, certificate, key.
    pub credentials: [String; 3],
}

impl Settings {
    pub(super) fn modules(&self) -> impl Iterator<Item = &Module> {
        self.reading.modules.iter().map(|m| &m.module)
    }

    pub(super) fn places(&self) -> Places {
        Places {
            config: self.config_dir.clone(),
            state: self.state_dir.clone(),
            run: self.run_dir.clone(),
        }
    }
}

/// A node of the cluster.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Node {
    pub name: String,
    pub addresses: Vec<IpAddr>,
}

/// Why the manager cannot run.
#[derive(Debug, Error)]
pub enum ManagerError {
    #[error(transparent)]
    Store(#[from] StoreError),
    #[error(transparent)]
    Addresses(#[from] VipError),
    #[error(transparent)]
    Tls(#[from] TlsError),
    #[error(transparent)]
    Change(#[from] ChangeError),
    #[error("control socket {}: {source}", path.display())]
    Socket {
        path: PathBuf,
        source: std::io::Error,
    },
    #[error("thread: {0}")]
    Thread(std::io::Error),
}
