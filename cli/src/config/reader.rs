//! Reads values out of a [`Tree`], collecting what does not fit: unknown and repeated keys, missing
//! keys, values of another kind. It knows nothing of what the keys mean.

use ron::Options;
use ron::extensions::Extensions;
use serde::de::{DeserializeOwned, IgnoredAny};

use super::problem::{At, Place, Problem, Source, did_you_mean, nearest};
use super::tree::{Field, Shape, Tree, scan};

/// RON as our files are written: an optional value needs no `Some`.
fn options() -> Options {
    Options::default().with_default_extension(Extensions::IMPLICIT_SOME)
}

/// Reads one file. Every method that answers `None` has noted why.
pub(crate) struct Reader<'s> {
    source: &'s Source,
    pub(crate) problems: Vec<Problem>,
}

/// The fields of a structure whose keys have been checked.
pub(crate) struct Keys<'t, 's> {
    pub(crate) place: Place,
    fields: &'t [Field<'s>],
    /// Keys that a misspelt one was taken for: they are not missing as well.
    meant: Vec<&'static str>,
}

impl<'s> Reader<'s> {
    pub(crate) fn new(source: &'s Source) -> Self {
        Self {
            source,
            problems: Vec::new(),
        }
    }

    /// The tree of the whole file, if its syntax is right.
    pub(crate) fn tree(&mut self) -> Option<Tree<'s>> {
        if let Err(error) = options().from_str::<IgnoredAny>(&self.source.text) {
            let place = Place {
                file: self.source.file.clone(),
                position: Some((error.span.end.line, error.span.end.col)),
            };
            self.problems.push(Problem::new(
                place,
                format!("is not correct RON: {}", error.code),
            ));
            return None;
        }
        let tree = scan(&self.source.text);
        if tree.is_none() {
            let place = Place::file(&self.source.file);
            self.problems.push(Problem::new(
                place,
                "cannot be read; expected `( key: value, … )`",
            ));
        }
        tree
    }

    /// Where a value stands.
    pub(crate) fn place(&self, tree: &Tree<'_>) -> Place {
        self.source.place(tree.at)
    }

    /// Notes a problem with what stands at a byte offset.
    pub(crate) fn note(&mut self, at: usize, message: impl Into<String>) {
        self.problems
            .push(Problem::new(self.source.place(at), message));
    }

    fn expected(&mut self, tree: &Tree<'_>, expected: &str) {
        self.note(
            tree.at,
            format!("found {}, expected {expected}", shortened(tree.text)),
        );
    }

    /// The fields of a structure, each key known and given once.
    pub(crate) fn keys<'t>(
        &mut self,
        tree: &'t Tree<'s>,
        known: &[&'static str],
    ) -> Option<Keys<'t, 's>> {
        let Shape::Structure(fields) = &tree.shape else {
            self.expected(tree, &format!("( … ) with the keys {}", known.join(", ")));
            return None;
        };
        let mut meant = Vec::new();
        for (index, field) in fields.iter().enumerate() {
            if let Some(first) = fields[..index].iter().find(|first| first.key == field.key) {
                let first = self.source.place(first.at);
                self.note(
                    field.at,
                    format!("key `{}` is given again, first at {first}", field.key),
                );
            } else if !known.contains(&field.key) {
                // A key that is not given yet is more likely meant than one that is.
                let given = |key: &str| fields.iter().any(|field| field.key == key);
                let free: Vec<_> = known.iter().copied().filter(|key| !given(key)).collect();
                let near = nearest(field.key, free);
                meant.extend(near);
                let near = near.or_else(|| nearest(field.key, known.iter().copied()));
                let hint = near.map_or(String::new(), |key| format!("; did you mean `{key}`?"));
                let list = known.join(", ");
                let message = format!("unknown key `{}`, expected {list}{hint}", field.key);
                self.note(field.at, message);
            }
        }
        Some(Keys {
            place: self.source.place(tree.at),
            fields,
            meant,
        })
    }

    /// The value of a key that must be there; `example` shows how to write it.
    pub(crate) fn required<'t>(
        &mut self,
        keys: &Keys<'t, 's>,
        key: &'static str,
        example: &str,
    ) -> Option<&'t Tree<'s>> {
        let value = keys.optional(key);
        if value.is_none() && !keys.meant.contains(&key) {
            let message = format!("key `{key}` is missing; add `{key}: {example}`");
            self.problems
                .push(Problem::new(keys.place.clone(), message));
        }
        value
    }

    /// The elements of a list.
    pub(crate) fn list<'t>(&mut self, tree: &'t Tree<'s>, example: &str) -> Option<&'t [Tree<'s>]> {
        if let Shape::List(values) = &tree.shape {
            return Some(values);
        }
        self.expected(tree, &format!("a list such as {example}"));
        None
    }

    /// A list of strings; elements that are none are noted and left out.
    pub(crate) fn strings(&mut self, tree: &Tree<'s>, example: &str) -> Option<Vec<At<String>>> {
        let values = self.list(tree, example)?;
        Some(
            values
                .iter()
                .filter_map(|value| self.string(value))
                .collect(),
        )
    }

    pub(crate) fn string(&mut self, tree: &Tree<'s>) -> Option<At<String>> {
        self.value(tree, "a text in double quotes")
    }

    /// A single value as `ron` reads it.
    pub(crate) fn value<T: DeserializeOwned>(
        &mut self,
        tree: &Tree<'s>,
        expected: &str,
    ) -> Option<At<T>> {
        match options().from_str(tree.text) {
            Ok(value) if matches!(tree.shape, Shape::Leaf) => Some(At {
                value,
                place: self.source.place(tree.at),
            }),
            _ => {
                self.expected(tree, expected);
                None
            }
        }
    }

    /// One of a set of words, written without quotes.
    pub(crate) fn word(
        &mut self,
        tree: &Tree<'s>,
        known: &[&'static str],
    ) -> Option<At<&'static str>> {
        if let Some(word) = known.iter().find(|word| **word == tree.text) {
            return Some(At {
                value: word,
                place: self.source.place(tree.at),
            });
        }
        let bare = tree.text.trim_matches('"');
        let hint = if bare != tree.text && known.contains(&bare) {
            format!("; write `{bare}` without quotes")
        } else {
            did_you_mean(bare, known.iter().copied())
        };
        self.expected(tree, &format!("one of {}{hint}", known.join(", ")));
        None
    }
}

impl<'t, 's> Keys<'t, 's> {
    /// The value of a key, if given.
    pub(crate) fn optional(&self, key: &str) -> Option<&'t Tree<'s>> {
        self.fields
            .iter()
            .find(|field| field.key == key)
            .map(|field| &field.value)
    }
}

/// A piece of the file, quoted and short enough for a message.
fn shortened(text: &str) -> String {
    const LONGEST: usize = 40;
    let line = text.lines().next().unwrap_or_default();
    let short: String = line.chars().take(LONGEST).collect();
    if short.len() == text.len() {
        format!("`{text}`")
    } else {
        format!("`{short}…`")
    }
}
