//! Looks at one thing again and again, in a thread of its own, and tells when it changes.

use std::io;
use std::sync::mpsc::Sender;
use std::sync::{Arc, Condvar, Mutex, MutexGuard, PoisonError};
use std::thread;
use std::time::{Duration, Instant};

use super::{Cancel, Context, look_until};
use crate::config::{Checker, CheckerKind};
use crate::logic::checker::{Change, Count};

/// What a checker says: at first, and whenever it changes.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Report {
    pub module: String,
    pub checker: String,
    pub up: bool,
    /// When it is down: what was found, in plain words.
    pub detail: String,
    /// Of [`Watch::round`] at the time of the look. A report of an earlier round is about what was
    /// there before a reset, and may still be under way when that happens.
    pub round: u64,
}

/// A checker at work. It begins with a look; dropping it ends it at once.
#[derive(Debug)]
pub struct Watch {
    shared: Arc<Shared>,
}

#[derive(Debug)]
struct Shared {
    state: Mutex<State>,
    changed: Condvar,
}

#[derive(Debug)]
struct State {
    stopped: bool,
    paused: bool,
    round: u64,
    /// Ends the look of this round.
    cancel: Cancel,
}

impl Shared {
    fn state(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl State {
    /// What was seen until now does not count any more.
    fn next_round(&mut self) -> u64 {
        self.round += 1;
        std::mem::take(&mut self.cancel).cancel();
        self.round
    }
}

impl Watch {
    /// # Errors
    /// When the system has no thread left, or when the manager itself must answer this kind
    /// ([`CheckerKind::VirtualIp`], [`CheckerKind::Module`]).
    pub fn start(checker: Checker, context: Context, reports: Sender<Report>) -> io::Result<Self> {
        if matches!(
            checker.kind,
            CheckerKind::VirtualIp | CheckerKind::Module(_)
        ) {
            let name = checker.name;
            let text = format!("checker {name}: the manager itself answers it");
            return Err(io::Error::new(io::ErrorKind::InvalidInput, text));
        }
        let shared = Arc::new(Shared {
            state: Mutex::new(State {
                stopped: false,
                paused: false,
                round: 0,
                cancel: Cancel::default(),
            }),
            changed: Condvar::new(),
        });
        let looker = Looker {
            count: Count::new(checker.failures),
            counted: 0,
            checker,
            context,
            reports,
            shared: shared.clone(),
        };
        thread::Builder::new()
            .name("checker".into())
            .spawn(move || looker.run())?;
        Ok(Self { shared })
    }

    /// Stops looking, and begins a new round; a command that runs for a look is killed. Its number.
    pub fn pause(&self) -> u64 {
        let mut state = self.shared.state();
        state.paused = true;
        state.next_round()
    }

    /// Forgets what was seen and looks again at once, also after a pause. The number of the new
    /// round, whose first report comes even if it says what the last one said.
    pub fn reset(&self) -> u64 {
        let mut state = self.shared.state();
        state.paused = false;
        let round = state.next_round();
        self.shared.changed.notify_all();
        round
    }

    pub fn round(&self) -> u64 {
        self.shared.state().round
    }
}

impl Drop for Watch {
    fn drop(&mut self) {
        let mut state = self.shared.state();
        state.stopped = true;
        state.next_round();
        // The thread is not waited for: it may be in the middle of a look, of which nobody will
        // hear.
        self.shared.changed.notify_all();
    }
}

/// What the thread of a watch has.
struct Looker {
    checker: Checker,
    context: Context,
    reports: Sender<Report>,
    shared: Arc<Shared>,
    count: Count,
    /// The round that `count` is about.
    counted: u64,
}

impl Looker {
    fn run(mut self) {
        let mut next = Instant::now();
        while let Some((round, cancel)) = self.wait_until(next) {
            let checker = &self.checker;
            let (name, kind, timeout) = (&checker.name, &checker.kind, checker.timeout);
            let result = look_until(name, kind, timeout, &self.context, &cancel);
            if round != self.counted {
                self.count.reset();
                self.counted = round;
            }
            if !self.tell(round, &cancel, result) {
                return;
            }
            next = Instant::now() + self.checker.interval;
        }
    }

    /// Until it is time, or a new round has begun; `None`: it is over.
    fn wait_until(&self, next: Instant) -> Option<(u64, Cancel)> {
        let mut state = self.shared.state();
        loop {
            if state.stopped {
                return None;
            }
            let left = next.saturating_duration_since(Instant::now());
            let due = left.is_zero() || state.round != self.counted;
            if due && !state.paused {
                return Some((state.round, state.cancel.clone()));
            }
            let limit = match state.paused {
                true => Duration::from_secs(3600),
                false => left,
            };
            let woken = self.shared.changed.wait_timeout(state, limit);
            state = woken.unwrap_or_else(PoisonError::into_inner).0;
        }
    }

    /// False when nobody listens any more.
    fn tell(&mut self, round: u64, cancel: &Cancel, result: Result<(), String>) -> bool {
        if cancel.is_cancelled() {
            return true;
        }
        let Some(change) = self.count.look(result) else {
            return true;
        };
        let (up, detail) = match change {
            Change::Up => (true, String::new()),
            Change::Down(detail) => (false, detail),
        };
        let report = Report {
            module: self.context.module.clone(),
            checker: self.checker.name.clone(),
            up,
            detail,
            round,
        };
        self.reports.send(report).is_ok()
    }
}
