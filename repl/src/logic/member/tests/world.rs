//! Two members, their trees, a net and a witness, for random schedules: what is slow, what is
//! lost, and what must hold at every step.

use super::*;
use std::collections::{BTreeMap, BTreeSet};

pub(super) enum Message {
    Hello(Box<Hello>),
    Control(Control),
    Op(OpSeq, u64),
    Ack(OpSeq),
}

pub(super) enum Effect {
    Input(Input),
    Persist(Box<Record>),
    Ask(u64, Vec<Id128>, Id128),
    Tell(u64, Box<Record>, bool),
    Finish(u64),
}

pub(super) struct Node {
    pub member: Member,
    pub disk: Record,
    pub effects: VecDeque<Effect>,
    pub tree: BTreeSet<u64>,
    pub pending: BTreeMap<OpSeq, u64>,
    pub gate: Gate,
    pub greeted: bool,
    pub down: bool,
    pub exited: bool,
}

pub(super) struct World {
    pub seed: u64,
    pub now: Instant,
    pub nodes: Vec<Node>,
    pub config: [MemberConfig; 2],
    pub up: bool,
    pub net: [VecDeque<Message>; 2],
    pub witness: Register,
    pub next_op: u64,
    pub acked: BTreeSet<u64>,
    pub log: Vec<String>,
    pub token: u64,
}

impl World {
    pub(super) fn new(seed: u64, witness: bool) -> Self {
        let mut config = [config("a", "b"), config("b", "a")];
        for c in &mut config {
            c.witness = witness;
            c.by_hand = false;
        }
        let now = start();
        let node = |c: &MemberConfig| Node {
            member: Member::new(c.clone(), Default::default(), now),
            disk: Record::default(),
            effects: VecDeque::new(),
            tree: BTreeSet::new(),
            pending: BTreeMap::new(),
            gate: Gate::ReadOnly,
            greeted: false,
            down: false,
            exited: false,
        };
        Self {
            seed,
            now,
            nodes: config.iter().map(node).collect(),
            config,
            up: false,
            net: Default::default(),
            witness: Register::default(),
            next_op: 1,
            acked: BTreeSet::new(),
            log: vec![],
            token: 1,
        }
    }

    pub(super) fn random(&mut self, below: u64) -> u64 {
        self.seed ^= self.seed << 13;
        self.seed ^= self.seed >> 7;
        self.seed ^= self.seed << 17;
        (self.seed >> 11) % below
    }

    pub(super) fn input(&mut self, n: usize, input: Input) {
        if self.nodes[n].exited {
            return;
        }
        if !matches!(input, Input::Tick) {
            let text = format!("{} < {input:?}", ["a", "b"][n]);
            self.log.push(text.chars().take(200).collect());
        }
        let mut id = [0; 16];
        id[..8].copy_from_slice(&(self.log.len() as u64 * 2 + n as u64).to_le_bytes());
        id[14] = self.random(250) as u8;
        let mut volume = id;
        volume[13] = 1;
        let outputs = self.nodes[n]
            .member
            .handle(self.now, [Id128(id), Id128(volume)], input);
        for output in outputs {
            let text = format!("{} > {output:?}", ["a", "b"][n]);
            self.log.push(text.chars().take(200).collect());
            self.perform(n, output);
        }
        self.check();
    }

    pub(super) fn perform(&mut self, n: usize, output: Output) {
        let node = &mut self.nodes[n];
        let mut later = |input| node.effects.push_back(Effect::Input(input));
        match output {
            Output::Send(control) => {
                if self.up && node.greeted {
                    self.net[1 - n].push_back(Message::Control(control));
                }
            }
            Output::CloseSession(_) => {
                if node.greeted || self.up {
                    self.cut();
                }
            }
            Output::Persist(record) => node.effects.push_back(Effect::Persist(record)),
            Output::Gate(gate) => {
                node.gate = gate;
                later(Input::Gated);
            }
            Output::CompleteAll => {
                node.member.acks.drain();
                let pending: Vec<_> = std::mem::take(&mut node.pending).into_values().collect();
                pending.into_iter().for_each(|op| self.acknowledged(n, op));
            }
            Output::Complete(seqs) => {
                let ops: Vec<_> = seqs.iter().filter_map(|s| node.pending.remove(s)).collect();
                ops.into_iter().for_each(|op| self.acknowledged(n, op));
            }
            Output::FailAll => {
                node.member.acks.drain();
                node.pending.clear();
            }
            Output::Flush(round) => later(Input::Flushed(round, Ok(()))),
            Output::AskWitness { round, list, new } => {
                node.effects.push_back(Effect::Ask(round, list, new));
            }
            Output::TellWitness {
                round,
                record,
                force,
            } => {
                node.effects.push_back(Effect::Tell(round, record, force));
            }
            Output::Resync(ResyncOrder::Start { round, .. }) => {
                later(Input::ResyncEvent(round, ResyncEvent::Converged));
            }
            Output::Resync(ResyncOrder::Finish { round }) => {
                node.effects.push_back(Effect::Finish(round));
            }
            Output::Resync(ResyncOrder::Resume { round }) => {
                node.effects.retain(|e| !matches!(e, Effect::Finish(_)));
                let again = Input::ResyncEvent(round, ResyncEvent::Converged);
                node.effects.push_back(Effect::Input(again));
            }
            Output::Resync(ResyncOrder::Abort { .. }) => {
                node.effects.retain(|e| !matches!(e, Effect::Finish(_)));
            }
            Output::PrepareTarget { round, .. } => later(Input::TargetPrepared(round, Ok(()))),
            Output::EndTarget { .. } => {}
            Output::BeginCheckpoint(round) => {
                let last = node.member.acks.last();
                node.effects
                    .push_back(Effect::Input(Input::Generation(round, last)));
            }
            Output::DropMarks { round, .. } => later(Input::MarksDropped(round, Ok(()))),
            Output::Resolve { .. } => {}
            Output::Exit => node.exited = true,
        }
    }

    pub(super) fn cut(&mut self) {
        self.up = false;
        self.net = Default::default();
        for node in &mut self.nodes {
            node.down |= node.greeted;
            node.greeted = false;
        }
    }

    pub(super) fn connect(&mut self) {
        if self.up || self.nodes.iter().any(|n| n.exited || n.down) {
            return;
        }
        self.up = true;
        for n in [0, 1] {
            let m = &self.nodes[n].member;
            let hello = Box::new(Hello {
                wire_min: WIRE_VERSION,
                wire_max: WIRE_VERSION,
                cluster: "c".into(),
                module: "m".into(),
                node: m.config.local.clone(),
                digest: [0; 32],
                record: m.record().clone(),
                state: m.state(),
            });
            self.net[1 - n].push_back(Message::Hello(hello));
        }
    }

    pub(super) fn acknowledged(&mut self, n: usize, op: u64) {
        let set = self.nodes[n].disk.epoch.as_ref().map(|e| e.set.clone());
        for (k, name) in ["a", "b"].iter().enumerate() {
            let in_set = set.as_ref().is_some_and(|s| s.iter().any(|m| m == name));
            let has = self.nodes[k].tree.contains(&op);
            assert!(!in_set || has, "I1: {name} lacks {op}\n{}", self.history());
        }
        self.acked.insert(op);
    }

    pub(super) fn history(&self) -> String {
        let from = self.log.len().saturating_sub(160);
        self.log[from..].join("\n")
    }

    pub(super) fn check(&self) {
        let may: Vec<_> = self.nodes.iter().filter(|n| !n.exited).collect();
        let may: Vec<_> = may
            .iter()
            .filter(|n| n.member.may_acknowledge(self.now))
            .collect();
        assert!(may.len() < 2, "I13: two acknowledge\n{}", self.history());
        for node in may {
            let lacks: Vec<_> = self.acked.difference(&node.tree).collect();
            assert!(
                lacks.is_empty(),
                "I3: serves without {lacks:?}\n{}",
                self.history()
            );
        }
    }

    pub(super) fn write(&mut self, n: usize) {
        let op = self.next_op;
        let node = &mut self.nodes[n];
        match node.gate {
            _ if node.exited => return,
            Gate::Alone => {
                node.tree.insert(op);
                if node.member.may_acknowledge(self.now) {
                    self.acknowledged(n, op);
                }
            }
            Gate::Replicated => {
                let seq = node.member.acks.issue(self.now);
                node.tree.insert(op);
                node.pending.insert(seq, op);
                if self.up && node.greeted {
                    self.net[1 - n].push_back(Message::Op(seq, op));
                }
            }
            _ => return,
        }
        self.next_op += 1;
    }

    pub(super) fn deliver(&mut self, n: usize, slow: bool) {
        if self.nodes[n].down {
            // It takes time until a lost session is noticed.
            if slow && self.random(20) > 0 {
                return;
            }
            self.nodes[n].down = false;
            return self.input(n, Input::SessionDown("cut".into()));
        }
        match self.net[n].pop_front() {
            None => {}
            Some(Message::Hello(hello)) => {
                self.nodes[n].greeted = true;
                self.input(n, Input::SessionUp(hello));
            }
            Some(Message::Control(control)) => self.input(n, Input::Control(control)),
            Some(Message::Op(seq, op)) if self.nodes[n].member.applies() => {
                self.nodes[n].tree.insert(op);
                if self.nodes[n].greeted {
                    self.net[1 - n].push_back(Message::Ack(seq));
                }
            }
            Some(Message::Op(..)) => {}
            Some(Message::Ack(seq)) => {
                let node = &mut self.nodes[n];
                if node.member.acknowledge(self.now, seq, 0) == AckOutcome::Complete
                    && let Some(op) = node.pending.remove(&seq)
                {
                    self.acknowledged(n, op);
                }
            }
        }
    }

    pub(super) fn effect(&mut self, n: usize, faults: bool) {
        let Some(effect) = self.nodes[n].effects.pop_front() else {
            return;
        };
        let lost = if faults { self.random(8) } else { 7 };
        match effect {
            Effect::Input(input) => self.input(n, input),
            Effect::Persist(record) => {
                self.nodes[n].disk = *record;
                self.input(n, Input::Persisted(Ok(())));
            }
            Effect::Ask(round, list, new) => {
                let answer = if lost == 0 {
                    WitnessAnswer::Silent
                } else {
                    self.witness.ask(&list, new)
                };
                let answer = if lost == 1 {
                    WitnessAnswer::Silent
                } else {
                    answer
                };
                self.input(n, Input::Witness(round, answer));
            }
            Effect::Tell(round, record, force) => {
                let answer = if lost < 2 {
                    WitnessAnswer::Silent
                } else {
                    self.witness.tell(&record, force)
                };
                self.input(n, Input::Witness(round, answer));
            }
            Effect::Finish(round) => {
                let follows = matches!(
                    self.nodes[1 - n].member.phase,
                    Phase::Follow(phase::Follow::Target { .. })
                );
                let event = if self.up && follows {
                    self.nodes[1 - n].tree = self.nodes[n].tree.clone();
                    ResyncEvent::Finished
                } else {
                    ResyncEvent::Failed("gone".into())
                };
                self.input(n, Input::ResyncEvent(round, event));
            }
        }
    }

    pub(super) fn restart(&mut self, n: usize) {
        self.cut();
        let node = &mut self.nodes[n];
        let written = node.effects.iter().find_map(|e| match e {
            Effect::Persist(record) => Some(record.clone()),
            _ => None,
        });
        if let Some(record) = written
            && self.next_op.is_multiple_of(2)
        {
            node.disk = *record;
        }
        let found = (node.disk.clone(), Id128::default());
        node.member = Member::new(self.config[n].clone(), found, self.now);
        node.effects.clear();
        node.pending.clear();
        node.gate = Gate::ReadOnly;
        (node.greeted, node.down, node.exited) = (false, false, false);
        self.log.push(format!("{} restarts", ["a", "b"][n]));
    }
}
