//! Programs and services that live in the directory: execution, suid, capabilities of a text that
//! is busy, and tools that expect a real file system.

use super::*;
use libc::{EACCES, EPERM, ETXTBSY, O_RDONLY, O_WRONLY};
use std::process::{Command, Stdio};

pub(super) fn cases() -> Vec<Case> {
    let mut cases = running();
    cases.extend(inode_flags());
    cases
}

/// A copy of a real program.
fn copy_of(program: &str, name: &str) -> Check {
    let data = std::fs::read(program)?;
    let fd = filled(name, &data)?;
    sys::fchmod(&fd, 0o755)?;
    Ok(())
}

fn running() -> Vec<Case> {
    cases! { "programs";
        a_copied_program_runs {
            copy_of("/bin/true", "program")?;
            holds(Command::new("./program").status()?.success(), "it ends well")?;
        }
        a_script_runs {
            let fd = filled("script", b"#!/bin/sh\necho said > out\n")?;
            sys::fchmod(&fd, 0o755)?;
            drop(fd);
            holds(Command::new("./script").status()?.success(), "it ends well")?;
            same(content("out")?, b"said\n".to_vec())?;
        }
        without_the_execute_bit {
            copy_of("/bin/true", "program")?;
            sys::chmod("program", 0o644)?;
            let error = Command::new("./program").status().map(drop).map_err(|e| e.raw_os_error());
            same(error, Err(Some(EACCES)))?;
        }
        a_running_program_is_not_written {
            copy_of("/bin/sleep", "program")?;
            let mut child = Command::new("./program").arg("60").stdin(Stdio::null()).spawn()?;
            let written = sys::open("program", O_WRONLY, 0).map(drop);
            let removed = sys::unlink("program");
            child.kill()?;
            child.wait()?;
            fails(ETXTBSY, written)?;
            removed?;
        }
        a_program_open_for_writing_does_not_run {
            copy_of("/bin/true", "program")?;
            let held = sys::open("program", O_WRONLY, 0)?;
            let error = Command::new("./program").status().map(drop).map_err(|e| e.raw_os_error());
            drop(held);
            same(error, Err(Some(ETXTBSY)))?;
            holds(Command::new("./program").status()?.success(), "afterwards it runs")?;
        }
        replacing_a_running_program {
            copy_of("/bin/sleep", "program")?;
            let mut child = Command::new("./program").arg("60").stdin(Stdio::null()).spawn()?;
            let copied = copy_of("/bin/true", "new");
            let replaced = sys::rename("new", "program");
            let status = Command::new("./program").status();
            child.kill()?;
            child.wait()?;
            copied?;
            replaced?;
            holds(status?.success(), "the new one runs")?;
        }
        suid_takes_effect {
            copy_of("/usr/bin/id", "program")?;
            sys::chown("program", 1002, 1002)?;
            sys::chmod("program", 0o4755)?;
            let output = by(A, || Command::new("./program").arg("-u").output())?;
            same(output.stdout, b"1002\n".to_vec())?;
        }
        sgid_takes_effect {
            copy_of("/usr/bin/id", "program")?;
            sys::chown("program", 0, 1002)?;
            sys::chmod("program", 0o2755)?;
            let output = by(A, || Command::new("./program").arg("-g").output())?;
            same(output.stdout, b"1002\n".to_vec())?;
        }
        a_tree_is_copied_and_compared_by_tools {
            dir("d", 0o755)?;
            filled("d/f", b"data")?;
            sys::symlink("f", "d/l")?;
            holds(Command::new("cp").args(["-a", "d", "e"]).status()?.success(), "cp")?;
            holds(Command::new("diff").args(["-r", "d", "e"]).status()?.success(), "diff")?;
            holds(Command::new("rm").args(["-r", "d", "e"]).status()?.success(), "rm")?;
            same(sys::names(".")?.len(), 0)?;
        }
        a_tree_goes_through_tar {
            dir("d", 0o755)?;
            for at in 0..100 {
                filled(&format!("d/{at}"), &[at; 500])?;
            }
            let pipe = "tar cf - d | (mkdir e && cd e && tar xf -) && diff -r d e/d";
            holds(Command::new("sh").args(["-c", pipe]).status()?.success(), "tar")?;
        }
    }
}

/// Append-only and immutable (`chattr`): set by an ioctl, obeyed by every later call.
fn inode_flags() -> Vec<Case> {
    const APPEND: libc::c_int = 0x20;
    const IMMUTABLE: libc::c_int = 0x10;

    fn flagged(flags: libc::c_int, test: fn() -> Check) -> Check {
        let fd = filled("f", b"old")?;
        sys::change_inode_flags(&fd, flags, true)?;
        let result = test();
        sys::change_inode_flags(&fd, flags, false)?;
        result
    }

    cases! { "chattr";
        immutable_refuses_every_change {
            flagged(IMMUTABLE, || {
                fails(EPERM, sys::open("f", O_WRONLY, 0))?;
                fails(EPERM, sys::unlink("f"))?;
                fails(EPERM, sys::rename("f", "g"))?;
                fails(EPERM, sys::link("f", "g"))?;
                fails(EPERM, sys::chmod("f", 0o600))?;
                fails(EPERM, sys::setxattr("f", "user.k", b"v", 0))?;
                sys::open("f", O_RDONLY, 0)?;
                Ok(())
            })?;
        }
        append_only_takes_appends {
            flagged(APPEND, || {
                fails(EPERM, sys::open("f", O_WRONLY, 0))?;
                fails(EPERM, sys::truncate("f", 0))?;
                let fd = sys::open("f", O_WRONLY | libc::O_APPEND, 0)?;
                sys::write(&fd, b"new")?;
                same(content("f")?, b"oldnew".to_vec())
            })?;
        }
    }
}
