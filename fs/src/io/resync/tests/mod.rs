//! Source engine and target on two plain directories of a real file system: no mount, no network.

mod app;
mod cases;
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
    /// Whether the target is asked for marks of its own.
    peer_marks: Cell<bool>,
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
            peer_marks: Cell::new(false),
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
            peer_marks: self.peer_marks.get(),
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
