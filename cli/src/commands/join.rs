//! `tandem join`: this node becomes part of a cluster by a one-time token; and the other side of
//! it, `tandem join --serve`.
//!
//! The private key is made here and stays here: what travels is a request for its certificate.

mod client;
pub(crate) mod server;
mod token;
pub(crate) mod wire;

use std::io::Read;
use std::path::Path;

use anyhow::{Context, Result};

use super::init::files::Files;
use super::init::plan::{COMMON, node_ron};
use crate::args::JoinArgs;
use crate::config::{Config, Dirs, name_fault};
use crate::exit::{Exit, UsageError};
use crate::network::Network;
use crate::pki;

use server::Host;
use token::{LIFE, Token};

pub(crate) fn run(dirs: &Dirs, args: &JoinArgs) -> Result<Exit> {
    if args.serve {
        let host = Host::open(dirs, args.port)?;
        return serve(&host, args.new_token);
    }
    let (Some(target), Some(token), Some(node)) = (args.address, &args.token, &args.this) else {
        return Err(UsageError("an address, a token and --as are needed".into()).into());
    };
    let token = match token.as_str() {
        // Where others must not see it among the processes.
        "-" => std::io::read_to_string(std::io::stdin().take(200)).context("reading the token")?,
        token => token.into(),
    };
    let token: Token = token.parse().map_err(UsageError)?;
    if let Some(fault) = name_fault(node) {
        return Err(UsageError(fault).into());
    }
    // Before the token is used up.
    Files::check_free(dirs, COMMON)?;
    let wish = pki::wish(node)?;
    let config = client::join(target.0, &token, node, &wish, |joined| {
        let mut files = Files::default();
        files.add("pki/ca.pem", &*joined.ca_pem);
        files.add("pki/node.pem", &*joined.cert_pem);
        files.add_secret("pki/node-key.pem", &*wish.key_pem);
        for (name, text) in &joined.modules {
            // It becomes a path.
            if let Some(fault) = name_fault(name) {
                anyhow::bail!("the other node sent a module with a bad name: {fault}");
            }
            files.add(&format!("modules/{name}.ron"), &**text);
        }
        files.add("cluster.ron", &*joined.cluster_ron);
        files.add("node.ron", node_ron(node)?);
        files
            .write(dirs)
            .context("writing what the other node sent")
    })?;
    println!(
        "{node} has joined cluster {}; its files are in {}",
        config.cluster.name,
        dirs.config.display()
    );
    notes(&config);
    println!("next, here as there:\n\n    tandem doctor\n    systemctl enable --now tandem");
    Ok(Exit::Done)
}

/// Waits for a node, and shows what to run there.
pub(crate) fn serve(host: &Host, new_token: bool) -> Result<Exit> {
    // Before anybody is invited.
    let listeners = host.listen()?;
    let others = host.others().join(" or ");
    let rest = host.token_rest()?.filter(|_| !new_token);
    match rest {
        Some(seconds) => println!(
            "the token shown before is good for {} more minutes; --new-token makes another",
            seconds / 60
        ),
        None => invite(host)?,
    }
    println!("waiting for {others} …");
    let node = host.serve(listeners)?;
    println!("{node} has joined");
    Ok(Exit::Done)
}

/// Makes a token and shows what to run on the other node.
pub(crate) fn invite(host: &Host) -> Result<()> {
    let token = host.new_token()?;
    let (address, port) = host.address().context("this node has no address")?;
    let address = wire::shown(address, port);
    println!("run this on the other node, as root:\n");
    for other in host.others() {
        println!("    tandem join {address} {token} --as {other}");
    }
    println!(
        "\nThe token is good for one node and {} minutes. Whoever has it can become that node: do \
         not show it to anybody else.",
        LIFE / 60
    );
    Ok(())
}

/// What does not fit this machine yet.
pub(crate) fn notes(config: &Config) {
    let own = config.cluster.nodes.iter().find(|n| n.name == config.node);
    if let (Some(own), Ok(network)) = (own, Network::look()) {
        for address in own.addresses.iter().filter(|a| !network.has(**a)) {
            println!(
                "note: this machine does not have the address {address} of {}",
                own.name
            );
        }
    }
    for module in &config.modules {
        for directory in module.directories.iter().map(|d| &d.value.path) {
            if !Path::new(directory).is_dir() {
                println!(
                    "note: {} does not exist here yet; make it",
                    directory.display()
                );
            }
        }
    }
}

/// What comes next.
pub(crate) fn next(config: &Config) {
    println!("next, on both nodes:\n");
    println!("    tandem doctor\n    systemctl enable --now tandem");
    for module in &config.modules {
        let name = &module.name;
        let other = module.nodes.iter().find(|node| **node != config.node);
        let other = other.map_or("OTHER", String::as_str);
        println!("\nthen here, if the data of this node is to be kept:\n");
        println!("    tandem start {name} --node {other}\n    tandem prim {name}");
    }
}
