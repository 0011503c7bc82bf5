//! A node's part in a resync: the engine of the product, polled by hand, over the simulated tree
//! and connection; and the other end.

mod desk;
mod touches;

use super::node::{Barrier, NAMES};
use super::resync_trees::{SourceSide, TargetSide};
use super::tree::Tree;
use super::world::{Local, World};
use super::{Msg, resync_trees};
use desk::{Desk, Shared};
use std::cell::RefCell;
use std::collections::BTreeMap;
use std::future::Future;
use std::pin::Pin;
use std::rc::Rc;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::task::{Context, Poll, Waker};
use tandem_repl::ids::Id128;
use tandem_repl::logic::dirty::Generation;
use tandem_repl::logic::member::{Gate, Input, ResyncEvent};
use tandem_repl::logic::resync::messages::{Aside, Reply, Request};
use tandem_repl::logic::resync::target::Target;
use tandem_repl::logic::resync::{self, Failure, Next, Order, Outcome, PassReport, Since};
use tandem_repl::logic::verdict::Scope;
pub use touches::{after, loser, touch_all};

/// Passes before the driver asks for the last one whatever is left.
const PASSES: u32 = 4;

type Run = Pin<Box<dyn Future<Output = Result<Outcome, Failure>>>>;

/// The source's end.
pub struct Source {
    pub round: u64,
    run: Run,
    desk: Rc<RefCell<Desk>>,
    scope: Scope,
    keep_aside: bool,
    /// Generation up to which marks were given.
    given: Option<Generation>,
    finishing: bool,
    /// A flush of the target after the last pass, by its number.
    has_ended: bool,
    is_polled: bool,
    converged: bool,
}

/// The target's end.
pub struct TargetRun {
    pub round: u64,
    pub keep_aside: bool,
    pub run: Option<(u64, Target<TargetSide>)>,
}

impl TargetRun {
    pub fn new(round: u64, keep_aside: bool) -> Self {
        Self {
            round,
            keep_aside,
            run: None,
        }
    }
}

impl World {
    pub fn start_source(&mut self, n: usize, round: u64, scope: Scope, keep_aside: bool) {
        let desk = Rc::new(RefCell::new(Desk::default()));
        let shared = Shared(desk.clone());
        let node = &self.nodes[n];
        let tree = SourceSide {
            tree: node.tree.clone(),
        };
        let record = node.record.read();
        let baseline = record.epoch.as_ref().map(|e| e.id).unwrap_or_default();
        let aside = keep_aside.then(|| Aside {
            id: baseline,
            reason: "the replicas were written apart".into(),
            beyond: true,
        });
        let order = Order {
            baseline,
            aside,
            peer_marks: true,
            rules: self.options.rules.resync,
            ..Order::default()
        };
        let run: Run = Box::pin(async move { resync::run(&tree, &shared, &shared, order).await });
        if let Some(daemon) = self.nodes[n].daemon.as_mut() {
            daemon.source = Some(Source {
                round,
                run,
                desk,
                scope,
                keep_aside,
                given: None,
                finishing: false,
                has_ended: false,
                is_polled: false,
                converged: false,
            });
        }
        self.stats.resyncs += 1;
        self.poll_soon(n);
    }

    fn source(&mut self, n: usize) -> Option<&mut Source> {
        self.nodes[n].daemon.as_mut()?.source.as_mut()
    }

    fn poll_soon(&mut self, n: usize) {
        let Some(source) = self.source(n) else { return };
        if !source.is_polled {
            source.is_polled = true;
            let round = source.round;
            self.later(n, 10, 100, Local::Poll(round));
        }
    }

    pub fn finish_source(&mut self, n: usize, round: u64) {
        let Some(source) = self.source(n).filter(|s| s.round == round) else {
            return;
        };
        source.finishing = true;
        source.desk.borrow_mut().next_pass = Some(Next::Last);
        self.poll_soon(n);
    }

    /// Writes flow again: a last pass that began meanwhile is worth nothing, so all begins anew.
    pub fn resume_source(&mut self, n: usize, round: u64) {
        let Some(source) = self.source(n).filter(|s| s.round == round) else {
            return;
        };
        let (scope, keep_aside) = (source.scope, source.keep_aside);
        // The same exchange goes on: a late reply must not be taken for that of a new request.
        let asked = source.desk.borrow().next;
        self.start_source(n, round, scope, keep_aside);
        if let Some(source) = self.source(n) {
            source.desk.borrow_mut().next = asked;
        }
    }

    pub fn on_poll(&mut self, n: usize, round: u64) {
        let Some(source) = self.source(n).filter(|s| s.round == round) else {
            return;
        };
        source.is_polled = false;
        if source.has_ended {
            return;
        }
        let mut context = Context::from_waker(Waker::noop());
        let polled = source.run.as_mut().poll(&mut context);
        let desk = source.desk.clone();
        let mut desk = desk.borrow_mut();
        let outbox = std::mem::take(&mut desk.outbox);
        let wants = desk.wants.take();
        let passed = desk.passed.take();
        drop(desk);
        for (number, request) in outbox {
            self.trace(|| format!("{} asks {number}: {request:?}", NAMES[n]));
            self.send(n, Msg::Request(number, Box::new(request)));
        }
        if let Some(since) = wants {
            self.want_marks(n, round, since);
        }
        if let Some(report) = passed {
            self.on_passed(n, round, report);
        }
        match polled {
            Poll::Pending => {}
            Poll::Ready(Ok(outcome)) => {
                self.trace(|| format!("{} resync is over: {outcome:?}", NAMES[n]));
                self.ended(n, round);
            }
            Poll::Ready(Err(failure)) => {
                if let Some(daemon) = self.nodes[n].daemon.as_mut() {
                    daemon.source = None;
                }
                let event = ResyncEvent::Failed(failure.to_string());
                self.tell(n, Input::ResyncEvent(round, event));
            }
        }
    }

    fn ended(&mut self, n: usize, round: u64) {
        let Some(source) = self.source(n) else { return };
        source.has_ended = true;
        if self.stands_still(n) {
            self.look_at_equality();
        }
        self.tell(n, Input::ResyncEvent(round, ResyncEvent::Finished));
    }

    fn want_marks(&mut self, n: usize, round: u64, since: Since) {
        let Some(daemon) = self.nodes[n].daemon.as_mut() else {
            return;
        };
        if let Some(source) = daemon.source.as_mut()
            && matches!(since, Since::Start { .. })
        {
            source.given = None;
        }
        daemon.barriers.push(Barrier::Resync(round));
        self.gate_moves(n);
    }

    /// A generation began: what was marked before it belongs to this pass.
    pub fn marks_begun(&mut self, n: usize, round: u64, generation: Generation) {
        let Some(daemon) = self.nodes[n].daemon.as_mut() else {
            return;
        };
        let Some(source) = daemon.source.as_mut().filter(|s| s.round == round) else {
            return;
        };
        let mut marks = match source.given {
            None => daemon.map.marks(),
            Some(given) => daemon.map.marks_since(given),
        };
        marks.everything |= source.given.is_none() && source.scope == Scope::Everything;
        source.given = Some(generation);
        source.desk.borrow_mut().marks = Some(marks);
        self.poll_soon(n);
    }

    fn on_passed(&mut self, n: usize, round: u64, report: PassReport) {
        self.trace(|| format!("{} pass: {report:?}", NAMES[n]));
        let Some(source) = self.source(n) else { return };
        if source.finishing {
            return;
        }
        let small = report.complete && (report.looked <= 4 || report.number >= PASSES);
        if !small {
            source.desk.borrow_mut().next_pass = Some(Next::Again);
            return self.poll_soon(n);
        }
        if !source.converged {
            source.converged = true;
            self.tell(n, Input::ResyncEvent(round, ResyncEvent::Converged));
        }
    }

    pub fn on_reply(&mut self, n: usize, number: u64, reply: Reply) {
        self.trace(|| format!("{} hears {number}: {reply:?}", NAMES[n]));
        let Some(source) = self.source(n) else { return };
        let mut desk = source.desk.borrow_mut();
        desk.open = desk.open.saturating_sub(1);
        desk.replies.insert(number, reply);
        drop(desk);
        self.poll_soon(n);
    }

    /// Writes are held, and none is under way.
    fn stands_still(&self, n: usize) -> bool {
        let daemon = self.nodes[n].daemon.as_ref();
        daemon.is_some_and(|d| d.gate == Gate::Frozen && d.busy.is_none())
    }

    /// The connection is gone, and with it the target.
    pub fn pipe_gone(&mut self, n: usize) {
        if let Some(source) = self.source(n) {
            source.desk.borrow_mut().gone = true;
            self.poll_soon(n);
        }
        if let Some(target) = self.nodes[n]
            .daemon
            .as_mut()
            .and_then(|d| d.target.as_mut())
        {
            target.run = None;
        }
    }

    /// The target does a request of the source.
    pub fn on_requested(&mut self, n: usize, session: u64, number: u64, request: &Request) {
        let rules = self.options.rules.resync;
        let boot = self.nodes[n].boot_id(n);
        let ills = self.nodes[n].ills;
        let tree = self.nodes[n].tree.clone();
        let notes = self.nodes[n].notes.clone();
        let Some(daemon) = self.nodes[n].daemon.as_mut() else {
            return;
        };
        let current = daemon.end.conn == Some(session);
        let marks = resync_trees::peer_marks(&daemon.map.marks(), &tree);
        if let Some(target) = daemon.target.as_mut().filter(|_| current) {
            if target.run.as_ref().is_none_or(|(s, _)| *s != session) {
                let side = Arc::new(TargetSide::new(tree.clone(), notes, boot));
                target.run = Some((session, Target::new(side, rules)));
            }
            let Some((_, run)) = &target.run else { return };
            run.tree().set(marks, ills);
            lock_tree(&tree).written = Some(Vec::new());
            let at_first = if self.tracing {
                lock_tree(&tree).registers()
            } else {
                BTreeMap::new()
            };
            let Some((_, run)) = self.nodes[n]
                .daemon
                .as_ref()
                .and_then(|d| d.target.as_ref()?.run.as_ref())
            else {
                return;
            };
            let reply = run.handle(request);
            if self.tracing {
                let now = lock_tree(&tree).registers();
                let changed: Vec<_> = now
                    .iter()
                    .filter(|(reg, value)| at_first.get(reg) != Some(value))
                    .collect();
                let gone: Vec<_> = at_first.keys().filter(|r| !now.contains_key(r)).collect();
                self.trace(|| format!("{} does {number}: {changed:?} gone {gone:?}", NAMES[n]));
            }
            let written = lock_tree(&tree).written.take().unwrap_or_default();
            self.judge_resync(n, &written);
            self.send(n, Msg::Reply(number, Box::new(reply)));
        }
        self.applied_one(n);
    }
}

fn lock_tree(tree: &Mutex<Tree>) -> MutexGuard<'_, Tree> {
    tree.lock().unwrap_or_else(PoisonError::into_inner)
}

/// What a target keeps beside its tree: the unfinished resync, if there is one.
#[derive(Clone, Debug, Default)]
pub struct Notes {
    pub unfinished: Option<(Id128, Id128, bool)>,
    /// Names given to what was swept.
    pub swept: u64,
}
