//! The `tandem` program: one binary for the daemons and for every command.

mod args;
mod commands;
mod config;
mod exit;
mod logging;
mod pki;

use std::process::ExitCode;

use clap::Parser;

use args::Cli;
use exit::Exit;

fn main() -> ExitCode {
    let cli = Cli::parse();
    logging::start();
    match commands::run(cli) {
        Ok(code) => code,
        Err(error) => {
            eprintln!("tandem: {error:#}");
            Exit::of(&error).into()
        }
    }
}
