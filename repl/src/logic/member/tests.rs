//! Two members joined by a queue of messages, driven by hand.

use super::*;
use crate::logic::acks::AckOutcome;

struct Pair {
    members: [Member; 2],
    up: bool,
    next: u8,
    now: Instant,
    gates: [Gate; 2],
    trees: [[u8; 32]; 2],
    resolved: Vec<(u64, Result<(), Refusal>)>,
    completed_all: [usize; 2],
    exited: [bool; 2],
    records: [Record; 2],
    disk_fails: [bool; 2],
}

#[allow(clippy::disallowed_methods)]
fn pair() -> Pair {
    let now = Instant::now();
    let member = |l: &str, p: &str| {
        let names = (l.to_string(), p.to_string());
        Member::new(names, Duration::from_secs(3), Default::default(), now)
    };
    Pair {
        members: [member("a", "b"), member("b", "a")],
        up: false,
        next: 0,
        now,
        gates: [Gate::ReadOnly; 2],
        trees: [[7; 32]; 2],
        resolved: vec![],
        completed_all: [0; 2],
        exited: [false; 2],
        records: Default::default(),
        disk_fails: [false; 2],
    }
}

impl Pair {
    fn input(&mut self, node: usize, input: Input) {
        let mut queue = std::collections::VecDeque::from([(node, input)]);
        while let Some((node, input)) = queue.pop_front() {
            self.next += 1;
            let fresh = [Id128([self.next; 16]), Id128([self.next ^ 0x80; 16])];
            for output in self.members[node].handle(self.now, fresh, input) {
                match output {
                    Output::Send(control) if self.up => {
                        queue.push_back((1 - node, Input::Control(control)));
                    }
                    Output::Send(_) => {}
                    Output::CloseSession(why) => {
                        if self.up {
                            self.up = false;
                            queue.push_back((1 - node, Input::SessionDown(why)));
                        }
                    }
                    Output::Persist(record) => {
                        let result = if self.disk_fails[node] {
                            Err("no space".into())
                        } else {
                            self.records[node] = *record;
                            Ok(())
                        };
                        queue.push_back((node, Input::Persisted(result)));
                    }
                    Output::Gate(gate) => {
                        self.gates[node] = gate;
                        queue.push_back((node, Input::Gated));
                    }
                    Output::CompleteAll => {
                        let waiting = self.members[node].acks.drain().len();
                        assert!(
                            waiting == 0 || self.records[node].set_size() == 1,
                            "I4: answered without the peer before the set shrank durably"
                        );
                        self.completed_all[node] += waiting;
                    }
                    Output::FailAll => {
                        self.members[node].acks.drain();
                    }
                    Output::TakeDigest(round) => {
                        assert_ne!(self.gates[node], Gate::Alone, "digest while writes run");
                        queue.push_back((node, Input::Digest(round, Ok(self.trees[node]))));
                    }
                    Output::Flush(round) => queue.push_back((node, Input::Flushed(round, Ok(())))),
                    Output::Resolve { token, result } => self.resolved.push((token, result)),
                    Output::Exit => self.exited[node] = true,
                }
            }
        }
    }

    fn hello(&self, node: usize) -> Box<Hello> {
        let m = &self.members[node];
        Box::new(Hello {
            wire_min: 1,
            wire_max: 1,
            cluster: "c".into(),
            module: "m".into(),
            node: m.local.clone(),
            digest: [0; 32],
            record: m.record().clone(),
            state: m.state(),
        })
    }

    fn connect(&mut self) {
        self.up = true;
        let (a, b) = (self.hello(0), self.hello(1));
        self.input(0, Input::SessionUp(b));
        self.input(1, Input::SessionUp(a));
    }

    fn cut(&mut self) {
        self.up = false;
        self.input(0, Input::SessionDown("cut".into()));
        self.input(1, Input::SessionDown("cut".into()));
    }

    fn states(&self) -> [State; 2] {
        [self.members[0].state(), self.members[1].state()]
    }

    fn in_sync() -> Self {
        let mut p = pair();
        p.connect();
        p.input(
            0,
            Input::Prim {
                token: 1,
                force: false,
            },
        );
        p.input(1, Input::Second { token: 2 });
        assert_eq!(p.states(), [State::Prim, State::Second]);
        assert_eq!(p.gates, [Gate::Replicated, Gate::ReadOnly]);
        assert_eq!(p.resolved, vec![(1, Ok(())), (2, Ok(()))]);
        p
    }

    fn refused(&mut self, node: usize, force: bool) -> Option<String> {
        self.resolved.clear();
        self.input(node, Input::Prim { token: 9, force });
        self.resolved
            .pop()
            .and_then(|(_, r)| r.err())
            .map(|r| r.code)
    }
}

#[test]
fn grows_source_first_and_shrinks_before_answering() {
    let mut p = Pair::in_sync();
    assert_eq!(
        p.records[0].epoch, p.records[1].epoch,
        "I5: both hold the same epoch"
    );
    let seq = p.members[0].acks.issue(p.now);
    p.cut();
    assert_eq!(p.completed_all[0], 1);
    assert_eq!(p.members[0].acks.acknowledge(seq, 0), AckOutcome::Unknown);
    assert_eq!(p.states(), [State::Alone, State::Wait]);
    assert_eq!(p.gates[0], Gate::Alone);
    assert_eq!(p.records[0].set_size(), 1);
    assert_eq!(p.records[1].set_size(), 2, "the lost node does not know");
}

#[test]
fn a_returning_node_is_stale_and_joins_only_if_equal() {
    let mut p = Pair::in_sync();
    p.cut();
    p.trees[0] = [8; 32];
    p.connect();
    assert!(p.records[1].stale, "I3: told by the ancestry of the epochs");
    assert_eq!(p.states(), [State::Alone, State::Wait]);
    assert_eq!(
        p.members[1].reason().map(|r| r.code.as_str()),
        Some("differs")
    );
    assert_eq!(p.refused(1, false).as_deref(), Some("peer-serves"));
    p.cut();
    assert_eq!(p.refused(1, false).as_deref(), Some("stale"));
    p.trees[1] = [8; 32];
    p.connect();
    p.input(1, Input::Second { token: 3 });
    assert_eq!(p.states(), [State::Prim, State::Second]);
    assert!(!p.records[1].stale);
}

#[test]
fn survivor_is_promoted_and_the_old_server_refused() {
    let mut p = Pair::in_sync();
    p.up = false;
    p.input(1, Input::SessionDown("power".into()));
    p.input(
        1,
        Input::Prim {
            token: 3,
            force: false,
        },
    );
    assert_eq!(p.states()[1], State::Alone);
    // The old server comes back with its page cache gone and meets the new one.
    let record = p.records[0].clone();
    let names = ("a".to_string(), "b".to_string());
    p.members[0] = Member::new(
        names,
        Duration::from_secs(3),
        (record, Id128::default()),
        p.now,
    );
    p.connect();
    assert!(p.records[0].stale);
    assert_eq!(p.refused(0, false).as_deref(), Some("peer-serves"));
}

#[test]
fn two_forced_servers_are_seen_as_diverged() {
    let mut p = Pair::in_sync();
    p.cut();
    p.input(
        1,
        Input::Prim {
            token: 3,
            force: false,
        },
    );
    assert_eq!(p.states(), [State::Alone, State::Alone]);
    p.connect();
    for m in &p.members {
        assert_eq!(m.reason().map(|r| r.code.as_str()), Some("diverged"), "V7");
    }
}

#[test]
fn clean_stops_are_told_and_remembered() {
    let mut p = Pair::in_sync();
    p.input(0, Input::Stop { token: 5 });
    assert!(p.exited[0]);
    assert!(p.records[0].left && p.records[0].clean);
    assert_eq!(
        p.members[1].reason().map(|r| r.code.as_str()),
        Some("peer-left")
    );
    p.up = false;
    p.input(
        1,
        Input::Prim {
            token: 6,
            force: false,
        },
    );
    assert_eq!(p.states()[1], State::Alone);

    let mut p = Pair::in_sync();
    p.input(1, Input::Stop { token: 5 });
    assert!(p.exited[1]);
    assert_eq!(p.states()[0], State::Alone);
    assert_eq!(p.records[0].set_size(), 1);
    let names = ("b".to_string(), "a".to_string());
    let found = (p.records[1].clone(), Id128::default());
    p.members[1] = Member::new(names, Duration::from_secs(3), found, p.now);
    assert_eq!(p.refused(1, false).as_deref(), Some("left"), "W6");
}

#[test]
fn a_silent_peer_is_dropped_after_the_stall_limit() {
    let mut p = Pair::in_sync();
    p.members[0].acks.issue(p.now);
    p.now += Duration::from_secs(2);
    p.input(0, Input::Tick);
    assert_eq!(p.states()[0], State::Prim);
    p.now += Duration::from_secs(2);
    p.input(0, Input::Tick);
    assert_eq!(p.states()[0], State::Alone);
    assert_eq!(p.completed_all[0], 1);
}

#[test]
fn a_failed_operation_spoils_the_replica_before_anything_is_answered() {
    let mut p = Pair::in_sync();
    p.members[0].acks.issue(p.now);
    p.input(
        1,
        Input::ApplyFailed {
            what: "write: no space".into(),
        },
    );
    assert!(p.records[1].stale);
    p.input(0, Input::PeerFailed { errno: 28 });
    assert_eq!(p.states()[0], State::Alone);
    assert_eq!(p.completed_all[0], 1);
    assert_eq!(p.refused(1, false).as_deref(), Some("stale"));
}

#[test]
fn an_unwritable_record_serves_nothing() {
    let mut p = Pair::in_sync();
    p.disk_fails[0] = true;
    p.members[0].acks.issue(p.now);
    p.cut();
    assert_eq!(
        p.completed_all[0], 0,
        "I4: nothing is answered without a durable record"
    );
    assert_eq!(p.gates[0], Gate::ReadOnly);
    assert_eq!(
        p.members[0].reason().map(|r| r.code.as_str()),
        Some("state-directory")
    );
}
