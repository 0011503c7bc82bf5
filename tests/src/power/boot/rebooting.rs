//! M30: the serving node reboots. What ran before runs again, with `boot: on` everything does, and
//! with `boot: off` nothing.

use super::leaving::AT_ONCE;
use super::world::{SOON, World};
use crate::managed::program::now;
use anyhow::{Result, ensure};
use tandem_repl::control::State;

const BOOT_ID: &str = "cat /proc/sys/kernel/random/boot_id";

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
    world.machines[0].wait_until("it has booted anew", SOON, || {
        let now = world.shell(0, BOOT_ID);
        Ok(now.is_ok_and(|now| now != boot))
    })?;
    world.is_up(0)?;

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
    Ok(())
}
