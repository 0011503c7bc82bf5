//! What goes into a module's machine and what comes out of it.
//!
//! Outputs are performed in their order. A [`Output::Do`] is answered by one [`Input::Done`] with
//! its number, however long it takes; a [`Output::Ask`] by one [`Input::Answered`]. Everything
//! else is done when the next output is performed.

use super::level::Running;
use crate::config::{Action, Module, Script};
use serde::{Deserialize, Serialize};
use std::time::{Duration, Instant};
use tandem_repl::control::{Readiness, Refusal, State};

/// What the module's daemon tells, as far as it matters here.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct View {
    pub state: State,
    pub readiness: Readiness,
    pub reason: Option<Refusal>,
    /// The replica belongs to a volume: it was synchronised, or served, once.
    pub has_epoch: bool,
    /// This node acknowledged last, as far as it knows.
    pub served: bool,
    /// Until when this node may answer for the module if its daemon hears nothing more; `None`:
    /// nobody else may begin, or this node does not serve.
    pub until: Option<Instant>,
    pub peer_connected: bool,
    pub peer_state: Option<State>,
}

impl View {
    /// The daemon acknowledges changes.
    pub fn serves(&self) -> bool {
        self.state.serves()
    }

    /// The peer serves, as it says itself.
    pub fn peer_serves(&self) -> bool {
        self.peer_connected && self.peer_state.is_some_and(State::serves)
    }

    /// The peer could take over now without loss.
    pub fn peer_can_serve(&self) -> bool {
        self.state == State::Prim && self.peer_connected && self.peer_state == Some(State::Second)
    }
}

/// The daemon's process.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Daemon {
    Gone,
    Up(View),
}

/// What an operator, a checker or the console may ask.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Command {
    Start,
    Stop,
    Stopstart,
    /// The application only, in place.
    Restart,
    Swap,
    Prim {
        force: bool,
    },
    /// `full`: everything is compared, whatever the marks say.
    Second {
        full: bool,
    },
    Failover(bool),
    Maintenance(bool),
    Checkers(bool),
    /// The manager ends in order: everything stops here, and what is wanted stays.
    Leave,
}

/// What operators want; durable.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Wants {
    pub started: bool,
    /// Overrules the configuration.
    pub failover: Option<bool>,
    /// Nothing is started, stopped or moved by the manager itself.
    pub maintenance: bool,
    pub checkers: bool,
    /// Why it was stopped, when it was not an operator's word.
    pub stopped: Option<Refusal>,
    /// How often failover, and maintenance, were said on either node: the newer word counts.
    #[serde(default)]
    pub failover_said: u64,
    #[serde(default)]
    pub maintenance_said: u64,
}

/// What operators said of the module on both nodes, wherever they said it.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Word {
    pub failover: Option<bool>,
    pub failover_said: u64,
    pub maintenance: bool,
    pub maintenance_said: u64,
}

impl Wants {
    /// The part that the other node is told.
    pub fn word(&self) -> Word {
        Word {
            failover: self.failover,
            failover_said: self.failover_said,
            maintenance: self.maintenance,
            maintenance_said: self.maintenance_said,
        }
    }

    /// Takes over what the other node heard later. Where each was told as often while they were
    /// apart, less moves by itself: failover off, maintenance on. Whether anything changed.
    pub fn hear(&mut self, word: Word) -> bool {
        let before = self.word();
        let off = |failover: Option<bool>| failover == Some(false);
        let mine = (self.failover_said, off(self.failover));
        if (word.failover_said, off(word.failover)) > mine {
            self.failover = word.failover;
            self.failover_said = word.failover_said;
        }
        let mine = (self.maintenance_said, self.maintenance);
        if (word.maintenance_said, word.maintenance) > mine {
            self.maintenance = word.maintenance;
            self.maintenance_said = word.maintenance_said;
        }
        self.word() != before
    }
}

impl Default for Wants {
    fn default() -> Self {
        Self {
            started: false,
            failover: None,
            maintenance: false,
            checkers: true,
            stopped: None,
            failover_said: 0,
            maintenance_said: 0,
        }
    }
}

/// What may happen.
#[derive(Clone, Debug)]
pub enum Input {
    /// Time passes.
    Tick,
    Daemon(Daemon),
    /// An answer to [`Output::Ask`].
    Answered(Ask, Result<(), Refusal>),
    /// A [`Output::Do`] ended; the text says what went wrong.
    Done(u64, Result<(), String>),
    Command {
        token: u64,
        command: Command,
    },
    /// A checker of this name is up or down, and why.
    Checker {
        name: String,
        up: bool,
        detail: String,
    },
    /// A held address was taken from its interface.
    AddressLost(String),
    /// The manager did not run for so long, by the boot-time clock.
    Slept(Duration),
    /// What the other node was told of the module.
    Heard(Word),
    /// The module's configuration is another one now; resolved when it was taken over.
    Configure {
        token: u64,
        config: Box<Module>,
    },
}

/// A question to the module's daemon.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Ask {
    Prim {
        force: bool,
    },
    Second,
    Resync {
        everything: bool,
    },
    Swap,
    /// Drain, tell the peer, unmount, end.
    Stop,
    /// The peer was proved off.
    Fenced,
}

/// Something that takes time; one at a time for each module, but for [`Step::StartDaemon`] and
/// [`Step::Fence`].
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Step {
    /// `force`: the polite call was in vain, or what runs is not known.
    Script {
        script: Script,
        force: bool,
        context: Context,
    },
    /// Probed first; announced.
    TakeAddresses,
    /// Taken without a question, and announced: the peer had them a moment ago. Who still answers
    /// for them is the machine of a lost peer, which stands still or is cut off.
    SeizeAddresses,
    ReleaseAddresses,
    StartDaemon,
    Fence(Action),
    /// A checker's reaction.
    Run(Action),
}

/// What a script is told of the situation.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Context {
    pub from: State,
    pub to: State,
    /// Why: `start`, `stop`, `restart`, `swap`, `failover`, `lost`…
    pub action: &'static str,
}

/// What is to be done.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Output {
    Do(u64, Step),
    Ask(Ask),
    /// Now, without waiting for anything: this node may not answer for the module any more.
    /// Idempotent.
    DropAddresses,
    /// Taken by a predecessor: announced and watched from now on.
    HoldAddresses,
    /// The daemon does not end by itself.
    KillDaemon,
    /// Durably. Commands answered after this in the same batch depend on it.
    Save(Wants),
    /// For a manager that takes this one's place on this boot.
    Remember(Running),
    Resolve {
        token: u64,
        result: Result<(), Refusal>,
    },
    Mark(Phase),
    Log(String),
}

/// Points of a failover's timeline.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Phase {
    /// The peer, or this node's own daemon, stopped serving.
    Detected,
    /// This node asks to serve.
    Decided,
    /// The daemon serves: lease, witness, record are done.
    Promoted,
    Addresses,
    /// The application's start script ended.
    Application,
}
