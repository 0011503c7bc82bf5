//! A node's durable knowledge of its replica, and what two such records say about each other.
//!
//! An epoch is a period in which one server and one fixed set of nodes acknowledge writes. Its id
//! is random; whether one replica contains all of another's acknowledged writes is decided by
//! ancestry (is the other's epoch in my list of ended ones?), never by the number alone, which is
//! for people.

use crate::ids::Id128;
use serde::{Deserialize, Serialize};

/// Ended epochs remembered, the newest kept. A node away for more changes of the set than this is
/// no longer recognised as an ancestor and is refused, never guessed.
pub const MAX_ENDED: usize = 1024;
/// Own intents given up and remembered for the peer, the newest kept. A lost one can only make
/// the witness refuse.
pub const MAX_VOID: usize = 64;

#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Epoch {
    pub number: u64,
    pub id: Id128,
    /// The epoch this one followed; all zero for the first.
    pub parent: Id128,
    /// Names of the nodes that must hold a write before it is acknowledged; sorted.
    pub set: Vec<String>,
}

/// Durable state of one node of one module.
#[derive(Clone, Debug, PartialEq, Eq, Default, Serialize, Deserialize)]
pub struct Record {
    /// All zero until the volume's first epoch.
    pub volume: Id128,
    pub epoch: Option<Epoch>,
    /// Ids of the epochs that ended before `epoch`, oldest first, and of intents given up, own
    /// ones and the peer's.
    pub ended: Vec<Id128>,
    /// Id of the epoch this node is about to begin and may have asked the witness for.
    pub intent: Option<Id128>,
    /// Those of `ended` that were own intents: the peer is told at the next session, so that
    /// either finds in its list what the witness may hold.
    pub void: Vec<Id128>,
    /// The daemon ended in order, nothing was in flight.
    pub clean: bool,
    /// This copy was good when I left; I promised not to serve alone.
    pub left: bool,
    /// This copy is not good.
    pub stale: bool,
    /// Cut off uncleanly and booted again: what was not flushed is gone. Ended by growth.
    pub lost: bool,
    /// A flush failed in the boot below: pages the kernel calls clean may not be on the disk, so
    /// that a later flush proves nothing. Ended by growth as the target, and by another boot.
    pub flush_failed: bool,
    /// I served last.
    pub served: bool,
    /// Boot in which this was written.
    pub boot: Id128,
}

impl Record {
    /// The record of a new epoch after this one's, served by this node with the given set. What
    /// was gone after a power cut stays gone, an intent for another epoch is given up.
    pub fn next_epoch(&self, id: Id128, volume: Id128, mut set: Vec<String>) -> Self {
        set.sort();
        let mut next = self.clone();
        if next.intent == Some(id) {
            next.intent = None;
        }
        next.give_up_intent();
        let (number, parent) = match &self.epoch {
            Some(e) => (e.number + 1, e.id),
            None => (1, Id128::default()),
        };
        if self.epoch.is_some() {
            next.list_ended(&[parent]);
        } else {
            next.volume = volume;
        }
        next.epoch = Some(Epoch {
            number,
            id,
            parent,
            set,
        });
        next.clean = false;
        next.left = false;
        next.stale = false;
        next.served = true;
        next
    }

    /// The record of growth on the source: both nodes hold everything.
    pub fn grown(&self, id: Id128, set: Vec<String>) -> Self {
        Self {
            lost: false,
            ..self.next_epoch(id, self.volume, set)
        }
    }

    /// This record with `source`'s epoch in place of its own, after growth: `source` listed what
    /// this node had given up when they met.
    pub fn adopted(&self, source: &Self) -> Self {
        let mut adopted = Self {
            intent: None,
            void: Vec::new(),
            clean: false,
            left: false,
            stale: false,
            lost: false,
            served: false,
            boot: self.boot,
            ..source.clone()
        };
        adopted.list_ended(&self.void);
        adopted
    }

    /// Gives the open intent up: an answer to it that still comes is void.
    pub fn give_up_intent(&mut self) {
        let Some(id) = self.intent.take() else { return };
        self.list_ended(&[id]);
        self.void.push(id);
        let surplus = self.void.len().saturating_sub(MAX_VOID);
        self.void.drain(..surplus);
    }

    /// Lists what the peer gave up. Returns whether any was new.
    pub fn list_void(&mut self, ids: &[Id128]) -> bool {
        let new = ids.iter().any(|id| !self.ended.contains(id));
        self.list_ended(ids);
        new
    }

    /// Appends what is not listed yet and keeps the bound.
    pub fn list_ended(&mut self, ids: &[Id128]) {
        for id in ids {
            if !self.ended.contains(id) {
                self.ended.push(*id);
            }
        }
        let surplus = self.ended.len().saturating_sub(MAX_ENDED);
        self.ended.drain(..surplus);
    }

    /// All ids the witness may hold without anybody having gone another way: ended ones and the
    /// current one.
    pub fn list(&self) -> Vec<Id128> {
        let current = self.epoch.as_ref().map(|e| e.id);
        self.ended.iter().copied().chain(current).collect()
    }

    pub fn epoch_id(&self) -> Option<Id128> {
        self.epoch.as_ref().map(|e| e.id)
    }

    /// Whether `node` must hold a write of this record's epoch.
    pub fn set_has(&self, node: &str) -> bool {
        self.epoch
            .as_ref()
            .is_some_and(|e| e.set.iter().any(|n| n == node))
    }

    /// The nodes that must hold a write of this record's epoch.
    pub fn set(&self) -> &[String] {
        self.epoch.as_ref().map_or(&[], |e| &e.set)
    }

    pub fn set_size(&self) -> usize {
        self.set().len()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn id(n: u8) -> Id128 {
        Id128([n; 16])
    }

    #[test]
    fn an_intent_is_used_or_given_up_and_remembered() {
        let first = Record::default().next_epoch(id(1), id(9), vec!["a".into(), "b".into()]);
        let mut open = first.clone();
        open.intent = Some(id(2));
        let used = open.next_epoch(id(2), id(9), vec!["a".into()]);
        assert_eq!((used.intent, used.void.len()), (None, 0));
        let other = open.next_epoch(id(3), id(9), vec!["a".into()]);
        assert_eq!(other.void, vec![id(2)], "the witness may hold it");
        assert_eq!(other.list(), vec![id(2), id(1), id(3)]);
        let mut peer = first.clone();
        assert!(peer.list_void(&other.void) && !peer.list_void(&other.void));
        assert!(peer.list().contains(&id(2)) && peer.void.is_empty());
    }

    #[test]
    fn growth_ends_what_was_lost_and_is_adopted_whole() {
        let mut source = Record::default().next_epoch(id(1), id(9), vec!["a".into()]);
        source.lost = true;
        let still = source.next_epoch(id(2), id(9), vec!["a".into()]);
        assert!(still.lost, "only growth makes up for what is gone");
        let grown = still.grown(id(3), vec!["b".into(), "a".into()]);
        let target = Record {
            stale: true,
            lost: true,
            void: vec![id(7)],
            ..Record::default()
        };
        let adopted = target.adopted(&grown);
        assert!(!grown.lost && !adopted.lost && !adopted.stale && !adopted.served);
        assert_eq!(adopted.epoch, grown.epoch);
        assert_eq!(adopted.ended, vec![id(1), id(2), id(7)]);
    }

    #[test]
    fn ended_list_is_bounded_and_keeps_the_newest() {
        let mut r = Record::default();
        for n in 0..(MAX_ENDED + 50) {
            let mut bytes = [0; 16];
            bytes[..8].copy_from_slice(&(n as u64 + 1).to_le_bytes());
            r = r.next_epoch(Id128(bytes), id(9), vec!["a".into()]);
        }
        assert_eq!(r.ended.len(), MAX_ENDED);
        assert_eq!(r.ended.last(), r.epoch.as_ref().map(|e| &e.parent));
    }
}
