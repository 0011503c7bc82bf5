//! Every call that takes a name, against every way a name can be wrong: one row per call, one
//! column per fault.

use super::{A, Case, Check, by, dir, fails, file, same};
use crate::sys::{self, ROOT, Sys, Who};
use libc::{EACCES, EEXIST, ELOOP, ENAMETOOLONG, ENOENT, ENOTDIR, EPERM};

type Call = fn(&[u8]) -> Sys<()>;

const NOW: [libc::timespec; 2] = [
    libc::timespec {
        tv_sec: 5,
        tv_nsec: 0,
    },
    libc::timespec {
        tv_sec: 5,
        tv_nsec: 0,
    },
];

/// Calls that look at what a name leads to.
const LOOKING: &[(&str, Call)] = &[
    ("open", |name| sys::open(name, libc::O_RDONLY, 0).map(drop)),
    ("readlink", |name| sys::readlink(name).map(drop)),
    ("link from", |name| sys::link(name, "new link")),
    ("chmod", |name| sys::chmod(name, 0o600)),
    ("chown", |name| sys::chown(name, u32::MAX, u32::MAX)),
    ("lchown", |name| sys::lchown(name, u32::MAX, u32::MAX)),
    ("truncate", |name| sys::truncate(name, 0)),
    ("utimensat", |name| sys::utimens(name, NOW)),
    ("stat", |name| sys::stat(name).map(drop)),
    ("lstat", |name| sys::lstat(name).map(drop)),
    ("statfs", |name| sys::statfs(name).map(drop)),
    ("access", |name| sys::access(name, libc::F_OK)),
    ("setxattr", |name| sys::setxattr(name, "user.k", b"v", 0)),
    ("getxattr", |name| sys::getxattr(name, "user.k").map(drop)),
    ("listxattr", |name| sys::listxattr(name).map(drop)),
    ("chdir", |name| sys::chdir(name)),
];

/// Calls that take a name away.
const REMOVING: &[(&str, Call)] = &[
    ("unlink", |name| sys::unlink(name)),
    ("rmdir", |name| sys::rmdir(name)),
    ("rename from", |name| sys::rename(name, "new name")),
];

/// Calls that make a name.
const MAKING: &[(&str, Call)] = &[
    ("create", |name| {
        sys::open(name, libc::O_CREAT | libc::O_EXCL | libc::O_WRONLY, 0o644).map(drop)
    }),
    ("mkdir", |name| sys::mkdir(name, 0o755)),
    ("mkfifo", |name| sys::mkfifo(name, 0o644)),
    ("mknod", |name| sys::mknod(name, libc::S_IFREG | 0o644, 0)),
    ("symlink", |name| sys::symlink("target", name)),
    ("link to", |name| sys::link("source", name)),
    ("rename to", |name| sys::rename("source", name)),
];

/// A way in which a name can be wrong.
struct Fault {
    what: &'static str,
    error: i32,
    who: Who,
    name: fn() -> Vec<u8>,
    prepare: fn() -> Sys<()>,
}

fn nothing() -> Sys<()> {
    Ok(())
}

const fn fault(what: &'static str, error: i32, name: fn() -> Vec<u8>) -> Fault {
    Fault {
        what,
        error,
        who: ROOT,
        name,
        prepare: nothing,
    }
}

/// Faults in the way to the last component: the same for every call.
const ON_THE_WAY: &[Fault] = &[
    fault("below a missing directory", ENOENT, || b"none/x".to_vec()),
    fault("below a file", ENOTDIR, || b"source/x".to_vec()),
    fault("an empty name", ENOENT, Vec::new),
    fault("a last name of 256 bytes", ENAMETOOLONG, || vec![b'n'; 256]),
    fault("a first name of 256 bytes", ENAMETOOLONG, || {
        [&[b'n'; 256][..], b"/x"].concat()
    }),
    fault("a path of 4096 bytes", ENAMETOOLONG, || b"./".repeat(2048)),
    Fault {
        prepare: || {
            sys::symlink("loop b", "loop a")?;
            sys::symlink("loop a", "loop b")
        },
        ..fault("through a loop of links", ELOOP, || b"loop a/x".to_vec())
    },
    Fault {
        who: A,
        prepare: || dir("closed", 0o644),
        ..fault("without search permission", EACCES, || b"closed/x".to_vec())
    },
];

fn row(call: (&'static str, Call), fault: &'static Fault) -> Case {
    let (name, call) = call;
    let run = move || -> Check {
        drop(file("source", 0o666)?);
        (fault.prepare)()?;
        fails(fault.error, by(fault.who, || call(&(fault.name)())))
    };
    Case {
        group: "errors",
        name: format!("{name} {}", fault.what),
        run: Box::new(run),
    }
}

fn for_each(
    calls: &'static [(&'static str, Call)],
    name: &str,
    run: fn(Call) -> Check,
) -> Vec<Case> {
    let case = |(call, function): &(&'static str, Call)| {
        let (call, function) = (*call, *function);
        let run = move || run(function);
        Case {
            group: "errors",
            name: format!("{call} {name}"),
            run: Box::new(run),
        }
    };
    calls.iter().map(case).collect()
}

pub(super) fn cases() -> Vec<Case> {
    let mut cases = Vec::new();
    for call in LOOKING.iter().chain(REMOVING).chain(MAKING) {
        cases.extend(ON_THE_WAY.iter().map(|fault| row(*call, fault)));
    }
    cases.extend(for_each(LOOKING, "of a missing name", |call| {
        fails(ENOENT, call(b"none"))
    }));
    cases.extend(for_each(REMOVING, "of a missing name", |call| {
        fails(ENOENT, call(b"none"))
    }));
    cases.extend(for_each(&MAKING[..6], "over an existing name", |call| {
        drop(file("source", 0o644)?);
        drop(file("there", 0o644)?);
        fails(EEXIST, call(b"there"))
    }));
    cases.extend(for_each(&MAKING[..6], "over a dangling link", |call| {
        drop(file("source", 0o644)?);
        sys::symlink("none", "there")?;
        fails(EEXIST, call(b"there"))
    }));
    cases.extend(for_each(MAKING, "with a name of 255 bytes", |call| {
        drop(file("source", 0o666)?);
        let name = [b'n'; 255];
        call(&name)?;
        sys::lstat(name)?;
        same(sys::names(".")?.contains(&name.to_vec()), true)
    }));
    cases.extend(for_each(
        MAKING,
        "with every byte but slash and zero in a name",
        |call| {
            drop(file("source", 0o666)?);
            let name: Vec<u8> = (1..=255).filter(|byte| *byte != b'/').collect();
            call(&name)?;
            same(sys::names(".")?.contains(&name), true)
        },
    ));
    cases.extend(for_each(
        MAKING,
        "in a directory that is not writable",
        |call| {
            drop(file("source", 0o666)?);
            dir("shut", 0o755)?;
            fails(EACCES, by(A, || call(b"shut/x")))?;
            same(sys::names("shut")?.len(), 0)
        },
    ));
    cases.extend(for_each(MAKING, "in a removed directory", |call| {
        drop(file("source", 0o666)?);
        dir("gone", 0o777)?;
        let held = sys::open("gone", libc::O_RDONLY, 0)?;
        let here = sys::open(".", libc::O_RDONLY, 0)?;
        sys::rmdir("gone")?;
        sys::link("source", "../source").or_else(|error| match error.0 {
            libc::EEXIST => Ok(()),
            _ => Err(error),
        })?;
        sys::fchdir(&held)?;
        let answer = call(b"x");
        sys::fchdir(&here)?;
        sys::unlink("../source")?;
        fails(ENOENT, answer)
    }));
    cases.extend(removing_cases());
    cases
}

/// Who may take a name away: the directory decides, and its sticky bit.
fn removing_cases() -> Vec<Case> {
    let mut cases = for_each(REMOVING, "in a directory that is not writable", |call| {
        dir("shut", 0o755)?;
        dir("shut/x", 0o777)?;
        fails(EACCES, by(A, || call(b"shut/x")))?;
        sys::lstat("shut/x").map(drop).map_err(Into::into)
    });
    cases.extend(for_each(
        REMOVING,
        "of a stranger's name in a sticky directory",
        |call| {
            dir("sticky", 0o1777)?;
            dir("sticky/x", 0o777)?;
            fails(EPERM, by(A, || call(b"sticky/x")))
        },
    ));
    cases.extend(for_each(
        REMOVING,
        "of a stranger's name in an open directory",
        |call| {
            dir("open", 0o777)?;
            prepare_for(call, "open/x")?;
            by(A, || call(b"open/x")).map_err(Into::into)
        },
    ));
    cases.extend(for_each(
        REMOVING,
        "of one's own name in a sticky directory",
        |call| {
            dir("sticky", 0o1777)?;
            by(A, || prepare_for(call, "sticky/x"))?;
            by(A, || call(b"sticky/x")).map_err(Into::into)
        },
    ));
    cases.extend(for_each(
        REMOVING,
        "of a stranger's name in one's own sticky directory",
        |call| {
            by(A, || dir("sticky", 0o1777))?;
            prepare_for(call, "sticky/x")?;
            by(A, || call(b"sticky/x")).map_err(Into::into)
        },
    ));
    cases
}

/// Something that this call can take away: a directory for `rmdir`, a file for the others.
fn prepare_for(call: Call, name: &str) -> Sys<()> {
    let removes_directories = {
        dir("probe", 0o777)?;
        let could = call(b"probe").is_ok();
        let left = sys::rmdir("probe").is_ok() || sys::rmdir("new name").is_ok();
        could && !left
    };
    if removes_directories {
        dir(name, 0o777)
    } else {
        file(name, 0o666).map(drop)
    }
}
