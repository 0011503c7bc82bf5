//! `tandem fs MODULE`: the file system daemon of one module, in the foreground.

use std::fs::DirBuilder;
use std::os::unix::fs::DirBuilderExt;

use anyhow::{Context, Result};

use super::choose_module;
use crate::config::{Dirs, load, module_names};
use crate::exit::Exit;

/// Runs until the module is stopped. `managed`: a failover manager leads it.
pub(crate) fn run(dirs: &Dirs, module: &str, managed: bool) -> Result<Exit> {
    let module = choose_module(&module_names(dirs)?, Some(module))?;
    let mut config = load(dirs).for_module(&module)?.module_config(&module)?;
    config.managed = managed;
    // Sockets only: the directory is empty after a reboot, and nobody but root may look in.
    let mut run = DirBuilder::new();
    run.recursive(true)
        .mode(0o700)
        .create(&dirs.run)
        .with_context(|| format!("making the run directory {}", dirs.run.display()))?;
    tracing::info!(module, peer = config.peer.name, "configuration is valid");
    crate::logging::abort_on_panic();
    tandem_fs::daemon::run(config)?;
    Ok(Exit::Done)
}
