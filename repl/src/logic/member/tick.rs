//! Time: every wait that nothing else ends has its deadline here (I12).

use super::phase::{Phase, PromoteStep, Told};
use super::promote::moving;
use super::{Member, Output, Witness};
use crate::control::Refusal;

impl Member {
    pub(super) fn on_tick(&mut self) {
        let limit = self.config.stall_limit;
        let waited = self.now.saturating_duration_since(self.since);
        match &self.phase {
            Phase::Prim => self.prim_tick(),
            Phase::Growing { frozen } => {
                let stood = self.now.saturating_duration_since(*frozen);
                if stood > limit * 2 / 3 {
                    let why = "it did not confirm its record in time";
                    self.eject_peer("peer-slow", why);
                }
            }
            Phase::Shrink(_) if waited >= limit / 4 => self.shrink_overdue(),
            Phase::Alone => self.join_tick(),
            Phase::Promote(_) => self.promote_tick(),
            Phase::Leave(_) => self.leave_tick(),
            Phase::Follow(super::phase::Follow::Asked) if waited > limit => {
                self.enter(Phase::Wait);
                self.reason = Some(Refusal::new(
                    "peer-silent",
                    format!(
                        "{} did not answer the request to be taken in",
                        self.config.peer
                    ),
                    "the node asks again by itself",
                ));
            }
            Phase::Wait => self.try_join(),
            _ => {}
        }
        if self.writing.is_some() {
            return;
        }
        self.swap_tick();
        if self.writing.is_some() {
            return;
        }
        self.lease_tick();
        self.tell_tick();
        self.checkpoint_tick();
        self.release_held();
    }

    fn prim_tick(&mut self) {
        if self.peer_is_late() {
            self.eject_peer("peer-slow", "it did not answer within the stall limit");
        } else if self.lease_lapsed() {
            let why = "it does not renew the lease under which this node serves";
            self.eject_peer("lease", why);
        }
    }

    /// An operation waits so long that a third of the stall limit is left to go on without the
    /// peer.
    pub(super) fn peer_is_late(&self) -> bool {
        self.acks.overdue(self.now, self.config.stall_limit * 2 / 3)
    }

    fn promote_tick(&mut self) {
        let limit = self.config.stall_limit;
        let waited = self.now.saturating_duration_since(self.since);
        let Phase::Promote(promote) = &mut self.phase else {
            return;
        };
        match promote.step {
            PromoteStep::Lease => self.promote_step(),
            _ if waited <= limit => {}
            PromoteStep::Meeting => {
                let why = "it does not say what its record holds";
                self.out.push(Output::CloseSession(why.into()));
                if self.session.is_some() {
                    self.lose_session("peer-silent", why);
                }
            }
            PromoteStep::PeerStale => {
                let refusal = moving();
                self.promote_refused(refusal);
            }
            PromoteStep::Asking => {
                if promote.ask.told == Told::Waiting {
                    let refusal = Refusal::new(
                        "peer-silent",
                        "the peer did not answer whether it stands back",
                        "repeat the command in a moment",
                    );
                    return self.promote_refused(refusal);
                }
                promote.ask.witness = Witness::Silent;
                self.promote_answered();
            }
            PromoteStep::Record => {}
        }
    }
}
