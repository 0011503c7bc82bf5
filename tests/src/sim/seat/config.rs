//! The module as its managers see it.

use super::super::node::NAMES;
use super::super::world::World;
use std::collections::BTreeMap;
use std::time::Duration;
use tandem_failover::config::{
    Action, Application, Boot, Checker, CheckerKind, Module, Reaction, Script, VirtualIp, When,
};

/// Checkers, one of each reaction that moves something.
pub const CHECKERS: [&str; 4] = ["restart", "stopstart", "wait", "swap"];

impl World {
    pub(super) fn module(&self, n: usize) -> Module {
        let action = |_| Action {
            command: vec!["/bin/true".into()],
            limit: Duration::from_secs(5),
        };
        let reactions = [
            Reaction::Restart,
            Reaction::Stopstart,
            Reaction::Wait,
            Reaction::Swap,
        ];
        let checker = |(name, on_failure): (&str, Reaction)| Checker {
            name: name.into(),
            kind: CheckerKind::VirtualIp,
            interval: Duration::from_secs(1),
            timeout: Duration::from_secs(1),
            failures: 1,
            on_failure,
            when: When::Prim,
        };
        let scripts = Script::ALL.iter().map(|s| (*s, action(s)));
        Module {
            name: "sim".into(),
            peer: NAMES[1 - n].into(),
            preferred: self.options.preferred.map(|p| NAMES[p].to_string()),
            failover: true,
            boot: Boot::Auto,
            max_restarts: self.options.max_restarts,
            restart_window: Duration::from_secs(24 * 3600),
            virtual_ips: vec![VirtualIp {
                address: std::net::IpAddr::from([10, 0, 0, 9]),
                prefix: None,
                interface: None,
            }],
            application: Application::Scripts(scripts.collect()),
            checkers: CHECKERS.into_iter().zip(reactions).map(checker).collect(),
            variables: BTreeMap::new(),
            stall_limit: self.options.stall_limit,
            fence: None,
            splits: false,
        }
    }
}
