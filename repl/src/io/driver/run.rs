//! The resync from this node, as the machine orders it: begun, told to finish, given up.

use super::super::random::fresh;
use super::director::Director;
use super::source::Start;
use crate::logic::member::{Input, ResyncEvent, ResyncOrder};
use crate::logic::resync::messages::Aside;
use crate::logic::verdict::Scope;
use std::collections::VecDeque;
use std::sync::PoisonError;
use std::sync::atomic::Ordering;

impl Director {
    /// Lets the watchdog of a resync look.
    pub(super) fn watch(&self) {
        let run = self.shared.run.lock();
        if let Some(run) = &*run.unwrap_or_else(PoisonError::into_inner) {
            run.watch();
        }
    }

    /// A resync ends with its session; what the machine says of it comes too late to wait for.
    pub(super) fn end_run(&self) {
        let run = self
            .shared
            .run
            .lock()
            .unwrap_or_else(PoisonError::into_inner)
            .take();
        if let Some(run) = run {
            run.abort();
        }
    }

    /// What the machine orders of a resync from this node.
    pub(super) fn resync(&mut self, order: &ResyncOrder, queue: &mut VecDeque<Input>) {
        let mut held = self
            .shared
            .run
            .lock()
            .unwrap_or_else(PoisonError::into_inner);
        let ResyncOrder::Start {
            round,
            copy,
            peer_keeps_aside,
        } = *order
        else {
            if let Some(run) = &*held {
                run.order(order);
            }
            if let ResyncOrder::Abort { .. } = order {
                *held = None;
            }
            return;
        };
        if let Some(old) = held.take() {
            old.abort();
        }
        let record = self.shared.lock().member.record().clone();
        let baseline = record.epoch.as_ref().map(|e| e.id).unwrap_or_default();
        let found = self.shared.keep_aside.load(Ordering::Relaxed);
        // A tree that was never synchronised may hold what nobody else has.
        let everything = copy == Scope::Everything;
        let aside = (peer_keeps_aside || found || everything).then(|| Aside {
            id: fresh()[0],
            reason: format!("{} holds what was chosen", self.shared.hello.node),
            beyond: false,
        });
        let start = Start {
            round,
            scope: copy,
            session: self.session.unwrap_or(0),
            baseline,
            aside,
            reached: self.reached.clone(),
        };
        match self.shared.start_source(start) {
            Ok(run) => *held = Some(run),
            Err(e) => {
                let failed = ResyncEvent::Failed(format!("thread: {e}"));
                queue.push_back(Input::ResyncEvent(round, failed));
            }
        }
    }
}
