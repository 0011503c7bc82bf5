//! A pair of nodes led by failover managers, with an application, its clients on a third node, and
//! a watch over both nodes from the first to the last moment of a test.
//!
//! Every test that is done ends with [`Service::ends_well`]: what clients were told is on both
//! nodes, both copies are equal, and never did both nodes serve.

pub mod client;
pub mod program;
pub mod scripts;
pub mod watch;

use crate::cluster::{Cluster, binary};
use crate::running::scratch_dir;
use anyhow::{Context, Result, bail, ensure};
use client::{Client, Heard, OUTSIDE};
use std::net::Ipv4Addr;
use std::path::{Path, PathBuf};
use std::thread;
use std::time::{Duration, Instant};
use tandem_failover::client::ControlClient;
use tandem_failover::control::{
    Answer, Envelope, ModuleStatus, NodeStatus, Order, Request, socket,
};
use tandem_repl::control as daemon;
use tandem_repl::control::{Readiness, State};
use watch::Watch;

/// The module's address.
pub const ADDRESS: Ipv4Addr = Ipv4Addr::new(10, 77, 0, 100);
/// A host that isolation `ping` asks: the third node.
pub const REFERENCE: &str = "10.77.0.3";
/// How long anything may take that needs no deadline of the product.
pub const SOON: Duration = Duration::from_secs(30);
const PAUSE: Duration = Duration::from_millis(20);
const ASK_LIMIT: Duration = Duration::from_secs(5);

/// What a pair is to be.
#[derive(Default)]
pub struct Options<'a> {
    /// More arguments of `lab up`.
    pub lab: &'a [&'a str],
    /// More keys of the module's file.
    pub settings: &'a str,
    /// An address beside [`ADDRESS`], as the module's file has it, and as clients use it.
    pub second: Option<(&'a str, &'a str)>,
    /// Scripts' time limits, such as `stop_prim: "1s"`.
    pub limits: &'a [(&'a str, &'a str)],
    /// The roles are left to the test.
    pub no_roles: bool,
}

/// A pair with its application.
pub struct Service {
    // Ended in this order.
    client: Option<Client>,
    pub watch: Watch,
    pub cluster: Cluster,
    /// Where scripts leave what they did.
    pub room: PathBuf,
    helper: String,
}

impl Service {
    /// Brings a pair up, unless it cannot run here.
    ///
    /// # Panics
    /// It does not come up.
    pub fn up(test: &str, helper: &str, options: &Options<'_>) -> Option<Self> {
        let binary = binary(test)?;
        let made = Self::make(binary, helper, options);
        Some(made.unwrap_or_else(|e| panic!("{test}: {e:#}")))
    }

    fn make(binary: PathBuf, helper: &str, options: &Options<'_>) -> Result<Self> {
        let room = scratch_dir("room")?;
        let settings = scripts::settings(&room, helper, options)?;
        let mut more = vec!["--manager", "--nodes", "3", "--settings", &settings];
        if options.no_roles {
            more.push("--no-roles");
        }
        more.extend(options.lab);
        let cluster = Cluster::make(binary, helper, &more)?;
        Ok(Self {
            client: None,
            watch: Watch::start(&cluster.node_dir(""), ADDRESS),
            cluster,
            room,
            helper: helper.into(),
        })
    }

    /// Starts clients on the third node.
    ///
    /// # Errors
    /// Nobody answers them.
    pub fn ask(&mut self) -> Result<()> {
        self.ask_at(&[])
    }

    /// The same, of more addresses than one.
    ///
    /// # Errors
    /// Nobody answers them.
    pub fn ask_at(&mut self, more: &[&str]) -> Result<()> {
        let address = ADDRESS.to_string();
        let all = [&[address.as_str()], more].concat();
        self.client = Some(Client::start(&self.cluster, &self.helper, &all)?);
        Ok(())
    }

    /// # Errors
    /// No clients were started.
    pub fn client(&self) -> Result<&Client> {
        self.client.as_ref().context("clients were started")
    }

    /// # Errors
    /// No clients were started, or their log is broken.
    pub fn heard(&self) -> Result<Heard> {
        self.client()?.heard()
    }

    /// A `tandem` command on a node; what it says.
    ///
    /// # Errors
    /// It fails.
    pub fn tandem(&self, node: &str, words: &[&str]) -> Result<String> {
        self.cluster.tandem(node, words)
    }

    /// What the command says that has to fail.
    ///
    /// # Errors
    /// It succeeds.
    pub fn refused(&self, node: &str, words: &[&str]) -> Result<String> {
        match self.cluster.tandem(node, words) {
            Ok(said) => bail!("{words:?} on {node} was obeyed: {said}"),
            Err(e) => Ok(format!("{e:#}")),
        }
    }

    /// What the manager of a node says.
    ///
    /// # Errors
    /// It does not answer.
    pub fn manager(&self, node: &str) -> Result<NodeStatus> {
        let path = socket(&self.cluster.node_dir(node).join("run"));
        let mut client = ControlClient::connect(path)?;
        let envelope = Envelope::new(None, Request::Status);
        match client.ask_manager(&envelope, ASK_LIMIT)? {
            Answer::Status(status) => Ok(*status),
            other => bail!("{node}: {other:?}"),
        }
    }

    /// Orders something of the manager of a node; what the module is then.
    ///
    /// # Errors
    /// It is refused.
    pub fn order(&self, node: &str, module: &str, order: Order) -> Result<ModuleStatus> {
        let path = socket(&self.cluster.node_dir(node).join("run"));
        let mut client = ControlClient::connect(path)?;
        let module = module.to_string();
        let request = Request::Order { module, order };
        match client.ask_manager(&Envelope::new(None, request), SOON)? {
            Answer::Done(status) => Ok(*status),
            other => bail!("{node}: {other:?}"),
        }
    }

    /// What the daemon of a node says of itself at this moment.
    ///
    /// # Errors
    /// It does not answer.
    pub fn daemon(&self, node: &str) -> Result<Box<daemon::Status>> {
        let path = self.cluster.node_dir(node).join("run/data.sock");
        let answer = ControlClient::connect(path)?.request(&daemon::Request::Status)?;
        match answer {
            daemon::Answer::Status(status) => Ok(status),
            other => bail!("{node}: {other:?}"),
        }
    }

    /// The module on a node.
    ///
    /// # Errors
    /// Its manager does not answer.
    pub fn module(&self, node: &str) -> Result<ModuleStatus> {
        self.module_named(node, "data")
    }

    /// # Errors
    /// Its manager does not answer, or has no such module.
    pub fn module_named(&self, node: &str, module: &str) -> Result<ModuleStatus> {
        let mut modules = self.manager(node)?.modules.into_iter();
        let found = modules.find(|m| m.module == module);
        found.with_context(|| format!("{node} has no module {module}"))
    }

    /// Waits until a module on a node is as wished.
    ///
    /// # Errors
    /// It does not get there.
    pub fn until(
        &self,
        node: &str,
        what: &str,
        limit: Duration,
        holds: impl Fn(&ModuleStatus) -> bool,
    ) -> Result<ModuleStatus> {
        let started = Instant::now();
        loop {
            let module = self.module(node);
            if let Ok(module) = &module
                && holds(module)
            {
                return Ok(module.clone());
            }
            if started.elapsed() > limit {
                let log = self.tandem(node, &["log"]).unwrap_or_default();
                bail!("{node}: still not so: {what}; {module:?}\n{log}");
            }
            thread::sleep(PAUSE);
        }
    }

    /// Waits until it is in this state and ready.
    ///
    /// # Errors
    /// It does not get there.
    pub fn ready(&self, node: &str, state: State) -> Result<ModuleStatus> {
        self.ready_within(node, state, SOON)
    }

    /// # Errors
    /// It does not get there.
    pub fn ready_within(&self, node: &str, state: State, limit: Duration) -> Result<ModuleStatus> {
        let ready = |m: &ModuleStatus| m.state == state && m.readiness == Readiness::Ready;
        self.until(node, &format!("{state:?}, ready"), limit, ready)
    }

    /// Waits until one serves, the other follows, and both are ready.
    ///
    /// # Errors
    /// They do not get there.
    pub fn in_sync(&self, serving: &str, following: &str) -> Result<()> {
        self.ready(serving, State::Prim)?;
        self.ready(following, State::Second)?;
        Ok(())
    }

    /// Waits until it waits with a reason of this code; the reason in words.
    ///
    /// # Errors
    /// It does not get there.
    pub fn waits_for(&self, node: &str, code: &str) -> Result<String> {
        let waits = |m: &ModuleStatus| {
            let reason = m.why.iter().any(|r| r.code == code);
            m.state == State::Wait && m.readiness == Readiness::NotReady && reason
        };
        let module = self.until(node, &format!("WAIT, not ready, {code}"), SOON, waits)?;
        let reason = module.why.into_iter().find(|r| r.code == code);
        Ok(reason.context("the reason")?.to_string())
    }

    /// Runs a script in the replicated directory, as an application of the node.
    ///
    /// # Errors
    /// What it says if it fails.
    pub fn script(&self, node: &str, text: &str) -> Result<String> {
        let text = format!("set -e; cd /mnt/disk/data; {text}");
        self.cluster.exec(node, &["sh", "-c", &text])
    }

    /// The tree below the mount of a node.
    pub fn replica(&self, node: &str) -> PathBuf {
        self.cluster.node_dir(node).join("disk/data")
    }

    /// Kills a process of a node; its number is the node's.
    ///
    /// # Errors
    /// There is none.
    pub fn kill(&self, node: &str, pid: u32) -> Result<()> {
        let pid = pid.to_string();
        self.cluster.exec(node, &["kill", "-KILL", &pid]).map(drop)
    }

    /// The application's process on a node, as its start script wrote it down.
    ///
    /// # Errors
    /// It was never started.
    pub fn application(&self, node: &str) -> Result<u32> {
        let path = self.room.join(format!("data.{node}.pid"));
        let text = std::fs::read_to_string(&path);
        let text = text.with_context(|| path.display().to_string())?;
        text.trim().parse().with_context(|| text.clone())
    }

    /// Calls of scripts since then; see [`scripts::Call`].
    ///
    /// # Errors
    /// The list is broken.
    pub fn calls(&self, node: &str, since: u64) -> Result<Vec<scripts::Call>> {
        scripts::calls(&self.room, node, since)
    }

    /// The hardware address that the client's node has for the module's address.
    pub fn neighbour(&self) -> Option<String> {
        let pid = watch::init(&self.cluster.node_dir(""), 2)?;
        let table = std::fs::read_to_string(format!("/proc/{pid}/net/arp")).ok()?;
        let line = table.lines().find(|l| {
            let address = l.split_whitespace().next();
            address == Some(ADDRESS.to_string().as_str())
        })?;
        line.split_whitespace().nth(3).map(str::to_string)
    }

    /// The end of every test: clients end, `serving` serves and the other node follows, both
    /// copies are equal and hold all that was acknowledged, and never did both serve. `planned`:
    /// nor did the application ever run on both.
    ///
    /// # Errors
    /// What of that is not so.
    pub fn ends_well(mut self, serving: &str, planned: bool) -> Result<()> {
        let other = ["node1", "node2"].into_iter().find(|n| *n != serving);
        let other = other.context("the other node")?;
        self.in_sync(serving, other)?;
        if let Some(client) = &mut self.client {
            client.answered_by(serving)?;
            client.end()?;
        }
        self.cluster.replicas_are_equal(serving)?;
        if self.client.is_some() {
            let heard = self.heard()?;
            for node in [serving, other] {
                let journal = self.replica(node).join(program::JOURNAL);
                heard.is_found(&journal)?;
            }
        }
        self.watch.never_two(planned)?;
        for node in [serving, other] {
            let runs = self.cluster.exec(node, &["pgrep", "-f", "inside serve"]);
            let count = runs.map_or(0, |list| list.lines().count());
            let expected = usize::from(node == serving);
            ensure!(
                count == expected,
                "{count} applications run on {node}, expected {expected}"
            );
        }
        Ok(())
    }
}

impl Drop for Service {
    fn drop(&mut self) {
        if thread::panicking() {
            for node in ["node1", "node2", OUTSIDE] {
                if let Ok(log) = self.tandem(node, &["log"]) {
                    println!("what the manager of {node} did:\n{log}");
                }
            }
            let calls = std::fs::read_to_string(self.room.join("calls"));
            println!("scripts:\n{}", calls.unwrap_or_default());
        }
        self.client = None;
        std::fs::remove_dir_all(&self.room).ok();
    }
}

/// The path of a file as text.
///
/// # Errors
/// It is no text.
pub fn text(path: &Path) -> Result<&str> {
    path.to_str().context("a path that is text")
}
