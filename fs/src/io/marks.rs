//! The module's dirty map and its journal: what may differ between the replicas is known, durably,
//! before it is changed.
//!
//! Who is about to change something asks [`Marks::cover`]. Mostly that is a look into a table;
//! else a record is put aside, and who needs it durable either writes all that was put aside or
//! waits for the one who does. So many who wait share one flush.
//!
//! Lock order: journal, then map. Neither is held while anything else is.

mod checkpoint;
mod place;
mod touch;

use super::service::Volume;
use crate::logic::hold::Hold;
use place::Finder;
use std::path::Path;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Condvar, Mutex, MutexGuard, OnceLock, PoisonError};
use std::time::Instant;
use tandem_repl::control::MarksStatus;
use tandem_repl::ids::{DirId, Id128, Uid};
use tandem_repl::io::journal::{Journal, JournalError};
use tandem_repl::logic::dirty::{Cover, Limits, Map, Pressure, Rules, Touch};

/// For measuring only: nothing is marked, so nothing is known after a crash.
const WITHOUT: &str = "TANDEM_MEASURE_WITHOUT_MARKS";

type OnFailure = Box<dyn Fn(String) + Send + Sync>;

pub(crate) struct Marks {
    map: Mutex<Map>,
    journal: Mutex<Journal>,
    flush: Mutex<Flush>,
    /// Signalled when more is durable, or nothing will be any more.
    flushed: Condvar,
    on_failure: OnceLock<OnFailure>,
    /// Marking is turned off.
    off: bool,
    hold: Hold,
    waits: Waits,
    /// The journal was closed in order; it was written in this run of the machine.
    pub(crate) last_end: (bool, bool),
}

/// What marking cost since the last checkpoint.
#[derive(Default)]
struct Waits {
    flushes: AtomicU64,
    /// Operations that waited for one, and how long, microseconds.
    operations: AtomicU64,
    time: AtomicU64,
}

#[derive(Default)]
struct Flush {
    /// Records up to this number are durable.
    durable: u64,
    /// Somebody is writing.
    busy: bool,
    /// Why nothing can be marked any more.
    failed: Option<String>,
}

/// How the marks of a module are opened.
pub(crate) struct Opening<'a> {
    pub(crate) state_dir: &'a Path,
    pub(crate) boot: Id128,
    /// This node has held data, so there must be a journal.
    pub(crate) expected: bool,
    pub(crate) hot_limit: u64,
    /// Of the identities this start of the daemon will give.
    pub(crate) origin: u64,
}

impl Marks {
    /// Reads the journal, before anything is served.
    ///
    /// # Errors
    /// A journal that cannot be written. One that cannot be read means that everything is marked.
    pub(crate) fn open(
        opening: &Opening<'_>,
        volumes: &[Arc<Volume>],
    ) -> Result<Self, JournalError> {
        let (journal, found) = Journal::open(opening.state_dir, opening.boot, opening.expected)?;
        if let Some(damage) = &found.damage {
            let dir = opening.state_dir.display();
            tracing::error!("{dir}: {damage}; everything will be compared");
        }
        let limits = Limits::new(opening.hot_limit);
        let mut map = Map::new(opening.origin, limits, Rules::default());
        map.replay(&found.records);
        let mut finder = Finder::new(volumes, map.marks());
        map.settle(|dir, key, place| finder.find(dir, key, place));
        let off = std::env::var_os(WITHOUT).is_some_and(|v| v == "1");
        if off {
            tracing::warn!("{WITHOUT} is set: what changes is not marked; for measuring only");
            map.set_everything();
        }
        let marks = Self {
            map: Mutex::new(map),
            journal: Mutex::new(journal),
            flush: Mutex::default(),
            flushed: Condvar::new(),
            on_failure: OnceLock::new(),
            off,
            hold: Hold::new(opening.hot_limit),
            waits: Waits::default(),
            last_end: (found.clean, found.boot == opening.boot),
        };
        marks.rewrite(&mut marks.journal(), |_| {})?;
        Ok(marks)
    }

    /// Who is told, once, that nothing can be marked any more.
    pub(crate) fn on_failure(&self, tell: impl Fn(String) + Send + Sync + 'static) {
        let _ = self.on_failure.set(Box::new(tell));
        let failed = self.flush().failed.clone();
        if let (Some(why), Some(tell)) = (failed, self.on_failure.get()) {
            tell(why);
        }
    }

    fn map(&self) -> MutexGuard<'_, Map> {
        self.map.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn journal(&self) -> MutexGuard<'_, Journal> {
        self.journal.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn flush(&self) -> MutexGuard<'_, Flush> {
        self.flush.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Whether a change is covered by what is durable, as far as can be told without its place.
    fn covered(&self, dir: DirId, touch: &Touch<'_>) -> bool {
        let mut map = self.map();
        let covered = map.covered(dir, touch);
        self.hold.written(map.hot());
        covered
    }

    fn cover(&self, dir: DirId, touch: &Touch<'_>) -> Cover {
        let mut map = self.map();
        let cover = map.cover(dir, touch);
        self.hold.written(map.hot());
        cover
    }

    /// The identity of a file that is about to be made.
    pub(crate) fn next_uid(&self) -> Uid {
        self.map().next_uid()
    }

    /// Waits until what covers a change is durable.
    ///
    /// # Errors
    /// `EIO` where nothing can be marked any more.
    fn wait(&self, cover: Cover) -> Result<(), i32> {
        let Cover::Needs(seq) = cover else {
            return Ok(());
        };

        let began = Instant::now();
        let result = self.wait_for(seq);
        let time = began.elapsed().as_micros() as u64;
        self.waits.operations.fetch_add(1, Ordering::Relaxed);
        self.waits.time.fetch_add(time, Ordering::Relaxed);
        result
    }

    fn wait_for(&self, seq: u64) -> Result<(), i32> {
        let mut flush = self.flush();
        loop {
            if flush.durable >= seq {
                return Ok(());
            }
            if flush.failed.is_some() {
                return Err(libc::EIO);
            }
            if flush.busy {
                let woken = self.flushed.wait(flush);
                flush = woken.unwrap_or_else(PoisonError::into_inner);
                continue;
            }
            flush.busy = true;
            drop(flush);
            let written = self.write_pending();
            self.flush().busy = false;
            // A failure is seen in the next round.
            let _ = self.written(written);
            flush = self.flush();
        }
    }

    /// Makes everything durable that was put aside; returns its number.
    fn write_pending(&self) -> Result<u64, JournalError> {
        let mut journal = self.journal();
        let (records, seq) = self.map().take_pending();
        self.waits.flushes.fetch_add(1, Ordering::Relaxed);
        match journal.append(&records) {
            Ok(()) => {
                self.map().flushed(seq);
                Ok(seq)
            }
            Err(JournalError::Full) => self.rewrite(&mut journal, |_| {}),
            Err(e) => Err(e),
        }
    }

    /// Begins a file of the journal with what is marked after `change`.
    fn rewrite(
        &self,
        journal: &mut Journal,
        change: impl FnOnce(&mut Map),
    ) -> Result<u64, JournalError> {
        let snapshot = {
            let mut map = self.map();
            change(&mut map);
            map.snapshot()
        };
        let mut written = journal.rewrite(&snapshot.0, false);
        let mut seq = snapshot.1;
        if matches!(written, Err(JournalError::Full)) {
            tracing::warn!("no room for what is marked: everything will be compared");
            let snapshot = {
                let mut map = self.map();
                map.set_everything();
                map.snapshot()
            };
            written = journal.rewrite(&snapshot.0, false);
            seq = snapshot.1;
        }
        written?;
        self.map().flushed(seq);
        Ok(seq)
    }

    /// Tells those who wait.
    fn written(&self, result: Result<u64, JournalError>) -> Result<(), String> {
        let mut flush = self.flush();
        let mut failed = None;
        match result {
            Ok(seq) => flush.durable = flush.durable.max(seq),
            Err(e) => {
                let why = format!("{e}; nothing can be marked any more");
                if flush.failed.is_none() {
                    flush.failed = Some(why.clone());
                    failed = Some(why);
                }
            }
        }
        let outcome = flush.failed.clone().map_or(Ok(()), Err);
        drop(flush);
        self.flushed.notify_all();
        if let Some(why) = failed {
            tracing::error!("{why}");
            if let Some(tell) = self.on_failure.get() {
                tell(why);
            }
        }
        outcome
    }

    pub(crate) fn status(&self) -> MarksStatus {
        let map = self.map();
        let (files, directories, everything) = map.counts();
        MarksStatus {
            files: files as u64,
            directories: directories as u64,
            hot_bytes: map.pressure().hot,
            everything,
        }
    }

    pub(crate) fn pressure(&self) -> Pressure {
        self.map().pressure()
    }

    /// Says exactly what is marked, for an end in order: nothing is touched any more.
    ///
    /// # Errors
    /// As of [`Self::drop_before`].
    pub(crate) fn close(&self) -> Result<(), String> {
        let mut journal = self.journal();
        let records = self.map().exact();
        let closed = journal.rewrite(&records, true);
        closed.map_err(|e| e.to_string())
    }
}
