//! The real story: nobody gives an order when a node dies.

use std::os::unix::process::CommandExt;
use std::process::Stdio;
use std::sync::mpsc::{Receiver, channel};
use std::thread;
use std::time::{Duration, Instant};

use anyhow::{Context, Result, bail, ensure};
use tandem_failover::control::{Answer, Failover, ModuleStatus, Order, Request};
use tandem_repl::control::{Readiness, State};

use super::application::{Acknowledged, Processes, Tally};
use super::compare::{Compared, compare};
use super::sqlite::{DATABASE, THIS_PROGRAM, look, pass_on};
use super::story::{Clock, DISK_SIZE, directory, mebibytes, seconds};
use crate::lab::cluster::{Lab, UpOptions};
use crate::lab::control;
use crate::lab::place::{MODULE, Place};
use crate::lab::settings::{ModuleSettings, WitnessKind};
use crate::lab::signals::{catch_interrupts, interrupted};

const FIRST: &str = "node1";
const SECOND: &str = "node2";
/// Witness, and where the client lives.
const THIRD: &str = "node3";
const ADDRESS: &str = "10.77.0.100";
const PORT: u16 = 5000;
/// Own to each node, as a process number is.
const PID_FILE: &str = "/mnt/ledger.pid";
const LIMIT: Duration = Duration::from_secs(60);
const PAUSE: Duration = Duration::from_millis(20);
/// Load between two events.
const BETWEEN: Duration = Duration::from_secs(2);

/// Tells the whole story. True: nothing that was acknowledged is missing.
pub(super) fn tell(load: Duration) -> Result<bool> {
    catch_interrupts();
    let clock = Clock(Instant::now());
    let name = format!("demo-{}", std::process::id());
    println!("Two nodes on this machine, an SQLite ledger at {ADDRESS}, its client on a third.");
    let place = Place::new(&name, Some(&directory(&name)))?;
    let lab = Lab::up(&name, &place, &options())?;
    let told = clock.tell("both nodes are up: PRIM and SECOND");
    let told = told.and_then(|()| act(&clock, &lab, load));
    // Whatever happened, nothing stays.
    let removed = lab.down().context("remove the demo's nodes");
    let complete = told?;
    removed?;
    Ok(complete)
}

fn options() -> UpOptions {
    let start = format!(
        "{THIS_PROGRAM} demo-ledger --db {DATABASE} --serve {ADDRESS}:{PORT} & \
         echo $! > {PID_FILE}"
    );
    let stop = format!(
        "test ! -e {PID_FILE} || {{ kill -9 $(cat {PID_FILE}); rm {PID_FILE}; }} 2>/dev/null"
    );
    let settings = format!(
        "virtual_ips: [\"{ADDRESS}\"],
  scripts: (
    start_prim: [\"/bin/sh\", \"-c\", {}],
    stop_prim: [\"/bin/sh\", \"-c\", {}],
  ),
  checkers: [(name: \"ledger\", tcp: \"{ADDRESS}:{PORT}\", on_failure: restart)],",
        quoted(&start),
        quoted(&stop)
    );
    UpOptions {
        nodes: 3,
        disk_size: DISK_SIZE,
        mtus: vec![9000],
        daemons: true,
        managed: false,
        manager: true,
        roles: true,
        module: ModuleSettings {
            witness: Some(WitnessKind::Tandem),
            settings,
            ..ModuleSettings::default()
        },
        keep: false,
    }
}

/// In a file where `$` begins a variable.
fn quoted(text: &str) -> String {
    format!("\"{}\"", text.replace('$', "$$"))
}

/// The client on the third node, and what it was told is committed.
struct Client {
    commits: Receiver<Acknowledged>,
    tally: Tally,
    /// The longest time between two commits since the last look, and the last commit.
    longest: Duration,
    last: Instant,
    stop: Box<dyn FnOnce()>,
    _processes: Processes,
}

impl Client {
    fn start(lab: &Lab) -> Result<Self> {
        let at = format!("{ADDRESS}:{PORT}");
        let program = [THIS_PROGRAM, "demo-ledger", "--writer", "1", "--spend", &at];
        let mut command = lab.exec(THIRD, &[], &program);
        command
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .process_group(0);
        let mut child = command.spawn().context("start the client")?;
        let input = child.stdin.take();
        let output = child.stdout.take().context("the client has no output")?;
        let (sender, commits) = channel();
        thread::spawn(move || pass_on(output, 1, &sender));
        Ok(Self {
            commits,
            tally: Tally::default(),
            longest: Duration::ZERO,
            last: Instant::now(),
            stop: Box::new(move || drop(input)),
            _processes: Processes(vec![child]),
        })
    }

    fn read(&mut self) -> Result<()> {
        for commit in self.commits.try_iter().collect::<Vec<_>>() {
            let gap = commit.at.saturating_duration_since(self.last);
            self.longest = self.longest.max(gap);
            self.last = commit.at;
            self.tally.note(commit)?;
        }
        Ok(())
    }

    /// Goes on for a time, and until something holds.
    fn until(
        &mut self,
        what: &str,
        least: Duration,
        mut holds: impl FnMut() -> Result<bool>,
    ) -> Result<Duration> {
        let start = Instant::now();
        loop {
            interrupted()?;
            self.read()?;
            if start.elapsed() >= least && holds()? {
                return Ok(start.elapsed());
            }
            ensure!(
                start.elapsed() < LIMIT,
                "after {LIMIT:?}, still not so: {what}"
            );
            thread::sleep(PAUSE);
        }
    }

    /// The longest pause since this was asked last. The commit after it has come.
    fn pause(&mut self) -> Result<Duration> {
        let before = self.tally.total();
        let start = Instant::now();
        while self.tally.total() == before {
            ensure!(start.elapsed() < LIMIT, "no commit within {LIMIT:?}");
            interrupted()?;
            self.read()?;
            thread::sleep(PAUSE);
        }
        Ok(std::mem::take(&mut self.longest))
    }
}

fn act(clock: &Clock, lab: &Lab, length: Duration) -> Result<bool> {
    let mut client = Client::start(lab)?;
    client.until("the first commit", Duration::ZERO, || Ok(true))?;
    client.pause()?;
    let from = client.tally.total();
    client.until("load", length, || Ok(true))?;
    let rate = (client.tally.total() - from) as f64 / length.as_secs_f64();
    client.pause()?;
    clock.tell(&format!(
        "{rate:.0} commits a second; now {FIRST} loses its power"
    ))?;

    lab.kill(FIRST)?;
    client.until("the second node serves", Duration::ZERO, || {
        is(lab, SECOND, State::Alone)
    })?;
    let failover = client.pause()?;
    clock.tell(&format!(
        "{SECOND} serves; the client waited {}",
        seconds(failover)
    ))?;
    client.until("load", BETWEEN, || Ok(true))?;

    let sent = sent(lab)?;
    lab.start(FIRST, false)?;
    let back = client.until("the first node follows", Duration::ZERO, || {
        Ok(is(lab, FIRST, State::Second)? && is(lab, SECOND, State::Prim)?)
    })?;
    let travelled = self::sent(lab)?.saturating_sub(sent);
    clock.tell(&format!("{FIRST} is back and current, the service went on"))?;
    client.until("load", BETWEEN, || Ok(true))?;
    client.pause()?;

    order(lab, FIRST, Order::Swap)?;
    client.until("the roles have changed sides", Duration::ZERO, || {
        Ok(is(lab, FIRST, State::Prim)? && is(lab, SECOND, State::Second)?)
    })?;
    let swap = client.pause()?;
    clock.tell(&format!(
        "swapped back; the client waited {}",
        seconds(swap)
    ))?;
    client.until("load", BETWEEN, || Ok(true))?;
    let Client {
        stop,
        commits,
        mut tally,
        _processes,
        ..
    } = client;
    stop();
    tally.drain(&commits)?;

    let found = look(lab, FIRST, &tally.last)?;
    let compared = settle(lab)?;
    let timeline = failovers(lab)?;
    println!();
    let row = |name: &str, figure: String| println!("  {name:<44} {figure:>9}");
    row(
        "commits acknowledged to the client",
        tally.total().to_string(),
    );
    row("of these found", found.found.to_string());
    row(
        "pause of the client: power cut, failover",
        seconds(failover),
    );
    row("pause of the client: swap", seconds(swap));
    row(&format!("{FIRST} current again after"), seconds(back));
    row(
        "travelled meanwhile, new commits included",
        mebibytes(travelled),
    );
    println!("  {}", found.integrity);
    println!("\n  the failover, by the log of {SECOND}:");
    for (phase, at) in &timeline.phases {
        println!("    {:<12} {at:>6} ms", format!("{phase:?}").to_lowercase());
    }
    println!();
    let complete = found.found == tally.total() && found.sound && compared.equal;
    if complete {
        println!("Nothing that was acknowledged is missing, and both copies are identical.");
    } else {
        println!("FAILED: acknowledged commits are missing, or the copies differ.");
        compared
            .differences
            .iter()
            .for_each(|line| println!("  {line}"));
    }
    Ok(complete)
}

fn ask(lab: &Lab, node: &str, request: Request) -> Result<Answer> {
    control::ask_manager(&lab.place().node(node), request, LIMIT)
}

fn module(lab: &Lab, node: &str) -> Result<ModuleStatus> {
    let Answer::Status(status) = ask(lab, node, Request::Status)? else {
        bail!("the manager of {node} answered another question")
    };
    let module = status.modules.into_iter().find(|m| m.module == MODULE);
    module.with_context(|| format!("{node} has no module {MODULE}"))
}

fn is(lab: &Lab, node: &str, state: State) -> Result<bool> {
    let module = module(lab, node)?;
    Ok(module.state == state && module.readiness == Readiness::Ready)
}

fn order(lab: &Lab, node: &str, order: Order) -> Result<()> {
    let module = MODULE.to_string();
    ask(lab, node, Request::Order { module, order }).map(|_| ())
}

fn sent(lab: &Lab) -> Result<u64> {
    let daemon = module(lab, SECOND)?.daemon;
    Ok(daemon.map(|d| d.counters.bytes_sent).unwrap_or_default())
}

fn failovers(lab: &Lab) -> Result<Failover> {
    let module = MODULE.to_string();
    let Answer::Failovers(all) = ask(lab, SECOND, Request::Failovers { module })? else {
        bail!("the manager of {SECOND} answered another question")
    };
    all.into_iter().last().context("no failover was noted")
}

/// Compares what lies on both nodes' disks, when nothing is on its way any more.
fn settle(lab: &Lab) -> Result<Compared> {
    let replica = |node| lab.place().node(node).replica();
    let start = Instant::now();
    loop {
        let compared = compare(&replica(FIRST), &replica(SECOND))?;
        if compared.equal || start.elapsed() > Duration::from_secs(10) {
            return Ok(compared);
        }
        thread::sleep(Duration::from_millis(100));
    }
}
