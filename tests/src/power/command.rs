//! Programs of this machine that must succeed.

use anyhow::{Context, Result, ensure};
use std::process::{Command, Stdio};

/// Runs a program to its end; the error shows what it said.
pub fn run(command: &mut Command) -> Result<()> {
    let output = command.stdin(Stdio::null()).output();
    let output = output.with_context(|| format!("{command:?}"))?;
    let said = String::from_utf8_lossy(&output.stderr);
    ensure!(
        output.status.success(),
        "{command:?}: {}: {}",
        output.status,
        said.trim_end()
    );
    Ok(())
}
