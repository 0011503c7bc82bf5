//! A changed configuration: read, agreed on with the other node, taken over by the modules.
//!
//! Files are read, checked and written in a thread; the loop goes on.

mod order;
mod takeover;

use super::module::Runtime;
use super::{Event, Manager, Settings};
use crate::config::{Files, Places, Read, Reading};
use crate::control::{Answer, Applied, Envelope, Request};
use crate::io::change::{self, ChangeError, Journal};
use crate::io::peers::Reply;
use crate::logic::change::keys::{self, Changed, Facts, file_of};
use crate::logic::change::pact::{Input, Message, Output, Pact, Record, Said, Texts, Which};
use order::{module_of, ordered, other_version, unwritten, wrong};
use std::collections::{BTreeMap, BTreeSet, HashMap};
use std::sync::mpsc::Sender;
use std::time::{Duration, Instant, SystemTime, UNIX_EPOCH};
use tandem_repl::control::Refusal;
use tandem_repl::io::clock;

/// Something that was done aside.
pub(super) enum Step {
    Input(Input),
    /// An operator's order was read: the other node and the files.
    Ordered(Reply, Result<(String, Files), Refusal>),
    Checked(Result<(BTreeMap<String, Texts>, Vec<Changed>), Refusal>),
    /// The files are in place; what they mean now.
    Placed(Which, Result<(Files, Reading), Refusal>),
    /// A module took its part over.
    Taken(Result<(), Refusal>),
}

/// What the manager runs by, and the agreement under way.
pub(super) struct Changes {
    pact: Pact,
    journal: Journal,
    places: Places,
    read: Read,
    files: Files,
    reading: Reading,
    /// What ran before the agreement under way.
    before: Option<(Files, Reading)>,
    /// Names of its files.
    names: Vec<String>,
    changed: Vec<Changed>,
    order: Option<Reply>,
    replies: HashMap<u64, Reply>,
    next: u64,
    /// Modules that have not taken their part over yet, and what failed.
    pending: (usize, Result<(), Refusal>),
    /// Keys in which the nodes were found to differ, by module.
    told: BTreeMap<String, Vec<String>>,
    compare: Instant,
}

/// Between two looks whether the nodes differ.
const PACE: Duration = Duration::from_secs(1);

impl Changes {
    /// # Errors
    /// What is left of an agreement cannot be read.
    pub(super) fn new(settings: &Settings) -> Result<Self, ChangeError> {
        let journal = Journal::new(&settings.state_dir);
        let record = journal.read()?;
        Ok(Self {
            pact: Pact::new(record, clock::now()),
            journal,
            places: settings.places(),
            read: settings.read,
            files: settings.files.clone(),
            reading: settings.reading.clone(),
            before: None,
            names: Vec::new(),
            changed: Vec::new(),
            order: None,
            replies: HashMap::new(),
            next: 0,
            pending: (0, Ok(())),
            told: BTreeMap::new(),
            compare: clock::now(),
        })
    }

    pub(super) fn facts(&self) -> Facts {
        Facts::of(&self.reading, |text| crc32fast::hash(text.as_bytes()))
    }
}

/// Runs work aside; its end becomes an event.
fn aside(send: &Sender<Event>, work: impl FnOnce() -> Step + Send + 'static) {
    let to = send.clone();
    let run = move || {
        // The loop may have ended.
        let _ = to.send(Event::Change(work()));
    };
    let spawned = std::thread::Builder::new().name("change".into()).spawn(run);
    if let Err(e) = spawned {
        // The agreement ends by its own limits.
        tracing::warn!("a changed configuration: {e}");
    }
}

impl Manager {
    /// An operator's order.
    pub(super) fn apply(&mut self, modules: Vec<String>, reply: Reply) {
        let changes = &self.changes;
        let (places, read) = (changes.places.clone(), changes.read);
        let (running, node) = (changes.files.clone(), self.settings.node.clone());
        let small = self.settings.nodes.len() <= 2;
        aside(&self.tools.send, move || {
            Step::Ordered(
                reply,
                ordered(&places, read, &running, (&node, small), &modules),
            )
        });
    }

    fn begin(&mut self, reply: Reply, read: Result<(String, Files), Refusal>) {
        let (peer, files) = match read {
            Ok(read) => read,
            Err(refusal) => return reply(Answer::Refused(refusal)),
        };
        if self.changes.order.is_some() {
            let why = "another change of the configuration is under way";
            let remedy = "repeat the command in a moment";
            return reply(Answer::Refused(Refusal::new("applying", why, remedy)));
        }
        let since = SystemTime::now().duration_since(UNIX_EPOCH);
        let stamp = since.map_or(0, |time| time.as_nanos());
        // Not the same as any other; nothing is decided by it.
        let id = format!("{}-{}-{stamp}", self.settings.node, std::process::id());
        let names: Vec<&String> = files.keys().collect();
        let text = format!("an operator applies {names:?} here and on {peer}");
        self.log.write(None, &text);
        self.changes.order = Some(reply);
        self.pact(Input::Begin {
            token: 0,
            id,
            peer,
            files,
        });
    }

    /// Of another node's manager.
    pub(super) fn asked(&mut self, from: Option<String>, message: Message, reply: Reply) {
        let Some(from) = from else {
            let why = "only managers speak of it with each other";
            let refusal = Refusal::new("not-a-manager", why, "use `tandem config apply`");
            return reply(Answer::Refused(refusal));
        };
        self.changes.next += 1;
        let token = self.changes.next;
        self.changes.replies.insert(token, reply);
        self.pact(Input::Asked {
            token,
            from,
            message,
        });
    }

    pub(super) fn on_change(&mut self, step: Step) {
        match step {
            Step::Input(input) => self.pact(input),
            Step::Ordered(reply, read) => self.begin(reply, read),
            Step::Checked(result) => {
                let result = result.map(|(texts, changed)| {
                    self.changes.changed = changed;
                    texts
                });
                self.pact(Input::Checked(result));
            }
            Step::Placed(which, result) => self.placed(which, result),
            Step::Taken(result) => {
                let (left, failed) = &mut self.changes.pending;
                *left = left.saturating_sub(1);
                if result.is_err() && failed.is_ok() {
                    *failed = result;
                }
                if *left == 0 {
                    let result = std::mem::replace(failed, Ok(()));
                    self.pact(Input::Installed(result));
                }
            }
        }
    }

    /// Time passes.
    pub(super) fn tend_changes(&mut self) {
        let heard = self.changes.pact.peer().map(|p| self.peers.modules(p));
        let heard = heard.flatten().is_some();
        self.pact(Input::Tick { heard });
        let now = clock::now();
        // While both are changing they differ for a moment.
        if now < self.changes.compare || self.changes.pact.peer().is_some() {
            return;
        }
        self.changes.compare = now + PACE;
        let mine = self.changes.facts();
        for index in 0..self.modules.len() {
            let module = &self.modules[index];
            let (name, peer) = (module.config.name.clone(), module.config.peer.clone());
            let Some(theirs) = self.peers.facts(&peer) else {
                continue;
            };
            let found = mine.differing(&theirs, &name);
            let told = self.changes.told.entry(name.clone()).or_default();
            if *told != found {
                told.clone_from(&found);
                let text = match keys::note(&name, &peer, &found) {
                    Some(note) => note.to_string(),
                    None => format!("the configuration is the same on {peer} again"),
                };
                self.log.write(Some(&name), &text);
            }
        }
    }

    /// What should be looked at in a module's configuration.
    pub(super) fn notes(&self, module: &Runtime) -> Vec<Refusal> {
        let (name, peer) = (&module.config.name, &module.config.peer);
        let told = self.changes.told.get(name);
        let heard = self.peers.facts(peer).is_some();
        let differs = told
            .filter(|_| heard)
            .and_then(|k| keys::note(name, peer, k));
        differs
            .into_iter()
            .chain(self.changes.pact.note())
            .collect()
    }

    fn pact(&mut self, input: Input) {
        let mut inputs = vec![input];
        while let Some(input) = inputs.pop() {
            for output in self.changes.pact.handle(clock::now(), input) {
                // Its end is the next input, before anything else happens.
                if let Output::Save(record) = output {
                    inputs.push(Input::Saved(self.save(record.as_ref())));
                } else {
                    self.perform(output);
                }
            }
        }
    }

    fn save(&mut self, record: Option<&Record>) -> Result<(), Refusal> {
        let saved = self.changes.journal.save(record);
        match record {
            Some(record) => self.changes.names = record.files.keys().cloned().collect(),
            None => {
                let names = std::mem::take(&mut self.changes.names);
                change::forget(&self.changes.places.config, names.into_iter());
                if saved.is_ok() {
                    self.changes.before = None;
                }
            }
        }
        saved.map_err(|e| unwritten(&e))
    }

    fn perform(&mut self, output: Output) {
        match output {
            Output::Check { files, leads } => self.check(files, leads),
            Output::Install(which, record) => self.install(which, record),
            Output::Send { to, message } => self.send(&to, message),
            Output::Reply { token, said } => {
                if let Some(reply) = self.changes.replies.remove(&token) {
                    reply(Answer::Change(Box::new(said)));
                }
            }
            Output::Done { result, .. } => self.done(result),
            Output::Log(text) => self.log.write(None, &text),
            // Done where it is decided.
            Output::Save(_) => {}
        }
    }

    fn done(&mut self, result: Result<(), Refusal>) {
        let text = match &result {
            Ok(()) => "the new configuration is in place on both nodes".into(),
            Err(refusal) => format!("everything is as it was: {refusal}"),
        };
        self.log.write(None, &text);
        let Some(reply) = self.changes.order.take() else {
            return;
        };
        let applied = || Applied {
            node: self.settings.node.clone(),
            peer: self.changes.pact.peer().unwrap_or_default().into(),
            files: self.changes.names.clone(),
            changes: self.changes.changed.clone(),
        };
        reply(match result {
            Ok(()) => Answer::Applied(Box::new(applied())),
            Err(refusal) => Answer::Refused(refusal),
        });
    }

    fn send(&self, to: &str, message: Message) {
        let send = self.tools.send.clone();
        let asked = message.clone();
        let reply: Reply = Box::new(move |answer| {
            let said = match answer {
                Answer::Change(said) => *said,
                Answer::Refused(refusal) => Said::No(refusal),
                _ => Said::No(other_version()),
            };
            // The loop may have ended.
            let _ = send.send(Event::Change(Step::Input(Input::Answered(asked, said))));
        });
        if self.peers.modules(to).is_some() && self.peers.facts(to).is_none() {
            return reply(Answer::Refused(other_version()));
        }
        let request = Request::Change(Box::new(message));
        self.peers
            .forward(to, Envelope::new(Some(to.into()), request), reply);
    }

    fn check(&self, files: Files, leads: bool) {
        let changes = &self.changes;
        let (places, read, node) = (
            changes.places.clone(),
            changes.read,
            self.settings.node.clone(),
        );
        let (running, reading) = (changes.files.clone(), changes.reading.clone());
        let runs = self.modules.iter().filter(|m| m.runs());
        let runs: BTreeSet<String> = runs.map(|m| m.name().to_string()).collect();
        let moving = self.moving(&files.keys().cloned().collect());
        aside(&self.tools.send, move || {
            let work = || {
                moving.map_or(Ok(()), Err)?;
                let mut all = running.clone();
                all.extend(files.clone());
                let named: Vec<String> = files.keys().filter_map(|f| module_of(f)).collect();
                let new = read(&places, &all, &named).map_err(|e| wrong(&node, e))?;
                let changed = keys::changes(&reading, &new);
                keys::allowed(&changed, &runs, &node)?;
                // What runs here is what the leader goes back to; its file is the wish already.
                let old = |name: &str| leads.then(|| running.get(name).cloned());
                let texts = change::prepare(&places.config, &files, old);
                Ok((texts.map_err(|e| unwritten(&e))?, changed))
            };
            Step::Checked(work())
        });
    }

    /// A module whose file is among these is changing its state.
    fn moving(&self, files: &BTreeSet<String>) -> Option<Refusal> {
        let mut moving = self.modules.iter().filter(|m| !m.machine.settled());
        let module = moving.find(|m| files.contains(&file_of(m.name())))?;
        Some(Refusal::new(
            "moving",
            format!(
                "{} is changing its state on {}",
                module.name(),
                self.settings.node
            ),
            "repeat the command in a moment; `tandem status` shows how far it is",
        ))
    }
}
