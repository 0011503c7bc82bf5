//! `tandem witness`: the third party, in the foreground.

use std::path::{Path, PathBuf};

use anyhow::{Context, Result};
use tandem_failover::io::witness_server::{WitnessServer, WitnessServerConfig};

use crate::args::WitnessArgs;
use crate::config::{Dirs, secret_fault};
use crate::exit::Exit;

/// Serves until it is ended.
pub(crate) fn run(dirs: &Dirs, args: &WitnessArgs) -> Result<Exit> {
    let or = |path: &Option<PathBuf>, default: &str| match path {
        Some(path) => path.clone(),
        None => dirs.config.join(default),
    };
    let cert = or(&args.cert, "pki/node.pem");
    let key = or(&args.key, "pki/node-key.pem");
    let read = |path: &Path, remedy: &str| {
        std::fs::read_to_string(path)
            .with_context(|| format!("reading {}; {remedy}", path.display()))
    };
    let issue = "`tandem pki issue witness` makes it";
    let (cert_pem, key_pem) = (read(&cert, issue)?, read(&key, issue)?);
    if let Some(fault) = secret_fault(&key) {
        anyhow::bail!("{}: {fault}", key.display());
    }
    let server = WitnessServer::bind(&WitnessServerConfig {
        listen: args.listen,
        state_dir: dirs.state.join("witness"),
        clients: or(&args.clients, "clients"),
        cert_pem,
        key_pem,
    })?;
    let clusters: Vec<&str> = server.clusters().collect();
    tracing::info!(
        "the witness of {} listens on {}",
        clusters.join(", "),
        server.address()?
    );
    let ended = server.run().context("accepting connections")?;
    match ended {}
}
