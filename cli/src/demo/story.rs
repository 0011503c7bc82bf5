//! The demo from beginning to end, told as it happens.

use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};

use anyhow::{Context, Result, bail, ensure};
use tandem_repl::control::{Readiness, Request, State, Status};

use super::application::{Application, Findings, Tally};
use super::compare::{Compared, compare};
use crate::lab::cluster::{Lab, UpOptions};
use crate::lab::place::Place;
use crate::lab::settings::ModuleSettings;
use crate::lab::signals::{catch_interrupts, interrupted};

const FIRST: &str = "node1";
const SECOND: &str = "node2";
pub(super) const DISK_SIZE: u64 = 2 << 30;
/// A first commit takes this long at most, recovery of the application included.
const PATIENCE: Duration = Duration::from_secs(30);
/// How long the second node may take to serve.
const TAKEOVER_LIMIT: Duration = Duration::from_secs(30);
const STATUS_LIMIT: Duration = Duration::from_secs(5);
const TAKEOVER_PAUSE: Duration = Duration::from_millis(50);
/// Load on the second node.
const AFTERWARDS: Duration = Duration::from_secs(1);

/// Tells the whole story. True: nothing that was acknowledged is missing.
pub(super) fn tell(application: &dyn Application, load: Duration) -> Result<bool> {
    catch_interrupts();
    let clock = Clock(Instant::now());
    let name = format!("demo-{}", std::process::id());
    let what = application.name();
    println!("Two nodes on this machine, {what} on {FIRST}.");
    let lab = Lab::up(
        &name,
        &Place::new(&name, Some(&directory(&name)))?,
        &options(),
    )?;
    let told = clock.tell("both nodes are up, every write on node1 is held by node2");
    let told = told.and_then(|()| act(&clock, &lab, application, load));
    // Whatever happened, nothing stays.
    let removed = lab.down().context("remove the demo's nodes");
    let complete = told?;
    removed?;
    Ok(complete)
}

/// On a disk where possible: a commit that only reaches memory would flatter the figures.
pub(super) fn directory(name: &str) -> PathBuf {
    let persistent = Path::new("/var/tmp");
    let root = if persistent.is_dir() {
        persistent.to_path_buf()
    } else {
        std::env::temp_dir()
    };
    root.join(format!("tandem-{name}"))
}

fn options() -> UpOptions {
    UpOptions {
        nodes: 2,
        disk_size: DISK_SIZE,
        mtus: vec![9000],
        daemons: true,
        managed: false,
        roles: true,
        manager: false,
        module: ModuleSettings::default(),
        keep: false,
    }
}

fn act(clock: &Clock, lab: &Lab, application: &dyn Application, length: Duration) -> Result<bool> {
    application.prepare(lab, FIRST)?;
    let load = application.start(lab, FIRST)?;
    let mut before = Tally::default();
    let busy = before.listen(&load.commits, PATIENCE, length)?;
    ensure!(busy, "{} on {FIRST} ended by itself", application.name());
    clock.tell(&format!(
        "{FIRST} commits, {:.0} a second; now it is killed",
        before.per_second()
    ))?;

    let killed = Instant::now();
    lab.kill(FIRST)?;
    before.drain(&load.commits)?;
    drop(load);
    clock.tell(&format!(
        "{FIRST} is dead; it had acknowledged {} commits",
        before.total()
    ))?;
    take_over(lab)?;
    clock.tell(&format!("{SECOND} serves the same directory"))?;

    let load = application.start(lab, SECOND)?;
    let mut after = Tally::default();
    let busy = after.listen(&load.commits, PATIENCE, AFTERWARDS)?;
    ensure!(busy, "{} on {SECOND} ended by itself", application.name());
    let pause = after.first_at.context("no commit")?.duration_since(killed);
    clock.tell(&format!("{SECOND} commits; {FIRST} is switched on again"))?;

    let back = come_back(lab)?;
    after.read(&load.commits)?;
    clock.tell(&format!(
        "{FIRST} is current again after {:.2} s, the application went on; {} travelled",
        back.took.as_secs_f64(),
        mebibytes(back.bytes)
    ))?;
    (load.stop)();
    after.drain(&load.commits)?;
    clock.tell(&format!("{SECOND} has committed {} more", after.total()))?;

    let findings = application.check(lab, SECOND, &before.last)?;
    let own = application.check(lab, SECOND, &after.last)?;
    drop(load.processes);
    let compared = compare_replicas(lab)?;
    clock.tell(&format!(
        "both trees are {}: {} entries",
        if compared.equal {
            "identical"
        } else {
            "DIFFERENT"
        },
        compared.entries
    ))?;
    swap_back(lab)?;
    let again = application.check(lab, FIRST, &after.last)?;
    clock.tell(&format!("swapped back: {FIRST} serves, {SECOND} follows"))?;
    let story = Story {
        before,
        after,
        pause,
        findings,
        own,
        back,
        compared,
        again,
    };
    Ok(story.conclude())
}

/// The return of the first node.
struct Return {
    took: Duration,
    bytes: u64,
}

/// Switches the first node on; it is brought up while the application goes on on the second.
fn come_back(lab: &Lab) -> Result<Return> {
    let sent = lab
        .ask(SECOND, &Request::Status, STATUS_LIMIT)?
        .counters
        .bytes_sent;
    lab.start(FIRST, false)?;
    let start = Instant::now();
    lab.ask(FIRST, &Request::Second, TAKEOVER_LIMIT)?;
    let status = wait_until_ready(lab, FIRST, State::Second)?;
    ensure!(status.in_sync.len() == 2, "{FIRST} is not in the set");
    let status = wait_until_ready(lab, SECOND, State::Prim)?;
    Ok(Return {
        took: start.elapsed(),
        bytes: status.counters.bytes_sent.saturating_sub(sent),
    })
}

fn wait_until_ready(lab: &Lab, node: &str, state: State) -> Result<Status> {
    let start = Instant::now();
    loop {
        interrupted()?;
        let status = lab.ask(node, &Request::Status, STATUS_LIMIT)?;
        if status.state == state && status.readiness == Readiness::Ready {
            return Ok(status);
        }
        if start.elapsed() >= TAKEOVER_LIMIT {
            let reason = status.reason.map(|r| r.to_string()).unwrap_or_default();
            bail!(
                "{node} is {:?} after {TAKEOVER_LIMIT:?}: {reason}",
                status.state
            );
        }
        std::thread::sleep(TAKEOVER_PAUSE);
    }
}

/// Compares what lies on both nodes' disks, when nothing is on its way any more.
fn compare_replicas(lab: &Lab) -> Result<Compared> {
    let start = Instant::now();
    while lab
        .ask(SECOND, &Request::Status, STATUS_LIMIT)?
        .counters
        .in_flight
        > 0
    {
        ensure!(
            start.elapsed() < TAKEOVER_LIMIT,
            "operations stay in flight"
        );
        std::thread::sleep(TAKEOVER_PAUSE);
    }
    let replica = |node| lab.place().node(node).replica();
    compare(&replica(FIRST), &replica(SECOND))
}

fn swap_back(lab: &Lab) -> Result<()> {
    lab.ask(SECOND, &Request::Swap, TAKEOVER_LIMIT)?;
    wait_until_ready(lab, FIRST, State::Prim)?;
    wait_until_ready(lab, SECOND, State::Second).map(|_| ())
}

/// Asks the second node to serve until it does: it has to notice first that its peer is gone.
fn take_over(lab: &Lab) -> Result<()> {
    let start = Instant::now();
    loop {
        interrupted()?;
        match lab.ask(SECOND, &Request::Prim { force: false }, TAKEOVER_LIMIT) {
            Ok(_) => return Ok(()),
            Err(error) if start.elapsed() >= TAKEOVER_LIMIT => {
                bail!("{SECOND} did not serve within {TAKEOVER_LIMIT:?}: {error:#}")
            }
            Err(_) => std::thread::sleep(TAKEOVER_PAUSE),
        }
    }
}

/// What happened, in figures.
struct Story {
    before: Tally,
    after: Tally,
    /// From the kill to the next commit.
    pause: Duration,
    /// Of the first node's commits on the second.
    findings: Findings,
    /// Of the second node's own.
    own: Findings,
    back: Return,
    compared: Compared,
    /// Of the second node's commits on the first, after the swap.
    again: Findings,
}

impl Story {
    /// Prints the figures. True: nothing is missing and all is equal.
    fn conclude(&self) -> bool {
        let (before, after) = (self.before.total(), self.after.total());
        let missing = before - self.findings.found + (after - self.own.found);
        println!();
        let row = |name: &str, figure: String| println!("  {name:<40} {figure:>9}");
        row(
            &format!("commits acknowledged by {FIRST}"),
            before.to_string(),
        );
        row(
            &format!("of these found on {SECOND}"),
            self.findings.found.to_string(),
        );
        let rate = format!("{:.0}", self.before.per_second());
        row(&format!("commits a second on {FIRST}"), rate);
        row("from the kill to the next commit", seconds(self.pause));
        row(
            &format!("commits by {SECOND} afterwards"),
            after.to_string(),
        );
        row(
            &format!("{FIRST} current again after"),
            seconds(self.back.took),
        );
        row(
            "travelled for that, and for the commits",
            mebibytes(self.back.bytes),
        );
        row(
            &format!("of {SECOND}'s commits found on {FIRST}"),
            self.again.found.to_string(),
        );
        println!("  {}", self.findings.integrity);
        println!();
        let sound = self.own.sound && self.findings.sound && self.again.sound;
        let complete = missing == 0 && self.again.found == after && sound && self.compared.equal;
        if complete {
            println!("Nothing that was acknowledged is missing, and both copies are identical.");
        } else {
            println!("FAILED: {missing} acknowledged commits are missing, or a check is bad.");
            self.compared
                .differences
                .iter()
                .for_each(|line| println!("  {line}"));
        }
        complete
    }
}

pub(super) fn seconds(time: Duration) -> String {
    format!("{:.2} s", time.as_secs_f64())
}

pub(super) fn mebibytes(bytes: u64) -> String {
    format!("{:.1} MiB", bytes as f64 / f64::from(1 << 20))
}

/// Time since the start of the demo.
pub(super) struct Clock(pub(super) Instant);

impl Clock {
    /// Prints what has just happened. An error if somebody wants the demo to end.
    pub(super) fn tell(&self, event: &str) -> Result<()> {
        println!("{:>6.2} s  {event}", self.0.elapsed().as_secs_f64());
        interrupted()
    }
}
