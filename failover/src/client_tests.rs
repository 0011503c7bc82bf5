//! The control client against a scripted daemon: each way an exchange can go, and that each ends
//! in bounded time.
#![allow(clippy::unwrap_used)]

use std::io::{BufRead, BufReader, Write};
use std::os::unix::net::{UnixListener, UnixStream};
use std::path::PathBuf;
use std::sync::atomic::{AtomicU32, Ordering};
use std::thread::JoinHandle;
use std::time::{Duration, Instant};

use socket2::{Domain, SockAddr, Socket, Type};
use tandem_repl::control::{
    Answer, CONTROL_VERSION, Counters, Envelope, MAX_LINE, PeerStatus, Readiness, Refusal, Request,
    State, Status,
};

use super::{ClientError, ControlClient};

/// A directory of its own for each test, removed at the end.
struct Directory(PathBuf);

impl Directory {
    fn new() -> Self {
        static NEXT: AtomicU32 = AtomicU32::new(0);
        let number = NEXT.fetch_add(1, Ordering::Relaxed);
        let name = format!("tandem-client-{}-{number}", std::process::id());
        let path = std::env::temp_dir().join(name);
        std::fs::create_dir(&path).unwrap();
        Self(path)
    }

    fn socket(&self) -> PathBuf {
        self.0.join("ledger.sock")
    }
}

impl Drop for Directory {
    fn drop(&mut self) {
        let _ = std::fs::remove_dir_all(&self.0);
    }
}

/// Accepts one connection and hands it to `script`.
fn daemon(
    directory: &Directory,
    script: impl FnOnce(UnixStream) + Send + 'static,
) -> JoinHandle<()> {
    let listener = UnixListener::bind(directory.socket()).unwrap();
    std::thread::spawn(move || script(listener.accept().unwrap().0))
}

fn read_request(stream: &UnixStream) -> Envelope {
    let mut line = String::new();
    BufReader::new(stream).read_line(&mut line).unwrap();
    serde_json::from_str(&line).unwrap()
}

fn status() -> Status {
    Status {
        module: "ledger".into(),
        node: "a".into(),
        state: State::Prim,
        readiness: Readiness::Ready,
        reason: None,
        pid: 1,
        epoch: Some((3, "7f3a".into())),
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
    }
}

#[test]
fn one_connection_carries_several_exchanges() {
    let directory = Directory::new();
    let served = daemon(&directory, |mut stream| {
        for answer in [
            Answer::Status(Box::new(status())),
            Answer::Refused(Refusal::new(
                "stale",
                "this copy is not good",
                "wait for the peer",
            )),
        ] {
            let envelope = read_request(&stream);
            assert_eq!(envelope.version, CONTROL_VERSION);
            let line = serde_json::to_string(&answer).unwrap() + "\n";
            // In two pieces: a line need not arrive whole.
            let (head, tail) = line.split_at(line.len() / 2);
            stream.write_all(head.as_bytes()).unwrap();
            std::thread::sleep(Duration::from_millis(20));
            stream.write_all(tail.as_bytes()).unwrap();
        }
    });
    let mut client = ControlClient::connect(directory.socket()).unwrap();
    let Answer::Status(status) = client.request(&Request::Status).unwrap() else {
        panic!()
    };
    assert_eq!(status.state, State::Prim);
    let answer = client.request(&Request::Prim { force: false }).unwrap();
    let Answer::Refused(refusal) = answer else {
        panic!()
    };
    assert_eq!(refusal.code, "stale");
    served.join().unwrap();
}

#[test]
fn no_socket_and_a_socket_left_over_both_mean_not_running() {
    let directory = Directory::new();
    let error = ControlClient::connect(directory.socket()).unwrap_err();
    assert!(matches!(error, ClientError::NotRunning { .. }), "{error}");
    assert!(error.to_string().contains("ledger.sock"), "{error}");

    drop(UnixListener::bind(directory.socket()).unwrap());
    let error = ControlClient::connect(directory.socket()).unwrap_err();
    assert!(matches!(error, ClientError::NotRunning { .. }), "{error}");
}

#[test]
fn a_silent_daemon_costs_no_more_than_the_limit() {
    let directory = Directory::new();
    let served = daemon(&directory, |stream| {
        read_request(&stream);
        // Answers never, until the client gives up and closes.
        BufReader::new(&stream)
            .read_line(&mut String::new())
            .unwrap();
    });
    let mut client = ControlClient::connect(directory.socket()).unwrap();
    let start = Instant::now();
    let limit = Duration::from_millis(100);
    let error = client.request_within(&Request::Status, limit).unwrap_err();
    assert!(matches!(error, ClientError::TimedOut { .. }), "{error}");
    assert!(start.elapsed() < Duration::from_secs(5));
    drop(client);
    served.join().unwrap();
}

#[test]
fn a_daemon_that_trickles_does_not_extend_the_limit() {
    let directory = Directory::new();
    let served = daemon(&directory, |mut stream| {
        read_request(&stream);
        while stream.write_all(b" ").is_ok() {
            std::thread::sleep(Duration::from_millis(10));
        }
    });
    let mut client = ControlClient::connect(directory.socket()).unwrap();
    let limit = Duration::from_millis(100);
    let error = client.request_within(&Request::Status, limit).unwrap_err();
    assert!(matches!(error, ClientError::TimedOut { .. }), "{error}");
    drop(client);
    served.join().unwrap();
}

#[test]
fn a_daemon_that_ends_is_told_apart_from_one_that_never_ran() {
    let directory = Directory::new();
    let served = daemon(&directory, |mut stream| {
        read_request(&stream);
        stream.write_all(b"{\"status\":").unwrap();
    });
    let mut client = ControlClient::connect(directory.socket()).unwrap();
    let error = client.request(&Request::Status).unwrap_err();
    assert!(matches!(error, ClientError::Closed { .. }), "{error}");
    served.join().unwrap();
}

#[test]
fn an_answer_of_another_version_is_named_as_such() {
    let directory = Directory::new();
    let served = daemon(&directory, |mut stream| {
        read_request(&stream);
        stream.write_all(b"{\"tomorrow\":{}}\n").unwrap();
    });
    let mut client = ControlClient::connect(directory.socket()).unwrap();
    let error = client.request(&Request::Status).unwrap_err();
    assert!(matches!(error, ClientError::NotAnAnswer { .. }), "{error}");
    served.join().unwrap();
}

#[test]
fn an_endless_answer_is_cut_off() {
    let directory = Directory::new();
    let served = daemon(&directory, |mut stream| {
        read_request(&stream);
        let block = vec![b'x'; MAX_LINE];
        while stream.write_all(&block).is_ok() {}
    });
    let mut client = ControlClient::connect(directory.socket()).unwrap();
    let error = client.request(&Request::Status).unwrap_err();
    assert!(matches!(error, ClientError::TooLong { .. }), "{error}");
    drop(client);
    served.join().unwrap();
}

#[test]
fn a_daemon_that_no_longer_accepts_does_not_hold_the_caller() {
    let directory = Directory::new();
    let listener = Socket::new(Domain::UNIX, Type::STREAM, None).unwrap();
    listener
        .bind(&SockAddr::unix(directory.socket()).unwrap())
        .unwrap();
    listener.listen(0).unwrap();
    let limit = Duration::from_millis(100);
    // The queue takes the first; how many more is the kernel's business, but not for ever.
    let mut queued = Vec::new();
    let error = loop {
        match ControlClient::connect_within(&directory.socket(), limit) {
            Ok(client) => queued.push(client),
            Err(error) => break error,
        }
        assert!(queued.len() < 100);
    };
    assert!(matches!(error, ClientError::TimedOut { .. }), "{error}");
}
