//! The source of a resync. One pass: [`look`] at what both have and park what differs, [`place`]
//! entries top down, [`fill`] files, [`settle`] directories; [`union`] takes the target's marks in.
//!
//! Requests are sent ahead, up to a window; what is to be done with each reply stands in a queue
//! beside its ticket. What a reply leads to is put on a stack of work, so that a tree is walked
//! depth first in bounded memory. Nothing here recurses, and nothing waits for one file.

mod fill;
mod look;
mod pass;
mod place;
mod plan;
mod settle;
mod union;

use super::bounded::Name;
use super::messages::{Open, PeerMark, Reply, Request, Whole};
use super::progress::{Phase, Progress};
use super::{Failure, Feed, Next, Order, Outcome, PassReport, Pipe, Since, SourceTree, Ticket};
use crate::ids::{DirId, Key, Uid};
use fill::{Batch, Differing, Filling};
use look::{Checking, Look};
use place::{Mode, Placing, Putting};
use plan::Plan;
use settle::{Nodes, Settling};
use std::collections::{BTreeSet, HashSet, VecDeque};

/// Requests without a taken reply.
const WINDOW: usize = 64;
/// Most bytes that lists of entries or attributes take in one request.
const REQUEST: usize = 128 * 1024;
/// What a listing counts for in the pace, bytes.
const LIST_COST: u64 = 32 * 1024;
/// What an entry that is looked at counts for in the pace, bytes.
const ENTRY_COST: u64 = 512;

/// A directory as both ends name it.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
struct Dir {
    dir: DirId,
    key: Key,
    uid: Uid,
}

/// What is to be done with a reply.
enum Then {
    /// Any failure is fatal.
    Done,
    Resolved(Vec<(DirId, Uid)>),
    Listed(Look),
    Checked(Checking),
    Placed(Placing),
    Files(Vec<usize>),
    /// A part of a file was written.
    Wrote(usize),
    Differ(Vec<Differing>),
    Settled(Vec<Dir>),
}

/// What is to be done next; the last is done first.
enum Work {
    /// Ask the target for the entries of a directory.
    List(Look, u64),
    /// Look up these names here, and have the target check them.
    Names(Look, Vec<Name>),
    Check(Checking),
    /// The target need not remember this directory.
    Forget(DirId, Uid),
    /// Put the next entries of a directory.
    Put(Putting),
    Fill(usize),
    Copy(usize, u64),
    Hash(usize, Vec<(u64, u64)>),
    Send(usize, Vec<(u64, u64)>),
    Finish(usize),
}

struct Engine<'a, P, F> {
    tree: &'a dyn SourceTree,
    pipe: &'a P,
    feed: &'a F,
    order: Order,
    flight: VecDeque<(Ticket, Then)>,
    work: Vec<Work>,
    plan: Plan,
    /// For the next pass.
    again: Plan,
    /// Directories that do not count as whole yet, children before parents.
    refused: Vec<Dir>,
    /// Those of earlier passes: the target must know them at the end of this one.
    held: HashSet<(DirId, Uid)>,
    nodes: Nodes,
    /// Open nodes that are to be looked at before they are placed.
    late: Vec<(usize, Mode)>,
    /// Directories that stand nowhere at the target, and were looked at in this pass.
    looked: HashSet<(DirId, Uid)>,
    /// Directories born since the replicas were equal whose entries were all placed; what changed
    /// in them since is marked.
    known: HashSet<Uid>,
    /// Directories that were parked and not placed since.
    away: BTreeSet<(DirId, Uid)>,
    /// Files with several names that were compared in this pass.
    compared: HashSet<(DirId, Uid)>,
    filling: Vec<Option<Filling>>,
    idle: Vec<usize>,
    batch: Batch,
    settles: Vec<Settling>,
    forgets: Vec<(DirId, Uid)>,
    /// Marks of the target's whose files are not here, or were not found yet.
    unfound: Vec<PeerMark>,
    /// Marked by the target with several names, and not found here by the one it told.
    linked: HashSet<(DirId, Uid)>,
    /// See [`Reply::Opened`].
    resumed: bool,
    /// The target has deep directories: a file that is moved may come out of one.
    peer_deep: bool,
    /// Whatever a marked name leads to must be compared.
    suspect: bool,
    /// The content of files at marked names must be compared; see [`Marks::doubtful`].
    ///
    /// [`Marks::doubtful`]: crate::logic::dirty::Marks::doubtful
    doubtful: bool,
    /// Whole trees are compared in this session.
    walking: bool,
    /// Whole trees are being walked, each once: what was left behind need not be remembered.
    forgetful: bool,
    last: bool,
    report: PassReport,
    outcome: Outcome,
    buf: Vec<u8>,
}

/// See [`super::run`].
pub(super) async fn run<P: Pipe, F: Feed>(
    tree: &dyn SourceTree,
    pipe: &P,
    feed: &F,
    order: Order,
) -> Result<Outcome, Failure> {
    let mut engine = Engine {
        tree,
        pipe,
        feed,
        order,
        flight: VecDeque::new(),
        work: Vec::new(),
        plan: Plan::default(),
        again: Plan::default(),
        refused: Vec::new(),
        held: HashSet::new(),
        nodes: Nodes::default(),
        late: Vec::new(),
        looked: HashSet::new(),
        known: HashSet::new(),
        away: BTreeSet::new(),
        compared: HashSet::new(),
        filling: Vec::new(),
        idle: Vec::new(),
        batch: Batch::default(),
        settles: Vec::new(),
        forgets: Vec::new(),
        suspect: false,
        doubtful: false,
        resumed: false,
        peer_deep: false,
        unfound: Vec::new(),
        linked: HashSet::new(),
        walking: false,
        forgetful: false,
        last: false,
        report: PassReport::default(),
        outcome: Outcome::default(),
        buf: Vec::new(),
    };
    engine.session().await
}

impl<P: Pipe, F: Feed> Engine<'_, P, F> {
    async fn session(&mut self) -> Result<Outcome, Failure> {
        let open = Open {
            baseline: self.order.baseline,
            aside: self.order.aside.clone(),
            marks: self.order.peer_marks,
            checkpoints: self.order.checkpoints,
        };
        let Reply::Opened {
            boot,
            suspect,
            resumed,
            checkpoints,
        } = self.ask(Request::Open(open)).await?
        else {
            return Err(Failure::Protocol);
        };
        self.suspect = suspect && self.order.rules.suspect_after_power_cut;
        self.resumed = resumed;
        let mut since = Since::Start { boot, checkpoints };
        loop {
            let marks = self.feed.next_marks(since).await?;
            let everything = marks.everything;
            self.begin_plan(marks);
            if since != Since::Last {
                self.plan.add_births(&self.feed.births());
            }
            if since != Since::Last && self.order.peer_marks && self.order.rules.union_of_marks {
                self.take_peer_marks().await?;
            } else {
                self.look_for_unfound()?;
            }
            if everything {
                self.walk_all();
            }
            since = Since::Last;
            self.one_pass().await?;
            if self.last {
                break;
            }
            self.order.progress.set_phase(Phase::Flush);
            self.ask(Request::Flush).await?;
            if !self.order.rules.take_before_read {
                // Broken on purpose: what was marked while this pass read is taken for done.
                self.feed.next_marks(Since::Last).await?;
            }
            if !self.order.rules.sweep_last {
                self.ask(Request::Sweep).await?;
            }
            self.order.progress.set_phase(Phase::Wait);
            self.last = self.feed.passed(self.report).await? == Next::Last;
        }
        // What was done is on disk before the note goes that says it may be incomplete.
        if self.order.rules.last_flush {
            self.ask(Request::Flush).await?;
        }
        self.ask(Request::Sweep).await?;
        self.order.progress.set_phase(Phase::Done);
        Ok(self.outcome)
    }

    /// One request, and its reply; nothing else may be under way.
    async fn ask(&mut self, request: Request) -> Result<Reply, Failure> {
        let ticket = self.pipe.send(request).await?;
        let reply = self.pipe.reply(ticket).await?;
        Progress::add(&self.order.progress.replies, 1);
        match reply {
            Reply::Failed { errno, what } => Err(Failure::Target { errno, what }),
            reply => Ok(reply),
        }
    }

    /// Sends a request; its reply comes later.
    async fn post(&mut self, request: Request, then: Then) -> Result<(), Failure> {
        while self.flight.len() >= WINDOW {
            self.take().await?;
        }
        let ticket = self.pipe.send(request).await?;
        self.flight.push_back((ticket, then));
        Ok(())
    }

    /// Takes the oldest reply.
    async fn take(&mut self) -> Result<(), Failure> {
        let Some((ticket, then)) = self.flight.pop_front() else {
            return Ok(());
        };
        let reply = self.pipe.reply(ticket).await?;
        Progress::add(&self.order.progress.replies, 1);
        match (then, reply) {
            (Then::Done, Reply::Done(errnos)) => match errnos.iter().find(|e| **e != 0) {
                Some(errno) => Err(target_failed(*errno, "a request")),
                None => Ok(()),
            },
            (Then::Resolved(dirs), Reply::Resolved(steps)) => self.resolved(&dirs, &steps),
            (Then::Listed(look), Reply::Listed { entries, next }) => {
                self.listed(look, entries, next)
            }
            (Then::Listed(look), Reply::Failed { errno, what }) => {
                self.missed(&look, None, errno, &what)
            }
            (
                Then::Checked(checking),
                Reply::Checked {
                    seen,
                    parked,
                    doubles,
                },
            ) => {
                self.doubled(checking.look.dir, &doubles);
                self.empty(checking.look.dir, &parked);
                self.checked(checking, &seen)
            }
            (Then::Checked(checking), Reply::Failed { errno, what }) => {
                let names = checking.entries.into_iter().map(|(name, _)| name);
                self.missed(&checking.look, Some(names.collect()), errno, &what)
            }
            (
                Then::Placed(placing),
                Reply::Placed {
                    placed,
                    parked,
                    doubles,
                },
            ) => {
                self.doubled(placing.dir.dir, &doubles);
                self.away
                    .extend(parked.iter().map(|uid| (placing.dir.dir, *uid)));
                self.placed(placing, &placed)
            }
            (Then::Placed(placing), Reply::Failed { errno, what }) => {
                self.put_failed(placing, errno, &what)
            }
            (Then::Files(files), Reply::Done(errnos)) => self.filed(&files, &errnos),
            (Then::Wrote(file), Reply::Done(errnos)) => {
                self.wrote(file, errnos.first().copied().unwrap_or(0))
            }
            (Then::Differ(parts), Reply::Differ(differ)) => self.differ(parts, differ),
            (Then::Settled(dirs), Reply::Settled { refused }) => {
                self.settled(&dirs, &refused);
                Ok(())
            }
            (_, Reply::Failed { errno, what }) => Err(Failure::Target { errno, what }),
            _ => Err(Failure::Protocol),
        }
    }

    /// Works until nothing is left to do and no reply is outstanding.
    async fn work(&mut self) -> Result<(), Failure> {
        loop {
            if self.settles.len() >= settle::MOST {
                self.post_settles().await?;
            } else if let Some(work) = self.work.pop() {
                self.step(work).await?;
            } else if !self.flight.is_empty() {
                self.take().await?;
            } else if !self.batch.is_empty() {
                self.post_batch().await?;
            } else if !self.settles.is_empty() {
                self.post_settles().await?;
            } else if !self.forgets.is_empty() {
                self.post_forgets().await?;
            } else {
                return Ok(());
            }
        }
    }

    async fn step(&mut self, work: Work) -> Result<(), Failure> {
        match work {
            Work::List(look, cookie) => {
                let request = Request::List {
                    dir: look.dir,
                    parent: look.uid,
                    cookie,
                };
                self.feed.permit(LIST_COST).await?;
                self.post(request, Then::Listed(look)).await
            }
            Work::Names(look, names) => self.look_up(look, names).await,
            Work::Check(checking) => self.post_check(checking).await,
            Work::Forget(dir, uid) => self.forget(dir, uid).await,
            Work::Put(putting) => self.put_next(putting).await,
            Work::Fill(file) => self.fill(file).await,
            Work::Copy(file, at) => self.copy(file, at).await,
            Work::Hash(file, ranges) => self.hash(file, ranges).await,
            Work::Send(file, runs) => self.send(file, runs).await,
            Work::Finish(file) => self.finish(file).await,
        }
    }

    /// An errno of the target: fatal if nothing will mend it, or if there is no later pass.
    fn judge(&self, errno: i32, what: &str) -> Result<(), Failure> {
        if self.last || is_fatal(errno) {
            return Err(target_failed(errno, what));
        }
        Ok(())
    }
}

fn target_failed(errno: i32, what: &str) -> Failure {
    Failure::Target {
        errno,
        what: what.into(),
    }
}

/// `EIO`, `ENOSPC`, `EROFS`, `EDQUOT`, `ENOMEM`: the target, not a race.
fn is_fatal(errno: i32) -> bool {
    matches!(errno, 5 | 28 | 30 | 122 | 12)
}

/// The file is gone at the source.
fn is_gone(errno: i32) -> bool {
    matches!(errno, 2 | 116)
}

/// Of a file's whole data that goes with its attributes in one request.
fn weight(whole: &Whole) -> usize {
    let xattrs = whole.attrs.xattrs.iter();
    let xattrs: usize = xattrs.map(|(n, v)| n.len() + v.len() + 8).sum();
    160 + xattrs + whole.data.as_ref().map_or(0, |d| d.0.len())
}
