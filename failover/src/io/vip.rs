//! Virtual addresses: taken and released on this node's interfaces, announced to the neighbours,
//! and watched.
//!
//! Nothing is remembered across a restart of the manager: what is there is read from the kernel, so
//! that a manager that was killed releases (or keeps) later what it took before. Without a handle
//! the addresses stay where they are.
//!
//! One thread does it all. It belongs to the network namespace of the thread that called
//! [`Addresses::start`].

mod announce;
mod connections;
mod frames;
mod kernel;
mod packet;
mod place;
mod probe;
mod setting;
mod watch;
mod worker;

use std::fmt;
use std::io;
use std::net::IpAddr;
use std::sync::mpsc::{RecvTimeoutError, Sender, SyncSender, sync_channel};
use std::time::Duration;

use tokio::sync::mpsc::{UnboundedReceiver, UnboundedSender, unbounded_channel};

use crate::config::VirtualIp;

/// Everything the worker does is shorter by far; one that is stuck must not hold its callers.
const ANSWER_LIMIT: Duration = Duration::from_secs(10);

/// A hardware address of an Ethernet.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Mac(pub [u8; 6]);

impl fmt::Display for Mac {
    fn fmt(&self, out: &mut fmt::Formatter<'_>) -> fmt::Result {
        let [a, b, c, d, e, f] = self.0;
        write!(out, "{a:02x}:{b:02x}:{c:02x}:{d:02x}:{e:02x}:{f:02x}")
    }
}

/// What happened to an address that was taken.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum VipEvent {
    /// It is not on its interface any more, and this was not asked of [`Addresses`].
    Lost { address: IpAddr },
    /// The interface is off, has no carrier, or is gone. Also told when an address is taken there.
    LinkDown { interface: String },
    /// It is up again; the addresses were announced.
    LinkUp { interface: String },
    /// Somebody else on the link says that the address is theirs; it was announced again. At most
    /// one a second for each address.
    Conflict { address: IpAddr, mac: Mac },
}

/// Why an address could not be taken or released.
#[derive(Debug, thiserror::Error)]
pub enum VipError {
    #[error(
        "virtual address {address} is in use by {mac} on {interface}: give it up there, or choose \
         another"
    )]
    InUse {
        address: IpAddr,
        mac: Mac,
        interface: String,
    },
    #[error(
        "virtual address {address}: there is no interface {interface} on this node: create it, or \
         correct `interface` of the address"
    )]
    NoInterface { address: IpAddr, interface: String },
    #[error(
        "virtual address {address}: no interface of this node has an address in its network: \
         name its `interface` and `prefix`"
    )]
    NoNetwork { address: IpAddr },
    #[error(
        "virtual address {address}: {interfaces} both have an address in its network: name its \
         `interface`"
    )]
    Several { address: IpAddr, interfaces: String },
    #[error(
        "virtual address {address}: {interface} has no address in its network that shows how many \
         bits it has: name its `prefix`"
    )]
    NoPrefix { address: IpAddr, interface: String },
    #[error(
        "virtual address {address}: a network of {prefix} bits cannot be: correct its `prefix`"
    )]
    Prefix { address: IpAddr, prefix: u8 },
    #[error("virtual address {address} was released, or taken anew, while it was being taken")]
    Overtaken { address: IpAddr },
    #[error(
        "virtual address {address}: {action} on {interface}: {source}{}",
        remedy(source)
    )]
    Address {
        address: IpAddr,
        interface: String,
        action: &'static str,
        source: io::Error,
    },
    #[error("virtual addresses: {action}: {source}{}", remedy(source))]
    Kernel {
        action: &'static str,
        source: io::Error,
    },
    #[error(
        "virtual addresses: their thread gave no answer: restart the failover manager; addresses \
         stay until it runs"
    )]
    Stuck,
}

/// What helps against an error of the kernel.
fn remedy(error: &io::Error) -> &'static str {
    match error.raw_os_error() {
        Some(libc::EPERM) => ": this needs CAP_NET_ADMIN and CAP_NET_RAW, run it as root",
        Some(libc::EACCES) => {
            ": switch IPv6 on for the interface (sysctl net.ipv6.conf.INTERFACE.disable_ipv6=0)"
        }
        _ => "",
    }
}

/// How addresses are asked for and announced.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Options {
    /// Questions whether an address is in use, before it is taken.
    pub probes: u32,
    /// How long an answer to each is waited for.
    pub probe_interval: Duration,
    /// How often an address is announced when nothing happens: a switch that was restarted, or a
    /// neighbour that was cut off, learns it.
    pub refresh: Duration,
}

impl Default for Options {
    fn default() -> Self {
        Self {
            probes: 3,
            probe_interval: Duration::from_millis(100),
            refresh: Duration::from_secs(30),
        }
    }
}

/// A question to the worker, and where its answer goes.
enum Command {
    Take {
        addresses: Vec<VirtualIp>,
        probe: bool,
        answer: SyncSender<Result<(), VipError>>,
    },
    Release {
        addresses: Vec<VirtualIp>,
        answer: SyncSender<Result<(), VipError>>,
    },
    Present {
        addresses: Vec<VirtualIp>,
        answer: SyncSender<Result<Vec<bool>, VipError>>,
    },
}

/// The virtual addresses of this node. Clones speak for the same worker; it ends with the last.
#[derive(Clone)]
pub struct Addresses(UnboundedSender<Command>);

impl Addresses {
    /// Starts the worker; what happens to addresses that are taken is told to `events`.
    pub fn start(events: Sender<VipEvent>) -> Result<Self, VipError> {
        Self::start_with(events, Options::default())
    }

    pub fn start_with(events: Sender<VipEvent>, options: Options) -> Result<Self, VipError> {
        let (commands, received) = unbounded_channel();
        let (started, answer) = sync_channel(1);
        let run = move || run(events, options, received, &started);
        let thread = std::thread::Builder::new().name("addresses".into());
        thread.spawn(run).map_err(|source| VipError::Kernel {
            action: "start their thread",
            source,
        })?;
        match answer.recv_timeout(ANSWER_LIMIT) {
            Ok(Ok(())) => Ok(Self(commands)),
            Ok(Err(source)) => Err(VipError::Kernel {
                action: "open a netlink socket",
                source,
            }),
            Err(_) => Err(VipError::Stuck),
        }
    }

    /// Brings the addresses to this node: all places are found, then (if asked) nobody else may
    /// answer for any, then they are added and announced. One that is here already is announced
    /// again. After an error some may be here: release them, or take them again.
    pub fn take(&self, addresses: &[VirtualIp], probe: bool) -> Result<(), VipError> {
        self.ask(|answer| Command::Take {
            addresses: addresses.to_vec(),
            probe,
            answer,
        })
    }

    /// Removes the addresses from whatever interface they are on and resets their connections.
    /// One that is not here is fine.
    pub fn release(&self, addresses: &[VirtualIp]) -> Result<(), VipError> {
        self.ask(|answer| Command::Release {
            addresses: addresses.to_vec(),
            answer,
        })
    }

    /// Which of the addresses are here, on the interface they name if they name one.
    pub fn present(&self, addresses: &[VirtualIp]) -> Result<Vec<bool>, VipError> {
        self.ask(|answer| Command::Present {
            addresses: addresses.to_vec(),
            answer,
        })
    }

    fn ask<T>(
        &self,
        command: impl FnOnce(SyncSender<Result<T, VipError>>) -> Command,
    ) -> Result<T, VipError> {
        let (sender, answer) = sync_channel(1);
        self.0.send(command(sender)).map_err(|_| VipError::Stuck)?;
        answer.recv_timeout(ANSWER_LIMIT).unwrap_or_else(
            |(RecvTimeoutError::Timeout | RecvTimeoutError::Disconnected)| Err(VipError::Stuck),
        )
    }
}

/// The worker's thread.
fn run(
    events: Sender<VipEvent>,
    options: Options,
    commands: UnboundedReceiver<Command>,
    started: &SyncSender<io::Result<()>>,
) {
    let runtime = tokio::runtime::Builder::new_current_thread()
        .enable_all()
        .build();
    let runtime = match runtime {
        Ok(runtime) => runtime,
        Err(error) => {
            let _ = started.send(Err(error));
            return;
        }
    };
    let work = async {
        match worker::Worker::open(events, options) {
            Ok(worker) => {
                let _ = started.send(Ok(()));
                worker.run(commands).await;
            }
            Err(error) => {
                let _ = started.send(Err(error));
            }
        }
    };
    tokio::task::LocalSet::new().block_on(&runtime, work);
    // Connections may still be being reset; nobody waits for that.
    runtime.shutdown_background();
}
