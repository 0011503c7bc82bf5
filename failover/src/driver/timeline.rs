//! How long each phase of a failover took.

use crate::control::Failover;
use crate::logic::api::Phase;
use crate::logic::module::Machine;
use std::time::{Instant, SystemTime, UNIX_EPOCH};
use tandem_repl::io::clock;

/// The failover under way.
#[derive(Default)]
pub(super) struct Timeline(Option<(Instant, Failover)>);

impl Timeline {
    /// A phase ended. The whole failover, when that was the last.
    pub(super) fn mark(&mut self, phase: Phase, machine: &Machine) -> Option<Failover> {
        let now = clock::now();
        if phase == Phase::Detected {
            let reason = machine.shown().reason;
            let began = SystemTime::now().duration_since(UNIX_EPOCH);
            let failover = Failover {
                began: began.map(|t| t.as_secs()).unwrap_or_default(),
                phases: Vec::new(),
                reason: reason.map(|r| r.reason).unwrap_or_default(),
            };
            self.0 = Some((now, failover));
        }
        let (began, failover) = self.0.as_mut()?;
        if failover.phases.iter().all(|(p, _)| *p != phase) {
            let took = now.saturating_duration_since(*began).as_millis() as u64;
            failover.phases.push((phase, took));
        }
        if phase != Phase::Application {
            return None;
        }
        self.0.take().map(|(_, failover)| failover)
    }
}

/// In one line.
pub(super) fn text(failover: &Failover) -> String {
    let phase = |(phase, ms): &(Phase, u64)| format!("{phase:?} {ms} ms").to_lowercase();
    let phases: Vec<_> = failover.phases.iter().map(phase).collect();
    format!("failover: {}", phases.join(", "))
}
