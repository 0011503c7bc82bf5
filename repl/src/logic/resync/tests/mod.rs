//! Source engine and target over trees in memory, with an application that goes on changing the
//! source between any two requests.

mod app;
mod cases;
mod random;

use super::messages::{Reply, Request};
use super::model::Model;
use super::model::marking::{Marking, joined};
use super::target::Target;
use super::{
    Failure, Feed, Gone, Next, Order, Outcome, PassReport, Pipe, Since, Stop, Ticket, run,
};
use crate::ids::Id128;
use crate::limits::MAX_BODY;
use crate::logic::dirty::{Births, Marks};
use crate::wire::{FrameHeader, HEADER, Message, encode_reply, encode_request};
use app::App;
use std::cell::{Cell, RefCell};
use std::collections::HashMap;
use std::future::Future;
use std::pin::pin;
use std::sync::Arc;
use std::task::{Context, Poll, Waker};

/// Runs a future that never has to wait.
pub(super) fn now<T>(future: impl Future<Output = T>) -> T {
    let mut context = Context::from_waker(Waker::noop());
    match pin!(future).poll(&mut context) {
        Poll::Ready(value) => value,
        Poll::Pending => panic!("nothing here waits"),
    }
}

/// Both nodes, and what goes on between them.
pub(super) struct World {
    pub(super) app: RefCell<App>,
    pub(super) target: Arc<Model>,
    /// Marks of all generations since the replicas were equal.
    gens: RefCell<Vec<Marks>>,
    /// Those before this one are done, as long as the target has this boot.
    done: Cell<(usize, Id128)>,
    boot: Cell<Id128>,
    baseline: Cell<u8>,
    /// Changes of the application before each request.
    pub(super) busy: Cell<usize>,
    /// Passes before writes are held.
    pub(super) passes: Cell<u32>,
    /// Requests until the link breaks.
    pub(super) breaks: Cell<usize>,
    held: Cell<bool>,
    pub(super) last_report: Cell<PassReport>,
    pub(super) requests: Cell<usize>,
}

impl World {
    pub(super) fn new(seed: u64) -> Self {
        let source = Arc::new(Model::new(1));
        Self::with(source, Arc::new(Model::new(2)), seed)
    }

    pub(super) fn with(source: Arc<Model>, target: Arc<Model>, seed: u64) -> Self {
        Self {
            app: RefCell::new(App::new(source, Marking::new(0x1000), seed)),
            target,
            gens: RefCell::default(),
            done: Cell::default(),
            boot: Cell::default(),
            baseline: Cell::new(1),
            busy: Cell::new(0),
            passes: Cell::new(2),
            breaks: Cell::new(usize::MAX),
            held: Cell::new(false),
            last_report: Cell::default(),
            requests: Cell::new(0),
        }
    }

    pub(super) fn source(&self) -> Arc<Model> {
        self.app.borrow().tree.clone()
    }

    /// One session of a resync.
    pub(super) fn session(&self) -> Result<Outcome, Failure> {
        self.held.set(false);
        let order = Order {
            baseline: Id128([self.baseline.get(); 16]),
            peer_marks: true,
            ..Order::default()
        };
        let pipe = Local {
            world: self,
            target: Target::new(self.target.clone(), order.rules),
            replies: RefCell::default(),
            next: Cell::new(0),
        };
        let source = self.source();
        let outcome = now(run(&*source, &pipe, self, order))?;
        // Growth: what was marked is equal, and a new time begins.
        self.gens.borrow_mut().clear();
        self.done.set((0, Id128::default()));
        self.baseline.set(self.baseline.get() + 1);
        Ok(outcome)
    }

    /// Sessions until one comes to its end; then the trees must be equal.
    pub(super) fn resync(&self) -> Outcome {
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

    pub(super) fn assert_equal(&self) {
        let found = self.source().differences(&self.target);
        assert!(found.is_empty(), "{}", found.join("\n"));
    }
}

struct Local<'a> {
    world: &'a World,
    target: Target<Model>,
    replies: RefCell<HashMap<Ticket, Reply>>,
    next: Cell<u64>,
}

impl Pipe for Local<'_> {
    async fn send(&self, request: Request) -> Result<Ticket, Gone> {
        let world = self.world;
        if !world.held.get() {
            world.app.borrow_mut().changes(world.busy.get());
        }
        world.requests.set(world.requests.get() + 1);
        let left = world.breaks.get();
        if left == 0 {
            return Err(Gone);
        }
        world.breaks.set(left - 1);
        let number = self.next.get();
        self.next.set(number + 1);
        if let Request::Open(_) = request {
            world.boot.set(Id128([0; 16]));
        }
        let request = over_the_wire(&request);
        let reply = self.target.handle(&request);
        if std::env::var_os("TANDEM_RESYNC_TRACE").is_some() {
            println!("{request:?}\n    {reply:?}");
        }
        if let Reply::Opened { boot, .. } = reply {
            world.boot.set(boot);
        }
        let mut frame = Vec::new();
        encode_reply(&mut frame, number, &reply);
        assert!(frame.len() <= MAX_BODY + HEADER);
        self.replies.borrow_mut().insert(Ticket(number), reply);
        Ok(Ticket(number))
    }

    async fn reply(&self, ticket: Ticket) -> Result<Reply, Gone> {
        let reply = self.replies.borrow_mut().remove(&ticket);
        Ok(reply.expect("each reply is taken once"))
    }
}

fn over_the_wire(request: &Request) -> Request {
    let mut frame = Vec::new();
    encode_request(&mut frame, 7, request);
    let (head, body) = frame.split_first_chunk::<HEADER>().unwrap();
    let decoded = FrameHeader::parse(head).unwrap().decode(body).unwrap();
    match decoded.message {
        Message::Request(decoded) => {
            assert_eq!(*decoded, *request);
            *decoded
        }
        other => panic!("{other:?}"),
    }
}

impl Feed for World {
    async fn next_marks(&self, since: Since) -> Result<Marks, Stop> {
        let taken = self.app.borrow_mut().marking.take();
        let mut gens = self.gens.borrow_mut();
        gens.push(taken.clone());
        let Since::Start { boot, .. } = since else {
            return Ok(taken);
        };
        let (done, of) = self.done.get();
        let from = if of == boot { done } else { 0 };
        Ok(gens[from..].iter().cloned().fold(Marks::default(), joined))
    }

    fn births(&self) -> Vec<Births> {
        let gens = self.gens.borrow();
        let births = gens.iter().flat_map(|marks| marks.births.iter().copied());
        births.collect()
    }

    async fn permit(&self, _bytes: u64) -> Result<(), Stop> {
        Ok(())
    }

    async fn passed(&self, report: PassReport) -> Result<Next, Stop> {
        self.last_report.set(report);
        if report.complete {
            self.done.set((self.gens.borrow().len(), self.boot.get()));
        }
        if report.number >= self.passes.get() {
            self.held.set(true);
            return Ok(Next::Last);
        }
        Ok(Next::Again)
    }
}
