//! What the return of a node costs: time and bytes of a resync in a lab, against the size of the
//! tree, the disk, and `rsync -a` over the same link.

mod lab;
mod scenarios;
mod trees;

use std::process::ExitCode;

use anyhow::{Result, bail};
use clap::Parser;

use scenarios::Scale;

/// Measures resyncs in a lab of two nodes on this machine
#[derive(Debug, Parser)]
#[command(name = "tandem-bench-resync", version)]
struct Args {
    /// Only these: hundred, large, small, crash, marks, latency
    #[arg(long, value_delimiter = ',', value_name = "NAME")]
    only: Vec<String>,
    /// Small sizes: shows that everything works, not how fast
    #[arg(long)]
    quick: bool,
    /// Files of the large tree of `hundred`
    #[arg(long, default_value_t = 1_000_000)]
    files: u64,
    /// Megabytes of `large`
    #[arg(long, default_value_t = 2048)]
    megabytes: u64,
}

/// A line of the table.
pub(crate) struct Line {
    pub(crate) what: String,
    pub(crate) figure: String,
}

fn main() -> ExitCode {
    match run(&Args::parse()) {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            eprintln!("tandem-bench-resync: {error:#}");
            ExitCode::FAILURE
        }
    }
}

fn run(args: &Args) -> Result<()> {
    for name in &args.only {
        if !scenarios::ALL.iter().any(|(known, _)| known == name) {
            let known: Vec<_> = scenarios::ALL.iter().map(|(name, _)| *name).collect();
            bail!("--only {name}: there are {}", known.join(", "));
        }
    }
    let scale = if args.quick {
        Scale {
            small_tree: 1000,
            large_tree: 5000,
            megabytes: 64,
            small_files: 2000,
            random_file: 64,
        }
    } else {
        Scale {
            small_tree: 10_000,
            large_tree: args.files,
            megabytes: args.megabytes,
            small_files: 30_000,
            random_file: 4096,
        }
    };
    for (name, scenario) in scenarios::ALL {
        if args.only.is_empty() || args.only.iter().any(|wanted| wanted == name) {
            println!("{name}");
            for Line { what, figure } in scenario(&scale)? {
                println!("  {what:<58} {figure}");
            }
        }
    }
    Ok(())
}
