//! Asking the failover manager, if one runs.

use std::time::Duration;

use anyhow::Result;
use tandem_failover::client::{ClientError, ControlClient};
use tandem_failover::control::{Answer, Envelope, Request, socket};

use crate::config::Dirs;

/// The manager's answer; `None` when none runs on this node.
pub(super) fn ask(
    dirs: &Dirs,
    node: Option<&str>,
    request: Request,
    limit: Duration,
) -> Result<Option<Answer>> {
    let envelope = Envelope::new(node.map(str::to_string), request);
    let mut client = match ControlClient::connect(socket(&dirs.run)) {
        Ok(client) => client,
        Err(ClientError::NotRunning { .. }) => return Ok(None),
        Err(error) => return Err(error.into()),
    };
    Ok(Some(client.ask_manager(&envelope, limit)?))
}
