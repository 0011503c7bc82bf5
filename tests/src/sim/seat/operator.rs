//! The operator: starts the volume, gives orders, and after the faults does what only a human can.

use super::super::node::NAMES;
use super::super::world::{Event, World};
use super::config::CHECKERS;
use tandem_failover::logic::api::{Command, Input, Wants};
use tandem_repl::control::Refusal;

impl World {
    /// Looks after both nodes now and then.
    pub fn on_operator(&mut self) {
        self.push(self.now + 1_000_000, Event::Operator);
        for n in 0..NAMES.len() {
            let node = &self.nodes[n];
            let Some(machine) = &node.seat.machine else {
                continue;
            };
            if node.paused.is_some() {
                continue;
            }
            let wants = machine.wants().clone();
            if (self.stats.serves == 0 || self.calm) && !wants.started {
                self.command(n, Command::Start);
                continue;
            }
            if self.calm {
                self.switches_on(n, &wants);
            }
            let node = &self.nodes[n];
            let Some(daemon) = node.daemon.as_ref().filter(|_| node.hung.is_none()) else {
                continue;
            };
            let code = daemon.member.reason().map(|r| r.code.clone());
            let fresh = daemon.member.record().epoch.is_none();
            match code.as_deref() {
                Some("state-directory") if !node.ills.record_fails => {
                    // Repaired; the daemon starts again.
                    self.crash(n);
                }
                Some("diverged") if self.calm => {
                    // Somebody has to choose; here what the second node has is given up.
                    self.judge_choice();
                    self.checks.promote.forget();
                    self.command(1, Command::Second { full: true });
                }
                _ if n == 0 && fresh && self.stats.serves == 0 => {
                    self.command(n, Command::Prim { force: false });
                }
                _ => {}
            }
        }
    }

    /// All that was switched off is switched on again, and what was down is up.
    fn switches_on(&mut self, n: usize, wants: &Wants) {
        for name in CHECKERS {
            self.checker(n, name, true);
        }
        if wants.maintenance {
            self.command(n, Command::Maintenance(false));
        }
        if wants.failover == Some(false) {
            self.command(n, Command::Failover(true));
        }
    }

    pub fn checker(&mut self, n: usize, name: &str, up: bool) {
        let node = &self.nodes[n];
        if node.seat.machine.is_none() || node.paused.is_some() {
            return;
        }
        let name = name.to_string();
        let detail = "so it is".to_string();
        self.manager(n, Input::Checker { name, up, detail });
    }

    /// An operator's command reaches the manager, if there is one.
    pub fn command(&mut self, n: usize, command: Command) {
        let node = &mut self.nodes[n];
        if !node.is_powered || node.paused.is_some() || node.seat.machine.is_none() {
            return;
        }
        let seat = &mut node.seat;
        seat.next_token += 1;
        let token = seat.next_token;
        seat.open.insert(token, (self.now, command.clone()));
        self.manager(n, Input::Command { token, command });
    }

    pub(super) fn command_answered(&mut self, n: usize, token: u64, result: &Result<(), Refusal>) {
        let Some((_, command)) = self.nodes[n].seat.open.remove(&token) else {
            return;
        };
        if result.is_ok() {
            self.judge_answer(n, &command);
        }
    }
}
