//! Arguments of `tandem lab`.

use std::ffi::OsString;
use std::path::PathBuf;

use anyhow::Result;
use clap::{Args, Subcommand};

use super::cluster::{NODES_MAX, UpOptions};
use super::place::Place;
use super::settings::ModuleSettings;

/// `tandem lab`
#[derive(Debug, Args)]
pub(crate) struct LabArgs {
    #[command(subcommand)]
    pub(crate) command: LabCommand,
}

/// Which lab is meant.
#[derive(Debug, Args)]
pub(crate) struct Which {
    /// Name of the lab
    #[arg(long, default_value = "lab")]
    name: String,
    /// Its directory [default: /run/tandem-lab/NAME]
    #[arg(long)]
    dir: Option<PathBuf>,
}

impl Which {
    pub(crate) fn name(&self) -> &str {
        &self.name
    }

    pub(crate) fn place(&self) -> Result<Place> {
        Place::new(&self.name, self.dir.as_deref())
    }
}

#[derive(Debug, Subcommand)]
pub(crate) enum LabCommand {
    /// Make a throw-away cluster on this machine: nodes, network, disks, daemons, roles
    Up(UpArgs),
    /// Run a program inside a node
    Exec(ExecArgs),
    /// Cut the link between two nodes (with one name: between that node and all others)
    Cut(PairArgs),
    /// Heal a link that was cut (without names: all links)
    Heal(HealArgs),
    /// Kill a node: everything in it dies at once, its disk stays
    Kill(NodeNameArgs),
    /// Start a killed node again; its module is left in state WAIT
    Start(StartArgs),
    /// Show the nodes
    Status(StatusArgs),
    /// Remove a lab and everything in it
    Down(Which),
    /// List the labs of this machine
    List,
}

#[derive(Debug, Args)]
pub(crate) struct UpArgs {
    #[command(flatten)]
    pub(crate) which: Which,
    /// Number of nodes; the module is on the first two
    #[arg(long, default_value_t = 2, value_parser = node_count())]
    nodes: u8,
    /// Size of each node's disk, such as 512MiB; it takes only what is written to it
    #[arg(long, default_value = "2GiB", value_parser = parse_size)]
    disk_size: u64,
    /// Number of networks, each with a cable to every node: eth0 with 10.77.0.N, eth1 with
    /// 10.78.0.N …
    #[arg(long, default_value_t = 1, value_parser = clap::value_parser!(u8).range(1..=4))]
    networks: u8,
    /// Largest packet of each network, as in 9000,1500; the last one is that of all further ones
    #[arg(long, value_delimiter = ',', default_value = "9000",
        value_parser = clap::value_parser!(u32).range(576..=65535))]
    mtu: Vec<u32>,
    /// Make the nodes but start no daemon
    #[arg(long)]
    no_daemons: bool,
    /// Leave the module in state WAIT on both nodes
    #[arg(long)]
    no_roles: bool,
    /// Start the daemons as a failover manager does: `tandem prim` obeys the isolation policy
    #[arg(long)]
    managed: bool,
    /// Run a failover manager on both nodes, as on real machines
    #[arg(long)]
    manager: bool,
    /// When something fails, leave everything there to be looked at
    #[arg(long)]
    keep: bool,
    #[command(flatten)]
    module: ModuleSettings,
}

impl UpArgs {
    pub(crate) fn options(&self) -> UpOptions {
        let mtu = |n: usize| self.mtu.get(n).or(self.mtu.last()).copied();
        let networks = 0..usize::from(self.networks);
        UpOptions {
            nodes: self.nodes,
            disk_size: self.disk_size,
            mtus: networks.filter_map(mtu).collect(),
            daemons: !self.no_daemons,
            managed: self.managed,
            manager: self.manager,
            roles: !self.no_roles,
            module: self.module.clone(),
            keep: self.keep,
        }
    }
}

#[derive(Debug, Args)]
pub(crate) struct ExecArgs {
    #[command(flatten)]
    pub(crate) which: Which,
    /// Set a variable of the program's environment (several allowed)
    #[arg(long, value_name = "NAME=VALUE")]
    pub(crate) env: Vec<String>,
    /// Run as this user, by name or number
    #[arg(long)]
    pub(crate) user: Option<String>,
    /// The node
    pub(crate) node: String,
    /// The program and its arguments
    #[arg(last = true, required = true)]
    pub(crate) command: Vec<OsString>,
}

#[derive(Debug, Args)]
pub(crate) struct PairArgs {
    #[command(flatten)]
    pub(crate) which: Which,
    /// One or two nodes
    #[arg(num_args = 1..=2, required = true, value_name = "NODE")]
    pub(crate) nodes: Vec<String>,
    /// Only in this network, counted from 1
    #[arg(long, value_name = "NUMBER")]
    pub(crate) network: Option<u8>,
}

#[derive(Debug, Args)]
pub(crate) struct HealArgs {
    #[command(flatten)]
    pub(crate) which: Which,
    /// None, one or two nodes
    #[arg(num_args = 0..=2, value_name = "NODE")]
    pub(crate) nodes: Vec<String>,
    /// Only in this network, counted from 1
    #[arg(long, value_name = "NUMBER")]
    pub(crate) network: Option<u8>,
}

#[derive(Debug, Args)]
pub(crate) struct NodeNameArgs {
    #[command(flatten)]
    pub(crate) which: Which,
    /// The node
    pub(crate) node: String,
}

#[derive(Debug, Args)]
pub(crate) struct StartArgs {
    #[command(flatten)]
    pub(crate) which: Which,
    /// As after a power cut: the node shows a new boot id, so it knows that its memory is gone
    /// (the disk holds what the kernel had)
    #[arg(long)]
    pub(crate) power_lost: bool,
    /// The node
    pub(crate) node: String,
}

#[derive(Debug, Args)]
pub(crate) struct StatusArgs {
    #[command(flatten)]
    pub(crate) which: Which,
    /// Print JSON
    #[arg(long)]
    pub(crate) json: bool,
}

fn node_count() -> clap::builder::RangedI64ValueParser<u8> {
    clap::value_parser!(u8).range(2..=i64::from(NODES_MAX))
}

/// A size with a binary unit.
fn parse_size(text: &str) -> Result<u64, String> {
    let split = text
        .find(|c: char| !c.is_ascii_digit())
        .unwrap_or(text.len());
    let (number, unit) = text.split_at(split);
    let factor: u64 = match unit {
        "" | "B" => 1,
        "KiB" => 1 << 10,
        "MiB" => 1 << 20,
        "GiB" => 1 << 30,
        "TiB" => 1 << 40,
        _ => return Err("give a number with B, KiB, MiB, GiB or TiB, such as 2GiB".into()),
    };
    let number: u64 = number.parse().map_err(|error| format!("{error}"))?;
    number.checked_mul(factor).ok_or_else(|| "too large".into())
}

#[cfg(test)]
#[allow(clippy::unwrap_used)]
mod tests {
    use super::*;

    #[test]
    fn sizes_have_binary_units() {
        assert_eq!(parse_size("2GiB"), Ok(2 << 30));
        assert_eq!(parse_size("4096"), Ok(4096));
        for wrong in ["", "GiB", "2GB", "1.5GiB", "-1", "99999999999TiB"] {
            assert!(parse_size(wrong).is_err(), "{wrong}");
        }
    }
}
