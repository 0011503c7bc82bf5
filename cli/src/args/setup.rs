//! Arguments of the commands that set a cluster up and change it: `init`, `join`, `doctor`,
//! `config apply`.

use std::net::{IpAddr, SocketAddr};
use std::time::Duration;

use clap::Args;

use crate::commands::init::plan::PlannedNode;
use crate::commands::join::wire::Target;
use crate::config::parse_duration;

/// What `tandem init` takes. On a terminal it asks for what is left out.
#[derive(Debug, Args)]
pub(crate) struct InitArgs {
    /// Name of the application: the cluster and its module are called that
    #[arg(long)]
    pub(crate) name: Option<String>,
    /// A node and its addresses, one in each network the two share; given twice
    #[arg(long, value_name = "NAME=ADDRESS[,ADDRESS]")]
    pub(crate) node: Vec<PlannedNode>,
    /// Which of the nodes this machine is, where its addresses do not tell
    #[arg(long = "as", value_name = "NAME")]
    pub(crate) this: Option<String>,
    /// Directory to replicate (several allowed)
    #[arg(long, value_name = "DIR")]
    pub(crate) directory: Vec<String>,
    /// Address that moves with the service (several allowed)
    #[arg(long, value_name = "ADDRESS")]
    pub(crate) virtual_ip: Vec<IpAddr>,
    /// systemd unit of the application, in the order of their start (several allowed)
    #[arg(long, value_name = "UNIT")]
    pub(crate) service: Vec<String>,
    /// What decides when the nodes have lost each other [default: ping, where there is a default
    /// route]
    #[arg(long, value_parser = ["wait", "ping", "alone"], conflicts_with = "witness")]
    pub(crate) isolation: Option<String>,
    /// Address outside the two nodes that isolation `ping` asks (several allowed) [default: the
    /// default gateway]
    #[arg(long, value_name = "ADDRESS", conflicts_with = "witness")]
    pub(crate) ping: Vec<IpAddr>,
    /// A `tandem witness` on a third machine, which decides instead
    #[arg(long, value_name = "ADDRESS:PORT")]
    pub(crate) witness: Option<SocketAddr>,
    /// Do not wait for the other node; `tandem join --serve` does that later
    #[arg(long)]
    pub(crate) no_wait: bool,
}

/// What `tandem join` takes.
#[derive(Debug, Args)]
pub(crate) struct JoinArgs {
    /// Address of the node that runs `tandem init` or `tandem join --serve`; with :PORT where that
    /// is not 7401
    #[arg(required_unless_present = "serve")]
    pub(crate) address: Option<Target>,
    /// The token which that node shows; - reads it from standard input
    #[arg(required_unless_present = "serve", conflicts_with = "serve")]
    pub(crate) token: Option<String>,
    /// Name of this node, as in that node's cluster.ron
    #[arg(long = "as", value_name = "NAME", required_unless_present = "serve")]
    pub(crate) this: Option<String>,
    /// Let another node join: needs the cluster's ca-key.pem in CONFIG_DIR/pki
    #[arg(long, conflicts_with_all = ["address", "this"])]
    pub(crate) serve: bool,
    /// Make a new token; the one before becomes void
    #[arg(long, requires = "serve")]
    pub(crate) new_token: bool,
    /// TCP port to serve at [default: the managers' own, which must be free]
    #[arg(long, requires = "serve")]
    pub(crate) port: Option<u16>,
}

/// What `tandem doctor` takes.
#[derive(Debug, Args)]
pub(crate) struct DoctorArgs {
    /// Print JSON
    #[arg(long)]
    pub(crate) json: bool,
}

/// What `tandem config apply` takes.
#[derive(Debug, Args)]
pub(crate) struct ApplyArgs {
    /// Name of the module; may be left out when only one is configured
    #[arg(conflicts_with = "all")]
    pub(crate) module: Option<String>,
    /// All modules of the node
    #[arg(long)]
    pub(crate) all: bool,
    /// The node whose files are brought to both; this one when left out
    #[arg(long, value_name = "NAME")]
    pub(crate) node: Option<String>,
    /// Print the manager's answer as JSON
    #[arg(long)]
    pub(crate) json: bool,
    /// How long to wait for the answer
    #[arg(long, value_name = "TIME", value_parser = parse_duration, default_value = "2m")]
    pub(crate) timeout: Duration,
}
