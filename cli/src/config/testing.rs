//! For tests: directories that go away, and a configuration that is valid.
#![allow(clippy::unwrap_used)]

use std::fs;
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicU32, Ordering};

use super::Dirs;
use crate::pki;

/// A directory of its own for each test, removed at the end.
pub(crate) struct Directory(PathBuf);

impl Directory {
    pub(crate) fn new() -> Self {
        static NEXT: AtomicU32 = AtomicU32::new(0);
        let number = NEXT.fetch_add(1, Ordering::Relaxed);
        let name = format!("tandem-config-{}-{number}", std::process::id());
        let path = std::env::temp_dir().join(name);
        fs::create_dir(&path).unwrap();
        Self(path)
    }

    pub(crate) fn path(&self) -> &Path {
        &self.0
    }
}

impl Drop for Directory {
    fn drop(&mut self) {
        let _ = fs::remove_dir_all(&self.0);
    }
}

pub(crate) const CLUSTER: &str = "(name: \"shop\", nodes: [\n  \
    (name: \"a\", addresses: [\"10.0.0.1\"]),\n  \
    (name: \"b\", addresses: [\"10.0.0.2\"]),\n])\n";

/// The configuration of node a of cluster shop, without modules.
pub(crate) struct Example {
    pub(crate) root: Directory,
    pub(crate) dirs: Dirs,
}

impl Example {
    pub(crate) fn new() -> Self {
        let root = Directory::new();
        let [config, state, run] = ["etc", "state", "run"].map(|name| root.path().join(name));
        let pki = config.join("pki");
        fs::create_dir_all(&pki).unwrap();
        fs::create_dir_all(config.join("modules")).unwrap();
        let example = Self {
            root,
            dirs: Dirs { config, state, run },
        };
        example
            .issue("a")
            .with("cluster.ron", CLUSTER)
            .with("node.ron", "(name: \"a\")")
    }

    /// Gives the node a new CA, and a certificate for this name.
    pub(crate) fn issue(self, node: &str) -> Self {
        let ca = pki::create_ca("shop").unwrap();
        let node = pki::issue(&ca, node).unwrap();
        let pki = self.dirs.config.join("pki");
        fs::remove_dir_all(&pki).unwrap();
        fs::create_dir(&pki).unwrap();
        pki::write_private(&pki.join("node-key.pem"), &node.key_pem).unwrap();
        self.with("pki/ca.pem", &ca.cert_pem)
            .with("pki/node.pem", &node.cert_pem)
    }

    /// Writes a file of the configuration directory.
    pub(crate) fn with(self, file: &str, text: &str) -> Self {
        fs::write(self.dirs.config.join(file), text).unwrap();
        self
    }

    /// Every problem, one per line, without this test's directory in front.
    pub(crate) fn problems(&self) -> String {
        let root = format!("{}/", self.root.path().display());
        match super::load(&self.dirs).complete() {
            Ok(_) => "valid".into(),
            Err(problems) => problems.to_string().replace(&root, ""),
        }
    }
}
