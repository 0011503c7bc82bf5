//! `tandem demo`: a failover for the eyes, in under a minute, on one machine.
//!
//! Two nodes of a lab led by failover managers, a service with an address of its own, and a client
//! on a third node that commits as fast as it can and notes what was acknowledged. The serving node
//! is killed; the other takes over by itself. The first node returns and is brought up while the
//! service goes on; then the roles change sides again. Every acknowledged commit must be there,
//! and both trees identical. The exit code says whether all was so ([`failover`]).
//!
//! `--by-hand` tells the same without managers: an operator gives the roles ([`story`]).

mod application;
mod compare;
mod failover;
mod ledger;
mod postgresql;
mod shop;
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
    /// The application that is protected; PostgreSQL implies --by-hand
    #[arg(long, value_enum, default_value_t = App::Sqlite)]
    app: App,
    /// Without failover managers: the roles are given as an operator would
    #[arg(long)]
    by_hand: bool,
    /// Seconds under load before the first node is killed
    #[arg(long, default_value_t = 5, value_parser = clap::value_parser!(u64).range(1..=3600))]
    seconds: u64,
}

pub(crate) fn run(args: &DemoArgs) -> Result<ExitCode> {
    let length = std::time::Duration::from_secs(args.seconds);
    if args.app == App::Sqlite && !args.by_hand {
        return Ok(exit(failover::tell(length)?));
    }
    let application: Box<dyn Application> = match args.app {
        App::Sqlite => Box::new(sqlite::Sqlite),
        App::Postgresql => Box::new(postgresql::Postgresql::find()?),
    };
    Ok(exit(story::tell(&*application, length)?))
}

fn exit(complete: bool) -> ExitCode {
    if complete {
        ExitCode::SUCCESS
    } else {
        ExitCode::FAILURE
    }
}
