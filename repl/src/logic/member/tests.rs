//! Two members and a witness, joined by queues of messages, driven by hand: the order of outputs
//! in every procedure of the design's table.
#![allow(clippy::disallowed_methods)]

mod parting;
mod random;
mod together;
mod verdicts;
mod world;

use super::*;
use crate::logic::rules::Rules;
use crate::logic::witness::Register;
use crate::wire::{Hello, WIRE_VERSION};
use std::collections::VecDeque;

const STALL: Duration = Duration::from_secs(3);
const LEASE: Duration = Duration::from_secs(2);
/// How long who gave a lease keeps from serving.
const PROMISE: Duration = Duration::from_millis(LEASE.as_millis() as u64 + GRACE_MS);
const GRACE_MS: u64 = grace(STALL).as_millis() as u64;

/// Two nodes, `a` and `b`.
struct Pair {
    members: Vec<Member>,
    configs: [MemberConfig; 2],
    records: [Record; 2],
    gates: [Gate; 2],
    up: bool,
    now: Instant,
    next: u8,
    /// `None`: it does not answer.
    witness: Option<Register>,
    resolved: Vec<(u64, Result<(), Refusal>)>,
    answered: [Vec<OpSeq>; 2],
    failed: [usize; 2],
    exited: [bool; 2],
    dropped: [usize; 2],
    disk_fails: [bool; 2],
    flush_fails: [bool; 2],
    /// Control messages from this node are lost.
    mute: [bool; 2],
    /// What the resync engine does when it is told to finish.
    finishes: bool,
    /// What happened, as `node:what`.
    log: Vec<String>,
}

fn start() -> Instant {
    Instant::now()
}

fn config(local: &str, peer: &str) -> MemberConfig {
    MemberConfig {
        local: local.into(),
        peer: peer.into(),
        stall_limit: STALL,
        lease: LEASE,
        witness: false,
        isolation: Isolation::Wait,
        after_power_loss: None,
        by_hand: true,
        rules: Rules::default(),
    }
}

impl Pair {
    fn new(change: impl Fn(&mut MemberConfig)) -> Self {
        let mut configs = [config("a", "b"), config("b", "a")];
        configs.iter_mut().for_each(change);
        let now = start();
        let member = |c: &MemberConfig| Member::new(c.clone(), Default::default(), now);
        Self {
            members: configs.iter().map(member).collect(),
            configs,
            records: Default::default(),
            gates: [Gate::ReadOnly; 2],
            up: false,
            now,
            next: 0,
            witness: Some(Register::default()),
            resolved: vec![],
            answered: Default::default(),
            failed: [0; 2],
            exited: [false; 2],
            dropped: [0; 2],
            disk_fails: [false; 2],
            flush_fails: [false; 2],
            mute: [false; 2],
            finishes: true,
            log: vec![],
        }
    }

    /// With a witness, led by a manager.
    fn witnessed() -> Self {
        Self::new(|c| {
            c.witness = true;
            c.by_hand = false;
            c.after_power_loss = Some(Duration::from_secs(60));
        })
    }

    /// `a` serves, `b` follows.
    fn in_sync(mut self) -> Self {
        self.connect();
        self.prim(0);
        self.input(1, Input::Second { token: 2 });
        assert_eq!(
            self.states(),
            [State::Prim, State::Second],
            "{:#?}",
            self.log
        );
        assert_eq!(self.gates, [Gate::Replicated, Gate::ReadOnly]);
        self.resolved.clear();
        self.log.clear();
        self
    }

    fn input(&mut self, node: usize, input: Input) {
        let mut queue = VecDeque::from([(node, input)]);
        while let Some((node, input)) = queue.pop_front() {
            self.next = self.next.wrapping_add(1);
            let id = |salt: u8| {
                Id128([
                    self.next, salt, node as u8, 7, 7, 7, 7, 7, 7, 7, 7, 7, 7, 7, 7, 0,
                ])
            };
            let fresh = [id(1), id(2)];
            let outputs = self.members[node].handle(self.now, fresh, input);
            for output in outputs {
                self.perform(node, output, &mut queue);
            }
        }
    }

    fn note(&mut self, node: usize, what: &str) {
        let name = ["a", "b"][node];
        self.log.push(format!("{name}:{what}"));
    }

    fn perform(&mut self, node: usize, output: Output, queue: &mut VecDeque<(usize, Input)>) {
        let mut back = |input| queue.push_back((node, input));
        match output {
            Output::Send(control) => {
                let text = format!("{control:?}");
                let word = text.split([' ', '(', '{']).next().unwrap_or("");
                self.note(node, word);
                if self.up && !self.mute[node] {
                    queue.push_back((1 - node, Input::Control(control)));
                }
            }
            Output::CloseSession(why) => {
                if std::mem::take(&mut self.up) {
                    queue.push_back((1 - node, Input::SessionDown(why.clone())));
                    queue.push_back((node, Input::SessionDown(why)));
                }
            }
            Output::Persist(record) => {
                let what = match (&record.intent, record.stale, record.set_size()) {
                    (Some(_), _, _) => "record-intent".to_string(),
                    (_, true, _) => "record-stale".to_string(),
                    (_, _, n) => format!("record-{n}"),
                };
                self.note(node, &what);
                if self.disk_fails[node] {
                    return back(Input::Persisted(Err("no space".into())));
                }
                self.records[node] = *record;
                back(Input::Persisted(Ok(())));
            }
            Output::Gate(gate) => {
                self.note(node, &format!("{gate:?}"));
                self.gates[node] = gate;
                back(Input::Gated);
            }
            Output::CompleteAll => {
                self.note(node, "CompleteAll");
                let waiting = self.members[node].acks.drain();
                let without = self.records[node].set_size() == 1;
                assert!(waiting.is_empty() || without, "I4: {:#?}", self.log);
                self.answered[node].extend(waiting);
            }
            Output::Complete(seqs) => {
                self.note(node, "Complete");
                self.answered[node].extend(seqs);
            }
            Output::FailAll => {
                self.note(node, "FailAll");
                self.failed[node] += self.members[node].acks.drain().len();
            }
            Output::Flush(round) => {
                self.note(node, "Flush");
                let result = if self.flush_fails[node] {
                    Err("EIO".to_string())
                } else {
                    Ok(())
                };
                back(Input::Flushed(round, result));
            }
            Output::AskWitness { round, list, new } => {
                self.note(node, "AskWitness");
                let answer = self.witness.as_mut().map(|w| w.ask(&list, new));
                back(Input::Witness(
                    round,
                    answer.unwrap_or(WitnessAnswer::Silent),
                ));
            }
            Output::TellWitness {
                round,
                record,
                force,
            } => {
                let answer = self.witness.as_mut().map(|w| w.tell(&record, force));
                back(Input::Witness(
                    round,
                    answer.unwrap_or(WitnessAnswer::Silent),
                ));
            }
            Output::Resync(order) => self.resync(node, order, queue),
            Output::PrepareTarget { round, .. } => {
                self.note(node, "PrepareTarget");
                back(Input::TargetPrepared(round, Ok(())));
            }
            Output::EndTarget { .. } => self.note(node, "EndTarget"),
            Output::BeginCheckpoint(round) => {
                self.note(node, "BeginCheckpoint");
                let last = self.members[node].acks.last();
                back(Input::Generation(round, last));
            }
            Output::DropMarks { round, .. } => {
                self.note(node, "DropMarks");
                self.dropped[node] += 1;
                back(Input::MarksDropped(round, Ok(())));
            }
            Output::Resolve { token, result } => self.resolved.push((token, result)),
            Output::Exit => self.exited[node] = true,
        }
    }

    fn resync(&mut self, node: usize, order: ResyncOrder, queue: &mut VecDeque<(usize, Input)>) {
        let (word, event) = match order {
            ResyncOrder::Start { round, .. } => ("Start", Some((round, ResyncEvent::Converged))),
            ResyncOrder::Finish { round } => {
                let finished = self.finishes.then_some((round, ResyncEvent::Finished));
                ("Finish", finished)
            }
            ResyncOrder::Resume { .. } => ("Resume", None),
            ResyncOrder::Abort { .. } => ("Abort", None),
        };
        self.note(node, word);
        if let Some((round, event)) = event {
            queue.push_back((node, Input::ResyncEvent(round, event)));
        }
    }

    fn hello(&self, node: usize) -> Box<Hello> {
        let m = &self.members[node];
        Box::new(Hello {
            wire_min: WIRE_VERSION,
            wire_max: WIRE_VERSION,
            cluster: "c".into(),
            module: "m".into(),
            node: m.config.local.clone(),
            digest: [0; 32],
            record: m.record().clone(),
            state: m.state(),
        })
    }

    fn connect(&mut self) {
        self.up = true;
        let (a, b) = (self.hello(0), self.hello(1));
        // Nothing may be sent before both know of the session.
        let mut held = VecDeque::new();
        for (node, hello) in [(0, b), (1, a)] {
            self.next = self.next.wrapping_add(1);
            let fresh = [Id128([self.next; 16]), Id128([self.next ^ 0x55; 16])];
            let input = Input::SessionUp(hello);
            for output in self.members[node].handle(self.now, fresh, input) {
                self.perform(node, output, &mut held);
            }
        }
        for (node, input) in held {
            self.input(node, input);
        }
    }

    fn cut(&mut self) {
        self.up = false;
        self.input(0, Input::SessionDown("cut".into()));
        self.input(1, Input::SessionDown("cut".into()));
    }

    /// Time passes in steps of 100 ms.
    fn pass(&mut self, ms: u64) {
        for _ in 0..ms / 100 {
            self.now += Duration::from_millis(100);
            self.input(0, Input::Tick);
            self.input(1, Input::Tick);
        }
    }

    fn prim(&mut self, node: usize) {
        self.input(
            node,
            Input::Prim {
                token: 1,
                force: false,
            },
        );
        self.pass(PROMISE.as_millis() as u64 + 100);
    }

    /// The daemon starts again; `power`: after a power cut.
    fn restart(&mut self, node: usize, power: bool) {
        self.up = false;
        self.input(1 - node, Input::SessionDown("restart".into()));
        let boot = if power {
            [9; 16]
        } else {
            self.records[node].boot.0
        };
        let found = (self.records[node].clone(), Id128(boot));
        self.members[node] = Member::new(self.configs[node].clone(), found, self.now);
        self.gates[node] = Gate::ReadOnly;
    }

    fn states(&self) -> [State; 2] {
        [self.members[0].state(), self.members[1].state()]
    }

    fn code(&self, node: usize) -> String {
        self.members[node]
            .reason()
            .map(|r| r.code.clone())
            .unwrap_or_default()
    }

    /// The code with which a promotion is refused.
    fn refused(&mut self, node: usize) -> Option<String> {
        self.resolved.clear();
        self.prim(node);
        let (_, result) = self.resolved.pop()?;
        result.err().map(|r| r.code)
    }

    /// That these happened in this order, other things between them.
    fn happened(&self, order: &[&str]) {
        let mut rest = self.log.iter();
        for what in order {
            assert!(
                rest.any(|l| l == what),
                "{what} of {order:?} in {:#?}",
                self.log
            );
        }
    }

    fn never(&self, what: &str) {
        assert!(
            !self.log.iter().any(|l| l == what),
            "{what} in {:#?}",
            self.log
        );
    }

    fn write(&mut self, node: usize) -> OpSeq {
        self.members[node].acks.issue(self.now)
    }

    /// The peer acknowledges.
    fn ack(&mut self, node: usize, seq: OpSeq) -> AckOutcome {
        let outcome = self.members[node].acknowledge(self.now, seq, 0);
        if outcome == AckOutcome::Complete {
            self.answered[node].push(seq);
        }
        outcome
    }
}
