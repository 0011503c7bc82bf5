//! Waiting for daemons and giving them their roles.

use std::fs::File;
use std::io::{Read, Seek, SeekFrom};
use std::path::Path;
use std::time::{Duration, Instant};

use anyhow::{Context, Result, anyhow, bail};
use tandem_failover::control::{self as manager, ModuleStatus, Order};
use tandem_repl::control::{Readiness, Request, State, Status};

use super::control;
use super::place::{MODULE, Place};
use super::signals::interrupted;

const START_LIMIT: Duration = Duration::from_secs(20);
const ROLE_LIMIT: Duration = Duration::from_secs(30);
const READY_LIMIT: Duration = Duration::from_secs(60);
const STATUS_LIMIT: Duration = Duration::from_secs(5);
const PAUSE: Duration = Duration::from_millis(25);
/// How much of a log an error shows.
const TAIL_BYTES: u64 = 2000;

/// Waits until the daemon of `node` answers.
pub(crate) fn wait_for_daemon(place: &Place, node: &str) -> Result<()> {
    let answered = |_: &Status| true;
    wait_until(place, node, START_LIMIT, answered)
        .with_context(|| format!("the daemon of {node} did not start"))
        .map_err(|error| with_log(place, node, &error))
}

/// Waits until the daemon of `node` answers, or its manager where it has one.
pub(crate) fn wait_for_node(place: &Place, node: &str, managed: bool) -> Result<()> {
    if !managed {
        return wait_for_daemon(place, node);
    }
    managed_until(place, node, START_LIMIT, |_| true)
        .with_context(|| format!("the manager of {node} did not start"))
        .map_err(|error| with_log(place, node, &error))
}

/// Has the managers start the module, first on `primary`, and waits until both are Ready.
pub(crate) fn start_managed(place: &Place, primary: &str, second: &str) -> Result<()> {
    let tell = |node: &str, order: Order| {
        interrupted()?;
        let module = MODULE.to_string();
        let request = manager::Request::Order { module, order };
        control::ask_manager(&place.node(node), request, READY_LIMIT)
            .with_context(|| format!("{node}: {order:?}"))
            .map_err(|error| with_log(place, node, &error))
    };
    tell(second, Order::Start)?;
    // A volume begins where both say that they have none: not before they have met.
    let start = Instant::now();
    while let Err(error) = tell(primary, Order::Prim { force: false }) {
        if start.elapsed() > READY_LIMIT {
            return Err(error);
        }
        std::thread::sleep(PAUSE * 4);
    }
    for (node, state) in [(primary, State::Prim), (second, State::Second)] {
        let ready = |m: &ModuleStatus| m.readiness == Readiness::Ready && m.state == state;
        managed_until(place, node, READY_LIMIT, ready)
            .with_context(|| format!("{node} did not become Ready"))
            .map_err(|error| with_log(place, node, &error))?;
    }
    Ok(())
}

/// Asks a manager until its module is as wished.
fn managed_until(
    place: &Place,
    node: &str,
    limit: Duration,
    wished: impl Fn(&ModuleStatus) -> bool,
) -> Result<()> {
    let start = Instant::now();
    loop {
        interrupted()?;
        let asked = control::ask_manager(&place.node(node), manager::Request::Status, STATUS_LIMIT);
        let module = match asked {
            Ok(manager::Answer::Status(node)) => {
                node.modules.into_iter().find(|m| m.module == MODULE)
            }
            Ok(_) => None,
            Err(error) if start.elapsed() >= limit => return Err(error),
            Err(_) => None,
        };
        if module.as_ref().is_some_and(&wished) {
            return Ok(());
        }
        if start.elapsed() >= limit {
            bail!("after {limit:?}: {module:?}");
        }
        std::thread::sleep(PAUSE);
    }
}

/// Waits until a daemon has met its peer.
pub(crate) fn wait_for_session(place: &Place, node: &str) -> Result<()> {
    let met = |status: &Status| status.peer.connected && status.peer.state.is_some();
    wait_until(place, node, START_LIMIT, met)
        .with_context(|| format!("{node} did not meet its peer"))
        .map_err(|error| with_log(place, node, &error))
}

/// Makes `primary` serve and `second` follow, and waits until both are Ready.
pub(crate) fn assign(place: &Place, primary: &str, second: &str) -> Result<()> {
    request(place, primary, &Request::Prim { force: false })?;
    request(place, second, &Request::Second)?;
    for node in [primary, second] {
        let ready = |status: &Status| status.readiness == Readiness::Ready;
        wait_until(place, node, READY_LIMIT, ready)
            .with_context(|| format!("{node} did not become Ready"))
            .map_err(|error| with_log(place, node, &error))?;
    }
    Ok(())
}

fn request(place: &Place, node: &str, request: &Request) -> Result<Status> {
    interrupted()?;
    control::ask(&place.node(node), request, ROLE_LIMIT)
        .with_context(|| format!("{node}: request {request:?}"))
        .map_err(|error| with_log(place, node, &error))
}

/// Polls a daemon until its status is as wished. The error says what it was last, or how it ended.
fn wait_until(
    place: &Place,
    node: &str,
    limit: Duration,
    wished: impl Fn(&Status) -> bool,
) -> Result<()> {
    let start = Instant::now();
    let place = place.node(node);
    loop {
        interrupted()?;
        let late = start.elapsed() >= limit;
        match control::ask(&place, &Request::Status, STATUS_LIMIT) {
            Ok(status) if wished(&status) => return Ok(()),
            Ok(status) if late => bail!("after {limit:?}: {}", brief(&status)),
            Err(error) if late => return Err(error),
            _ => {}
        }
        if let Ok(how) = std::fs::read_to_string(place.daemon_end()) {
            bail!("{how}");
        }
        std::thread::sleep(PAUSE);
    }
}

fn brief(status: &Status) -> String {
    let reason = status
        .reason
        .as_ref()
        .map(|reason| format!(": {reason}"))
        .unwrap_or_default();
    format!("{:?} {:?}{reason}", status.state, status.readiness)
}

/// An error with the end of the node's log behind it: the log may be gone when it is read.
fn with_log(place: &Place, node: &str, error: &anyhow::Error) -> anyhow::Error {
    anyhow!("{error:#}{}", log_tail(place, node))
}

/// The end of a node's log, ready to be put at the end of an error.
fn log_tail(place: &Place, node: &str) -> String {
    let path = place.node(node).log();
    match tail(&path) {
        Ok(text) if text.trim().is_empty() => format!("\n{} is empty", path.display()),
        Ok(text) => format!("\nend of {}:\n{}", path.display(), text.trim_end()),
        Err(error) => format!("\n{}: {error}", path.display()),
    }
}

fn tail(path: &Path) -> std::io::Result<String> {
    let mut file = File::open(path)?;
    let length = file.metadata()?.len();
    file.seek(SeekFrom::Start(length.saturating_sub(TAIL_BYTES)))?;
    let mut bytes = Vec::new();
    file.read_to_end(&mut bytes)?;
    Ok(String::from_utf8_lossy(&bytes).into_owned())
}
