//! Shell patterns on paths below a replicated directory: `*` and `?` match within one name, `**`
//! across names. A pattern without `/` is matched against the last name alone, as people expect of
//! `*.ibd`.

/// Whether `pattern` means `path` (relative, names separated by `/`, bytes).
pub fn matches(pattern: &str, path: &[u8]) -> bool {
    let pattern = pattern.as_bytes();
    if pattern.contains(&b'/') {
        return glob(pattern, path);
    }
    let name = path.rsplit(|b| *b == b'/').next().unwrap_or(path);
    glob(pattern, name)
}

/// Dynamic over positions of the text: which of them the pattern so far can have reached. Takes
/// length times length steps at most, whatever the pattern.
fn glob(pattern: &[u8], text: &[u8]) -> bool {
    let mut reached = vec![false; text.len() + 1];
    reached[0] = true;
    let mut rest = pattern;
    while let Some((first, tail)) = rest.split_first() {
        let mut next = vec![false; text.len() + 1];
        if let Some(tail) = rest.strip_prefix(b"**/") {
            // Nothing, or whole names with their slash.
            let mut open = false;
            for at in 0..=text.len() {
                let at_name = at == 0 || text[at - 1] == b'/';
                next[at] = reached[at] || (open && at_name);
                open |= reached[at] && at_name;
            }
            rest = tail;
        } else if let Some(tail) = rest.strip_prefix(b"**") {
            let mut open = false;
            for at in 0..=text.len() {
                open |= reached[at];
                next[at] = open;
            }
            rest = tail;
        } else {
            let mut open = false;
            for at in 0..=text.len() {
                match first {
                    b'*' => {
                        open = reached[at] || (open && text[at - 1] != b'/');
                        next[at] = open;
                    }
                    b'?' => next[at] = at > 0 && reached[at - 1] && text[at - 1] != b'/',
                    c => next[at] = at > 0 && reached[at - 1] && text[at - 1] == *c,
                }
            }
            rest = tail;
        }
        reached = next;
    }
    reached[text.len()]
}

#[cfg(test)]
mod tests {
    use super::matches;

    #[test]
    fn patterns_mean_what_a_shell_means() {
        for (pattern, path, expected) in [
            ("*.ibd", "a/b/c.ibd", true),
            ("*.ibd", "c.ibd.bak", false),
            ("base/*", "base/1", true),
            ("base/*", "base/1/2", false),
            ("base/**", "base/1/2", true),
            ("**/log?", "x/y/log1", true),
            ("**/log?", "log1", true),
            ("**/log?", "xlog1", false),
            ("a*b*c", "aXbYbZc", true),
            ("a*b*c", "aXbYbZ", false),
            ("?", "", false),
            ("*", "anything", true),
            ("a/**/z", "a/b/c/z", true),
            ("a/**/z", "a/z", true),
            ("a/b", "a/b", true),
            ("", "a", false),
        ] {
            let found = matches(pattern, path.as_bytes());
            assert_eq!(found, expected, "{pattern} against {path}");
        }
    }

    #[test]
    fn a_hostile_pattern_ends() {
        let text = vec![b'a'; 4000];
        assert!(!matches(&format!("{}b", "*a".repeat(50)), &text));
        assert!(!matches("x/**a**a**a**a**b", &text));
    }
}
