//! Shows that the apparatus bites: what was not flushed is gone after a cut, what was is there, and
//! each way of forgetting a flush is noticed.

use super::disk::{Honesty, Survival};
use super::loads::{Loads, Promises};
use super::machine::Machine;
use super::setup::Scratch;
use super::DISK;
use crate::rng::Rng;
use anyhow::{Context, Result, bail, ensure};
use std::time::Duration;

const RUN: Duration = Duration::from_millis(500);

/// Runs all of it in a single guest without Tandem.
pub fn run(scratch: &Scratch) -> Result<()> {
    let [mut machine, _] = scratch.machines(None)?;
    machine.switch_on()?;
    machine.is_up()?;

    let write = format!(
        "cd {DISK} && echo synced >synced && sync synced && sync . && echo written >written"
    );
    machine.remote().run(&["sh", "-c", &write])?;
    reboot(&mut machine)?;
    let read = format!("cd {DISK} && cat synced && cat written");
    let (_, found) = machine.remote().try_run(&["sh", "-c", &read], b"", false)?;
    ensure!(found.trim() == "synced", "after the cut there was {found:?}");
    println!("what was synced is there, what was only written is gone");

    let promises = load(&mut machine, 1, false)?;
    let found = promises.check(&machine, (DISK, false), None)?;
    ensure!(found.files > 0, "the load told nothing");
    println!("an honest load on an honest disk: {} steps found", found.files);

    let promises = load(&mut machine, 2, true)?;
    is_noticed("a load that claims what it does not sync", &promises, &machine)?;

    for drive in &machine.drives {
        drive.disk().honesty = Honesty::IgnoresFlush;
    }
    let promises = load(&mut machine, 3, false)?;
    is_noticed("a flush that is not done", &promises, &machine)
}

/// The harshest cut, and the start after it.
fn reboot(machine: &mut Machine) -> Result<()> {
    machine.cut(Survival::Nothing, &mut Rng::new(0))?;
    machine.switch_on()?;
    machine.is_up()
}

/// Small files on the bare disk, cut off; what they were promised.
fn load(machine: &mut Machine, number: u64, lie: bool) -> Result<Promises> {
    let loads = Loads::start_on(machine, DISK, number, lie)?;
    std::thread::sleep(RUN);
    machine.kill()?;
    let mut promises = loads.cut()?;
    promises.only_synced();
    reboot(machine)?;
    Ok(promises)
}

fn is_noticed(what: &str, promises: &Promises, machine: &Machine) -> Result<()> {
    let Err(error) = promises.check(machine, (DISK, false), None) else {
        bail!("{what} was not noticed");
    };
    let text = format!("{error:#}");
    let wrong = text.lines().find(|line| line.contains(" wrong:"));
    let wrong = wrong.with_context(|| format!("{what}: another error: {text}"))?;
    println!("{what} is noticed: {}", wrong.trim());
    Ok(())
}
