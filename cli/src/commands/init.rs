//! `tandem init`: a new cluster of two nodes, beginning with this one.

pub(crate) mod files;
pub(crate) mod plan;
mod questions;

use std::io::{IsTerminal, stdin, stdout};

use anyhow::{Context, Result};

use super::join::server::Host;
use super::join::{invite, next, notes, serve};
use crate::args::InitArgs;
use crate::config::Dirs;
use crate::exit::Exit;
use crate::network::Network;

use files::Files;
use plan::{CA_KEY, COMMON};
use questions::Asker;

pub(crate) fn run(dirs: &Dirs, args: &InitArgs) -> Result<Exit> {
    // Before anybody answers questions.
    Files::check_free(dirs, COMMON.into_iter().chain([CA_KEY]))?;
    let network = Network::look()?;
    let host = std::fs::read_to_string("/proc/sys/kernel/hostname").unwrap_or_default();
    let host = host
        .trim()
        .split('.')
        .next()
        .unwrap_or_default()
        .to_lowercase();
    let (mut input, mut output) = (stdin().lock(), stdout());
    let terminal = input.is_terminal() && output.is_terminal();
    let mut asker = Asker {
        terminal: terminal.then_some((&mut input as _, &mut output as _)),
    };
    let plan = questions::plan(args, &network, &host, &mut asker)?;
    drop(input);
    let config = plan.files()?.write(dirs)?;

    println!(
        "cluster {} is made: this is node {}; its files are in {}",
        plan.name,
        config.node,
        dirs.config.display()
    );
    println!("{}", plan.apart.consequence());
    if let Some(warning) = plan.apart.warning() {
        println!("{warning}");
    }
    notes(&config);
    println!(
        "{} can issue a certificate for any node. It is needed until the other node has joined; \
         then move it to a safe place off this machine.",
        dirs.config.join(CA_KEY).display()
    );
    let host = Host::open(dirs, None)?;
    if args.no_wait {
        invite(&host)?;
        println!("Before that, `tandem join --serve` must run here.");
        return Ok(Exit::Done);
    }
    let exit = serve(&host, true).context(
        "the cluster is made, and the other node has not joined; `tandem join --serve` goes on",
    )?;
    next(&config);
    Ok(exit)
}
