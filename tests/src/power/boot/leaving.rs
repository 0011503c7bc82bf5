//! M08: the operating system of the serving node is shut down. It hands its modules over while its
//! network is still there, and is SECOND after it has booted.

use super::installed::NETWORK_ENDS;
use super::world::{SOON, World};
use crate::managed::program::now;
use anyhow::{Context, Result, ensure};
use std::time::Duration;
use tandem_repl::control::State;

/// A silent peer is known after the stall limit of 10 s, and its promise is over after 7.5 s at
/// the earliest: nothing of that is waited for in here.
pub const AT_ONCE: Duration = Duration::from_secs(5);
/// What the manager says, and what systemd says of it.
const TOLD: &str = "told to end: the modules are stopped in order";
const ENDED: &str = "tandem.service: Deactivated successfully.";
/// What systemd says of a unit that did not do as it was told.
const VIOLENCE: [&str; 4] = [
    "timed out",
    "with signal SIGKILL",
    "Failed with result",
    "core-dump",
];

/// The story.
pub fn shutdown(world: &mut World) -> Result<()> {
    let lost = |world: &World| {
        world.machines[0]
            .drives
            .each_ref()
            .map(|d| d.disk().counters.lost)
    };
    let before = lost(world);
    let begin = now();
    world.shell(0, "systemctl --no-block poweroff")?;
    for module in world.modules {
        world.asker(module.name)?.answered_by("b", SOON)?;
        world.shows(1, module.name, State::Alone)?;
        let pause = world.asker(module.name)?.heard()?.longest_pause(begin);
        println!("{}: nobody answered for {pause:?}", module.name);
        ensure!(pause < AT_ONCE, "{}: {pause:?}", module.name);
    }
    world.machines[0].ends(SOON)?;
    println!("off after {:?}", Duration::from_micros(now() - begin));
    ended_in_order(&world.machines[0].said()?)?;
    ensure!(lost(world) == before, "its disks had not been flushed");

    let begin = now();
    world.machines[0].switch_on()?;
    world.is_up(0)?;
    for module in world.modules {
        world.in_sync(module.name, (1, 0))?;
        let heard = world.asker(module.name)?.heard()?;
        let (servers, pause) = (heard.servers(begin), heard.longest_pause(begin));
        println!("{}: back; the longest pause was {pause:?}", module.name);
        ensure!(
            matches!(&servers[..], [(node, _)] if node == "b"),
            "{}: {servers:?}",
            module.name
        );
    }
    Ok(())
}

/// The last time: the modules, then the manager, then its network; and nobody had to be forced.
pub fn ended_in_order(said: &str) -> Result<()> {
    let place = |what: &str| {
        said.rfind(what)
            .with_context(|| format!("nobody said {what:?}"))
    };
    let (told, ended, network) = (place(TOLD)?, place(ENDED)?, place(NETWORK_ENDS)?);
    ensure!(
        told < ended && ended < network,
        "the network went at {network}, the manager at {ended}"
    );
    let forced = said
        .lines()
        .find(|l| VIOLENCE.iter().any(|w| l.contains(w)));
    ensure!(forced.is_none(), "{forced:?}");
    Ok(())
}
