//! What a module is told: by way of the failover manager, or, where none runs, to its daemon.

use anyhow::{Result, bail};
use tandem_failover::control::{Answer, Order, Request};
use tandem_repl::control::Request as DaemonRequest;

use super::{act, choose_module, managed, node_status};
use crate::args::ActionArgs;
use crate::config::{Dirs, module_names};
use crate::exit::Exit;

pub(crate) fn run(dirs: &Dirs, args: &ActionArgs, order: Order) -> Result<Exit> {
    let module = choose_module(&module_names(dirs)?, args.module.as_deref())?;
    let request = Request::Order {
        module: module.clone(),
        order,
    };
    let node = args.node.as_deref();
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
    if let Some(node) = &args.node {
        bail!("no failover manager runs on this node, so {node} cannot be asked");
    }
    act(dirs, args, &request)
}
