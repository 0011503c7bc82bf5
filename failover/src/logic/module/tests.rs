//! The machine in a small world: a daemon that answers as real ones do, steps that take time and
//! may fail, and what must hold whatever happens.

mod both;
mod chaos;
mod configured;
mod every;
mod processes;
mod rights;
mod stories;
mod table;

use super::super::api::*;
use super::super::level::{Role, Running};
use super::*;
use crate::config::{Action, Application, Boot, Checker, CheckerKind, Reaction, VirtualIp, When};
use std::collections::BTreeSet;
use tandem_repl::control::Readiness;

/// A module with every script, one address, and a checker of each reaction.
pub(in crate::logic) fn config() -> Module {
    let action = || Action {
        command: vec!["/bin/true".into()],
        limit: Duration::from_secs(10),
    };
    let checker = |name: &str, on_failure| Checker {
        name: name.into(),
        kind: CheckerKind::VirtualIp,
        interval: Duration::from_secs(1),
        timeout: Duration::from_secs(1),
        failures: 1,
        on_failure,
        when: When::Prim,
    };
    Module {
        name: "shop".into(),
        peer: "b".into(),
        preferred: None,
        failover: true,
        boot: Boot::Auto,
        max_restarts: 3,
        restart_window: Duration::from_secs(24 * 3600),
        virtual_ips: vec![VirtualIp {
            address: std::net::IpAddr::from([10, 0, 0, 9]),
            prefix: None,
            interface: None,
        }],
        application: Application::Scripts(Script::ALL.iter().map(|s| (*s, action())).collect()),
        checkers: vec![
            checker("restart", Reaction::Restart),
            checker("stopstart", Reaction::Stopstart),
            checker("wait", Reaction::Wait),
            checker("stop", Reaction::Stop),
            checker("swap", Reaction::Swap),
            Checker {
                kind: CheckerKind::Ping {
                    host: "10.0.0.254".into(),
                },
                ..checker("gateway", Reaction::Wait)
            },
        ],
        variables: BTreeMap::new(),
        stall_limit: Duration::from_secs(3),
        splits: true,
        fence: None,
    }
}

/// The machine, its daemon and its hands.
#[derive(Clone)]
pub(super) struct World {
    pub(super) machine: Machine,
    pub(super) now: Instant,
    pub(super) daemon: Daemon,
    /// Asked and not answered.
    pub(super) asked: VecDeque<Ask>,
    /// Under way.
    pub(super) steps: VecDeque<(u64, Step)>,
    pub(super) addresses: bool,
    pub(super) scripts: Vec<(Script, bool)>,
    pub(super) resolved: BTreeMap<u64, Result<(), String>>,
    pub(super) given: BTreeSet<u64>,
    pub(super) saved: Wants,
    pub(super) remembered: Running,
    pub(super) marks: Vec<Phase>,
    pub(super) log: Vec<String>,
    /// The daemon says nothing.
    pub(super) hangs: bool,
    killed: bool,
}

impl World {
    pub(super) fn new(config: Module) -> Self {
        Self::with(config, Wants::default(), Running::NOTHING)
    }

    pub(super) fn with(config: Module, wants: Wants, found: Running) -> Self {
        let now = origin();
        Self {
            machine: Machine::new(config, wants.clone(), found, now),
            now,
            daemon: Daemon::Gone,
            asked: VecDeque::new(),
            steps: VecDeque::new(),
            addresses: found.addresses,
            scripts: Vec::new(),
            resolved: BTreeMap::new(),
            given: BTreeSet::new(),
            saved: wants,
            remembered: found,
            marks: Vec::new(),
            log: Vec::new(),
            hangs: false,
            killed: false,
        }
    }

    pub(super) fn input(&mut self, input: Input) {
        if let Input::Command { token, .. } | Input::Configure { token, .. } = &input {
            self.given.insert(*token);
        }
        if let Input::Configure { config, .. } = &input {
            // The driver removes what is not wanted any more.
            self.addresses &= !config.virtual_ips.is_empty();
        }
        let outputs = self.machine.handle(self.now, input);
        for output in outputs {
            self.perform(output);
        }
        let applications = self.steps.iter().filter(|(_, s)| is_application(s));
        assert!(
            applications.count() <= 1,
            "two steps at once: {:?}",
            self.steps
        );
        if std::mem::take(&mut self.killed) {
            self.tell();
        }
    }

    fn perform(&mut self, output: Output) {
        let role = self.machine.running().role;
        let serves = matches!(&self.daemon, Daemon::Up(v) if v.serves());
        match output {
            Output::Do(id, step) => {
                match &step {
                    Step::TakeAddresses | Step::SeizeAddresses => {
                        assert!(serves, "addresses without the right to serve");
                    }
                    Step::Script { script, force, .. } => {
                        let starts = *script == Script::StartPrim;
                        assert!(!starts || serves, "started without the right to serve");
                        self.scripts.push((*script, *force));
                    }
                    Step::StartDaemon => {
                        assert_eq!(role, None, "a daemon is started below an application");
                        assert_eq!(self.daemon, Daemon::Gone);
                    }
                    _ => {}
                }
                self.steps.push_back((id, step));
            }
            Output::Ask(ask) => {
                if matches!(ask, Ask::Swap | Ask::Stop) {
                    assert_ne!(role, Some(Role::Prim), "{ask:?} while the application runs");
                    assert!(!self.addresses, "{ask:?} while the addresses are here");
                }
                self.asked.push_back(ask);
            }
            Output::DropAddresses => self.addresses = false,
            Output::HoldAddresses => assert!(self.addresses && serves),
            Output::KillDaemon => {
                self.daemon = Daemon::Gone;
                self.asked.clear();
                self.killed = true;
            }
            Output::Save(wants) => self.saved = wants,
            Output::Remember(running) => self.remembered = running,
            Output::Resolve { token, result } => {
                let result = result.map_err(|r| r.code);
                assert!(self.given.contains(&token), "nobody asked {token}");
                let twice = self.resolved.insert(token, result);
                assert_eq!(twice, None, "{token} answered twice");
            }
            Output::Mark(phase) => self.marks.push(phase),
            Output::Log(text) => self.log.push(text),
        }
    }

    pub(super) fn command(&mut self, token: u64, command: Command) {
        self.input(Input::Command { token, command });
    }

    pub(super) fn tell(&mut self) {
        self.input(Input::Daemon(self.daemon.clone()));
    }

    pub(super) fn set(&mut self, state: State, peer: Option<State>) {
        self.daemon = Daemon::Up(view(state, peer));
        self.tell();
    }

    /// The first step under way ends.
    pub(super) fn finish(&mut self, result: Result<(), String>) -> Option<Step> {
        let (id, step) = self.steps.pop_front()?;
        let ok = result.is_ok();
        match &step {
            Step::TakeAddresses | Step::SeizeAddresses if ok => self.addresses = true,
            Step::ReleaseAddresses => self.addresses = false,
            Step::StartDaemon if ok => {
                self.daemon = Daemon::Up(view(State::Wait, None));
                self.input(Input::Done(id, result));
                self.tell();
                return Some(step);
            }
            _ => {}
        }
        self.input(Input::Done(id, result));
        Some(step)
    }

    /// The daemon answers the first question as a node would that may serve, and whose peer is as
    /// it was.
    pub(super) fn answer(&mut self, result: Result<(), Refusal>) -> Option<Ask> {
        let ask = self.asked.pop_front()?;
        if let (Ok(()), Daemon::Up(v)) = (&result, &mut self.daemon) {
            let followed = v.peer_state == Some(State::Second);
            match ask {
                Ask::Prim { .. } if v.state == State::Wait => {
                    *v = view(State::Alone, v.peer_state);
                }
                Ask::Second if v.state == State::Wait && v.peer_serves() => {
                    *v = view(State::Second, v.peer_state);
                }
                Ask::Swap if v.state == State::Prim && followed => {
                    *v = view(State::Second, Some(State::Prim));
                }
                Ask::Stop => self.daemon = Daemon::Gone,
                _ => {}
            }
        }
        self.input(Input::Answered(ask, result));
        self.tell();
        Some(ask)
    }

    /// Time passes; a daemon that runs says something as often as real ones do.
    pub(super) fn pass(&mut self, time: Duration) {
        self.now += time;
        if !self.hangs && matches!(self.daemon, Daemon::Up(_)) {
            // It is heard of at least every half a second.
            self.tell();
        }
        self.input(Input::Tick);
    }

    /// Everything goes well from now on, until nothing moves.
    pub(super) fn settle(&mut self) {
        for _ in 0..600 {
            if self.finish(Ok(())).is_none() && self.answer(Ok(())).is_none() {
                self.pass(Duration::from_millis(100));
            }
        }
    }
}

fn is_application(step: &Step) -> bool {
    matches!(
        step,
        Step::Script { .. } | Step::TakeAddresses | Step::SeizeAddresses | Step::ReleaseAddresses
    )
}

#[allow(clippy::disallowed_methods, reason = "some instant to begin with")]
pub(in crate::logic) fn origin() -> Instant {
    Instant::now()
}

pub(super) fn view(state: State, peer: Option<State>) -> View {
    View {
        state,
        readiness: if state == State::Wait {
            Readiness::NotReady
        } else {
            Readiness::Ready
        },
        reason: None,
        has_epoch: true,
        served: false,
        until: None,
        peer_connected: peer.is_some(),
        peer_state: peer,
    }
}

pub(super) fn refusal(code: &str) -> Refusal {
    Refusal::new(code, "for the test", "nothing")
}

pub(super) fn started() -> World {
    let mut world = World::new(config());
    world.command(1, Command::Start);
    world
}

/// Serving with a follower.
pub(super) fn prim() -> World {
    let mut world = started();
    world.settle();
    world.set(State::Prim, Some(State::Second));
    world.settle();
    assert_eq!(world.machine.shown().readiness, Readiness::Ready);
    assert!(world.addresses);
    world.scripts.clear();
    world.marks.clear();
    world
}

pub(super) fn names(world: &World) -> Vec<String> {
    let name =
        |(s, force): &(Script, bool)| format!("{}{}", s.name(), if *force { "!" } else { "" });
    world.scripts.iter().map(name).collect()
}

pub(super) fn checker(world: &mut World, name: &str, up: bool) {
    world.input(Input::Checker {
        name: name.into(),
        up,
        detail: "no answer".into(),
    });
    world.settle();
}

#[test]
#[allow(clippy::disallowed_methods, reason = "it may write the page it checks")]
fn architecture_shows_what_the_machine_does() {
    let path = concat!(env!("CARGO_MANIFEST_DIR"), "/../ARCHITECTURE.md");
    let page = std::fs::read_to_string(path).unwrap_or_else(|e| panic!("{path}: {e}"));
    let made = table::table();
    let begin = page.find(table::BEGIN).expect("the table's beginning") + table::BEGIN.len();
    let end = begin + page[begin..].find(table::END).expect("the table's end");
    if std::env::var_os("TANDEM_REFRESH").is_some() {
        let page = format!("{}{made}{}", &page[..begin], &page[end..]);
        std::fs::write(path, page).unwrap_or_else(|e| panic!("{path}: {e}"));
        return;
    }
    assert_eq!(
        &page[begin..end],
        made,
        "ARCHITECTURE.md is old: run with TANDEM_REFRESH=1"
    );
}
