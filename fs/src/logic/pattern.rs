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

/// Iterative matching with one point to go back to per star kind, so that no pattern takes more
/// than length times length steps.
fn glob(pattern: &[u8], text: &[u8]) -> bool {
    let (mut p, mut t) = (0, 0);
    // Where to go on after the last `*` and `**`, and how much of the text they have eaten.
    let mut star: Option<(usize, usize)> = None;
    let mut deep: Option<(usize, usize)> = None;
    loop {
        if pattern[p..].starts_with(b"**") {
            p += 2;
            // `**/` also matches nothing at all.
            if pattern.get(p) == Some(&b'/') && (t == 0 || text.get(t - 1) == Some(&b'/')) {
                p += 1;
            }
            deep = Some((p, t));
            star = None;
            continue;
        }
        match (pattern.get(p), text.get(t)) {
            (Some(b'*'), _) => {
                p += 1;
                star = Some((p, t));
                continue;
            }
            (None, None) => return true,
            (Some(b'?'), Some(c)) if *c != b'/' => {
                p += 1;
                t += 1;
                continue;
            }
            (Some(a), Some(b)) if a == b => {
                p += 1;
                t += 1;
                continue;
            }
            _ => {}
        }
        match (star, deep) {
            (Some((back, eaten)), _) if text.get(eaten).is_some_and(|c| *c != b'/') => {
                star = Some((back, eaten + 1));
                (p, t) = (back, eaten + 1);
            }
            (_, Some((back, eaten))) if eaten < text.len() => {
                star = None;
                deep = Some((back, eaten + 1));
                (p, t) = (back, eaten + 1);
            }
            _ => return false,
        }
    }
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
        assert!(!matches(&"*a".repeat(50).replace("aa", "a*b"), &text));
        assert!(!matches("**a**a**a**a**b", &text));
    }
}
