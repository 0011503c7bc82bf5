//! What operators and other managers ask, and what they are answered.

use super::Manager;
use super::module::Runtime;
use crate::control::{Answer, Envelope, ModuleStatus, NodeStatus, Order, Request};
use crate::io::peers::Reply;
use crate::logic::api::{Command, Input};
use std::collections::{BTreeMap, BTreeSet};
use tandem_repl::control::Refusal;

impl Manager {
    pub(super) fn on_client(&mut self, from: Option<String>, envelope: Envelope, reply: Reply) {
        let other = envelope.node.clone().filter(|n| *n != self.settings.node);
        if let Some(node) = other.or_else(|| self.who_swaps(&envelope.request)) {
            if !self.settings.nodes.iter().any(|n| n.name == node) {
                return reply(Answer::Refused(self.unknown_node(&node)));
            }
            let envelope = Envelope::new(Some(node.clone()), envelope.request);
            return self.peers.forward(&node, envelope, reply);
        }
        let answer = match envelope.request {
            Request::Status => Answer::Status(Box::new(self.status())),
            Request::Log { module, lines } => Answer::Log(self.log.last(module.as_deref(), lines)),
            Request::Failovers { module } => match self.module(&module) {
                Some((module, _)) => Answer::Failovers(module.failovers()),
                None => Answer::Refused(self.unknown(&module)),
            },
            Request::Inspect { uids, gids } => return self.inspect(uids, gids, reply),
            Request::Apply { modules } => return self.apply(modules, reply),
            Request::Change(message) => return self.asked(from, *message, reply),
            Request::Order { module, order } => {
                let Some((runtime, log)) = self.module(&module) else {
                    return reply(Answer::Refused(self.unknown(&module)));
                };
                log.write(Some(&module), &format!("an operator orders {order:?}"));
                return runtime.order(command(order), reply, log);
            }
        };
        reply(answer);
    }

    /// A swap begins where the application runs.
    fn who_swaps(&self, request: &Request) -> Option<String> {
        let Request::Order {
            module,
            order: Order::Swap,
        } = request
        else {
            return None;
        };
        let runtime = self.modules.iter().find(|m| m.name() == module)?;
        let peer = &runtime.config.peer;
        let brief = self.peers.modules(peer)?.remove(module)?;
        let here = runtime.machine.shown().state.serves();
        (!here && brief.state.serves()).then(|| peer.clone())
    }

    fn status(&self) -> NodeStatus {
        NodeStatus {
            node: self.settings.node.clone(),
            pid: std::process::id(),
            modules: self.modules.iter().map(|m| self.module_status(m)).collect(),
            peers: self.peers.status(),
        }
    }

    fn module_status(&self, module: &Runtime) -> ModuleStatus {
        ModuleStatus {
            notes: self.notes(module),
            ..module.status()
        }
    }

    /// What the other nodes were told of the modules.
    pub(super) fn hear(&mut self) {
        let peers: BTreeSet<&String> = self.modules.iter().map(|m| &m.config.peer).collect();
        let heard = peers.into_iter();
        let heard: BTreeMap<String, _> = heard
            .filter_map(|peer| Some((peer.clone(), self.peers.modules(peer)?)))
            .collect();
        for module in &mut self.modules {
            let brief = heard.get(&module.config.peer);
            let word = brief.and_then(|b| b.get(module.name())?.word);
            if let Some(word) = word.filter(|w| *w != module.machine.wants().word()) {
                module.handle(Input::Heard(word), &mut self.log);
            }
        }
    }

    /// Aside: files and names are read for as long as that takes.
    fn inspect(&self, uids: Vec<u32>, gids: Vec<u32>, reply: Reply) {
        let (node, dir) = (self.settings.node.clone(), self.settings.config_dir.clone());
        let look = move || reply(crate::io::inspect::inspect(&node, &dir, &uids, &gids));
        let thread = std::thread::Builder::new().name("inspect".into());
        if let Err(e) = thread.spawn(look) {
            // The one who asks hears of it by the end of his connection, or of his patience.
            tracing::warn!("inspection: {e}");
        }
    }

    fn unknown_node(&self, node: &str) -> Refusal {
        let known: Vec<_> = self.settings.nodes.iter().map(|n| &*n.name).collect();
        Refusal::new(
            "unknown-node",
            format!("the cluster has no node {node:?}"),
            format!("name one of {}", known.join(", ")),
        )
    }

    fn unknown(&self, module: &str) -> Refusal {
        let known: Vec<_> = self.modules.iter().map(Runtime::name).collect();
        Refusal::new(
            "unknown-module",
            format!("this manager has no module {module:?}"),
            format!(
                "name one of {}; a new one is known after the manager was started again",
                known.join(", ")
            ),
        )
    }
}

fn command(order: Order) -> Command {
    match order {
        Order::Start => Command::Start,
        Order::Stop => Command::Stop,
        Order::Stopstart => Command::Stopstart,
        Order::Restart => Command::Restart,
        Order::Swap => Command::Swap,
        Order::Prim { force } => Command::Prim { force },
        Order::Second { full } => Command::Second { full },
        Order::Failover(on) => Command::Failover(on),
        Order::Maintenance(on) => Command::Maintenance(on),
        Order::Checkers(on) => Command::Checkers(on),
    }
}
