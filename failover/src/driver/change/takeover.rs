//! Changed files are put in place, and the modules become what they say.

use super::super::module::Runtime;
use super::super::{Event, Manager};
use super::order::{unwritten, wrong};
use super::{Step, aside};
use crate::config::{Files, Reading};
use crate::control::Answer;
use crate::io::change;
use crate::logic::change::pact::{Input, Record, Which};
use tandem_repl::control::Refusal;

impl Manager {
    pub(super) fn install(&mut self, which: Which, record: Record) {
        let changes = &self.changes;
        let (places, read) = (changes.places.clone(), changes.read);
        let mut files = changes.files.clone();
        let node = self.settings.node.clone();
        let names = record.files.keys().cloned().collect();
        let moving = self.moving(&names).filter(|_| which == Which::New);
        aside(&self.tools.send, move || {
            let work = || {
                moving.map_or(Ok(()), Err)?;
                change::install(&places.config, &record, which).map_err(|e| unwritten(&e))?;
                for (name, texts) in record.files {
                    match (which, texts.old) {
                        (Which::New, _) => drop(files.insert(name, texts.new)),
                        (Which::Old, Some(old)) => drop(files.insert(name, old)),
                        (Which::Old, None) => drop(files.remove(&name)),
                    }
                }
                let reading = read(&places, &files, &[]).map_err(|e| wrong(&node, e))?;
                Ok((files, reading))
            };
            Step::Placed(which, work())
        });
    }

    pub(super) fn placed(&mut self, which: Which, result: Result<(Files, Reading), Refusal>) {
        let changes = &mut self.changes;
        let (files, reading) = match (which, changes.before.take(), result) {
            // What ran is known to be good, whatever its file says.
            (Which::Old, Some(before), Ok(_)) => before,
            (Which::Old, Some(before), Err(refusal)) if refusal.code == "configuration" => before,
            (Which::Old, before, Err(refusal)) => {
                changes.before = before;
                // It was not taken over here, so there is nothing to go back to.
                let nothing = changes.before.is_none() && refusal.code == "configuration";
                let result = if nothing { Ok(()) } else { Err(refusal) };
                return self.pact(Input::Installed(result));
            }
            (Which::New, before, Err(refusal)) => {
                changes.before = before;
                return self.pact(Input::Installed(Err(refusal)));
            }
            (Which::New, before, Ok(new)) => {
                let running = || (changes.files.clone(), changes.reading.clone());
                changes.before = Some(before.unwrap_or_else(running));
                new
            }
            (Which::Old, None, Ok(old)) => old,
        };
        changes.files = files;
        changes.reading = reading;
        self.peers.say_facts(self.changes.facts());
        self.take_over();
    }

    /// The modules become what the configuration says now.
    fn take_over(&mut self) {
        let wanted = self.changes.reading.modules.clone();
        let named = |m: &Runtime| wanted.iter().any(|d| d.module.name == m.name());
        self.modules.retain(|m| named(m) || m.runs());
        let mut left = 1;
        for module in wanted.into_iter().map(|d| d.module) {
            let found = self.modules.iter_mut().find(|m| m.name() == module.name);
            let Some(runtime) = found else {
                let started = Runtime::start(&self.settings, module, self.tools.clone(), false);
                match started {
                    Ok(runtime) => self.modules.push(runtime),
                    Err(e) => self.log.write(None, &e.to_string()),
                }
                continue;
            };
            if runtime.config == module {
                continue;
            }
            left += 1;
            let send = self.tools.send.clone();
            let reply = Box::new(move |answer| {
                let result = match answer {
                    Answer::Refused(refusal) => Err(refusal),
                    _ => Ok(()),
                };
                // The loop may have ended.
                let _ = send.send(Event::Change(Step::Taken(result)));
            });
            runtime.configure(module, reply, &mut self.log);
        }
        self.changes.pending = (left, Ok(()));
        // The ends of the modules come after it.
        let _ = self.tools.send.send(Event::Change(Step::Taken(Ok(()))));
    }
}
