//! What a writer of small files told, and what must therefore be found.

use anyhow::{Context, Result, bail, ensure};
use std::collections::{BTreeMap, BTreeSet};
use std::path::Path;

/// Writers side by side.
pub const WRITERS: u64 = 3;
/// Files a writer keeps.
pub const KEPT: u64 = 100;
/// Length of a journal's record.
pub const RECORD: u64 = 64;
/// A journal is synced once in so many records.
pub const SYNC_EVERY: u64 = 5;

/// A step that a writer went on to; it is no promise.
const REACHED: char = 'r';
const STEPS: [char; 6] = ['w', 's', 'a', 'd', 'u', REACHED];

/// Steps that may have been done although nobody was told: the line was on its way at the cut.
const UNTOLD: u64 = 2;

/// What must be there.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Level {
    /// What was synced: the power of both nodes was cut.
    Synced,
    /// Whatever was answered: one of the nodes has lived on.
    Answered,
}

/// Content of file `n`: of any length, telling whose it is.
pub fn content(writer: u64, n: u64) -> Vec<u8> {
    let length = (n * 7919 + writer * 104_729) % 20_000 + 1;
    let text = format!("{writer} {n} ");
    text.bytes().cycle().take(length as usize).collect()
}

/// Record `n` of a journal.
pub fn record(writer: u64, n: u64) -> Vec<u8> {
    let text = format!("{writer} {n} ");
    text.bytes().cycle().take(RECORD as usize).collect()
}

/// All that the writers of one directory told.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Told {
    /// By writer and step.
    steps: BTreeMap<(u64, char), BTreeSet<u64>>,
}

impl Told {
    pub fn add(&mut self, line: &str) -> Result<()> {
        let words: Vec<_> = line.split(' ').collect();
        let [writer, step, n] = words[..] else {
            bail!("a writer said {line:?}");
        };
        let number = |text: &str| text.parse::<u64>().with_context(|| line.to_owned());
        let step = step.parse().with_context(|| line.to_owned())?;
        let steps = self.steps.entry((number(writer)?, step)).or_default();
        steps.insert(number(n)?);
        Ok(())
    }

    /// The same as lines.
    pub fn text(&self) -> String {
        let lines = self.steps.iter().flat_map(|((writer, step), numbers)| {
            let line = move |n| format!("{writer} {step} {n}\n");
            numbers.iter().map(line)
        });
        lines.collect()
    }

    /// How many steps were answered.
    pub fn len(&self) -> usize {
        self.steps.values().map(BTreeSet::len).sum()
    }

    pub fn is_empty(&self) -> bool {
        self.steps.is_empty()
    }

    fn has(&self, writer: u64, step: char, n: u64) -> bool {
        let numbers = self.steps.get(&(writer, step));
        numbers.is_some_and(|numbers| numbers.contains(&n))
    }

    fn last(&self, writer: u64, step: char) -> Option<u64> {
        self.steps.get(&(writer, step))?.last().copied()
    }

    /// The last step that is known to have been done.
    fn reached(&self, writer: u64) -> u64 {
        let last = STEPS.map(|step| self.last(writer, step));
        last.into_iter().flatten().max().unwrap_or(0)
    }

    /// The writers went on and told more, which may be there, and what they removed may be gone.
    pub fn went_on(&mut self, later: &Self) {
        for writer in 0..WRITERS {
            let steps = self.steps.entry((writer, REACHED)).or_default();
            steps.insert(later.reached(writer));
        }
    }

    /// Looks for everything in the writers' directory; the number of things that were looked for,
    /// and a line for each that is not as it must be.
    pub fn check(&self, dir: &Path, level: Level) -> (u64, Vec<String>) {
        let mut check = Check {
            count: 0,
            wrong: Vec::new(),
        };
        for writer in 0..WRITERS {
            self.check_files(writer, &dir.join(writer.to_string()), level, &mut check);
            self.check_journal(writer, &dir.join(writer.to_string()), level, &mut check);
        }
        (check.count, check.wrong)
    }

    fn check_files(&self, writer: u64, dir: &Path, level: Level, check: &mut Check) {
        let last = self.reached(writer) + UNTOLD;
        for n in 0..=last {
            let (named, new) = (dir.join(n.to_string()), dir.join(format!("new{n}")));
            let content = content(writer, n);
            if self.has(writer, 'u', n) {
                check.that(!named.exists(), || format!("{} is back", named.display()));
            } else if self.has(writer, 's', n) {
                let removing = n + KEPT <= last && !named.exists();
                let found = removing || is_file(&named, &content, check);
                check.that(found, || format!("{} was synced", named.display()));
                check.that(!new.exists(), || {
                    format!("{} has its old name again", named.display())
                });
            } else if level >= Level::Answered && self.has(writer, 'w', n) {
                let found = is_file(&named, &content, check) || is_file(&new, &content, check);
                check.that(found, || format!("{} was written", new.display()));
            } else if named.exists() {
                // It got its name after its data had been synced.
                let whole = is_file(&named, &content, check);
                check.that(whole, || format!("{} overtook its data", named.display()));
            }
        }
    }

    fn check_journal(&self, writer: u64, dir: &Path, level: Level, check: &mut Check) {
        let step = if level >= Level::Answered { 'a' } else { 'd' };
        let Some(last) = self.last(writer, step) else {
            return;
        };
        let path = dir.join("journal");
        let journal = std::fs::read(&path).unwrap_or_default();
        for n in 0..=last {
            let at = (n * RECORD) as usize;
            let found = journal.get(at..at + RECORD as usize);
            check.that(found == Some(&record(writer, n)[..]), || {
                format!("{}: record {n} of {last} ('{step}')", path.display())
            });
        }
    }
}

struct Check {
    count: u64,
    wrong: Vec<String>,
}

impl Check {
    fn that(&mut self, holds: bool, otherwise: impl FnOnce() -> String) {
        self.count += 1;
        if !holds {
            self.wrong.push(otherwise());
        }
    }
}

/// Whether a file has this content; how it differs is noted, unless it is missing.
fn is_file(path: &Path, content: &[u8], check: &mut Check) -> bool {
    let found = match std::fs::read(path) {
        Ok(found) => found,
        Err(error) if error.kind() == std::io::ErrorKind::NotFound => return false,
        Err(error) => {
            check.wrong.push(format!("{}: {error}", path.display()));
            return false;
        }
    };
    let same = found
        .iter()
        .zip(content)
        .take_while(|(a, b)| a == b)
        .count();
    if found != content {
        let (path, is, was) = (path.display(), found.len(), content.len());
        let note = format!("{path}: {is} bytes, should be {was}; equal up to byte {same}");
        check.wrong.push(note);
    }
    found == content
}

/// Runs the check inside a guest: `told` is what [`Told::text`] wrote.
///
/// # Errors
/// A line for each thing that is not as it must be.
pub fn check(dir: &Path, level: &str, told: &str) -> Result<u64> {
    let level = match level {
        "synced" => Level::Synced,
        "answered" => Level::Answered,
        other => bail!("no such level: {other}"),
    };
    let mut all = Told::default();
    told.lines().try_for_each(|line| all.add(line))?;
    let (count, wrong) = all.check(dir, level);
    ensure!(
        wrong.is_empty(),
        "{} wrong:\n{}",
        wrong.len(),
        wrong.join("\n")
    );
    Ok(count)
}

impl Level {
    /// As [`check`] takes it.
    pub fn word(self) -> &'static str {
        match self {
            Self::Synced => "synced",
            Self::Answered => "answered",
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::fs;

    /// A directory with what one writer left, removed on drop.
    struct Dir(std::path::PathBuf);

    impl Dir {
        fn new(name: &str) -> Self {
            let path = std::env::temp_dir().join(format!("told-{}-{name}", std::process::id()));
            fs::create_dir_all(path.join("0")).unwrap();
            Self(path)
        }

        fn put(&self, name: &str, content: &[u8]) {
            fs::write(self.0.join("0").join(name), content).unwrap();
        }

        fn wrong(&self, lines: &str, level: Level) -> Vec<String> {
            let mut told = Told::default();
            lines.lines().for_each(|line| told.add(line).unwrap());
            let mut again = Told::default();
            told.text()
                .lines()
                .for_each(|line| again.add(line).unwrap());
            assert_eq!(told, again);
            told.check(&self.0, level).1
        }
    }

    impl Drop for Dir {
        fn drop(&mut self) {
            fs::remove_dir_all(&self.0).ok();
        }
    }

    #[test]
    fn what_was_removed_later_may_be_gone_or_there() {
        let dir = Dir::new("later");
        let told = |lines: &str| {
            let mut told = Told::default();
            lines.lines().for_each(|line| told.add(line).unwrap());
            told
        };
        let mut before = told("0 s 0\n0 s 1");
        dir.put("1", &content(0, 1));
        assert_eq!(before.check(&dir.0, Level::Synced).1.len(), 1);
        before.went_on(&told(&format!("0 s {KEPT}")));
        let before = told(&before.text());
        assert!(before.check(&dir.0, Level::Synced).1.is_empty());
        dir.put("0", &content(0, 0));
        assert!(before.check(&dir.0, Level::Synced).1.is_empty());
        fs::remove_file(dir.0.join("0").join("1")).unwrap();
        let mut soon = told("0 s 1");
        soon.went_on(&told("0 s 50"));
        assert_eq!(soon.check(&dir.0, Level::Synced).1.len(), 1);
    }

    #[test]
    fn what_was_written_only_need_not_survive_both_cuts() {
        let dir = Dir::new("written");
        assert_eq!(dir.wrong("0 w 0\n", Level::Synced), Vec::<String>::new());
        assert_eq!(dir.wrong("0 w 0\n", Level::Answered).len(), 1);
        dir.put("new0", &content(0, 0));
        assert_eq!(dir.wrong("0 w 0\n", Level::Answered), Vec::<String>::new());
    }

    #[test]
    fn what_was_synced_must_be_there_and_whole() {
        let dir = Dir::new("synced");
        let told = "0 w 0\n0 s 0\n0 a 0\n0 d 0\n0 w 1\n";
        assert_eq!(dir.wrong(told, Level::Synced).len(), 2);
        dir.put("0", &content(0, 0));
        dir.put("journal", &record(0, 0));
        assert_eq!(dir.wrong(told, Level::Synced), Vec::<String>::new());
        dir.put("1", b"0 1");
        assert_eq!(dir.wrong(told, Level::Synced).len(), 2);
        dir.put("0", &[0; 30]);
        assert!(dir.wrong(told, Level::Synced)[0].contains("equal up to byte 0"));
    }

    #[test]
    fn what_was_removed_must_not_come_back() {
        let dir = Dir::new("removed");
        dir.put("0", &content(0, 0));
        assert_eq!(dir.wrong("0 s 0\n0 u 0\n", Level::Synced).len(), 1);
    }
}
