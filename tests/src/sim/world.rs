//! The world: virtual time, one queue of events, two nodes, the network between them, the witness,
//! clients, a manager, and the oracles that look on. One seed decides everything.

mod brief;
mod event;

use super::check::{Checks, Violation};
use super::client::Client;
use super::faults::Schedule;
use super::net::{Lane, Packet};
use super::node::{Ills, NAMES, Node};
use super::options::Options;
use super::tree::{SyncToken, Tree};
use super::witness::Third;
use super::{Msg, Time};
use crate::rng::Rng;
use brief::brief;
use event::Due;
pub use event::{Event, Local};
use std::cmp::Reverse;
use std::collections::{BTreeMap, BinaryHeap};
use std::sync::{Arc, Mutex};
use std::time::{Duration, Instant};

/// How often a machine is told that time passes.
const TICK: Time = 100_000;

/// What happened, in numbers.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Stats {
    pub events: u64,
    pub issued: u64,
    pub answered: u64,
    pub acknowledged: u64,
    pub resyncs: u64,
    pub serves: u64,
    pub crashes: u64,
}

pub struct World {
    pub now: Time,
    base: Instant,
    queue: BinaryHeap<Reverse<Due>>,
    order: u64,
    pub options: Options,
    pub nodes: [Node; 2],
    /// From each node to the other.
    pub lanes: [Lane<Msg>; 2],
    pub next_conn: u64,
    pub third: Third,
    pub clients: Vec<Client>,
    pub next_value: u64,
    pub next_job: u64,
    pub checks: Checks,
    pub violation: Option<Violation>,
    pub stats: Stats,
    /// Guards [`World::direct`] against itself.
    pub directing: [bool; 2],
    pub rng_net: Rng,
    pub rng_client: Rng,
    pub rng_manager: Rng,
    pub rng_fault: Rng,
    /// No more faults: the cluster has to come together.
    pub calm: bool,
    pub tracing: bool,
    pub lines: Vec<String>,
    hash: u64,
}

impl World {
    pub fn new(seed: u64, options: Options, tracing: bool) -> Self {
        let mut seeds = Rng::new(seed);
        let mut rng = || Rng::new(seeds.next_u64());
        let nodes = [0u64, 1].map(|n| Node {
            is_powered: true,
            boot: 1,
            life: 0,
            paused: None,
            hung: None,
            seat: Default::default(),
            record: Default::default(),
            journal: Default::default(),
            tree: Arc::new(Mutex::new(Tree::new(0x1000 * (n + 1)))),
            daemon: None,
            ills: Ills::default(),
            rng: rng(),
            restart_at: Some(0),
            notes: Default::default(),
        });
        super::client::furnish(&mut nodes[0].tree(), &mut rng());
        let delay = options.delay;
        let clients = (0..options.clients).map(|_| Client::default()).collect();
        let mut world = Self {
            now: 0,
            base: base(),
            queue: BinaryHeap::new(),
            order: 0,
            lanes: [Lane::new(delay), Lane::new(delay)],
            next_conn: 0,
            third: Third::new(&options),
            clients,
            next_value: 1,
            next_job: 1,
            checks: Checks::default(),
            violation: None,
            stats: Stats::default(),
            directing: [false; 2],
            rng_net: rng(),
            rng_client: rng(),
            rng_manager: rng(),
            rng_fault: rng(),
            calm: false,
            tracing,
            lines: Vec::new(),
            hash: 0xcbf2_9ce4_8422_2325,
            options,
            nodes,
        };
        if world.options.managed {
            world.seats_begin();
        } else {
            for n in 0..2 {
                world.push(1000 + n as u64 * 777, Event::Manager(n));
            }
        }
        for client in 0..world.clients.len() {
            world.push(2_000_000 + client as u64 * 1000, Event::Client(client));
        }
        world.push(500_000, Event::Look);
        world
    }

    pub fn schedule(&mut self, schedule: &Schedule) {
        for (at, fault) in &schedule.0 {
            self.push(*at, Event::Fault(fault.clone()));
        }
    }

    pub fn push(&mut self, at: Time, event: Event) {
        self.order += 1;
        let order = self.order;
        let at = at.max(self.now);
        self.queue.push(Reverse(Due { at, order, event }));
    }

    /// Something in a node's present daemon, after a time.
    pub fn after(&mut self, n: usize, time: Time, what: Local) {
        let life = self.nodes[n].life;
        let event = Event::Local {
            node: n,
            life,
            what,
        };
        self.push(self.now + time, event);
    }

    /// The boot-time clock of a node: its own beginning, and a slightly different pace.
    pub fn clock(&self, n: usize) -> Instant {
        let pace = self.options.pace[n];
        let drift = self.now / 10_000 * pace;
        self.base + Duration::from_micros(self.now + drift + n as u64 * 3_600_000_000)
    }

    /// Runs until then, or until an oracle finds something.
    pub fn run_until(&mut self, end: Time) {
        while self.violation.is_none() {
            let Some(Reverse(due)) = self.queue.peek() else {
                break;
            };
            if due.at > end {
                break;
            }
            let Some(Reverse(due)) = self.queue.pop() else {
                break;
            };
            self.now = due.at;
            self.stats.events += 1;
            self.step(due.event);
            if self.options.managed {
                self.look_at_daemons();
                self.look_at_managers();
            }
        }
        self.now = self.now.max(end);
    }

    /// A paused node's events wait for its return.
    fn is_postponed(&mut self, event: &Event) -> Option<Time> {
        let node = match event {
            Event::Packet { to, .. } => *to,
            Event::Local { node, .. } => *node,
            Event::Seat { node, .. } => {
                return self.nodes[*node].paused.filter(|until| *until > self.now);
            }
            _ => return None,
        };
        let node = &self.nodes[node];
        let until = node.paused.max(node.hung);
        until.filter(|until| *until > self.now)
    }

    fn step(&mut self, event: Event) {
        if let Some(until) = self.is_postponed(&event) {
            return self.push(until, event);
        }
        match event {
            Event::Packet { to, packet } => self.on_packet(to, packet),
            Event::Local { node, life, what } => {
                if self.nodes[node].life == life && self.nodes[node].daemon.is_some() {
                    self.local(node, what);
                }
            }
            Event::Client(client) => self.on_client(client),
            Event::Manager(n) => self.on_manager(n),
            Event::Seat { node, life, act } => self.on_seat(node, life, act),
            Event::Operator => self.on_operator(),
            Event::Fault(fault) => self.on_fault(&fault),
            Event::Witness { node, life, round } => self.on_witness(node, life, round),
            Event::Look => {
                self.look_at_marks("now and then");
                self.look_at_waits();
                self.push(self.now + 700_000, Event::Look);
            }
        }
    }

    fn local(&mut self, n: usize, what: Local) {
        match what {
            Local::Tick => self.on_tick(n),
            Local::Persisted => self.on_persisted(n),
            Local::Journaled => self.on_journaled(n),
            Local::Applied(id) => self.on_applied(n, id),
            Local::Synced(id) => self.on_synced(n, id),
            Local::Flushed(round, token) => self.on_flushed(n, round, &token),
            Local::Apply(job) => self.on_apply(n, *job),
            Local::PeerSynced(session, seq, change) => {
                self.on_peer_synced(n, session, seq, &change);
            }
            Local::Prepared(round) => {
                let input = tandem_repl::logic::member::Input::TargetPrepared(round, Ok(()));
                self.tell(n, input);
            }
            Local::Poll(round) => self.on_poll(n, round),
            Local::Requested(session, number, request) => {
                self.on_requested(n, session, number, &request);
            }
            Local::AskAgain(round) => self.ask_again(n, round),
            Local::Answered(round, answer) => self.on_answered(n, round, answer),
        }
    }

    fn on_tick(&mut self, n: usize) {
        self.after(n, TICK, Local::Tick);
        let now = self.now;
        // The node whose name sorts first dials.
        let dials = (n == 0).then(|| self.next_conn + 1);
        let Some(daemon) = self.nodes[n].daemon.as_mut() else {
            return;
        };
        let mut packets = Vec::new();
        let conn = daemon.end.conn;
        let down = daemon.end.tick(now, dials, &mut packets);
        if packets.iter().any(|p| matches!(p, Packet::Dial(_))) {
            self.next_conn += 1;
        }
        for packet in packets {
            self.post(n, packet);
        }
        if let Some(why) = down {
            self.pipe_gone(n);
            self.news(n, super::node::News::Down(conn.unwrap_or(0), why));
        }
        self.pressure(n);
        self.tell(n, tandem_repl::logic::member::Input::Tick);
    }

    fn on_flushed(&mut self, n: usize, round: u64, token: &SyncToken) {
        let node = &mut self.nodes[n];
        let tree = node.tree.clone();
        let mut tree = tree
            .lock()
            .unwrap_or_else(std::sync::PoisonError::into_inner);
        let result = if node.ills.sync_fails {
            tree.sync_fails(&mut node.rng);
            Err("input/output error".to_string())
        } else {
            tree.end_sync(token);
            Ok(())
        };
        drop(tree);
        if result.is_err() {
            self.checks.acked.sync_failed(n);
        }
        let input = tandem_repl::logic::member::Input::Flushed(round, result);
        self.tell(n, input);
    }

    /// A line of the trace; made only when it is wanted.
    pub fn trace(&mut self, line: impl FnOnce() -> String) {
        if self.tracing {
            let line = format!("{:>10.3} {}", self.now as f64 / 1000.0, brief(&line()));
            for byte in line.bytes() {
                self.hash = (self.hash ^ u64::from(byte)).wrapping_mul(0x0100_0000_01b3);
            }
            self.lines.push(line);
        }
    }

    /// A number that two runs of one seed share.
    pub fn fingerprint(&self) -> u64 {
        self.hash
    }

    pub fn violate(&mut self, violation: Result<(), Violation>) {
        if let Err(violation) = violation
            && self.violation.is_none()
        {
            self.trace(|| format!("VIOLATION {violation}"));
            self.violation = Some(violation);
        }
    }

    /// Who is where, for the report.
    pub fn state(&self) -> String {
        let nodes: Vec<_> = (0..NAMES.len()).map(|n| self.describe(n)).collect();
        format!("{}\nwitness: {:?}", nodes.join("\n"), self.third.register)
    }

    pub fn values(&self) -> BTreeMap<&'static str, u64> {
        let s = self.stats;
        BTreeMap::from([
            ("events", s.events),
            ("issued", s.issued),
            ("acknowledged", s.acknowledged),
            ("resyncs", s.resyncs),
            ("serves", s.serves),
            ("crashes", s.crashes),
        ])
    }
}

/// The moment virtual time begins: any will do, only differences count.
fn base() -> Instant {
    Instant::now()
}
