//! A lab as other code of this program uses it: [`Lab`].

use std::fs;
use std::io;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::time::Duration;

use anyhow::{Context, Result, ensure};
use tandem_repl::control::{Request, Status};

use crate::pki;

use super::launch::{HUB, launch};
use super::place::Place;
use super::report::{NodeReport, report};
use super::settings::{Cluster, ModuleSettings, WitnessKind};
use super::signals::interrupted;
use super::state::{Lock, NodeState, Runs, State};
use super::{control, disk, network, roles, settings, sys, teardown};

/// The nodes that hold the module.
pub(super) const MEMBERS: [&str; 2] = ["node1", "node2"];
pub(crate) const NODES_MAX: u8 = 16;
/// `statfs` of a tmpfs.
const TMPFS_MAGIC: i64 = 0x0102_1994;
/// A new random id with each look.
const RANDOM_ID: &str = "/proc/sys/kernel/random/uuid";

/// What a new lab is to be.
#[derive(Clone, Debug)]
pub(crate) struct UpOptions {
    pub(crate) nodes: u8,
    pub(crate) disk_size: u64,
    /// Largest packet of each network.
    pub(crate) mtus: Vec<u32>,
    pub(crate) daemons: bool,
    /// The daemons are started as by a failover manager.
    pub(crate) managed: bool,
    /// Led by failover managers.
    pub(crate) manager: bool,
    pub(crate) roles: bool,
    pub(crate) module: ModuleSettings,
    /// Leave everything as it is when something fails.
    pub(crate) keep: bool,
}

/// A lab that exists.
#[derive(Debug)]
pub(crate) struct Lab {
    place: Place,
}

impl Lab {
    /// Makes a lab in `place`, which must not hold one. Cleans up after itself when that fails.
    pub(crate) fn up(name: &str, place: &Place, options: &UpOptions) -> Result<Self> {
        ensure!(
            sys::is_root(),
            "a lab needs root: it makes namespaces and mounts disks"
        );
        ensure!(
            options.module.witness.is_none() || usize::from(options.nodes) > MEMBERS.len(),
            "the witness is a node of its own; add `--nodes 3`"
        );
        place.check()?;
        let (place, made_dir) = claim(name, place)?;
        let lock = Lock::take(&place)?.context("the lab's directory has just been removed")?;
        let built = State::read(&place).and_then(|found| {
            ensure!(
                found.is_none(),
                "{} holds a lab already; `tandem lab down` removes it",
                place.dir().display()
            );
            let state = plan(name, made_dir, options);
            state.save(&place)?;
            Ok(state)
        });
        let mut state = built?;
        let built = build(&place, &mut state, options);
        if let Err(error) = built {
            if options.keep {
                return Err(error.context("the lab is kept; `tandem lab down` removes it"));
            }
            return match teardown::remove(&place, lock) {
                Ok(()) => Err(error),
                Err(left) => Err(error.context(format!("and it could not be removed: {left:#}"))),
            };
        }
        Ok(Self { place })
    }

    /// The lab in `place`.
    pub(crate) fn open(place: &Place) -> Result<Self> {
        let lab = Self {
            place: place.clone(),
        };
        lab.state().map(|_| lab)
    }

    pub(crate) fn place(&self) -> &Place {
        &self.place
    }

    pub(crate) fn state(&self) -> Result<State> {
        let dir = self.place.dir().display();
        State::read(&self.place)?
            .with_context(|| format!("{dir} holds no lab; `tandem lab up` makes one"))
    }

    /// A command that runs `program` inside a node. It is a process outside the node, which passes
    /// signals, standard streams and the exit code on.
    pub(crate) fn exec(&self, node: &str, options: &[&str], program: &[&str]) -> Command {
        let mut command = Command::new(sys::SELF);
        command.args(["lab", "exec", "--dir"]).arg(self.place.dir());
        command.args(options).arg(node).arg("--").args(program);
        command
    }

    /// Asks the daemon of a node.
    pub(crate) fn ask(&self, node: &str, request: &Request, limit: Duration) -> Result<Status> {
        control::ask(&self.place.node(node), request, limit)
    }

    /// Kills everything in a node at once, as a loss of power would; its disk stays mounted.
    pub(crate) fn kill(&self, node: &str) -> Result<()> {
        self.change(|place, state| {
            let init = state.node(node)?.init.clone();
            let Some(init) = init else { return Ok(()) };
            init.kill().with_context(|| format!("kill {node}"))?;
            state.node_mut(node)?.init = None;
            state.save(place)
        })
    }

    /// Starts a killed node again: its disk as it was, its daemon in state WAIT. `power_lost`: it
    /// shows a new boot id from now on.
    pub(crate) fn start(&self, node: &str, power_lost: bool) -> Result<()> {
        self.change(|place, state| {
            let known = state.node(node)?;
            ensure!(known.alive().is_err(), "{node} is up already");
            let runs = known.runs;
            if power_lost {
                let path = place.node(node).boot_id();
                let id = fs::read(RANDOM_ID).with_context(|| format!("read {RANDOM_ID}"))?;
                fs::write(&path, id).with_context(|| format!("write {}", path.display()))?;
            }
            start_node(place, state, node)?;
            if runs.is_module() {
                roles::wait_for_node(place, node, runs == Runs::Manager)
            } else {
                Ok(())
            }
        })
    }

    /// Cuts the link between two nodes, or heals it; without names, heals all. `only`: in this
    /// network, counted from 1.
    pub(crate) fn set_cut(&self, pair: &[String], only: Option<u8>, cut: bool) -> Result<()> {
        self.change(|_, state| {
            let networks = match only {
                None => state.networks(),
                Some(number) => {
                    let count = state.mtus.len();
                    let meant = number
                        .checked_sub(1)
                        .filter(|n| state.networks().contains(n));
                    let meant = meant.with_context(|| {
                        format!("--network {number}: the lab has {count}, counted from 1")
                    })?;
                    meant..meant + 1
                }
            };
            for network in networks {
                match pair {
                    [] => network::heal_all(state, network)?,
                    [node, rest @ ..] => {
                        let peer = rest.first().map(String::as_str);
                        network::set_cut(state, network, (node, peer), cut)?;
                    }
                }
            }
            Ok(())
        })
    }

    pub(crate) fn status(&self) -> Result<Vec<NodeReport>> {
        let state = self.state()?;
        Ok(state
            .nodes
            .iter()
            .map(|node| report(&self.place, node))
            .collect())
    }

    /// Removes the lab and everything in it.
    pub(crate) fn down(self) -> Result<()> {
        teardown::down(&self.place)
    }

    fn change(&self, work: impl FnOnce(&Place, &mut State) -> Result<()>) -> Result<()> {
        let _lock = Lock::take(&self.place)?;
        work(&self.place, &mut self.state()?)
    }
}

/// Makes the lab's directory, or takes an empty one. Returns its path without symbolic links.
fn claim(name: &str, place: &Place) -> Result<(Place, bool)> {
    let dir = place.dir();
    let context = || format!("lab directory {}", dir.display());
    let made = make(dir).with_context(context)?;
    let place = Place::new(name, Some(dir))?;
    place.check()?;
    if !made && State::read(&place)?.is_none() {
        // What an `up` that was killed at once may have left.
        let ours = [place.lock(), place.state_draft()];
        let mut entries = fs::read_dir(dir).with_context(context)?.flatten();
        ensure!(
            entries.all(|entry| ours.contains(&entry.path())),
            "lab directory {}: not empty and not a lab; give a new or an empty one",
            dir.display()
        );
    }
    Ok((place, made))
}

/// Makes a directory and its parents. False: it was there.
fn make(dir: &Path) -> io::Result<bool> {
    /// The last lab to go takes the common parent with it, perhaps just now.
    const ATTEMPTS: usize = 10;
    let mut made = Err(io::ErrorKind::NotFound.into());
    for _ in 0..ATTEMPTS {
        if let Some(parent) = dir.parent() {
            fs::create_dir_all(parent)?;
        }
        made = fs::create_dir(dir).map(|()| true);
        match &made {
            Err(error) if error.kind() == io::ErrorKind::NotFound => {}
            Err(error) if error.kind() == io::ErrorKind::AlreadyExists => return Ok(false),
            _ => break,
        }
    }
    made
}

/// What is going to exist, written before any of it does.
fn plan(name: &str, made_dir: bool, options: &UpOptions) -> State {
    let node = |number: u8| {
        let name = format!("node{number}");
        let member = MEMBERS.contains(&name.as_str());
        let tandem = options.module.witness == Some(WitnessKind::Tandem);
        let runs = match (member, options.managed) {
            _ if !options.daemons => Runs::Nothing,
            (true, _) if options.manager => Runs::Manager,
            (true, false) => Runs::Module,
            (true, true) => Runs::Managed,
            (false, _) if tandem && number == options.nodes => Runs::Witness,
            (false, _) => Runs::Nothing,
        };
        NodeState {
            name,
            number,
            runs,
            init: None,
        }
    };
    State::new(
        name,
        made_dir,
        options.mtus.clone(),
        (1..=options.nodes).map(node).collect(),
    )
}

fn build(place: &Place, state: &mut State, options: &UpOptions) -> Result<()> {
    warn_of_memory(place, options);
    let cluster = Cluster {
        name: &state.name.clone(),
        nodes: &state.nodes.clone(),
        networks: state.networks(),
        members: &MEMBERS[..usize::from(options.nodes).min(MEMBERS.len())],
        module: &options.module,
        ca: pki::create_ca(&state.name)?,
    };
    start_hub(place, state)?;
    for node in cluster.nodes {
        interrupted()?;
        let own = place.node(&node.name);
        fs::create_dir(own.dir()).with_context(|| format!("create {}", own.dir().display()))?;
        settings::write(&own, node, &cluster)?;
        disk::create(&own, options.disk_size, &node.name)?;
        start_node(place, state, &node.name)?;
    }
    let daemons = state.nodes.iter().filter(|node| node.runs.is_module());
    let daemons: Vec<_> = daemons.map(|node| node.name.as_str()).collect();
    for node in &daemons {
        roles::wait_for_node(place, node, options.manager)?;
    }
    match daemons[..] {
        [primary, second] if options.roles && options.manager => {
            roles::start_managed(place, primary, second)
        }
        [primary, second] if options.roles => {
            if options.managed {
                // Without an operator's word a volume begins where both say that they have none.
                roles::wait_for_session(place, primary)?;
            }
            roles::assign(place, primary, second)
        }
        _ => interrupted(),
    }
}

fn warn_of_memory(place: &Place, options: &UpOptions) {
    let Ok((free, kind)) = sys::free_space(place.dir()) else {
        return;
    };
    if kind == TMPFS_MAGIC {
        let (dir, free) = (place.dir().display(), free >> 20);
        eprintln!(
            "note: {dir} is in memory ({free} MiB free), and so are the nodes' disks; \
                   --dir puts them on a disk"
        );
    } else if free < options.disk_size {
        let dir = place.dir().display();
        eprintln!(
            "note: {dir} has {} MiB free, less than one node's disk may grow to",
            free >> 20
        );
    }
}

fn start_hub(place: &Place, state: &mut State) -> Result<()> {
    let launched = launch(place, HUB, Runs::Nothing)?;
    state.hub = Some(launched.init.clone());
    state.save(place)?;
    for (network, mtu) in state.networks().zip(&state.mtus) {
        network::make_bridge(&launched.init, network, *mtu)?;
    }
    launched.begin().context("start the bridge's holder")
}

/// Disk, namespaces, cable, boot.
fn start_node(place: &Place, state: &mut State, name: &str) -> Result<()> {
    let own = place.node(name);
    disk::mount(&own)?;
    // What a boot finds empty.
    let run = own.run();
    match fs::remove_dir_all(&run) {
        Err(error) if error.kind() != io::ErrorKind::NotFound => Err(error),
        _ => fs::create_dir(&run),
    }
    .with_context(|| format!("make {} anew", run.display()))?;
    let runs = state.node(name)?.runs;
    let launched = launch(place, name, runs)?;
    state.node_mut(name)?.init = Some(launched.init.clone());
    state.save(place)?;
    let hub = state.hub.as_ref().filter(|hub| hub.is_alive());
    let hub =
        hub.context("the holder of the lab's bridge has ended; `tandem lab down` cleans up")?;
    for (network, mtu) in state.networks().zip(&state.mtus) {
        network::connect(hub, state.node(name)?, &launched.init, (network, *mtu))?;
    }
    launched.begin().with_context(|| format!("start {name}"))
}

/// The labs of this machine: in the default place, and wherever a lab's process says it is.
pub(crate) fn all() -> Vec<Lab> {
    let entries = fs::read_dir(super::place::DEFAULT_ROOT)
        .into_iter()
        .flatten()
        .flatten();
    let mut dirs: Vec<PathBuf> = entries.map(|entry| entry.path()).collect();
    dirs.extend(teardown::dirs_of_processes());
    dirs.sort();
    dirs.dedup();
    let open = |dir: &PathBuf| Lab::open(&Place::new("lab", Some(Path::new(dir))).ok()?).ok();
    dirs.iter().filter_map(open).collect()
}
