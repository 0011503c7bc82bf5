//! `tandem demo`: a failover for the eyes, in under a minute, on one machine.
//!
//! Two nodes of a lab, an application that commits on the first as fast as it can, and a witness
//! outside who notes each commit that was acknowledged. Then the first node is killed, the second
//! serves, and every noted commit must be there. The first node returns and is brought up while the
//! application runs on the second; then both trees must be identical, and the service is swapped
//! back. The exit code says whether all was so.

mod application;
mod compare;
mod ledger;
mod postgresql;
mod sqlite;
mod story;

use std::process::ExitCode;

use anyhow::Result;
use clap::{Args, ValueEnum};

use application::Application;
pub(crate) use ledger::{LedgerArgs, run as run_ledger};

#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
enum App {
    /// A ledger in SQLite, which is part of this program
    Sqlite,
    /// A ledger in the PostgreSQL server that is installed on this machine
    Postgresql,
}

/// `tandem demo`
#[derive(Debug, Args)]
pub(crate) struct DemoArgs {
    /// The application that is protected
    #[arg(long, value_enum, default_value_t = App::Sqlite)]
    app: App,
    /// Seconds under load before the first node is killed
    #[arg(long, default_value_t = 5, value_parser = clap::value_parser!(u64).range(1..=3600))]
    seconds: u64,
}

pub(crate) fn run(args: &DemoArgs) -> Result<ExitCode> {
    let application: Box<dyn Application> = match args.app {
        App::Sqlite => Box::new(sqlite::Sqlite),
        App::Postgresql => Box::new(postgresql::Postgresql::find()?),
    };
    let complete = story::tell(&*application, std::time::Duration::from_secs(args.seconds))?;
    Ok(if complete {
        ExitCode::SUCCESS
    } else {
        ExitCode::FAILURE
    })
}
