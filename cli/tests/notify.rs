//! What systemd is told by the manager. A socket of this test stands in for systemd's, because a
//! test cannot be a unit: what is seen is that the words are sent and when, not what systemd does
//! with them.
#![allow(clippy::unwrap_used)]

mod support;

use std::fs;
use std::io;
use std::net::TcpListener;
use std::os::unix::net::UnixDatagram;
use std::path::PathBuf;
use std::process::{Child, Stdio};
use std::sync::atomic::{AtomicU32, Ordering};
use std::time::{Duration, Instant};

use support::{is_root, tandem};

/// The watchdog's time as the unit would give it, and the pace that follows from it.
const WATCHDOG: Duration = Duration::from_millis(1500);
const PACE: Duration = Duration::from_millis(500);

/// A manager without modules, and the stand-in for systemd. All ended and removed when dropped.
struct Managed {
    root: PathBuf,
    systemd: UnixDatagram,
    manager: Child,
}

impl Managed {
    fn start() -> Self {
        static NEXT: AtomicU32 = AtomicU32::new(0);
        let number = NEXT.fetch_add(1, Ordering::Relaxed);
        let name = format!("tandem-notify-{}-{number}", std::process::id());
        let root = std::env::temp_dir().join(name);
        fs::create_dir(&root).unwrap();
        let systemd = UnixDatagram::bind(root.join("notify")).unwrap();
        let (etc, ca) = (root.join("etc"), root.join("ca"));
        let (ca, pki) = (ca.to_str().unwrap(), etc.join("pki"));
        let pki = pki.to_str().unwrap();
        for arguments in [
            vec!["pki", "init", "--cluster", "shop", "--out", ca],
            vec!["pki", "issue", "a", "--ca", ca, "--out", pki],
        ] {
            assert!(tandem(&arguments).output().unwrap().status.success());
        }
        let port = TcpListener::bind("127.0.0.1:0").unwrap();
        let port = port.local_addr().unwrap().port();
        let cluster = format!(
            "(name: \"shop\", port: {port}, nodes: [(name: \"a\", addresses: [\"127.0.0.1\"]), \
             (name: \"b\", addresses: [\"127.0.0.2\"])])"
        );
        fs::write(etc.join("cluster.ron"), cluster).unwrap();
        fs::write(etc.join("node.ron"), "(name: \"a\")").unwrap();
        fs::create_dir(etc.join("modules")).unwrap();
        let mut command = tandem(&["failover"]);
        for (variable, name) in [("CONFIG", "etc"), ("STATE", "state"), ("RUN", "run")] {
            command.env(format!("TANDEM_{variable}_DIR"), root.join(name));
        }
        command
            .env("NOTIFY_SOCKET", root.join("notify"))
            .env("WATCHDOG_USEC", WATCHDOG.as_micros().to_string())
            .stdin(Stdio::null())
            .stderr(fs::File::create(root.join("log")).unwrap());
        let manager = command.spawn().unwrap();
        Self {
            root,
            systemd,
            manager,
        }
    }

    /// The next word, if one comes within this time.
    fn word(&self, limit: Duration) -> Option<String> {
        self.systemd.set_read_timeout(Some(limit)).unwrap();
        let mut buffer = [0; 4096];
        match self.systemd.recv(&mut buffer) {
            Ok(count) => Some(String::from_utf8(buffer[..count].to_vec()).unwrap()),
            Err(e) if e.kind() == io::ErrorKind::WouldBlock => None,
            Err(e) => panic!("{e}"),
        }
    }

    /// Waits for a word that begins like this.
    fn hears(&self, what: &str) -> String {
        let began = Instant::now();
        while began.elapsed() < Duration::from_secs(10) {
            if let Some(word) = self.word(Duration::from_millis(200))
                && word.starts_with(what)
            {
                return word;
            }
        }
        let log = fs::read_to_string(self.root.join("log")).unwrap();
        panic!("no {what}: {log}");
    }

    /// Signs of life within this time.
    fn pings(&self, time: Duration) -> u32 {
        let began = Instant::now();
        let mut count = 0;
        while let Some(rest) = time.checked_sub(began.elapsed()) {
            let word = self.word(rest.max(Duration::from_millis(1)));
            count += u32::from(word.is_some_and(|word| word.trim() == "WATCHDOG=1"));
        }
        count
    }
}

impl Drop for Managed {
    fn drop(&mut self) {
        let _ = self.manager.kill();
        let _ = self.manager.wait();
        let _ = fs::remove_dir_all(&self.root);
    }
}

#[test]
fn systemd_hears_that_the_manager_is_ready_lives_and_stops() {
    if !is_root() {
        return;
    }
    let mut managed = Managed::start();
    managed.hears("READY=1");
    assert_eq!(managed.hears("STATUS=").trim(), "STATUS=no modules");
    let pings = managed.pings(PACE * 8);
    assert!((5..=9).contains(&pings), "{pings} in {:?}", PACE * 8);
    support::signal(managed.manager.id(), libc::SIGTERM);
    managed.hears("STOPPING=1");
    assert!(managed.manager.wait().unwrap().success());
}

/// Stops one thread of a process, and no other, by tracing it.
struct Stopped(libc::pid_t);

impl Stopped {
    fn thread(number: u32) -> Self {
        let number = libc::pid_t::try_from(number).unwrap();
        let none = std::ptr::null_mut::<libc::c_void>();
        // SAFETY: these calls take numbers only; a child of ours is traced.
        unsafe {
            assert_eq!(libc::ptrace(libc::PTRACE_SEIZE, number, none, none), 0);
            assert_eq!(libc::ptrace(libc::PTRACE_INTERRUPT, number, none, none), 0);
            let mut status = 0;
            let stopped = libc::waitpid(number, &raw mut status, libc::__WALL);
            assert_eq!(stopped, number);
            assert!(libc::WIFSTOPPED(status));
        }
        Self(number)
    }
}

impl Drop for Stopped {
    fn drop(&mut self) {
        let none = std::ptr::null_mut::<libc::c_void>();
        // SAFETY: as above.
        unsafe { libc::ptrace(libc::PTRACE_DETACH, self.0, none, none) };
    }
}

#[test]
fn a_loop_that_is_stuck_falls_silent_though_the_process_lives() {
    if !is_root() {
        return;
    }
    let managed = Managed::start();
    managed.hears("READY=1");
    assert!(managed.pings(PACE * 4) >= 3);
    // The loop is the first thread of the process.
    let stopped = Stopped::thread(managed.manager.id());
    // What it had said already.
    managed.pings(Duration::from_millis(100));
    assert_eq!(
        managed.pings(WATCHDOG * 2),
        0,
        "somebody else says that the loop is alive"
    );
    // The others run: somebody takes connections.
    let socket = managed.root.join("run/failover.sock");
    let client = std::os::unix::net::UnixStream::connect(socket).unwrap();
    client.set_read_timeout(Some(PACE)).unwrap();
    let threads = format!("/proc/{}/task", managed.manager.id());
    let state = |thread: &fs::DirEntry| {
        let stat = fs::read_to_string(thread.path().join("stat")).unwrap_or_default();
        let rest = stat
            .rsplit_once(')')
            .map(|(_, rest)| rest.trim().to_string());
        rest.unwrap_or_default().chars().next()
    };
    let states: Vec<_> = fs::read_dir(threads)
        .unwrap()
        .flatten()
        .map(|t| state(&t))
        .collect();
    let halted = states.iter().filter(|s| **s == Some('t')).count();
    assert_eq!(halted, 1, "only the loop is stopped: {states:?}");
    assert!(states.len() > 3, "{states:?}");
    drop(stopped);
    assert!(managed.pings(PACE * 4) >= 3, "it goes on");
}
