//! The command line's types, and nothing that acts. Help texts are the doc comments here.

mod setup;

use std::path::PathBuf;
use std::time::Duration;

use clap::{Args, Parser, Subcommand};

use crate::config::{Dirs, parse_duration};
use crate::exit;

pub(crate) use setup::{ApplyArgs, DoctorArgs, InitArgs, JoinArgs};

/// Keeps the directories of an application equal on two servers, write by write.
#[derive(Debug, Parser)]
#[command(name = "tandem", version, after_help = exit::HELP, disable_help_subcommand = true)]
pub(crate) struct Cli {
    #[command(flatten)]
    pub(crate) dirs: DirArgs,
    #[command(subcommand)]
    pub(crate) command: Command,
}

#[derive(Debug, Args)]
#[command(next_help_heading = "Directories")]
pub(crate) struct DirArgs {
    /// Configuration: cluster.ron, node.ron, modules/, pki/
    #[arg(
        long,
        global = true,
        value_name = "DIR",
        env = "TANDEM_CONFIG_DIR",
        default_value = "/etc/tandem",
        hide_env_values = true
    )]
    config_dir: PathBuf,
    /// Durable records of each module; must survive a reboot
    #[arg(
        long,
        global = true,
        value_name = "DIR",
        env = "TANDEM_STATE_DIR",
        default_value = "/var/lib/tandem",
        hide_env_values = true
    )]
    state_dir: PathBuf,
    /// Control sockets
    #[arg(
        long,
        global = true,
        value_name = "DIR",
        env = "TANDEM_RUN_DIR",
        default_value = "/run/tandem",
        hide_env_values = true
    )]
    run_dir: PathBuf,
}

impl DirArgs {
    /// The directories as absolute paths.
    ///
    /// # Errors
    /// When one is empty, or the working directory is gone.
    pub(crate) fn resolve(&self) -> std::io::Result<Dirs> {
        Ok(Dirs {
            config: std::path::absolute(&self.config_dir)?,
            state: std::path::absolute(&self.state_dir)?,
            run: std::path::absolute(&self.run_dir)?,
        })
    }
}

#[derive(Debug, Subcommand)]
pub(crate) enum Command {
    /// Begin a new cluster on this node, and let the other node join it
    Init(InitArgs),
    /// Join the cluster that another node began
    Join(JoinArgs),
    /// Look whether this machine and its configuration are fit to run
    Doctor(DoctorArgs),
    /// Run the file system daemon of one module in the foreground
    Fs {
        /// Name of the module
        module: String,
        /// A failover manager leads it: `tandem prim` obeys the isolation policy. Without it an
        /// operator's `prim` counts as knowledge that the peer does not serve
        #[arg(long)]
        managed: bool,
    },
    /// Run the failover manager of this node in the foreground; with `on` or `off`, say whether
    /// the following node takes over by itself
    #[command(args_conflicts_with_subcommands = true)]
    Failover {
        #[command(subcommand)]
        word: Option<OnOff>,
    },
    /// Start a module on this node: serve or follow, as the replicas prove
    Start {
        #[command(flatten)]
        action: ActionArgs,
        #[command(flatten)]
        wait: WaitArgs,
    },
    /// Stop a module and start it again; the peer takes over if it can
    Stopstart {
        #[command(flatten)]
        action: ActionArgs,
        #[command(flatten)]
        wait: WaitArgs,
    },
    /// Restart the application in place
    Restart {
        #[command(flatten)]
        action: ActionArgs,
        #[command(flatten)]
        wait: WaitArgs,
    },
    /// While maintenance is on, the manager starts, stops and moves nothing by itself
    Maintenance {
        #[command(subcommand)]
        word: OnOff,
    },
    /// Switch the checkers of a module on or off
    Checker {
        #[command(subcommand)]
        word: OnOff,
    },
    /// What the failover manager decided and did
    Log {
        /// Name of the module; all when left out
        module: Option<String>,
        /// How many lines
        #[arg(short = 'n', long, default_value_t = 50)]
        lines: usize,
        /// The failovers of the module, and how long each phase took
        #[arg(long)]
        failovers: bool,
        /// Print the answer as JSON
        #[arg(long)]
        json: bool,
    },
    /// Run a witness: a third party that decides which of two nodes goes on, for many clusters
    Witness(WitnessArgs),
    /// Serve a module from this node
    Prim {
        #[command(flatten)]
        action: ActionArgs,
        #[command(flatten)]
        wait: WaitArgs,
        /// Serve even where this copy is not proven current: the application loses what only the
        /// peer holds
        #[arg(long)]
        force: bool,
    },
    /// Let a module follow its peer: read-only here
    Second {
        #[command(flatten)]
        action: ActionArgs,
        #[command(flatten)]
        wait: WaitArgs,
        /// Compare everything, not just what is marked as changed
        #[arg(long)]
        full: bool,
    },
    /// Stop a module on this node: drain, tell the peer, unmount, end the daemon
    Stop {
        #[command(flatten)]
        action: ActionArgs,
    },
    /// Hand a module's service over to the following node, without loss, and follow it
    Swap {
        #[command(flatten)]
        action: ActionArgs,
        #[command(flatten)]
        wait: WaitArgs,
    },
    /// Bring the copy of the following node up; shows the progress on either node
    Resync {
        #[command(flatten)]
        action: ActionArgs,
        /// Compare everything, not just what is marked as changed
        #[arg(long)]
        everything: bool,
        /// Do not wait for its end
        #[arg(long)]
        no_wait: bool,
    },
    /// Compare both copies while the application runs; what differs is kept aside and repaired
    Verify {
        #[command(flatten)]
        action: ActionArgs,
        /// Do not wait for its end
        #[arg(long)]
        no_wait: bool,
    },
    /// Files that were kept aside before they were overwritten on this node
    #[command(subcommand)]
    Divergence(DivergenceCommand),
    /// Say what blocks or degrades a module, and what would release it
    Why {
        /// Name of the module; all when left out
        module: Option<String>,
    },
    /// Show the state of one module, or of all
    Status {
        /// Name of the module; all when left out
        module: Option<String>,
        /// The node that is asked; this one when left out. Needs the failover manager
        #[arg(long, value_name = "NAME")]
        node: Option<String>,
        /// Show it anew every second, until interrupted
        #[arg(long, conflicts_with = "json")]
        watch: bool,
        /// Print the daemon's answer as JSON, one line for each module
        #[arg(long)]
        json: bool,
    },
    /// Configuration
    #[command(subcommand)]
    Config(ConfigCommand),
    /// The cluster's certificates
    #[command(subcommand)]
    Pki(PkiCommand),
    /// A throw-away cluster on this machine, for trying and testing
    Lab(crate::lab::LabArgs),
    /// Watch a failover on this machine: two nodes, an application, and a kill
    Demo(crate::demo::DemoArgs),
    /// First process of a lab's node
    #[command(hide = true)]
    LabNode(crate::lab::NodeArgs),
    /// The SQLite application of the demo
    #[command(hide = true)]
    DemoLedger(crate::demo::LedgerArgs),
}

/// What every action on a module takes.
#[derive(Debug, Args)]
pub(crate) struct ActionArgs {
    /// Name of the module; may be left out when only one is configured
    pub(crate) module: Option<String>,
    /// The node that is told; this one when left out. Needs the failover manager
    #[arg(long, value_name = "NAME")]
    pub(crate) node: Option<String>,
    /// All nodes of the module are told. Needs the failover manager
    #[arg(long, conflicts_with = "node")]
    pub(crate) all: bool,
    /// Print the daemon's answer as JSON
    #[arg(long)]
    pub(crate) json: bool,
    /// How long to wait, for the answer and with --wait
    #[arg(long, value_name = "TIME", value_parser = parse_duration, default_value = "2m")]
    pub(crate) timeout: Duration,
}

/// What an action takes that begins something.
#[derive(Clone, Copy, Debug, Args)]
pub(crate) struct WaitArgs {
    /// Wait until the module serves or follows and is ready there. Exit code 5: not in time, with
    /// the reason. Needs the failover manager
    #[arg(long)]
    pub(crate) wait: bool,
}

/// What `tandem witness` takes. What it holds is kept in STATE_DIR/witness.
#[derive(Debug, Args)]
pub(crate) struct WitnessArgs {
    /// Where nodes reach it (TCP)
    #[arg(long, value_name = "ADDRESS:PORT", default_value = "0.0.0.0:7402")]
    pub(crate) listen: std::net::SocketAddr,
    /// Directory with the ca.pem of each cluster, as CLUSTER.pem [default: CONFIG_DIR/clients]
    #[arg(long, value_name = "DIR")]
    pub(crate) clients: Option<PathBuf>,
    /// Its certificate, as made by `tandem pki issue witness` [default: CONFIG_DIR/pki/node.pem]
    #[arg(long, value_name = "FILE")]
    pub(crate) cert: Option<PathBuf>,
    /// The certificate's private key [default: CONFIG_DIR/pki/node-key.pem]
    #[arg(long, value_name = "FILE")]
    pub(crate) key: Option<PathBuf>,
}

#[derive(Debug, Subcommand)]
pub(crate) enum OnOff {
    On {
        #[command(flatten)]
        action: ActionArgs,
    },
    Off {
        #[command(flatten)]
        action: ActionArgs,
    },
}

impl OnOff {
    pub(crate) fn parts(&self) -> (bool, &ActionArgs) {
        match self {
            Self::On { action } => (true, action),
            Self::Off { action } => (false, action),
        }
    }
}

#[derive(Debug, Subcommand)]
pub(crate) enum DivergenceCommand {
    /// List them: path, both sizes, both times
    List {
        #[command(flatten)]
        action: ActionArgs,
    },
    /// Copy them to a new directory
    Export {
        /// A directory that does not exist yet
        to: PathBuf,
        #[command(flatten)]
        action: ActionArgs,
    },
    /// Remove them for good
    Discard {
        #[command(flatten)]
        action: ActionArgs,
    },
}

#[derive(Debug, Subcommand)]
pub(crate) enum ConfigCommand {
    /// Check all files and print every problem
    Check,
    /// Compare cluster.ron and the modules' files with another node's, by way of the failover
    /// managers. Exit code 1: they differ
    Diff {
        /// The other node; may be left out when there is one
        node: Option<String>,
    },
    /// Bring the changed files of this node to both nodes and have them taken over while
    /// everything runs, or leave everything as it was
    ///
    /// cluster.ron goes along. Both nodes check first. What cannot change while a module runs is
    /// refused with its key. Exit code 4: a file is wrong, or does not fit one of the nodes.
    Apply(ApplyArgs),
}

#[derive(Debug, Subcommand)]
pub(crate) enum PkiCommand {
    /// Make the cluster's certificate authority: ca.pem and ca-key.pem
    ///
    /// ca-key.pem can issue a certificate for any node. Keep it off the nodes.
    Init {
        /// Name of the cluster
        #[arg(long, value_name = "NAME")]
        cluster: String,
        /// Directory for the two files; made if missing
        #[arg(long, value_name = "DIR")]
        out: PathBuf,
    },
    /// Issue a node's certificate: node.pem, node-key.pem and a copy of ca.pem
    Issue {
        /// Name of the node, as in cluster.ron
        node: String,
        /// Directory with ca.pem and ca-key.pem
        #[arg(long, value_name = "DIR", default_value = ".")]
        ca: PathBuf,
        /// Directory for the three files, which become CONFIG_DIR/pki on the node; made if missing.
        /// When left out, a directory named after the node next to the CA
        #[arg(long, value_name = "DIR")]
        out: Option<PathBuf>,
    },
}

#[cfg(test)]
mod tests {
    use clap::CommandFactory;

    use super::*;

    #[test]
    fn the_definition_is_consistent() {
        Cli::command().debug_assert();
    }
}
