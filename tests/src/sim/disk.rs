//! The state directory of a node: the record in two slots and the journal of the dirty map.
//!
//! What was written but not synced survives the process and not a power cut; of the journal's tail
//! a power cut keeps a prefix. A slot that is being written when power fails is torn: then the
//! other one counts.

use crate::rng::Rng;
use tandem_repl::logic::dirty;
use tandem_repl::logic::record::Record;

/// The record.
#[derive(Clone, Debug, Default)]
pub struct RecordDisk {
    slots: [Option<(u64, Record)>; 2],
    /// Being written: not durable yet.
    writing: Option<Record>,
}

impl RecordDisk {
    fn newest(&self) -> Option<usize> {
        let number = |slot: usize| self.slots[slot].as_ref().map(|(n, _)| *n);
        (0..2)
            .filter(|s| number(*s).is_some())
            .max_by_key(|s| number(*s))
    }

    pub fn read(&self) -> Record {
        let newest = self.newest().and_then(|slot| self.slots[slot].clone());
        newest.map(|(_, record)| record).unwrap_or_default()
    }

    pub fn begin(&mut self, record: Record) {
        self.writing = Some(record);
    }

    /// The write and its flush are done.
    pub fn finish(&mut self) {
        let Some(record) = self.writing.take() else {
            return;
        };
        let newest = self.newest();
        let number = newest.and_then(|slot| self.slots[slot].as_ref().map(|(n, _)| n + 1));
        let slot = newest.map_or(0, |slot| 1 - slot);
        self.slots[slot] = Some((number.unwrap_or(1), record));
    }

    /// The process or the power is gone in the middle of a write: it is there, torn, or not begun.
    pub fn interrupted(&mut self, rng: &mut Rng) {
        if self.writing.is_none() {
            return;
        }
        match rng.below(3) {
            0 => self.finish(),
            1 => {
                let slot = self.newest().map_or(0, |slot| 1 - slot);
                self.slots[slot] = None;
                self.writing = None;
            }
            _ => self.writing = None,
        }
    }

    /// The older slot is damaged.
    pub fn damage_older(&mut self) {
        if let Some(newest) = self.newest() {
            self.slots[1 - newest] = None;
        }
    }
}

/// The journal: what is in the file in use, and how much of it is on the disk. A file that takes
/// its place counts from the moment it is on the disk as a whole.
#[derive(Clone, Debug, Default)]
pub struct Journal {
    records: Vec<dirty::Record>,
    durable: usize,
    /// Damage before the tail: everything is marked.
    damaged: bool,
}

impl Journal {
    pub fn append(&mut self, records: Vec<dirty::Record>) {
        self.records.extend(records);
    }

    pub fn len(&self) -> usize {
        self.records.len()
    }

    pub fn is_empty(&self) -> bool {
        self.records.is_empty()
    }

    /// Everything up to this length is on the disk.
    pub fn flushed(&mut self, len: usize) {
        self.durable = self.durable.max(len.min(self.records.len()));
    }

    /// Another file with these records takes the place of this one.
    pub fn replace(&mut self, records: Vec<dirty::Record>) {
        self.durable = records.len();
        self.records = records;
        self.damaged = false;
    }

    /// As a daemon that starts now reads it.
    pub fn read(&self) -> Vec<dirty::Record> {
        let mut records = self.records.clone();
        if self.damaged {
            records.push(dirty::Record::Everything);
        }
        records
    }

    /// As it is sure to be read after a power cut.
    pub fn durable(&self) -> Vec<dirty::Record> {
        let mut records = self.records[..self.durable].to_vec();
        if self.damaged {
            records.push(dirty::Record::Everything);
        }
        records
    }

    pub fn cut(&mut self, rng: &mut Rng) {
        let kept = rng.below((self.records.len() - self.durable) as u64 + 1) as usize;
        self.records.truncate(self.durable + kept);
        self.durable = self.records.len();
    }

    pub fn damage(&mut self) {
        self.damaged = !self.records.is_empty();
    }
}
