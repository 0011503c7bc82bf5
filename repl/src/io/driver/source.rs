//! The source's end of a resync: a thread that runs the engine.

use super::exchange::{Exchange, Wire};
use super::passes::Passes;
use super::watch::{Effort, Watch};
use super::{Event, Shared};
use crate::ids::Id128;
use crate::logic::dirty::Generation;
use crate::logic::member::{Input, ResyncEvent, ResyncOrder};
use crate::logic::resync::messages::Aside;
use crate::logic::resync::progress::Progress;
use crate::logic::resync::{self, Failure, Order, Outcome, Stop};
use crate::logic::verdict::Scope;
use std::future::Future;
use std::pin::pin;
use std::sync::atomic::{AtomicBool, AtomicU32, Ordering};
use std::sync::{Arc, Condvar, Mutex, MutexGuard, PoisonError};
use std::task::{Context, Poll, Waker};
use std::time::{Duration, Instant};

/// What the member machine has said to a run.
#[derive(Default)]
pub(super) struct Said {
    pub(super) finish: bool,
    /// The last pass does not count: writes flow again.
    pub(super) void: bool,
    pub(super) abort: bool,
}

/// A run of the engine, as the director holds it.
pub(super) struct Run {
    pub(super) round: u64,
    said: Mutex<Said>,
    pub(super) changed: Condvar,
    pub(super) exchange: Arc<Exchange>,
    pub(super) progress: Arc<Progress>,
    pub(super) began: Instant,
    pub(super) watch: Watch,
    /// The target is equal; what remains is for the member machine.
    pub(super) ended: AtomicBool,
    effort: Mutex<Effort>,
    /// Last passes that took too long.
    pub(super) in_vain: AtomicU32,
}

impl Run {
    pub(super) fn lock(&self) -> MutexGuard<'_, Said> {
        self.said.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn say(&self, change: impl FnOnce(&mut Said)) {
        change(&mut self.lock());
        self.changed.notify_all();
    }

    pub(super) fn effort(&self) -> Effort {
        *self.effort.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// The last pass was in vain. Returns how often so far.
    fn void_again(&self) -> u32 {
        self.in_vain.fetch_add(1, Ordering::Relaxed) + 1
    }

    pub(super) fn set_effort(&self, change: impl FnOnce(&mut Effort)) {
        let mut effort = self.effort.lock().unwrap_or_else(PoisonError::into_inner);
        change(&mut effort);
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
    pub(super) boot: Id128,
    /// Generation in which that pass began.
    pub(super) since: Generation,
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
            watch: Watch::default(),
            ended: AtomicBool::new(false),
            effort: Mutex::default(),
            in_vain: AtomicU32::new(0),
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

pub(super) struct Work {
    pub(super) shared: Arc<Shared>,
    pub(super) run: Arc<Run>,
    pub(super) start: Start,
}

impl Work {
    fn run(&self) {
        let wire = Wire {
            shared: self.shared.clone(),
            session: self.start.session,
            exchange: self.run.exchange.clone(),
        };
        loop {
            let meters = self.shared.tree.meters();
            meters.switch(self.shared.latency_bound.is_some());
            let result = self.once(&wire);
            meters.switch(false);
            self.shared.tree.slow_down(Duration::ZERO);
            self.run.set_effort(|effort| *effort = Effort::default());
            let mut said = self.run.lock();
            if said.abort {
                return;
            }
            let event = match result {
                Ok(_) if std::mem::take(&mut said.void) => {
                    let times = self.run.void_again();
                    tracing::info!(
                        "resync: the last pass took longer than writes may stand still ({times})"
                    );
                    continue;
                }
                Ok(outcome) => {
                    tracing::info!("resync: {outcome:?}");
                    self.run.ended.store(true, Ordering::Relaxed);
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
        let feed = Passes::new(self);
        let order = Order {
            baseline: self.start.baseline,
            aside: self.start.aside.clone(),
            peer_marks: true,
            checkpoints: self.shared.tree.checkpoints(),
            progress: self.run.progress.clone(),
            ..Order::default()
        };
        // The target has flushed what the last pass did; growth flushes once more.
        block_on(resync::run(&*source, wire, &feed, order))
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
