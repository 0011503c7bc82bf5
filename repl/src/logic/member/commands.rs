//! What the operator may ask of a node that follows, and what a waiting node says.

use super::phase::{Follow, Phase, Then};
use super::promote::moving;
use super::{Member, Output};
use crate::control::Refusal;
use crate::logic::verdict::Rule;

impl Member {
    pub(super) fn on_second(&mut self, token: u64) {
        if self.serves() {
            let refusal = Refusal::new(
                "serves",
                "this node serves",
                "run `tandem swap`, or stop it and start it again",
            );
            return self.resolve(token, Err(refusal));
        }
        if self.broken {
            return self.resolve_broken(token);
        }
        match self.phase {
            Phase::Second => self.resolve(token, Ok(())),
            Phase::Wait if self.is_split() => {
                // Waiting for it would be waiting for ever.
                let refusal = self.verdict_now().and_then(|v| v.refusal());
                self.reason = refusal.or(self.reason.take());
                self.resolve_broken(token);
            }
            Phase::Wait => {
                let waits = self.wish.follow;
                self.follow_at(token);
                if !waits {
                    self.reason = None;
                }
                self.try_join();
                self.resolve_if_idle();
            }
            Phase::Follow(_) => self.follow_at(token),
            _ => self.resolve(token, Err(moving())),
        }
    }

    /// Rejoin now; where both were written apart, as the one whose changes are set aside.
    pub(super) fn on_resync(&mut self, token: u64, everything: bool) {
        if self.broken {
            return self.resolve_broken(token);
        }
        match self.phase {
            Phase::Alone | Phase::Wait if self.is_split() => {
                self.wish_now(everything);
                self.follow_at(token);
                self.superseded();
            }
            Phase::Wait | Phase::Follow(Follow::Asked) => {
                self.wish_now(everything);
                self.follow_at(token);
                self.try_join();
                self.resolve_if_idle();
            }
            Phase::Second if everything => {
                // It leaves the set and comes back with everything compared.
                self.wish_now(true);
                let why = "everything is to be compared";
                self.out.push(Output::CloseSession(why.into()));
                self.lose_session("resync", why);
                self.follow_at(token);
                let mut record = self.record.clone();
                record.stale = true;
                record.clean = false;
                self.persist(record, Then::Stale);
            }
            Phase::Second | Phase::Follow(_) if !everything => self.follow_or_done(token),
            _ => {
                let refusal = Refusal::new(
                    "serves",
                    "this node serves, or is changing its role",
                    "run the command on the node that follows",
                );
                self.resolve(token, Err(refusal));
            }
        }
    }

    fn follow_or_done(&mut self, token: u64) {
        if self.phase == Phase::Second {
            self.resolve(token, Ok(()));
        } else {
            self.follow_at(token);
        }
    }

    fn wish_now(&mut self, everything: bool) {
        self.wish.everything |= everything;
        self.wish.urgent = true;
        self.wish.again = None;
    }

    /// Both were written apart, and only the operator can say which copy is set aside.
    fn is_split(&self) -> bool {
        let verdict = self.verdict_now();
        verdict.is_some_and(|v| v.rule == Rule::V7 && v.source().is_none())
    }

    fn follow_at(&mut self, token: u64) {
        self.wish.follow = true;
        if let Some(old) = self.wish.token.replace(token) {
            self.resolve(old, Ok(()));
        }
    }

    /// There is nothing to wait for yet: the wish is noted.
    fn resolve_if_idle(&mut self) {
        if self.phase == Phase::Wait
            && let Some(token) = self.wish.token.take()
        {
            self.resolve(token, Ok(()));
        }
    }

    fn resolve_broken(&mut self, token: u64) {
        let refusal = self.reason.clone().unwrap_or_else(moving);
        self.resolve(token, Err(refusal));
    }

    /// Says why this node waits, unless something worse than waiting is said already. Returns
    /// whether it is.
    pub(super) fn idle(&mut self) -> bool {
        let worse = |r: &Refusal| {
            r.code.ends_with("-failed") || matches!(&*r.code, "local-disk" | "ejected")
        };
        let kept = self.reason.as_ref().is_some_and(worse);
        if !kept {
            self.reason = Some(self.idle_reason());
        }
        kept
    }

    /// What a waiting node tells the operator.
    pub(super) fn idle_reason(&self) -> Refusal {
        let record = &self.record;
        let peer = &self.config.peer;
        if record.stale {
            Refusal::new(
                "stale",
                "this replica is known to lack acknowledged writes, or may",
                format!("start {peer} and follow it with `tandem second`"),
            )
        } else if record.epoch.is_none() {
            Refusal::new(
                "never-synchronised",
                "the replicas were never synchronised",
                "run `tandem prim` on the node with the good data, `tandem second` on the other",
            )
        } else {
            Refusal::new(
                "no-role",
                "the node was not told whether to serve",
                "run `tandem prim` here to serve, or `tandem second` to follow the peer",
            )
        }
    }
}
