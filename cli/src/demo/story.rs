//! The demo from beginning to end, told as it happens.

use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};

use anyhow::{Context, Result, bail, ensure};
use tandem_repl::control::Request;

use super::application::{Application, Findings, Tally};
use crate::lab::cluster::{Lab, UpOptions};
use crate::lab::place::Place;
use crate::lab::settings::ModuleSettings;
use crate::lab::signals::{catch_interrupts, interrupted};

const FIRST: &str = "node1";
const SECOND: &str = "node2";
const DISK_SIZE: u64 = 2 << 30;
/// A first commit takes this long at most, recovery of the application included.
const PATIENCE: Duration = Duration::from_secs(30);
/// How long the second node may take to serve.
const TAKEOVER_LIMIT: Duration = Duration::from_secs(30);
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
fn directory(name: &str) -> PathBuf {
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
        mtu: 9000,
        daemons: true,
        roles: true,
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
    (load.stop)();
    after.drain(&load.commits)?;
    let pause = after.first_at.context("no commit")?.duration_since(killed);
    clock.tell(&format!("{SECOND} has committed {} more", after.total()))?;

    let findings = application.check(lab, SECOND, &before.last)?;
    let own = application.check(lab, SECOND, &after.last)?;
    drop(load.processes);
    Ok(conclude(&before, &after, pause, &findings, &own))
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

fn conclude(
    before: &Tally,
    after: &Tally,
    pause: Duration,
    findings: &Findings,
    own: &Findings,
) -> bool {
    let missing = before.total() - findings.found + (after.total() - own.found);
    println!();
    let row = |name: &str, figure: String| println!("  {name:<36} {figure:>9}");
    row(
        &format!("commits acknowledged by {FIRST}"),
        before.total().to_string(),
    );
    row(
        &format!("of these found on {SECOND}"),
        findings.found.to_string(),
    );
    row(
        &format!("commits a second on {FIRST}"),
        format!("{:.0}", before.per_second()),
    );
    row(
        "from the kill to the next commit",
        format!("{:.2} s", pause.as_secs_f64()),
    );
    row(
        &format!("commits by {SECOND} afterwards"),
        after.total().to_string(),
    );
    println!("  {}", findings.integrity);
    println!();
    let complete = missing == 0 && own.sound && findings.sound;
    if complete {
        println!("Nothing that was acknowledged is missing.");
    } else {
        println!("FAILED: {missing} acknowledged commits are missing, or the check above is bad.");
    }
    complete
}

/// Time since the start of the demo.
struct Clock(Instant);

impl Clock {
    /// Prints what has just happened. An error if somebody wants the demo to end.
    fn tell(&self, event: &str) -> Result<()> {
        println!("{:>6.2} s  {event}", self.0.elapsed().as_secs_f64());
        interrupted()
    }
}
