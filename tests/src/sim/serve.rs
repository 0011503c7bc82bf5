//! The way of a change on the serving node, step by step as the file system service and the driver
//! go it: gate, mark, the mark's flush, the tree, the stream, the peer's answer, the answer.

mod gate;
mod journal;

use super::change::Change;
use super::check::Held;
use super::node::{Busy, Job, Stage};
use super::resync;
use super::tree::Tree;
use super::world::{Local, World};
use super::{Msg, Time};
use tandem_repl::ids::{OpSeq, Uid};
use tandem_repl::logic::acks::AckOutcome;
use tandem_repl::logic::dirty::Cover;
use tandem_repl::logic::member::{Gate, Input};

pub const EROFS: i32 = 30;

impl World {
    /// A client's change arrives at the daemon.
    pub fn issue(&mut self, n: usize, client: usize, change: Change) {
        let id = self.next_job;
        self.next_job += 1;
        let now = self.now;
        let locks = {
            let tree = self.nodes[n].tree.clone();
            let tree = tree
                .lock()
                .unwrap_or_else(std::sync::PoisonError::into_inner);
            locks(&change, &tree)
        };
        let Some(daemon) = self.nodes[n].daemon.as_mut() else {
            return;
        };
        daemon.locked.extend(locks.iter().copied());
        daemon.jobs.insert(
            id,
            Job {
                client,
                change,
                stage: Stage::Waiting,
                locks,
                id,
                issued: now,
                gate: daemon.gate,
                epoch: None,
                seq: None,
                local_done: false,
                peer_done: false,
            },
        );
        self.admit(n, id);
    }

    /// Lets a waiting change in, if gate and generation allow.
    fn admit(&mut self, n: usize, id: u64) {
        let rules = self.options.rules;
        let (tree, ills) = (self.nodes[n].tree.clone(), self.nodes[n].ills);
        let Some(daemon) = self.nodes[n].daemon.as_mut() else {
            return;
        };
        let waits = matches!(daemon.busy, Some(Busy::Gating(_))) || !daemon.barriers.is_empty();
        let gate = daemon.gate;
        if waits || gate == Gate::Frozen {
            return;
        }
        if gate == Gate::ReadOnly {
            return self.answer(n, id, Err(EROFS));
        }
        let epoch = daemon.member.record().epoch.as_ref().map(|e| e.id);
        let Some(job) = daemon.jobs.get_mut(&id) else {
            return;
        };
        job.gate = gate;
        job.epoch = epoch;
        if job.change.is_sync() {
            return self.begin_sync(n, id);
        }
        let tree = tree
            .lock()
            .unwrap_or_else(std::sync::PoisonError::into_inner);
        let full = ills.is_full && job.change.grows();
        if let Err(errno) = job.change.check(&tree) {
            drop(tree);
            return self.answer(n, id, Err(errno));
        }
        if full {
            drop(tree);
            return self.answer(n, id, Err(super::tree::ENOSPC));
        }
        let mut needs = 0;
        let map = &mut daemon.map;
        if let Change::Make { uid, .. } = &mut job.change {
            *uid = map.next_uid();
        }
        resync::touch_all(&job.change, &tree, map, &mut |cover| {
            if let Cover::Needs(seq) = cover {
                needs = needs.max(seq);
            }
        });
        drop(tree);
        daemon.touched += 1;
        if needs == 0 || !rules.mark_first {
            job.stage = Stage::Applying;
            if needs != 0 {
                self.flush_journal(n);
            }
            self.later(n, 20, 200, Local::Applied(id));
        } else {
            job.stage = Stage::Marking(needs);
            self.flush_journal(n);
        }
    }

    /// The change reaches the tree, and the stream.
    pub fn on_applied(&mut self, n: usize, id: u64) {
        let node = &mut self.nodes[n];
        let Some(daemon) = node.daemon.as_mut() else {
            return;
        };
        let Some(job) = daemon.jobs.get_mut(&id) else {
            return;
        };
        let tree = node.tree.clone();
        let mut tree = tree
            .lock()
            .unwrap_or_else(std::sync::PoisonError::into_inner);
        let regs = job.change.sets(&tree);
        let loser = resync::loser(&job.change, &tree);
        let before: Vec<_> = regs.iter().map(|reg| tree.value(reg)).collect();
        if let Err(errno) = job.change.apply(&mut tree) {
            drop(tree);
            self.answer(n, id, Err(errno));
            return self.gate_moves(n);
        }
        resync::after(&job.change, &tree, loser, &mut daemon.map);
        if node.rng.chance(3) {
            tree.write_back_some(&mut node.rng);
        }
        let sets = regs.into_iter().zip(before);
        let sets: Vec<_> = sets.map(|(r, old)| (tree.value(&r), r, old)).collect();
        drop(tree);
        let both = job.gate == Gate::Replicated;
        job.local_done = true;
        job.stage = Stage::Shipped;
        let change = job.change.clone();
        self.trace(|| format!("{} applies {id} {change:?}", super::node::NAMES[n]));
        self.checks.acked.issue(n, id, sets, both);
        if both {
            self.ship(n, id);
        } else {
            self.acknowledge(n, id, true);
            self.answer(n, id, Ok(()));
        }
        self.gate_moves(n);
    }

    fn ship(&mut self, n: usize, id: u64) {
        let now = self.clock(n);
        let Some(daemon) = self.nodes[n].daemon.as_mut() else {
            return;
        };
        let seq = daemon.member.acks.issue(now);
        daemon.last_issued = seq;
        daemon.completions.insert(seq, id);
        let Some(job) = daemon.jobs.get_mut(&id) else {
            return;
        };
        job.seq = Some(seq);
        let change = job.change.clone();
        self.send(n, Msg::Op(seq, id, change));
    }

    /// A sync goes to the peer and to this node's disk at once.
    fn begin_sync(&mut self, n: usize, id: u64) {
        let Some(daemon) = self.nodes[n].daemon.as_mut() else {
            return;
        };
        let Some(job) = daemon.jobs.get_mut(&id) else {
            return;
        };
        job.stage = Stage::Shipped;
        let both = job.gate == Gate::Replicated;
        let change = job.change.clone();
        self.trace(|| format!("{} begins {id} {change:?}", super::node::NAMES[n]));
        self.checks.acked.begin_sync(n, id, &change);
        if both {
            self.ship(n, id);
        }
        let time = self.nodes[n].disk_time(1000, 8000);
        self.after(n, time, Local::Synced(id));
        self.gate_moves(n);
    }

    /// This node's disk is done with a sync of an application.
    pub fn on_synced(&mut self, n: usize, id: u64) {
        let fails = self.nodes[n].ills.sync_fails;
        let node = &mut self.nodes[n];
        let Some(job) = node.daemon.as_mut().and_then(|d| d.jobs.get_mut(&id)) else {
            return;
        };
        let change = job.change.clone();
        job.local_done = true;
        let done = job.peer_done || job.gate == Gate::Alone;
        let alone = job.gate == Gate::Alone;
        let tree = node.tree.clone();
        let mut tree = tree
            .lock()
            .unwrap_or_else(std::sync::PoisonError::into_inner);
        if fails {
            tree.sync_fails(&mut node.rng);
            drop(tree);
            self.checks.acked.sync_failed(n);
            let what = "fsync: input/output error".to_string();
            self.tell(n, Input::LocalFailed { what });
            return self.answer(n, id, Err(super::tree::EIO));
        }
        sync(&mut tree, &change);
        drop(tree);
        if done {
            self.acknowledge(n, id, alone);
            self.answer(n, id, Ok(()));
        }
    }

    /// The peer's answer to an operation arrives.
    pub fn on_ack(&mut self, n: usize, session: u64, seq: OpSeq, errno: i32) {
        let now = self.clock(n);
        let Some(daemon) = self.nodes[n].daemon.as_mut() else {
            return;
        };
        if daemon.end.conn != Some(session) {
            return;
        }
        match daemon.member.acknowledge(now, seq, errno) {
            AckOutcome::Complete => self.peer_done(n, seq, false),
            AckOutcome::PeerFailed { errno } => {
                self.news(n, super::node::News::PeerFailed(session, errno));
            }
            AckOutcome::Held | AckOutcome::Unknown => {}
        }
    }

    /// Nothing is waited for from the peer any more.
    pub fn peer_done(&mut self, n: usize, seq: OpSeq, alone: bool) {
        let Some(daemon) = self.nodes[n].daemon.as_mut() else {
            return;
        };
        let Some(id) = daemon.completions.remove(&seq) else {
            return;
        };
        let Some(job) = daemon.jobs.get_mut(&id) else {
            return;
        };
        job.peer_done = true;
        if job.local_done {
            self.acknowledge(n, id, alone);
            self.answer(n, id, Ok(()));
        }
    }

    /// The oracles hear that a change is about to be answered.
    fn acknowledge(&mut self, n: usize, id: u64, alone: bool) {
        let Some(job) = self.nodes[n].daemon.as_ref().and_then(|d| d.jobs.get(&id)) else {
            return;
        };
        let sync = job.change.is_sync();
        let held = Held {
            node: n,
            id,
            alone,
            sync,
        };
        self.judge_ack(&held);
    }

    /// Ends a change.
    pub fn answer(&mut self, n: usize, id: u64, result: Result<(), i32>) {
        let now = self.now;
        let Some(daemon) = self.nodes[n].daemon.as_mut() else {
            return;
        };
        let Some(job) = daemon.jobs.remove(&id) else {
            return;
        };
        for uid in &job.locks {
            daemon.locked.remove(uid);
        }
        let waited = now - job.issued;
        self.stats.answered += 1;
        self.trace(|| format!("{} answers {id}: {result:?}", super::node::NAMES[n]));
        if result.is_err() {
            self.checks.acked.failed(id);
        }
        self.client_answered(job.client, n, result, waited);
    }

    /// Time of a step within the daemon, in microseconds.
    pub fn later(&mut self, n: usize, least: Time, most: Time, what: Local) {
        let time = least + self.nodes[n].rng.below(most - least + 1);
        self.after(n, time, what);
    }
}

/// What a sync brings to the disk.
pub fn sync(tree: &mut super::tree::Tree, change: &Change) {
    match change {
        Change::Fsync { uid } => match tree.find(*uid) {
            Some(ino) => tree.sync_file(ino),
            // Removed since it was asked for; who asked has it open still.
            None => tree.sync_names(),
        },
        _ => tree.sync_all(),
    }
}

/// What the kernel holds locked until a change is answered: directories whose names change, and
/// the files that the names lead to.
pub fn locks(change: &Change, tree: &Tree) -> Vec<Uid> {
    let at = |dir: &Uid, name: &[u8]| {
        let ino = tree.lookup(tree.find(*dir)?, name).ok()??;
        tree.get(ino).ok()?.meta.uid
    };
    match change {
        Change::Make { dir, .. } => vec![*dir],
        Change::Unlink { dir, name } | Change::Rmdir { dir, name } => {
            [Some(*dir), at(dir, name)].into_iter().flatten().collect()
        }
        Change::Link { uid, dir, .. } => vec![*uid, *dir],
        Change::Rename {
            dir,
            name,
            new_dir,
            new_name,
        } => {
            let all = [
                Some(*dir),
                Some(*new_dir),
                at(dir, name),
                at(new_dir, new_name),
            ];
            all.into_iter().flatten().collect()
        }
        Change::Write { uid, .. } | Change::Truncate { uid, .. } | Change::Mode { uid, .. } => {
            vec![*uid]
        }
        Change::Fsync { .. } | Change::SyncAll => Vec::new(),
    }
}
