//! The output of programs is kept, and bounded.
#![allow(
    clippy::unwrap_used,
    reason = "a failed set-up ends the test, with its line"
)]

mod scratch;

use std::fs;
use std::os::unix::fs::MetadataExt;
use std::sync::mpsc;
use std::time::Duration;

use scratch::{Scratch, until};
use tandem_failover::io::run::{End, Job, Outcome, Runner};

const LONG: Duration = Duration::from_secs(20);

fn runner(scratch: &Scratch) -> Runner {
    Runner::new(scratch.path("log"))
}

fn run(scratch: &Scratch, command: &[String], limit: Duration) -> Outcome {
    runner(scratch).run("job", command, limit, &[])
}

#[test]
fn a_flood_of_output_stays_bounded_and_its_end_is_kept() {
    let scratch = Scratch::new();
    let log = runner(&scratch).output_of("job");
    let command = scratch.script(
        "flood",
        "yes tandem & sleep 1; kill $!; wait; echo; echo the end",
    );
    let (send, outcome) = mpsc::channel();
    runner(&scratch).start(Job {
        name: "job".into(),
        command,
        limit: LONG,
        grace: LONG,
        env: Vec::new(),
        done: Box::new(move |outcome| send.send(outcome).unwrap()),
    });
    until("it has begun", || log.exists());
    let mut most = 0;
    let outcome = loop {
        most = most.max(fs::metadata(&log).map_or(0, |data| data.blocks() * 512));
        if let Ok(outcome) = outcome.try_recv() {
            break outcome;
        }
        std::thread::sleep(Duration::from_millis(1));
    };
    assert!(outcome.is_success(), "{outcome:?}");
    assert!(most > 1 << 20, "nothing was flooded: {most}");
    let size = fs::metadata(&log).unwrap().len();
    assert!(size <= 1 << 20, "{size}");
    let bytes = fs::read(&log).unwrap();
    assert!(bytes.ends_with(b"the end\n"));
    // Without the cuts, one second of this is hundreds of megabytes.
    assert!(most < 256 << 20, "{most}");
}

#[test]
fn outputs_of_the_last_runs_are_kept() {
    let scratch = Scratch::new();
    for run in 0..7 {
        let command = ["/bin/echo".to_owned(), format!("run {run}")];
        assert!(self::run(&scratch, &command, LONG).is_success());
    }
    let mut names: Vec<_> = fs::read_dir(scratch.path("log"))
        .unwrap()
        .map(|entry| entry.unwrap().file_name().into_string().unwrap())
        .collect();
    names.sort();
    assert_eq!(names, ["job.log", "job.log.1", "job.log.2", "job.log.3"]);
    for (number, name) in names.iter().enumerate() {
        let text = fs::read_to_string(scratch.path("log").join(name)).unwrap();
        assert_eq!(text, format!("run {}\n", 6 - number));
    }
}

#[test]
fn what_is_written_after_a_run_is_cut_on_demand() {
    let scratch = Scratch::new();
    let body = "(sleep 0.3; yes tandem | head -c 3000000; echo the end) & exit 0";
    assert!(run(&scratch, &scratch.script("start", body), LONG).is_success());
    let log = runner(&scratch).output_of("job");
    until("the daemon has written", || {
        fs::read(&log).unwrap().ends_with(b"the end\n")
    });
    assert!(fs::metadata(&log).unwrap().len() > 1 << 20);
    runner(&scratch).trim().unwrap();
    let bytes = fs::read(&log).unwrap();
    assert!(bytes.len() <= 1 << 20 && bytes.ends_with(b"the end\n"));
    Runner::new(scratch.path("nowhere")).trim().unwrap();
}

/// A full or read-only disk must not keep a stop script from being run.
#[test]
fn a_script_runs_also_where_its_output_cannot_be_kept() {
    let scratch = Scratch::new();
    fs::write(scratch.path("log"), "not a directory").unwrap();
    let body = format!("echo $$ > {}; exit 4", scratch.path("pid").display());
    let outcome = run(&scratch, &scratch.script("stop", &body), LONG);
    assert!(
        matches!(
            outcome,
            Outcome::Failed {
                end: End::Code(4),
                ..
            }
        ),
        "{outcome:?}"
    );
    assert!(
        outcome.output().contains("could not be kept"),
        "{outcome:?}"
    );
    scratch.pid("pid");
}
