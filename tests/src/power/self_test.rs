//! Shows that the apparatus notices: what was not flushed is gone after a cut, what was is there,
//! and each way of forgetting a flush is found.

use super::disk::{Honesty, Survival};
use super::loads::{Kind, Loads};
use super::machine::Machine;
use super::pair::Pair;
use super::promises::Promises;
use super::setup::Scratch;
use super::{BELOW_DATA, DISK};
use crate::rng::Rng;
use anyhow::{Context, Result, bail, ensure};
use std::time::Duration;

const RUN: Duration = Duration::from_millis(500);

/// Runs all of it.
pub fn run(scratch: &Scratch) -> Result<()> {
    let mut pair = Pair::set_up(scratch)?;
    alone(&mut pair.machines[0])?;
    follower(&mut pair)
}

/// In a single guest, without Tandem and outside the directory that is replicated.
fn alone(machine: &mut Machine) -> Result<()> {
    machine.switch_on()?;
    machine.is_up()?;

    let write = format!(
        "cd {DISK} && echo synced >synced && sync synced && sync . && echo written >written"
    );
    machine.remote().run(&["sh", "-c", &write])?;
    reboot(machine)?;
    let read = format!("cd {DISK} && cat synced && cat written");
    let (_, found) = machine.remote().try_run(&["sh", "-c", &read], b"", false)?;
    ensure!(
        found.trim() == "synced",
        "after the cut there was {found:?}"
    );
    println!("what was synced is there, what was only written is gone");

    let promises = load(machine, 1, false)?;
    let found = promises.check(machine, (DISK, false), None)?;
    ensure!(found.files > 0, "the load told nothing");
    println!(
        "an honest load on an honest disk: {} steps found",
        found.files
    );

    let promises = load(machine, 2, true)?;
    is_noticed(
        "a load that claims what it does not sync",
        &promises,
        (machine, DISK),
    )?;

    for drive in &machine.drives {
        drive.disk().honesty = Honesty::IgnoresFlush;
    }
    let promises = load(machine, 3, false)?;
    is_noticed("a flush that is not done", &promises, (machine, DISK))?;
    for drive in &machine.drives {
        drive.disk().honesty = Honesty::Honest;
    }
    machine.cut(Survival::Nothing, &mut Rng::new(0))
}

/// A following node that does not bring to its disk what was synced is noticed, although the
/// serving one does.
fn follower(pair: &mut Pair) -> Result<()> {
    pair.begin()?;
    for drive in &pair.machines[pair.other()].drives {
        drive.disk().honesty = Honesty::IgnoresFlush;
    }
    let loads = Loads::start(&pair.machines[pair.serving], 4, &[Kind::Files], None)?;
    std::thread::sleep(RUN);
    for machine in &mut pair.machines {
        machine.kill()?;
    }
    let mut promises = loads.cut()?;
    promises.only_synced();
    pair.machines.iter_mut().try_for_each(reboot)?;
    let serving = &pair.machines[pair.serving];
    let found = promises.check(serving, (BELOW_DATA, true), None)?;
    println!("on the serving node: {} steps found", found.files);
    let other = &pair.machines[pair.other()];
    is_noticed(
        "a following node that does not flush",
        &promises,
        (other, BELOW_DATA),
    )
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

fn is_noticed(what: &str, promises: &Promises, (machine, data): (&Machine, &str)) -> Result<()> {
    let Err(error) = promises.check(machine, (data, true), None) else {
        bail!("{what} was not noticed");
    };
    let text = format!("{error:#}");
    let wrong = text.lines().find(|line| line.contains(" wrong:"));
    let wrong = wrong.with_context(|| format!("{what}: another error: {text}"))?;
    println!("{what} is noticed: {}", wrong.trim());
    Ok(())
}
