//! What a manager leaves behind for its successor: one small file for each program that runs,
//! `NAME.MARK.job`. It is there before the program is, and goes when the program has ended.

use std::fs;
use std::io::{self, ErrorKind};
use std::os::fd::AsFd;
use std::path::{Path, PathBuf};
use std::time::Duration;

use super::family::{self, Family};
use super::sys;
use crate::io::proc;

/// A file that describes a run.
#[derive(Debug)]
pub(crate) struct Record {
    path: PathBuf,
    name: String,
    mark: String,
}

impl Record {
    /// Announces a run, which is not known by number yet.
    pub(crate) fn announce(dir: &Path, name: &str, mark: &str) -> io::Result<Self> {
        let record = Self {
            path: dir.join(format!("{name}.{mark}.job")),
            name: name.to_owned(),
            mark: mark.to_owned(),
        };
        record.write("")?;
        Ok(record)
    }

    pub(crate) fn started(&self, family: &Family) -> io::Result<()> {
        self.write(&format!(
            "pid {}\nstarted {}\n",
            family.leader, family.started
        ))
    }

    /// Whole or not at all. Not flushed: after a power cut there is nothing to be recognised.
    fn write(&self, more: &str) -> io::Result<()> {
        let Self { path, name, mark } = self;
        let text = format!(
            "boot {}\nname {name}\nmark {mark}\n{more}",
            proc::boot_id()?
        );
        let new = path.with_extension("new");
        fs::write(&new, text)?;
        fs::rename(&new, path)
    }

    pub(crate) fn remove(&self) {
        // If it stays, the successor finds that nothing of the kind runs.
        let _ = fs::remove_file(&self.path);
    }
}

/// A program that a manager before this one started, and that still runs.
#[derive(Debug)]
pub struct Leftover {
    /// The name of its job.
    pub name: String,
    family: Family,
    path: PathBuf,
}

impl Leftover {
    /// Its process number, which means it as long as it runs.
    pub fn pid(&self) -> u32 {
        self.family.leader
    }

    /// Waits until the program has ended, `limit` at most; whether it has. How it ended cannot be
    /// known, it is nobody's child any more.
    pub fn wait(&self, limit: Duration) -> bool {
        let Ok(process) = sys::pidfd_open(self.family.leader) else {
            return !self.family.leader_lives();
        };
        if self.family.leader_lives() {
            let _ = sys::wait_readable([process.as_fd()], limit);
        }
        !self.family.leader_lives()
    }

    /// Ends it and all its processes: a request, `grace`, then by force. False when something
    /// is left, stuck in the kernel.
    pub fn kill(&self, grace: Duration) -> bool {
        let ended = !self.family.leader_lives() || self.family.end(grace, false);
        if ended {
            let _ = fs::remove_file(&self.path);
        }
        ended
    }
}

/// The programs that earlier managers started with their files in `dir` and that still run.
/// Records of those that have ended are removed, whatever process has their numbers now. To be
/// called before anything is started there.
///
/// # Errors
/// When the directory cannot be read.
pub fn leftovers(dir: &Path) -> io::Result<Vec<Leftover>> {
    let boot = proc::boot_id()?;
    let entries = match fs::read_dir(dir) {
        Err(error) if error.kind() == ErrorKind::NotFound => return Ok(Vec::new()),
        entries => entries?,
    };
    let mut found = Vec::new();
    for entry in entries {
        let path = entry?.path();
        if path.extension().is_none_or(|end| end != "job") {
            continue;
        }
        let text = match fs::read_to_string(&path) {
            Err(error) if error.kind() == ErrorKind::NotFound => continue,
            Err(error) if error.kind() == ErrorKind::InvalidData => String::new(),
            text => text?,
        };
        match running(&text, &boot) {
            Some((name, family)) => found.push(Leftover { name, family, path }),
            None => fs::remove_file(&path)?,
        }
    }
    Ok(found)
}

/// The run a record tells of, if it still goes on.
fn running(text: &str, boot: &str) -> Option<(String, Family)> {
    let value = |key: &str| {
        let mut lines = text.lines();
        lines.find_map(|line| line.strip_prefix(key)?.strip_prefix(' '))
    };
    if value("boot")? != boot {
        return None;
    }
    let (name, mark) = (value("name")?.to_owned(), value("mark")?.to_owned());
    let family = match (value("pid"), value("started")) {
        (Some(pid), Some(started)) => Family {
            leader: pid.parse().ok()?,
            started: started.parse().ok()?,
            mark,
        },
        _ => family::find(&mark)?,
    };
    // Neither ourselves nor the first process can be what a record means.
    let possible = family.leader > 1 && family.leader != std::process::id();
    (possible && family.leader_lives()).then_some((name, family))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn damaged_and_foreign_records_name_nothing() {
        let me = std::process::id();
        let started = proc::stat(me).unwrap().started;
        for text in [
            String::new(),
            "boot".into(),
            "boot b\nname n\nmark m\npid x\nstarted 3\n".into(),
            format!("boot other\nname n\nmark m\npid {me}\nstarted {started}\n"),
            format!("boot b\nname n\nmark m\npid {me}\nstarted {started}\n"),
            "boot b\nname n\nmark m\npid 1\nstarted 0\n".into(),
            "boot b\nname n\nmark no-process-has-this\n".into(),
        ] {
            assert_eq!(running(&text, "b"), None, "{text}");
        }
    }
}
