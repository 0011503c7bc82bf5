//! A manager dies, its scripts go on, and the next manager knows them: real processes, and a
//! stand-in for the manager that is killed.
#![allow(
    clippy::unwrap_used,
    reason = "a failed set-up ends the test, with its line"
)]

mod scratch;

use std::fs;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::time::Duration;

use scratch::{Scratch, end, lives, until};
use tandem_failover::io::run::{Job, Runner, leftovers};

const DIR: &str = "TANDEM_TEST_DIR";
const GRACE: Duration = Duration::from_millis(300);

/// Not a test: the stand-in for a manager, which this program is when it is called by the tests
/// below. It starts the script `job` and waits until it is killed.
#[test]
#[ignore = "the stand-in that the other tests start"]
fn stand_in() {
    let Some(dir) = std::env::var_os(DIR).map(PathBuf::from) else {
        return;
    };
    Runner::new(dir.join("log")).start(Job {
        name: "stop_prim".into(),
        command: vec![dir.join("job").to_str().unwrap().into()],
        limit: Duration::from_secs(60),
        grace: GRACE,
        env: Vec::new(),
        done: Box::new(drop),
    });
    std::thread::sleep(Duration::from_secs(60));
}

/// A stand-in that has started `body` and was killed; the script's process number.
fn orphan(scratch: &Scratch, body: &str) -> u32 {
    let body = format!("echo $$ > {}\n{body}", scratch.path("pid").display());
    scratch.script("job", &body);
    let mut manager: Child = Command::new(std::env::current_exe().unwrap())
        .args(["--exact", "stand_in", "--ignored", "--nocapture"])
        .env(DIR, scratch.dir())
        .stdout(Stdio::null())
        .spawn()
        .unwrap();
    let pid = scratch.pid("pid");
    until("the record is whole", || {
        record(&log(scratch)).is_some_and(|text| text.contains("\nstarted "))
    });
    manager.kill().unwrap();
    manager.wait().unwrap();
    pid
}

fn log(scratch: &Scratch) -> PathBuf {
    scratch.path("log")
}

fn record_path(log: &Path) -> Option<PathBuf> {
    let mut paths = fs::read_dir(log).ok()?.map(|entry| entry.unwrap().path());
    paths.find(|path| path.extension().is_some_and(|end| end == "job"))
}

fn record(log: &Path) -> Option<String> {
    fs::read_to_string(record_path(log)?).ok()
}

#[test]
fn a_script_outlives_the_manager_and_the_next_one_can_end_it() {
    let scratch = Scratch::new();
    let child = scratch.path("child").display().to_string();
    let body = format!(
        "(trap '' TERM; sleep 60) & echo $! > {child}
        while sleep 0.05; do echo still here; done"
    );
    let pid = orphan(&scratch, &body);
    let output = Runner::new(log(&scratch)).output_of("stop_prim");
    let before = fs::metadata(&output).unwrap().len();
    until("it goes on and writes on", || {
        fs::metadata(&output).unwrap().len() > before + 20
    });
    assert!(lives(pid));
    let left = leftovers(&log(&scratch)).unwrap();
    assert_eq!(left.len(), 1);
    assert_eq!((left[0].name.as_str(), left[0].pid()), ("stop_prim", pid));
    assert!(!left[0].wait(Duration::from_millis(50)));
    assert!(left[0].kill(GRACE));
    assert!(!lives(pid) && !lives(scratch.pid("child")));
    assert_eq!(record(&log(&scratch)), None);
    assert!(left[0].kill(GRACE), "once more does nothing");
}

#[test]
fn a_script_that_ends_by_itself_is_waited_for() {
    let scratch = Scratch::new();
    let body = format!(
        "while ! test -e {}; do sleep 0.05; done",
        scratch.path("go").display()
    );
    orphan(&scratch, &body);
    let left = leftovers(&log(&scratch)).unwrap();
    assert!(!left[0].wait(Duration::from_millis(50)));
    fs::write(scratch.path("go"), "").unwrap();
    assert!(left[0].wait(Duration::from_secs(10)));
    assert_eq!(leftovers(&log(&scratch)).unwrap().len(), 0);
    assert_eq!(record(&log(&scratch)), None);
}

/// The manager died between starting the program and writing down its number.
#[test]
fn a_script_of_which_only_the_mark_is_known_is_found() {
    let scratch = Scratch::new();
    let pid = orphan(&scratch, "sleep 60");
    let text = record(&log(&scratch)).unwrap();
    let (announced, _) = text.split_once("pid ").unwrap();
    fs::write(record_path(&log(&scratch)).unwrap(), announced).unwrap();
    let left = leftovers(&log(&scratch)).unwrap();
    assert_eq!(left.len(), 1);
    assert_eq!(left[0].pid(), pid);
    assert!(left[0].kill(GRACE));
    assert!(!lives(pid));
}

#[test]
fn a_process_that_has_the_number_now_is_left_alone() {
    let scratch = Scratch::new();
    let pid = orphan(&scratch, "exec sleep 60");
    let text = record(&log(&scratch)).unwrap();
    let path = record_path(&log(&scratch)).unwrap();
    let line = text
        .lines()
        .find(|line| line.starts_with("started "))
        .unwrap();
    let changed = [
        // The same number, begun at another time.
        text.replace(line, "started 1"),
        // The same number and time in another life of this machine.
        text.replace("boot ", "boot 0"),
    ];
    for text in changed {
        fs::write(&path, text).unwrap();
        assert_eq!(leftovers(&log(&scratch)).unwrap().len(), 0);
        assert!(!path.exists(), "the record means nothing any more");
        assert!(lives(pid), "and neither does it mean this process");
    }
    end(pid);
}

/// It ended while no manager was there; what it left is the application.
#[test]
fn the_application_is_not_taken_for_a_script() {
    let scratch = Scratch::new();
    let child = scratch.path("child").display().to_string();
    let go = scratch.path("go").display().to_string();
    let body = format!("sleep 60 & echo $! > {child}; while ! test -e {go}; do sleep 0.05; done");
    let pid = orphan(&scratch, &body);
    fs::write(scratch.path("go"), "").unwrap();
    until("the script has ended", || !lives(pid));
    assert_eq!(leftovers(&log(&scratch)).unwrap().len(), 0);
    let child = scratch.pid("child");
    assert!(lives(child));
    end(child);
}

#[test]
fn where_nothing_was_there_is_nothing() {
    let scratch = Scratch::new();
    assert_eq!(leftovers(&scratch.path("none")).unwrap().len(), 0);
    fs::create_dir(log(&scratch)).unwrap();
    fs::write(log(&scratch).join("a.job"), [0xff, 0xfe]).unwrap();
    fs::write(log(&scratch).join("b.job"), "boot").unwrap();
    fs::write(log(&scratch).join("c.log"), "kept").unwrap();
    assert_eq!(leftovers(&log(&scratch)).unwrap().len(), 0);
    assert!(log(&scratch).join("c.log").exists());
}
