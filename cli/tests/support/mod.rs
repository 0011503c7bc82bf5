//! A lab under test: made in a directory of its own, removed and checked for remains in the end.

#![allow(clippy::unwrap_used)]
#![allow(dead_code, reason = "each test program uses its part")]

pub(crate) mod third;

pub(crate) mod setup;

use std::fs;
use std::io::{BufRead, BufReader, Read, Write};
use std::net::{SocketAddr, TcpListener, TcpStream};
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Output, Stdio};
use std::time::{Duration, Instant};

const PORT: u16 = 7777;
const GREETING: &[u8] = b"hello";
/// Long enough for a lost packet to be sent again.
const REACH_LIMIT: Duration = Duration::from_millis(1500);
const WAIT_LIMIT: Duration = Duration::from_secs(10);

pub(crate) fn is_root() -> bool {
    // SAFETY: takes nothing and cannot fail.
    let root = unsafe { libc::geteuid() == 0 };
    if !root {
        eprintln!("not root: skipped");
    }
    root
}

pub(crate) fn tandem(arguments: &[&str]) -> Command {
    let mut command = Command::new(env!("CARGO_BIN_EXE_tandem"));
    command.args(arguments);
    command
}

pub(crate) fn signal(pid: u32, signal: i32) {
    // SAFETY: takes numbers only.
    unsafe { libc::kill(libc::pid_t::try_from(pid).unwrap(), signal) };
}

pub(crate) fn wait_for(what: &str, mut done: impl FnMut() -> bool) {
    let start = Instant::now();
    while !done() {
        assert!(
            start.elapsed() < WAIT_LIMIT,
            "waited {WAIT_LIMIT:?} for {what}"
        );
        std::thread::sleep(Duration::from_millis(10));
    }
}

/// The first line a child prints.
pub(crate) fn read_line(child: &mut Child) -> String {
    let mut line = String::new();
    BufReader::new(child.stdout.as_mut().unwrap())
        .read_line(&mut line)
        .unwrap();
    line
}

pub(crate) struct Lab {
    name: String,
    dir: PathBuf,
}

impl Lab {
    /// A name and a directory for a lab; nothing is made.
    pub(crate) fn new(test: &str) -> Self {
        let name = format!("{test}-{}", std::process::id());
        let dir = std::env::temp_dir().join(format!("tandem-lab-{name}"));
        Self { name, dir }
    }

    /// A lab without daemons. `None` without root.
    pub(crate) fn up(test: &str, options: &[&str]) -> Option<Self> {
        if !is_root() {
            return None;
        }
        let lab = Self::new(test);
        let output = lab
            .command(&["up", "--no-daemons"])
            .args(options)
            .output()
            .unwrap();
        assert!(
            output.status.success(),
            "{}",
            String::from_utf8_lossy(&output.stderr)
        );
        Some(lab)
    }

    pub(crate) fn path(&self, below: &str) -> PathBuf {
        self.dir.join(below)
    }

    /// `tandem lab SUBCOMMAND` for this lab.
    pub(crate) fn command(&self, arguments: &[&str]) -> Command {
        let mut command = tandem(&["lab", arguments[0], "--name", &self.name, "--dir"]);
        command.arg(&self.dir).args(&arguments[1..]);
        command
    }

    pub(crate) fn try_run(&self, arguments: &[&str]) -> Output {
        self.command(arguments).output().unwrap()
    }

    pub(crate) fn run(&self, arguments: &[&str]) -> Vec<u8> {
        let output = self.try_run(arguments);
        let errors = String::from_utf8_lossy(&output.stderr);
        assert!(output.status.success(), "lab {arguments:?}: {errors}");
        output.stdout
    }

    pub(crate) fn exec(&self, node: &str, program: &[&str]) -> Command {
        let mut command = self.command(&["exec", node, "--"]);
        command.args(program);
        command
    }

    /// What a shell command prints inside a node.
    pub(crate) fn shell(&self, node: &str, script: &str) -> String {
        let output = self.exec(node, &["sh", "-c", script]).output().unwrap();
        let errors = String::from_utf8_lossy(&output.stderr);
        assert!(output.status.success(), "{node}: {script}: {errors}");
        String::from_utf8(output.stdout)
            .unwrap()
            .trim_end()
            .to_owned()
    }

    pub(crate) fn status(&self, node: &str) -> serde_json::Value {
        let status: serde_json::Value =
            serde_json::from_slice(&self.run(&["status", "--json"])).unwrap();
        let nodes = status["nodes"].as_array().unwrap();
        nodes
            .iter()
            .find(|found| found["name"] == node)
            .unwrap()
            .clone()
    }

    /// Whether a connection from a node to a server that [`listen`] started gets an answer.
    pub(crate) fn reaches(&self, from: &str, address: &str) -> bool {
        self.helper(from, &format!("{address}:{PORT}"))
            .status()
            .unwrap()
            .success()
    }

    /// This test program inside a node, in the role `role`.
    fn helper(&self, node: &str, role: &str) -> Command {
        let this = std::env::current_exe().unwrap();
        let role = format!("LAB_TEST_HELPER={role}");
        let mut command = self.command(&["exec", "--env", &role, node, "--"]);
        command
            .arg(this)
            .args(["--exact", "helper", "--nocapture"])
            .stdout(Stdio::piped());
        command
    }

    pub(crate) fn down(&self) {
        self.run(&["down"]);
        self.assert_nothing_left();
    }

    pub(crate) fn assert_nothing_left(&self) {
        assert_nothing_left(self.dir.to_str().unwrap());
        let left: Vec<_> = fs::read_dir(&self.dir)
            .into_iter()
            .flatten()
            .flatten()
            .collect();
        assert!(left.is_empty(), "files are left: {left:?}");
    }
}

/// Fails if a mount, a loop device or a process has to do with `path`.
pub(crate) fn assert_nothing_left(path: &str) {
    let mounts = fs::read_to_string("/proc/self/mountinfo").unwrap();
    assert!(!mounts.contains(path), "a mount is left: {mounts}");
    for entry in fs::read_dir("/sys/block").unwrap() {
        let backing = entry.unwrap().path().join("loop/backing_file");
        let backing = fs::read_to_string(backing).unwrap_or_default();
        assert!(!backing.contains(path), "a loop device is left: {backing}");
    }
    wait_for("the lab's processes to end", || {
        processes_with(path).is_empty()
    });
}

impl Drop for Lab {
    fn drop(&mut self) {
        if !std::thread::panicking() {
            self.down();
            return;
        }
        let _ = self.try_run(&["down"]);
    }
}

/// Living processes with `text` in their arguments.
fn processes_with(text: &str) -> Vec<String> {
    let entries = fs::read_dir("/proc")
        .unwrap()
        .flatten()
        .map(|entry| entry.path());
    let lines = entries.filter_map(|path: PathBuf| fs::read(Path::new(&path).join("cmdline")).ok());
    let lines = lines.map(|line| String::from_utf8_lossy(&line).into_owned());
    lines.filter(|line| line.contains(text)).collect()
}

/// A server inside a node, which ends when this is dropped.
pub(crate) struct Server(Child);

impl Drop for Server {
    fn drop(&mut self) {
        let _ = self.0.kill();
        let _ = self.0.wait();
    }
}

pub(crate) fn listen(lab: &Lab, node: &str) -> Server {
    let mut child = lab.helper(node, "listen").spawn().unwrap();
    let lines = BufReader::new(child.stdout.as_mut().unwrap()).lines();
    let ready = lines
        .map_while(Result::ok)
        .any(|line| line.contains("listening"));
    assert!(ready, "the server on {node} did not start");
    Server(child)
}

/// The part of a helper process; none in an ordinary test run.
pub(crate) fn helper() {
    match std::env::var("LAB_TEST_HELPER") {
        Err(_) => {}
        Ok(role) if role == "listen" => {
            let listener = TcpListener::bind(("0.0.0.0", PORT)).unwrap();
            println!("listening");
            for stream in listener.incoming() {
                let _ = stream.unwrap().write_all(GREETING);
            }
        }
        Ok(address) => {
            let address: SocketAddr = address.parse().unwrap();
            let greeted = TcpStream::connect_timeout(&address, REACH_LIMIT)
                .and_then(|mut stream| stream.read_exact(&mut [0; GREETING.len()]));
            if let Err(error) = greeted {
                eprintln!("{address}: {error}");
                std::process::exit(1);
            }
        }
    }
}
