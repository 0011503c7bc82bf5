//! The witness and the way to it: a request may be lost, late, or arrive twice, and so may its
//! answer. Nothing ties them to a session.

use super::Time;
use super::node::{Asked, NAMES, Question};
use super::options::Options;
use super::world::{Event, Local, World};
use std::collections::BTreeMap;
use tandem_repl::logic::member::{Input, WitnessAnswer};
use tandem_repl::logic::witness::Register;

/// Time between attempts, and until the driver gives up.
const AGAIN: Time = 400_000;
const PATIENCE: Time = 1_500_000;

pub struct Third {
    pub is_up: bool,
    pub register: Register,
    /// Whether each node reaches it.
    pub reach: [bool; 2],
    pub loss: u64,
    pub delay: (Time, Time),
    /// What its answers to each node may take longer.
    pub lag: [Time; 2],
    /// What is on the way to it.
    questions: BTreeMap<(usize, u64, u64), Question>,
}

impl Third {
    pub fn new(options: &Options) -> Self {
        Self {
            is_up: true,
            register: Register::with_rules(options.rules.member),
            reach: [true; 2],
            loss: 0,
            delay: options.witness_delay,
            lag: [0; 2],
            questions: BTreeMap::new(),
        }
    }

    /// It comes back from a backup: it knows nothing.
    pub fn restore(&mut self, options: &Options) {
        self.register = Register::with_rules(options.rules.member);
    }
}

impl World {
    /// A node's driver begins to ask.
    pub fn ask(&mut self, n: usize, round: u64, question: Question) {
        let until = self.now + PATIENCE;
        if let Some(daemon) = self.nodes[n].daemon.as_mut() {
            daemon.asked.insert(round, Asked { question, until });
        }
        self.ask_again(n, round);
    }

    pub fn ask_again(&mut self, n: usize, round: u64) {
        let now = self.now;
        let Some(daemon) = self.nodes[n].daemon.as_mut() else {
            return;
        };
        let Some(asked) = daemon.asked.get(&round).cloned() else {
            return;
        };
        if now >= asked.until {
            daemon.asked.remove(&round);
            return self.tell(n, Input::Witness(round, WitnessAnswer::Silent));
        }
        let life = self.nodes[n].life;
        self.third
            .questions
            .insert((n, life, round), asked.question);
        let copies = if self.rng_net.chance(10) { 2 } else { 1 };
        for _ in 0..copies {
            if let Some(at) = self.third_time() {
                let event = Event::Witness {
                    node: n,
                    life,
                    round,
                };
                self.push(at, event);
            }
        }
        self.after(n, AGAIN, Local::AskAgain(round));
    }

    /// When a datagram to or from the witness arrives; now and then very late.
    fn third_time(&mut self) -> Option<Time> {
        if self.rng_net.chance(self.third.loss) {
            return None;
        }
        let (least, most) = self.third.delay;
        let late = if self.rng_net.chance(3) {
            self.rng_net.below(6_000_000)
        } else {
            0
        };
        Some(self.now + least + self.rng_net.below(most - least + 1) + late)
    }

    /// A question arrives at the witness.
    pub fn on_witness(&mut self, n: usize, life: u64, round: u64) {
        if !self.third.is_up || !self.third.reach[n] {
            return;
        }
        let Some(question) = self.third.questions.get(&(n, life, round)).cloned() else {
            return;
        };
        let answer = match &question {
            Question::Ask(list, new) => self.third.register.ask(list, *new),
            Question::Tell(record, force) => self.third.register.tell(record, *force),
        };
        self.trace(|| format!("witness answers {} {round}: {answer:?}", NAMES[n]));
        if let Some(mut at) = self.third_time() {
            if self.third.lag[n] > 0 {
                at += self.rng_net.below(self.third.lag[n]);
            }
            let event = Event::Local {
                node: n,
                life,
                what: Local::Answered(round, answer),
            };
            self.push(at, event);
        }
    }

    /// The answer arrives; a second one to the same question, too.
    pub fn on_answered(&mut self, n: usize, round: u64, answer: WitnessAnswer) {
        if !self.third.reach[n] {
            return;
        }
        if let Some(daemon) = self.nodes[n].daemon.as_mut() {
            daemon.asked.remove(&round);
        }
        self.tell(n, Input::Witness(round, answer));
    }
}
