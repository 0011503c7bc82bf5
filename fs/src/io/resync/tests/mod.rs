//! Source engine and target on two plain directories of a real file system: no mount, no network.

mod app;
mod compare;

use super::super::backing::Backing;
use super::super::service::Volume;
use super::source::Source;
use super::target::FsTarget;
use app::App;
use compare::differences;
use std::cell::{Cell, RefCell};
use std::collections::HashMap;
use std::future::Future;
use std::os::unix::fs::{MetadataExt, PermissionsExt, symlink};
use std::path::{Path, PathBuf};
use std::pin::pin;
use std::sync::Arc;
use std::task::{Context, Poll, Waker};
use tandem_repl::ids::{DirId, Id128};
use tandem_repl::logic::dirty::Marks;
use tandem_repl::logic::resync::messages::{Aside, Reply, Request};
use tandem_repl::logic::resync::model::marking::joined;
use tandem_repl::logic::resync::target::Target;
use tandem_repl::logic::resync::{
    Failure, Feed, Gone, Next, Order, Outcome, PassReport, Pipe, Rules, Since, Stop, Ticket, run,
};

/// Runs a future that never has to wait.
fn now<T>(future: impl Future<Output = T>) -> T {
    let mut context = Context::from_waker(Waker::noop());
    match pin!(future).poll(&mut context) {
        Poll::Ready(value) => value,
        Poll::Pending => panic!("nothing here waits"),
    }
}

/// Two directories, removed at the end.
struct Pair {
    top: PathBuf,
    app: RefCell<App>,
    gens: RefCell<Vec<Marks>>,
    baseline: Cell<u8>,
    /// Changes before each request.
    busy: Cell<usize>,
    passes: Cell<u32>,
    breaks: Cell<usize>,
    held: Cell<bool>,
    sent: Cell<u64>,
    aside: RefCell<Option<Aside>>,
}

impl Drop for Pair {
    fn drop(&mut self) {
        app::unprotect(&self.top);
        let _ = std::fs::remove_dir_all(&self.top);
    }
}

impl Pair {
    fn new(name: &str, seed: u64) -> Self {
        let top = std::env::temp_dir().join(format!("tandem-resync-{name}-{}", std::process::id()));
        app::unprotect(&top);
        let _ = std::fs::remove_dir_all(&top);
        for side in ["source", "target"] {
            std::fs::create_dir_all(top.join(side)).unwrap();
        }
        Self {
            app: RefCell::new(App::new(&top.join("source"), seed)),
            top,
            gens: RefCell::default(),
            baseline: Cell::new(1),
            busy: Cell::new(0),
            passes: Cell::new(1),
            breaks: Cell::new(usize::MAX),
            held: Cell::new(false),
            sent: Cell::new(0),
            aside: RefCell::default(),
        }
    }

    fn source(&self) -> PathBuf {
        self.top.join("source")
    }

    fn target(&self) -> PathBuf {
        self.top.join("target")
    }

    fn session(&self) -> Result<Outcome, Failure> {
        self.held.set(false);
        let volume = |path: &Path| {
            let backing = Backing::open(path).unwrap();
            vec![Arc::new(Volume::new(DirId(0), backing, Vec::new()))]
        };
        let source = Source::of(&volume(&self.source()));
        let target = FsTarget::of(&volume(&self.target()));
        let pipe = Local {
            pair: self,
            target: Target::new(Arc::new(target), Rules::default()),
            replies: RefCell::default(),
            next: Cell::new(0),
        };
        let order = Order {
            baseline: Id128([self.baseline.get(); 16]),
            aside: self.aside.borrow().clone(),
            ..Order::default()
        };
        let outcome = now(run(&source, &pipe, self, order))?;
        self.gens.borrow_mut().clear();
        self.baseline.set(self.baseline.get() + 1);
        Ok(outcome)
    }

    fn resync(&self) -> Outcome {
        loop {
            match self.session() {
                Ok(outcome) => {
                    self.assert_equal();
                    return outcome;
                }
                Err(Failure::Gone(_)) => self.breaks.set(usize::MAX),
                Err(other) => panic!("{other}"),
            }
        }
    }

    /// What was parked is removed in the background.
    fn wait_for_sweep(&self) {
        let own = self.target().join(".tandem");
        let busy = || {
            let Ok(entries) = std::fs::read_dir(&own) else {
                return false;
            };
            let mut names = entries.map(|e| e.unwrap().file_name());
            names.any(|n| n.to_string_lossy().starts_with("swept-"))
        };
        for _ in 0..1000 {
            if !busy() {
                return;
            }
            std::thread::sleep(std::time::Duration::from_millis(5));
        }
        panic!("nobody sweeps");
    }

    fn assert_equal(&self) {
        self.wait_for_sweep();
        let found = differences(&self.source(), &self.target());
        assert!(found.is_empty(), "{}", found.join("\n"));
    }

    /// Everything is compared at the next resync.
    fn everything(&self) -> Outcome {
        self.app.borrow_mut().marking.mark_everything();
        self.resync()
    }

    /// Bytes of files that a resync sends.
    fn cost(&self) -> u64 {
        let before = self.sent.get();
        let outcome = self.resync();
        assert_eq!(outcome.anomalies, 0);
        self.sent.get() - before
    }
}

struct Local<'a> {
    pair: &'a Pair,
    target: Target<FsTarget>,
    replies: RefCell<HashMap<Ticket, Reply>>,
    next: Cell<u64>,
}

impl Pipe for Local<'_> {
    async fn send(&self, request: Request) -> Result<Ticket, Gone> {
        let pair = self.pair;
        if !pair.held.get() {
            pair.app.borrow_mut().changes(pair.busy.get());
        }
        let left = pair.breaks.get();
        if left == 0 {
            return Err(Gone);
        }
        pair.breaks.set(left - 1);
        let bytes = match &request {
            Request::Data { data, .. } => data.0.len(),
            Request::Files { files, .. } => {
                let data = files.iter().filter_map(|f| f.data.as_ref());
                data.map(|d| d.0.len()).sum()
            }
            _ => 0,
        };
        pair.sent.set(pair.sent.get() + bytes as u64);
        let ticket = Ticket(self.next.get());
        self.next.set(ticket.0 + 1);
        let reply = self.target.handle(&request);
        if std::env::var_os("TANDEM_RESYNC_TRACE").is_some() {
            println!("{request:?}\n    {reply:?}");
        }
        self.replies.borrow_mut().insert(ticket, reply);
        Ok(ticket)
    }

    async fn reply(&self, ticket: Ticket) -> Result<Reply, Gone> {
        Ok(self.replies.borrow_mut().remove(&ticket).unwrap())
    }
}

impl Feed for Pair {
    async fn next_marks(&self, since: Since) -> Result<Marks, Stop> {
        let taken = self.app.borrow_mut().marking.take();
        let mut gens = self.gens.borrow_mut();
        gens.push(taken.clone());
        Ok(match since {
            Since::Start { .. } => gens.iter().cloned().fold(Marks::default(), joined),
            Since::Last => taken,
        })
    }

    async fn permit(&self, _: u64) -> Result<(), Stop> {
        Ok(())
    }

    async fn passed(&self, report: PassReport) -> Result<Next, Stop> {
        if report.number < self.passes.get() {
            return Ok(Next::Again);
        }
        self.held.set(true);
        Ok(Next::Last)
    }
}

/// A pair with a tree of random content, in sync.
fn synchronised(name: &str, seed: u64) -> Pair {
    let pair = Pair::new(name, seed);
    pair.app.borrow_mut().changes(150);
    pair.everything();
    pair
}

fn seeds() -> std::ops::Range<u64> {
    let given = std::env::var("TANDEM_RESYNC_SEEDS").unwrap_or_default();
    let range = given.split_once("..");
    let range = range.and_then(|(from, to)| Some(from.parse().ok()?..to.parse().ok()?));
    range.unwrap_or(0..12)
}

#[test]
fn changes_while_the_target_was_away() {
    for seed in seeds() {
        println!("seed {seed}");
        let pair = synchronised("away", seed);
        for _ in 0..4 {
            pair.app.borrow_mut().changes(60);
            assert_eq!(pair.resync().anomalies, 0);
        }
    }
}

#[test]
fn changes_while_the_resync_runs_and_breaks() {
    for seed in seeds() {
        println!("seed {seed}");
        let pair = synchronised("runs", seed);
        pair.passes.set(3);
        pair.busy.set(1);
        for _ in 0..4 {
            pair.app.borrow_mut().changes(40);
            let breaks = pair.app.borrow_mut().below(40);
            pair.breaks.set(breaks);
            pair.resync();
        }
    }
}

#[test]
fn a_first_synchronisation_of_an_older_copy() {
    for seed in seeds() {
        println!("seed {seed}");
        let pair = Pair::new("copy", seed);
        pair.app.borrow_mut().changes(150);
        // With all attributes, the identities too, which belong to other inodes.
        let copied = std::process::Command::new("cp")
            .args(["-a", "-T"])
            .args([pair.source(), pair.target()])
            .status()
            .unwrap();
        assert!(copied.success());
        pair.app.borrow_mut().changes(20);
        pair.everything();
        // Nothing has changed: nothing is sent.
        pair.app.borrow_mut().marking.mark_everything();
        assert_eq!(pair.cost(), 0);
    }
}

#[test]
fn a_moved_directory_is_moved() {
    let pair = Pair::new("moved", 1);
    let root = pair.source();
    {
        let mut app = pair.app.borrow_mut();
        app.mkdir(&root.join("a"));
        app.mkdir(&root.join("b"));
        app.mkdir(&root.join("a/big"));
        for n in 0..50 {
            app.file(&root.join(format!("a/big/{n}")), &vec![n; 20_000]);
        }
    }
    assert_eq!(pair.cost(), 50 * 20_000);
    let inode = |path: &str| std::fs::metadata(pair.target().join(path)).unwrap().ino();
    let before = inode("a/big/7");
    pair.app
        .borrow_mut()
        .rename(&root.join("a"), &root.join("b/c"));
    assert_eq!(pair.cost(), 0);
    assert_eq!(inode("b/c/big/7"), before);
}

#[test]
fn protected_files_and_all_kinds_of_attributes() {
    let pair = Pair::new("attributes", 1);
    let root = pair.source();
    let path = |name: &str| root.join(name);
    {
        let mut app = pair.app.borrow_mut();
        app.mkdir(&path("dir"));
        app.file(&path("dir/immutable"), b"one");
        app.file(&path("dir/append"), b"two");
        app.file(&path("setuid"), b"three");
        app.file(&path("capable"), b"four");
        app.touch(&path("dir"), None);
        std::fs::set_permissions(path("setuid"), PermissionsExt::from_mode(0o6755)).unwrap();
        std::os::unix::fs::chown(path("setuid"), Some(1000), Some(1001)).unwrap();
        std::fs::set_permissions(path("setuid"), PermissionsExt::from_mode(0o6755)).unwrap();
        symlink("nowhere", path("link")).unwrap();
        app.made(&path("link"));
        // What setcap writes: version 2, cap_net_raw, effective.
        let capability = [
            1, 0, 0, 2, 0, 0x20, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0,
        ];
        app::set_xattr(&path("capable"), c"security.capability", &capability);
        app::set_xattr(&path("dir"), c"user.note", &[7; 3000]);
        app::set_xattr(&path("link"), c"trusted.of-a-link", b"x");
        app::protect(&path("dir/immutable"), 0x10);
        app::protect(&path("dir/append"), 0x20);
        app::protect(&path("dir"), 0x10);
    }
    pair.resync();
    for name in ["dir", "dir/immutable"] {
        let refused = std::fs::write(pair.target().join(name).join("x"), b"").unwrap_err();
        println!("{name}: {refused}");
    }
    // Changed under protection, and protected again.
    {
        let mut app = pair.app.borrow_mut();
        for name in ["dir", "dir/immutable", "dir/append"] {
            app.touch(&path(name), None);
            app::protect(&path(name), 0);
        }
        app.write(&path("dir/immutable"), 1, b"changed");
        app.rename(&path("dir/append"), &path("dir/renamed"));
        app.remove(&path("capable"));
        app::protect(&path("dir/immutable"), 0x10);
        app::protect(&path("dir/renamed"), 0x20);
        app::protect(&path("dir"), 0x10);
    }
    pair.resync();
    // And removed.
    {
        let mut app = pair.app.borrow_mut();
        for name in ["dir", "dir/immutable", "dir/renamed"] {
            app.touch(&path(name), None);
            app::protect(&path(name), 0);
        }
        for name in ["dir/immutable", "dir/renamed", "dir"] {
            app.remove(&path(name));
        }
    }
    pair.resync();
}

#[test]
fn a_large_file_of_which_little_changed() {
    let pair = Pair::new("large", 1);
    let file = pair.source().join("large");
    pair.app.borrow_mut().file(&file, &vec![0x5a; 40 << 20]);
    // Data, a hole of 100 MiB, data.
    pair.app.borrow_mut().write(&file, 140 << 20, &[1; 10_000]);
    assert_eq!(pair.cost(), (40 << 20) + 10_000);
    let blocks = std::fs::metadata(pair.target().join("large"))
        .unwrap()
        .blocks();
    assert!(blocks * 512 < 48 << 20, "the hole is one: {blocks} blocks");
    pair.app.borrow_mut().write(&file, 30 << 20, b"changed");
    pair.app.borrow_mut().touch(&file, Some((0, 40 << 20)));
    assert_eq!(pair.cost(), 8192);
}

/// Figures, for whoever works on the speed: `cargo test --release -p tandem-fs figures -- --ignored
/// --nocapture`.
#[test]
#[ignore = "measures, does not test"]
fn figures() {
    let pair = Pair::new("figures", 1);
    let root = pair.source();
    let files = 20_000;
    for d in 0..files / 100 {
        let dir = root.join(format!("d{d}"));
        std::fs::create_dir(&dir).unwrap();
        for n in 0..100 {
            std::fs::write(dir.join(format!("file-{n}")), vec![n as u8; 4000]).unwrap();
        }
    }
    // Processor time: this machine may be busy with other things.
    let processor = || {
        let of = |who| {
            // SAFETY: `rusage` is plain data for which zero is a value, and valid for writes.
            let usage = unsafe {
                let mut usage: libc::rusage = std::mem::zeroed();
                libc::getrusage(who, &raw mut usage);
                usage
            };
            let time = |t: libc::timeval| t.tv_sec as f64 * 1e6 + t.tv_usec as f64;
            time(usage.ru_utime) + time(usage.ru_stime)
        };
        of(libc::RUSAGE_SELF) + of(libc::RUSAGE_CHILDREN)
    };
    let run = |what: &str, work: &dyn Fn()| {
        let (began, before) = (std::time::Instant::now(), processor());
        work();
        let took = began.elapsed();
        let each = (processor() - before) / f64::from(files);
        println!("{what}: {took:?}, {each:.1} us of processor time a file");
    };
    run("give identities, copy", &|| {
        pair.app.borrow_mut().marking.mark_everything();
        pair.session().unwrap();
    });
    // Not removed: ext4 looks long for inodes that were not used just before.
    let aside = |n: u32| {
        std::fs::rename(pair.target(), pair.top.join(format!("old-{n}"))).unwrap();
        std::fs::create_dir(pair.target()).unwrap();
    };
    aside(1);
    run("copy", &|| {
        pair.app.borrow_mut().marking.mark_everything();
        pair.session().unwrap();
    });
    run("compare", &|| {
        pair.app.borrow_mut().marking.mark_everything();
        pair.session().unwrap();
    });
    aside(2);
    run("rsync -aX", &|| {
        let from = format!("{}/", root.display());
        let copied = std::process::Command::new("rsync")
            .args(["-aX", &from])
            .arg(pair.target())
            .status();
        assert!(copied.is_ok_and(|s| s.success()));
    });
}
