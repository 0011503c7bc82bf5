//! The steps of an agreement, one after the other.

use super::{AGAIN, ANSWER, At, Message, Output, Pact, Record, Said, Stage, TRIAL, Texts, Which};
use crate::config::Files;
use std::collections::BTreeMap;
use tandem_repl::control::Refusal;

impl Pact {
    pub(super) fn begin(&mut self, token: u64, id: String, peer: String, files: Files) {
        if self.record.is_some() || self.at != At::Rest {
            let result = Err(self.busy());
            return self.out.push(Output::Done { token, result });
        }
        self.order = Some(token);
        self.draft(id, peer, true, files);
    }

    fn draft(&mut self, id: String, peer: String, leads: bool, files: Files) {
        self.reason = None;
        self.word = false;
        let text = |(name, new): (&String, &String)| {
            let (old, new) = (None, new.clone());
            (name.clone(), Texts { old, new })
        };
        self.record = Some(Record {
            id,
            peer,
            leads,
            stage: Stage::Prepared,
            files: files.iter().map(text).collect(),
        });
        self.at = At::Check;
        self.out.push(Output::Check { files, leads });
    }

    pub(super) fn asked(&mut self, token: u64, from: String, message: Message) {
        let say = |said| Output::Reply { token, said };
        let (id, rests) = match &message {
            Message::Prepare { id, .. }
            | Message::Install { id }
            | Message::Keep { id }
            | Message::Undo { id }
            | Message::Word { id } => (id.clone(), self.at == At::Rest),
        };
        let mine = self.is(&id) && self.peer() == Some(&from);
        let stage = self.stage().filter(|_| mine);
        match (message, stage) {
            (Message::Prepare { files, .. }, _) if rests && self.is_free_for(&from) => {
                self.question = Some(token);
                self.draft(id, from, false, files);
            }
            (Message::Install { .. }, Some((false, Stage::Prepared))) if rests => {
                self.question = Some(token);
                self.save(Some(Stage::Trial));
            }
            (Message::Install { .. }, None) if rests => {
                let why = "the other node knows nothing of it any more";
                let refusal = Refusal::new("unprepared", why, "apply it again");
                self.out.push(say(Said::No(refusal)));
            }
            // Settled before, or never begun.
            (Message::Keep { .. } | Message::Undo { .. }, None) if rests => {
                self.out.push(say(Said::Yes));
            }
            (Message::Keep { .. }, Some((false, stage))) if rests => {
                self.question = Some(token);
                self.word = true;
                match stage {
                    Stage::Undone => self.install(Which::New),
                    _ => self.save(None),
                }
            }
            (Message::Undo { .. }, Some((false, stage))) if rests => {
                self.question = Some(token);
                self.word = true;
                match stage {
                    Stage::Trial => self.install(Which::Old),
                    _ => self.save(None),
                }
            }
            (Message::Word { .. }, None) if rests => self.out.push(say(Said::Undone)),
            // Once it is written down.
            (Message::Word { .. }, Some((true, Stage::Kept))) if rests => {
                self.out.push(say(Said::Kept));
            }
            (Message::Word { .. }, _) => self.out.push(say(Said::Undecided)),
            _ => self.out.push(say(Said::No(self.busy()))),
        }
    }

    pub(super) fn checked(&mut self, result: Result<BTreeMap<String, Texts>, Refusal>) {
        if self.at != At::Check {
            return;
        }
        match result {
            Ok(files) => {
                if let Some(record) = &mut self.record {
                    record.files = files;
                }
                self.save(Some(Stage::Prepared));
            }
            Err(refusal) => {
                // Nothing was written yet.
                self.record = None;
                self.over(refusal);
            }
        }
    }

    /// Nothing is left: who waits hears why it was not done.
    fn over(&mut self, refusal: Refusal) {
        self.at = At::Rest;
        self.reply(Said::No(refusal.clone()));
        if let Some(token) = self.order.take() {
            let result = Err(refusal);
            self.out.push(Output::Done { token, result });
        }
    }

    pub(super) fn saved(&mut self, result: Result<(), Refusal>) {
        if self.at != At::Save {
            return;
        }
        if let Err(refusal) = result {
            return self.unsaved(refusal);
        }
        self.at = At::Rest;
        self.since = self.now;
        match self.stage() {
            None => match self.reason.take() {
                Some(refusal) => self.over(refusal),
                None => self.reply(Said::Yes),
            },
            Some((true, Stage::Prepared)) => {
                self.at = At::Ask;
                let record = self.record.as_ref();
                let message = record.map(|r| {
                    let new = |(name, t): (&String, &Texts)| (name.clone(), t.new.clone());
                    let files = r.files.iter().map(new).collect();
                    let id = r.id.clone();
                    (r.peer.clone(), Message::Prepare { id, files })
                });
                if let Some((to, message)) = message {
                    self.out.push(Output::Send { to, message });
                }
            }
            Some((false, Stage::Prepared)) => self.reply(Said::Yes),
            Some((_, Stage::Trial)) => self.install(Which::New),
            Some((_, Stage::Kept)) => {
                self.send(|id| Message::Keep { id });
                if let Some(token) = self.order.take() {
                    let result = Ok(());
                    self.out.push(Output::Done { token, result });
                }
            }
            Some((_, Stage::Undone)) => self.send(|id| Message::Word { id }),
        }
    }

    fn unsaved(&mut self, refusal: Refusal) {
        self.out.push(Output::Log(refusal.to_string()));
        match self.stage() {
            Some((_, Stage::Prepared)) => {
                self.record = None;
                self.over(refusal);
            }
            // The old files are still in place.
            Some((_, Stage::Trial)) => self.abandon(refusal),
            Some((true, Stage::Kept)) => self.undo(refusal),
            // It is tried again at the next tick.
            Some((_, Stage::Kept | Stage::Undone)) | None => {
                self.at = At::SaveAgain;
                self.again = self.now + AGAIN;
            }
        }
    }

    /// Nothing was put in place yet.
    fn abandon(&mut self, refusal: Refusal) {
        if self.stage().is_some_and(|(leads, _)| leads) {
            self.send(|id| Message::Undo { id });
        }
        self.reason = Some(refusal);
        self.save(None);
    }

    fn undo(&mut self, refusal: Refusal) {
        self.out.push(Output::Log(format!(
            "the old files are put back: {refusal}"
        )));
        self.reply(Said::No(refusal.clone()));
        self.reason = Some(refusal);
        self.install(Which::Old);
    }

    pub(super) fn installed(&mut self, result: Result<(), Refusal>) {
        match (self.at, result, self.stage()) {
            (At::Install, Ok(()), Some((true, _))) => {
                self.at = At::Ask;
                self.since = self.now;
                self.send(|id| Message::Install { id });
            }
            (At::Install, Ok(()), Some((false, _))) if self.word => self.save(None),
            (At::Install, Ok(()), Some((false, _))) => {
                self.at = At::Rest;
                self.since = self.now;
                self.reply(Said::Yes);
            }
            (At::Install, Err(refusal), Some((false, Stage::Undone))) => {
                // The leader repeats its word.
                self.out.push(Output::Log(refusal.to_string()));
                self.word = false;
                self.at = At::Rest;
                self.again = self.now + AGAIN;
                self.reply(Said::No(refusal));
            }
            (At::Install, Err(refusal), _) => self.undo(refusal),
            (At::Undo, Err(refusal), _) => {
                self.out.push(Output::Log(refusal.to_string()));
                self.at = At::UndoAgain;
                self.again = self.now + AGAIN;
            }
            (At::Undo, Ok(()), Some((true, _))) => {
                self.send(|id| Message::Undo { id });
                self.save(None);
            }
            (At::Undo, Ok(()), Some((false, _))) if self.word => {
                self.reason = None;
                self.save(None);
            }
            (At::Undo, Ok(()), Some((false, _))) => {
                self.reason = None;
                self.save(Some(Stage::Undone));
            }
            _ => {}
        }
    }

    pub(super) fn answered(&mut self, message: &Message, said: Said) {
        let (Message::Prepare { id, .. }
        | Message::Install { id }
        | Message::Keep { id }
        | Message::Undo { id }
        | Message::Word { id }) = message;
        if !self.is(id) {
            return;
        }
        match (message, said, self.at, self.stage()) {
            (Message::Prepare { .. }, said, At::Ask, Some((true, Stage::Prepared))) => match said {
                Said::Yes => self.save(Some(Stage::Trial)),
                other => self.abandon(refusal_of(other)),
            },
            (Message::Install { .. }, said, At::Ask, Some((true, Stage::Trial))) => match said {
                Said::Yes => self.save(Some(Stage::Kept)),
                other => self.undo(refusal_of(other)),
            },
            (Message::Keep { .. }, Said::Yes, At::Rest, Some((true, Stage::Kept))) => {
                self.save(None);
            }
            (Message::Word { .. }, said, At::Rest, Some((false, stage))) => {
                self.word = matches!(said, Said::Kept | Said::Undone);
                match (said, stage) {
                    (Said::Kept, Stage::Undone) => self.install(Which::New),
                    (Said::Undone, Stage::Trial) => self.install(Which::Old),
                    (Said::Kept | Said::Undone, _) => self.save(None),
                    _ => {}
                }
            }
            _ => {}
        }
    }

    pub(super) fn tick(&mut self, heard: bool) {
        let waited = self.now.saturating_duration_since(self.since);
        let due = self.now >= self.again;
        match (self.at, self.stage()) {
            (At::Ask, Some((_, stage))) if waited >= ANSWER => {
                let refusal = Refusal::new(
                    "no-answer",
                    format!(
                        "the other node gave no answer within {} s",
                        ANSWER.as_secs()
                    ),
                    "look at it with `tandem status --node`, and apply it again",
                );
                match stage {
                    Stage::Prepared => self.abandon(refusal),
                    _ => self.undo(refusal),
                }
            }
            (At::Rest, Some((false, Stage::Prepared))) if waited >= TRIAL => self.save(None),
            (At::Rest, Some((false, Stage::Trial))) if waited >= TRIAL => {
                let refusal = Refusal::new(
                    "unconfirmed",
                    format!("nothing was heard within {} s", TRIAL.as_secs()),
                    "apply it again",
                );
                self.undo(refusal);
            }
            (At::Rest, Some((true, Stage::Kept))) if heard && due => {
                self.send(|id| Message::Keep { id });
            }
            (At::Rest, Some((false, Stage::Trial | Stage::Undone))) if heard && due => {
                self.send(|id| Message::Word { id });
            }
            (At::UndoAgain, Some(_)) if due => self.install(Which::Old),
            (At::SaveAgain, _) if due => {
                self.at = At::Save;
                self.out.push(Output::Save(self.record.clone()));
            }
            _ => {}
        }
    }

    fn busy(&self) -> Refusal {
        let with = self.peer().map(|p| format!(" with {p}"));
        Refusal::new(
            "applying",
            format!(
                "another change of the configuration{} is not settled yet",
                with.unwrap_or_default()
            ),
            "repeat the command in a moment; `tandem why` says what it waits for",
        )
    }
}

fn refusal_of(said: Said) -> Refusal {
    match said {
        Said::No(refusal) => refusal,
        other => Refusal::new(
            "version",
            format!("the other node answered {other:?}"),
            "run the same version on both nodes",
        ),
    }
}
