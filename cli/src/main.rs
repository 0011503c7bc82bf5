//! The `tandem` program: one binary for the daemons and for every command.

mod lab;
mod pki;

use std::process::ExitCode;

use clap::{Parser, Subcommand};

#[derive(Parser)]
#[command(name = "tandem", version)]
struct Cli {
    #[command(subcommand)]
    command: Command,
}

#[derive(Subcommand)]
enum Command {
    /// Throw-away clusters on this machine
    Lab(lab::LabArgs),
    #[command(hide = true)]
    LabNode(lab::NodeArgs),
}

fn main() -> ExitCode {
    let result = match Cli::parse().command {
        Command::Lab(args) => lab::run(&args),
        Command::LabNode(args) => lab::run_node(&args),
    };
    result.unwrap_or_else(|error| {
        eprintln!("tandem: {error:#}");
        ExitCode::FAILURE
    })
}
