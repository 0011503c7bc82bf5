//! `tandem lab status`: what each node says of its module.

use std::fs;
use std::path::PathBuf;
use std::time::Duration;

use serde::Serialize;
use tandem_failover::control::{Answer, Request as ManagerRequest};
use tandem_repl::control::Request;

use super::cluster::MEMBERS;
use super::control;
use super::place::{MODULE, MOUNT, NodePlace, Place};
use super::state::{NodeState, Runs};

const STATUS_LIMIT: Duration = Duration::from_secs(5);

/// One row of `lab status`.
#[derive(Debug, Serialize)]
pub(crate) struct NodeReport {
    pub(crate) name: String,
    pub(crate) state: String,
    pub(crate) readiness: String,
    /// The replicated directory inside the node.
    pub(crate) mount: String,
    /// The tree below it, seen from outside.
    pub(crate) replica: PathBuf,
    /// The node's init process.
    pub(crate) pid: Option<u32>,
    pub(crate) reason: Option<String>,
}

/// Asks a node.
pub(super) fn report(place: &Place, node: &NodeState) -> NodeReport {
    let own = place.node(&node.name);
    let member = MEMBERS.contains(&node.name.as_str());
    let mut report = NodeReport {
        name: node.name.clone(),
        state: "DOWN".into(),
        readiness: "NotReady".into(),
        mount: MOUNT.into(),
        replica: own.replica(),
        pid: None,
        reason: None,
    };
    let Ok(init) = node.alive() else {
        report.reason = Some("the node was killed; `tandem lab start` starts it".into());
        return report;
    };
    report.pid = Some(init.pid);
    // The state of a module whose daemon does not run.
    report.state = "STOP".into();
    if !member {
        report.reason = Some("this node holds no module".into());
        return report;
    }
    if node.runs == Runs::Manager {
        return managed_report(&own, report);
    }
    match control::ask(&own, &Request::Status, STATUS_LIMIT) {
        Ok(status) => {
            report.state = format!("{:?}", status.state).to_uppercase();
            report.readiness = format!("{:?}", status.readiness);
            report.reason = status.reason.map(|reason| reason.to_string());
        }
        Err(error) => {
            let ended = fs::read_to_string(own.daemon_end()).ok();
            report.reason = Some(ended.unwrap_or_else(|| format!("{error:#}")));
        }
    }
    report
}

/// What the failover manager of a node says.
fn managed_report(own: &NodePlace, mut report: NodeReport) -> NodeReport {
    match control::ask_manager(own, ManagerRequest::Status, STATUS_LIMIT) {
        Ok(Answer::Status(node)) => {
            if let Some(module) = node.modules.into_iter().find(|m| m.module == MODULE) {
                report.state = format!("{:?}", module.state).to_uppercase();
                report.readiness = format!("{:?}", module.readiness);
                report.reason = module.reason.map(|reason| reason.to_string());
            }
        }
        Ok(_) => report.reason = Some("an answer to another question".into()),
        Err(error) => report.reason = Some(format!("{error:#}")),
    }
    report
}
