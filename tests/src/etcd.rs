//! A real etcd for tests: one member, its data in a directory of the test's.

use crate::cluster::skipped;
use crate::running::scratch_dir;
use anyhow::{Context, Result, ensure};
use std::fs::File;
use std::net::TcpListener;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};

/// The program, or nothing and a line that says why the test is skipped. With
/// `TANDEM_REQUIRE_CLUSTER` set (as the one command that runs all tests does, which installs it)
/// that is a failure.
pub fn program(test: &str) -> Option<PathBuf> {
    let path = std::env::var_os("PATH").unwrap_or_default();
    let found = std::env::split_paths(&path)
        .map(|dir| dir.join("etcd"))
        .find(|program| program.is_file());
    if found.is_none() {
        let missing = "etcd is missing (Debian: etcd-server)";
        let required = std::env::var_os("TANDEM_REQUIRE_CLUSTER").is_some();
        assert!(!required, "{test}: {missing}");
        skipped(test, missing);
    }
    found
}

/// A directory removed on drop.
pub struct Directory(PathBuf);

impl Directory {
    pub fn new() -> Result<Self> {
        Ok(Self(scratch_dir("etcd")?))
    }

    pub fn path(&self) -> &Path {
        &self.0
    }
}

impl Drop for Directory {
    fn drop(&mut self) {
        std::fs::remove_dir_all(&self.0).ok();
    }
}

/// Arguments of the program for one member that clients reach at one URL.
pub fn options(data: &Path, clients: &str, peers: &str) -> Vec<String> {
    let data = data.join("data").display().to_string();
    let members = format!("default={peers}");
    [
        ("--data-dir", data.as_str()),
        ("--listen-client-urls", clients),
        ("--advertise-client-urls", clients),
        ("--listen-peer-urls", peers),
        ("--initial-advertise-peer-urls", peers),
        ("--initial-cluster", &members),
    ]
    .iter()
    .flat_map(|(name, value)| [(*name).to_string(), (*value).to_string()])
    .collect()
}

/// One member on loopback, killed on drop; its data stays.
pub struct Etcd {
    child: Child,
}

impl Etcd {
    /// Starts it with more arguments.
    pub fn start(
        program: &Path,
        data: &Path,
        (clients, peers): (&str, &str),
        more: &[String],
    ) -> Result<Self> {
        let log = File::create(data.join("log"))?;
        let child = Command::new(program)
            .args(options(data, clients, peers))
            .args(more)
            .stdin(Stdio::null())
            .stdout(log.try_clone()?)
            .stderr(log)
            .spawn()
            .with_context(|| program.display().to_string())?;
        Ok(Self { child })
    }

    pub fn pid(&self) -> u32 {
        self.child.id()
    }
}

impl Drop for Etcd {
    fn drop(&mut self) {
        self.child.kill().ok();
        self.child.wait().ok();
    }
}

/// Two ports of loopback that were free a moment ago.
pub fn free_ports() -> Result<[u16; 2]> {
    let listeners = [
        TcpListener::bind("127.0.0.1:0")?,
        TcpListener::bind("127.0.0.1:0")?,
    ];
    let mut ports = [0; 2];
    for (port, listener) in ports.iter_mut().zip(&listeners) {
        *port = listener.local_addr()?.port();
    }
    ensure!(ports[0] != ports[1], "two listeners have one port");
    Ok(ports)
}
