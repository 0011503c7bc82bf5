//! The oracles: what must hold whatever goes wrong, one file each. They see everything, know what
//! was answered to whom, and tell at the first moment when a promise is broken.

mod acked;
mod converge;
mod held;
mod managers;
mod marks;
mod promote;
mod regress;
mod servers;
mod verdicts;
mod waits;

use super::node::NAMES;
use super::tree::Ino;
use super::world::World;
use std::fmt;
use tandem_repl::logic::member::Gate;
use tandem_repl::logic::record::Record;
use tandem_repl::wire::Hello;

/// A broken promise.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Violation {
    /// The invariant's number, and the oracle.
    pub oracle: &'static str,
    pub what: String,
}

impl fmt::Display for Violation {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}: {}", self.oracle, self.what)
    }
}

fn violation(oracle: &'static str, what: String) -> Result<(), Violation> {
    Err(Violation { oracle, what })
}

/// A change that is about to be answered.
#[derive(Clone, Copy, Debug)]
pub struct Held {
    pub node: usize,
    pub id: u64,
    /// Without the peer.
    pub alone: bool,
    pub sync: bool,
}

#[derive(Default)]
pub struct Checks {
    pub acked: acked::Acked,
    pub held: held::HeldBy,
    pub servers: servers::Servers,
    pub promote: promote::Promote,
    pub managers: managers::Managers,
    /// The replicas were equal once: from then on every difference is marked.
    pub were_equal: bool,
    /// Nodes whose operator overruled the record.
    forced: [bool; 2],
}

impl Checks {
    pub fn forced(&mut self, n: usize) {
        self.forced[n] = true;
    }
}

impl World {
    /// A change is about to be answered with success.
    pub fn judge_ack(&mut self, ack: &Held) {
        self.stats.acknowledged += 1;
        let result = held::judge(self, ack).and_then(|()| servers::judge_ack(self, ack));
        self.violate(result);
        let n = ack.node;
        // A sync was admitted in the epoch of what it brings to the disk, whichever is the node's
        // when that is done.
        let record = self.nodes[n].record.read();
        if let Some(epoch) = record.epoch.filter(|_| !ack.sync) {
            self.checks.promote.acked(epoch.id, n);
        }
        self.checks
            .acked
            .acknowledge(n, ack.id, ack.alone, ack.sync);
    }

    /// The gate changed: perhaps the node begins to serve.
    pub fn judge_gate(&mut self, n: usize, before: Gate, gate: Gate) {
        let open = |g: Gate| matches!(g, Gate::Alone | Gate::Replicated);
        let serves = self.checks.servers.serves[n];
        if gate == Gate::ReadOnly {
            self.checks.servers.serves[n] = false;
        }
        let _ = before;
        if !open(gate) || serves {
            return;
        }
        self.checks.servers.serves[n] = true;
        self.stats.serves += 1;
        let forced = std::mem::take(&mut self.checks.forced[n]);
        if forced {
            self.checks.promote.forget();
        }
        let first = !self.checks.acked.has_begun();
        let result = if forced || first {
            Ok(())
        } else {
            promote::judge(self, n).and_then(|()| acked::judge(self, n))
        };
        self.violate(result);
        self.nodes[n].tree().identify();
        if first {
            // What was there before the volume is owed by its identity. The product gives that when
            // a file is first used; one that a power cut takes away again is simply given anew.
            self.nodes[n].tree().sync_all();
        }
        let registers = self.nodes[n].tree().registers();
        self.checks.acked.serves(n, &registers, forced);
        let result = servers::judge_two(self);
        self.violate(result);
    }

    /// A record is on the disk.
    pub fn judge_record(&mut self, n: usize, record: &Record) {
        if record.stale {
            self.checks.acked.left_behind(n);
        } else if record.set_size() == 1 && record.set_has(NAMES[n]) {
            self.checks.acked.left_behind(1 - n);
        }
        let both = record.set_size() == 2;
        let follower = !self.checks.servers.serves[n];
        if both && follower && !record.stale && !record.clean {
            let source = self.nodes[1 - n].record.read();
            let same = source.epoch.as_ref().map(|e| e.id) == record.epoch.as_ref().map(|e| e.id);
            if same {
                self.grown(n);
            }
        }
    }

    /// The target counts: from here on it is answerable for all that the source is.
    fn grown(&mut self, n: usize) {
        if self.checks.acked.is_current(n) {
            return;
        }
        self.trace(|| format!("{} has grown into the set", NAMES[n]));
        self.checks.acked.grown(1 - n, n);
        self.checks.were_equal = true;
        self.nodes[n].notes_end();
        self.look_at_marks("the set grew");
    }

    /// Two nodes greet each other.
    pub fn judge_meeting(&mut self, n: usize, hello: &Hello) {
        let result = verdicts::judge(self, n, hello);
        self.violate(result);
    }

    /// The operator is asked to choose between two replicas.
    pub fn judge_choice(&mut self) {
        let result = promote::judge_choice(self);
        self.violate(result);
    }

    /// A request of a resync was done: nothing newer may be gone.
    pub fn judge_resync(&mut self, n: usize, written: &[(Ino, u64, u64, u64)]) {
        let result = regress::judge(self, n, written);
        self.violate(result);
    }

    pub fn look_at_marks(&mut self, when: &str) {
        if self.checks.were_equal && self.violation.is_none() {
            let result = marks::judge(self, when);
            self.violate(result);
        }
    }

    pub fn look_at_waits(&mut self) {
        let result = waits::judge(self);
        self.violate(result);
    }

    /// The last pass is over and nothing is written.
    pub fn look_at_equality(&mut self) {
        let result = converge::judge_finished(self);
        self.violate(result);
    }

    /// After every event, where the product's failover manager runs.
    pub fn look_at_managers(&mut self) {
        let result = managers::judge(self);
        self.violate(result);
    }

    pub fn judge_start(&mut self, n: usize) {
        let result = managers::judge_start(self, n);
        self.violate(result);
    }

    pub fn judge_exit(&mut self, n: usize) {
        if self.options.managed {
            let result = managers::judge_exit(self, n);
            self.violate(result);
        }
    }

    pub fn judge_answer(&mut self, n: usize, command: &tandem_failover::logic::api::Command) {
        let result = managers::judge_answer(self, n, command);
        self.violate(result);
    }

    /// After the calm: the cluster has come together.
    pub fn look_at_the_end(&mut self) {
        let mut result = converge::judge(self).and_then(|()| waits::judge_end(self));
        if self.options.managed {
            result = result.and_then(|()| managers::judge_end(self));
        }
        self.violate(result);
    }
}
