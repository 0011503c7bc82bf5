//! What the failover manager must know, already validated (the command line turns files into this).

mod reading;

pub use reading::{Described, Files, Keys, Places, Read, Reading};

use std::collections::BTreeMap;
use std::net::IpAddr;
use std::time::Duration;

/// A module as its manager sees it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Module {
    pub name: String,
    /// The other node of the mirror.
    pub peer: String,
    /// The node that is to serve whenever it can; the roles change sides when it is ready.
    pub preferred: Option<String>,
    /// Whether the follower takes over when the serving node is lost, unless an operator said
    /// otherwise since.
    pub failover: bool,
    pub boot: Boot,
    /// Restarts by the manager itself within [`Module::restart_window`] before the module is
    /// stopped; 0: no limit.
    pub max_restarts: u32,
    pub restart_window: Duration,
    pub virtual_ips: Vec<VirtualIp>,
    pub application: Application,
    pub checkers: Vec<Checker>,
    /// Given to every script and command as environment.
    pub variables: BTreeMap<String, String>,
    /// How long a silent peer is waited for; the daemon's lease is derived from it.
    pub stall_limit: Duration,
    /// Both nodes serve while they do not reach each other (isolation policy `alone`).
    pub splits: bool,
    /// A command that proves the peer off, and its time limit.
    pub fence: Option<Action>,
}

/// What happens to a module when the node starts.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Boot {
    On,
    Off,
    /// As it was before.
    Auto,
}

/// An address of the service, on the serving node only.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct VirtualIp {
    pub address: IpAddr,
    /// Bits of the network; `None`: those of the interface's own address in the same network.
    pub prefix: Option<u8>,
    /// `None`: the interface that has an address in the same network.
    pub interface: Option<String>,
}

/// What runs the application.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Application {
    /// By the script's name.
    Scripts(BTreeMap<Script, Action>),
    /// systemd units, started in this order on the serving node, stopped in reverse.
    Services(Vec<String>),
}

/// Scripts of a module, by what they are for.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Script {
    /// At every change of state.
    Transition,
    /// Before the first start: cleans up.
    Prestart,
    StartBoth,
    StartPrim,
    StartSecond,
    StopPrim,
    StopSecond,
    StopBoth,
    /// After the last stop.
    Poststop,
}

impl Script {
    pub const ALL: [Self; 9] = [
        Self::Transition,
        Self::Prestart,
        Self::StartBoth,
        Self::StartPrim,
        Self::StartSecond,
        Self::StopPrim,
        Self::StopSecond,
        Self::StopBoth,
        Self::Poststop,
    ];

    /// As it is written in the configuration.
    pub fn name(self) -> &'static str {
        match self {
            Self::Transition => "transition",
            Self::Prestart => "prestart",
            Self::StartBoth => "start_both",
            Self::StartPrim => "start_prim",
            Self::StartSecond => "start_second",
            Self::StopPrim => "stop_prim",
            Self::StopSecond => "stop_second",
            Self::StopBoth => "stop_both",
            Self::Poststop => "poststop",
        }
    }

    /// Whether it ends something: then it may be called again with `force`.
    pub fn stops(self) -> bool {
        matches!(self, Self::StopPrim | Self::StopSecond | Self::StopBoth)
    }
}

/// A program with its arguments, and how long it may take.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Action {
    /// The first is the program: an absolute path.
    pub command: Vec<String>,
    pub limit: Duration,
}

/// Something that is looked at again and again.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Checker {
    /// Unique in the module.
    pub name: String,
    pub kind: CheckerKind,
    /// From the end of one look to the begin of the next.
    pub interval: Duration,
    pub timeout: Duration,
    /// Looks in a row that must fail before it counts as down.
    pub failures: u32,
    pub on_failure: Reaction,
    /// At which level of the application it looks.
    pub when: When,
}

/// What is looked at.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum CheckerKind {
    /// Number of processes whose name is `name` and whose arguments contain a match of
    /// `arguments`.
    Process {
        name: String,
        arguments: Option<String>,
        at_least: u32,
        at_most: Option<u32>,
    },
    /// A systemd unit is active.
    Service(String),
    Tcp {
        host: String,
        port: u16,
    },
    /// `http://HOST[:PORT]/PATH` answers with one of these statuses; empty: 200 to 399.
    Http {
        url: String,
        statuses: Vec<u16>,
    },
    Ping {
        host: String,
    },
    /// The interface is up and has a carrier.
    Interface {
        name: String,
    },
    /// The virtual addresses are on their interfaces.
    VirtualIp,
    Command(Vec<String>),
    /// Another module of this node is up.
    Module(String),
}

/// When a checker looks.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum When {
    /// The application runs here as the serving one.
    Prim,
    Second,
    /// Either of them.
    Both,
    /// Whenever the module is started: what it looks at must be there before anything starts.
    Started,
}

/// What follows when a checker is down.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Reaction {
    /// The application is stopped and started in place.
    Restart,
    /// Everything of the module is stopped and started here; the peer takes over if it can.
    Stopstart,
    /// The module waits while it is down, and goes on by itself.
    Wait,
    Stop,
    Swap,
    /// A command of the operator's.
    Run(Action),
}
