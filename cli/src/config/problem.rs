//! What is wrong in the configuration, and where. Problems are collected, never thrown: an operator
//! who made three mistakes is told all three.

use std::cmp::Reverse;
use std::fmt;
use std::fs::File;
use std::io::{self, Read};
use std::path::{Path, PathBuf};

/// Where a value stands: a file, and line and column (from 1, in characters) where known.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) struct Place {
    pub(crate) file: PathBuf,
    pub(crate) position: Option<(usize, usize)>,
}

impl Place {
    /// A file as a whole.
    pub(crate) fn file(file: impl Into<PathBuf>) -> Self {
        Self {
            file: file.into(),
            position: None,
        }
    }
}

impl fmt::Display for Place {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}", self.file.display())?;
        match self.position {
            Some((line, column)) => write!(f, ":{line}:{column}"),
            None => Ok(()),
        }
    }
}

/// A value and where it stands.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct At<T> {
    pub(crate) value: T,
    pub(crate) place: Place,
}

impl<T> At<T> {
    pub(crate) fn map<U>(self, change: impl FnOnce(T) -> U) -> At<U> {
        At {
            value: change(self.value),
            place: self.place,
        }
    }
}

/// One thing that is wrong.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Problem {
    pub(crate) place: Place,
    /// What was found and what was expected, with the remedy; no final stop.
    pub(crate) message: String,
    /// The modules that must not start because of it; empty: all. A mistake in the file of one
    /// module must not keep another module from being started after a failure.
    pub(crate) modules: Vec<String>,
}

impl Problem {
    /// A problem that concerns the whole node.
    pub(crate) fn new(place: Place, message: impl Into<String>) -> Self {
        Self {
            place,
            message: message.into(),
            modules: Vec::new(),
        }
    }

    /// Whether `module` must not start because of this.
    pub(crate) fn concerns(&self, module: &str) -> bool {
        self.modules.is_empty() || self.modules.iter().any(|m| m == module)
    }
}

impl fmt::Display for Problem {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}: {}", self.place, self.message)
    }
}

/// Everything that is wrong; as an error, it prints one problem per line in the order of places.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(crate) struct Problems(pub(crate) Vec<Problem>);

impl Problems {
    pub(crate) fn is_empty(&self) -> bool {
        self.0.is_empty()
    }
}

impl fmt::Display for Problems {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let mut problems: Vec<_> = self.0.iter().collect();
        problems.sort_by_key(|problem| &problem.place);
        for problem in &problems {
            writeln!(f, "{problem}")?;
        }
        match problems.len() {
            1 => write!(f, "the configuration has 1 problem"),
            count => write!(f, "the configuration has {count} problems"),
        }
    }
}

impl std::error::Error for Problems {}

/// The known word nearest to `found`, if one is near enough to be what was meant. Among equally
/// near ones, that with the same beginning.
pub(crate) fn nearest<'k>(
    found: &str,
    known: impl IntoIterator<Item = &'k str>,
) -> Option<&'k str> {
    let found = found.to_lowercase();
    let alike = |word: &str| {
        found
            .chars()
            .zip(word.chars())
            .take_while(|(a, b)| a == b)
            .count()
    };
    known
        .into_iter()
        .map(|word| {
            (
                strsim::damerau_levenshtein(&found, word),
                Reverse(alike(word)),
                word,
            )
        })
        // Two slips, or more in a long word; but never as many as the word has letters.
        .filter(|(slips, _, word)| *slips <= 2.max(word.len() / 3) && *slips < word.len())
        .min()
        .map(|(.., word)| word)
}

/// `; did you mean …?` if a known word is near, else nothing.
pub(crate) fn did_you_mean<'k>(found: &str, known: impl IntoIterator<Item = &'k str>) -> String {
    nearest(found, known).map_or(String::new(), |word| format!("; did you mean `{word}`?"))
}

/// The text of a file, to turn byte offsets into places.
pub(crate) struct Source {
    pub(crate) file: PathBuf,
    pub(crate) text: String,
}

impl Source {
    /// Largest configuration file read, bytes.
    const LIMIT: u64 = 1 << 20;

    /// Reads a file; if that fails a problem, with `remedy` for a missing file.
    pub(crate) fn read(file: &Path, remedy: &str) -> Result<Self, Problem> {
        let fail = |message: String| Problem::new(Place::file(file), message);
        let unreadable = |error: io::Error| {
            let remedy = match error.kind() {
                io::ErrorKind::NotFound => remedy,
                io::ErrorKind::PermissionDenied => "run the command as root",
                _ => "expected a text file",
            };
            fail(format!("cannot be read: {error}; {remedy}"))
        };
        // One more than allowed tells a file that is too long, whatever its metadata say.
        let mut text = String::new();
        let open = File::open(file).map_err(unreadable)?;
        open.take(Self::LIMIT + 1)
            .read_to_string(&mut text)
            .map_err(unreadable)?;
        if text.len() as u64 > Self::LIMIT {
            return Err(fail(format!("is longer than {} bytes", Self::LIMIT)));
        }
        Ok(Self {
            file: file.into(),
            text,
        })
    }

    /// The place of a byte offset.
    pub(crate) fn place(&self, at: usize) -> Place {
        let before = &self.text[..at];
        let line = 1 + before.matches('\n').count();
        let column = 1 + before.chars().rev().take_while(|&c| c != '\n').count();
        Place {
            file: self.file.clone(),
            position: Some((line, column)),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_a_near_word_is_suggested() {
        let known = ["mode", "nodes", "directories", "port", "ack"];
        assert_eq!(nearest("directorys", known), Some("directories"));
        assert_eq!(nearest("Nodes", known), Some("nodes"));
        assert_eq!(nearest("node", known), Some("nodes"));
        assert_eq!(nearest("prot", known), Some("port"));
        assert_eq!(nearest("colour", known), None);
        assert_eq!(nearest("b", ["a"]), None);
    }

    #[test]
    fn columns_count_characters() {
        let source = Source {
            file: "x".into(),
            text: "(\n äb".into(),
        };
        assert_eq!(source.place(5).to_string(), "x:2:3");
    }
}
