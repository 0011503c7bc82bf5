//! Several clients on names.

use super::oracle::{check_records, record};
use super::{may, must, rounds, together};
use crate::sys::{self, Sys};
use libc::{EEXIST, EISDIR, ENOENT, ENOTDIR, ENOTEMPTY, O_APPEND, O_CREAT, O_EXCL, O_RDWR};
use std::collections::BTreeMap;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};

/// Everything below the working directory: path to content, directories as nothing.
fn walk(dir: &str, found: &mut BTreeMap<String, Option<Vec<u8>>>) -> Result<(), String> {
    for name in must("readdir", sys::names(dir))? {
        let path = format!("{dir}/{}", name.escape_ascii());
        let stat = must(&path, sys::lstat(&path))?;
        if stat.st_mode & libc::S_IFMT == libc::S_IFDIR {
            found.insert(path.clone(), None);
            walk(&path, found)?;
        } else {
            let fd = must(&path, sys::open(&path, libc::O_RDONLY, 0))?;
            let content = must(&path, sys::read_all(&fd, 0, stat.st_size as usize))?;
            found.insert(path, Some(content));
        }
    }
    Ok(())
}

fn make(path: &str, content: &[u8]) -> Sys<()> {
    let fd = sys::open(path, O_CREAT | O_EXCL | O_RDWR, 0o644)?;
    sys::write_all(&fd, content, 0)
}

/// A directory is renamed to and fro while others append below it, through descriptors and by name.
pub(super) fn rename_above_a_writer(seed: u64) -> Result<(), String> {
    const WRITERS: u64 = 3;
    let each = rounds(300);
    must(
        "prepare",
        sys::mkdir("a", 0o755).and_then(|()| sys::mkdir("a/b", 0o755)),
    )?;
    must("prepare", make("a/b/f", b""))?;
    let busy = AtomicU64::new(WRITERS);
    together(WRITERS + 1, seed, |client, mut rng| {
        if client == WRITERS {
            while busy.load(Ordering::Relaxed) > 0 {
                must("rename", sys::rename("a", "z"))?;
                must("rename", sys::rename("z/b", "z/y"))?;
                must("rename", sys::rename("z/y", "z/b"))?;
                must("rename", sys::rename("z", "a"))?;
            }
            return Ok(());
        }
        let mut work = || -> Result<(), String> {
            let mut fd = None;
            for number in 0..each {
                while fd.is_none() {
                    // Any of these may be its name right now, or none of them a moment later.
                    let name = *rng.pick(&["a/b/f", "z/b/f", "z/y/f"]);
                    fd = match sys::open(name, libc::O_WRONLY | O_APPEND, 0) {
                        Err(sys::Errno(ENOENT)) => None,
                        other => Some(must("open", other)?),
                    };
                }
                let open = fd.as_ref().ok_or("open")?;
                must(
                    "append",
                    sys::write(open, &record(client, number, rng.index(900))),
                )?;
                if rng.chance(30) {
                    fd = None;
                }
            }
            Ok(())
        };
        let result = work();
        busy.fetch_sub(1, Ordering::Relaxed);
        result
    })?;
    let mut found = BTreeMap::new();
    walk(".", &mut found)?;
    let content = found
        .remove("./a/b/f")
        .flatten()
        .ok_or("the file is not at its place")?;
    check_records(&content, WRITERS, each)
}

/// Files lose their names, or get new ones over them, while they are written and read.
pub(super) fn unlink_below_a_writer(seed: u64) -> Result<(), String> {
    together(6, seed, |client, mut rng| {
        for number in 0..rounds(120) {
            let name = format!("f {}", rng.below(4));
            let fd = must("open", sys::open(&name, O_CREAT | O_RDWR | O_APPEND, 0o644))?;
            let before = must("stat", sys::fstat(&fd))?.st_size as u64;
            let nameless = format!("own {client}");
            let own = must(
                "own",
                sys::open(&nameless, O_CREAT | O_EXCL | O_RDWR, 0o600),
            )?;
            must("unlink", sys::unlink(&nameless))?;
            let data = record(client, number, 3000);
            must("write", sys::write(&own, &data))?;
            must("write", sys::write(&fd, &data))?;
            may("unlink", &[ENOENT], sys::unlink(&name))?;
            must("write", sys::write(&own, &data))?;
            must("write", sys::write(&fd, &data))?;
            let read = must("read", sys::read_all(&own, 0, 1 << 20))?;
            if read != [data.clone(), data.clone()].concat() {
                return Err("a nameless file does not hold what was written".into());
            }
            let after = must("stat", sys::fstat(&fd))?.st_size as u64;
            if after < before + 2 * data.len() as u64 {
                return Err(format!(
                    "appends to an unlinked file are lost: {before} to {after}"
                ));
            }
        }
        Ok(())
    })
}

/// Making, linking, renaming and removing the same few names of one directory.
pub(super) fn names_of_one_directory(seed: u64) -> Result<(), String> {
    together(6, seed, |client, mut rng| {
        for number in 0..rounds(400) {
            let (one, two) = (format!("n{}", rng.below(6)), format!("n{}", rng.below(6)));
            match rng.below(7) {
                0 | 1 => may("create", &[EEXIST], make(&one, &record(client, number, 10)))?,
                2 => may("mkdir", &[EEXIST], sys::mkdir(&one, 0o755))?,
                3 => may("unlink", &[ENOENT, EISDIR], sys::unlink(&one))?,
                4 => may("rmdir", &[ENOENT, ENOTDIR, ENOTEMPTY], sys::rmdir(&one))?,
                5 => {
                    let faster = [ENOENT, EEXIST, ENOTDIR, EISDIR, ENOTEMPTY];
                    may("rename", &faster, sys::rename(&one, &two))?
                }
                _ => {
                    let faster = [ENOENT, EEXIST, libc::EPERM];
                    may("link", &faster, sys::link(&one, &two))?
                }
            };
        }
        Ok(())
    })?;
    let mut links = BTreeMap::<u64, (u64, u64)>::new();
    for name in must("readdir", sys::names("."))? {
        let stat = must("lstat of a listed name", sys::lstat(&name))?;
        if stat.st_mode & libc::S_IFMT == libc::S_IFREG {
            let count = links.entry(stat.st_ino).or_insert((stat.st_nlink, 0));
            count.1 += 1;
        }
    }
    match links.values().find(|(told, found)| told != found) {
        None => Ok(()),
        Some((told, found)) => Err(format!("a file tells {told} links and has {found} names")),
    }
}

/// Files and directories move between directories, never over each other: none is lost or doubled.
pub(super) fn moves_between_directories(seed: u64) -> Result<(), String> {
    const TOKENS: u64 = 30;
    for dir in 0..4 {
        must("prepare", sys::mkdir(format!("d{dir}"), 0o755))?;
    }
    for token in 0..TOKENS {
        let place = format!("d{}/t{token}", token % 4);
        must(
            "prepare",
            if token % 3 == 0 {
                sys::mkdir(&place, 0o755)
                    .and_then(|()| make(&format!("{place}/in"), &token.to_le_bytes()))
            } else {
                make(&place, &token.to_le_bytes())
            },
        )?;
    }
    together(6, seed, |_, mut rng| {
        for _ in 0..rounds(500) {
            let token = rng.below(TOKENS);
            let from = format!("d{}/t{token}", rng.below(4));
            let to = format!("d{}/t{token}", rng.below(4));
            let answer = sys::rename_with(&from, &to, libc::RENAME_NOREPLACE);
            may("rename", &[ENOENT, EEXIST], answer)?;
        }
        Ok(())
    })?;
    let mut found = BTreeMap::new();
    walk(".", &mut found)?;
    let mut tokens: Vec<_> = found.values().flatten().cloned().collect();
    tokens.sort();
    let mut expected: Vec<_> = (0..TOKENS)
        .map(|token| token.to_le_bytes().to_vec())
        .collect();
    expected.sort();
    if tokens != expected {
        return Err(format!(
            "{} of {TOKENS} files are left, or not the same",
            tokens.len()
        ));
    }
    Ok(())
}

/// Two full directories change places while both are searched: a file is always in exactly one.
pub(super) fn exchanged_directories(seed: u64) -> Result<(), String> {
    for (dir, file) in [("one", "left"), ("two", "right")] {
        must("prepare", sys::mkdir(dir, 0o755))?;
        must("prepare", make(&format!("{dir}/{file}"), file.as_bytes()))?;
    }
    let ended = AtomicBool::new(false);
    together(4, seed, |client, mut rng| {
        if client == 0 {
            let exchange = |_| sys::rename_with("one", "two", libc::RENAME_EXCHANGE);
            let result = (0..rounds(300)).try_for_each(exchange);
            ended.store(true, Ordering::Relaxed);
            return must("exchange", result);
        }
        while !ended.load(Ordering::Relaxed) {
            let dir = *rng.pick(&["one", "two"]);
            let names = must("readdir", sys::names(dir))?;
            if names != [b"left".to_vec()] && names != [b"right".to_vec()] {
                return Err(format!("{dir} holds {} names", names.len()));
            }
            may(
                "stat",
                &[ENOENT],
                sys::stat(format!("{dir}/left")).map(drop),
            )?;
        }
        Ok(())
    })?;
    let mut found = BTreeMap::new();
    walk(".", &mut found)?;
    let contents: Vec<_> = found.values().flatten().collect();
    if contents != [b"left", &b"right"[..]] && contents != [&b"right"[..], b"left"] {
        return Err("a file is not as it was".into());
    }
    Ok(())
}

/// Everybody changes the attributes of the same files; the last value is one that was set.
pub(super) fn attributes_of_the_same_files(seed: u64) -> Result<(), String> {
    const FILES: u64 = 4;
    for file in 0..FILES {
        must("prepare", make(&format!("f{file}"), b"x"))?;
        must(
            "prepare",
            sys::setxattr(format!("f{file}"), "user.who", b"0", 0),
        )?;
    }
    together(6, seed, |client, mut rng| {
        for _ in 0..rounds(200) {
            let name = format!("f{}", rng.below(FILES));
            let number = client as u32 + 1;
            match rng.below(5) {
                0 => must("chmod", sys::chmod(&name, 0o600 + number))?,
                1 if sys::is_root() => must("chown", sys::chown(&name, number, number))?,
                2 => {
                    let time = sys::time(i64::from(number), i64::from(number));
                    must("utimens", sys::utimens(&name, [time, time]))?;
                }
                3 => must(
                    "setxattr",
                    sys::setxattr(&name, "user.who", &[number as u8; 50], 0),
                )?,
                _ => {
                    let fd = must("open", sys::open(&name, O_RDWR, 0))?;
                    must("write", sys::write_all(&fd, &[number as u8; 100], 0))?;
                }
            }
        }
        Ok(())
    })?;
    for file in 0..FILES {
        let stat = must("stat", sys::lstat(format!("f{file}")))?;
        let value = must("getxattr", sys::getxattr(format!("f{file}"), "user.who"))?;
        if stat.st_uid != stat.st_gid || value.windows(2).any(|pair| pair[0] != pair[1]) {
            return Err("an attribute is half of one client and half of another".into());
        }
    }
    Ok(())
}

/// Like a mail spool: write a temporary file, sync it, rename it into place. What has its final
/// name is always whole.
pub(super) fn spool(seed: u64) -> Result<(), String> {
    const WRITERS: u64 = 4;
    must(
        "prepare",
        sys::mkdir("new", 0o755).and_then(|()| sys::mkdir("tmp", 0o755)),
    )?;
    let busy = AtomicU64::new(WRITERS);
    let message =
        |client: u64, number: u64| record(client, number, 500 + (number % 7) as usize * 1000);
    let whole = |name: &[u8]| -> Result<(), String> {
        let text = String::from_utf8_lossy(name).into_owned();
        let mut numbers = text
            .split('.')
            .map(|part| part.parse::<u64>().unwrap_or(u64::MAX));
        let (client, number) = (numbers.next().unwrap_or(0), numbers.next().unwrap_or(0));
        let fd = must(
            "open",
            sys::open([b"new/", name].concat(), libc::O_RDONLY, 0),
        )?;
        let found = must("read", sys::read_all(&fd, 0, 1 << 20))?;
        if found == message(client, number) {
            Ok(())
        } else {
            Err(format!("{text} is not whole"))
        }
    };
    together(WRITERS + 2, seed, |client, _| {
        if client >= WRITERS {
            while busy.load(Ordering::Relaxed) > 0 {
                must("readdir", sys::names("new"))?
                    .iter()
                    .try_for_each(|name| whole(name))?;
            }
            return Ok(());
        }
        let work = || -> Result<(), String> {
            for number in 0..rounds(100) {
                let (from, to) = (
                    format!("tmp/{client}.{number}"),
                    format!("new/{client}.{number}"),
                );
                must("create", make(&from, &message(client, number)))?;
                if number % 5 == 0 {
                    let fd = must("open", sys::open(&from, libc::O_RDONLY, 0))?;
                    must("fsync", sys::fsync(&fd))?;
                }
                must("rename", sys::rename(&from, &to))?;
            }
            Ok(())
        };
        let result = work();
        busy.fetch_sub(1, Ordering::Relaxed);
        result
    })?;
    let names = must("readdir", sys::names("new"))?;
    names.iter().try_for_each(|name| whole(name))?;
    let left = must("readdir", sys::names("tmp"))?.len();
    if names.len() as u64 != WRITERS * rounds(100) || left != 0 {
        return Err(format!(
            "{} messages and {left} temporary files",
            names.len()
        ));
    }
    Ok(())
}
