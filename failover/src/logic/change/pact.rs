//! The agreement of two nodes on a changed configuration, as one of them sees it.
//!
//! The node where the operator orders it leads. Each step is durable before the next:
//!
//! | the leader | the other |
//! |---|---|
//! | checks the new files, keeps old and new, asks to prepare | checks them, keeps old and new |
//! | puts the new ones in place, has them taken over, asks the same | does |
//! | writes down that they stay: **this is the moment** | |
//! | says so until it is heard | forgets the old ones |
//!
//! What holds whatever is lost or dies: a node has the old files or the new ones, whole; the new
//! ones stay only by the leader's written word, which it gives when both have taken them over; who
//! has not heard it in time, and who dies before, goes back to the old ones by itself and asks.
//! A leader that knows nothing of an agreement answers that it was undone.

mod steps;

use crate::config::Files;
use serde::{Deserialize, Serialize};
use std::collections::BTreeMap;
use std::time::{Duration, Instant};
use tandem_repl::control::Refusal;

/// How long the leader waits for each answer.
pub const ANSWER: Duration = Duration::from_secs(10);
/// How long the other waits for the leader's next word before it goes back. More than the leader
/// may need to come to it.
pub const TRIAL: Duration = Duration::from_secs(25);
/// Between two attempts to be heard, and to write what could not be written.
const AGAIN: Duration = Duration::from_secs(1);

/// What a node keeps of an agreement until it is settled.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Record {
    pub id: String,
    pub peer: String,
    pub leads: bool,
    pub stage: Stage,
    pub files: BTreeMap<String, Texts>,
}

/// A file before and after; `None`: it was not there.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Texts {
    pub old: Option<String>,
    pub new: String,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Stage {
    /// The old files are in place.
    Prepared,
    /// The new ones are, or are just being put there.
    Trial,
    /// The leader's word: they stay.
    Kept,
    /// The other went back by itself, and does not know the leader's word.
    Undone,
}

/// Which of the two.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Which {
    Old,
    New,
}

/// What the leader says, and what the other asks.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Message {
    Prepare {
        id: String,
        files: Files,
    },
    Install {
        id: String,
    },
    Keep {
        id: String,
    },
    Undo {
        id: String,
    },
    /// What became of it?
    Word {
        id: String,
    },
}

/// What is answered.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Said {
    Yes,
    No(Refusal),
    Kept,
    Undone,
    Undecided,
}

#[derive(Clone, Debug)]
pub enum Input {
    /// Time passes. Whether the peer of an agreement is heard of.
    Tick {
        heard: bool,
    },
    /// An operator's order; answered by [`Output::Done`].
    Begin {
        token: u64,
        id: String,
        peer: String,
        files: Files,
    },
    /// Of the other node; answered by [`Output::Reply`].
    Asked {
        token: u64,
        from: String,
        message: Message,
    },
    /// An end of [`Output::Check`]: the files as they were before.
    Checked(Result<BTreeMap<String, Texts>, Refusal>),
    Saved(Result<(), Refusal>),
    /// An end of [`Output::Install`].
    Installed(Result<(), Refusal>),
    /// An answer to [`Output::Send`]; one that cannot be reached is a `No`.
    Answered(Message, Said),
}

#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Output {
    /// Whether these can be taken over here now.
    Check {
        files: Files,
        leads: bool,
    },
    /// Durably; `None`: nothing is left to be settled.
    Save(Option<Record>),
    /// Puts the files in place and takes them over.
    Install(Which, Record),
    Send {
        to: String,
        message: Message,
    },
    Reply {
        token: u64,
        said: Said,
    },
    Done {
        token: u64,
        result: Result<(), Refusal>,
    },
    Log(String),
}

/// What is waited for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum At {
    /// Nothing here: the other's next word, or that it hears ours.
    Rest,
    Check,
    Save,
    Install,
    /// It failed, and is tried again.
    SaveAgain,
    /// The old files are put back.
    Undo,
    UndoAgain,
    /// The leader waits for an answer.
    Ask,
}

/// The machine of one node. See the module's opening.
#[derive(Clone, Debug)]
pub struct Pact {
    record: Option<Record>,
    at: At,
    since: Instant,
    again: Instant,
    /// The operator's order under way.
    order: Option<u64>,
    /// The other's question under way.
    question: Option<u64>,
    /// Why it is being undone.
    reason: Option<Refusal>,
    /// The leader's word was heard.
    word: bool,
    now: Instant,
    out: Vec<Output>,
}

/// What a node that died finds: which files belong in place, and what is left to be settled.
pub fn after_death(record: Record) -> (Which, Option<Record>) {
    let stays = |stage| Record {
        stage,
        ..record.clone()
    };
    match (record.leads, record.stage) {
        (true, Stage::Kept) => (Which::New, Some(record)),
        (false, Stage::Trial | Stage::Undone) => (Which::Old, Some(stays(Stage::Undone))),
        // Who was asked and did nothing yet has nothing to settle; a leader without a word has
        // undone it.
        _ => (Which::Old, None),
    }
}

impl Pact {
    /// With what [`after_death`] left.
    pub fn new(record: Option<Record>, now: Instant) -> Self {
        Self {
            record,
            at: At::Rest,
            since: now,
            again: now,
            order: None,
            question: None,
            reason: None,
            word: false,
            now,
            out: Vec::new(),
        }
    }

    pub fn handle(&mut self, now: Instant, input: Input) -> Vec<Output> {
        self.now = now;
        match input {
            Input::Tick { heard } => self.tick(heard),
            Input::Begin {
                token,
                id,
                peer,
                files,
            } => self.begin(token, id, peer, files),
            Input::Asked {
                token,
                from,
                message,
            } => self.asked(token, from, message),
            Input::Checked(result) => self.checked(result),
            Input::Saved(result) => self.saved(result),
            Input::Installed(result) => self.installed(result),
            Input::Answered(message, said) => self.answered(&message, said),
        }
        std::mem::take(&mut self.out)
    }

    /// The other node of an agreement that is not settled.
    pub fn peer(&self) -> Option<&str> {
        self.record.as_ref().map(|r| r.peer.as_str())
    }

    /// What is shown while it is not settled.
    pub fn note(&self) -> Option<Refusal> {
        let record = self.record.as_ref()?;
        let text = match record.stage {
            Stage::Kept => format!(
                "a new configuration is in place, and {} was not told",
                record.peer
            ),
            Stage::Undone => format!(
                "whether a new configuration stays is known to {}",
                record.peer
            ),
            _ => return None,
        };
        Some(Refusal::new(
            "config-unsettled",
            text,
            format!(
                "it is settled by itself when the manager of {} answers",
                record.peer
            ),
        ))
    }

    fn stage(&self) -> Option<(bool, Stage)> {
        self.record.as_ref().map(|r| (r.leads, r.stage))
    }

    fn is(&self, id: &str) -> bool {
        self.record.as_ref().is_some_and(|r| r.id == id)
    }

    /// Nothing is under way, or only what its leader, who asks again, has given up.
    fn is_free_for(&self, from: &str) -> bool {
        let given_up = |r: &Record| !r.leads && r.stage == Stage::Prepared && r.peer == from;
        self.record.as_ref().is_none_or(given_up)
    }

    fn save(&mut self, stage: Option<Stage>) {
        match stage {
            None => self.record = None,
            Some(stage) => {
                if let Some(record) = &mut self.record {
                    record.stage = stage;
                }
            }
        }
        self.at = At::Save;
        self.out.push(Output::Save(self.record.clone()));
    }

    fn install(&mut self, which: Which) {
        if let Some(record) = self.record.clone() {
            self.at = match which {
                Which::Old => At::Undo,
                Which::New => At::Install,
            };
            self.out.push(Output::Install(which, record));
        }
    }

    fn send(&mut self, make: fn(String) -> Message) {
        if let Some(record) = &self.record {
            let (to, message) = (record.peer.clone(), make(record.id.clone()));
            self.again = self.now + AGAIN;
            self.out.push(Output::Send { to, message });
        }
    }

    fn reply(&mut self, said: Said) {
        if let Some(token) = self.question.take() {
            self.out.push(Output::Reply { token, said });
        }
    }
}
