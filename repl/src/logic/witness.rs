//! The witness: a third party that stores no data, only the id of one epoch per volume.
//!
//! It is asked when a node wants to acknowledge or serve without the other. A node names all
//! epochs it knows to be over or its own, and a new one: if the register's epoch is among them,
//! nobody went another way since, and the register takes the new one. So of two nodes that part,
//! exactly one is granted; the other's list lacks what the register then holds.
//!
//! A register that never held anything, or came back from a backup, knows nothing: it grants
//! nothing until the node that serves has told it where the volume is. This is the pure part; the
//! simulator uses it as it is, a service keeps it on disk: durable before it is answered.

use super::member::WitnessAnswer;
use super::record::Record;
use super::rules::Rules;
use crate::ids::Id128;
use serde::{Deserialize, Serialize};

/// What a node puts to the register of one volume.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub enum Question {
    /// [`Register::ask`].
    Ask { list: Vec<Id128>, new: Id128 },
    /// [`Register::tell`] with what a record names.
    Tell {
        list: Vec<Id128>,
        id: Id128,
        force: bool,
    },
}

impl Question {
    /// Telling the register this record; `None` if it holds no epoch.
    pub fn tell(record: &Record, force: bool) -> Option<Self> {
        let id = record.epoch_id()?;
        let list = record.list();
        Some(Self::Tell { list, id, force })
    }

    /// The epochs named as over or held, and the one the register is to hold.
    pub fn ids(&self) -> (&[Id128], Id128) {
        match self {
            Self::Ask { list, new } => (list, *new),
            Self::Tell { list, id, .. } => (list, *id),
        }
    }
}

/// The register of one volume.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Register {
    id: Option<Id128>,
    rules: Rules,
}

impl Register {
    /// A register that lacks rules; for tests that prove them needed.
    pub fn with_rules(rules: Rules) -> Self {
        Self { id: None, rules }
    }

    /// The epoch held, if any.
    pub fn id(&self) -> Option<Id128> {
        self.id
    }

    /// As found on disk by the service that wrote it there. After a restore from a backup a new,
    /// empty one is to be used.
    pub fn load(id: Option<Id128>) -> Self {
        Self {
            id,
            rules: Rules::default(),
        }
    }

    /// Compare-and-set. Granted if what is held is in `list`, or is `new` already: a request
    /// whose answer was lost may be repeated.
    pub fn ask(&mut self, list: &[Id128], new: Id128) -> WitnessAnswer {
        match self.id {
            None if self.rules.empty_grants_nothing => return WitnessAnswer::Refused(None),
            Some(held) if held != new && !list.contains(&held) && self.rules.cas_by_ancestry => {
                return WitnessAnswer::Refused(Some(held));
            }
            _ => {}
        }
        self.id = Some(new);
        WitnessAnswer::Granted
    }

    /// The node that serves repeats where the volume is: an empty register learns it, an older one
    /// follows, another branch is refused unless the operator overrules it.
    pub fn tell(&mut self, record: &Record, force: bool) -> WitnessAnswer {
        match Question::tell(record, force) {
            Some(question) => self.answer(&question),
            None => WitnessAnswer::Refused(self.id),
        }
    }

    /// Answers a question that came from elsewhere.
    pub fn answer(&mut self, question: &Question) -> WitnessAnswer {
        match question {
            Question::Tell { id, force, .. } if *force || self.id.is_none() => {
                self.id = Some(*id);
                WitnessAnswer::Granted
            }
            Question::Ask { list, new: id } | Question::Tell { list, id, .. } => {
                self.ask(list, *id)
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn id(n: u8) -> Id128 {
        Id128([n; 16])
    }

    #[test]
    fn one_of_two_is_granted_and_a_lost_answer_may_be_repeated() {
        let first = Record::default().next_epoch(id(1), id(9), vec!["a".into(), "b".into()]);
        let mut register = Register::default();
        assert_eq!(
            register.ask(&first.list(), id(2)),
            WitnessAnswer::Refused(None),
            "an empty register grants nothing"
        );
        assert_eq!(register.tell(&first, false), WitnessAnswer::Granted);
        assert_eq!(register.ask(&first.list(), id(2)), WitnessAnswer::Granted);
        assert_eq!(register.ask(&first.list(), id(2)), WitnessAnswer::Granted);
        let refused = WitnessAnswer::Refused(Some(id(2)));
        assert_eq!(register.ask(&first.list(), id(3)), refused);
        assert_eq!(
            register.tell(&first, false),
            refused,
            "not back to a parent"
        );
        let forced = first.next_epoch(id(4), id(9), vec!["b".into()]);
        assert_eq!(register.tell(&forced, true), WitnessAnswer::Granted);
        assert_eq!(register.id(), Some(id(4)));
    }

    #[test]
    fn a_void_intent_in_the_list_is_as_good_as_an_ended_epoch() {
        let mut record = Record::default().next_epoch(id(1), id(9), vec!["a".into(), "b".into()]);
        let mut register = Register::load(Some(id(1)));
        assert_eq!(register.ask(&record.list(), id(2)), WitnessAnswer::Granted);
        record.list_void(&[id(2)]);
        assert_eq!(register.ask(&record.list(), id(3)), WitnessAnswer::Granted);
    }
}
