//! `tandem demo`: the ledger keeps its promises when it is killed, its check sees what is missing,
//! and the whole demo works, also twice at once, and leaves nothing when it is interrupted.

#![allow(clippy::unwrap_used)]

mod support;

use std::fs;
use std::io::{BufRead, BufReader};
use std::path::{Path, PathBuf};
use std::process::{Child, Stdio};
use std::thread;
use std::time::Duration;

use support::{assert_nothing_left, is_root, signal, tandem};

struct Database(PathBuf);

impl Database {
    fn new(test: &str) -> Self {
        let dir = std::env::temp_dir().join(format!("tandem-{test}-{}", std::process::id()));
        fs::create_dir_all(&dir).unwrap();
        Self(dir)
    }

    fn path(&self) -> PathBuf {
        self.0.join("ledger.db")
    }

    fn write(&self, writer: &str) -> Child {
        let mut command = tandem(&["demo-ledger", "--writer", writer, "--db"]);
        command
            .arg(self.path())
            .stdin(Stdio::piped())
            .stdout(Stdio::piped());
        command.spawn().unwrap()
    }

    fn check(&self, wanted: &[&str]) -> serde_json::Value {
        let mut command = tandem(&["demo-ledger", "--db"]);
        command.arg(self.path());
        for pair in wanted {
            command.args(["--check", pair]);
        }
        serde_json::from_slice(&command.output().unwrap().stdout).unwrap()
    }
}

impl Drop for Database {
    fn drop(&mut self) {
        let _ = fs::remove_dir_all(&self.0);
    }
}

#[test]
fn a_killed_ledger_has_every_row_it_acknowledged() {
    let database = Database::new("killed-ledger");
    let mut ledger = database.write("1");
    let mut lines = BufReader::new(ledger.stdout.take().unwrap()).lines();
    let mut last = 0;
    for number in 1..=100 {
        last = lines.next().unwrap().unwrap().parse::<u64>().unwrap();
        assert_eq!(last, number);
    }
    ledger.kill().unwrap();
    ledger.wait().unwrap();
    last = lines
        .map_while(Result::ok)
        .filter_map(|line| line.parse().ok())
        .last()
        .unwrap_or(last);

    let checked = database.check(&[&format!("1={last}")]);
    assert_eq!(checked["found"], last);
    assert_eq!(checked["integrity"], "ok");
    assert_eq!(checked["balance"], 0);
    let missing = database.check(&[&format!("1={}", last + 1000), "2=5"]);
    assert!(
        missing["found"].as_u64().unwrap() < last + 1000,
        "{missing}"
    );
}

#[test]
fn a_ledger_ends_with_its_input() {
    let database = Database::new("ended-ledger");
    let mut ledger = database.write("1");
    support::read_line(&mut ledger);
    drop(ledger.stdin.take());
    let mut rest = BufReader::new(ledger.stdout.take().unwrap()).lines();
    while rest.next().is_some() {}
    assert!(ledger.wait().unwrap().success());
}

fn demo(arguments: &[&str]) -> Child {
    let mut command = tandem(&["demo"]);
    command
        .args(arguments)
        .stdout(Stdio::piped())
        .stderr(Stdio::piped());
    command.spawn().unwrap()
}

fn assert_gone(demo: u32) {
    assert_nothing_left(&format!("tandem-demo-{demo}"));
    let dir = format!("/var/tmp/tandem-demo-{demo}");
    assert!(!Path::new(&dir).exists(), "{dir} is left");
}

#[test]
fn two_demos_at_once_lose_nothing() {
    if !is_root() {
        return;
    }
    for demo in [demo(&["--seconds", "1"]), demo(&["--seconds", "1"])] {
        let pid = demo.id();
        let output = demo.wait_with_output().unwrap();
        let text = String::from_utf8_lossy(&output.stdout);
        let errors = String::from_utf8_lossy(&output.stderr);
        assert!(output.status.success(), "{text}\n{errors}");
        assert!(
            text.contains("Nothing that was acknowledged is missing"),
            "{text}"
        );
        assert_gone(pid);
    }
}

#[test]
fn an_interrupted_demo_leaves_nothing() {
    if !is_root() {
        return;
    }
    // While it is set up, under load, while the second node takes over, afterwards.
    for millis in [100, 1500, 2500, 4500] {
        let demo = demo(&["--seconds", "1"]);
        thread::sleep(Duration::from_millis(millis));
        let pid = demo.id();
        signal(pid, libc::SIGINT);
        let output = demo.wait_with_output().unwrap();
        if !output.status.success() {
            let errors = String::from_utf8_lossy(&output.stderr);
            assert!(
                errors.contains("interrupted by signal 2"),
                "{millis} ms: {errors}"
            );
        }
        assert_gone(pid);
    }
}
