//! A directory for one test, with programs in it.
#![allow(dead_code, reason = "not every test uses everything")]

use std::fs;
use std::os::unix::fs::PermissionsExt;
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicU32, Ordering};
use std::time::{Duration, Instant};

/// Removed when it is dropped.
pub(crate) struct Scratch(PathBuf);

static NUMBER: AtomicU32 = AtomicU32::new(0);

impl Scratch {
    pub(crate) fn new() -> Self {
        let number = NUMBER.fetch_add(1, Ordering::Relaxed);
        let name = format!("tandem-failover-{}-{number}", std::process::id());
        let dir = std::env::temp_dir().join(name);
        fs::create_dir(&dir).unwrap();
        Self(dir)
    }

    pub(crate) fn path(&self, name: &str) -> PathBuf {
        self.0.join(name)
    }

    pub(crate) fn dir(&self) -> &Path {
        &self.0
    }

    pub(crate) fn file(&self, name: &str, text: &str, mode: u32) -> String {
        let path = self.path(name);
        // A program that is still open for writing in a child that another test is starting cannot
        // be executed. So it is written under one name and copied by a program of its own.
        let plain = self.path(&format!("{name}.text"));
        fs::write(&plain, text).unwrap();
        let copied = std::process::Command::new("cp")
            .args([&plain, &path])
            .status();
        assert!(copied.unwrap().success());
        fs::set_permissions(&path, fs::Permissions::from_mode(mode)).unwrap();
        path.to_str().unwrap().to_owned()
    }

    /// An executable shell script.
    pub(crate) fn script(&self, name: &str, body: &str) -> Vec<String> {
        vec![self.file(name, &format!("#!/bin/sh\n{body}\n"), 0o755)]
    }

    /// A number that a script writes into a file.
    pub(crate) fn pid(&self, name: &str) -> u32 {
        let mut pid = None;
        until("a script writes a process number", || {
            pid = fs::read_to_string(self.path(name))
                .ok()
                .filter(|text| text.ends_with('\n'))
                .and_then(|text| text.trim().parse().ok());
            pid.is_some()
        });
        pid.unwrap()
    }
}

impl Drop for Scratch {
    fn drop(&mut self) {
        let _ = fs::remove_dir_all(&self.0);
    }
}

/// Waits until it is so, and fails when it takes too long.
pub(crate) fn until(what: &str, mut is: impl FnMut() -> bool) {
    let begin = Instant::now();
    while !is() {
        assert!(begin.elapsed() < Duration::from_secs(10), "{what}: not yet");
        std::thread::sleep(Duration::from_millis(10));
    }
}

/// Whether a process runs; a zombie does not.
pub(crate) fn lives(pid: u32) -> bool {
    let text = fs::read_to_string(format!("/proc/{pid}/stat")).unwrap_or_default();
    let state = text
        .rsplit(") ")
        .next()
        .and_then(|rest| rest.chars().next());
    state.is_some_and(|state| !"ZX".contains(state))
}

/// Ends a process of ours.
pub(crate) fn end(pid: u32) {
    // SAFETY: takes numbers only.
    unsafe { libc::kill(pid as libc::pid_t, libc::SIGKILL) };
}
