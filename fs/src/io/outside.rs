//! Directories that were changed while the module was stopped, behind Tandem's back.
//!
//! What the daemon changed last it changed before it closed its journal, and what it changes next
//! it changes after its start. So a file whose change time (`ctime`, which no program can set) lies
//! in between was changed by somebody else. A walk in the background looks for such files after the
//! start; what it finds is marked like any change, and compared. After a crash the time of the
//! daemon's last change is not known, but nobody could change anything before the machine was up
//! again, so the walk takes the start of the machine. A daemon that was killed and started again on
//! a running machine has no such time; there the verification finds what was changed meanwhile.
//!
//! A clock that was set back meanwhile can hide a change from the walk, and one set forward can
//! show one that was none: the verification finds the first, the second costs a comparison.

use super::lasting;
use super::service::{Service, Volume};
use super::sys::{self, Handle};
use std::ffi::CStr;
use std::io;
use std::os::fd::{AsRawFd, RawFd};
use std::os::unix::fs::MetadataExt;
use std::path::Path;
use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::time::Duration;
use tandem_repl::control::State;
use tandem_repl::ids::{Id128, Key, Uid};
use tandem_repl::io::driver::{Command, Driver};
use tandem_repl::logic::dirty::{DirRef, FileRef, Generation};
use tandem_repl::logic::resync::PRIVATE;
use tandem_repl::logic::resync::messages::Aside;

/// Seconds and nanoseconds of the system's clock.
type Time = (i64, i64);

/// Entries looked at between two rests.
const AT_ONCE: usize = 500;
/// A rest, so that nobody feels the walk.
const REST: Duration = Duration::from_millis(2);
/// Changes that are logged one by one.
const LOGGED: usize = 20;

/// When nobody of ours changed anything.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Window {
    from: Time,
    until: Time,
}

impl Window {
    /// To be asked before the daemon writes anything. `state_dir` holds the journal, and files of
    /// the failover manager, which writes there while no daemon runs.
    pub(crate) fn before_start(state_dir: &Path) -> Self {
        let files = std::fs::read_dir(state_dir).into_iter().flatten().flatten();
        let own = files.filter(|file| {
            let name = file.file_name();
            let name = name.to_string_lossy();
            ["record.", "marks."]
                .iter()
                .any(|own| name.starts_with(own))
        });
        let times = own.filter_map(|file| file.metadata().ok());
        let last = times.map(|m| (m.mtime(), m.mtime_nsec())).max();
        let until = coarse_now();
        Self {
            from: last.unwrap_or(until),
            until,
        }
    }

    /// `clean`: the journal was closed in order. `same_boot`: in this run of the machine.
    pub(crate) fn judged(self, clean: bool, same_boot: bool) -> Option<Self> {
        match (clean, same_boot) {
            (true, _) => Some(self),
            (false, true) => None,
            (false, false) => Some(Self {
                from: self.from.max(machine_start(self.until)),
                ..self
            }),
        }
    }

    fn contains(&self, stat: &libc::stat) -> bool {
        let changed = (stat.st_ctime, stat.st_ctime_nsec);
        self.from < changed && changed < self.until
    }
}

/// What file systems take for the time of a change.
fn coarse_now() -> Time {
    let mut now = libc::timespec {
        tv_sec: 0,
        tv_nsec: 0,
    };
    // SAFETY: the structure is valid for writes.
    unsafe { libc::clock_gettime(libc::CLOCK_REALTIME_COARSE, &raw mut now) };
    (now.tv_sec, now.tv_nsec)
}

fn machine_start(now: Time) -> Time {
    let mut up = libc::timespec {
        tv_sec: 0,
        tv_nsec: 0,
    };
    // SAFETY: the structure is valid for writes.
    unsafe { libc::clock_gettime(libc::CLOCK_BOOTTIME, &raw mut up) };
    (now.0 - up.tv_sec - 1, 0)
}

/// Looks through all directories, once.
///
/// # Errors
/// No thread can be had.
pub(crate) fn look_in_background(
    service: &Arc<Service>,
    driver: &Driver,
    window: Window,
) -> io::Result<()> {
    let (service, driver) = (service.clone(), driver.clone());
    let run = move || {
        let mut found = 0;
        for volume in &service.volumes {
            let mut walk = Walk {
                service: &service,
                volume,
                window,
                found: 0,
                seen: 0,
            };
            if let Err(e) = walk.run() {
                let path = volume.backing.path.display();
                tracing::warn!("{path}: looking for changes made while stopped: {e}");
            }
            found += walk.found;
        }
        if found > 0 {
            let marked = service.marks.generation();
            service.outside.store(marked.0, Ordering::Release);
            tracing::warn!("{found} changes were made while the module was stopped");
            compare(&service, &driver);
        }
    };
    let spawned = std::thread::Builder::new()
        .name("outside".into())
        .spawn(run);
    spawned.map(|_| ())
}

impl Service {
    /// What somebody changed here is not the source's, so a resync keeps it.
    pub(crate) fn aside_of_own(&self) -> Option<Aside> {
        (self.outside.load(Ordering::Acquire) > 0).then(|| {
            let mut id = Id128::default();
            let (one, two) = id.0.split_at_mut(8);
            one.copy_from_slice(&lasting::origin().to_ne_bytes());
            two.copy_from_slice(&lasting::origin().to_ne_bytes());
            Aside {
                id,
                reason: "changed here while the module was stopped".into(),
                beyond: false,
            }
        })
    }

    /// The marks before this generation are dropped: the replicas are equal there.
    pub(super) fn outside_is_settled(&self, before: Generation) {
        let settled = |marked: u32| (marked < before.0).then_some(0);
        let _ = self
            .outside
            .fetch_update(Ordering::AcqRel, Ordering::Acquire, settled);
    }
}

/// What is marked is compared with the next resync; if both nodes count as equal already one is
/// asked for.
fn compare(service: &Service, driver: &Driver) {
    if service.replicates() {
        driver.peer_differs();
    } else if driver.status().state == State::Second {
        let everything = false;
        if let Err(refusal) = driver.command(Command::Resync { everything }) {
            tracing::warn!("what was changed while stopped is not compared yet: {refusal}");
        }
    }
}

struct Walk<'a> {
    service: &'a Service,
    volume: &'a Volume,
    window: Window,
    found: usize,
    seen: usize,
}

impl Walk<'_> {
    fn run(&mut self) -> io::Result<()> {
        let root = sys::handle_at(self.volume.backing.root_fd(), c"")?;
        let mut todo = vec![root];
        while let Some(dir) = todo.pop() {
            match self.directory(&dir, &root, &mut todo) {
                // Removed since.
                Err(e) if matches!(e.raw_os_error(), Some(libc::ESTALE | libc::ENOENT)) => {}
                result => result?,
            }
        }
        Ok(())
    }

    fn directory(&mut self, dir: &Handle, root: &Handle, todo: &mut Vec<Handle>) -> io::Result<()> {
        let flags = libc::O_RDONLY | libc::O_DIRECTORY;
        let fd = sys::open_handle(self.volume.nodes.mount_fd(), dir, flags)?;
        let fd = fd.as_raw_fd();
        let is_root = dir == root;
        if self.window.contains(&sys::fstatat(fd, c"")?) {
            self.note(fd, c"");
            let uid = match is_root {
                true => Uid::ROOT,
                false => lasting::read(fd, dir)?.unwrap_or(Uid::NONE),
            };
            let key = dir.key();
            let marks = &self.service.marks;
            marks.mark_outside_names(self.volume, &DirRef { key, uid })?;
        }
        let mut buf = vec![0u8; 32 * 1024];
        loop {
            let n = sys::getdents(fd, &mut buf)?;
            if n == 0 {
                return Ok(());
            }
            for entry in sys::dirents(&buf[..n]) {
                let name = entry.name;
                let private = is_root && name.to_bytes() == PRIVATE;
                if private || name == c"." || name == c".." {
                    continue;
                }
                match self.entry(fd, dir.key(), name, todo) {
                    Err(e) if e.raw_os_error() == Some(libc::ENOENT) => {}
                    result => result?,
                }
                self.seen += 1;
                if self.seen.is_multiple_of(AT_ONCE) {
                    std::thread::sleep(REST);
                }
            }
        }
    }

    fn entry(
        &mut self,
        dir: RawFd,
        parent: Key,
        name: &CStr,
        todo: &mut Vec<Handle>,
    ) -> io::Result<()> {
        let stat = sys::fstatat(dir, name)?;
        let is_dir = stat.st_mode & libc::S_IFMT == libc::S_IFDIR;
        if is_dir {
            todo.push(sys::handle_at(dir, name)?);
        }
        if !self.window.contains(&stat) {
            return Ok(());
        }
        if !is_dir {
            self.note(dir, name);
        }
        let handle = sys::handle_at(dir, name)?;
        let path = sys::openat(dir, name, libc::O_PATH | libc::O_NOFOLLOW, 0)?;
        let file = FileRef {
            key: handle.key(),
            uid: lasting::read(path.as_raw_fd(), &handle)?.unwrap_or(Uid::NONE),
            place: Some((parent, name.to_bytes())),
        };
        let size =
            (stat.st_mode & libc::S_IFMT == libc::S_IFREG).then_some(stat.st_size.cast_unsigned());
        self.service.marks.mark_outside(self.volume, file, size)
    }

    fn note(&mut self, dir: RawFd, name: &CStr) {
        self.found += 1;
        if self.found <= LOGGED {
            let dir = std::fs::read_link(format!("/proc/self/fd/{dir}")).unwrap_or_default();
            let name = name.to_string_lossy();
            let path = dir.join(&*name);
            let path = path.display();
            tracing::warn!("{path}: changed while the module was stopped; it will be compared");
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const WINDOW: Window = Window {
        from: (100, 5),
        until: (200, 0),
    };

    #[test]
    fn what_others_keep_beside_the_journal_says_nothing() {
        let dir = std::env::temp_dir().join(format!("tandem-outside-{}", std::process::id()));
        std::fs::create_dir_all(&dir).unwrap();
        std::fs::write(dir.join("marks.0"), "").unwrap();
        let from = Window::before_start(&dir).from;
        std::thread::sleep(Duration::from_millis(30));
        std::fs::write(dir.join("wants.json"), "").unwrap();
        assert_eq!(Window::before_start(&dir).from, from);
        std::fs::write(dir.join("record.1"), "").unwrap();
        assert!(Window::before_start(&dir).from > from);
        std::fs::remove_dir_all(&dir).unwrap();
    }

    #[test]
    fn only_what_was_changed_in_between_counts() {
        let at = |sec, nsec| {
            // SAFETY: plain data for which zero is a value.
            let mut stat: libc::stat = unsafe { std::mem::zeroed() };
            (stat.st_ctime, stat.st_ctime_nsec) = (sec, nsec);
            WINDOW.contains(&stat)
        };
        assert!(!at(100, 5), "our own last change");
        assert!(at(100, 6) && at(199, 999_999_999));
        assert!(!at(200, 0) && !at(201, 0), "our own, since the start");
    }

    #[test]
    fn after_a_crash_only_a_new_start_of_the_machine_says_when() {
        assert!(WINDOW.judged(true, true).is_some());
        assert!(WINDOW.judged(false, true).is_none());
        let window = Window {
            from: (1, 0),
            until: coarse_now(),
        };
        let judged = window.judged(false, false);
        assert!(judged.is_some_and(|w| w.from > (1, 0) && w.from < w.until));
    }
}
