//! What the files of a journal mean when they are opened.

use super::State;
use crate::ids::Id128;
use crate::logic::dirty::Record;
use serde::{Deserialize, Serialize};

/// Numbers of checkpoints, the same on both nodes. They tell a node that was put back to what it
/// was before (a snapshot, a backup) from one that was only away: marks of completed checkpoints
/// are gone, so such a node must be compared wholly.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Checkpoints {
    /// The last one after which marks were dropped here.
    pub completed: u64,
    /// The last one for which this node, following, flushed: the peer may have completed it.
    pub claimed: u64,
}

/// What was found when the journal was opened.
#[derive(Debug)]
pub struct Found {
    pub records: Vec<Record>,
    /// Boot in which it was written last; zero if never.
    pub boot: Id128,
    /// The last thing written was [`Journal::rewrite`] with `clean`.
    pub clean: bool,
    pub checkpoints: Checkpoints,
    /// Why the records say that everything may differ, if it is for damage.
    pub damage: Option<String>,
}

/// What two files mean.
pub(super) fn judge(states: [State; 2], expected: bool) -> Found {
    let everything = |why: &str| Found {
        records: vec![Record::Everything],
        boot: Id128::default(),
        clean: false,
        checkpoints: Checkpoints::default(),
        damage: Some(why.to_string()),
    };
    let count = |what: fn(&State) -> bool| states.iter().filter(|s| what(s)).count();
    let missing = count(|s| matches!(s, State::Missing));
    let ruined = count(|s| matches!(s, State::Ruined)) > 0;
    let newest = states.iter().map(State::newest).max().unwrap_or(0);
    let head = states.iter().map(|s| match s {
        State::Torn { head, .. } => *head,
        _ => 0,
    });
    let head = head.max().unwrap_or(0);
    let whole = states.into_iter().filter_map(|state| match state {
        State::Whole(whole) => Some(whole),
        _ => None,
    });
    let Some(last) = whole.max_by_key(|w| w.generation) else {
        if missing == 2 && !expected {
            return Found {
                records: Vec::new(),
                boot: Id128::default(),
                clean: false,
                checkpoints: Checkpoints::default(),
                damage: None,
            };
        }
        return everything("no file of the journal of marks is whole");
    };
    // The first two are made together, before anything is marked.
    if missing > 0 && (last.generation > 1 || last.more > 0 || expected) {
        return everything("a file of the journal of marks is missing");
    }
    // A torn file is one that was just being begun.
    if ruined || last.damaged || newest > last.generation || head > last.generation + 1 {
        return everything("the journal of marks is damaged");
    }
    Found {
        clean: last.start.clean && last.more == 0,
        boot: last.start.boot,
        checkpoints: last.start.checkpoints,
        records: last.records,
        damage: None,
    }
}
