//! M24 and M23 below systemd: the manager of the serving node is killed, and hangs; daemons are
//! killed that the manager of now has not started; memory runs out for a process of its unit.

use super::world::{SOON, World};
use crate::managed::program::now;
use anyhow::{Context, Result, ensure};
use std::time::Duration;
use tandem_repl::control::State;

/// `WatchdogSec` of the unit.
const WATCHDOG: Duration = Duration::from_secs(10);
/// An application that nobody touches answers at least so often; guests are slow. One that is
/// started anew is another process, which is looked at, too.
const UNTOUCHED: Duration = Duration::from_secs(3);

const OUT_OF_MEMORY: &str =
    "tandem.service: A process of this unit has been killed by the OOM killer.";

/// The story.
pub fn dies_and_hangs(world: &mut World) -> Result<()> {
    untouched(world, "killed", |world| {
        let took = starts_anew(world, "KILL", 1)?;
        println!("killed: systemd has started it anew after {took:?}");
        Ok(())
    })?;
    untouched(world, "stuck", |world| {
        let took = starts_anew(world, "STOP", 2)?;
        println!("stuck: systemd has started it anew after {took:?}");
        ensure!(took > WATCHDOG / 2, "not by the watchdog");
        let said = world.machines[0].said()?;
        ensure!(said.contains("tandem.service: Watchdog timeout"), "{said}");
        Ok(())
    })?;
    for module in world.modules {
        a_daemon_dies(world, module.name)?;
    }
    memory_runs_out(world)
}

/// Sends a signal to the manager; how long until another one shows what this one did.
fn starts_anew(world: &World, signal: &str, restarts: u32) -> Result<Duration> {
    let old = world.property(0, "tandem", "MainPID")?;
    let begin = now();
    world.shell(0, &format!("kill -{signal} {old}"))?;
    world.machines[0].wait_until("systemd has started it anew", SOON, || {
        let count = world.property(0, "tandem", "NRestarts")?;
        let state = world.property(0, "tandem", "ActiveState")?;
        Ok(count == restarts.to_string() && state == "active")
    })?;
    let took = Duration::from_micros(now() - begin);
    for module in world.modules {
        world.in_sync(module.name, (0, 1))?;
    }
    ensure!(world.property(0, "tandem", "MainPID")? != old);
    Ok(took)
}

/// Applications that scripts start are in the manager's unit. One of their processes takes all the
/// memory the unit may have, and the kernel kills it.
fn memory_runs_out(world: &World) -> Result<()> {
    let unit = "/sys/fs/cgroup/system.slice/tandem.service";
    let manager = world.property(0, "tandem", "MainPID")?;
    let limit = format!("echo $(($(cat {unit}/memory.current) + 32000000)) >{unit}/memory.max");
    world.shell(0, &limit)?;
    let takes_all = format!(
        "echo $$ >{unit}/cgroup.procs && echo 1000 >/proc/self/oom_score_adj && \
         exec tail /dev/zero"
    );
    let words = ["/bin/sh", "-c", &takes_all];
    let ended = world.machines[0].remote().try_run(&words, b"", true)?;
    world.shell(0, &format!("echo max >{unit}/memory.max"))?;
    // By a signal.
    ensure!(ended.0 == -1, "it was not killed: {ended:?}");
    world.machines[0].wait_until("systemd has noticed", SOON, || {
        Ok(world.machines[0].said()?.contains(OUT_OF_MEMORY))
    })?;
    // Time for whatever systemd makes of it.
    std::thread::sleep(Duration::from_secs(2));
    ensure!(world.property(0, "tandem", "MainPID")? == manager);
    ensure!(world.property(0, "tandem", "NRestarts")? == "2");
    ensure!(world.property(0, "tandem", "ActiveState")? == "active");
    // The limit made daemons wait for their own pages, perhaps for longer than a peer does.
    for module in world.modules {
        world.in_sync(module.name, (0, 1))?;
        world.asker(module.name)?.answered_by("a", SOON)?;
    }
    Ok(())
}

/// Applications, mounts and addresses are after it what they were before.
fn untouched(world: &World, what: &str, happens: impl FnOnce(&World) -> Result<()>) -> Result<()> {
    let look = || -> Result<Vec<String>> {
        let mut seen = Vec::new();
        for module in world.modules {
            let (directory, address) = (module.directory(), module.address());
            // The number of the mount is the first word.
            seen.push(world.shell(0, &format!("grep ' {directory} ' /proc/self/mountinfo"))?);
            seen.push(world.shell(0, &format!("ip -o address | grep ' {address}/'"))?);
        }
        Ok(seen)
    };
    let before = look()?;
    let begin = now();
    happens(world)?;
    ensure!(look()? == before, "{what}: {before:?}, then {:?}", look()?);
    for module in world.modules {
        world.asker(module.name)?.answered_by("a", SOON)?;
        let heard = world.asker(module.name)?.heard()?;
        let (servers, pause) = (heard.servers(begin), heard.longest_pause(begin));
        println!("{}: {what}: the longest pause was {pause:?}", module.name);
        ensure!(servers.len() == 1, "{}: {what}: {servers:?}", module.name);
        ensure!(pause < UNTOUCHED, "{}: {what}: {pause:?}", module.name);
    }
    Ok(())
}

/// The service continues within seconds, on whichever node.
fn a_daemon_dies(world: &World, name: &str) -> Result<()> {
    let daemon = world.module(0, name)?.daemon.context("a daemon")?;
    let begin = now();
    world.shell(0, &format!("kill -KILL {}", daemon.pid))?;
    let old = daemon.pid;
    world.machines[0].wait_until("there is another daemon", SOON, || {
        let shown = world.module(0, name).ok().and_then(|m| m.daemon);
        Ok(shown.is_some_and(|daemon| daemon.pid != old))
    })?;
    let serves = [0, 1].map(|node| world.module(node, name).map(|m| m.state));
    let on_a = !matches!(serves[1], Ok(State::Alone | State::Prim));
    let (roles, node) = if on_a { ((0, 1), "a") } else { ((1, 0), "b") };
    world.in_sync(name, roles)?;
    world.asker(name)?.answered_by(node, SOON)?;
    let pause = world.asker(name)?.heard()?.longest_pause(begin);
    println!("{name}: its daemon killed, served by {node}; nobody answered for {pause:?}");
    ensure!(pause < Duration::from_secs(10), "{name}: {pause:?}");
    Ok(())
}
