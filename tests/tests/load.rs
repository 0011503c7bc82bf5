//! The check of what a load was told must be sharp: a lost write, file or name is found.

#![allow(
    clippy::unwrap_used,
    reason = "a failed set-up ends the test, with its line"
)]

use std::fs;
use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};
use tandem_tests::load::{self, BLOCK, WRITERS};
use tandem_tests::running::scratch_dir;
use tandem_tests::scratch::open_dir;

/// How long the writers may take.
const PATIENCE: Duration = Duration::from_secs(60);

struct Written {
    place: PathBuf,
    logs: PathBuf,
}

impl Written {
    /// Writers on a plain directory, until each was answered some hundred times.
    fn new() -> Self {
        let (place, logs) = (scratch_dir("load").unwrap(), scratch_dir("logs").unwrap());
        let written = Self { place, logs };
        let dir = open_dir(&written.place).unwrap();
        std::thread::scope(|scope| {
            let running = scope.spawn(|| load::run(&dir, &written.logs));
            // A log may not be there yet. Nothing may panic here: the writers are waited for.
            let until = Instant::now() + PATIENCE;
            let enough = |n| load::told(&written.logs, n).is_ok_and(|told| told.answered >= 600);
            while !(0..WRITERS).all(enough) && !running.is_finished() && Instant::now() < until {
                std::thread::yield_now();
            }
            load::end(&written.logs).unwrap();
            running.join().unwrap().unwrap();
        });
        for n in 0..WRITERS {
            let answered = load::told(&written.logs, n).unwrap().answered;
            assert!(answered >= 600, "writer {n} was answered {answered} times");
        }
        written
    }

    fn root(&self) -> PathBuf {
        self.place.join(self.logs.file_name().unwrap())
    }

    fn check(&self) -> Result<(), String> {
        (0..WRITERS).try_for_each(|number| {
            let told = load::told(&self.logs, number).unwrap();
            told.is_found(&self.root(), number)
                .map_err(|error| format!("{error:#}"))
        })
    }
}

impl Drop for Written {
    fn drop(&mut self) {
        fs::remove_dir_all(&self.place).ok();
        fs::remove_dir_all(&self.logs).ok();
    }
}

fn found_after(what: &str, change: impl FnOnce(&Path)) {
    let written = Written::new();
    written.check().unwrap();
    change(&written.root().join(load::writer(2)));
    assert!(written.check().is_err(), "{what} is not found");
}

#[test]
fn what_was_acknowledged_and_is_lost_is_found() {
    found_after("a lost name", |dir| fs::remove_file(newest(dir)).unwrap());
    found_after("lost content", |dir| fs::write(newest(dir), "").unwrap());
    found_after("a file that was removed", |dir| {
        fs::write(dir.join("kept0"), "").unwrap();
    });
    found_after("an undone rename", |dir| {
        let kept = newest(dir);
        let name = kept
            .file_name()
            .unwrap()
            .to_str()
            .unwrap()
            .replace("kept", "new");
        fs::rename(&kept, dir.join(name)).unwrap();
    });
    found_after("a lost write", |dir| {
        let mut data = fs::read(dir.join("data")).unwrap();
        data[5 * BLOCK..6 * BLOCK].fill(0);
        fs::write(dir.join("data"), data).unwrap();
    });
    found_after("a shorter file", |dir| {
        fs::write(dir.join("data"), "x").unwrap();
    });
}

/// The newest of the files that a writer keeps.
fn newest(dir: &Path) -> PathBuf {
    let names = fs::read_dir(dir)
        .unwrap()
        .map(|entry| entry.unwrap().path());
    let number = |path: &PathBuf| {
        let name = path.file_name()?.to_str()?;
        name.strip_prefix("kept")?.parse::<u64>().ok()
    };
    names.max_by_key(number).unwrap()
}
