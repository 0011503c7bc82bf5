//! The two nodes of a cluster, led by hand as an operator would.

use super::inside::tree::receive;
use super::machine::Machine;
use super::patience::{PAUSE, Patience};
use super::postgresql::{Postgresql, WITHOUT_POSTGRESQL};
use super::promises::Promises;
use super::setup::Scratch;
use super::{BELOW_DATA, MODULE};
use crate::tree::{Options, Tree, compare, listed};
use anyhow::{Context, Result, bail, ensure};
use serde::Deserialize;
use std::io::Write;
use std::time::Duration;

/// How long a node may take for what needs no data: to notice a loss, to change its role.
pub const NOTICE: Duration = Duration::from_secs(60);
/// How long a resync may take.
pub const RESYNC: Duration = Duration::from_secs(120);
/// How long replicas may take to become equal when nobody writes.
const STILL: Duration = Duration::from_secs(20);

/// Lines of a log that show how it came to a failure.
const LAST: usize = 40;

/// The first kernel with everything Tandem asks for at the start.
const COMPLETE: (u32, u32) = (6, 6);
/// What the daemon says of an older one.
const LACKS: &str = "the kernel lacks ";

/// Bytes of a file's identity that are the same on both nodes.
const IDENTITY: usize = 16;

/// What every thread of a guest's daemon waits for.
const THREADS: &str = "for p in /proc/[0-9]*; do case $(cat $p/comm 2>/dev/null) in tandem*) \
    for t in $p/task/*; do echo $(cat $t/comm $t/wchan) $(cut -d' ' -f1 $t/syscall); done;; \
    esac; done";

/// Status and threads of a daemon that does not do what it should.
fn doing(machine: &Machine) -> String {
    let or_why = |what: Result<String>| what.unwrap_or_else(|e| format!("{e:#}"));
    let status = or_why(machine.tandem(&["status", MODULE, "--json"]));
    let threads = or_why(machine.remote().run(&["/bin/sh", "-c", THREADS]));
    let (status, threads) = (status.trim(), threads.trim().replace('\n', "; "));
    format!("{}: {status}\n  threads: {threads}\n", machine.name)
}

/// What `tandem status --json` prints.
#[derive(Deserialize)]
struct Answer {
    status: Status,
}

/// How a node is.
#[derive(Clone, Debug, Deserialize)]
pub struct Status {
    pub state: String,
    pub readiness: String,
    pub reason: Option<Reason>,
    pub peer: Peer,
}

impl Status {
    /// Whether the node is ready in a state; blocked counts for WAIT.
    pub fn is_ready_in(&self, state: &str) -> bool {
        self.state == state && (self.readiness == "Ready" || state == "WAIT")
    }
}

/// What a node knows of the other one.
#[derive(Clone, Debug, Deserialize)]
pub struct Peer {
    pub connected: bool,
}

/// Why a node is not ready.
#[derive(Clone, Debug, Deserialize)]
pub struct Reason {
    pub code: String,
    pub reason: String,
}

/// Both nodes.
pub struct Pair {
    pub machines: [Machine; 2],
    pub postgresql: Option<Postgresql>,
    /// Which of them serves.
    pub serving: usize,
    /// What was promised in all rounds so far.
    pub promises: Promises,
}

impl Pair {
    /// Two nodes that never ran.
    pub fn set_up(scratch: &Scratch) -> Result<Self> {
        let postgresql = Postgresql::find();
        if postgresql.is_none() {
            println!("{WITHOUT_POSTGRESQL}");
        }
        let machines = scratch.machines(postgresql.as_ref())?;
        Ok(Self {
            machines,
            postgresql,
            serving: 0,
            promises: Promises::default(),
        })
    }

    pub fn other(&self) -> usize {
        1 - self.serving
    }

    /// Switches both on, and lets the first serve.
    pub fn begin(&mut self) -> Result<()> {
        for machine in &mut self.machines {
            machine.switch_on()?;
        }
        for node in [0, 1] {
            self.machines[node].is_up()?;
            self.start_daemon(node)?;
        }
        self.serve_together()?;
        self.kernel_is_too_old()
    }

    /// A guest whose kernel lacks something shows that Tandem does without it.
    fn kernel_is_too_old(&self) -> Result<()> {
        let release = self.machines[0].remote().run(&["uname", "-r"])?;
        let mut parts = release.trim().split('.').map(str::parse);
        let (Some(Ok(major)), Some(Ok(minor))) = (parts.next(), parts.next()) else {
            bail!("kernel release {release:?}");
        };
        let version: (u32, u32) = (major, minor);
        for machine in &self.machines {
            let log = machine.dir.join("tandem.log");
            let mut lacks = Vec::new();
            let said = || {
                let log = std::fs::read_to_string(&log).unwrap_or_default();
                let lines = log.lines().filter_map(|line| line.split_once(LACKS));
                lacks = lines.map(|(_, what)| what.to_owned()).collect();
                Ok(version >= COMPLETE || !lacks.is_empty())
            };
            machine.wait_until("Tandem says what the kernel lacks", NOTICE, said)?;
            let (name, release) = (&machine.name, release.trim());
            println!("kernel of {name}: {release}; it lacks {lacks:?}");
        }
        Ok(())
    }

    /// The serving node serves, the other follows: both ready.
    pub fn serve_together(&self) -> Result<()> {
        self.machines[self.serving].tandem(&["prim", MODULE])?;
        self.follow()
    }

    /// The other node follows the serving one: both ready.
    pub fn follow(&self) -> Result<()> {
        let (serving, other) = (self.serving, self.other());
        // Refused for now, it asks again by itself.
        let answer = self.machines[other].tandem(&["second", MODULE]);
        let together = self.becomes(other, "SECOND", RESYNC);
        if let (Err(late), Err(refused)) = (&together, answer) {
            bail!("{late:#}\n`tandem second` said: {refused:#}");
        }
        together?;
        self.becomes(serving, "PRIM", NOTICE)
    }

    /// The other node serves.
    pub fn swap(&mut self) -> Result<()> {
        self.machines[self.serving].tandem(&["swap", MODULE])?;
        self.serving = self.other();
        self.becomes(self.serving, "PRIM", NOTICE)?;
        self.becomes(self.other(), "SECOND", NOTICE)
    }

    /// Stops both in order.
    pub fn end(&self) -> Result<()> {
        for node in [self.other(), self.serving] {
            self.machines[node].tandem(&["stop", MODULE])?;
        }
        Ok(())
    }

    /// How often a node has begun to serve alone, by its log.
    pub fn times_alone(&self, node: usize) -> usize {
        let log = self.machines[node].dir.join("tandem.log");
        let log = std::fs::read_to_string(log).unwrap_or_default();
        log.matches("-> Alone Ready").count()
    }

    /// The last lines of both daemons' logs.
    pub fn last_words(&self) -> String {
        let mut words = String::new();
        for machine in &self.machines {
            let log = std::fs::read_to_string(machine.dir.join("tandem.log")).unwrap_or_default();
            let lines: Vec<_> = log.lines().collect();
            let from = lines.len().saturating_sub(LAST);
            words.push_str(&format!(
                "log of {}:\n  {}\n",
                machine.name,
                lines[from..].join("\n  ")
            ));
            words.push_str(&doing(machine));
        }
        words
    }

    /// Starts the daemon of a node; what it prints goes to `tandem.log`.
    pub fn start_daemon(&self, node: usize) -> Result<()> {
        let machine = &self.machines[node];
        let mut daemon = machine.start_tandem(&["fs", MODULE])?;
        let log = machine.dir.join("tandem.log");
        let mut log = std::fs::File::options()
            .create(true)
            .append(true)
            .open(log)?;
        std::thread::spawn(move || {
            while let Some(line) = daemon.line() {
                // A log that cannot be written must not stop the daemon.
                writeln!(log, "{line}").ok();
            }
        });
        let mut last = Ok(());
        let answers = || {
            last = self.status(node).map(drop);
            Ok(last.is_ok())
        };
        let answered = machine.wait_until("the daemon answers", NOTICE, answers);
        answered.or_else(|late| last.context(late))
    }

    /// Waits until the nodes know of each other.
    pub fn have_met(&self) -> Result<()> {
        let met = || Ok(self.status(0)?.peer.connected && self.status(1)?.peer.connected);
        self.machines[0].wait_until("both nodes have met", NOTICE, met)
    }

    fn slowness(&self) -> u32 {
        self.machines[0].engine.kind.slowness()
    }

    pub fn status(&self, node: usize) -> Result<Status> {
        let text = self.machines[node].tandem(&["status", MODULE, "--json"])?;
        let answer: Answer = serde_json::from_str(text.trim()).with_context(|| text.clone())?;
        Ok(answer.status)
    }

    /// Waits until a node is ready in a state (blocked counts for WAIT).
    pub fn becomes(&self, node: usize, state: &str, limit: Duration) -> Result<()> {
        let limit = limit * self.slowness();
        let mut patience = Patience::new(limit);
        loop {
            let status = self.status(node)?;
            if status.is_ready_in(state) {
                return Ok(());
            }
            if patience.is_over() {
                let name = &self.machines[node].name;
                let (one, two) = (self.status(0), self.status(1));
                bail!("{name} does not become {state} in {limit:?}: a {one:?}, b {two:?}");
            }
            std::thread::sleep(PAUSE);
        }
    }

    /// Compares both replicas from below.
    pub fn trees_are_equal(&self) -> Result<u64> {
        let mut patience = Patience::new(STILL * self.slowness());
        loop {
            let [one, two] = &self.machines;
            let (one, two) = (replica(one)?, replica(two)?);
            let found = compare(&one, &two, &Options::replicas());
            if found.is_empty() {
                return Ok(one.len() as u64);
            }
            ensure!(
                !patience.is_over(),
                "trees of a and b differ:\n{}",
                listed(&found)
            );
            std::thread::sleep(Duration::from_millis(200));
        }
    }
}

/// A node's tree from below, without what is each node's own: the directory where Tandem works, and
/// the part of a file's identity that belongs to its inode.
fn replica(machine: &Machine) -> Result<Tree> {
    let words = machine.guest(&["tree", BELOW_DATA]);
    let mut tree = receive(&machine.remote().run(&words)?)?;
    let own = |path: &Vec<u8>| path == b".tandem" || path.starts_with(b".tandem/");
    tree.retain(|path, _| !own(path));
    for entry in tree.values_mut() {
        if let Some(identity) = entry.xattrs.get_mut(&b"trusted.tandem.id"[..]) {
            identity.truncate(IDENTITY);
        }
    }
    Ok(tree)
}
