//! Who may answer for the module, and until when.

use super::super::api::Output;
use super::super::level::Next;
use super::{Doing, Machine, What};
use std::time::{Duration, Instant};
use tandem_repl::logic::member::{grace, lease};

impl Machine {
    /// Who may not answer for the module has no addresses, whatever else goes on.
    pub(super) fn guard(&mut self) {
        if !self.rules.addresses_first || self.may_answer() || self.unheard.is_some() {
            return;
        }
        if self.has.addresses {
            self.out.push(Output::DropAddresses);
            self.has.addresses = false;
            self.wish.addresses = false;
        }
        if self.is_taking() {
            // What is being taken goes too; the step ends by itself.
            self.out.push(Output::DropAddresses);
        }
    }

    pub(super) fn is_taking(&self) -> bool {
        let taking = |d: &Doing| matches!(d.what, What::Next(Next::TakeAddresses) | What::More);
        self.doing.as_ref().is_some_and(taking)
    }

    /// The addresses may be here now, by what is known.
    pub(super) fn may_answer(&self) -> bool {
        let in_time = self.lapse().is_none_or(|lapse| self.now < lapse);
        self.serves() && in_time && self.quarantine.is_none()
    }

    /// When the addresses have to go if nothing more is heard of the daemon: a while after the end
    /// of its lease, so that a short question to the witness costs no connection, and well before
    /// its peer may serve ([`grace`]). Where the peer is there it may be taken into the set, and
    /// have given a lease, since the daemon was heard.
    pub(super) fn lapse(&self) -> Option<Instant> {
        let view = self.view().filter(|v| v.serves())?;
        let limit = self.config.stall_limit;
        let unheard = view.peer_connected.then(|| self.heard + lease(limit));
        let until = view.until.or(unheard);
        until
            .filter(|_| self.rules.addresses_by_lease)
            .map(|until| until + grace(limit) / 2)
    }

    /// For how long a daemon that ran when it was heard of last has said nothing.
    pub(super) fn silent(&self) -> Duration {
        self.now.saturating_duration_since(self.heard)
    }

    /// When the machine has to be told that time passes, if not before.
    pub fn due(&self) -> Option<Instant> {
        let there = self.has.addresses || self.is_taking();
        self.lapse().filter(|lapse| there && self.now < *lapse)
    }
}
