//! The text of a configuration file as a tree that knows where each part stands.
//!
//! The `ron` crate stops at the first mistake and forgets positions once it has built a value, and
//! an operator wants all mistakes at once, each with its place. So `ron` stays the judge of the
//! syntax and of every single value ([`super::reader`]), and this file only finds where keys and
//! values begin and end. It relies on the text being correct RON, may answer `None` for anything
//! else, and never panics.

/// One value: where it begins (byte offset), its text, its shape.
#[derive(Debug)]
pub(crate) struct Tree<'s> {
    pub(crate) at: usize,
    pub(crate) text: &'s str,
    pub(crate) shape: Shape<'s>,
}

#[derive(Debug)]
pub(crate) enum Shape<'s> {
    /// `(key: value, …)`
    Structure(Vec<Field<'s>>),
    /// `[value, …]`
    List(Vec<Tree<'s>>),
    /// Anything else: a string, a number, a word, and also maps, tuples and named structures,
    /// which no file of ours uses.
    Leaf,
}

#[derive(Debug)]
pub(crate) struct Field<'s> {
    pub(crate) key: &'s str,
    pub(crate) at: usize,
    pub(crate) value: Tree<'s>,
}

/// The tree of a whole file.
pub(crate) fn scan(text: &str) -> Option<Tree<'_>> {
    let mut scanner = Scanner { text, at: 0 };
    scanner.skip_space()?;
    while scanner.rest().starts_with("#!") {
        scanner.skip_past("]")?;
        scanner.skip_space()?;
    }
    scanner.value()
}

struct Scanner<'s> {
    text: &'s str,
    at: usize,
}

impl<'s> Scanner<'s> {
    fn rest(&self) -> &'s str {
        &self.text[self.at..]
    }

    fn peek(&self) -> Option<char> {
        self.rest().chars().next()
    }

    fn eat(&mut self, expected: char) -> bool {
        let found = self.peek() == Some(expected);
        if found {
            self.at += expected.len_utf8();
        }
        found
    }

    fn skip_past(&mut self, end: &str) -> Option<()> {
        self.at += self.rest().find(end)? + end.len();
        Some(())
    }

    /// Skips white space and comments; `None` at an unclosed comment.
    fn skip_space(&mut self) -> Option<()> {
        loop {
            self.at = self.text.len() - self.rest().trim_start().len();
            if self.rest().starts_with("//") {
                let line = self.rest().find('\n').unwrap_or(self.rest().len());
                self.at += line;
            } else if self.rest().starts_with("/*") {
                self.skip_block_comment()?;
            } else {
                return Some(());
            }
        }
    }

    /// Block comments nest in RON.
    fn skip_block_comment(&mut self) -> Option<()> {
        self.at += 2;
        let mut depth = 1;
        while depth > 0 {
            self.at += self.rest().find(['*', '/'])?;
            if self.rest().starts_with("*/") {
                depth -= 1;
                self.at += 2;
            } else if self.rest().starts_with("/*") {
                depth += 1;
                self.at += 2;
            } else {
                self.at += 1;
            }
        }
        Some(())
    }

    fn value(&mut self) -> Option<Tree<'s>> {
        let at = self.at;
        let shape = match self.peek()? {
            '(' => self.group(')')?,
            '{' => self.group('}')?,
            '[' => self.list()?,
            '\'' => self.character()?,
            _ if self.quoted_prefix().is_some() => self.string()?,
            _ => self.word()?,
        };
        Some(Tree {
            at,
            text: &self.text[at..self.at],
            shape,
        })
    }

    fn list(&mut self) -> Option<Shape<'s>> {
        self.at += 1;
        let mut values = Vec::new();
        loop {
            self.skip_space()?;
            if self.eat(']') {
                return Some(Shape::List(values));
            }
            values.push(self.value()?);
            self.skip_space()?;
            self.eat(',');
        }
    }

    /// What stands between round or curly brackets; a structure only if all of it is `key: value`.
    fn group(&mut self, close: char) -> Option<Shape<'s>> {
        self.at += 1;
        let mut fields = Vec::new();
        let mut structure = close == ')';
        loop {
            self.skip_space()?;
            if self.eat(close) {
                return Some(if structure {
                    Shape::Structure(fields)
                } else {
                    Shape::Leaf
                });
            }
            let key = self.value()?;
            self.skip_space()?;
            if self.eat(':') {
                self.skip_space()?;
                let value = self.value()?;
                fields.push(Field {
                    key: key.text,
                    at: key.at,
                    value,
                });
                self.skip_space()?;
            } else {
                structure = false;
            }
            self.eat(',');
        }
    }

    /// Length of `"`, `r"`, `r#"`, `b"`, … if a string begins here, and how many `#` close it
    /// (`None`: not a raw string, so `\` escapes).
    fn quoted_prefix(&self) -> Option<(usize, Option<usize>)> {
        let rest = self.rest();
        let rest = rest.strip_prefix('b').unwrap_or(rest);
        let (rest, hashes) = match rest.strip_prefix('r') {
            Some(raw) => {
                let inner = raw.trim_start_matches('#');
                (inner, Some(raw.len() - inner.len()))
            }
            None => (rest, None),
        };
        rest.starts_with('"')
            .then(|| (self.rest().len() - rest.len() + 1, hashes))
    }

    fn string(&mut self) -> Option<Shape<'s>> {
        let (prefix, hashes) = self.quoted_prefix()?;
        self.at += prefix;
        if let Some(hashes) = hashes {
            self.skip_past(&format!("\"{}", "#".repeat(hashes)))?;
            return Some(Shape::Leaf);
        }
        self.escaped_until('"')
    }

    fn character(&mut self) -> Option<Shape<'s>> {
        self.at += 1;
        self.escaped_until('\'')
    }

    fn escaped_until(&mut self, end: char) -> Option<Shape<'s>> {
        let mut escaped = false;
        for (offset, found) in self.rest().char_indices() {
            if !escaped && found == end {
                self.at += offset + 1;
                return Some(Shape::Leaf);
            }
            escaped = !escaped && found == '\\';
        }
        None
    }

    /// A number, a word, or a word with a group behind it (`Some(3)`).
    fn word(&mut self) -> Option<Shape<'s>> {
        let ends = |c: char| c.is_whitespace() || ",:()[]{}\"".contains(c);
        let word = self.rest().find(ends).unwrap_or(self.rest().len());
        let comment = ["//", "/*"]
            .iter()
            .filter_map(|mark| self.rest().find(mark))
            .min();
        let length = comment.map_or(word, |comment| comment.min(word));
        if length == 0 {
            return None;
        }
        self.at += length;
        let end = self.at;
        self.skip_space()?;
        if self.peek() == Some('(') {
            self.group(')')?;
        } else {
            self.at = end;
        }
        Some(Shape::Leaf)
    }
}

#[cfg(test)]
#[allow(clippy::unwrap_used)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    /// The tree written back in a fixed form.
    fn shown(tree: &Tree<'_>) -> String {
        match &tree.shape {
            Shape::Leaf => format!("<{}>", tree.text),
            Shape::List(values) => {
                format!(
                    "[{}]",
                    values.iter().map(shown).collect::<Vec<_>>().join(" ")
                )
            }
            Shape::Structure(fields) => {
                let fields = fields
                    .iter()
                    .map(|f| format!("{}={}", f.key, shown(&f.value)));
                format!("({})", fields.collect::<Vec<_>>().join(" "))
            }
        }
    }

    fn scanned(text: &str) -> String {
        shown(&scan(text).unwrap())
    }

    #[test]
    fn structures_lists_and_leaves() {
        let text = "(mode: mirror, nodes: [\"a\", \"b\",], port: 7400, at: (x: -1.5), none: ())";
        assert_eq!(
            scanned(text),
            "(mode=<mirror> nodes=[<\"a\"> <\"b\">] port=<7400> at=(x=<-1.5>) none=())"
        );
    }

    #[test]
    fn brackets_in_strings_and_comments_do_not_count() {
        let text = "// (\n#![enable(implicit_some)]\n(a: \"(]\\\")\", /* , /* ) */ b: */ \
                    b: r#\"\"),\"#, c: '\\'', d: true // end)\n, e:1/**/)";
        assert_eq!(
            scanned(text),
            "(a=<\"(]\\\")\"> b=<r#\"\"),\"#> c=<'\\''> d=<true> e=<1>)"
        );
    }

    #[test]
    fn what_we_do_not_use_is_a_leaf() {
        assert_eq!(
            scanned("(a: Some((b: 1)), c: (1, 2), d: {\"x\": 1})"),
            "(a=<Some((b: 1))> c=<(1, 2)> d=<{\"x\": 1}>)"
        );
    }

    #[test]
    fn positions_are_byte_offsets() {
        let text = "(ä: 1,\n  b: [2])";
        let Shape::Structure(fields) = scan(text).unwrap().shape else {
            panic!()
        };
        assert_eq!(&text[fields[1].at..=fields[1].at], "b");
        assert_eq!(&text[fields[1].value.at..], "[2])");
    }

    proptest! {
        /// Any text ends in an answer; none panics or loops.
        #[test]
        fn any_text_is_survived(text in "[a(){}\\[\\]:,\"'\\\\#r/*! \nä]{0,40}") {
            let _ = scan(&text);
        }
    }
}
