//! The source's end of a resync: a thread that runs the engine, the way to the target, and what
//! this node says to the engine.

use super::{Event, Shared};
use crate::ids::Id128;
use crate::logic::dirty::{Births, Generation, Marks};
use crate::logic::member::{Input, ResyncEvent, ResyncOrder};
use crate::logic::resync::messages::{Aside, Reply, Request};
use crate::logic::resync::progress::Progress;
use crate::logic::resync::{
    self, Failure, Feed, Gone, Next, Order, Outcome, PassReport, Pipe, Since, Stop, Ticket,
};
use crate::logic::verdict::Scope;
use crate::wire::encode_request;
use bytes::Bytes;
use std::collections::HashMap;
use std::future::Future;
use std::pin::pin;
use std::sync::{Arc, Condvar, Mutex, MutexGuard, PoisonError};
use std::task::{Context, Poll, Waker};
use std::time::{Duration, Instant};

/// Bytes of requests without a reply.
const WINDOW: usize = 16 * 1024 * 1024;
/// Requests without a reply.
const MAX_ASKED: usize = 2048;
/// A pass as short as this, started while writes are held, is not felt.
const SHORT: Duration = Duration::from_millis(150);
/// Passes that may fail to shrink before writes are slowed down.
const PATIENCE: u32 = 4;
/// Largest delay of a write while passes do not shrink.
const MAX_DELAY: Duration = Duration::from_millis(20);

/// Requests and replies of one session.
#[derive(Default)]
pub(super) struct Exchange {
    state: Mutex<Asked>,
    changed: Condvar,
}

#[derive(Default)]
struct Asked {
    next: u64,
    /// Sizes of requests without a reply.
    open: HashMap<u64, usize>,
    bytes: usize,
    replies: HashMap<u64, Reply>,
    gone: bool,
}

impl Exchange {
    fn lock(&self) -> MutexGuard<'_, Asked> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    pub(super) fn arrived(&self, number: u64, reply: Reply) {
        let mut state = self.lock();
        if let Some(size) = state.open.remove(&number) {
            state.bytes -= size;
            state.replies.insert(number, reply);
            self.changed.notify_all();
        }
    }

    pub(super) fn close(&self) {
        self.lock().gone = true;
        self.changed.notify_all();
    }

    fn wait<'a>(&self, state: MutexGuard<'a, Asked>) -> MutexGuard<'a, Asked> {
        let waited = self.changed.wait(state);
        waited.unwrap_or_else(PoisonError::into_inner)
    }
}

/// The link as the engine's way to the target. It blocks its thread instead of yielding.
struct Wire {
    shared: Arc<Shared>,
    session: u64,
    exchange: Arc<Exchange>,
}

impl Pipe for Wire {
    async fn send(&self, request: Request) -> Result<Ticket, Gone> {
        let mut state = self.exchange.lock();
        while !state.gone && (state.bytes >= WINDOW || state.open.len() >= MAX_ASKED) {
            state = self.exchange.wait(state);
        }
        if state.gone {
            return Err(Gone);
        }
        let number = state.next;
        state.next += 1;
        let mut out = Vec::new();
        encode_request(&mut out, number, &request);
        state.open.insert(number, out.len());
        state.bytes += out.len();
        drop(state);
        self.shared.put(self.session, out)?;
        Ok(Ticket(number))
    }

    async fn reply(&self, ticket: Ticket) -> Result<Reply, Gone> {
        let mut state = self.exchange.lock();
        loop {
            if let Some(reply) = state.replies.remove(&ticket.0) {
                return Ok(reply);
            }
            if state.gone {
                return Err(Gone);
            }
            state = self.exchange.wait(state);
        }
    }
}

impl Shared {
    /// Puts whole frames on the stream of a session, waiting for room.
    fn put(&self, session: u64, frames: Vec<u8>) -> Result<(), Gone> {
        let mut core = self.lock();
        while core.session == session && core.greeted && core.link.is_full() {
            let waited = self.room.wait_timeout(core, SHORT);
            core = waited.unwrap_or_else(PoisonError::into_inner).0;
        }
        if core.session != session || !core.greeted {
            return Err(Gone);
        }
        let sent = frames.len() as u64;
        self.metrics
            .sent
            .fetch_add(sent, std::sync::atomic::Ordering::Relaxed);
        core.link.write(Bytes::from(frames));
        core.link.flush(Instant::now());
        Ok(())
    }
}

/// What the member machine has said to a run.
#[derive(Default)]
struct Said {
    finish: bool,
    /// The last pass does not count: writes flow again.
    void: bool,
    abort: bool,
}

/// A run of the engine, as the director holds it.
pub(super) struct Run {
    round: u64,
    said: Mutex<Said>,
    changed: Condvar,
    exchange: Arc<Exchange>,
    pub(super) progress: Arc<Progress>,
    pub(super) began: Instant,
}

impl Run {
    fn lock(&self) -> MutexGuard<'_, Said> {
        self.said.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn say(&self, change: impl FnOnce(&mut Said)) {
        change(&mut self.lock());
        self.changed.notify_all();
    }

    /// Ends the run; nobody hears of it any more.
    pub(super) fn abort(&self) {
        self.say(|said| said.abort = true);
        self.exchange.close();
    }

    pub(super) fn order(&self, order: &ResyncOrder) {
        match *order {
            ResyncOrder::Finish { round } if round == self.round => {
                self.say(|said| {
                    said.finish = true;
                    said.void = false;
                });
            }
            ResyncOrder::Resume { round } if round == self.round => {
                self.say(|said| {
                    said.void |= said.finish;
                    said.finish = false;
                });
            }
            ResyncOrder::Abort { round } if round == self.round => self.abort(),
            _ => {}
        }
    }
}

/// The end of the last complete pass, kept between sessions: what was equal then need not be
/// looked at again, if the target has not lost it.
#[derive(Clone, Copy)]
pub(super) struct Reached {
    pub(super) baseline: Id128,
    boot: Id128,
    /// Generation in which that pass began.
    since: Generation,
}

/// What is to be done, beside the engine's own order.
pub(super) struct Start {
    pub(super) round: u64,
    pub(super) scope: Scope,
    pub(super) session: u64,
    /// See [`Order::baseline`].
    pub(super) baseline: Id128,
    pub(super) aside: Option<Aside>,
    pub(super) reached: Arc<Mutex<Option<Reached>>>,
}

impl Shared {
    /// Starts the thread.
    pub(super) fn start_source(self: &Arc<Self>, start: Start) -> std::io::Result<Arc<Run>> {
        let exchange = Arc::new(Exchange::default());
        self.lock().exchange = Some(exchange.clone());
        let run = Arc::new(Run {
            round: start.round,
            said: Mutex::default(),
            changed: Condvar::new(),
            exchange: exchange.clone(),
            progress: Arc::new(Progress::default()),
            began: Instant::now(),
        });
        let work = Work {
            shared: self.clone(),
            run: run.clone(),
            start,
        };
        std::thread::Builder::new()
            .name("resync".into())
            .spawn(move || work.run())?;
        Ok(run)
    }
}

struct Work {
    shared: Arc<Shared>,
    run: Arc<Run>,
    start: Start,
}

impl Work {
    fn run(&self) {
        let wire = Wire {
            shared: self.shared.clone(),
            session: self.start.session,
            exchange: self.run.exchange.clone(),
        };
        loop {
            let result = self.once(&wire);
            self.shared.tree.slow_down(Duration::ZERO);
            let mut said = self.run.lock();
            if said.abort {
                return;
            }
            let event = match result {
                Ok(_) if std::mem::take(&mut said.void) => continue,
                Ok(outcome) => {
                    tracing::info!("resync: {outcome:?}");
                    ResyncEvent::Finished
                }
                Err(failure) => ResyncEvent::Failed(failure.to_string()),
            };
            drop(said);
            let input = Input::ResyncEvent(self.start.round, event);
            return self.shared.tell(Event::Input(input));
        }
    }

    fn once(&self, wire: &Wire) -> Result<Outcome, Failure> {
        let source = self.shared.tree.source().map_err(Stop)?;
        let feed = Passes {
            work: self,
            state: Mutex::default(),
        };
        let order = Order {
            baseline: self.start.baseline,
            aside: self.start.aside.clone(),
            peer_marks: true,
            progress: self.run.progress.clone(),
            ..Order::default()
        };
        let outcome = block_on(resync::run(&*source, wire, &feed, order))?;
        let flushed = block_on(async {
            let ticket = wire.send(Request::Flush).await?;
            wire.reply(ticket).await
        })?;
        match flushed {
            Reply::Done(errnos) => match errnos.first() {
                None | Some(0) => Ok(outcome),
                Some(errno) => Err(Failure::Target {
                    errno: *errno,
                    what: "flush".into(),
                }),
            },
            Reply::Failed { errno, what } => Err(Failure::Target { errno, what }),
            _ => Err(Failure::Protocol),
        }
    }
}

/// What this node says to the engine.
struct Passes<'a> {
    work: &'a Work,
    state: Mutex<Passed>,
}

#[derive(Default)]
struct Passed {
    boot: Id128,
    /// Generation in which the running pass began.
    since: Option<Generation>,
    began: Option<Instant>,
    last: Option<Duration>,
    /// Passes in a row that were no shorter than the one before.
    stubborn: u32,
    delay: Duration,
}

impl Passes<'_> {
    fn lock(&self) -> MutexGuard<'_, Passed> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn stopped(&self) -> Result<(), Stop> {
        match self.work.run.lock().abort {
            true => Err(Stop("the set has changed".into())),
            false => Ok(()),
        }
    }

    /// Since when marks count that were made before this session.
    fn start(&self, boot: Id128) -> Option<Generation> {
        let reached = self.work.start.reached.lock();
        let reached = reached.unwrap_or_else(PoisonError::into_inner);
        let same = reached.filter(|r| r.baseline == self.work.start.baseline && r.boot == boot);
        same.map(|r| r.since)
    }

    /// Slows the application down while passes do not get shorter.
    fn adapt(&self, took: Duration) {
        let mut state = self.lock();
        let shrinks = state.last.is_none_or(|last| took < last.mul_f64(0.8));
        state.last = Some(took);
        state.stubborn = if shrinks { 0 } else { state.stubborn + 1 };
        if state.stubborn >= PATIENCE {
            let more = (state.delay * 2).max(Duration::from_micros(100));
            state.delay = more.min(MAX_DELAY);
            self.work.shared.tree.slow_down(state.delay);
        }
    }
}

impl Feed for Passes<'_> {
    async fn next_marks(&self, since: Since) -> Result<Marks, Stop> {
        self.stopped()?;
        let tree = &self.work.shared.tree;
        let mut state = self.lock();
        let previous = state.since;
        let now = tree.begin_generation();
        state.since = Some(now);
        state.began = Some(Instant::now());
        let marks = match since {
            Since::Last => tree.marks(previous),
            Since::Start { boot } => {
                state.boot = boot;
                let everything = self.work.start.scope == Scope::Everything;
                let mut marks = tree.marks(self.start(boot));
                marks.everything |= everything && self.start(boot).is_none();
                marks
            }
        };
        Ok(marks)
    }

    fn births(&self) -> Vec<Births> {
        // Of all times, whatever marks the session began with.
        self.work.shared.tree.marks(None).births
    }

    async fn permit(&self, bytes: u64) -> Result<(), Stop> {
        self.stopped()?;
        self.work.shared.tree.wait_for_turn(bytes);
        Ok(())
    }

    async fn passed(&self, report: PassReport) -> Result<Next, Stop> {
        self.stopped()?;
        let took = {
            let state = self.lock();
            if let (true, Some(since)) = (report.complete, state.since) {
                *self
                    .work
                    .start
                    .reached
                    .lock()
                    .unwrap_or_else(PoisonError::into_inner) = Some(Reached {
                    baseline: self.work.start.baseline,
                    boot: state.boot,
                    since,
                });
            }
            state.began.map_or(Duration::ZERO, |began| began.elapsed())
        };
        tracing::debug!("resync: {report:?} in {took:?}");
        if took > SHORT {
            self.adapt(took);
            return Ok(Next::Again);
        }
        let run = &self.work.run;
        let round = self.work.start.round;
        let converged = Input::ResyncEvent(round, ResyncEvent::Converged);
        self.work.shared.tell(Event::Input(converged));
        let mut said = run.lock();
        loop {
            if said.abort {
                return Err(Stop("the set has changed".into()));
            }
            if said.finish {
                return Ok(Next::Last);
            }
            if std::mem::take(&mut said.void) {
                // Writes flowed again before the last pass began.
                return Ok(Next::Again);
            }
            let waited = run.changed.wait(said);
            said = waited.unwrap_or_else(PoisonError::into_inner);
        }
    }
}

/// Runs a future that never yields: everything it waits for blocks this thread.
fn block_on<T>(future: impl Future<Output = T>) -> T {
    let mut future = pin!(future);
    let mut context = Context::from_waker(Waker::noop());
    loop {
        if let Poll::Ready(value) = future.as_mut().poll(&mut context) {
            return value;
        }
        std::thread::yield_now();
    }
}
