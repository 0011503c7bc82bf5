//! The program as scripts use it: exit codes, standard output and standard error of the commands
//! that speak to a daemon, against a scripted one.
#![allow(clippy::unwrap_used)]

use std::fs;
use std::io::{BufRead, BufReader, Write};
use std::os::unix::net::UnixListener;
use std::path::PathBuf;
use std::process::{Command, Output};
use std::sync::atomic::{AtomicU32, Ordering};

use tandem_repl::control::{
    Answer, Counters, Envelope, PeerStatus, Readiness, Refusal, Request, State, Status,
};

/// The directories of one node with module `ledger`, removed at the end.
struct Node(PathBuf);

impl Node {
    fn new() -> Self {
        static NEXT: AtomicU32 = AtomicU32::new(0);
        let number = NEXT.fetch_add(1, Ordering::Relaxed);
        let name = format!("tandem-commands-{}-{number}", std::process::id());
        let root = std::env::temp_dir().join(name);
        fs::create_dir_all(root.join("etc/modules")).unwrap();
        fs::create_dir_all(root.join("run")).unwrap();
        // These commands read no more than the name of this file.
        fs::write(root.join("etc/modules/ledger.ron"), "unfinished").unwrap();
        Self(root)
    }

    fn tandem(&self, arguments: &str) -> (i32, String, String) {
        let Output {
            status,
            stdout,
            stderr,
        } = Command::new(env!("CARGO_BIN_EXE_tandem"))
            .args(arguments.split(' '))
            .env("TANDEM_CONFIG_DIR", self.0.join("etc"))
            .env("TANDEM_STATE_DIR", self.0.join("state"))
            .env("TANDEM_RUN_DIR", self.0.join("run"))
            .output()
            .unwrap();
        let text = |bytes| String::from_utf8(bytes).unwrap();
        (status.code().unwrap(), text(stdout), text(stderr))
    }

    /// A daemon that gives one answer; the thread ends with the request.
    fn daemon(&self, answer: Answer) -> std::thread::JoinHandle<Request> {
        let listener = UnixListener::bind(self.0.join("run/ledger.sock")).unwrap();
        std::thread::spawn(move || {
            let (mut stream, _) = listener.accept().unwrap();
            let mut line = String::new();
            BufReader::new(&stream).read_line(&mut line).unwrap();
            serde_json::to_writer(&mut stream, &answer).unwrap();
            stream.write_all(b"\n").unwrap();
            serde_json::from_str::<Envelope>(&line).unwrap().request
        })
    }
}

impl Drop for Node {
    fn drop(&mut self) {
        let _ = fs::remove_dir_all(&self.0);
    }
}

fn serving() -> Box<Status> {
    Box::new(Status {
        module: "ledger".into(),
        node: "a".into(),
        state: State::Prim,
        readiness: Readiness::Ready,
        reason: None,
        pid: 1,
        epoch: Some((1, "7f3a".into())),
        in_sync: vec!["a".into(), "b".into()],
        peer: PeerStatus {
            node: "b".into(),
            connected: true,
            state: Some(State::Second),
            round_trip_us: Some(180),
            reason: None,
            paths: Vec::new(),
        },
        directories: Vec::new(),
        counters: Counters::default(),
        why: Vec::new(),
        marks: Default::default(),
        resync: None,
        verify: None,
        version: 1,
        served: false,
        held_ms: None,
        serves_until_ms: None,
        lost: false,
        stale: false,
        left: false,
        witness: None,
    })
}

#[test]
fn an_action_done_prints_the_status_after_it() {
    let node = Node::new();
    let daemon = node.daemon(Answer::Done(serving()));
    let (code, out, err) = node.tandem("prim --force");
    assert_eq!((code, err.as_str()), (0, ""));
    assert!(out.starts_with("ledger on a: PRIM, ready\n"), "{out}");
    assert_eq!(daemon.join().unwrap(), Request::Prim { force: true });
}

#[test]
fn a_refusal_says_why_and_fails() {
    let node = Node::new();
    let refusal = Refusal::new("stale", "this copy is not good", "start node b");
    let daemon = node.daemon(Answer::Refused(refusal));
    let (code, out, err) = node.tandem("second ledger");
    assert_eq!((code, out.as_str()), (1, ""));
    assert_eq!(
        err,
        "tandem: module ledger: this copy is not good (stale); start node b\n"
    );
    assert_eq!(daemon.join().unwrap(), Request::Second);
}

#[test]
fn json_is_the_answer_of_the_daemon() {
    let node = Node::new();
    let daemon = node.daemon(Answer::Status(serving()));
    let (code, out, _) = node.tandem("status --json");
    assert_eq!(code, 0);
    let Answer::Status(status) = serde_json::from_str(&out).unwrap() else {
        panic!("{out}")
    };
    assert_eq!(status.in_sync, ["a", "b"]);
    daemon.join().unwrap();
}

#[test]
fn a_daemon_that_does_not_run_has_its_own_exit_code() {
    let node = Node::new();
    for arguments in ["status", "prim", "second", "stop ledger"] {
        let (code, _, err) = node.tandem(arguments);
        assert_eq!(code, 3, "{arguments}: {err}");
        assert!(err.contains("no daemon is running at"), "{err}");
    }
    let (code, out, _) = node.tandem("status --json");
    assert_eq!(code, 3);
    let Answer::Refused(refusal) = serde_json::from_str(&out).unwrap() else {
        panic!("{out}")
    };
    assert_eq!(refusal.code, "not-running");
}

#[test]
fn a_silent_daemon_is_not_waited_for_longer_than_asked() {
    let node = Node::new();
    let _listener = UnixListener::bind(node.0.join("run/ledger.sock")).unwrap();
    let (code, _, err) = node.tandem("stop --timeout 100ms");
    assert_eq!(code, 5, "{err}");
}

#[test]
fn mistakes_of_the_command_line_and_of_the_files_are_told_apart() {
    let node = Node::new();
    let (code, _, err) = node.tandem("stop leger");
    assert_eq!(code, 2);
    assert!(err.contains("did you mean `ledger`?"), "{err}");
    assert_eq!(node.tandem("stop --timeout 3").0, 2);
    assert_eq!(node.tandem("fly").0, 2);
    for arguments in ["config check", "fs ledger"] {
        let (code, _, err) = node.tandem(arguments);
        assert_eq!(code, 4, "{arguments}: {err}");
        assert!(err.contains("etc/node.ron: cannot be read"), "{err}");
    }
}
