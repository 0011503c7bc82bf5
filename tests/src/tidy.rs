//! The house rules, as functions from text to findings: what a reviewer should not have to look
//! for. Each finding is a line `path:line: what is wrong and what to do`.

use std::path::{Component, Path, PathBuf};

/// Longest file, in lines.
const FILE_LINES: usize = 400;
/// Files that may be longer, each with the reason.
const LONG_FILES: &[(&str, &str)] = &[(
    "fs/src/io/fuse.rs",
    "one trait of forty methods, which cannot be divided",
)];
/// Longest line, in characters.
const LINE_CHARS: usize = 100;

/// Marks of unfinished work. Written apart, or this file would be a finding.
const MARKS: [&str; 5] = [
    concat!("TO", "DO"),
    concat!("FIX", "ME"),
    concat!("db", "g!("),
    concat!("to", "do!("),
    concat!("unimpl", "emented!("),
];

/// What a `logic/` folder must not name: clocks, files, sockets, threads, chance.
const IMPURE: [&str; 9] = [
    "Instant::now",
    "SystemTime",
    "std::fs",
    "std::net::Tcp",
    "std::net::Udp",
    "std::thread",
    "tokio",
    "rand::",
    "libc::",
];

/// Which of our crates each crate may depend on; the reason is the workspace's shape.
const MAY_USE: [(&str, &[&str]); 6] = [
    ("repl", &[]),
    ("fs", &["tandem-repl"]),
    ("failover", &["tandem-repl"]),
    ("cli", &["tandem-repl", "tandem-fs", "tandem-failover"]),
    (
        "bench",
        &["tandem-repl", "tandem-fs", "tandem-failover", "tandem"],
    ),
    (
        "tests",
        &["tandem-repl", "tandem-fs", "tandem-failover", "tandem"],
    ),
];

/// A file of the workspace: path from its root, and text.
pub struct Source {
    pub path: String,
    pub text: String,
}

/// All findings in the files below `root`.
pub fn check(root: &Path) -> std::io::Result<Vec<String>> {
    let mut sources = Vec::new();
    collect(root, root, &mut sources)?;
    let mut findings = Vec::new();
    for source in &sources {
        findings.extend(check_source(source, &|path| root.join(path).exists()));
    }
    findings.sort();
    Ok(findings)
}

/// The findings in one file; `exists` says whether a path from the root does.
pub fn check_source(source: &Source, exists: &dyn Fn(&Path) -> bool) -> Vec<String> {
    if source.path.ends_with(".rs") {
        let rules = [size, doc, marks, width, purity];
        return rules.iter().flat_map(|rule| rule(source)).collect();
    }
    if source.path.ends_with("Cargo.toml") {
        return dependencies(source);
    }
    links(source, exists)
}

fn collect(root: &Path, dir: &Path, into: &mut Vec<Source>) -> std::io::Result<()> {
    for entry in std::fs::read_dir(dir)? {
        let path = entry?.path();
        let name = path
            .file_name()
            .unwrap_or_default()
            .to_string_lossy()
            .into_owned();
        if path.is_dir() && !path.is_symlink() {
            if !name.starts_with('.') && name != "target" {
                collect(root, &path, into)?;
            }
        } else if [".rs", ".md", "Cargo.toml"]
            .iter()
            .any(|end| name.ends_with(end))
        {
            let text = std::fs::read_to_string(&path)?;
            let path = path
                .strip_prefix(root)
                .unwrap_or(&path)
                .to_string_lossy()
                .into_owned();
            into.push(Source { path, text });
        }
    }
    Ok(())
}

fn finding(source: &Source, line: usize, what: &str) -> String {
    format!("{}:{line}: {what}", source.path)
}

fn size(source: &Source) -> Vec<String> {
    let lines = source.text.lines().count();
    let allowed = LONG_FILES.iter().any(|(path, _)| source.path == *path);
    if lines <= FILE_LINES || allowed {
        return Vec::new();
    }
    vec![finding(
        source,
        lines,
        &format!("more than {FILE_LINES} lines; split it by purpose"),
    )]
}

fn doc(source: &Source) -> Vec<String> {
    if source.text.starts_with("//! ") {
        return Vec::new();
    }
    vec![finding(
        source,
        1,
        "opens without a `//!` comment that says why the file exists",
    )]
}

fn numbered(source: &Source) -> impl Iterator<Item = (usize, &str)> {
    source
        .text
        .lines()
        .enumerate()
        .map(|(index, line)| (index + 1, line))
}

fn marks(source: &Source) -> Vec<String> {
    let marked = |(number, line): (usize, &str)| {
        let mark = MARKS.iter().find(|mark| line.contains(**mark))?;
        Some(finding(
            source,
            number,
            &format!("{mark} is left; do it, or open an issue"),
        ))
    };
    numbered(source).filter_map(marked).collect()
}

fn width(source: &Source) -> Vec<String> {
    let wide = numbered(source).filter(|(_, line)| line.chars().count() > LINE_CHARS);
    let what = format!("longer than {LINE_CHARS} characters");
    wide.map(|(number, _)| finding(source, number, &what))
        .collect()
}

/// A text scan beside the compile-time lint: it sees what a macro or a re-export would hide. Tests
/// at the end of a file, or in one called `tests.rs`, are free.
fn purity(source: &Source) -> Vec<String> {
    if !source.path.contains("/logic/") || source.path.ends_with("/tests.rs") {
        return Vec::new();
    }
    let code = numbered(source).take_while(|(_, line)| !line.starts_with("#[cfg(test)]"));
    let impure = |(number, line): (usize, &str)| {
        let line = line.split("//").next().unwrap_or("");
        let word = IMPURE.iter().find(|word| line.contains(**word))?;
        Some(finding(
            source,
            number,
            &format!("{word} in logic/; take it as an input"),
        ))
    };
    code.filter_map(impure).collect()
}

fn dependencies(source: &Source) -> Vec<String> {
    let Some(dir) = source.path.strip_suffix("/Cargo.toml") else {
        return Vec::new();
    };
    let mut found = Vec::new();
    let mut inside = false;
    for (number, line) in numbered(source) {
        if line.starts_with('[') {
            inside = line.contains("dependencies");
            continue;
        }
        let name = line.split(['=', '.', ' ']).next().unwrap_or("");
        if !inside || !(name == "tandem" || name.starts_with("tandem-")) {
            continue;
        }
        let Some((_, allowed)) = MAY_USE.iter().find(|(crate_dir, _)| *crate_dir == dir) else {
            found.push(finding(
                source,
                number,
                "an unknown crate; say in tidy.rs what it may use",
            ));
            continue;
        };
        if !allowed.contains(&name) {
            let what = format!("{dir} must not depend on {name}: cli → fs, failover → repl");
            found.push(finding(source, number, &what));
        }
    }
    found
}

/// Relative links of a page lead somewhere. Code blocks are not read.
fn links(source: &Source, exists: &dyn Fn(&Path) -> bool) -> Vec<String> {
    let mut found = Vec::new();
    let mut in_code = false;
    let dir = Path::new(&source.path).parent().unwrap_or(Path::new(""));
    for (number, line) in numbered(source) {
        if line.trim_start().starts_with("```") {
            in_code = !in_code;
        }
        if in_code {
            continue;
        }
        for part in line.split("](").skip(1) {
            let target = part.split([')', '#', ' ']).next().unwrap_or("");
            let outside = target.contains("://") || target.starts_with("mailto:");
            if target.is_empty() || outside || exists(&normal(&dir.join(target))) {
                continue;
            }
            found.push(finding(
                source,
                number,
                &format!("the link to {target} leads nowhere"),
            ));
        }
    }
    found
}

/// Without `.` and `..`.
fn normal(path: &Path) -> PathBuf {
    let mut normal = PathBuf::new();
    for component in path.components() {
        match component {
            Component::ParentDir => drop(normal.pop()),
            Component::CurDir => {}
            other => normal.push(other),
        }
    }
    normal
}
