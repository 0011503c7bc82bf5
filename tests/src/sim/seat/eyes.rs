//! What a manager gets to know of its daemon, and when: news a moment later, and at least every
//! half a second where the daemon answers; its questions and their answers.

use super::super::Time;
use super::super::manager::Word;
use super::super::world::World;
use super::Act;
use tandem_failover::logic::api::{Ask, Daemon, View};
use tandem_repl::control::{Readiness, Refusal};

/// A watched daemon answers after this long even if nothing changed.
const WATCH: Time = 500_000;

impl World {
    /// What the daemon would say of itself.
    fn view(&self, n: usize) -> Daemon {
        let Some(daemon) = &self.nodes[n].daemon else {
            return Daemon::Gone;
        };
        let member = &daemon.member;
        let record = member.record();
        Daemon::Up(View {
            state: member.state(),
            readiness: member.readiness(),
            reason: member.reason().cloned(),
            has_epoch: record.epoch.is_some(),
            served: record.served,
            until: member.serves_until(),
            peer_connected: daemon.session.is_some(),
            peer_state: member.peer_state(),
        })
    }

    /// Something happened: perhaps it is news for the managers.
    pub fn look_at_daemons(&mut self) {
        for n in 0..2 {
            let node = &self.nodes[n];
            if node.hung.is_some() {
                continue;
            }
            let seen = node.daemon.as_ref().map(|d| {
                let m = &d.member;
                let ready = m.readiness() == Readiness::Ready;
                let why = m.reason().map(|r| r.code.clone());
                let limited = m.serves_until().is_some();
                let connected = d.session.is_some();
                (m.state(), ready, m.peer_state(), connected, limited, why)
            });
            if seen != node.seat.seen && node.seat.has_heard {
                self.nodes[n].seat.seen = seen;
                self.tell_manager(n);
            }
        }
    }

    /// What is so now arrives a moment later, in order.
    fn tell_manager(&mut self, n: usize) {
        let view = self.view(n);
        let mut time = 50 + self.rng_manager.below(4000);
        if self.rng_manager.chance(4) {
            // Nobody had a processor for it.
            time += self.rng_manager.below(300_000);
        }
        let at = (self.now + time).max(self.nodes[n].seat.told);
        self.nodes[n].seat.told = at;
        self.act(n, at - self.now, Act::Tell(Box::new(view)));
    }

    pub(super) fn status_answered(&mut self, n: usize) {
        self.act(n, WATCH, Act::Status);
        if self.nodes[n].hung.is_some() {
            return;
        }
        if self.nodes[n].daemon.is_some() || !self.nodes[n].seat.has_heard {
            self.tell_manager(n);
        }
    }

    fn a_moment(&mut self) -> Time {
        let late = if self.rng_manager.chance(4) {
            self.rng_manager.below(200_000)
        } else {
            0
        };
        50 + self.rng_manager.below(3000) + late
    }

    pub(super) fn begin_ask(&mut self, n: usize, ask: Ask) {
        let time = self.a_moment();
        self.act(n, time, Act::Asked(ask));
    }

    /// A question reaches the daemon; the manager that put it may be gone.
    pub(super) fn asked(&mut self, n: usize, ask: Ask, mine: bool) {
        if self.nodes[n].hung.is_some() {
            let life = self.nodes[n].life;
            if mine {
                self.nodes[n].seat.unread.push((life, ask));
            }
            return;
        }
        let word = match ask {
            Ask::Prim { force } => Word::Prim { force },
            Ask::Second => Word::Second,
            Ask::Resync { everything } => Word::Resync { everything },
            Ask::Swap => Word::Swap,
            Ask::Stop => Word::Stop,
            Ask::Fenced => return,
        };
        let life = self.nodes[n].life;
        let next = self.nodes[n].daemon.as_ref().map(|d| d.next_token);
        if let Some(token) = next {
            if mine {
                self.nodes[n].seat.asks.insert((life, token), ask);
            }
            self.order(n, word);
            let after = self.nodes[n].daemon.as_ref().map(|d| d.next_token);
            if self.nodes[n].life == life && after == next && mine {
                // It was not put: nobody makes the empty node serve here.
                self.nodes[n].seat.asks.remove(&(life, token));
                self.answer_manager(n, ask, Err(no_answer()));
            }
        } else if mine {
            self.answer_manager(n, ask, Err(no_answer()));
        }
    }

    /// A daemon goes on, and reads what it was asked meanwhile.
    pub fn reads_on(&mut self, n: usize) {
        let life = self.nodes[n].life;
        for (of, ask) in std::mem::take(&mut self.nodes[n].seat.unread) {
            if of == life {
                self.asked(n, ask, true);
            }
        }
    }

    fn answer_manager(&mut self, n: usize, ask: Ask, result: Result<(), Refusal>) {
        let time = self.a_moment();
        self.act(n, time, Act::Answered(ask, result));
    }

    /// The daemon answered an order.
    pub fn ask_resolved(&mut self, n: usize, token: u64, result: &Result<(), Refusal>) {
        let life = self.nodes[n].life;
        if let Some(ask) = self.nodes[n].seat.asks.remove(&(life, token)) {
            self.answer_manager(n, ask, result.clone());
        }
    }

    /// The daemon of that life is gone: nothing of it is answered any more.
    pub fn asks_end(&mut self, n: usize) {
        let asks = std::mem::take(&mut self.nodes[n].seat.asks);
        let unread = std::mem::take(&mut self.nodes[n].seat.unread);
        for ask in asks
            .into_values()
            .chain(unread.into_iter().map(|(_, ask)| ask))
        {
            self.answer_manager(n, ask, Err(no_answer()));
        }
    }
}

fn no_answer() -> Refusal {
    Refusal::new("no-answer", "the daemon is gone", "see its log")
}
