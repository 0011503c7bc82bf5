//! What this node says to the engine of its resync: marks, pace, and when the last pass is due.

use super::Event;
use super::source::{Reached, Work};
use crate::ids::Id128;
use crate::logic::dirty::{Births, Generation, Marks};
use crate::logic::member::{Input, ResyncEvent};
use crate::logic::resync::pace::Pace;
use crate::logic::resync::{Feed, Next, PassReport, Since, Stop};
use crate::logic::verdict::Scope;
use std::sync::{Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

/// A pass as short as this, started while writes are held, is not felt.
const SHORT: Duration = Duration::from_millis(150);
/// A pass that takes at most this share of the last one's time is shorter.
const SHRINKS: f64 = 0.8;
/// Passes that may fail to shrink before writes are slowed down.
const PATIENCE: u32 = 4;
/// Largest delay of a write while passes do not shrink.
const MAX_DELAY: Duration = Duration::from_millis(20);

/// What this node says to the engine.
pub(super) struct Passes<'a> {
    work: &'a Work,
    state: Mutex<Passed>,
    pace: Option<Mutex<Pace>>,
}

#[derive(Default)]
struct Passed {
    boot: Id128,
    /// Generation in which the running pass began.
    since: Option<Generation>,
    began: Option<Instant>,
    last: Option<Duration>,
    /// The running pass is no shorter than the last one already.
    overdue: bool,
    /// Passes in a row that were no shorter than the one before.
    stubborn: u32,
    delay: Duration,
}

impl Passed {
    fn shrinks(&self, took: Duration) -> bool {
        self.last.is_none_or(|last| took < last.mul_f64(SHRINKS))
    }

    /// Whether the running pass has just become no shorter than the last one; once in each pass.
    fn is_overdue(&mut self) -> bool {
        let late = self
            .began
            .is_some_and(|began| !self.shrinks(began.elapsed()));
        late && !std::mem::replace(&mut self.overdue, late)
    }
}

impl<'a> Passes<'a> {
    pub(super) fn new(work: &'a Work) -> Self {
        let shared = &work.shared;
        let pace = shared.latency_bound.map(|bound| {
            let now = work.run.began.elapsed();
            Mutex::new(Pace::new(bound, now, shared.tree.meters().read()))
        });
        Self {
            work,
            state: Mutex::default(),
            pace,
        }
    }

    /// Waits for the application's sake, but never while it waits for the resync.
    fn pause(&self) -> Result<(), Stop> {
        let Some(pace) = &self.pace else {
            return Ok(());
        };
        let run = &self.work.run;
        loop {
            let overdue = self.lock().is_overdue();
            let now = run.began.elapsed();
            let wait = {
                let mut pace = pace.lock().unwrap_or_else(PoisonError::into_inner);
                if overdue {
                    pace.hurry();
                }
                let meters = self.work.shared.tree.meters();
                let wait = pace.next(now, || meters.read());
                let (share, ratio) = (pace.share(), pace.ratio());
                run.set_effort(|effort| (effort.share, effort.ratio) = (Some(share), ratio));
                wait
            };
            let Some(wait) = wait else {
                return Ok(());
            };
            let said = run.lock();
            if said.finish {
                return Ok(());
            }
            let waited = run.changed.wait_timeout(said, wait);
            drop(waited.unwrap_or_else(PoisonError::into_inner));
            self.stopped()?;
        }
    }

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
        let shrinks = state.shrinks(took);
        state.last = Some(took);
        state.stubborn = if shrinks { 0 } else { state.stubborn + 1 };
        if state.stubborn >= PATIENCE {
            let more = (state.delay * 2).max(Duration::from_micros(100));
            state.delay = more.min(MAX_DELAY);
            let delay = state.delay;
            tracing::info!(
                "resync: passes do not get shorter: each change is delayed by {delay:?}"
            );
            self.work.run.set_effort(|effort| effort.delay = delay);
            self.work.shared.tree.slow_down(delay);
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
        state.overdue = false;
        let marks = match since {
            Since::Last => tree.marks(previous),
            Since::Start { boot, checkpoints } => {
                state.boot = boot;
                let restored = checkpoints < tree.checkpoints();
                if restored {
                    let peer = &self.work.shared.hello.peer;
                    tracing::warn!("{peer} was put back to an earlier state: all is compared");
                }
                let everything = self.work.start.scope == Scope::Everything;
                let mut marks = tree.marks(self.start(boot));
                marks.everything |= restored || (everything && self.start(boot).is_none());
                marks
            }
        };
        Ok(marks)
    }

    fn births(&self) -> Vec<Births> {
        // Of all times, whatever marks the session began with.
        self.work.shared.tree.marks(None).births
    }

    async fn permit(&self, _bytes: u64) -> Result<(), Stop> {
        self.stopped()?;
        self.pause()
    }

    async fn passed(&self, report: PassReport) -> Result<Next, Stop> {
        self.stopped()?;
        let took = {
            let state = self.lock();
            if let (true, Some(since)) = (report.complete, state.since) {
                let reached = self.work.start.reached.lock();
                *reached.unwrap_or_else(PoisonError::into_inner) = Some(Reached {
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
