//! Who is let in, and what waits until nobody is between its mark and its end.

use super::super::node::{Barrier, Busy, NAMES, Stage};
use super::super::world::World;
use tandem_repl::logic::member::{Gate, Input};

impl World {
    /// Something that held gate or generation back may have ended.
    pub fn gate_moves(&mut self, n: usize) {
        let last = self.nodes[n].daemon.as_ref().map(|d| d.last_issued);
        let rules = self.options.rules;
        let Some(daemon) = self.nodes[n].daemon.as_mut() else {
            return;
        };
        let mut begun = Vec::new();
        let between = daemon.is_between();
        daemon.barriers.retain(|barrier| {
            let waits = match barrier {
                Barrier::Checkpoint(_) => rules.generation_waits,
                Barrier::Resync(_) => rules.no_half_done,
            };
            if waits && between {
                return true;
            }
            begun.push((*barrier, daemon.map.begin_generation()));
            false
        });
        for (barrier, generation) in &begun {
            match barrier {
                Barrier::Checkpoint(round) => {
                    if let Some(d) = self.nodes[n].daemon.as_mut() {
                        d.checkpoint = Some((*round, *generation));
                    }
                    let input = Input::Generation(*round, last.unwrap_or_default());
                    self.tell(n, input);
                }
                Barrier::Resync(round) => self.marks_begun(n, *round, *generation),
            }
        }
        let Some(daemon) = self.nodes[n].daemon.as_mut() else {
            return;
        };
        if let Some(Busy::Gating(gate)) = daemon.busy
            && !daemon.holds_gate()
        {
            daemon.busy = None;
            self.set_gate(n, gate);
        } else if !begun.is_empty() {
            self.let_in(n);
        }
    }

    fn set_gate(&mut self, n: usize, gate: Gate) {
        let Some(daemon) = self.nodes[n].daemon.as_mut() else {
            return;
        };
        let before = std::mem::replace(&mut daemon.gate, gate);
        daemon.inputs.push_back(Input::Gated);
        self.trace(|| format!("{} gate {gate:?}", NAMES[n]));
        self.judge_gate(n, before, gate);
        self.let_in(n);
        self.direct(n);
    }

    /// Those that wait try again.
    pub fn let_in(&mut self, n: usize) {
        let Some(daemon) = self.nodes[n].daemon.as_ref() else {
            return;
        };
        let waiting = daemon.jobs.values().filter(|j| j.stage == Stage::Waiting);
        let waiting: Vec<u64> = waiting.map(|j| j.id).collect();
        for id in waiting {
            self.admit(n, id);
        }
    }

    /// Whether an application may run on this node now.
    pub fn is_serving(&self, n: usize) -> bool {
        let node = &self.nodes[n];
        let Some(daemon) = node.daemon.as_ref().filter(|_| node.is_powered) else {
            return false;
        };
        let state = daemon.member.state();
        state.serves() && daemon.gate != Gate::ReadOnly
    }
}
