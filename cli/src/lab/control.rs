//! Asking the daemon of a node, from outside the node: its control socket is a file in the lab's
//! directory, and namespaces do not matter to files.

use std::time::Duration;

use anyhow::{Result, bail};
use tandem_failover::client::ControlClient;
use tandem_failover::control as manager;
use tandem_repl::control::{Answer, Request, Status};

use super::place::NodePlace;

/// One exchange with the failover manager of a node. A refusal is an error.
pub(crate) fn ask_manager(
    place: &NodePlace,
    request: manager::Request,
    limit: Duration,
) -> Result<manager::Answer> {
    let mut client = ControlClient::connect(manager::socket(&place.run()))?;
    match client.ask_manager(&manager::Envelope::new(None, request), limit)? {
        manager::Answer::Refused(refusal) => bail!(refusal),
        answer => Ok(answer),
    }
}

/// One exchange with the daemon. A refusal is an error too, of type
/// [`tandem_repl::control::Refusal`].
pub(crate) fn ask(place: &NodePlace, request: &Request, limit: Duration) -> Result<Status> {
    let mut client = ControlClient::connect(place.socket())?;
    match client.request_within(request, limit)? {
        Answer::Status(status) | Answer::Done(status) => Ok(*status),
        Answer::Refused(refusal) => bail!(refusal),
        Answer::Divergence(_) => bail!("an answer to another question"),
    }
}
