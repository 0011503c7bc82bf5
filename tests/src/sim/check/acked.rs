//! I1: acknowledged changes survive. For each node a history of what its replica may hold is kept:
//! of each register all values it was given, and from which on an answer obliges the node. When a
//! node begins to serve, its tree must lie within. After a power cut of everybody who held them,
//! only what was synced is owed.

use super::super::change::{Change, Reg, Value};
use super::super::world::World;
use super::{Violation, violation};
use std::collections::{BTreeMap, BTreeSet};

/// One register's values, oldest first, each with the change that gave it.
#[derive(Clone, Debug, Default)]
struct Past {
    values: Vec<(Value, u64)>,
    /// Those before it may not come back: it was acknowledged.
    acked: usize,
    /// The same for what was synced.
    synced: usize,
}

#[derive(Clone, Default)]
struct History {
    regs: BTreeMap<Reg, Past>,
    /// The page cache was lost since this history was begun or taken over.
    was_cut: bool,
    /// What the node holds is this history's.
    is_current: bool,
    /// At the cut nobody else held what it had not synced, or the peer may have been told by then
    /// that it does not count any more.
    was_only: bool,
    /// It told its peer that it goes on alone.
    has_told: bool,
    /// Its disk failed to take something, and applications were told: what it holds after a power
    /// cut is nobody's promise.
    is_tainted: bool,
}

#[derive(Default)]
pub struct Acked {
    histories: [History; 2],
    /// Registers of changes not yet answered; of syncs those on disk afterwards, with the place.
    open: BTreeMap<u64, Vec<(Reg, usize)>>,
    has_begun: bool,
    /// Changes that have more than one register: all of them or none.
    whole: BTreeMap<u64, Vec<Reg>>,
}

impl Acked {
    pub fn has_begun(&self) -> bool {
        self.has_begun
    }

    pub fn is_current(&self, n: usize) -> bool {
        self.histories[n].is_current
    }

    /// A change was applied on the serving node: new value, register, old value.
    pub fn issue(&mut self, n: usize, id: u64, sets: Vec<(Value, Reg, Value)>, both: bool) {
        let regs: Vec<_> = sets.iter().map(|(_, reg, _)| (reg.clone(), 0)).collect();
        if regs
            .iter()
            .filter(|(r, _)| matches!(r, Reg::Entry(..)))
            .count()
            > 1
        {
            let entries = regs.iter().map(|(reg, _)| reg.clone());
            self.whole.insert(id, entries.collect());
        }
        self.open.insert(id, regs);
        // One that the peer has gone on without ships to nobody.
        let both = both && self.histories.iter().all(|h| h.is_current);
        for side in [n, 1 - n] {
            if side != n && !both {
                continue;
            }
            for (value, reg, old) in &sets {
                let past = self.histories[side].regs.entry(reg.clone()).or_default();
                if past.values.is_empty() {
                    past.values.push((*old, 0));
                }
                past.values.push((*value, id));
            }
        }
    }

    /// A sync begins: what was applied before is on the disk when it is answered.
    pub fn begin_sync(&mut self, n: usize, id: u64, change: &Change) {
        let regs = self.histories[n]
            .regs
            .iter()
            .filter(|(reg, _)| match change {
                Change::Fsync { uid } => reg.uid() == *uid && !matches!(reg, Reg::Entry(..)),
                _ => true,
            });
        let regs = regs.map(|(reg, past)| (reg.clone(), past.values.last().map_or(0, |v| v.1)));
        let regs = regs.map(|(reg, id)| (reg, id as usize));
        self.open.insert(id, regs.collect());
    }

    pub fn failed(&mut self, id: u64) {
        self.open.remove(&id);
    }

    pub fn acknowledge(&mut self, n: usize, id: u64, alone: bool, sync: bool) {
        let Some(regs) = self.open.remove(&id) else {
            return;
        };
        for side in [n, 1 - n] {
            if side != n && (alone || !self.histories[side].is_current) {
                continue;
            }
            for (reg, upto) in &regs {
                let Some(past) = self.histories[side].regs.get_mut(reg) else {
                    continue;
                };
                let wanted = if sync { *upto as u64 } else { id };
                let Some(at) = past.values.iter().rposition(|(_, by)| *by == wanted) else {
                    continue;
                };
                if sync {
                    past.synced = past.synced.max(at);
                }
                past.acked = past.acked.max(at);
            }
        }
    }

    /// Power is lost; `alone`: its record says that the set is this node, so what the peer holds is
    /// not the volume any more.
    pub fn cut(&mut self, n: usize, alone: bool) {
        let other = &self.histories[1 - n];
        let (other_cut, other_holds) = (other.was_cut, other.is_current && !other.was_cut);
        let other_tainted = other.is_tainted;
        let own = &mut self.histories[n];
        own.was_cut = true;
        own.was_only |= alone || !other_holds || other_tainted || own.has_told;
        if other_cut {
            self.histories[1 - n].was_only = true;
        }
    }

    /// The node asks its peer to stand back.
    pub fn told(&mut self, n: usize) {
        self.histories[n].has_told = true;
    }

    /// The operator gives up what this node holds, and what only it holds.
    pub fn given_up(&mut self, n: usize) {
        self.histories[1 - n].was_only = true;
    }

    /// It was stopped in order: all that it answered for is on its disk.
    pub fn stopped(&mut self, n: usize) {
        for past in self.histories[n].regs.values_mut() {
            past.synced = past.synced.max(past.acked);
        }
    }

    pub fn sync_failed(&mut self, n: usize) {
        self.histories[n].is_tainted = true;
        self.disk_failed(n);
    }

    /// As bad for its replica as a loss of power: what a peer that lost its power had not synced
    /// was held here only.
    pub fn disk_failed(&mut self, n: usize) {
        if self.histories[1 - n].was_cut {
            self.histories[1 - n].was_only = true;
        }
    }

    /// The target has all that the source has.
    pub fn grown(&mut self, source: usize, target: usize) {
        self.histories[target] = self.histories[source].clone();
        self.histories[target].was_cut = false;
        self.histories[target].was_only = false;
        for side in [source, target] {
            self.histories[side].has_told = false;
            // The target may have said it of the source while they were apart.
            self.histories[side].is_current = true;
        }
        self.histories[target].is_tainted = false;
    }

    /// The replica of the peer is not good any more: it owes nothing.
    pub fn left_behind(&mut self, n: usize) {
        self.histories[n].is_current = false;
    }

    /// A node serves from what it holds now; what it does not hold is undone.
    pub fn serves(&mut self, n: usize, now: &BTreeMap<Reg, Value>, forced: bool) {
        self.has_begun = true;
        let history = &mut self.histories[n];
        history.was_cut = false;
        history.was_only = false;
        history.is_current = true;
        if forced {
            history.regs.clear();
        }
        let mut known: BTreeSet<Reg> = history.regs.keys().cloned().collect();
        known.extend(now.keys().cloned());
        for reg in known {
            if !now.contains_key(&Reg::Mode(reg.uid())) {
                // Without a name; a power cut may bring it back as it was.
                continue;
            }
            let value = now.get(&reg).copied().flatten();
            let past = history.regs.entry(reg).or_default();
            let at = past.values.iter().rposition(|(v, _)| *v == value);
            match at {
                Some(at) => past.values.truncate(at + 1),
                None => past.values.push((value, 0)),
            }
            past.acked = past.values.len() - 1;
            past.synced = past.synced.min(past.acked);
        }
    }

    /// Where a value stands in a node's history: the latest place.
    pub fn place(&self, n: usize, reg: &Reg, value: Value) -> Option<usize> {
        let past = self.histories[n].regs.get(reg)?;
        past.values.iter().rposition(|(v, _)| *v == value)
    }
}

/// A node begins to serve, unforced.
pub(super) fn judge(world: &World, n: usize) -> Result<(), Violation> {
    let checks = &world.checks.acked;
    let history = &checks.histories[n];
    let waited = world.options.after_power_loss.is_some();
    let only_synced = history.was_cut && (history.was_only || waited);
    if history.was_cut && history.is_tainted {
        return Ok(());
    }
    let tree = world.nodes[n].tree();
    let registers = tree.registers();
    for (reg, past) in &history.regs {
        if !registers.contains_key(&Reg::Mode(reg.uid())) {
            // Not to be reached: a name above it says whether it should be.
            continue;
        }
        let floor = if only_synced { past.synced } else { past.acked };
        let value = registers.get(reg).copied().flatten();
        let allowed = &past.values[floor.min(past.values.len())..];
        if !allowed.iter().any(|(v, _)| *v == value) {
            return violation(
                "I1 acknowledged changes survive",
                format!(
                    "{} begins to serve with {reg:?} = {value:?}; acknowledged{}: {:?} and later \
                     {:?}",
                    super::super::node::NAMES[n],
                    if only_synced { " and synced" } else { "" },
                    allowed.first(),
                    allowed.get(1..).unwrap_or_default(),
                ),
            );
        }
    }
    for (reg, value) in &registers {
        let known = history.regs.contains_key(reg);
        let initial = matches!(reg, Reg::Mode(_) | Reg::Size(_));
        if !known && !initial && value.is_some() {
            return violation(
                "I1 nothing comes from nowhere",
                format!(
                    "{} begins to serve with {reg:?} = {value:?}, which nobody did",
                    super::super::node::NAMES[n]
                ),
            );
        }
    }
    Ok(())
}
