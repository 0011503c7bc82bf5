//! A manager in few lines: starts daemons that died, and gives the orders an automatic manager or
//! an operator would. It decides nothing the machine does not check again: what it may not do is
//! refused.

use super::node::{Daemon, NAMES};
use super::world::{Event, Local, World};
use std::collections::{BTreeMap, BTreeSet, VecDeque};
use tandem_failover::logic::api::Command;
use tandem_repl::control::{Refusal, State};
use tandem_repl::ids::OpSeq;
use tandem_repl::logic::dirty::{Level, Map};
use tandem_repl::logic::member::{Gate, Input, Member, Pressure};

/// Orders an operator may give.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Word {
    Prim { force: bool },
    Second,
    Stop,
    Swap,
    Resync { everything: bool },
}

impl Word {
    /// What an operator tells the failover manager instead.
    pub fn command(self) -> Command {
        match self {
            Self::Prim { force } => Command::Prim { force },
            Self::Second => Command::Second { full: false },
            Self::Stop => Command::Stop,
            Self::Swap => Command::Swap,
            Self::Resync { .. } => Command::Second { full: true },
        }
    }
}

impl World {
    pub fn on_manager(&mut self, n: usize) {
        let pause = 200_000 + self.rng_manager.below(700_000);
        self.push(self.now + pause, Event::Manager(n));
        let now = self.now;
        let node = &self.nodes[n];
        if !node.is_powered || node.paused.is_some() {
            return;
        }
        let Some(daemon) = &node.daemon else {
            if node.restart_at.is_some_and(|at| at <= now) {
                self.start(n);
            }
            return;
        };
        let reason = |code: &str| daemon.member.reason().is_some_and(|r| r.code == code);
        if reason("state-directory") && !node.ills.record_fails {
            // Repaired; the daemon starts again.
            return self.crash(n);
        }
        if !daemon.waiters.is_empty() {
            return;
        }
        let apart = |n: usize| {
            let daemon = self.nodes[n].daemon.as_ref();
            daemon.is_some_and(|d| d.member.reason().is_some_and(|r| r.code == "diverged"))
        };
        if self.calm && n == 1 && (apart(0) || apart(1)) {
            // Somebody has to choose; here the operator gives up what the second node has.
            self.judge_choice();
            self.checks.promote.forget();
            return self.order(n, Word::Resync { everything: false });
        }
        if daemon.member.state() != State::Wait {
            return;
        }
        let word = if daemon.member.peer_state().is_some_and(State::serves) {
            Word::Second
        } else if daemon.member.record().epoch.is_none() {
            // The volume begins where the data is, once.
            if n == 1 {
                Word::Second
            } else {
                Word::Prim { force: false }
            }
        } else if self.rng_manager.chance(60) {
            Word::Prim { force: false }
        } else {
            Word::Second
        };
        self.order(n, word);
    }

    /// Gives an order to a node's daemon.
    pub fn order(&mut self, n: usize, word: Word) {
        let now = self.now;
        let fresh = self.nodes[n].record.read().epoch.is_none();
        let Some(daemon) = self.nodes[n].daemon.as_mut() else {
            return;
        };
        if fresh && n == 1 && matches!(word, Word::Prim { .. }) && !self.options.by_hand {
            return;
        }
        let token = daemon.next_token;
        daemon.next_token += 1;
        daemon.waiters.insert(token, (now, word));
        let input = match word {
            Word::Prim { force } => Input::Prim { token, force },
            Word::Second => Input::Second { token },
            Word::Stop => Input::Stop { token },
            Word::Swap => Input::Swap { token },
            Word::Resync { everything } => Input::Resync { token, everything },
        };
        match word {
            Word::Prim { force: true } => self.checks.forced(n),
            Word::Resync { .. } => self.checks.acked.given_up(n),
            _ => {}
        }
        self.tell(n, input);
    }

    pub fn resolved(&mut self, n: usize, token: u64, result: &Result<(), Refusal>) {
        self.ask_resolved(n, token, result);
        let code = result.as_ref().err().map(|r| r.code.clone());
        self.trace(|| format!("{} order {token}: {code:?}", NAMES[n]));
    }

    /// What the daemon says of its marks before each tick.
    pub fn pressure(&mut self, n: usize) {
        let Some(daemon) = self.nodes[n].daemon.as_mut() else {
            return;
        };
        let level = daemon.map.pressure().level;
        let pressure = Pressure {
            marked: level != Level::Quiet,
            urgent: level >= Level::Due,
            quiet: daemon.touched == daemon.touched_before,
        };
        daemon.touched_before = daemon.touched;
        self.tell(n, Input::Pressure(pressure));
    }

    /// A daemon starts with what the disk has.
    pub fn start(&mut self, n: usize) {
        let now = self.clock(n);
        let config = self.options.member(n);
        let (limits, rules) = (self.options.limits, self.options.rules.dirty);
        let node = &mut self.nodes[n];
        node.life += 1;
        node.restart_at = None;
        let origin = (node.rng.next_u64() & !1).max(2);
        let mut map = Map::new(origin, limits, rules);
        map.replay(&node.journal.read());
        let (records, seq) = map.snapshot();
        node.journal.replace(records);
        map.flushed(seq);
        let boot = node.boot_id(n);
        let member = Member::new(config, (node.record.read(), boot), now);
        node.daemon = Some(Daemon {
            member,
            map,
            map_flushed: seq,
            journal: Default::default(),
            end: Default::default(),
            session: None,
            inbox: VecDeque::new(),
            inputs: VecDeque::new(),
            outputs: VecDeque::new(),
            busy: None,
            gate: Gate::ReadOnly,
            jobs: BTreeMap::new(),
            completions: BTreeMap::new(),
            locked: BTreeSet::new(),
            barriers: Vec::new(),
            checkpoint: None,
            incoming: VecDeque::new(),
            applying: false,
            is_applying_now: false,
            source: None,
            target: None,
            waiters: BTreeMap::new(),
            next_token: 1,
            last_issued: OpSeq(0),
            asked: BTreeMap::new(),
            is_exiting: false,
            touched: 0,
            touched_before: 0,
        });
        self.trace(|| format!("{} starts", NAMES[n]));
        self.later(n, 1000, 100_000, Local::Tick);
    }

    /// The daemon ends in order.
    pub fn exit(&mut self, n: usize) {
        let pause = 300_000 + self.rng_manager.below(4_000_000);
        let now = self.now;
        let node = &mut self.nodes[n];
        let Some(daemon) = node.daemon.as_mut() else {
            return;
        };
        daemon.is_exiting = true;
        if node.record.read().clean {
            self.checks.acked.stopped(n);
        }
        node.journal.replace(daemon.map.exact());
        node.restart_at = Some(now + pause);
        self.trace(|| format!("{} exits", NAMES[n]));
        self.judge_exit(n);
        self.end_daemon(n);
    }

    /// Whatever the daemon was doing ends here.
    pub fn end_daemon(&mut self, n: usize) {
        self.pipe_gone(n);
        self.asks_end(n);
        let node = &mut self.nodes[n];
        node.hung = None;
        node.life += 1;
        node.record.interrupted(&mut node.rng);
        let Some(daemon) = node.daemon.take() else {
            return;
        };
        self.checks.servers.serves[n] = false;
        for job in daemon.jobs.into_values() {
            self.client_lost(job.client);
        }
    }

    /// The process dies; the machine goes on.
    pub fn crash(&mut self, n: usize) {
        if self.nodes[n].daemon.is_none() {
            return;
        }
        let pause = 100_000 + self.rng_manager.below(5_000_000);
        self.nodes[n].restart_at = Some(self.now + pause);
        self.stats.crashes += 1;
        self.trace(|| format!("{} crashes", NAMES[n]));
        self.end_daemon(n);
        self.look_at_marks("a daemon crashed");
    }

    /// The machine loses its power.
    pub fn cut(&mut self, n: usize) {
        if !self.nodes[n].is_powered {
            return;
        }
        self.stats.crashes += 1;
        self.trace(|| format!("{} loses its power", NAMES[n]));
        self.end_daemon(n);
        let node = &mut self.nodes[n];
        node.is_powered = false;
        node.paused = None;
        node.hung = None;
        node.boot += 1;
        node.journal.cut(&mut node.rng);
        let tree = node.tree.clone();
        let mut tree = tree
            .lock()
            .unwrap_or_else(std::sync::PoisonError::into_inner);
        tree.cut(&mut node.rng);
        drop(tree);
        self.seat_cut(n);
        let alone = self.nodes[n].record.read().set_size() == 1;
        self.checks.acked.cut(n, alone);
        self.look_at_marks("power was lost");
    }

    pub fn power(&mut self, n: usize) {
        if self.nodes[n].is_powered {
            return;
        }
        self.nodes[n].is_powered = true;
        self.nodes[n].restart_at = Some(self.now + 100_000);
        self.trace(|| format!("{} has power", NAMES[n]));
        self.seat_boots(n);
    }
}
