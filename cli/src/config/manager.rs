//! What the failover manager needs to know, from the configuration.

use super::Config;
use super::checked::Module;
use super::meaning;
use tandem_failover::config::{self as failover, Described, Files, Reading};
use tandem_failover::driver::{Node, Settings};
use tandem_fs::config::Isolation;

impl Config {
    /// The manager's settings on this node, with the texts that were read. Modules that do not run
    /// here are left out.
    pub(crate) fn manager_settings(&self, program: Vec<String>, files: Files) -> Settings {
        let node = |n: &super::checked::ClusterNode| Node {
            name: n.name.clone(),
            addresses: n.addresses.clone(),
        };
        let credentials = &self.credentials;
        Settings {
            cluster: self.cluster.name.clone(),
            node: self.node.clone(),
            nodes: self.cluster.nodes.iter().map(node).collect(),
            port: self.cluster.port,
            state_dir: self.dirs.state.clone(),
            run_dir: self.dirs.run.clone(),
            config_dir: self.dirs.config.clone(),
            watchdog: self.cluster.watchdog.device(),
            files,
            reading: self.reading(),
            read: crate::commands::read_files,
            program,
            credentials: [
                credentials.ca_pem.clone(),
                credentials.cert_pem.clone(),
                credentials.key_pem.clone(),
            ],
        }
    }

    /// What the files mean, for the manager.
    pub(crate) fn reading(&self) -> Reading {
        let described = |module: &Module| {
            Some(Described {
                module: self.managed(module)?,
                keys: meaning::of_module(module),
            })
        };
        Reading {
            cluster: meaning::of_cluster(&self.cluster),
            modules: self.modules.iter().filter_map(described).collect(),
        }
    }

    fn managed(&self, module: &Module) -> Option<failover::Module> {
        let mine = module.nodes.contains(&self.node);
        let peer = module.nodes.iter().find(|n| **n != self.node);
        let service = module.service.clone();
        Some(failover::Module {
            name: module.name.clone(),
            peer: peer.filter(|_| mine)?.clone(),
            preferred: service.preferred.map(|p| p.value),
            failover: service.failover,
            boot: service.boot,
            max_restarts: service.max_restarts,
            restart_window: service.restart_window,
            virtual_ips: service.virtual_ips.into_iter().map(|v| v.value).collect(),
            application: service.application,
            checkers: service.checkers,
            variables: service.variables,
            stall_limit: module.stall_limit,
            splits: module.policy.isolation == Isolation::Alone,
            fence: service.fence,
        })
    }
}
