//! What a manager's steps do to the node: programs that take time, fail, and hang until their
//! limit; addresses that somebody else may have; the daemon's start.

use super::super::world::World;
use super::{End, Program};
use tandem_failover::config::Script;
use tandem_failover::logic::api::Input;

/// When a program that hangs is ended.
const LIMIT: u64 = 5_000_000;

impl World {
    /// Nothing fails by itself: after the faults, and before there is a volume. What the directory
    /// held before is identified then, and that has to reach the disk before power may fail.
    pub(super) fn goes_well(&self) -> bool {
        self.calm || self.stats.serves == 0
    }

    pub(super) fn begin_script(&mut self, n: usize, id: u64, script: Script, force: bool) {
        let quick = self.options.quick_scripts;
        let good = quick || self.goes_well();
        let rng = &mut self.rng_manager;
        let hangs = !good && rng.chance(3);
        let fails = hangs || (!good && rng.chance(8));
        let time = match rng.below(10) {
            _ if hangs => LIMIT,
            _ if quick => 500 + rng.below(5000),
            0..6 => 1000 + rng.below(50_000),
            6..9 => 1000 + rng.below(800_000),
            _ => 1000 + rng.below(3_000_000),
        };
        match script {
            Script::StartBoth => self.nodes[n].seat.app.both = true,
            Script::StartSecond => self.nodes[n].seat.app.second = true,
            Script::StartPrim => {
                self.judge_start(n);
                self.nodes[n].seat.app.prim = true;
            }
            _ => {}
        }
        let seat = &mut self.nodes[n].seat;
        let life = seat.life;
        seat.program = Some(Program { life, id });
        self.ends(n, time, id, End::Script(script, force), !fails);
    }

    pub(super) fn step_ends(&mut self, n: usize, (life, id): (u64, u64), end: End, ok: bool) {
        let mine = self.nodes[n].seat.life == life;
        let result = match end {
            End::Script(script, force) => {
                let own = |p: &Program| (p.life, p.id) == (life, id);
                if !self.nodes[n].seat.program.as_ref().is_some_and(own) {
                    // Ended by force with the manager that called it.
                    return;
                }
                self.nodes[n].seat.program = None;
                self.script_ends(n, script, ok || force);
                ok
            }
            // These live in the manager's process.
            End::Take if mine => self.take_ends(n, ok),
            End::Release if mine => {
                self.nodes[n].seat.addresses = false;
                ok
            }
            End::Daemon => {
                if ok && self.nodes[n].daemon.is_none() {
                    self.start(n);
                }
                ok
            }
            _ => ok,
        };
        if mine && self.nodes[n].seat.machine.is_some() {
            let result = if result {
                Ok(())
            } else {
                Err("it failed".to_string())
            };
            self.manager(n, Input::Done(id, result));
        }
    }

    fn script_ends(&mut self, n: usize, script: Script, ok: bool) {
        // What failed may have done its work, or not.
        let done = ok || self.rng_manager.chance(50);
        let app = &mut self.nodes[n].seat.app;
        match script {
            Script::StopBoth if done => app.both = false,
            Script::StopPrim if done => app.prim = false,
            Script::StopSecond if done => app.second = false,
            Script::StartBoth => app.both = done,
            Script::StartPrim => app.prim = done,
            Script::StartSecond => app.second = done,
            _ => {}
        }
    }

    fn take_ends(&mut self, n: usize, ok: bool) -> bool {
        let hears = !self.options.lan_parts || self.lanes.iter().all(|lane| lane.is_open);
        let other = &self.nodes[1 - n];
        // A node that is stopped does not answer a probe.
        let in_use = other.seat.addresses && hears && other.paused.is_none();
        let seat = &mut self.nodes[n].seat;
        if seat.overtaken || in_use || !ok {
            return false;
        }
        seat.addresses = true;
        true
    }
}
