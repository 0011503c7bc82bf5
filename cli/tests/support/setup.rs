//! Nodes that are set up from nothing: programs that wait for each other, and pairs of directories
//! that stand for two machines.

use std::fs;
use std::io::{BufRead, BufReader, Read};
use std::net::TcpListener;
use std::path::PathBuf;
use std::process::{Child, ChildStdout, Command, Output, Stdio};
use std::sync::atomic::{AtomicU32, Ordering};

use super::tandem;

pub(crate) fn text(bytes: &[u8]) -> String {
    String::from_utf8_lossy(bytes).into_owned()
}

/// A program that runs while the test goes on; killed when dropped.
pub(crate) struct Running {
    child: Child,
    pub(crate) lines: BufReader<ChildStdout>,
}

impl Running {
    pub(crate) fn start(command: &mut Command) -> Self {
        command.stdout(Stdio::piped()).stderr(Stdio::piped());
        let mut child = command.stdin(Stdio::null()).spawn().unwrap();
        let lines = BufReader::new(child.stdout.take().unwrap());
        Self { child, lines }
    }

    /// The arguments of the `tandem join` that is shown.
    pub(crate) fn invitation(&mut self) -> Vec<String> {
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

    pub(crate) fn errors(&mut self) -> String {
        let mut errors = String::new();
        let _ = self.child.wait();
        let stderr = self.child.stderr.as_mut().unwrap();
        stderr.read_to_string(&mut errors).unwrap();
        errors
    }

    /// Waits for its end: the exit code, what else it printed, its errors.
    pub(crate) fn end(mut self) -> (Option<i32>, String, String) {
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
pub(crate) struct Pair {
    root: PathBuf,
    /// Of the managers, and of joining.
    port: u16,
}

impl Pair {
    pub(crate) fn new() -> Self {
        static NEXT: AtomicU32 = AtomicU32::new(0);
        let number = NEXT.fetch_add(1, Ordering::Relaxed);
        let name = format!("tandem-init-{}-{number}", std::process::id());
        let root = std::env::temp_dir().join(name);
        fs::create_dir(&root).unwrap();
        let port = TcpListener::bind("127.0.0.1:0").unwrap();
        let port = port.local_addr().unwrap().port();
        Self { root, port }
    }

    pub(crate) fn path(&self, below: &str) -> PathBuf {
        self.root.join(below)
    }

    pub(crate) fn command(&self, node: &str, arguments: &[&str]) -> Command {
        let mut command = tandem(arguments);
        for (variable, name) in [("CONFIG", "etc"), ("STATE", "state"), ("RUN", "run")] {
            let directory = self.path(node).join(name);
            command.env(format!("TANDEM_{variable}_DIR"), directory);
        }
        command
    }

    pub(crate) fn run(&self, node: &str, arguments: &[&str]) -> Output {
        let mut command = self.command(node, arguments);
        command.stdin(Stdio::null()).output().unwrap()
    }

    pub(crate) fn refused(&self, node: &str, arguments: &[&str], why: &str) {
        let output = self.run(node, arguments);
        let errors = text(&output.stderr);
        assert_eq!(output.status.code(), Some(1), "{errors}");
        assert!(errors.contains(why), "{why}: {errors}");
    }

    /// Node a's configuration. Nobody waits for node b yet.
    pub(crate) fn init(&self) {
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
        let output = self.run("a", &arguments);
        assert!(output.status.success(), "{}", text(&output.stderr));
    }

    pub(crate) fn serve(&self, more: &[&str]) -> Running {
        let port = self.port.to_string();
        let arguments = [&["join", "--serve", "--port", &port][..], more].concat();
        Running::start(&mut self.command("a", &arguments))
    }

    pub(crate) fn at(&self) -> String {
        format!("127.0.0.1:{}", self.port)
    }
}

impl Drop for Pair {
    fn drop(&mut self) {
        let _ = fs::remove_dir_all(&self.root);
    }
}

pub(crate) fn words(command: &[String]) -> Vec<&str> {
    command.iter().map(String::as_str).collect()
}
