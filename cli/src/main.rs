//! The `tandem` program: one binary for the daemons and for every command.

mod args;
mod commands;
mod config;
mod demo;
mod exit;
mod lab;
mod logging;
mod network;
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
            // Problems of the configuration begin with their place, for editors to jump to.
            let prefix = if error.is::<config::Problems>() {
                ""
            } else {
                "tandem: "
            };
            eprintln!("{prefix}{error:#}");
            Exit::of(&error).into()
        }
    }
}
