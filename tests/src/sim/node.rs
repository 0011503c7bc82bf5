//! A node: what survives its daemon (disk, page cache), and the daemon.

use super::change::Change;
use super::disk::{Journal, RecordDisk};
use super::manager::Word;
use super::net::End;
use super::resync::{Notes, Source, TargetRun};
use super::seat::Seat;
use super::tree::{Name, Tree};
use super::{Msg, Time};
use crate::rng::Rng;
use std::collections::{BTreeMap, BTreeSet, VecDeque};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use tandem_repl::ids::{Id128, OpSeq, Uid};
use tandem_repl::logic::dirty;
use tandem_repl::logic::member::{Gate, Input, Member, Output};
use tandem_repl::wire::Control;

pub const NAMES: [&str; 2] = ["a", "b"];

/// A whole server.
pub struct Node {
    pub is_powered: bool,
    /// Counts boots, and starts of the daemon: what was begun in an earlier one is void.
    pub boot: u64,
    pub life: u64,
    /// Stopped (a signal, or the guest as a whole) until then.
    pub paused: Option<Time>,
    /// Only its daemon stands still until then.
    pub hung: Option<Time>,
    pub seat: Seat,
    pub record: RecordDisk,
    pub journal: Journal,
    pub tree: Arc<Mutex<Tree>>,
    pub daemon: Option<Daemon>,
    /// What does not work now.
    pub ills: Ills,
    pub rng: Rng,
    /// When the manager starts it again.
    pub restart_at: Option<Time>,
    pub notes: Arc<Mutex<Notes>>,
}

#[derive(Clone, Copy, Debug, Default)]
pub struct Ills {
    pub is_full: bool,
    pub sync_fails: bool,
    pub record_fails: bool,
    /// Everything on the disk takes longer by this factor.
    pub slow: u64,
}

/// Where a change of an application stands.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Stage {
    /// Waits for the gate, or for a generation of marks to begin.
    Waiting,
    /// Its mark is on the way to the disk; up to this number.
    Marking(u64),
    Applying,
    /// Waits for the peer, and for the own disk where it is a sync.
    Shipped,
}

pub struct Job {
    pub client: usize,
    pub change: Change,
    pub stage: Stage,
    /// What the kernel holds locked until the answer.
    pub locks: Vec<Uid>,
    /// Number among all changes of the run.
    pub id: u64,
    pub issued: Time,
    /// Under which it was admitted.
    pub gate: Gate,
    pub epoch: Option<Id128>,
    pub seq: Option<OpSeq>,
    pub local_done: bool,
    pub peer_done: bool,
}

/// Why the director stands still.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Busy {
    Persisting,
    Gating(Gate),
    /// An operation of the peer is being applied; it ends first.
    Applying,
}

/// News for the director, with the session they belong to.
pub enum News {
    Down(u64, String),
    Control(u64, Box<Control>),
    PeerFailed(u64, i32),
    ApplyFailed(u64, String),
    Input(Input),
}

/// An operation of the peer on its way to the tree.
pub struct Incoming {
    pub session: u64,
    pub message: Msg,
}

/// What is done to the journal, one after the other.
pub enum JournalWork {
    /// Up to this length, which is the map's number.
    Flush(usize, u64),
    Replace(Vec<dirty::Record>, u64, u64),
}

#[derive(Default)]
pub struct JournalQueue {
    pub running: Option<JournalWork>,
    /// A file that is to take the place of the present one: records, the map's number, round.
    pub replace: Option<(Vec<dirty::Record>, u64, u64)>,
}

/// Who waits for a generation of marks to begin.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Barrier {
    Checkpoint(u64),
    Resync(u64),
}

pub struct Daemon {
    pub member: Member,
    pub map: dirty::Map,
    /// The map's number up to which the journal is on the disk.
    pub map_flushed: u64,
    pub journal: JournalQueue,
    pub end: End,
    /// The greeted session the machine knows of.
    pub session: Option<u64>,
    pub inbox: VecDeque<News>,
    pub inputs: VecDeque<Input>,
    pub outputs: VecDeque<Output>,
    pub busy: Option<Busy>,
    pub gate: Gate,
    pub jobs: BTreeMap<u64, Job>,
    pub completions: BTreeMap<OpSeq, u64>,
    /// Files and directories whose order is held until an answer.
    pub locked: BTreeSet<Uid>,
    pub barriers: Vec<Barrier>,
    /// Generation at which a checkpoint of that round began.
    pub checkpoint: Option<(u64, dirty::Generation)>,
    pub incoming: VecDeque<Incoming>,
    pub applying: bool,
    pub is_applying_now: bool,
    pub source: Option<Source>,
    pub target: Option<TargetRun>,
    pub waiters: BTreeMap<u64, (Time, Word)>,
    pub next_token: u64,
    pub last_issued: OpSeq,
    pub asked: BTreeMap<u64, Asked>,
    pub is_exiting: bool,
    /// Touches at the last look, for the pressure's `quiet`.
    pub touched: u64,
    pub touched_before: u64,
}

/// A question to the witness.
#[derive(Clone)]
pub struct Asked {
    pub question: Question,
    pub until: Time,
}

#[derive(Clone)]
pub enum Question {
    Ask(Vec<Id128>, Id128),
    Tell(Box<tandem_repl::logic::record::Record>, bool),
}

impl Node {
    pub fn tree(&self) -> MutexGuard<'_, Tree> {
        self.tree.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// The target of a resync has grown into the set.
    pub fn notes_end(&self) {
        let mut notes = self.notes.lock().unwrap_or_else(PoisonError::into_inner);
        notes.unfinished = None;
    }

    pub fn boot_id(&self, index: usize) -> Id128 {
        let mut id = [0; 16];
        id[0] = index as u8 + 1;
        id[8..].copy_from_slice(&self.boot.to_le_bytes());
        Id128(id)
    }

    /// Time on the disk.
    pub fn disk_time(&mut self, least: Time, most: Time) -> Time {
        let time = least + self.rng.below(most - least + 1);
        time * self.ills.slow.max(1)
    }
}

impl Daemon {
    /// Jobs that hold the gate: admitted and not done here.
    pub fn holds_gate(&self) -> bool {
        let holds = |job: &&Job| matches!(job.stage, Stage::Marking(_) | Stage::Applying);
        self.jobs.values().any(|job| holds(&job))
    }

    /// Jobs between their mark and their local end.
    pub fn is_between(&self) -> bool {
        self.holds_gate()
    }
}

/// Names of a clean, small world, so that things collide.
pub fn name(number: u64) -> Name {
    let bytes = [b'a' + (number % 8) as u8];
    bytes.as_slice().into()
}
