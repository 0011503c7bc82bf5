//! What application and client wrote down, and what must hold for it.

use crate::load::{self, WRITERS};
use anyhow::{Context, Result, ensure};
use std::fs::{self, File};
use std::io::{Read, Seek, SeekFrom};
use std::path::{Path, PathBuf};
use std::time::Duration;

/// How much of the client's log is lately, bytes.
const LATELY: u64 = 2000;

/// One start of the application.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Instance {
    /// `NODE-NUMBER`.
    pub name: String,
    pub dir: PathBuf,
    /// When the first and the last of its answered operations began.
    pub began: Option<(u64, u64)>,
    pub answered: usize,
}

/// A request of the client that was answered.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Answered {
    pub began: u64,
    pub at: u64,
    /// The instance.
    pub who: String,
    pub number: u64,
}

impl Answered {
    pub fn node(&self) -> &str {
        node(&self.who)
    }
}

fn node(instance: &str) -> &str {
    instance.split('-').next().unwrap_or_default()
}

/// A script ran: `start`, `started`, `stop`, `stopped`.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Event {
    pub at: u64,
    pub node: String,
    pub what: String,
}

/// All notes.
#[derive(Clone, Debug)]
pub struct Notes {
    pub instances: Vec<Instance>,
    pub answers: Vec<Answered>,
    pub events: Vec<Event>,
}

/// All starts of the application whose notes are kept.
///
/// # Errors
/// A log that cannot be read.
pub fn instances(notes: &Path) -> Result<Vec<Instance>> {
    let mut all = Vec::new();
    for entry in fs::read_dir(notes)?.flatten() {
        let name = entry.file_name().to_string_lossy().into_owned();
        if !entry.path().is_dir() {
            continue;
        }
        let mut instance = Instance {
            name,
            dir: entry.path(),
            began: None,
            answered: 0,
        };
        for number in 0..WRITERS {
            let told = load::told(&entry.path(), number)?;
            instance.answered += told.answered;
            let Some((first, last)) = told.began else {
                continue;
            };
            let so_far = instance.began.unwrap_or((first, last));
            instance.began = Some((so_far.0.min(first), so_far.1.max(last)));
        }
        all.push(instance);
    }
    all.sort_by_key(|i| i.began);
    Ok(all)
}

/// What the client was answered.
///
/// # Errors
/// A log that cannot be read.
pub fn answers(notes: &Path) -> Result<Vec<Answered>> {
    answers_from(notes, 0).map(|(answers, _)| answers)
}

/// What the client was answered lately.
///
/// # Errors
/// A log that cannot be read.
pub fn last_answers(notes: &Path) -> Result<Vec<Answered>> {
    let length = fs::metadata(notes.join("client")).map_or(0, |m| m.len());
    let (text, _) = text_from(notes, length.saturating_sub(LATELY))?;
    // The first line is cut, unless it is the very first.
    let lines = text.lines().skip(usize::from(length > LATELY));
    lines.map(|l| answered(l).context(l.to_string())).collect()
}

/// What the client was answered beyond a place in its log, and the place where that ends.
///
/// # Errors
/// A log that cannot be read.
pub fn answers_from(notes: &Path, from: u64) -> Result<(Vec<Answered>, u64)> {
    let (text, to) = text_from(notes, from)?;
    let answers = text.lines().map(|l| answered(l).context(l.to_string()));
    Ok((answers.collect::<Result<_>>()?, to))
}

/// Whole lines of the client's log from a place on, and where they end.
fn text_from(notes: &Path, from: u64) -> Result<(String, u64)> {
    let Ok(mut file) = File::open(notes.join("client")) else {
        return Ok((String::new(), from));
    };
    file.seek(SeekFrom::Start(from))?;
    let mut text = String::new();
    file.read_to_string(&mut text)?;
    text.truncate(text.rfind('\n').map_or(0, |end| end + 1));
    let to = from + text.len() as u64;
    Ok((text, to))
}

fn answered(line: &str) -> Result<Answered> {
    let mut words = line.split(' ');
    let mut next = || words.next().context("a word is missing");
    Ok(Answered {
        began: next()?.parse()?,
        at: next()?.parse()?,
        who: next()?.into(),
        number: next()?.parse()?,
    })
}

/// When scripts ran.
///
/// # Errors
/// A line that is none.
pub fn events(notes: &Path) -> Result<Vec<Event>> {
    let text = fs::read_to_string(notes.join("events")).unwrap_or_default();
    let event = |line: &str| -> Result<Event> {
        let mut words = line.split(' ');
        let mut next = || words.next().context("a word is missing");
        Ok(Event {
            at: next()?.parse()?,
            node: next()?.into(),
            what: next()?.into(),
        })
    };
    text.lines()
        .map(|line| event(line).context(line.to_string()))
        .collect()
}

impl Notes {
    /// # Errors
    /// A log that cannot be read.
    pub fn read(notes: &Path) -> Result<Self> {
        Ok(Self {
            instances: instances(notes)?,
            answers: answers(notes)?,
            events: events(notes)?,
        })
    }

    /// Of two starts of the application, the later one's first answered operation began after
    /// the last one of the earlier had begun (I2).
    ///
    /// # Errors
    /// Two at a time.
    pub fn never_two(&self) -> Result<()> {
        let mut before: Option<(&Instance, u64)> = None;
        for instance in &self.instances {
            let Some((first, last)) = instance.began else {
                continue;
            };
            if let Some((other, end)) = before {
                ensure!(
                    first > end,
                    "{} was answered at {first}, {} still at {end}",
                    instance.name,
                    other.name
                );
            }
            before = Some((instance, last));
        }
        Ok(())
    }

    /// Every answer counts on from the one before, whoever gave it.
    ///
    /// # Errors
    /// A count that was told was lost.
    pub fn the_count_never_goes_back(&self) -> Result<()> {
        for pair in self.answers.windows(2) {
            ensure!(
                pair[0].number < pair[1].number,
                "the client was told {:?}, then {:?}",
                pair[0],
                pair[1]
            );
        }
        Ok(())
    }

    /// When a script ran on a node for the first time after an instant.
    ///
    /// # Errors
    /// It did not.
    pub fn when(&self, node: &str, what: &str, after: u64) -> Result<u64> {
        let mut events = self.events.iter();
        let found = events.find(|e| e.at >= after && e.node == node && e.what == what);
        let found = found.with_context(|| format!("no {what} on {node} after {after}"));
        Ok(found?.at)
    }

    /// The longest time without an answer that ended after `from` and began before `to`.
    pub fn pause(&self, from: u64, to: u64) -> Duration {
        let gap = |pair: &[Answered]| {
            let (gone, back) = (pair[0].at, pair[1].at);
            let meant = back >= from && gone <= to;
            meant.then(|| Duration::from_micros(back - gone))
        };
        let gaps = self.answers.windows(2).filter_map(gap);
        gaps.max().unwrap_or_default()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn instance(name: &str, began: (u64, u64)) -> Instance {
        Instance {
            name: name.into(),
            dir: PathBuf::new(),
            began: Some(began),
            answered: 2,
        }
    }

    fn notes(instances: Vec<Instance>, numbers: &[u64]) -> Notes {
        let answer = |(n, number): (usize, &u64)| Answered {
            began: n as u64 * 10,
            at: n as u64 * 10 + 5,
            who: "node1-1".into(),
            number: *number,
        };
        Notes {
            instances,
            answers: numbers.iter().enumerate().map(answer).collect(),
            events: Vec::new(),
        }
    }

    #[test]
    fn two_at_a_time_are_found() {
        let (one, two) = (instance("node1-1", (10, 50)), instance("node2-1", (51, 90)));
        assert!(notes(vec![one.clone(), two], &[]).never_two().is_ok());
        let two = instance("node2-1", (49, 90));
        assert!(notes(vec![one, two], &[]).never_two().is_err());
    }

    #[test]
    fn a_lost_count_is_found() {
        assert!(
            notes(vec![], &[1, 2, 7])
                .the_count_never_goes_back()
                .is_ok()
        );
        assert!(
            notes(vec![], &[1, 2, 2])
                .the_count_never_goes_back()
                .is_err()
        );
    }

    #[test]
    fn the_pause_is_the_longest_gap_in_a_time() {
        let mut notes = notes(vec![], &[1, 2, 3]);
        notes.answers[2].at = 1000;
        assert_eq!(notes.pause(0, 12), Duration::from_micros(10));
        assert_eq!(notes.pause(16, 2000), Duration::from_micros(985));
    }
}
