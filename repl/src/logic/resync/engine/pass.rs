//! One pass, from marks to settled directories.

use super::super::messages::{Kind, Reply, Request};
use super::super::progress::{Phase, Progress};
use super::super::{Failure, Feed, PassReport, Pipe};
use super::look::Look;
use super::place::{From, Mode, Putting};
use super::plan::{Leads, Plan, TRIES};
use super::{Dir, Engine, Work, is_gone};
use crate::ids::{DirId, Key, Uid};
use crate::logic::dirty::Marks;
use std::collections::HashMap;

/// Files that are begun together.
const FILES: usize = 256;

impl<P: Pipe, F: Feed> Engine<'_, P, F> {
    /// What is to be looked at in the next pass.
    pub(super) fn begin_plan(&mut self, marks: Marks) {
        let mut plan = Plan::default();
        self.doubtful |= marks.doubtful;
        // They were met by the pass before, which does not count for what came after these marks.
        let births = &marks.births;
        let new = |uid: &Uid| {
            births
                .iter()
                .any(|b| b.origin == uid.origin && uid.number >= b.from)
        };
        self.known.retain(|uid| !new(uid));
        let mut known: HashMap<(DirId, Key), Leads> = HashMap::new();
        let tree = self.tree;
        plan.add(marks, |dir, key| {
            *known.entry((dir, key)).or_insert_with(|| {
                if key == tree.root(dir) {
                    return Leads::To(Uid::ROOT, true);
                }
                match tree.file(dir, key) {
                    Ok(entry) => Leads::To(entry.uid, entry.kind == Kind::Directory),
                    Err(errno) if is_gone(errno) => Leads::Nowhere,
                    Err(_) => Leads::Unknown,
                }
            })
        });
        plan.carry(std::mem::take(&mut self.again));
        plan.carry_wanted(std::mem::take(&mut self.plan.wanted));
        self.held.clear();
        for Dir { dir, key, uid } in &self.refused {
            plan.dirs.entry((*dir, *uid)).or_default().key = Some(*key);
            self.held.insert((*dir, *uid));
        }
        plan.set_births(self.plan.take_births());
        self.plan = plan;
    }

    /// Everything is to be compared.
    pub(super) fn walk_all(&mut self) {
        for n in 0..self.tree.dirs() {
            let dir = DirId(n);
            let root = (dir, self.tree.root(dir), Uid::ROOT);
            if !self.plan.walks.contains(&root) {
                self.plan.walks.push(root);
            }
        }
    }

    pub(super) async fn one_pass(&mut self) -> Result<(), Failure> {
        self.report = PassReport {
            number: self.report.number + 1,
            ..PassReport::default()
        };
        self.outcome.passes += 1;
        self.order.progress.pass.store(
            self.report.number.into(),
            std::sync::atomic::Ordering::Relaxed,
        );
        // Where all is compared, marks of single files and directories add nothing.
        let walked: Vec<_> = self
            .plan
            .walks
            .iter()
            .filter(|w| w.2 == Uid::ROOT)
            .collect();
        let walked: Vec<_> = walked.iter().map(|w| w.0).collect();
        self.plan.dirs.retain(|(dir, _), _| !walked.contains(dir));
        self.plan.files.retain(|(dir, _), _| !walked.contains(dir));
        self.begin_at_target(!self.plan.walks.is_empty()).await?;
        self.phase(Phase::Look);
        self.look().await?;
        self.phase(Phase::Place);
        self.place().await?;
        self.phase(Phase::Fill);
        loop {
            self.fill_marked().await?;
            self.check_left()?;
            self.look_for_linked();
            if self.plan.walks.is_empty() {
                break;
            }
            // Found only now that more than the marks must be compared.
            self.begin_at_target(true).await?;
            self.walk().await?;
        }
        self.looked.clear();
        self.compared.clear();
        self.settle_refused().await?;
        self.report.complete = self.again.is_empty() && self.refused.is_empty();
        self.outcome.sent += self.report.sent;
        self.outcome.compared += self.report.compared;
        Ok(())
    }

    fn phase(&self, phase: Phase) {
        let phase = if self.last { Phase::Last } else { phase };
        self.order.progress.set_phase(phase);
    }

    /// Tells the target that a pass begins, or that its failures are being mended.
    pub(super) async fn begin_at_target(&mut self, walks: bool) -> Result<(), Failure> {
        self.walking |= walks;
        let request = Request::Pass {
            number: self.report.number,
            last: self.last,
            walks,
        };
        match self.ask(request).await? {
            Reply::Done(_) => Ok(()),
            _ => Err(Failure::Protocol),
        }
    }

    /// Places what is marked, and then compares whole trees.
    async fn place(&mut self) -> Result<(), Failure> {
        let mut marked = Vec::new();
        for ((dir, uid), plan) in &mut self.plan.dirs {
            let Some(key) = plan.key.filter(|_| plan.found) else {
                continue;
            };
            if plan.names.is_empty() && !plan.all && !plan.meta {
                // Only the place of a marked file.
                continue;
            }
            let dir = Dir {
                dir: *dir,
                key,
                uid: *uid,
            };
            let from = if plan.all {
                From::List(0)
            } else {
                From::Names(std::mem::take(&mut plan.put))
            };
            let mode = Mode {
                whole: plan.deep || (plan.all && self.doubtful),
                ..Mode::default()
            };
            marked.push((dir, mode, from));
        }
        Progress::add(&self.order.progress.directories, marked.len() as u64);
        for (dir, mode, from) in marked {
            let node = self.nodes.open(dir, None, false);
            self.work.push(Work::Put(Putting {
                dir,
                node,
                mode,
                from,
            }));
        }
        self.work().await?;
        self.walk().await
    }

    /// Compares directories with all below them: looks, then places.
    async fn walk(&mut self) -> Result<(), Failure> {
        loop {
            let mut walks = std::mem::take(&mut self.plan.walks);
            let roots: Vec<_> = walks.iter().filter(|w| w.2 == Uid::ROOT).copied().collect();
            walks.retain(|w| w.2 == Uid::ROOT || roots.iter().all(|r| r.0 != w.0));
            self.forgetful = walks.len() == roots.len() && self.late.is_empty();
            let mut nodes = std::mem::take(&mut self.late);
            if walks.is_empty() && nodes.is_empty() {
                return Ok(());
            }
            if !walks.is_empty() {
                // From here on a file may be at the target twice, until the next pass has looked.
                self.suspect |= self.order.rules.suspect_after_power_cut;
            }
            for (dir, key, uid) in walks {
                let dir = Dir { dir, key, uid };
                nodes.push((self.nodes.open(dir, None, false), Mode::walk(true)));
            }
            for (node, _) in &nodes {
                if let Some(dir) = self.nodes.dir(*node) {
                    let look = Look {
                        dir: dir.dir,
                        uid: dir.uid,
                        key: Some(dir.key),
                        recurse: true,
                    };
                    self.work.push(Work::List(look, 0));
                }
            }
            self.work().await?;
            for (node, mode) in nodes {
                if let Some(dir) = self.nodes.dir(node) {
                    self.work.push(Work::Put(Putting {
                        dir,
                        node,
                        mode,
                        from: From::List(0),
                    }));
                }
            }
            self.work().await?;
            self.forgetful = false;
        }
    }

    /// Files that are marked and were not met on the way.
    async fn fill_marked(&mut self) -> Result<(), Failure> {
        loop {
            let some: Vec<_> = self.plan.files.keys().take(FILES).copied().collect();
            if some.is_empty() {
                return Ok(());
            }
            let mut files = Vec::new();
            for (dir, uid) in some {
                let Some(plan) = self.plan.files.remove(&(dir, uid)) else {
                    continue;
                };
                let entry = if uid == Uid::ROOT {
                    None
                } else {
                    match self.tree.file(dir, plan.key) {
                        Ok(entry) => Some(entry),
                        Err(errno) if is_gone(errno) => continue,
                        Err(errno) => {
                            return Err(Failure::Source {
                                errno,
                                what: "a marked file".into(),
                            });
                        }
                    }
                };
                self.report.looked += 1;
                match entry {
                    Some(entry) if entry.kind != Kind::Directory => {
                        let id = (dir, uid);
                        let file = self.start(id, &entry, plan.places, None, Some(plan.ranges));
                        self.set_tries(file, plan.tries);
                        files.push(file);
                    }
                    _ => {
                        let key = plan.key;
                        self.settle(Dir { dir, key, uid }, false)?;
                    }
                }
            }
            self.work.extend(files.into_iter().map(Work::Fill));
            self.work().await?;
        }
    }

    /// Directories that are marked and that the target does not have.
    fn check_left(&mut self) -> Result<(), Failure> {
        let plans = std::mem::take(&mut self.plan.dirs);
        for ((dir, uid), mut plan) in plans {
            let Some(key) = plan.key.filter(|_| !plan.found) else {
                continue;
            };
            match self.tree.file(dir, key) {
                Ok(_) => {}
                Err(errno) if is_gone(errno) => continue,
                Err(errno) => {
                    return Err(Failure::Source {
                        errno,
                        what: "a marked directory".into(),
                    });
                }
            }
            plan.tries += 1;
            if self.last || plan.tries > TRIES {
                self.anomaly(dir);
            } else {
                plan.put.clear();
                self.again.dirs.insert((dir, uid), plan);
            }
        }
        Ok(())
    }
}
