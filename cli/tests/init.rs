//! `tandem init` and `tandem join`: from two bare servers to a running module, and everybody whom a
//! token does not let in. In labs, whose nodes are bare, and on loopback.
#![allow(clippy::unwrap_used)]

mod support;

use std::fs;
use std::io::{BufRead, BufReader, Read};
use std::net::TcpListener;
use std::os::unix::fs::PermissionsExt;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Output, Stdio};
use std::sync::atomic::{AtomicU32, Ordering};
use std::time::{Duration, Instant};

use support::{Lab, tandem, wait_for};

/// What the issue promises.
const PROMISED: Duration = Duration::from_secs(5 * 60);

fn text(bytes: &[u8]) -> String {
    String::from_utf8_lossy(bytes).into_owned()
}

/// A program that runs while the test goes on; killed when dropped.
struct Running {
    child: Child,
    lines: BufReader<std::process::ChildStdout>,
}

impl Running {
    fn start(command: &mut Command) -> Self {
        command.stdout(Stdio::piped()).stderr(Stdio::piped());
        let mut child = command.stdin(Stdio::null()).spawn().unwrap();
        let lines = BufReader::new(child.stdout.take().unwrap());
        Self { child, lines }
    }

    /// The arguments of the `tandem join` that is shown.
    fn invitation(&mut self) -> Vec<String> {
        let mut all = String::new();
        loop {
            let mut line = String::new();
            if self.lines.read_line(&mut line).unwrap() == 0 {
                panic!("no invitation: {all}{}", self.errors());
            }
            if line.trim().starts_with("tandem join ") {
                return line.split_whitespace().skip(1).map(Into::into).collect();
            }
            all += &line;
        }
    }

    fn errors(&mut self) -> String {
        let mut errors = String::new();
        let _ = self.child.wait();
        let stderr = self.child.stderr.as_mut().unwrap();
        stderr.read_to_string(&mut errors).unwrap();
        errors
    }

    /// Waits for its end: the exit code, what else it printed, its errors.
    fn end(mut self) -> (Option<i32>, String, String) {
        let mut rest = String::new();
        self.lines.read_to_string(&mut rest).unwrap();
        let errors = self.errors();
        (self.child.wait().unwrap().code(), rest, errors)
    }
}

impl Drop for Running {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

/// Directories of two nodes on this machine, removed at the end. They speak over loopback.
struct Pair {
    root: PathBuf,
    /// Of the managers, and of joining.
    port: u16,
}

impl Pair {
    fn new() -> Self {
        static NEXT: AtomicU32 = AtomicU32::new(0);
        let number = NEXT.fetch_add(1, Ordering::Relaxed);
        let name = format!("tandem-init-{}-{number}", std::process::id());
        let root = std::env::temp_dir().join(name);
        fs::create_dir(&root).unwrap();
        let port = TcpListener::bind("127.0.0.1:0").unwrap();
        let port = port.local_addr().unwrap().port();
        Self { root, port }
    }

    fn path(&self, below: &str) -> PathBuf {
        self.root.join(below)
    }

    fn command(&self, node: &str, arguments: &[&str]) -> Command {
        let mut command = tandem(arguments);
        for (variable, name) in [("CONFIG", "etc"), ("STATE", "state"), ("RUN", "run")] {
            let directory = self.path(node).join(name);
            command.env(format!("TANDEM_{variable}_DIR"), directory);
        }
        command
    }

    fn run(&self, node: &str, arguments: &[&str]) -> Output {
        let mut command = self.command(node, arguments);
        command.stdin(Stdio::null()).output().unwrap()
    }

    fn refused(&self, node: &str, arguments: &[&str], why: &str) {
        let output = self.run(node, arguments);
        let errors = text(&output.stderr);
        assert_eq!(output.status.code(), Some(1), "{errors}");
        assert!(errors.contains(why), "{why}: {errors}");
    }

    /// Node a's configuration; without a port it could only be served at the usual one.
    fn init(&self) {
        let arguments = [
            "init",
            "--name",
            "shop",
            "--node",
            "a=127.0.0.1",
            "--node",
            "b=127.0.0.2",
            "--as",
            "a",
            "--directory",
            "/nowhere/shop",
            "--isolation",
            "wait",
            "--no-wait",
        ];
        // Another test may have the usual port just now; the files are written all the same.
        let _ = self.run("a", &arguments);
        assert!(self.path("a/etc/node.ron").exists());
    }

    fn serve(&self, more: &[&str]) -> Running {
        let port = self.port.to_string();
        let arguments = [&["join", "--serve", "--port", &port][..], more].concat();
        Running::start(&mut self.command("a", &arguments))
    }

    fn at(&self) -> String {
        format!("127.0.0.1:{}", self.port)
    }
}

impl Drop for Pair {
    fn drop(&mut self) {
        let _ = fs::remove_dir_all(&self.root);
    }
}

fn words(command: &[String]) -> Vec<&str> {
    command.iter().map(String::as_str).collect()
}

fn mode(path: &Path) -> u32 {
    path.metadata().unwrap().permissions().mode() & 0o777
}

#[test]
fn a_node_joins_with_the_token_and_its_key_never_travels() {
    let pair = Pair::new();
    pair.init();
    let mut host = pair.serve(&["--new-token"]);
    let join = host.invitation();
    assert_eq!(join[1], pair.at());
    let output = pair.run("b", &words(&join));
    assert!(output.status.success(), "{}", text(&output.stderr));
    let (code, rest, errors) = host.end();
    assert_eq!(code, Some(0), "{rest}{errors}");
    assert!(rest.contains("b has joined"), "{rest}");
    for node in ["a", "b"] {
        let checked = pair.run(node, &["config", "check"]);
        assert!(checked.status.success(), "{}", text(&checked.stderr));
        let words = format!("cluster shop, node {node}, module shop");
        assert!(text(&checked.stdout).contains(&words));
    }
    let same = |name: &str| {
        let [one, other] =
            ["a", "b"].map(|n| fs::read(pair.path(n).join("etc").join(name)).unwrap());
        one == other
    };
    assert!(same("cluster.ron") && same("modules/shop.ron") && same("pki/ca.pem"));
    assert!(!same("pki/node-key.pem") && !same("pki/node.pem"));
    assert_eq!(mode(&pair.path("a/etc/pki/ca-key.pem")), 0o600);
    assert_eq!(mode(&pair.path("b/etc/pki/node-key.pem")), 0o600);
    assert!(!pair.path("b/etc/pki/ca-key.pem").exists());
    assert!(!pair.path("a/state/join.json").exists());
}

#[test]
fn a_used_a_wrong_and_a_voided_token_are_refused() {
    let pair = Pair::new();
    pair.init();
    let mut host = pair.serve(&["--new-token"]);
    let join = host.invitation();
    assert!(pair.run("b", &words(&join)).status.success());
    assert_eq!(host.end().0, Some(0));

    // The same again, while the node waits for another: wrong, as the new one is another.
    let mut host = pair.serve(&[]);
    let next = host.invitation();
    assert_ne!(next[2], join[2]);
    pair.refused("c", &words(&join), "the token is wrong");
    // A mistake in the node's name costs nothing.
    pair.refused(
        "c",
        &["join", &next[1], &next[2], "--as", "d"],
        "no node `d`",
    );
    pair.refused(
        "c",
        &["join", &next[1], &next[2], "--as", "a"],
        "is the node that was asked",
    );
    for _ in 0..3 {
        pair.refused("c", &words(&join), "the token is wrong");
    }
    pair.refused("c", &words(&join), "there is none any more");
    let (code, _, errors) = host.end();
    assert_eq!(code, Some(1), "{errors}");
    assert!(errors.contains("5 wrong tokens were tried"), "{errors}");
    // Nothing was written by those who were refused.
    assert!(!pair.path("c/etc/node.ron").exists());
    let left: Vec<_> = fs::read_dir(pair.path("c")).into_iter().flatten().collect();
    assert!(left.is_empty(), "{left:?}");

    // After that also the right one is void.
    let host = pair.serve(&["--new-token"]);
    pair.refused("c", &words(&next), "the token is wrong");
    drop(host);
}

#[test]
fn a_stranger_who_answers_gets_nothing() {
    let pair = Pair::new();
    pair.init();
    let mut host = pair.serve(&["--new-token"]);
    let join = host.invitation();
    // The token of another cluster's authority.
    let (secret, fingerprint) = join[2].split_once('-').unwrap();
    let other = if fingerprint.starts_with('0') {
        "1"
    } else {
        "0"
    };
    let forged = format!("{secret}-{other}{}", &fingerprint[1..]);
    pair.refused(
        "b",
        &["join", &join[1], &forged, "--as", "b"],
        "is not the node that made this token",
    );
    // The secret was not sent: no wrong try is counted, and the token is still good.
    let kept = fs::read_to_string(pair.path("a/state/join.json")).unwrap();
    assert!(kept.contains("\"failures\":0"), "{kept}");
    assert!(!kept.contains(secret), "{kept}");
    assert!(pair.run("b", &words(&join)).status.success());
    assert_eq!(host.end().0, Some(0));
}

#[test]
fn an_expired_token_is_refused() {
    let pair = Pair::new();
    pair.init();
    let mut host = pair.serve(&["--new-token"]);
    let join = host.invitation();
    drop(host);
    // As if an hour had passed.
    let file = pair.path("a/state/join.json");
    let mut kept: serde_json::Value =
        serde_json::from_str(&fs::read_to_string(&file).unwrap()).unwrap();
    kept["until"] = 0.into();
    fs::write(&file, kept.to_string()).unwrap();
    // The node that serves again makes a new one, so the old one is wrong.
    let mut host = pair.serve(&[]);
    let next = host.invitation();
    pair.refused("b", &words(&join), "the token is wrong");
    // And one that ends while it is served ends the serving.
    fs::write(&file, kept.to_string()).unwrap();
    pair.refused("b", &words(&next), "the token");
    let (code, _, errors) = host.end();
    assert_eq!(code, Some(1), "{errors}");
}

#[test]
fn a_token_survives_the_end_of_the_command_that_showed_it() {
    let pair = Pair::new();
    pair.init();
    let mut host = pair.serve(&["--new-token"]);
    let join = host.invitation();
    drop(host);
    let mut host = pair.serve(&[]);
    let mut line = String::new();
    host.lines.read_line(&mut line).unwrap();
    assert!(line.contains("is good for"), "{line}");
    assert!(pair.run("b", &words(&join)).status.success());
    assert_eq!(host.end().0, Some(0));
}

#[test]
fn what_is_there_is_never_overwritten() {
    let pair = Pair::new();
    pair.init();
    let before = fs::read(pair.path("a/etc/pki/ca-key.pem")).unwrap();
    let again = ["init", "--name", "shop", "--no-wait"];
    pair.refused("a", &again, "exists already and is not overwritten");
    assert_eq!(fs::read(pair.path("a/etc/pki/ca-key.pem")).unwrap(), before);
    // Nor by joining; and then the token is not used up.
    let mut host = pair.serve(&["--new-token"]);
    let join = host.invitation();
    fs::create_dir_all(pair.path("b/etc")).unwrap();
    fs::write(pair.path("b/etc/cluster.ron"), "mine").unwrap();
    pair.refused("b", &words(&join), "exists already and is not overwritten");
    fs::remove_file(pair.path("b/etc/cluster.ron")).unwrap();
    assert!(pair.run("b", &words(&join)).status.success());
    assert_eq!(host.end().0, Some(0));
}

#[test]
fn without_a_terminal_what_is_missing_is_a_mistake_of_usage() {
    let pair = Pair::new();
    let output = pair.run("a", &["init", "--name", "shop"]);
    assert_eq!(output.status.code(), Some(2));
    let errors = text(&output.stderr);
    assert!(errors.contains("--node is missing"), "{errors}");
    assert!(!pair.path("a/etc").exists());
}

/// Directories of a node's own, below its disk: nothing that `lab up` made is used.
const OWN: [&str; 6] = [
    "--config-dir",
    "/mnt/disk/own/etc",
    "--state-dir",
    "/mnt/disk/own/state",
    "--run-dir",
    "/mnt/disk/own/run",
];

fn inside(lab: &Lab, node: &str, arguments: &[&str]) -> Command {
    let program = env!("CARGO_BIN_EXE_tandem");
    lab.exec(node, &[&[program][..], &OWN, arguments].concat())
}

fn done(lab: &Lab, node: &str, arguments: &[&str]) -> String {
    let output = inside(lab, node, arguments).output().unwrap();
    let errors = text(&output.stderr);
    assert!(output.status.success(), "{node}: {arguments:?}: {errors}");
    text(&output.stdout)
}

/// Whether the module of a node is in this state and Ready.
fn is_ready(lab: &Lab, node: &str, state: &str) -> bool {
    let output = inside(lab, node, &["status", "--json"]).output().unwrap();
    let shown = text(&output.stdout);
    shown.contains(&format!("\"state\":\"{state}\"")) && shown.contains("\"readiness\":\"ready\"")
}

#[test]
fn from_two_bare_servers_to_a_running_module_in_under_five_minutes() {
    let Some(lab) = Lab::up("bare", &[]) else {
        return;
    };
    // As an administrator gets them: a default route, an application's directory with data.
    for node in ["node1", "node2"] {
        lab.shell(
            node,
            "ip route add default via 10.77.0.254; mkdir /mnt/disk/app",
        );
    }
    lab.shell("node1", "echo precious > /mnt/disk/app/data");

    let began = Instant::now();
    let mut host = Running::start(&mut inside(
        &lab,
        "node1",
        &[
            "init",
            "--name",
            "shop",
            "--node",
            "node1=10.77.0.1",
            "--node",
            "node2=10.77.0.2",
            "--directory",
            "/mnt/disk/app",
            "--virtual-ip",
            "10.77.0.100",
        ],
    ));
    let join = host.invitation();
    assert_eq!(join[1], "10.77.0.1");
    assert_eq!(&join[3..], ["--as", "node2"]);
    done(&lab, "node2", &words(&join));
    let (code, rest, errors) = host.end();
    assert_eq!(code, Some(0), "{rest}{errors}");
    let joined = began.elapsed();
    // The policy that two machines can have by themselves is proposed, with the kernel's gateway.
    let module = lab.shell("node2", "cat /mnt/disk/own/etc/modules/shop.ron");
    assert!(module.contains("isolation: ping"), "{module}");
    assert!(module.contains("ping: [\"10.77.0.254\"]"), "{module}");
    assert!(module.contains("Only a witness"), "{module}");

    let managers = ["node1", "node2"].map(|node| {
        let mut manager = inside(&lab, node, &["failover"]);
        let log = fs::File::create(lab.path(&format!("{node}-manager.log"))).unwrap();
        manager.stdout(Stdio::null()).stderr(log);
        let child = manager.stdin(Stdio::null()).spawn().unwrap();
        Manager(child)
    });
    let status = |node| inside(&lab, node, &["status"]).output().unwrap();
    for node in ["node1", "node2"] {
        wait_for("the manager to answer", || status(node).status.success());
    }
    done(&lab, "node2", &["start", "shop"]);
    // A volume begins where both say that they have none: not before they have met.
    wait_for("the first volume", || {
        let prim = inside(&lab, "node1", &["prim", "shop"]).output().unwrap();
        prim.status.success()
    });
    wait_for("node1 to serve", || is_ready(&lab, "node1", "PRIM"));
    wait_for("node2 to follow", || is_ready(&lab, "node2", "SECOND"));
    lab.shell("node1", "echo new > /mnt/disk/app/more");
    let took = began.elapsed();
    assert_eq!(lab.shell("node2", "cat /mnt/disk/app/data"), "precious");
    assert_eq!(lab.shell("node2", "cat /mnt/disk/app/more"), "new");
    let addresses = lab.shell("node1", "ip -brief address");
    assert!(addresses.contains("10.77.0.100/24"), "{addresses}");
    println!("two bare servers to a running module: {took:?}, of which {joined:?} to the join");
    assert!(took < PROMISED, "{took:?}");

    // As its unit is stopped: the module leaves in order, and the other node serves.
    let [first, second] = managers;
    drop(first);
    wait_for("node2 to serve", || is_ready(&lab, "node2", "ALONE"));
    assert_eq!(lab.shell("node2", "cat /mnt/disk/app/more"), "new");
    let mounts = lab.shell("node1", "cat /proc/self/mounts");
    assert!(!mounts.contains("/mnt/disk/app"), "{mounts}");
    drop(second);
    for node in ["node1", "node2"] {
        fs::remove_file(lab.path(&format!("{node}-manager.log"))).unwrap();
    }
}

/// A manager in a node, ended in order.
struct Manager(Child);

impl Drop for Manager {
    fn drop(&mut self) {
        support::signal(self.0.id(), libc::SIGTERM);
        let _ = self.0.wait();
    }
}
