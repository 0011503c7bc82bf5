//! What is shown of the link: nodes, paths, and why one is silent.

use super::{Path, Peers, reason};
use crate::control::{PathStatus, PeerStatus};
use crate::driver::Node;

impl Peers {
    pub fn status(&self) -> Vec<PeerStatus> {
        let state = self.shared.state();
        let one = |node: &Node| {
            let pairs = self.shared.local.addresses.iter().zip(&node.addresses);
            let paths: Vec<PathStatus> = pairs
                .enumerate()
                .map(|(index, (local, remote))| {
                    let path = state.paths.get(&(node.name.clone(), index));
                    let heard = path.and_then(|p| p.heard).map(|h| h.elapsed());
                    PathStatus {
                        local: local.to_string(),
                        remote: remote.to_string(),
                        alive: path.is_some_and(Path::is_alive),
                        heard_ms: heard.map(|h| h.as_millis() as u64),
                    }
                })
                .collect();
            let alive = paths.iter().any(|p| p.alive);
            let trouble = (0..paths.len()).find_map(|index| {
                let path = state.paths.get(&(node.name.clone(), index))?;
                path.trouble.as_deref()
            });
            PeerStatus {
                node: node.name.clone(),
                alive,
                reason: (!alive).then(|| reason::not_heard(&node.name, trouble)),
                paths,
                modules: state.modules.get(&node.name).cloned().unwrap_or_default(),
            }
        };
        self.shared.nodes.iter().map(one).collect()
    }
}
