//! Looks at real things: processes, sockets on the loopback, commands (C01, C02, C03, C05).
//! Needs root.
#![allow(
    clippy::unwrap_used,
    reason = "a failed set-up ends the test, with its line"
)]

mod looking;
mod scratch;

use std::io::{Read, Write};
use std::net::{Ipv4Addr, SocketAddr, TcpListener, TcpStream};
use std::process::{Child, Command};
use std::time::{Duration, Instant};

use looking::{bad, context, see};
use scratch::{Scratch, lives, until};
use tandem_failover::config::CheckerKind;
use tandem_failover::io::check::look;

const LONG: Duration = Duration::from_secs(10);
/// Of a header, longer than anybody needs.
const LONG_HEADER: &str = {
    static BYTES: [u8; 200_000] = [b'y'; 200_000];
    match std::str::from_utf8(&BYTES) {
        Ok(text) => text,
        Err(_) => panic!("ASCII"),
    }
};
const SHORT: Duration = Duration::from_millis(300);

/// A process that ends with its test.
struct Running(Child);

impl Drop for Running {
    fn drop(&mut self) {
        let _ = self.0.kill();
        let _ = self.0.wait();
    }
}

/// A copy of `sleep` under a name nobody else has.
fn program(scratch: &Scratch, name: &str) -> (String, String) {
    let name = format!("{name}{}", std::process::id() % 10_000);
    let path = scratch.path(&name).display().to_string();
    let copied = Command::new("cp").args(["/bin/sleep", &path]).status();
    assert!(copied.unwrap().success());
    (path, name)
}

fn processes(name: &str, arguments: Option<&str>, least: u32, most: Option<u32>) -> CheckerKind {
    CheckerKind::Process {
        name: name.into(),
        arguments: arguments.map(Into::into),
        at_least: least,
        at_most: most,
    }
}

#[test]
fn processes_are_counted_by_name_and_arguments() {
    let scratch = Scratch::new();
    let (path, name) = program(&scratch, "tdm-few");
    let spawn = |time: &str| Running(Command::new(&path).arg(time).spawn().unwrap());
    let one = processes(&name, None, 1, None);
    bad(
        &one,
        LONG,
        &format!("0 processes {name:?}, at least 1 expected"),
    );
    let first = spawn("61");
    until("exec", || see(&one, LONG).is_ok());
    let second = spawn("62");
    until("exec", || {
        see(&processes(&name, None, 2, Some(2)), LONG).is_ok()
    });
    bad(&processes(&name, None, 1, Some(1)), LONG, "2 processes");
    bad(
        &processes(&name, None, 3, None),
        LONG,
        "at least 3 expected",
    );
    assert_eq!(
        see(&processes(&name, Some("^61$"), 1, Some(1)), LONG),
        Ok(())
    );
    assert_eq!(
        see(&processes(&name, Some("6[12]"), 2, Some(2)), LONG),
        Ok(())
    );
    bad(
        &processes(&name, Some("63"), 1, None),
        LONG,
        "with arguments \"63\"",
    );
    bad(
        &processes(&name, Some("6("), 1, None),
        LONG,
        "not a regular expression",
    );
    drop((first, second));
    assert_eq!(see(&processes(&name, None, 0, Some(0)), LONG), Ok(()));
}

#[test]
fn a_zombie_is_no_process() {
    let scratch = Scratch::new();
    let (path, name) = program(&scratch, "tdm-dead");
    let mut child = Running(Command::new(&path).arg("60").spawn().unwrap());
    until("exec", || {
        see(&processes(&name, None, 1, None), LONG).is_ok()
    });
    child.0.kill().unwrap();
    until("it is a zombie", || !lives(child.0.id()));
    assert!(std::fs::exists(format!("/proc/{}", child.0.id())).unwrap());
    bad(&processes(&name, None, 1, None), LONG, "0 processes");
}

#[test]
fn a_process_of_a_container_is_not_ours() {
    let scratch = Scratch::new();
    let (path, name) = program(&scratch, "tdm-box");
    let mut unshare = Command::new("unshare");
    unshare.args(["--pid", "--fork", "--kill-child", &path, "60"]);
    let _child = Running(unshare.spawn().unwrap());
    let inside = || {
        let listed = Command::new("pgrep").args(["-x", &name]).output().unwrap();
        !listed.stdout.is_empty()
    };
    until("it runs inside", inside);
    bad(&processes(&name, None, 1, None), LONG, "0 processes");
}

#[test]
fn scripts_are_found_by_their_own_name() {
    let scratch = Scratch::new();
    let name = format!("tdm-a-rather-long-script-{}", std::process::id());
    let script = scratch.script(&name, "while sleep 0.1; do :; done");
    let _child = Running(Command::new(&script[0]).spawn().unwrap());
    until("exec", || {
        see(&processes(&name, None, 1, Some(1)), LONG).is_ok()
    });
}

fn tcp(address: SocketAddr) -> CheckerKind {
    CheckerKind::Tcp {
        host: address.ip().to_string(),
        port: address.port(),
    }
}

#[test]
fn ports_are_connected_to() {
    let listener = TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).unwrap();
    let address = listener.local_addr().unwrap();
    assert_eq!(see(&tcp(address), LONG), Ok(()));
    let port = address.port();
    let named = |host: &str| CheckerKind::Tcp {
        host: host.into(),
        port,
    };
    assert_eq!(see(&named("localhost"), LONG), Ok(()));
    drop(listener);
    bad(&tcp(address), LONG, "Connection refused");
    bad(&named("localhost"), LONG, "Connection refused");

    let listener = TcpListener::bind("[::1]:0").unwrap();
    let port = listener.local_addr().unwrap().port();
    for host in ["::1", "[::1]"] {
        let kind = CheckerKind::Tcp {
            host: host.into(),
            port,
        };
        assert_eq!(see(&kind, LONG), Ok(()));
    }
}

/// A socket that listens and whose queue is full: the kernel then ignores who wants to connect.
fn deaf() -> (TcpListener, Vec<socket2::Socket>) {
    use socket2::{Domain, Socket, Type};
    let socket = Socket::new(Domain::IPV4, Type::STREAM, None).unwrap();
    let any = SocketAddr::from((Ipv4Addr::LOCALHOST, 0));
    socket.bind(&any.into()).unwrap();
    socket.listen(0).unwrap();
    let listener = TcpListener::from(socket);
    let address = listener.local_addr().unwrap();
    let fill = |_| {
        let socket = Socket::new(Domain::IPV4, Type::STREAM, None).unwrap();
        socket.set_nonblocking(true).unwrap();
        let _ = socket.connect(&address.into());
        socket
    };
    (listener, (0..4).map(fill).collect())
}

#[test]
fn a_port_that_does_not_answer_costs_no_more_than_the_timeout() {
    let (listener, _filling) = deaf();
    let address = listener.local_addr().unwrap();
    bad(&tcp(address), SHORT, "no answer within");
    let url = CheckerKind::Http {
        url: format!("http://{address}/"),
        statuses: Vec::new(),
    };
    bad(&url, SHORT, "no answer within 300 ms");
}

/// Answers every connection with `pieces`, one each `pause`.
fn web(pieces: &'static [&'static str], pause: Duration) -> SocketAddr {
    let listener = TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).unwrap();
    let address = listener.local_addr().unwrap();
    let answer = move |mut stream: TcpStream| {
        let mut request = [0; 1024];
        let read = stream.read(&mut request).unwrap_or(0);
        let text = String::from_utf8_lossy(&request[..read]).into_owned();
        assert!(text.starts_with("GET /health?a=b HTTP/1.1\r\n"), "{text}");
        for piece in pieces {
            if stream.write_all(piece.as_bytes()).is_err() {
                return;
            }
            std::thread::sleep(pause);
        }
    };
    std::thread::spawn(move || {
        for stream in listener.incoming() {
            std::thread::spawn(move || answer(stream.unwrap()));
        }
    });
    address
}

fn http(address: SocketAddr, statuses: &[u16]) -> CheckerKind {
    CheckerKind::Http {
        url: format!("http://{address}/health?a=b"),
        statuses: statuses.to_vec(),
    }
}

#[test]
fn web_servers_are_judged_by_their_status() {
    let now = Duration::ZERO;
    let good = web(&["HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\nok"], now);
    assert_eq!(see(&http(good, &[]), LONG), Ok(()));
    assert_eq!(see(&http(good, &[200, 204]), LONG), Ok(()));
    bad(
        &http(good, &[204, 301]),
        LONG,
        "answered 200 OK, expected 204, 301",
    );
    let broken = web(&["HTTP/1.1 503 Busy\r\nContent-Length: 0\r\n\r\n"], now);
    bad(
        &http(broken, &[]),
        LONG,
        "answered 503 Service Unavailable, expected 200 to 399",
    );
    assert_eq!(see(&http(broken, &[503]), LONG), Ok(()));
    let moved = web(
        &["HTTP/1.1 302 Found\r\nLocation: http://127.0.0.1:1/\r\nContent-Length: 0\r\n\r\n"],
        now,
    );
    assert_eq!(
        see(&http(moved, &[]), LONG),
        Ok(()),
        "an answer, not followed"
    );
    assert_eq!(see(&http(moved, &[302]), LONG), Ok(()));
    let old = web(&["HTTP/1.0 200 OK\r\n\r\nuntil the end"], now);
    assert_eq!(see(&http(old, &[]), LONG), Ok(()));
    let endless = web(
        &["HTTP/1.1 200 OK\r\nContent-Length: 999999\r\n\r\n", "x"],
        SHORT,
    );
    assert_eq!(
        see(&http(endless, &[]), LONG),
        Ok(()),
        "the status is enough"
    );
}

#[test]
fn web_servers_that_answer_oddly_are_down_in_time() {
    let garbage = web(&["220 mail.example ESMTP\r\n\r\n"], Duration::ZERO);
    bad(&http(garbage, &[]), LONG, "/health?a=b: ");
    let silent = web(&[], Duration::ZERO);
    bad(&http(silent, &[]), LONG, "/health?a=b: ");
    let slow = web(
        &["H", "T", "T", "P", "/", "1", ".", "1", " ", "2", "0", "0"],
        SHORT / 3,
    );
    bad(&http(slow, &[]), SHORT, "no answer within 300 ms");
    // Looks like the begin of an answer, and never ends.
    let long = web(&["HTTP/1.1 200 OK\r\n", LONG_HEADER], Duration::ZERO);
    bad(&http(long, &[]), LONG, "/health?a=b: ");
    let listener = TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).unwrap();
    let address = listener.local_addr().unwrap();
    drop(listener);
    bad(&http(address, &[]), LONG, "Connection refused");
    for url in [
        "https://localhost/",
        "ftp://localhost/",
        "localhost",
        "",
        "http://",
        "ü",
    ] {
        let kind = CheckerKind::Http {
            url: url.into(),
            statuses: Vec::new(),
        };
        bad(&kind, LONG, url);
    }
}

#[test]
fn commands_are_judged_by_their_exit_code() {
    let scratch = Scratch::new();
    let command = |body: &str| CheckerKind::Command(scratch.script("it", body));
    let context = context(&scratch);
    let see = |kind: &CheckerKind, timeout| look("it", kind, timeout, &context);
    assert_eq!(see(&command("test $TANDEM_MODULE = shop"), LONG), Ok(()));
    let error = see(&command("echo the queue is full; exit 2"), LONG).unwrap_err();
    assert!(
        error.contains("/it ended with exit code 2 after"),
        "{error}"
    );
    assert!(error.ends_with(": the queue is full"), "{error}");
    let begin = Instant::now();
    let error = see(&command("echo before; trap '' TERM; sleep 60"), SHORT).unwrap_err();
    assert!(begin.elapsed() < SHORT + Duration::from_millis(700));
    assert!(error.contains("did not end within 300 ms"), "{error}");
    assert!(error.ends_with(": before"), "{error}");
    let missing = CheckerKind::Command(vec!["/no/such/program".into()]);
    let error = see(&missing, LONG).unwrap_err();
    assert!(error.contains("/no/such/program: no such file"), "{error}");
    let log = context.runner.output_of("checker-it");
    assert!(std::fs::exists(log).unwrap());
}

#[test]
fn what_the_manager_answers_itself_and_what_cannot_be_asked_is_said() {
    bad(&CheckerKind::VirtualIp, LONG, "the manager itself");
    bad(
        &CheckerKind::Module("other".into()),
        LONG,
        "the manager itself",
    );
    let unit = CheckerKind::Service("nginx".into());
    bad(&unit, LONG, "unit nginx.service: no connection to systemd");
}
