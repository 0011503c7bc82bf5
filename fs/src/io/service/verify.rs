//! Verify: both replicas compared while the application runs.
//!
//! The serving node walks its tree. It reads a piece of a file, or the names of a directory, under
//! the lock that orders the changes of that file or directory, and puts the fingerprint on the
//! stream before it lets go. The follower gets to it when it has done exactly the changes that
//! came before, and compares. So whatever differs really differs, under any load (no false
//! alarms), and nothing is held up for longer than one piece takes to read.
//!
//! What differs is marked and listed. When the walk is over the follower is brought up from the
//! marks like one that was away: what it had is kept aside first.

mod walk;

use super::super::{fingerprint, sys};
use super::{Service, Volume};
use std::io;
use std::os::fd::AsRawFd;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};
use tandem_repl::control::VerifyStatus;
use tandem_repl::ids::FileId;
use tandem_repl::limits::MAX_DATA;
use tandem_repl::logic::member::Gate;
use tandem_repl::op::{Checked, Op};
use walk::{Stop, Walk};

/// Longest sleep between two looks at the gate.
const PATIENCE: Duration = Duration::from_secs(1);

/// State of the verification.
#[derive(Default)]
pub(crate) struct Verify {
    status: Mutex<Option<VerifyStatus>>,
    running: AtomicBool,
    /// Somebody asks for one: the background's is to end.
    wanted: AtomicBool,
}

impl Verify {
    pub(crate) fn status(&self) -> Option<VerifyStatus> {
        self.lock().clone()
    }

    fn lock(&self) -> MutexGuard<'_, Option<VerifyStatus>> {
        self.status.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn update(&self, change: impl FnOnce(&mut VerifyStatus)) {
        change(self.lock().get_or_insert_default());
    }
}

/// Whether what was found must be repaired.
pub(crate) type Differs = bool;

impl Service {
    /// Compares everything. One at a time: `None` if another runs.
    pub(crate) fn run_verify(self: &Arc<Self>, asked: bool, pace: Option<u64>) -> Option<Differs> {
        if asked {
            self.verify.wanted.store(true, Ordering::Release);
            let start = Instant::now();
            while self.verify_is_background() && start.elapsed() < PATIENCE * 10 {
                std::thread::sleep(PATIENCE / 100);
            }
            self.verify.wanted.store(false, Ordering::Release);
        }
        if self.verify.running.swap(true, Ordering::AcqRel) {
            return None;
        }
        *self.verify.lock() = Some(VerifyStatus {
            running: true,
            asked,
            ..VerifyStatus::default()
        });
        let mut differs = false;
        for volume in &self.volumes {
            let mut walk = Walk::new(self, volume, pace);
            let ended = walk.run();
            walk.mark();
            differs |= walk.differs;
            if let Err(stop) = ended {
                let why = match stop {
                    Stop::NotReplicated => "the peer is not in the set any more".into(),
                    Stop::Failed(why) => why,
                };
                self.verify.update(|s| s.ended = Some(why));
                break;
            }
        }
        self.verify.update(|s| s.running = false);
        self.verify.running.store(false, Ordering::Release);
        Some(differs)
    }

    /// Whether one runs that somebody asked for.
    pub(crate) fn verify_is_asked(&self) -> bool {
        self.verify
            .lock()
            .as_ref()
            .is_some_and(|s| s.running && s.asked)
    }

    fn verify_is_background(&self) -> bool {
        self.verify
            .lock()
            .as_ref()
            .is_some_and(|s| s.running && !s.asked)
    }

    /// Whether changes go to the peer now, so that there is something to compare.
    pub(crate) fn replicates(&self) -> bool {
        *self.gate() == Gate::Replicated
    }

    /// The follower's part: the same question about its own tree.
    pub(crate) fn check_for_peer(&self, volume: &Volume, op: &Op<'_>) -> io::Result<bool> {
        let Op::Check { id, what, hash } = *op else {
            return Ok(true);
        };
        let node = volume.peers.expect(id)?;
        let fd = volume.peers.fd(&node)?;
        let mut buf = Vec::new();
        Ok(print(fd.as_raw_fd(), id, what, &mut buf)? == hash)
    }

    /// The follower's part of a repair: bytes the serving node cannot read.
    pub(crate) fn fetch_for_peer(&self, volume: &Volume, op: &Op<'_>) -> io::Result<Vec<u8>> {
        let Op::Fetch { id, offset, len } = *op else {
            return Ok(Vec::new());
        };
        let node = volume.peers.expect(id)?;
        let fd = volume.peers.fd(&node)?;
        let mut data = vec![0; (len as usize).min(MAX_DATA)];
        let mut done = 0;
        while done < data.len() {
            match sys::pread(fd.as_raw_fd(), &mut data[done..], offset + done as u64)? {
                0 => break,
                n => done += n,
            }
        }
        data.truncate(done);
        Ok(data)
    }
}

/// The fingerprint of a piece of an open file.
fn print(fd: i32, id: FileId, what: Checked, buf: &mut Vec<u8>) -> io::Result<fingerprint::Print> {
    match what {
        Checked::Data { offset, len } => fingerprint::data(fd, offset, len, buf),
        Checked::Attrs { times } => fingerprint::attributes(fd, times),
        Checked::Names => {
            // A description of its own: positions of a shared one are everybody's.
            let flags = libc::O_RDONLY | libc::O_DIRECTORY;
            let dir = sys::openat(fd, c".", flags, 0)?;
            let hidden = (id == FileId::ROOT).then_some(HIDDEN_NAME);
            fingerprint::names(dir.as_raw_fd(), hidden)
        }
    }
}

/// Tandem's own directory in the root is not part of the tree.
const HIDDEN_NAME: &[u8] = b".tandem";
