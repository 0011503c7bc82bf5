//! The verbs, one file each, and what several of them need: choosing a module, asking its daemon.

mod config;
mod divergence;
mod doctor;
mod failover;
mod fs;
pub(crate) mod init;
pub(crate) mod join;
mod log;
mod managed;
mod node_status;
mod orders;
mod pki;
mod progress;
mod resync;
mod status;
mod verify;
mod why;
mod witness;

pub(crate) use doctor::read_files;

use std::process::ExitCode;
use std::time::Duration;

use anyhow::{Context, Result};
use tandem_failover::client::ControlClient;
use tandem_failover::control::Order;
use tandem_repl::control::{Answer, Request};

use crate::args::{ActionArgs, Cli, Command};
use crate::config::{Dirs, did_you_mean, module_names};
use crate::exit::{Exit, UsageError};

/// Does what the command line says.
pub(crate) fn run(cli: Cli) -> Result<ExitCode> {
    let dirs = cli.dirs.resolve().context("resolving the directories")?;
    let exit = match cli.command {
        Command::Init(args) => init::run(&dirs, &args)?,
        Command::Join(args) => join::run(&dirs, &args)?,
        Command::Doctor(args) => doctor::run(&dirs, &args)?,
        Command::Fs { module, managed } => fs::run(&dirs, &module, managed)?,
        Command::Failover { word: None } => failover::run(&dirs)?,
        Command::Failover { word: Some(word) } => {
            let (on, action) = word.parts();
            orders::run(&dirs, action, Order::Failover(on))?
        }
        Command::Start { action, wait } => {
            orders::run_and_wait(&dirs, &action, Order::Start, wait)?
        }
        Command::Stopstart { action, wait } => {
            orders::run_and_wait(&dirs, &action, Order::Stopstart, wait)?
        }
        Command::Restart { action, wait } => {
            orders::run_and_wait(&dirs, &action, Order::Restart, wait)?
        }
        Command::Maintenance { word } => {
            let (on, action) = word.parts();
            orders::run(&dirs, action, Order::Maintenance(on))?
        }
        Command::Checker { word } => {
            let (on, action) = word.parts();
            orders::run(&dirs, action, Order::Checkers(on))?
        }
        Command::Log {
            module,
            lines,
            failovers,
            json,
        } => log::run(&dirs, module, lines, (failovers, json))?,
        Command::Prim {
            action,
            wait,
            force,
        } => orders::run_and_wait(&dirs, &action, Order::Prim { force }, wait)?,
        Command::Second { action, wait, full } => {
            orders::run_and_wait(&dirs, &action, Order::Second { full }, wait)?
        }
        Command::Stop { action } => orders::run(&dirs, &action, Order::Stop)?,
        Command::Witness(args) => witness::run(&dirs, &args)?,
        Command::Status {
            module,
            node,
            watch,
            json,
        } => {
            let (module, node) = (module.as_deref(), node.as_deref());
            if watch {
                node_status::watch(&dirs, module, node)?
            } else {
                status::run(&dirs, module, node, json)?
            }
        }
        Command::Swap { action, wait } => orders::run_and_wait(&dirs, &action, Order::Swap, wait)?,
        Command::Resync {
            action,
            everything,
            no_wait,
        } => resync::run(&dirs, &action, everything, !no_wait)?,
        Command::Verify { action, no_wait } => verify::run(&dirs, &action, !no_wait)?,
        Command::Divergence(command) => divergence::run(&dirs, &command)?,
        Command::Why { module } => why::run(&dirs, module.as_deref())?,
        Command::Config(command) => config::run(&dirs, &command)?,
        Command::Pki(command) => pki::run(&command)?,
        Command::Lab(args) => return crate::lab::run(&args),
        Command::Demo(args) => return crate::demo::run(&args),
        Command::LabNode(args) => return crate::lab::run_node(&args),
        Command::DemoLedger(args) => return crate::demo::run_ledger(&args),
    };
    Ok(exit.into())
}

/// The module that was named, or the only one there is.
fn choose_module(known: &[String], named: Option<&str>) -> Result<String, UsageError> {
    let list = known.join(", ");
    match (named, known) {
        (Some(named), _) if known.iter().any(|name| name == named) => Ok(named.into()),
        (_, []) => Err(UsageError(
            "no module is configured; write modules/NAME.ron".into(),
        )),
        (Some(named), _) => {
            let hint = did_you_mean(named, known.iter().map(String::as_str));
            Err(UsageError(format!(
                "no module `{named}`, there is {list}{hint}"
            )))
        }
        (None, [only]) => Ok(only.clone()),
        (None, _) => Err(UsageError(format!("name one of the modules {list}"))),
    }
}

/// One question to one daemon.
fn ask(dirs: &Dirs, module: &str, request: &Request, limit: Duration) -> Result<Answer> {
    let context = || format!("module {module}");
    let mut client = ControlClient::connect(dirs.socket(module)).with_context(context)?;
    client.request_within(request, limit).with_context(context)
}

/// Asks a daemon for an action and prints what came of it.
fn act(dirs: &Dirs, args: &ActionArgs, request: &Request) -> Result<Exit> {
    let module = choose_module(&module_names(dirs)?, args.module.as_deref())?;
    let answer = ask(dirs, &module, request, args.timeout)?;
    if args.json {
        println!("{}", serde_json::to_string(&answer)?);
    }
    match answer {
        Answer::Done(status) | Answer::Status(status) => {
            if !args.json {
                print!("{}", status::Shown(&status));
            }
            Ok(Exit::Done)
        }
        Answer::Refused(refusal) => {
            eprintln!("tandem: module {module}: {refusal}");
            Ok(Exit::Failed)
        }
        Answer::Divergence(_) => Ok(Exit::Done),
    }
}

#[cfg(test)]
#[allow(clippy::unwrap_used)]
mod tests {
    use super::*;

    #[test]
    fn a_module_may_be_left_out_only_when_it_is_clear_which() {
        let one = ["ledger".to_string()];
        let two = ["ledger".to_string(), "shop".to_string()];
        assert_eq!(choose_module(&one, None).unwrap(), "ledger");
        assert_eq!(choose_module(&two, Some("shop")).unwrap(), "shop");
        assert!(choose_module(&two, None).is_err());
        assert!(choose_module(&[], None).is_err());
        let error = choose_module(&two, Some("leger")).unwrap_err().to_string();
        assert!(error.contains("did you mean `ledger`?"), "{error}");
    }
}
