//! `tandem lab …`: from arguments to [`Lab`] and back to the terminal.

use std::process::ExitCode;

use anyhow::Result;

use super::args::{ExecArgs, LabArgs, LabCommand, StatusArgs, UpArgs};
use super::cluster::{self, Lab};
use super::enter::{self, Program};
use super::place::MOUNT;
use super::report::NodeReport;
use super::{signals, teardown};

pub(crate) fn run(args: &LabArgs) -> Result<ExitCode> {
    match &args.command {
        LabCommand::Up(args) => up(args)?,
        LabCommand::Exec(args) => return exec(args),
        LabCommand::Cut(args) => {
            Lab::open(&args.which.place()?)?.set_cut(&args.nodes, args.network, true)?;
        }
        LabCommand::Heal(args) => {
            Lab::open(&args.which.place()?)?.set_cut(&args.nodes, args.network, false)?;
        }
        LabCommand::Kill(args) => Lab::open(&args.which.place()?)?.kill(&args.node)?,
        LabCommand::Start(args) => {
            Lab::open(&args.which.place()?)?.start(&args.node, args.power_lost)?;
        }
        LabCommand::Status(args) => status(args)?,
        LabCommand::Down(which) => teardown::down(&which.place()?)?,
        LabCommand::List => list(),
    }
    Ok(ExitCode::SUCCESS)
}

fn up(args: &UpArgs) -> Result<()> {
    signals::catch_interrupts();
    let lab = Lab::up(args.which.name(), &args.which.place()?, &args.options())?;
    let dir = lab.place().dir().display();
    println!(
        "lab {} is up in {dir}; the replicated directory is {MOUNT}",
        args.which.name()
    );
    print_table(&lab.status()?);
    Ok(())
}

fn exec(args: &ExecArgs) -> Result<ExitCode> {
    let lab = Lab::open(&args.which.place()?)?;
    let state = lab.state()?;
    let init = state.node(&args.node)?.alive()?;
    let program = Program {
        command: args.command.clone(),
        environment: args.env.clone(),
        user: args.user.clone(),
    };
    enter::run(init, &lab.place().node(&args.node), &program)
}

fn status(args: &StatusArgs) -> Result<()> {
    let nodes = Lab::open(&args.which.place()?)?.status()?;
    if args.json {
        println!("{}", serde_json::json!({ "nodes": nodes }));
    } else {
        print_table(&nodes);
    }
    Ok(())
}

fn print_table(nodes: &[NodeReport]) {
    println!(
        "{:<8} {:<7} {:<10} {:>7}  REPLICA",
        "NODE", "STATE", "READINESS", "PID"
    );
    for node in nodes {
        let NodeReport {
            name,
            state,
            readiness,
            replica,
            reason,
            ..
        } = node;
        let pid = node.pid.map_or_else(|| "-".into(), |pid| pid.to_string());
        println!(
            "{name:<8} {state:<7} {readiness:<10} {pid:>7}  {}",
            replica.display()
        );
        if let Some(reason) = reason {
            println!("         {reason}");
        }
    }
}

fn list() {
    for lab in cluster::all() {
        let Ok(state) = lab.state() else { continue };
        let up = state
            .nodes
            .iter()
            .filter(|node| node.alive().is_ok())
            .count();
        let (dir, all) = (lab.place().dir().display(), state.nodes.len());
        println!("{:<16} {up}/{all} nodes up  {dir}", state.name);
    }
}
