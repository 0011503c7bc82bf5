//! Asking whether this node may go on without its peer: what is known, the intent, the question to
//! the witness, and the answers of witness and peer.

use super::phase::{Ask, Phase, PromoteStep, Then, Told};
use super::{Isolation, Member, Output, WitnessAnswer};
use crate::control::Refusal;
use crate::ids::Id128;
use crate::logic::verdict::{Claim, Evidence, May, Policy, Witness, alone};
use crate::wire::Reject;

impl Member {
    /// Questions not put yet.
    pub(super) fn new_ask(&mut self) -> Ask {
        Ask {
            new: self.record.intent.unwrap_or_else(|| self.new_id()),
            round: 0,
            witness: Witness::NotAsked,
            told: Told::No,
        }
    }

    /// An id that was given up never names an epoch: the peer may list it as ended.
    pub(super) fn not_given_up(&mut self, id: Id128) -> Id128 {
        if self.record.ended.contains(&id) {
            self.new_id()
        } else {
            id
        }
    }

    pub(super) fn on_reachable(&mut self, answers: bool) {
        if answers && !self.reachable && self.unreachable_once {
            self.reachable_again = Some(self.now);
        }
        self.unreachable_once |= !answers;
        self.reachable = answers;
    }

    /// A network that comes back brings the address before the peer: who was cut off, and so was
    /// perhaps replaced, gives the peer the time to be heard. Who has heard since that the peer
    /// follows was not replaced.
    fn reaches(&self) -> bool {
        let since = |at| self.now.saturating_duration_since(at);
        let settled = |at| since(at) >= self.config.stall_limit || self.granted_since(at);
        self.reachable && self.reachable_again.is_none_or(settled)
    }

    /// What is known of the peer without meeting it.
    pub(super) fn evidence(&self, witness: Witness) -> Evidence {
        let by_hand = self.config.by_hand && matches!(self.phase, Phase::Promote(_));
        let policy = match self.config.isolation {
            _ if by_hand => Policy::Alone,
            Isolation::Wait => Policy::Wait,
            Isolation::Ping => Policy::Ping(self.reaches()),
            Isolation::Alone => Policy::Alone,
        };
        let waited = self.now.saturating_duration_since(self.started);
        Evidence {
            witness: if self.config.witness {
                witness
            } else {
                Witness::NotConfigured
            },
            fenced: self.fenced,
            policy,
            power_loss_over: self.config.after_power_loss.is_some_and(|d| waited >= d),
            told_stale: self.peer_is_stale(),
        }
    }

    /// What W1–W7 say of this node.
    pub(super) fn may_serve(&self, witness: Witness) -> May {
        let me = Claim {
            node: &self.config.local,
            record: &self.record,
            serving: self.serves(),
        };
        alone(&me, &self.evidence(witness)).may
    }

    /// Records the intent, then asks.
    pub(super) fn intend(&mut self, new: Id128) {
        if self.record.intent == Some(new) || !self.config.rules.intent_first {
            return self.intent_written();
        }
        let mut record = self.record.clone();
        record.intent = Some(new);
        self.persist(record, Then::Intent);
    }

    pub(super) fn intent_written(&mut self) {
        match self.phase {
            Phase::Promote(_) => self.ask_witness(),
            Phase::Shrink(_) => self.shrink_ask(),
            _ => {}
        }
    }

    /// Asks for the id of the promotion or the shrinking under way.
    pub(super) fn ask_witness(&mut self) {
        let round = self.next_round();
        let list = self.record.list();
        let ask = match &mut self.phase {
            Phase::Promote(promote) => &mut promote.ask,
            Phase::Shrink(shrink) => &mut shrink.ask,
            _ => return,
        };
        ask.round = round;
        ask.witness = Witness::NotAsked;
        let new = ask.new;
        self.out.push(Output::AskWitness { round, list, new });
    }

    pub(super) fn on_witness(&mut self, round: u64, answer: WitnessAnswer) {
        let said = match answer {
            WitnessAnswer::Granted => Witness::Granted,
            WitnessAnswer::Refused(id) => Witness::Refused(id),
            WitnessAnswer::Silent => Witness::Silent,
        };
        let recheck = self.config.rules.eligibility_on_reply;
        match &mut self.phase {
            Phase::Promote(p) if p.ask.round == round && p.step == PromoteStep::Asking => {
                p.ask.witness = said;
                self.promote_answered();
            }
            Phase::Promote(p) if p.ask.round == round && !recheck => {
                if said == Witness::Granted {
                    let promote = p.clone();
                    self.promote_go(promote, false);
                }
            }
            Phase::Shrink(shrink) if shrink.ask.round == round => {
                shrink.ask.witness = said;
                self.shrink_step();
            }
            _ => self.on_told_witness(round, answer),
        }
    }

    /// The peer answered whether it is stale now.
    pub(super) fn on_told(&mut self, new: Id128, result: Result<(), Reject>) {
        let told = if result.is_ok() { Told::Yes } else { Told::No };
        let why = result.err();
        match &mut self.phase {
            Phase::Promote(p) if p.ask.new == new && p.ask.told == Told::Waiting => {
                p.ask.told = told;
                match why {
                    None => self.promote_answered(),
                    Some(reject) => {
                        let remedy = "repeat the command in a moment";
                        let refusal = Refusal::new(&reject.code, reject.reason, remedy);
                        self.promote_refused(refusal);
                    }
                }
            }
            Phase::Shrink(s) if s.ask.new == new && s.ask.told == Told::Waiting => {
                s.ask.told = told;
                self.shrink_step();
            }
            _ => {}
        }
    }
}
