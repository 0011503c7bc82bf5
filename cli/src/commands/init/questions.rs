//! What was not said on the command line is asked, in plain questions with a proposal each.

use std::io::{BufRead, Write};
use std::net::IpAddr;

use anyhow::{Context, Result};

use super::plan::{Apart, Plan, PlannedNode, directory, read_addresses};
use crate::args::InitArgs;
use crate::config::name_fault;
use crate::exit::UsageError;
use crate::network::Network;

/// Somebody at a terminal; or nobody, and then what is missing is an error.
pub(crate) struct Asker<'a> {
    pub(crate) terminal: Option<(&'a mut dyn BufRead, &'a mut dyn Write)>,
}

impl Asker<'_> {
    /// Asks until `read` understands the answer. An empty answer is the proposal.
    fn ask<T>(
        &mut self,
        flag: &str,
        question: &str,
        proposal: &str,
        read: impl Fn(&str) -> Result<T, String>,
    ) -> Result<T> {
        let Some((input, output)) = &mut self.terminal else {
            let message = format!("{flag} is missing; give it, or run this on a terminal");
            return Err(UsageError(message).into());
        };
        loop {
            match proposal {
                "" => write!(output, "{question}: ")?,
                _ => write!(output, "{question} [{proposal}]: ")?,
            }
            output.flush()?;
            let mut line = String::new();
            if input.read_line(&mut line).context("reading the answer")? == 0 {
                writeln!(output)?;
                anyhow::bail!("the answers ended before everything was asked; nothing was written");
            }
            let answer = match line.trim() {
                "" => proposal,
                answer => answer,
            };
            match read(answer) {
                Ok(value) => return Ok(value),
                Err(fault) => writeln!(output, "  {fault}")?,
            }
        }
    }

    fn asks(&self) -> bool {
        self.terminal.is_some()
    }

    fn say(&mut self, text: &str) -> Result<()> {
        if let Some((_, output)) = &mut self.terminal {
            writeln!(output, "{text}")?;
        }
        Ok(())
    }
}

/// Everything that was said, and answers to what was not.
///
/// # Errors
/// What is missing or does not fit.
pub(crate) fn plan(
    args: &InitArgs,
    network: &Network,
    host: &str,
    asker: &mut Asker<'_>,
) -> Result<Plan> {
    let name = match &args.name {
        Some(name) => checked(name)?,
        None => asker.ask("--name", "Name of the application", "", checked_text)?,
    };
    let nodes = match args.node.as_slice() {
        [] => ask_nodes(network, host, asker)?,
        [one, other] => own_first(args, [one.clone(), other.clone()], network)?,
        more => {
            let count = more.len();
            let message = format!(
                "found {count} --node, expected two: a mirror has two nodes; others are added to \
                 cluster.ron and join later with `tandem join`"
            );
            return Err(UsageError(message).into());
        }
    };
    let directories = match args.directory.as_slice() {
        [] => {
            let question = "Directory to replicate (several with a comma)";
            let read = |text: &str| -> Result<Vec<String>, String> {
                let each = text.split(',').map(|part| directory(part.trim()));
                each.collect::<Result<_, _>>().map_err(|fault| fault.0)
            };
            asker.ask("--directory", question, &format!("/var/lib/{name}"), read)?
        }
        given => given
            .iter()
            .map(|text| directory(text))
            .collect::<Result<_, _>>()?,
    };
    let mut virtual_ips = args.virtual_ip.clone();
    let mut services = args.service.clone();
    if asker.asks() && virtual_ips.is_empty() {
        let question = "Address that moves with the service (or none)";
        virtual_ips = asker.ask("", question, "none", |text| match text {
            "none" => Ok(Vec::new()),
            _ => read_addresses(text),
        })?;
    }
    if asker.asks() && services.is_empty() {
        let question = "systemd unit of the application (several with a comma, or none)";
        services = asker.ask("", question, "none", |text| match text {
            "none" => Ok(Vec::new()),
            _ => Ok(text.split(',').map(|unit| unit.trim().into()).collect()),
        })?;
    }
    let apart = apart(args, network, &nodes, asker)?;
    Ok(Plan {
        name,
        nodes,
        directories,
        virtual_ips,
        services,
        apart,
    })
}

fn checked(name: &str) -> Result<String, UsageError> {
    checked_text(name).map_err(UsageError)
}

fn checked_text(name: &str) -> Result<String, String> {
    name_fault(name).map_or_else(|| Ok(name.into()), Err)
}

/// This node first: the one that is named, or the one whose address this machine has.
fn own_first(
    args: &InitArgs,
    nodes: [PlannedNode; 2],
    network: &Network,
) -> Result<[PlannedNode; 2]> {
    let [one, other] = nodes;
    let is_here = |node: &PlannedNode| node.addresses.iter().any(|a| network.has(*a));
    let first = match &args.this {
        Some(name) if *name == one.name => true,
        Some(name) if *name == other.name => false,
        Some(name) => {
            let message = format!(
                "--as {name}: expected {} or {}, as in --node",
                one.name, other.name
            );
            return Err(UsageError(message).into());
        }
        None => match (is_here(&one), is_here(&other)) {
            (true, false) => true,
            (false, true) => false,
            _ => {
                let message = format!(
                    "which of {} and {} is this machine? Its addresses do not tell; add --as {}",
                    one.name, other.name, one.name
                );
                return Err(UsageError(message).into());
            }
        },
    };
    Ok(if first { [one, other] } else { [other, one] })
}

fn ask_nodes(network: &Network, host: &str, asker: &mut Asker<'_>) -> Result<[PlannedNode; 2]> {
    let proposed = if name_fault(host).is_none() { host } else { "" };
    let own = asker.ask("--node", "Name of this node", proposed, checked_text)?;
    let addresses: Vec<String> = network
        .reachable()
        .iter()
        .map(|own| own.address.to_string())
        .collect();
    let question = "Its addresses, one in each network that the two nodes share";
    let own_addresses = asker.ask("--node", question, &addresses.join(","), read_addresses)?;
    let own_name = own.clone();
    let other = asker.ask("--node", "Name of the other node", "", |text| {
        if text == own_name {
            return Err("that is this node".into());
        }
        checked_text(text)
    })?;
    let count = own_addresses.len();
    let question = "Its addresses, in the same order";
    let other_addresses = asker.ask("--node", question, "", |text| {
        let addresses = read_addresses(text)?;
        let found = addresses.len();
        if found == count {
            Ok(addresses)
        } else {
            Err(format!(
                "found {found}, expected {count}, as many as of this node"
            ))
        }
    })?;
    let node = |name, addresses| PlannedNode { name, addresses };
    Ok([node(own, own_addresses), node(other, other_addresses)])
}

/// What decides when the nodes have lost each other. `ping` on the default gateway is what two
/// machines can do by themselves.
fn apart(
    args: &InitArgs,
    network: &Network,
    nodes: &[PlannedNode; 2],
    asker: &mut Asker<'_>,
) -> Result<Apart> {
    if let Some(witness) = args.witness {
        return Ok(Apart::Witness(witness));
    }
    let is_node = |address: &IpAddr| nodes.iter().any(|node| node.addresses.contains(address));
    let gateway = network
        .gateways
        .iter()
        .find(|gateway| !is_node(gateway))
        .copied();
    let pinged = match args.ping.as_slice() {
        [] => gateway.into_iter().collect(),
        given => given.to_vec(),
    };
    let proposed = if pinged.is_empty() { "wait" } else { "ping" };
    let word = match &args.isolation {
        Some(word) => word.clone(),
        None if !args.ping.is_empty() || !asker.asks() => proposed.into(),
        None => {
            asker.say("When the two nodes have lost each other:")?;
            for apart in [Apart::Wait, Apart::Ping(pinged.clone()), Apart::Alone] {
                let word = match &apart {
                    Apart::Ping(addresses) if addresses.is_empty() => continue,
                    Apart::Ping(_) => "ping ",
                    Apart::Alone => "alone",
                    _ => "wait ",
                };
                asker.say(&format!("  {word}  {}", apart.consequence()))?;
            }
            asker.say(Apart::Alone.warning().unwrap_or_default())?;
            let question = "What is to happen (wait, ping or alone)";
            asker.ask("--isolation", question, proposed, |text| match text {
                "wait" | "ping" | "alone" => Ok(text.into()),
                _ => Err(format!("found `{text}`, expected wait, ping or alone")),
            })?
        }
    };
    match word.as_str() {
        "wait" => Ok(Apart::Wait),
        "alone" => Ok(Apart::Alone),
        _ if !pinged.is_empty() => Ok(Apart::Ping(pinged)),
        _ if asker.asks() => {
            let question = "Address outside the two nodes that is asked, such as the gateway's";
            Ok(Apart::Ping(asker.ask(
                "--ping",
                question,
                "",
                read_addresses,
            )?))
        }
        _ => {
            let message = "isolation ping needs an address outside the two nodes, and this machine \
                 has no default route; add --ping ADDRESS";
            Err(UsageError(message.into()).into())
        }
    }
}

#[cfg(test)]
#[path = "questions_tests.rs"]
mod tests;
