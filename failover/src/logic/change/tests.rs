//! Two nodes that agree on a configuration, or not, while anything may be lost or die in between.

use super::pact::{Input, Message, Output, Pact, Record, Said, Stage, Texts, Which, after_death};
use crate::config::Files;
use std::collections::{BTreeMap, VecDeque};
use std::time::{Duration, Instant};
use tandem_repl::control::Refusal;

const NAMES: [&str; 2] = ["a", "b"];

fn no(code: &str) -> Refusal {
    Refusal::new(code, "it is lost", "try again")
}

/// What may go wrong.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Fault {
    Crash(usize),
    /// The link; healed after so many steps.
    Cut(usize),
    /// The next write fails.
    Full(usize),
    /// The next take-over fails.
    Unfit(usize),
}

struct Node {
    pact: Pact,
    disk: Option<Record>,
    files: Which,
    /// Ends of what it does, in order.
    ends: VecDeque<Input>,
    full: bool,
    unfit: bool,
}

enum Packet {
    Ask(u64, Message),
    Answer(u64, Said),
}

struct World {
    nodes: [Node; 2],
    net: VecDeque<(usize, Packet)>,
    /// Asked and not answered: by whom.
    asked: BTreeMap<u64, (usize, Message)>,
    next: u64,
    now: Instant,
    cut: bool,
    /// The leader's word was written down.
    kept: bool,
    result: Option<Result<(), Refusal>>,
}

impl World {
    fn new() -> Self {
        let now = crate::logic::module::origin();
        let node = || Node {
            pact: Pact::new(None, now),
            disk: None,
            files: Which::Old,
            ends: VecDeque::new(),
            full: false,
            unfit: false,
        };
        Self {
            nodes: [node(), node()],
            net: VecDeque::new(),
            asked: BTreeMap::new(),
            next: 1,
            now,
            cut: false,
            kept: false,
            result: None,
        }
    }

    fn begin(&mut self) {
        let files = Files::from([("modules/m.ron".into(), "new".into())]);
        let input = Input::Begin {
            token: 7,
            id: "one".into(),
            peer: "b".into(),
            files,
        };
        self.input(0, input);
    }

    fn input(&mut self, at: usize, input: Input) {
        let outputs = self.nodes[at].pact.handle(self.now, input);
        for output in outputs {
            self.output(at, output);
        }
    }

    fn output(&mut self, at: usize, output: Output) {
        let node = &mut self.nodes[at];
        match output {
            Output::Check { files, .. } => {
                let text = |(name, new)| {
                    let old = Some("old".to_string());
                    (name, Texts { old, new })
                };
                let texts = files.into_iter().map(text).collect();
                node.ends.push_back(Input::Checked(Ok(texts)));
            }
            Output::Save(record) => {
                let full = std::mem::take(&mut node.full);
                if !full {
                    let kept = |r: &Record| r.leads && r.stage == Stage::Kept;
                    self.kept |= record.as_ref().is_some_and(kept);
                    node.disk = record;
                }
                let result = if full { Err(no("full")) } else { Ok(()) };
                self.input(at, Input::Saved(result));
            }
            Output::Install(which, _) => {
                if which == Which::New && std::mem::take(&mut node.unfit) {
                    return node.ends.push_back(Input::Installed(Err(no("unfit"))));
                }
                node.files = which;
                node.ends.push_back(Input::Installed(Ok(())));
            }
            Output::Send { message, .. } => {
                self.next += 1;
                let id = self.next;
                self.asked.insert(id, (at, message.clone()));
                if self.cut {
                    return self.lost(id);
                }
                self.net.push_back((1 - at, Packet::Ask(id, message)));
            }
            Output::Reply { token, said } if !self.cut => {
                self.net.push_back((1 - at, Packet::Answer(token, said)));
            }
            Output::Reply { .. } | Output::Log(_) => {}
            Output::Done { result, .. } => self.result = Some(result),
        }
    }

    /// Who asked hears that the other is not reached.
    fn lost(&mut self, id: u64) {
        if let Some((at, message)) = self.asked.remove(&id) {
            let said = Said::No(no("unreachable"));
            self.nodes[at]
                .ends
                .push_back(Input::Answered(message, said));
        }
    }

    fn drop_all(&mut self) {
        self.net.clear();
        let all: Vec<u64> = self.asked.keys().copied().collect();
        all.into_iter().for_each(|id| self.lost(id));
    }

    fn fault(&mut self, fault: Fault) {
        match fault {
            Fault::Cut(_) => {
                self.cut = true;
                self.drop_all();
            }
            Fault::Full(at) => self.nodes[at].full = true,
            Fault::Unfit(at) => self.nodes[at].unfit = true,
            Fault::Crash(at) => {
                self.asked.retain(|_, (by, _)| *by != at);
                self.drop_all();
                let node = &mut self.nodes[at];
                let left = node.disk.take().map(after_death);
                if let Some((which, _)) = &left {
                    node.files = *which;
                }
                node.disk = left.and_then(|(_, record)| record);
                node.ends.clear();
                node.pact = Pact::new(node.disk.clone(), self.now);
            }
        }
    }

    /// The next thing that happens.
    fn step(&mut self) {
        self.now += Duration::from_millis(20);
        for at in 0..2 {
            if let Some(end) = self.nodes[at].ends.pop_front() {
                return self.input(at, end);
            }
        }
        match self.net.pop_front() {
            Some((to, Packet::Ask(token, message))) => {
                let from = NAMES[1 - to].to_string();
                let input = Input::Asked {
                    token,
                    from,
                    message,
                };
                self.input(to, input);
            }
            Some((to, Packet::Answer(id, said))) => {
                if let Some((_, message)) = self.asked.remove(&id) {
                    self.input(to, Input::Answered(message, said));
                }
            }
            None => {
                self.now += Duration::from_millis(500);
                let heard = !self.cut;
                (0..2).for_each(|at| self.input(at, Input::Tick { heard }));
            }
        }
    }

    /// New files stay where nothing is left to be settled only by the leader's word.
    fn holds(&self, story: &str) {
        for (node, name) in self.nodes.iter().zip(NAMES) {
            if node.disk.is_none() && node.files == Which::New {
                assert!(self.kept, "{name} has new files without a word: {story}");
            }
        }
        if let Some(Ok(())) = self.result {
            assert!(self.kept, "done without a word: {story}");
        }
    }

    /// In the end both are the same, by the leader's word.
    fn settled(&self, story: &str) {
        let expected = if self.kept { Which::New } else { Which::Old };
        for (node, name) in self.nodes.iter().zip(NAMES) {
            assert_eq!(node.files, expected, "{name}: {story}");
            assert_eq!(node.disk, None, "{name}: {story}");
            assert_eq!(node.pact.note(), None, "{name}: {story}");
        }
        if let Some(Err(refusal)) = &self.result {
            assert!(!self.kept, "it stays, and was refused: {refusal}: {story}");
        }
    }
}

/// Steps of a story; all faults are over before a third of them.
const STEPS: usize = 300;

fn story(faults: &[(usize, Fault)]) -> World {
    let mut world = World::new();
    world.begin();
    let mut heal = None;
    let told = format!("{faults:?}");
    for step in 0..STEPS {
        for (at, fault) in faults {
            if *at == step {
                world.fault(*fault);
                if let Fault::Cut(long) = fault {
                    heal = Some(step + long);
                }
            }
        }
        if heal == Some(step) {
            world.cut = false;
        }
        world.step();
        world.holds(&told);
    }
    world.settled(&told);
    world
}

const FAULTS: [Fault; 10] = [
    Fault::Crash(0),
    Fault::Crash(1),
    Fault::Cut(1),
    Fault::Cut(20),
    // Longer than the other waits.
    Fault::Cut(80),
    Fault::Full(0),
    Fault::Full(1),
    Fault::Unfit(0),
    Fault::Unfit(1),
    Fault::Cut(3),
];

#[test]
fn without_a_fault_both_have_the_new_files() {
    let world = story(&[]);
    assert_eq!(world.result, Some(Ok(())));
    assert!(world.kept);
}

#[test]
fn a_fault_at_every_step_leaves_both_the_same() {
    let (mut done, mut undone) = (0, 0);
    for at in 0..40 {
        for fault in FAULTS {
            let world = story(&[(at, fault)]);
            if world.kept {
                done += 1;
            } else {
                undone += 1;
            }
        }
    }
    // Both ends were met, or the stories would tell nothing.
    assert!(done > 50 && undone > 50, "{done} done, {undone} undone");
}

#[test]
fn two_faults_leave_both_the_same() {
    for first in 0..24 {
        for second in first..30 {
            for one in FAULTS {
                for two in FAULTS {
                    // A cut that begins during another ends with the later.
                    story(&[(first, one), (second, two)]);
                }
            }
        }
    }
}

#[test]
fn a_second_change_waits_for_the_first() {
    let mut world = World::new();
    world.begin();
    let order = |token| Input::Begin {
        token,
        id: "two".into(),
        peer: "b".into(),
        files: Files::new(),
    };
    world.input(0, order(8));
    let code = |world: &World| match &world.result {
        Some(Err(refusal)) => refusal.code.clone(),
        other => format!("{other:?}"),
    };
    assert_eq!(code(&world), "applying");
    world.step();
    world.step();
    world.step();
    // The other has been asked by now.
    world.input(1, order(9));
    assert_eq!(code(&world), "applying");
}

#[test]
fn a_silent_peer_ends_the_wait() {
    let mut world = World::new();
    world.begin();
    world.nodes[1].unfit = false;
    // Nothing arrives, and nobody says so.
    for _ in 0..STEPS {
        world.net.clear();
        world.step();
    }
    let result = world.result.clone().expect("an answer");
    assert_eq!(result.expect_err("refused").code, "no-answer");
    assert_eq!(world.nodes[0].files, Which::Old);
}
