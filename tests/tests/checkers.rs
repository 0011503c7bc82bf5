//! What follows when a checker finds something down (C01 to C07). Units of systemd are the subject
//! of `failover/tests/services.rs`: the nodes of a lab have none.

#![allow(
    clippy::unwrap_used,
    reason = "a failed set-up ends the test, with its line"
)]

use std::fs::{self, File};
use std::path::PathBuf;
use std::time::{Duration, Instant};
use tandem_tests::managed_world::{SOON, World, notes};
use tandem_tests::running::{Running, scratch_dir};

/// Looks often, and believes the first one: the tests wait for it.
const OFTEN: &str = "interval: \"200ms\", timeout: \"1s\", failures: 1";

fn world(test: &str, more: &[&str], checkers: &str) -> Option<World> {
    let keys = format!("max_restarts: 0, checkers: [{checkers}],");
    World::up(test, env!("CARGO_BIN_EXE_inside"), more, &keys)
}

/// Files that tell checkers what to find.
struct Flags(PathBuf);

impl Flags {
    fn new() -> Self {
        Self(scratch_dir("flags").unwrap())
    }

    /// A checker that is down while the flag of this name and of its node is raised.
    fn checker(&self, name: &str, reaction: &str) -> String {
        let test = format!(
            "! test -e {}/{name}-$$(uname -n) || exit 9",
            self.0.display()
        );
        let command = format!("[\"/bin/sh\", \"-c\", \"echo {name} is unwell; {test}\"]");
        format!("(name: \"{name}\", command: {command}, {OFTEN}, on_failure: {reaction}),")
    }

    fn raise(&self, name: &str, node: &str) {
        File::create(self.0.join(format!("{name}-{node}"))).unwrap();
    }

    fn lower(&self, name: &str, node: &str) {
        fs::remove_file(self.0.join(format!("{name}-{node}"))).unwrap();
    }
}

impl Drop for Flags {
    fn drop(&mut self) {
        fs::remove_dir_all(&self.0).ok();
    }
}

/// How often the application was started on a node.
fn starts(world: &World, node: &str) -> usize {
    let events = notes::events(world.notes()).unwrap();
    let started = |e: &&notes::Event| e.what == "started" && e.node == node;
    events.iter().filter(started).count()
}

fn until(what: &str, holds: impl Fn() -> bool) {
    let started = Instant::now();
    while !holds() {
        assert!(started.elapsed() < SOON, "not within {SOON:?}: {what}");
        std::thread::sleep(Duration::from_millis(20));
    }
}

fn kill_the_application(world: &World, node: &str) {
    let script = "for p in /proc/[0-9]*; do if tr '\\0' ' ' <$p/cmdline 2>/dev/null \
         | grep -q 'application[ ]serve /'; then kill -KILL ${p#/proc/}; fi; done";
    world.exec(node, &["sh", "-c", script]).unwrap();
}

fn ends_well(world: &mut World, prim: &str, second: &str) {
    world.is_settled(prim, second, SOON).unwrap();
    world.is_answered_by(prim, SOON).unwrap();
    world.ends_well(prim).unwrap();
    world.everything_is_found(second, &[]).unwrap();
}

#[test]
fn c01_a_process_that_is_gone_is_started_again_in_place() {
    let flags = Flags::new();
    let touched = flags.0.join("touched");
    let run = format!("[\"/bin/touch\", \"{}\"]", touched.display());
    let checkers = format!(
        "(name: \"application\", process: \"inside\", arguments: \"application serve\", {OFTEN}, \
         on_failure: restart), \
         (name: \"many\", process: \"sleep\", arguments: \"^987$$\", at_least: 0, \
         at_most: 1, {OFTEN}, on_failure: run, run: {run}),"
    );
    let Some(mut world) = world("C01", &[], &checkers) else {
        return;
    };
    kill_the_application(&world, "node1");
    until("it runs again", || starts(&world, "node1") == 2);
    world.is_settled("node1", "node2", SOON).unwrap();
    let sleep = || {
        let command = world.exec_command("node1", &[], &["sleep", "987"]);
        Running::start(command, &flags.0.join("output")).unwrap()
    };
    let one = sleep();
    std::thread::sleep(Duration::from_secs(1));
    assert!(!touched.exists(), "one is not too many");
    let two = sleep();
    until("the own command ran", || touched.exists());
    drop((one, two));
    ends_well(&mut world, "node1", "node2");
    assert_eq!((starts(&world, "node1"), starts(&world, "node2")), (2, 0));
}

#[test]
fn c01_a_process_that_is_gone_moves_the_application() {
    let checkers = format!(
        "(name: \"application\", process: \"inside\", arguments: \"application serve\", {OFTEN}, \
         on_failure: stopstart),"
    );
    let Some(mut world) = world("C01, stopstart", &[], &checkers) else {
        return;
    };
    kill_the_application(&world, "node1");
    world.is_answered_by("node2", SOON).unwrap();
    ends_well(&mut world, "node2", "node1");
}

#[test]
fn c02_an_application_that_does_not_answer_is_restarted_or_moved() {
    let checkers = format!(
        "(name: \"port\", tcp: \"127.0.0.1:7500\", {OFTEN}, on_failure: restart), \
         (name: \"web\", http: \"http://127.0.0.1:7500/\", interval: \"200ms\", timeout: \"1s\", \
         failures: 3, on_failure: stopstart),"
    );
    let Some(mut world) = world("C02", &[], &checkers) else {
        return;
    };
    kill_the_application(&world, "node1");
    until("it runs again", || starts(&world, "node1") == 2);
    world.is_settled("node1", "node2", SOON).unwrap();
    File::create(world.notes().join("node1-2/unwell")).unwrap();
    world.is_answered_by("node2", SOON).unwrap();
    ends_well(&mut world, "node2", "node1");
    assert_eq!((starts(&world, "node1"), starts(&world, "node2")), (2, 1));
}

#[test]
fn c03_what_is_needed_outside_is_waited_for_and_the_other_node_serves() {
    let checkers = format!(
        "(name: \"gateway\", ping: \"10.77.0.3\", {OFTEN}, on_failure: wait), \
         (name: \"directory\", tcp: \"10.77.0.3:7700\", {OFTEN}, on_failure: wait),"
    );
    let inside = env!("CARGO_BIN_EXE_inside");
    let flags = Flags::new();
    // Without the service outside it does not come up, so that is started first.
    let keys = ["--no-roles"];
    let Some(mut world) = World::begin("C03", inside, &keys, &checkers_key(&checkers)) else {
        return;
    };
    for node in ["node2", "node1"] {
        world.tandem(node, &["start"]).unwrap();
    }
    world.says("node1", "checker directory", SOON).unwrap();
    let listen = world.exec_command("node3", &[], &[inside, "application", "listen", "7700"]);
    let listening = Running::start(listen, &flags.0.join("output")).unwrap();
    world.begins().unwrap();
    world.lab("cut", &["node1", "node3"]).unwrap();
    world.is_answered_by("node2", SOON).unwrap();
    world.says("node1", "checker", SOON).unwrap();
    world.is_in("node1", "WAIT", SOON).unwrap();
    world.lab("heal", &[]).unwrap();
    world.is_settled("node2", "node1", SOON).unwrap();
    // Down everywhere: the last one goes on.
    drop(listening);
    world.says("node1", "checker directory", SOON).unwrap();
    world.is_in("node2", "ALONE", SOON).unwrap();
    let listen = world.exec_command("node3", &[], &[inside, "application", "listen", "7700"]);
    let _listening = Running::start(listen, &flags.0.join("output")).unwrap();
    ends_well(&mut world, "node2", "node1");
}

fn checkers_key(checkers: &str) -> String {
    format!("max_restarts: 0, checkers: [{checkers}],")
}

#[test]
fn c04_an_interface_that_is_down_and_an_address_that_is_gone() {
    let checkers = format!(
        "(name: \"card\", interface: \"eth0\", {OFTEN}, on_failure: wait), \
         (name: \"address\", virtual_ip: true, {OFTEN}, on_failure: stopstart),"
    );
    let Some(mut world) = world("C04", &["--networks", "2"], &checkers) else {
        return;
    };
    let link = |to: &str| {
        world
            .exec("node1", &["ip", "link", "set", "eth0", to])
            .unwrap()
    };
    link("down");
    world.is_answered_by("node2", SOON).unwrap();
    world.says("node1", "checker card", SOON).unwrap();
    link("up");
    world.is_settled("node2", "node1", SOON).unwrap();
    let gone = ["ip", "address", "del", "10.77.0.100/24", "dev", "eth0"];
    world.exec("node2", &gone).unwrap();
    world.is_answered_by("node2", SOON).unwrap();
    until("it is there again", || world.eyes().has("node2"));
    ends_well(&mut world, "node2", "node1");
}

#[test]
fn c05_an_own_command_and_every_reaction() {
    let flags = Flags::new();
    let ran = flags.0.join("ran");
    let run = format!("run, run: [\"/bin/touch\", \"{}\"]", ran.display());
    let slow = "(name: \"slow\", command: [\"/bin/sleep\", \"60\"], interval: \"200ms\", \
         timeout: \"500ms\", failures: 2, when: second, on_failure: run, run: [\"/bin/true\"]),";
    let mut checkers: String = [
        ("restarts", "restart"),
        ("moves", "stopstart"),
        ("waits", "wait"),
        ("swaps", "swap"),
        ("stops", "stop"),
        ("runs", &run),
    ]
    .map(|(name, reaction)| flags.checker(name, reaction))
    .concat();
    checkers.push_str(slow);
    let Some(mut world) = world("C05", &[], &checkers) else {
        return;
    };
    // Exit code, output and timeout are told.
    until("the slow one is down", || {
        let module = world.module("node2").unwrap();
        let mut checkers = module["checkers"].as_array().unwrap().iter();
        let slow = checkers.find(|c| c["name"] == "slow").unwrap();
        slow["up"] == false && slow["detail"].to_string().contains("500 ms")
    });
    flags.raise("runs", "node1");
    until("the own command ran", || ran.exists());
    let status = world.tandem("node1", &["status"]).unwrap();
    assert!(
        status.contains("runs is unwell") && status.contains('9'),
        "{status}"
    );
    flags.lower("runs", "node1");
    flags.raise("restarts", "node1");
    until("it runs again", || starts(&world, "node1") == 2);
    flags.lower("restarts", "node1");
    world.is_settled("node1", "node2", SOON).unwrap();
    flags.raise("swaps", "node1");
    world.is_settled("node2", "node1", SOON).unwrap();
    flags.lower("swaps", "node1");
    flags.raise("moves", "node2");
    world.is_settled("node1", "node2", SOON).unwrap();
    flags.lower("moves", "node2");
    flags.raise("waits", "node1");
    world.says("node1", "waits is unwell", SOON).unwrap();
    world.is_answered_by("node2", SOON).unwrap();
    flags.lower("waits", "node1");
    world.is_settled("node2", "node1", SOON).unwrap();
    flags.raise("stops", "node2");
    world.is_answered_by("node1", SOON).unwrap();
    world.says("node2", "stops is unwell", SOON).unwrap();
    let stopped = world.module("node2").unwrap();
    assert_eq!(stopped["wants"]["started"], false, "{stopped}");
    flags.lower("stops", "node2");
    world.tandem("node2", &["start"]).unwrap();
    ends_well(&mut world, "node1", "node2");
}

/// Two more modules beside the lab's, which look at it: they are there after the next boot.
fn two_more_modules(world: &World) {
    for (number, (name, reaction)) in [("waits", "wait"), ("again", "stopstart")]
        .iter()
        .enumerate()
    {
        let port = 7420 + number;
        let text = format!(
            "(mode: mirror, nodes: [\"node1\", \"node2\"], directories: [\"/mnt/disk/{name}\"], \
             port: {port}, max_restarts: 0, checkers: [(name: \"data\", module: \"data\", \
             when: {}, {OFTEN}, on_failure: {reaction})])\n",
            if *name == "waits" { "started" } else { "prim" }
        );
        for node in ["node1", "node2"] {
            let dir = world.node_dir(node);
            fs::create_dir(dir.join("disk").join(name)).unwrap();
            fs::write(dir.join("etc/modules").join(format!("{name}.ron")), &text).unwrap();
        }
    }
    for node in ["node2", "node1"] {
        world.power_off(node).unwrap();
    }
    for node in ["node1", "node2"] {
        world.power_on(node).unwrap();
    }
    world.is_settled("node1", "node2", SOON).unwrap();
}

#[test]
fn c06_a_module_follows_another_one() {
    let Some(mut world) = world("C06", &[], "") else {
        return;
    };
    two_more_modules(&world);
    let is = |node: &str, name: &str, state: &str| {
        let module = world.module_named(node, name).unwrap();
        module["state"] == state && module["readiness"] == "Ready"
    };
    for name in ["waits", "again"] {
        world.tandem("node2", &["start", name]).unwrap();
        until("the word is heard", || {
            world.tandem("node1", &["prim", name]).is_ok()
        });
        until(name, || {
            is("node1", name, "PRIM") && is("node2", name, "SECOND")
        });
    }
    let log = |node: &str, words: &str| {
        let log = world.tandem(node, &["log", "again"]).unwrap();
        log.matches(words).count()
    };
    // What it stands on is restarted, so it is, too.
    world.tandem("node1", &["restart", "data"]).unwrap();
    until("it was started again", || {
        log("node1", "stopstart begins") == 1
    });
    until("again serves", || {
        is("node1", "again", "PRIM") || is("node2", "again", "PRIM")
    });
    // What it stands on is not there, so it waits, and wakes up by itself.
    world.tandem("node1", &["stop", "data"]).unwrap();
    until("it waits", || {
        let module = world.module_named("node1", "waits").unwrap();
        module["state"] == "WAIT" && module["reason"]["reason"].to_string().contains("data")
    });
    until("the other serves", || is("node2", "waits", "ALONE"));
    world.tandem("node1", &["start", "data"]).unwrap();
    until("it woke up", || {
        is("node1", "waits", "SECOND") && is("node2", "waits", "PRIM")
    });
    ends_well(&mut world, "node2", "node1");
}

#[test]
fn c07_what_fails_everywhere_does_not_take_the_last_node_down() {
    let flags = Flags::new();
    let Some(mut world) = world("C07", &[], &flags.checker("shared", "wait")) else {
        return;
    };
    for _ in 0..3 {
        let before = starts(&world, "node1");
        // Both find it at nearly the same time.
        for node in ["node1", "node2"] {
            flags.raise("shared", node);
        }
        world.says("node2", "shared is unwell", SOON).unwrap();
        let until = Instant::now() + Duration::from_secs(3);
        while Instant::now() < until {
            let node1 = world.node("node1").unwrap();
            assert!(matches!(&*node1.state, "PRIM" | "ALONE"), "{node1:?}");
            std::thread::sleep(Duration::from_millis(50));
        }
        world.is_answered_by("node1", SOON).unwrap();
        assert_eq!(starts(&world, "node1"), before, "it was never stopped");
        for node in ["node1", "node2"] {
            flags.lower("shared", node);
        }
        world.is_settled("node1", "node2", SOON).unwrap();
    }
    ends_well(&mut world, "node1", "node2");
}
