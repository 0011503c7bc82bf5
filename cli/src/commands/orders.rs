//! What a module is told: by way of the failover manager, or, where none runs, to its daemon.

use std::time::{Duration, Instant};

use anyhow::{Result, bail};
use tandem_failover::client::STATUS_LIMIT;
use tandem_failover::control::{Answer, Order, Request};
use tandem_repl::control::{Readiness, Request as DaemonRequest, State};

use super::status::state_name;
use super::{act, choose_module, managed, node_status};
use crate::args::{ActionArgs, WaitArgs};
use crate::config::{Dirs, load, module_names};
use crate::exit::Exit;

/// Between two looks of `--wait`.
const PACE: Duration = Duration::from_millis(100);

pub(crate) fn run(dirs: &Dirs, args: &ActionArgs, order: Order) -> Result<Exit> {
    let module = choose_module(&module_names(dirs)?, args.module.as_deref())?;
    if !args.all {
        return tell(dirs, args, &module, args.node.as_deref(), order);
    }
    let mut worst = Exit::Done;
    for node in nodes_of(dirs, &module)? {
        worst = worst.max(tell(dirs, args, &module, Some(&node), order)?);
    }
    Ok(worst)
}

/// The same; with `--wait` until the module is ready on every node that was told.
pub(crate) fn run_and_wait(
    dirs: &Dirs,
    args: &ActionArgs,
    order: Order,
    wait: WaitArgs,
) -> Result<Exit> {
    let began = Instant::now();
    let exit = run(dirs, args, order)?;
    if !wait.wait || exit != Exit::Done {
        return Ok(exit);
    }
    let module = choose_module(&module_names(dirs)?, args.module.as_deref())?;
    let nodes = if args.all {
        nodes_of(dirs, &module)?.into_iter().map(Some).collect()
    } else {
        vec![args.node.clone()]
    };
    let mut worst = Exit::Done;
    for node in nodes {
        let left = args.timeout.saturating_sub(began.elapsed());
        worst = worst.max(ready(dirs, &module, node.as_deref(), left)?);
    }
    Ok(worst)
}

/// Until the module is ready on a node.
fn ready(dirs: &Dirs, module: &str, node: Option<&str>, limit: Duration) -> Result<Exit> {
    let began = Instant::now();
    loop {
        let answer = managed::ask(dirs, node, Request::Status, STATUS_LIMIT)?;
        let mut shown = match answer {
            Some(Answer::Status(status)) => status.modules,
            Some(Answer::Refused(refusal)) => bail!("{refusal}"),
            Some(_) => bail!("the manager answered another question"),
            None => bail!("no failover manager runs on this node, so --wait cannot be done"),
        };
        shown.retain(|m| m.module == module);
        let Some(found) = shown.pop() else {
            bail!("the manager has no module {module}");
        };
        let there = !matches!(found.state, State::Stop | State::Wait);
        if there && found.readiness == Readiness::Ready && found.action.is_none() {
            eprintln!(
                "{module} on {}: {}, ready",
                found.node,
                state_name(found.state)
            );
            return Ok(Exit::Done);
        }
        if began.elapsed() >= limit {
            let why = found.reason.map(|r| format!(": {r}")).unwrap_or_default();
            eprintln!(
                "tandem: module {module} is not ready on {}{why}",
                found.node
            );
            return Ok(Exit::NoAnswer);
        }
        std::thread::sleep(PACE);
    }
}

/// The nodes of a module, by the configuration.
fn nodes_of(dirs: &Dirs, module: &str) -> Result<Vec<String>> {
    let config = load(dirs).for_module(module)?;
    let found = config.modules.iter().find(|m| m.name == module);
    Ok(found.map(|m| m.nodes.to_vec()).unwrap_or_default())
}

fn tell(
    dirs: &Dirs,
    args: &ActionArgs,
    module: &str,
    node: Option<&str>,
    order: Order,
) -> Result<Exit> {
    let request = Request::Order {
        module: module.into(),
        order,
    };
    let Some(answer) = managed::ask(dirs, node, request, args.timeout)? else {
        return by_hand(dirs, args, order);
    };
    if args.json {
        println!("{}", serde_json::to_string(&answer)?);
    }
    match answer {
        Answer::Done(module) => {
            if !args.json {
                print!("{}", node_status::ShownModule(&module));
            }
            Ok(Exit::Done)
        }
        Answer::Refused(refusal) => {
            eprintln!("tandem: module {module}: {refusal}");
            Ok(Exit::Failed)
        }
        _ => bail!("the manager answered another question"),
    }
}

/// No manager runs: an operator leads the daemon himself.
fn by_hand(dirs: &Dirs, args: &ActionArgs, order: Order) -> Result<Exit> {
    let request = match order {
        Order::Prim { force } => DaemonRequest::Prim { force },
        Order::Second { full: false } => DaemonRequest::Second,
        Order::Second { full: true } => DaemonRequest::Resync { everything: true },
        Order::Stop => DaemonRequest::Stop,
        Order::Swap => DaemonRequest::Swap,
        _ => {
            eprintln!(
                "tandem: no failover manager runs on this node; start it with `systemctl start \
                 tandem`, or `tandem failover`"
            );
            return Ok(Exit::NotRunning);
        }
    };
    if args.all || args.node.is_some() {
        bail!("no failover manager runs on this node, so no other can be told");
    }
    act(dirs, args, &request)
}
