//! The manager of the serving node hangs, and systemd does not care: the kernel's watchdog device
//! resets the machine, and the other one serves.

use super::rebooting::BOOT_ID;
use super::world::{SOON, World};
use crate::managed::program::now;
use anyhow::{Result, ensure};
use std::time::Duration;

/// The device of the kernel's `softdog`; `/dev/watchdog` is one of the guests' own, which does
/// nothing.
const DEVICE: &str = "/dev/watchdog1";
/// Silence after which the machine is reset, and the stall limit after which the other one serves.
const RESET: Duration = Duration::from_secs(30);

/// The story.
pub fn resets(world: &mut World) -> Result<()> {
    let key = format!("sed -i '0,/(/s||(watchdog: \"{DEVICE}\",|' /etc/tandem/cluster.ron");
    for node in [0, 1] {
        world.shell(node, &key)?;
    }
    world.shell(1, "systemctl restart tandem")?;
    for module in world.modules {
        world.in_sync(module.name, (0, 1))?;
        // Perhaps that was so before the other one has noticed that it ends.
        world.machines[0].wait_until("it can hand over", SOON, || {
            Ok(world.machines[0].tandem(&["swap", module.name]).is_ok())
        })?;
        world.in_sync(module.name, (1, 0))?;
        world.asker(module.name)?.answered_by("b", SOON)?;
    }
    let said = world.machines[1].said()?;
    let armed = format!("watchdog {DEVICE} resets this machine");
    ensure!(said.contains(&armed), "it was not armed: {said}");

    let boot = world.shell(1, BOOT_ID)?;
    let manager = world.property(1, "tandem", "MainPID")?;
    // Its own would be quicker.
    world.shell(1, "systemctl service-watchdogs no")?;
    let begin = now();
    world.shell(1, &format!("kill -STOP {manager}"))?;
    for module in world.modules {
        world.asker(module.name)?.answered_by("a", SOON)?;
        let took = Duration::from_micros(now() - begin);
        println!("{}: the other node answers after {took:?}", module.name);
        ensure!(took > RESET, "not by the watchdog: {took:?}");
    }
    world.machines[1].wait_until("it has booted anew", SOON, || {
        let now = world.shell(1, BOOT_ID);
        Ok(now.is_ok_and(|now| now != boot))
    })?;
    world.is_up(1)?;
    for module in world.modules {
        world.in_sync(module.name, (0, 1))?;
    }
    Ok(())
}
