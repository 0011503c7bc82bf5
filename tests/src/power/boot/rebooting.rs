//! M30: the serving node reboots. What ran before runs again, with `boot: on` everything does, and
//! with `boot: off` nothing. Then both are shut down at the same moment, and come back.

use super::leaving::{AT_ONCE, ended_in_order};
use super::world::{SOON, World};
use crate::managed::program::now;
use anyhow::{Result, ensure};
use std::time::Duration;
use tandem_repl::control::State;

pub(super) const BOOT_ID: &str = "cat /proc/sys/kernel/random/boot_id";

/// The last that a kernel says.
const RESTARTS: &str = "reboot: Restarting system";

/// The story.
pub fn reboot(world: &mut World) -> Result<()> {
    // Before: `shop` (auto) and `night` (off) run on the node, `desk` (on) and `attic` (auto) do
    // not.
    for module in ["desk", "attic"] {
        world.machines[0].tandem(&["stop", module])?;
        world.shows(1, module, State::Alone)?;
    }
    let boot = world.shell(0, BOOT_ID)?;
    let begin = now();
    world.shell(0, "systemctl --no-block reboot")?;
    world.asker("shop")?.answered_by("b", SOON)?;
    let pause = world.asker("shop")?.heard()?.longest_pause(begin);
    println!("shop: nobody answered for {pause:?}");
    ensure!(pause < AT_ONCE, "{pause:?}");
    // It is not talked to before: a connection to a machine that is gone stays open.
    world.machines[0].wait_until("it begins anew", SOON, || {
        Ok(world.machines[0].said()?.contains(RESTARTS))
    })?;
    world.is_up(0)?;
    ensure!(world.shell(0, BOOT_ID)? != boot);
    ended_in_order(&world.machines[0].said()?)?;

    for module in ["shop", "desk"] {
        world.in_sync(module, (1, 0))?;
        world.asker(module)?.answered_by("b", SOON)?;
    }
    // The manager has had the time to start those two; these it leaves alone.
    for module in ["night", "attic"] {
        let shown = world.module(0, module)?;
        let is_stopped = shown.state == State::Stop && shown.daemon.is_none();
        ensure!(is_stopped && !shown.wants.started, "{module}: {shown:?}");
        world.shows(1, module, State::Alone)?;
    }
    // What a boot says is said once: now an operator is listened to.
    for module in ["night", "attic"] {
        world.machines[0].tandem(&["start", module])?;
        world.in_sync(module, (1, 0))?;
    }
    both(world)
}

/// Each is asked to take over while it leaves.
fn both(world: &mut World) -> Result<()> {
    for node in [1, 0] {
        world.shell(node, "systemctl --no-block poweroff")?;
    }
    let begin = now();
    for node in [0, 1] {
        world.machines[node].ends(SOON)?;
        ended_in_order(&world.machines[node].said()?)?;
    }
    println!("both off after {:?}", Duration::from_micros(now() - begin));
    for machine in &mut world.machines {
        machine.switch_on()?;
    }
    for node in [0, 1] {
        world.is_up(node)?;
    }
    for module in ["shop", "desk", "attic"] {
        let serves = world.settles(module)?;
        println!("{module}: {} serves", world.machines[serves].name);
    }
    for node in [0, 1] {
        let night = world.module(node, "night")?;
        ensure!(night.state == State::Stop, "{night:?}");
    }
    Ok(())
}
