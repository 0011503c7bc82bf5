//! Watches tell changes, and only those, of real things (C01 to C05).
#![allow(
    clippy::unwrap_used,
    reason = "a failed set-up ends the test, with its line"
)]

mod scratch;

use std::fs;
use std::sync::mpsc::{self, Receiver, RecvTimeoutError};
use std::time::{Duration, Instant};

use scratch::{Scratch, lives, until};
use tandem_failover::config::{Checker, CheckerKind, Reaction, When};
use tandem_failover::io::check::{Context, Report, Watch};
use tandem_failover::io::run::Runner;
use tandem_failover::io::services::Services;

const LONG: Duration = Duration::from_secs(10);
const INTERVAL: Duration = Duration::from_millis(50);
/// Long enough for several looks.
const QUIET: Duration = Duration::from_millis(400);

fn checker(kind: CheckerKind, failures: u32) -> Checker {
    Checker {
        name: "it".into(),
        kind,
        interval: INTERVAL,
        timeout: LONG,
        failures,
        on_failure: Reaction::Restart,
        when: When::Prim,
    }
}

fn watch(scratch: &Scratch, checker: Checker) -> (Watch, Receiver<Report>) {
    let context = Context {
        module: "shop".into(),
        runner: Runner::new(scratch.path("log")),
        env: Vec::new(),
        services: Services::new(),
    };
    let (send, receive) = mpsc::channel();
    (Watch::start(checker, context, send).unwrap(), receive)
}

/// Up while the file `up` is there; counts its calls in `looks`.
fn command(scratch: &Scratch) -> CheckerKind {
    let up = scratch.path("up").display().to_string();
    let looks = scratch.path("looks").display().to_string();
    let body = format!("echo x >> {looks}; test -e {up} || {{ echo gone; exit 1; }}");
    CheckerKind::Command(scratch.script("looker", &body))
}

fn looks(scratch: &Scratch) -> usize {
    fs::read_to_string(scratch.path("looks")).map_or(0, |text| text.lines().count())
}

fn next(reports: &Receiver<Report>) -> Report {
    reports.recv_timeout(LONG).unwrap()
}

fn quiet(reports: &Receiver<Report>) {
    let report = reports.recv_timeout(QUIET);
    assert_eq!(report, Err(RecvTimeoutError::Timeout));
}

#[test]
fn changes_are_told_once() {
    let scratch = Scratch::new();
    fs::write(scratch.path("up"), "").unwrap();
    let (_watch, reports) = watch(&scratch, checker(command(&scratch), 3));
    let first = Report {
        module: "shop".into(),
        checker: "it".into(),
        up: true,
        detail: String::new(),
        round: 0,
    };
    assert_eq!(next(&reports), first);
    quiet(&reports);
    let before = looks(&scratch);
    fs::remove_file(scratch.path("up")).unwrap();
    let down = next(&reports);
    assert!(
        !down.up && down.detail.contains("gone (3 times in a row)"),
        "{down:?}"
    );
    assert!(looks(&scratch) >= before + 3);
    quiet(&reports);
    fs::write(scratch.path("up"), "").unwrap();
    assert!(next(&reports).up);
    quiet(&reports);
}

#[test]
fn a_pause_looks_at_nothing_and_a_reset_begins_anew() {
    let scratch = Scratch::new();
    fs::write(scratch.path("up"), "").unwrap();
    let (watch, reports) = watch(&scratch, checker(command(&scratch), 1));
    assert!(next(&reports).up);
    assert_eq!(watch.pause(), 1);
    // A look that was under way may still end.
    std::thread::sleep(INTERVAL * 2);
    let before = looks(&scratch);
    quiet(&reports);
    assert_eq!(looks(&scratch), before);
    fs::remove_file(scratch.path("up")).unwrap();
    quiet(&reports);
    assert_eq!(watch.reset(), 2);
    let down = next(&reports);
    assert_eq!((down.up, down.round), (false, 2));
    assert_eq!(watch.reset(), 3);
    let again = next(&reports);
    assert_eq!(
        (again.up, again.round, watch.round()),
        (false, 3, 3),
        "told anew"
    );
}

/// It has hung since before the application was stopped: what it says later is of no use.
#[test]
fn a_look_under_way_ends_with_its_round() {
    let scratch = Scratch::new();
    let pid = scratch.path("pid").display().to_string();
    let command = scratch.script("long", &format!("echo $$ > {pid}; sleep 60"));
    let (watch, reports) = watch(&scratch, checker(CheckerKind::Command(command), 1));
    let pid = scratch.pid("pid");
    let begin = Instant::now();
    watch.pause();
    until("the command has ended", || !lives(pid));
    assert!(begin.elapsed() < Duration::from_secs(2));
    quiet(&reports);
}

#[test]
fn dropping_a_watch_ends_it_and_its_command_at_once() {
    let scratch = Scratch::new();
    let pid = scratch.path("pid").display().to_string();
    let command = scratch.script("long", &format!("echo $$ > {pid}; sleep 60"));
    let (watch, reports) = watch(&scratch, checker(CheckerKind::Command(command), 1));
    let pid = scratch.pid("pid");
    let begin = Instant::now();
    drop(watch);
    assert!(
        begin.elapsed() < Duration::from_millis(100),
        "it waits for nothing"
    );
    let end = reports.recv_timeout(LONG);
    assert_eq!(
        end,
        Err(RecvTimeoutError::Disconnected),
        "and tells nothing"
    );
    assert!(begin.elapsed() < Duration::from_secs(2));
    until("the command has ended", || !lives(pid));
}

#[test]
fn the_interval_counts_from_the_end_of_a_look() {
    let scratch = Scratch::new();
    let looks_at = scratch.path("looks").display().to_string();
    let body = format!("echo x >> {looks_at}; sleep 0.2");
    let kind = CheckerKind::Command(scratch.script("slow", &body));
    let mut checker = checker(kind, 1);
    checker.interval = Duration::from_millis(300);
    let begin = Instant::now();
    let (_watch, _reports) = watch(&scratch, checker);
    until("the fourth look", || looks(&scratch) == 4);
    assert!(
        begin.elapsed() >= Duration::from_millis(1500),
        "{:?}",
        begin.elapsed()
    );
}

#[test]
fn what_the_manager_answers_itself_is_not_watched() {
    let scratch = Scratch::new();
    let context = Context {
        module: "shop".into(),
        runner: Runner::new(scratch.path("log")),
        env: Vec::new(),
        services: Services::new(),
    };
    for kind in [CheckerKind::VirtualIp, CheckerKind::Module("a".into())] {
        let (send, _receive) = mpsc::channel();
        let error = Watch::start(checker(kind, 1), context.clone(), send).unwrap_err();
        assert!(error.to_string().contains("checker it: the manager itself"));
    }
}
