//! Looks at interfaces and hosts of a network namespace that ends with its test (C03, C04). Needs
//! root.
#![allow(
    clippy::unwrap_used,
    reason = "a failed set-up ends the test, with its line"
)]

mod looking;
mod scratch;

use std::process::Command;
use std::time::{Duration, Instant};

use looking::{bad, see};
use scratch::until;
use tandem_failover::config::CheckerKind;

const LONG: Duration = Duration::from_secs(10);
const SHORT: Duration = Duration::from_millis(300);

/// Runs `work` in a network namespace of its own, which is gone when it returns or fails.
fn alone(work: impl FnOnce() + Send + 'static) {
    let thread = std::thread::spawn(|| {
        // SAFETY: takes a number, and concerns this thread only.
        let done = unsafe { libc::unshare(libc::CLONE_NEWNET) };
        assert_eq!(done, 0, "a network namespace: run the tests as root");
        ip("link set lo up");
        work();
    });
    if let Err(panic) = thread.join() {
        std::panic::resume_unwind(panic);
    }
}

fn ip(arguments: &str) {
    let done = Command::new("ip").args(arguments.split(' ')).status();
    assert!(done.unwrap().success(), "ip {arguments}");
}

fn ping(host: &str) -> CheckerKind {
    CheckerKind::Ping { host: host.into() }
}

fn interface(name: &str) -> CheckerKind {
    CheckerKind::Interface { name: name.into() }
}

#[test]
fn interfaces_are_up_with_a_link_or_not() {
    alone(|| {
        bad(&interface("v0"), LONG, "there is no interface v0");
        ip("link add v0 type veth peer name v1");
        bad(&interface("v0"), LONG, "interface v0 is down");
        ip("link set v0 up");
        bad(&interface("v0"), LONG, "interface v0 has no link");
        ip("link set v1 up");
        until("the link is up", || see(&interface("v0"), LONG).is_ok());
        ip("link set v1 down");
        until("the link is lost", || see(&interface("v0"), LONG).is_err());
        bad(&interface("v0"), LONG, "interface v0 has no link");
        assert_eq!(see(&interface("lo"), LONG), Ok(()));
    });
}

/// `range`: groups that may have sockets for ICMP alone; without, raw ones are used.
fn pings(range: &'static str) {
    alone(move || {
        std::fs::write("/proc/sys/net/ipv4/ping_group_range", range).unwrap();
        ip("link add v0 type veth peer name v1");
        ip("link set v0 up");
        ip("link set v1 up");
        ip("address add 198.51.100.1/24 dev v0");
        // The other end takes packets and never answers.
        ip("neighbor add 198.51.100.2 lladdr 02:00:00:00:00:02 dev v0");
        for host in ["127.0.0.1", "::1", "[::1]", "localhost", "198.51.100.1"] {
            assert_eq!(see(&ping(host), LONG), Ok(()), "{host}");
        }
        let begin = Instant::now();
        bad(
            &ping("198.51.100.2"),
            SHORT,
            "198.51.100.2 does not answer within",
        );
        assert!(begin.elapsed() >= SHORT);
        bad(&ping("203.0.113.1"), LONG, "unreachable");
    });
}

#[test]
fn hosts_answer_to_icmp_sockets() {
    pings("0 2147483647");
}

#[test]
fn hosts_answer_to_raw_sockets() {
    pings("1 0");
}
