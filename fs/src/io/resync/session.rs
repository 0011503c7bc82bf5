//! One session of a resync to this node, as the driver sees it.

use super::super::service::Service;
use super::aside::Keeper;
use super::parking::{self, Unfinished};
use super::target::{FsTarget, of};
use std::sync::atomic::Ordering;
use std::sync::{Arc, PoisonError};
use tandem_repl::io::driver::Requests;
use tandem_repl::logic::resync::Rules;
use tandem_repl::logic::resync::messages::{Open, Reply, Request};
use tandem_repl::logic::resync::target::{Begun, Target};

impl FsTarget {
    pub(super) fn open_session(&self, open: &Open) -> Result<Begun, i32> {
        let (baseline, aside) = (open.baseline, open.aside.as_ref());
        self.checkpoints.store(open.checkpoints, Ordering::Relaxed);
        let keeper = aside.map(|aside| Arc::new(Keeper::new(aside.id, self.aside_limit)));
        *self.keeper.lock().unwrap_or_else(PoisonError::into_inner) = keeper;
        let first = self.ground.volumes.first().ok_or(libc::ENOENT)?;
        let boot = self.boot;
        let before = of(parking::read_note(first))?;
        let resumed = before.is_some();
        let (suspect, walked, kept) = match before {
            Some(note) if note.baseline == baseline => {
                let suspect = note.walked || note.boot != boot;
                // Not sound again before the end of this resync.
                let kept = if suspect && !note.walked {
                    note.boot
                } else {
                    boot
                };
                (suspect, note.walked, kept)
            }
            other => {
                for volume in &self.ground.volumes {
                    of(parking::put_away(volume))?;
                }
                // What a comparison of everything had parked, marked or not, is gone now.
                let walked = other.is_some_and(|note| note.walked);
                (walked, walked, boot)
            }
        };
        let note = Unfinished {
            baseline,
            boot: kept,
            walked,
        };
        of(parking::write_note(first, &note))?;
        let own = |s: &Arc<Service>| {
            let numbers = s.marks.checkpoints();
            numbers.completed.max(numbers.claimed)
        };
        Ok(Begun {
            boot,
            suspect,
            resumed,
            checkpoints: self.service.as_ref().map_or(0, own),
        })
    }

    /// One session's target.
    pub(crate) fn session(self) -> FsSession {
        let service = self.service.clone();
        FsSession(Target::new(Arc::new(self), Rules::default()), service)
    }
}

/// A target as the driver sees it.
pub(crate) struct FsSession(Target<FsTarget>, Option<Arc<Service>>);

impl Requests for FsSession {
    fn handle(&self, request: &Request) -> Reply {
        if let Request::Open(open) = request
            // The source does not know what somebody changed here.
            && open.aside.is_none()
            && let Some(aside) = self.1.as_deref().and_then(Service::aside_of_own)
        {
            let aside = Some(aside);
            return self.0.handle(&Request::Open(Open {
                aside,
                ..open.clone()
            }));
        }
        self.0.handle(request)
    }
}
