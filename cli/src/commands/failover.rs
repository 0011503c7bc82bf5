//! `tandem failover`: the failover manager of this node, in the foreground.

use std::path::Path;

use anyhow::{Context, Result, bail};
use tandem_failover::io::change::recover;
use tandem_failover::io::inspect;
use tandem_failover::logic::change::keys::CLUSTER;

use crate::config::{Dirs, load, load_with};
use crate::exit::Exit;

/// Runs until told to end; then the modules of this node are stopped in order.
pub(crate) fn run(dirs: &Dirs) -> Result<Exit> {
    // A change that this node died in is settled before its files are believed.
    recover(&dirs.config, &dirs.state)?;
    // What is missing is said better where it is read from the disk.
    let files = match inspect::files(&dirs.config) {
        Ok(files) => files,
        Err((path, error)) => {
            load(dirs).complete()?;
            bail!("{path}: {error}");
        }
    };
    if !files.contains_key(CLUSTER) {
        load(dirs).complete()?;
    }
    let config = load_with(dirs, Some(&files)).complete()?;
    let program = std::env::current_exe().context("the path of this program")?;
    let text = |path: &Path| {
        let text = path.to_str().map(str::to_string);
        text.with_context(|| format!("{} is not text", path.display()))
    };
    let program = vec![
        text(&program)?,
        "--config-dir".into(),
        text(&dirs.config)?,
        "--state-dir".into(),
        text(&dirs.state)?,
        "--run-dir".into(),
        text(&dirs.run)?,
    ];
    crate::logging::abort_on_panic();
    tandem_failover::driver::run(config.manager_settings(program, files))?;
    Ok(Exit::Done)
}
