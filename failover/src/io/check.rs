//! Looks at things: processes, units, ports, addresses, interfaces, whatever a command can tell.
//!
//! [`look`] looks once, within its time. A [`Watch`] looks again and again, and tells changes.

mod interface;
mod network;
mod ping;
mod process;
mod watch;

use std::sync::{Arc, Mutex, PoisonError, mpsc};
use std::time::{Duration, Instant};

use super::run::{Job, JobHandle, Outcome, Runner};
use super::services::Services;
use super::within::within;
use crate::config::CheckerKind;

pub use watch::{Report, Watch};

/// How long a command that was too slow may take to end, once it was asked to.
const GRACE: Duration = Duration::from_millis(200);
/// How much of a command's output becomes part of a report.
const SHOWN: usize = 1000;

/// What looks need.
#[derive(Clone, Debug)]
pub struct Context {
    /// Module the looks are for.
    pub module: String,
    /// Runs the commands of checkers.
    pub runner: Runner,
    /// Environment of the commands.
    pub env: Vec<(String, String)>,
    pub services: Services,
}

/// Ends a look from outside: the thing is not looked at any more.
#[derive(Clone, Debug, Default)]
struct Cancel(Arc<Mutex<Cancelled>>);

#[derive(Debug, Default)]
struct Cancelled {
    yes: bool,
    job: Option<JobHandle>,
}

impl Cancel {
    fn cancel(&self) {
        let mut state = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        state.yes = true;
        if let Some(job) = state.job.take() {
            job.kill();
        }
    }

    fn is_cancelled(&self) -> bool {
        self.0.lock().unwrap_or_else(PoisonError::into_inner).yes
    }

    fn covers(&self, job: JobHandle) {
        let mut state = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        match state.yes {
            true => job.kill(),
            false => state.job = Some(job),
        }
    }
}

/// Looks once. A command has a little more time than `timeout` to end itself; everything else is
/// answered within it.
///
/// # Errors
/// What is wrong, in plain words.
pub fn look(
    name: &str,
    kind: &CheckerKind,
    timeout: Duration,
    context: &Context,
) -> Result<(), String> {
    look_until(name, kind, timeout, context, &Cancel::default())
}

fn look_until(
    name: &str,
    kind: &CheckerKind,
    timeout: Duration,
    context: &Context,
    cancel: &Cancel,
) -> Result<(), String> {
    let deadline = Instant::now() + timeout;
    match kind {
        CheckerKind::Process {
            name,
            arguments,
            at_least,
            at_most,
        } => {
            let wanted = process::Wanted::new(name, arguments.as_deref())?;
            let (at_least, at_most) = (*at_least, *at_most);
            let work = move || wanted.judge(at_least, at_most);
            within(timeout, &format!("looking for processes {name:?}"), work)?
        }
        CheckerKind::Service(unit) => {
            let active = context.services.is_active(unit, timeout);
            match active.map_err(|error| error.to_string())? {
                state if state.active => Ok(()),
                state => Err(format!("unit {unit} is {state}")),
            }
        }
        CheckerKind::Tcp { host, port } => network::tcp(host, *port, deadline),
        CheckerKind::Http { url, statuses } => network::http(url, statuses, timeout),
        CheckerKind::Ping { host } => ping::ping(host, deadline),
        CheckerKind::Interface { name } => interface::look(name),
        CheckerKind::Command(command) => command_succeeds(name, command, timeout, context, cancel),
        CheckerKind::VirtualIp | CheckerKind::Module(_) => Err(format!(
            "{name}: the manager itself knows this; it is not looked at from outside"
        )),
    }
}

fn command_succeeds(
    name: &str,
    command: &[String],
    timeout: Duration,
    context: &Context,
    cancel: &Cancel,
) -> Result<(), String> {
    let (send, receive) = mpsc::channel();
    let job = context.runner.start(Job {
        name: format!("checker-{name}"),
        command: command.to_vec(),
        limit: timeout,
        grace: GRACE,
        env: context.env.clone(),
        done: Box::new(move |outcome| {
            // Given up below when even killing takes too long.
            let _ = send.send(outcome);
        }),
    });
    cancel.covers(job);
    let program = command.first().map_or("", String::as_str);
    match receive.recv_timeout(timeout + GRACE * 2) {
        Ok(Outcome::Success { .. }) => Ok(()),
        Ok(outcome @ Outcome::CannotRun { .. }) => Err(outcome.to_string()),
        Ok(outcome) => Err(format!("{program} {outcome}{}", said(outcome.output()))),
        Err(_) => Err(format!(
            "{program} did not end within {} ms and cannot be killed",
            timeout.as_millis()
        )),
    }
}

/// The end of what a command said, to be appended.
fn said(output: &str) -> String {
    let output = output.trim();
    if output.is_empty() {
        return String::new();
    }
    let skip = output.chars().count().saturating_sub(SHOWN);
    let cut = if skip > 0 { "…" } else { "" };
    let end: String = output.chars().skip(skip).collect();
    format!(": {cut}{end}")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_end_of_an_output_is_shown() {
        assert_eq!(said(" \n"), "");
        assert_eq!(said("no\n"), ": no");
        let long = said(&format!("{}end", "ü".repeat(2000)));
        assert!(long.starts_with(": …ü") && long.ends_with("end"));
        assert_eq!(long.chars().count(), 3 + SHOWN);
    }
}
