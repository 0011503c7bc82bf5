//! `tandem failover`: the failover manager of this node, in the foreground.

use std::path::Path;

use anyhow::{Context, Result};

use crate::config::{Dirs, load};
use crate::exit::Exit;

/// Runs until told to end; then the modules of this node are stopped in order.
pub(crate) fn run(dirs: &Dirs) -> Result<Exit> {
    let config = load(dirs).complete()?;
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
    tandem_failover::driver::run(config.manager_settings(program))?;
    Ok(Exit::Done)
}
