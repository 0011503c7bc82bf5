//! Programs are run as the acceptance says (M28): real scripts, real processes, real signals.
#![allow(
    clippy::unwrap_used,
    reason = "a failed set-up ends the test, with its line"
)]

mod scratch;

use std::fs;
use std::os::fd::AsRawFd;
use std::sync::mpsc;
use std::time::{Duration, Instant};

use scratch::{Scratch, end, lives, until};
use tandem_failover::io::run::{End, Job, JobHandle, Outcome, Runner};

const LONG: Duration = Duration::from_secs(20);
const SHORT: Duration = Duration::from_millis(300);

fn runner(scratch: &Scratch) -> Runner {
    Runner::new(scratch.path("log"))
}

fn run(scratch: &Scratch, command: &[String], limit: Duration) -> Outcome {
    runner(scratch).run("job", command, limit, &[])
}

fn start(
    runner: &Runner,
    name: &str,
    command: &[String],
    limit: Duration,
    grace: Duration,
) -> (JobHandle, mpsc::Receiver<Outcome>) {
    let (send, receive) = mpsc::channel();
    let handle = runner.start(Job {
        name: name.into(),
        command: command.to_vec(),
        limit,
        grace,
        env: Vec::new(),
        done: Box::new(move |outcome| send.send(outcome).unwrap()),
    });
    (handle, receive)
}

fn reason(outcome: &Outcome) -> (&str, &str) {
    let Outcome::CannotRun { reason, remedy } = outcome else {
        panic!("{outcome:?}");
    };
    (reason, remedy)
}

fn output(scratch: &Scratch) -> String {
    fs::read_to_string(runner(scratch).output_of("job")).unwrap()
}

fn records(scratch: &Scratch) -> Vec<std::path::PathBuf> {
    let Ok(entries) = fs::read_dir(scratch.path("log")) else {
        // Nothing was started yet.
        return Vec::new();
    };
    let paths = entries.map(|entry| entry.unwrap().path());
    paths
        .filter(|path| path.extension().is_some_and(|end| end == "job"))
        .collect()
}

#[test]
fn results_and_outputs_are_told() {
    let scratch = Scratch::new();
    let good = scratch.script("good", "echo out; echo err >&2");
    assert!(run(&scratch, &good, LONG).is_success());
    assert_eq!(output(&scratch), "out\nerr\n");
    assert_eq!(records(&scratch), Vec::<std::path::PathBuf>::new());

    let mut bad = scratch.script("bad", "printf 'no \\377 %s' \"$2\"; exit 3");
    bad.extend(["a".into(), "b c".into()]);
    let outcome = run(&scratch, &bad, LONG);
    let Outcome::Failed { end, output, took } = outcome else {
        panic!("{outcome:?}");
    };
    assert_eq!((end, output.as_str()), (End::Code(3), "no \u{fffd} b c"));
    assert!(took < LONG);

    let killed = scratch.script("killed", "kill -9 $$");
    let outcome = run(&scratch, &killed, LONG);
    assert!(
        matches!(
            &outcome,
            Outcome::Failed {
                end: End::Signal(9),
                ..
            }
        ),
        "{outcome:?}"
    );
}

#[test]
fn what_cannot_be_run_is_explained() {
    let scratch = Scratch::new();
    let check = |program: &str, reason_has: &str, remedy_has: &str| {
        let outcome = run(&scratch, &[program.into()], LONG);
        let (reason, remedy) = reason(&outcome);
        assert!(reason.contains(program), "{reason}");
        assert!(reason.contains(reason_has), "{reason}");
        assert!(remedy.contains(remedy_has), "{remedy}");
    };
    let missing = scratch.path("missing");
    check(missing.to_str().unwrap(), "no such file", "on both nodes");
    check(
        scratch.dir().to_str().unwrap(),
        "not a file",
        "program's file",
    );
    let link = scratch.path("link");
    std::os::unix::fs::symlink(&missing, &link).unwrap();
    check(link.to_str().unwrap(), "symbolic link", "point to");
    let plain = scratch.file("plain", "#!/bin/sh\n", 0o644);
    check(&plain, "not executable", "chmod +x");
    let odd = scratch.file("odd", "#!/no/such/shell\n", 0o755);
    check(&odd, "\"/no/such/shell\" does not exist", "install");
    let dos = scratch.file("dos", "#!/bin/sh\r\n", 0o755);
    check(&dos, "does not exist", "Unix line ends");
    let bare = scratch.file("bare", "echo hello\n", 0o755);
    check(&bare, "neither a binary nor a script", "#!/bin/sh");
    let empty = scratch.file("empty", "", 0o755);
    check(&empty, "neither a binary nor a script", "#!/bin/sh");
    let nameless = scratch.file("nameless", "#! \nx\n", 0o755);
    check(&nameless, "names no interpreter", "#!/bin/sh");
    let broken = scratch.file("broken", "\x7fELF and no more", 0o755);
    let outcome = run(&scratch, &[broken], LONG);
    assert!(!outcome.is_success(), "{outcome:?}");
    check("bin/sh", "not an absolute path", "whole path");

    let outcome = run(&scratch, &[], LONG);
    assert!(reason(&outcome).0.contains("no program"), "{outcome:?}");
    let outcome = run(&scratch, &["/bin/sh".into(), "a\0b".into()], LONG);
    assert!(reason(&outcome).0.contains("zero byte"), "{outcome:?}");
    let env = [("A=B".to_owned(), String::new())];
    let outcome = runner(&scratch).run("job", &["/bin/true".into()], LONG, &env);
    assert!(reason(&outcome).0.contains("\"A=B\""), "{outcome:?}");
    assert!(records(&scratch).is_empty());
}

#[test]
fn the_environment_is_clean() {
    let scratch = Scratch::new();
    let env = scratch.script("env", "tr '\\0' '\\n' < /proc/$$/environ");
    let given = [
        ("TANDEM_MODULE".to_owned(), "shop".to_owned()),
        ("EMPTY".to_owned(), String::new()),
    ];
    assert!(
        std::env::vars().count() > 4,
        "there is something to inherit"
    );
    assert!(runner(&scratch).run("job", &env, LONG, &given).is_success());
    let output = output(&scratch);
    let mut lines: Vec<_> = output.lines().collect();
    lines.sort_unstable();
    assert_eq!(lines.len(), 5, "{output}");
    assert_eq!(
        lines[..3],
        [
            "EMPTY=",
            "LANG=C.UTF-8",
            "PATH=/usr/local/sbin:/usr/local/bin:\
        /usr/sbin:/usr/bin:/sbin:/bin"
        ]
    );
    assert_eq!(lines[3], "TANDEM_MODULE=shop");
    assert!(lines[4].starts_with("TANDEM_RUN="));
}

#[test]
fn a_program_begins_like_a_daemon() {
    let scratch = Scratch::new();
    let look = scratch.script(
        "look",
        // The shell reads its own signals itself: while it starts a program it blocks them all.
        "pwd; umask
        while read line; do
            case \"$line\" in SigBlk*|SigIgn*) echo \"$line\"; esac
        done < /proc/$$/status
        cut -d' ' -f1,5,6 /proc/$$/stat
        readlink /proc/self/fd/0 /proc/self/fd/1 /proc/self/fd/2; ls /proc/self/fd | tr '\\n' ' '",
    );
    // A descriptor that a library forgot to mark, a blocked signal, an ignored one.
    let null = fs::File::open("/dev/null").unwrap();
    // SAFETY: duplicates an open descriptor; the set is filled before it is used.
    let leak = unsafe {
        let mut set = std::mem::zeroed();
        libc::sigemptyset(&raw mut set);
        libc::sigaddset(&raw mut set, libc::SIGUSR1);
        libc::pthread_sigmask(libc::SIG_BLOCK, &raw const set, std::ptr::null_mut());
        libc::signal(libc::SIGUSR2, libc::SIG_IGN);
        libc::dup(null.as_raw_fd())
    };
    assert!(leak > 2);
    let outcome = run(&scratch, &look, LONG);
    // SAFETY: the descriptor made above.
    unsafe { libc::close(leak) };
    assert!(outcome.is_success(), "{outcome:?}");
    let output = output(&scratch);
    let lines: Vec<_> = output.lines().collect();
    assert_eq!(lines[..2], ["/", "0022"]);
    let ids: Vec<_> = lines[4].split(' ').collect();
    assert!(
        ids[0] == ids[1] && ids[1] == ids[2],
        "session and group: {ids:?}"
    );
    for line in &lines[2..4] {
        assert!(line.ends_with("\t0000000000000000"), "{line}");
    }
    let log = runner(&scratch).output_of("job");
    let log = log.to_str().unwrap();
    assert_eq!(lines[5..8], ["/dev/null", log, log], "a file, and no pipe");
    assert_eq!(
        lines[8].trim(),
        "0 1 2 3",
        "3 is the directory that ls reads"
    );
}

#[test]
fn what_a_successful_script_leaves_is_the_application() {
    let scratch = Scratch::new();
    let body = format!("sleep 60 & echo $! > {}", scratch.path("pid").display());
    let outcome = run(&scratch, &scratch.script("start", &body), LONG);
    assert!(outcome.is_success(), "{outcome:?}");
    let pid = scratch.pid("pid");
    std::thread::sleep(Duration::from_millis(100));
    assert!(lives(pid));
    end(pid);
}

/// M28: the script, a child that ignores the request, and one that left the group.
#[test]
fn a_hanging_script_ends_with_all_its_processes() {
    let scratch = Scratch::new();
    let path = |name| scratch.path(name).display().to_string();
    let body = format!(
        "trap '' TERM
        (trap '' TERM; echo deaf; sleep 60) & echo $! > {}
        setsid sh -c 'echo $$ > {}; exec sleep 60' &
        echo waiting; sleep 60; sleep 60",
        path("child"),
        path("far")
    );
    let command = scratch.script("stop", &body);
    let begin = Instant::now();
    let outcome = run(&scratch, &command, SHORT);
    let took = begin.elapsed();
    let Outcome::TimedOut {
        limit,
        output,
        gone,
    } = outcome
    else {
        panic!("{outcome:?}");
    };
    assert!(gone && limit == SHORT);
    assert!(
        output.contains("deaf") && output.contains("waiting"),
        "{output}"
    );
    let expected = SHORT + Duration::from_secs(2);
    assert!(took >= expected, "it was asked first: {took:?}");
    assert!(took < expected + Duration::from_secs(2), "{took:?}");
    assert!(!lives(scratch.pid("child")));
    assert!(!lives(scratch.pid("far")), "it left the group");
    assert!(records(&scratch).is_empty());
}

#[test]
fn a_script_that_is_asked_to_end_may_clean_up() {
    let scratch = Scratch::new();
    let body = "trap 'echo bye; exit 0' TERM; sleep 60 & wait";
    let begin = Instant::now();
    let outcome = run(&scratch, &scratch.script("polite", body), SHORT);
    assert!(
        matches!(outcome, Outcome::TimedOut { gone: true, .. }),
        "{outcome:?}"
    );
    assert_eq!(outcome.output(), "bye\n");
    assert!(begin.elapsed() < SHORT + Duration::from_secs(1));
}

#[test]
fn a_stopped_process_hears_the_request_too() {
    let scratch = Scratch::new();
    let body = "trap 'echo bye; exit 0' TERM; kill -STOP $$; sleep 60 & wait";
    let outcome = run(&scratch, &scratch.script("frozen", body), SHORT);
    assert_eq!(outcome.output(), "bye\n", "{outcome:?}");
}

#[test]
fn a_job_is_killed_on_request() {
    let scratch = Scratch::new();
    let body = format!("echo $$ > {}; sleep 60", scratch.path("pid").display());
    let command = scratch.script("long", &body);
    let (handle, outcome) = start(&runner(&scratch), "job", &command, LONG, SHORT);
    let pid = scratch.pid("pid");
    assert!(outcome.try_recv().is_err());
    let begin = Instant::now();
    handle.kill();
    let outcome = outcome.recv_timeout(LONG).unwrap();
    assert!(
        matches!(outcome, Outcome::Killed { gone: true, .. }),
        "{outcome:?}"
    );
    assert!(begin.elapsed() < Duration::from_secs(2));
    assert!(!lives(pid));
    handle.kill();
}

#[test]
fn runs_of_one_name_do_not_take_each_others_record() {
    let scratch = Scratch::new();
    let runner = runner(&scratch);
    let long = scratch.script("long", "sleep 60");
    let (first, first_done) = start(&runner, "job", &long, LONG, SHORT);
    until("the first runs", || records(&scratch).len() == 1);
    assert!(run(&scratch, &["/bin/true".into()], LONG).is_success());
    assert_eq!(records(&scratch).len(), 1);
    first.kill();
    first_done.recv_timeout(LONG).unwrap();
    assert!(records(&scratch).is_empty());
}
