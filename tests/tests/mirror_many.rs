//! Many modules on one pair, and several pairs with one spare node: each is on its own (acceptance
//! row M33).

#![allow(
    clippy::unwrap_used,
    reason = "a failed set-up ends the test, with its line"
)]

use std::fs;
use std::sync::atomic::{AtomicBool, Ordering};
use std::thread;
use std::time::{Duration, Instant};
use tandem_failover::control::{ModuleStatus, Order};
use tandem_failover::logic::level::Role;
use tandem_repl::control::{Readiness, State};
use tandem_tests::managed::program::JOURNAL;
use tandem_tests::managed::scripts::application;
use tandem_tests::managed::{Options, REFERENCE, Service};
use tandem_tests::running::Running;
use tandem_tests::scratch::open_dir;
use tandem_tests::tree;

const MODULES: usize = 32;
const SOON: Duration = Duration::from_secs(60);
const PAUSE: Duration = Duration::from_millis(50);

fn service(test: &str) -> Option<Service> {
    let options = Options {
        no_roles: true,
        ..Options::default()
    };
    Service::up(test, env!("CARGO_BIN_EXE_inside"), &options)
}

/// Writes the file of one more module, and makes its directory, on both its nodes.
fn add(service: &Service, name: &str, port: usize, nodes: [&str; 2], more: &str) {
    let program = service.room.join("script");
    let dir = format!("/mnt/disk/{name}");
    let helper = env!("CARGO_BIN_EXE_inside");
    let program = program.to_str().unwrap();
    let scripts = application(&service.room, program, helper, &dir, |_| "30s").unwrap();
    let text = format!(
        "(mode: mirror, nodes: [\"{}\", \"{}\"], directories: [\"{dir}\"], port: {port},\n  \
         {scripts}  {more}\n)\n",
        nodes[0], nodes[1]
    );
    for node in nodes {
        let place = service.cluster.node_dir(node);
        fs::write(place.join(format!("etc/modules/{name}.ron")), &text).unwrap();
        fs::create_dir(place.join("disk").join(name)).unwrap();
    }
}

/// The nodes boot again, and their managers know all modules.
fn boot(service: &Service, nodes: &[&str]) {
    for node in nodes {
        service.cluster.lab("kill", &[node]).unwrap();
        service.cluster.lab("start", &[node]).unwrap();
    }
}

fn begin(service: &Service, module: &str, [prim, second]: [&str; 2]) {
    service.order(second, module, Order::Start).unwrap();
    let started = Instant::now();
    while let Err(e) = service.order(prim, module, Order::Prim { force: false }) {
        assert!(started.elapsed() < SOON, "{e:#}");
        thread::sleep(PAUSE);
    }
}

/// Waits until every module is as wished on a node.
fn all(service: &Service, node: &str, what: &str, holds: impl Fn(&ModuleStatus) -> bool) {
    let started = Instant::now();
    loop {
        let modules = service.manager(node).map(|m| m.modules);
        let modules = modules.unwrap_or_default();
        let mut missing = modules.iter().filter(|m| m.module != "data" && !holds(m));
        let first = missing.next();
        if first.is_none() && modules.len() > 1 {
            return;
        }
        assert!(started.elapsed() < SOON, "{node}: not {what}: {first:?}");
        thread::sleep(PAUSE);
    }
}

fn is(module: &ModuleStatus, state: State) -> bool {
    module.state == state && module.readiness == Readiness::Ready
}

fn name(index: usize) -> String {
    format!("m{index:02}")
}

/// Where a module is to serve: every second one on the second node.
fn nodes(index: usize) -> [&'static str; 2] {
    if index.is_multiple_of(2) {
        ["node1", "node2"]
    } else {
        ["node2", "node1"]
    }
}

/// Modules whose application runs as the serving one on a node.
fn serving(service: &Service, node: &str) -> Vec<String> {
    let modules = service.manager(node).map(|m| m.modules).unwrap_or_default();
    let serves = modules
        .into_iter()
        .filter(|m| m.running.role == Some(Role::Prim));
    serves.map(|m| m.module).collect()
}

/// Looks at both nodes until told to end: no application ever runs on both.
fn never_two(service: &Service, ended: &AtomicBool) -> usize {
    let mut looks = 0;
    while !ended.load(Ordering::Relaxed) {
        let before = serving(service, "node1");
        let other = serving(service, "node2");
        let after = serving(service, "node1");
        let both = |m: &&String| before.contains(m) && after.contains(m);
        let twice: Vec<_> = other.iter().filter(both).collect();
        assert!(twice.is_empty(), "both nodes serve {twice:?}");
        looks += 1;
        thread::sleep(PAUSE);
    }
    looks
}

fn journal(service: &Service, node: &str, module: &str) -> u64 {
    let path = service.cluster.node_dir(node).join("disk").join(module);
    fs::metadata(path.join(JOURNAL)).map_or(0, |m| m.len())
}

/// The application of every module on both nodes goes on, and its peer gets it.
fn all_work(service: &Service, but: Option<usize>) {
    let sizes = || (0..MODULES).map(|i| journal(service, nodes(i)[1], &name(i)));
    let before: Vec<u64> = sizes().collect();
    let started = Instant::now();
    loop {
        let idle = sizes().zip(&before).enumerate();
        let mut idle = idle.filter(|(i, (now, then))| Some(*i) != but && now <= then);
        let Some((first, _)) = idle.next() else {
            return;
        };
        assert!(started.elapsed() < SOON, "{} does not work", name(first));
        thread::sleep(PAUSE);
    }
}

#[test]
fn m33_thirty_two_modules_on_one_pair_are_independent() {
    let Some(service) = service("M33") else {
        return;
    };
    let policy = format!("isolation: ping, ping: [\"{REFERENCE}\"],");
    for index in 0..MODULES {
        let pair = ["node1", "node2"];
        add(&service, &name(index), 7500 + index, pair, &policy);
    }
    boot(&service, &["node1", "node2"]);
    let started = Instant::now();
    for index in 0..MODULES {
        begin(&service, &name(index), nodes(index));
    }
    let state = |node: &'static str| {
        move |m: &ModuleStatus| {
            let index: usize = m.module[1..].parse().unwrap();
            let serves = nodes(index)[0] == node;
            is(m, if serves { State::Prim } else { State::Second })
        }
    };
    all(&service, "node1", "in their roles", state("node1"));
    all(&service, "node2", "in their roles", state("node2"));
    println!(
        "M33: {MODULES} modules were up after {:?}",
        started.elapsed()
    );
    let ended = AtomicBool::new(false);
    thread::scope(|scope| {
        let looks = scope.spawn(|| never_two(&service, &ended));
        story(&service, state);
        ended.store(true, Ordering::Relaxed);
        assert!(looks.join().unwrap() > 10);
    });
    for index in 0..MODULES {
        // So that nothing is under way.
        let pid = service.room.join(format!("{}.node2.pid", name(index)));
        let pid = fs::read_to_string(pid).unwrap().trim().parse().unwrap();
        service.kill("node2", pid).unwrap();
    }
    for index in 0..MODULES {
        let dir = |node| {
            let path = service.cluster.node_dir(node).join("disk");
            open_dir(&path.join(name(index))).unwrap()
        };
        let options = tree::Options::replicas();
        let differ = || tree::report(&dir("node1"), &dir("node2"), &options).unwrap();
        let started = Instant::now();
        // Times follow a moment later.
        while !differ().is_empty() {
            let late = started.elapsed() > Duration::from_secs(5);
            assert!(!late, "{}: {}", name(index), differ());
            thread::sleep(PAUSE);
        }
    }
}

fn story<F: Fn(&ModuleStatus) -> bool>(service: &Service, state: impl Fn(&'static str) -> F) {
    all_work(service, None);
    // One fails; the others do not notice.
    let before = serving(service, "node1");
    let daemon = service
        .module_named("node1", "m00")
        .unwrap()
        .daemon
        .unwrap();
    service.kill("node1", daemon.pid).unwrap();
    all_work(service, Some(0));
    let mut after = serving(service, "node1");
    after.extend((!after.contains(&"m00".to_string())).then(|| "m00".to_string()));
    after.sort();
    assert_eq!(after, before);
    all(service, "node1", "up", |m| {
        is(m, State::Prim) || is(m, State::Second)
    });
    if serving(service, "node2").contains(&"m00".to_string()) {
        service.order("node2", "m00", Order::Swap).unwrap();
    }
    all(service, "node1", "in their roles", state("node1"));
    all(service, "node2", "in their roles", state("node2"));
    // A node fails; the other serves all.
    let started = Instant::now();
    service.cluster.lab("kill", &["node1"]).unwrap();
    all(service, "node2", "alone", |m| is(m, State::Alone));
    println!("M33: node2 served all after {:?}", started.elapsed());
    assert!(started.elapsed() < Duration::from_secs(20));
    service.cluster.lab("start", &["node1"]).unwrap();
    all(service, "node1", "following", |m| is(m, State::Second));
    all(service, "node2", "serving", |m| is(m, State::Prim));
}

#[test]
fn m33_two_mirrors_share_one_spare() {
    let Some(service) = service("M33, spare") else {
        return;
    };
    let keys = |address: &str| format!("isolation: alone, virtual_ips: [\"{address}\"],");
    let one = ("one", ["node1", "node3"], "10.77.0.101");
    let two = ("two", ["node2", "node3"], "10.77.0.102");
    for (index, (module, nodes, address)) in [one, two].into_iter().enumerate() {
        add(&service, module, 7500 + index, nodes, &keys(address));
    }
    boot(&service, &["node1", "node2"]);
    let spare = service.cluster.tandem_command("node3", &["failover"]);
    let spare = spare.unwrap();
    let log = service.room.join("spare.log");
    let _spare = Running::start(spare, &log).unwrap();
    let started = Instant::now();
    while service.manager("node3").is_err() {
        assert!(started.elapsed() < SOON, "the spare's manager does not run");
        thread::sleep(PAUSE);
    }
    let until = |node: &str, module: &str, state: State| {
        let started = Instant::now();
        loop {
            let found = service.module_named(node, module);
            if found.as_ref().is_ok_and(|m| is(m, state)) {
                return;
            }
            assert!(started.elapsed() < SOON, "{node}: {found:?}");
            thread::sleep(PAUSE);
        }
    };
    let holds = |node: &str, address: &str| {
        let list = service.cluster.exec(node, &["ip", "-4", "addr", "show"]);
        list.is_ok_and(|list| list.contains(&format!("inet {address}/")))
    };
    for (module, [prim, second], address) in [one, two] {
        begin(&service, module, [prim, second]);
        until(prim, module, State::Prim);
        until(second, module, State::Second);
        assert!(holds(prim, address) && !holds(second, address));
    }
    // One mirror's node fails, then the other's: the spare serves both.
    service.cluster.lab("kill", &["node1"]).unwrap();
    until("node3", "one", State::Alone);
    until("node3", "two", State::Second);
    until("node2", "two", State::Prim);
    assert!(holds("node3", one.2) && !holds("node3", two.2));
    service.cluster.lab("kill", &["node2"]).unwrap();
    until("node3", "two", State::Alone);
    until("node3", "one", State::Alone);
    assert!(holds("node3", one.2) && holds("node3", two.2));
    // And gives one of them back.
    service.cluster.lab("start", &["node1"]).unwrap();
    until("node1", "one", State::Second);
    service.order("node3", "one", Order::Swap).unwrap();
    until("node1", "one", State::Prim);
    until("node3", "one", State::Second);
    assert!(holds("node1", one.2) && !holds("node3", one.2));
    assert!(holds("node3", two.2));
}
