//! A changed configuration of the module is taken over while it runs.
//!
//! Nothing that runs is touched by it: scripts, limits and timers count from their next use. Only
//! addresses that were added are taken where the others are; what is removed, the driver removes.

use super::super::api::{Output, Step};
use super::{Machine, What};
use crate::config::Module;
use std::collections::BTreeSet;
use tandem_repl::control::Refusal;

impl Machine {
    pub(super) fn configure(&mut self, token: u64, config: Module) {
        let old = std::mem::replace(&mut self.config, config);
        self.no_more(Err(overtaken()));
        let as_before = |name: &String| {
            let find = |all: &Module| all.checkers.iter().find(|c| c.name == *name).cloned();
            find(&old).is_some() && find(&old) == find(&self.config)
        };
        let known: BTreeSet<&String> = self.down.keys().chain(self.blocked.keys()).collect();
        let known = known.into_iter().chain(self.yields.keys());
        let forgotten: BTreeSet<String> = known.filter(|n| !as_before(n)).cloned().collect();
        let blocked = !self.blocked.is_empty();
        for name in &forgotten {
            self.down.remove(name);
            self.blocked.remove(name);
            self.yields.remove(name);
        }
        if blocked && self.blocked.is_empty() {
            self.daemon_again = self.now;
        }
        let added = |all: &Module| {
            let new = self.config.virtual_ips.iter();
            new.clone().any(|v| !all.virtual_ips.contains(v))
        };
        if self.has.addresses && added(&old) {
            self.more = Some(token);
        } else {
            self.resolve(token, Ok(()));
        }
        self.ask_again = self.now;
        self.log("a changed configuration is taken over");
    }

    /// Takes what was added, unless something else is under way.
    pub(super) fn tend_more(&mut self) {
        if self.more.is_none() || self.doing.is_some() {
            return;
        }
        if self.has.addresses {
            self.begin(What::More, Step::TakeAddresses, false);
        } else {
            // With the others, when they come back.
            self.no_more(Ok(()));
        }
    }

    /// Who waits for added addresses hears of it.
    pub(super) fn no_more(&mut self, result: Result<(), Refusal>) {
        if let Some(token) = self.more.take() {
            self.resolve(token, result);
        }
    }

    pub(super) fn more_ended(&mut self, result: Result<(), String>) {
        if !self.has.addresses {
            // The others went meanwhile.
            self.out.push(Output::DropAddresses);
        }
        let remedy = "free the address, or correct `virtual_ips`";
        self.no_more(result.map_err(|why| Refusal::new("address", why, remedy)));
    }

    /// Something of the application moves: the taking of more addresses is none.
    pub(super) fn moves(&self) -> bool {
        self.doing.is_some_and(|d| d.what != What::More)
    }
}

fn overtaken() -> Refusal {
    Refusal::new(
        "overtaken",
        "the configuration was changed again",
        "look at it with `tandem status`",
    )
}
