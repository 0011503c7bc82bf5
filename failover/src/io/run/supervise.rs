//! One run from beginning to end, in a thread of its own that sleeps until something happens.

use std::io;
use std::os::fd::{AsFd, OwnedFd};
use std::os::unix::process::ExitStatusExt;
use std::path::PathBuf;
use std::process::{Child, Command, ExitStatus, Stdio};
use std::sync::Arc;
use std::sync::mpsc::{self, RecvTimeoutError, SyncSender};
use std::thread;
use std::time::{Duration, Instant};

use super::family::{Family, MARK};
use super::output::{self, Output};
use super::program::{self, Unusable};
use super::record::Record;
use super::{End, Outcome, PATH, sys};
use crate::io::proc;

/// How often the size of the output is looked at: soon while it grows fast.
const SHORTEST: Duration = Duration::from_millis(10);
const LONGEST: Duration = Duration::from_millis(250);

/// Everything that is known of a run before it begins.
pub(crate) struct Run {
    pub(crate) dir: PathBuf,
    /// Fit for a file's name.
    pub(crate) name: String,
    pub(crate) command: Vec<String>,
    pub(crate) env: Vec<(String, String)>,
    pub(crate) limit: Duration,
    pub(crate) grace: Duration,
    pub(crate) kill: Arc<OwnedFd>,
}

/// A program that has been started.
struct Started {
    child: Child,
    process: OwnedFd,
    family: Family,
    record: Option<Record>,
    /// `None`: it could not be kept, the disk being full for example. A stop script is run anyway.
    output: Option<Output>,
}

/// What a wait ended with.
enum Event {
    Ended,
    Killed,
    TimeOver,
}

impl Run {
    pub(crate) fn supervise(self, done: impl FnOnce(Outcome)) {
        let begin = Instant::now();
        let (limit, grace, kill) = (self.limit, self.grace, self.kill.clone());
        let mut started = match self.start() {
            Ok(started) => started,
            Err(outcome) => return done(outcome),
        };
        let event = started.wait(begin, limit, &kill);
        let gone = match event {
            Event::Ended => true,
            Event::Killed | Event::TimeOver => started.family.end(grace, true),
        };
        let output = started.last_words();
        let outcome = match event {
            Event::Killed => Outcome::Killed { output, gone },
            Event::TimeOver => Outcome::TimedOut {
                limit,
                output,
                gone,
            },
            Event::Ended => match started.child.wait() {
                Ok(status) => ended(status, begin.elapsed(), output),
                Err(error) => Outcome::CannotRun {
                    reason: format!("its result cannot be read: {error}"),
                    remedy: "nothing else may wait for the manager's children".to_owned(),
                },
            },
        };
        if gone {
            started.forget();
            done(outcome);
        } else {
            done(outcome);
            // The caller goes on; the record stays until it has really ended.
            started.forget();
        }
    }

    /// The file system of the program may not answer, so all of this happens in another thread,
    /// which is left alone when the time is over; what it starts after that is killed.
    fn start(self) -> Result<Started, Outcome> {
        let (limit, grace) = (self.limit, self.grace);
        let program = self.command.first().cloned().unwrap_or_default();
        let (send, receive) = mpsc::sync_channel(0);
        let thread = thread::Builder::new().name("run-start".into());
        let spawned = thread.spawn(move || hand_over(&send, self.launch(), grace));
        if let Err(error) = spawned {
            return Err(Outcome::unusable(program::refused(&program, &error)));
        }
        match receive.recv_timeout(limit) {
            Ok(Ok(started)) => Ok(started),
            Ok(Err(unusable)) => Err(Outcome::unusable(unusable)),
            Err(RecvTimeoutError::Timeout) => Err(Outcome::TimedOut {
                limit,
                output: format!("{program}: its file system does not answer"),
                gone: false,
            }),
            Err(RecvTimeoutError::Disconnected) => Err(Outcome::CannotRun {
                reason: format!("{program}: the thread that starts it ended early"),
                remedy: "see the manager's log".to_owned(),
            }),
        }
    }

    fn launch(self) -> Result<Started, Unusable> {
        program::check(&self.command, &self.env)?;
        let (program, arguments) = self.command.split_first().ok_or_else(|| Unusable {
            reason: "no program is named".to_owned(),
            remedy: "name one: an absolute path".to_owned(),
        })?;
        let refused = |error: io::Error| program::refused(program, &error);
        let mark = proc::unique().map_err(refused)?;
        // Output and record are good to have. No script stays undone for want of them.
        let output = output::begin(&self.dir, &self.name).ok();
        let record = Record::announce(&self.dir, &self.name, &mark).ok();
        let spawned = self.spawn(program, arguments, &mark, output.as_ref());
        let (child, process) = match spawned {
            Ok(spawned) => spawned,
            Err(error) => {
                record.as_ref().inspect(|record| record.remove());
                return Err(refused(error));
            }
        };
        let leader = child.id();
        // It is a child that was not waited for, so there is an entry even if it has ended.
        let started = proc::stat(leader).map_or(0, |stat| stat.started);
        let family = Family {
            leader,
            started,
            mark,
        };
        if let Some(record) = &record {
            // Without it the mark alone is recorded, which is enough to find the program.
            let _ = record.started(&family);
        }
        Ok(Started {
            child,
            process,
            family,
            record,
            output,
        })
    }

    fn spawn(
        &self,
        program: &str,
        arguments: &[String],
        mark: &str,
        output: Option<&Output>,
    ) -> io::Result<(Child, OwnedFd)> {
        let stdio = || match output {
            Some(output) => output.for_child().map(Stdio::from),
            None => Ok(Stdio::null()),
        };
        let mut command = Command::new(program);
        command
            .args(arguments)
            .env_clear()
            .env("PATH", PATH)
            .env("LANG", "C.UTF-8")
            .envs(self.env.iter().map(|(name, value)| (name, value)))
            .env(MARK, mark)
            .current_dir("/")
            .stdin(Stdio::null())
            .stdout(stdio()?)
            .stderr(stdio()?);
        sys::detach(&mut command);
        let mut child = command.spawn()?;
        match sys::pidfd_open(child.id()) {
            Ok(process) => Ok((child, process)),
            Err(error) => {
                // Nothing could wait for it with a limit, so it must not run.
                let _ = sys::signal_group(child.id(), libc::SIGKILL);
                let _ = child.wait();
                Err(error)
            }
        }
    }
}

/// Gives what was started to the supervisor, or ends it if that one has given up.
fn hand_over(
    send: &SyncSender<Result<Started, Unusable>>,
    result: Result<Started, Unusable>,
    grace: Duration,
) {
    if let Err(mpsc::SendError(Ok(started))) = send.send(result) {
        started.family.end(grace, true);
        started.forget();
    }
}

impl Started {
    fn wait(&mut self, begin: Instant, limit: Duration, kill: &OwnedFd) -> Event {
        let mut pause = SHORTEST;
        let mut size = 0;
        loop {
            let left = limit.saturating_sub(begin.elapsed());
            let fds = [self.process.as_fd(), kill.as_fd()];
            match sys::wait_readable(fds, left.min(pause)) {
                Ok([true, _]) => return Event::Ended,
                Ok([_, true]) => return Event::Killed,
                Ok(_) => {}
                // Not expected of a poll of two open descriptors; waiting goes on by time.
                Err(_) => thread::sleep(left.min(pause)),
            }
            if limit <= begin.elapsed() {
                return Event::TimeOver;
            }
            let Some(output) = &mut self.output else {
                continue;
            };
            let now = output.size();
            pause = match now.abs_diff(size) > output::MOST / 8 {
                true => SHORTEST,
                false => LONGEST.min(pause * 2),
            };
            // If it fails it is tried again, and the program's time is bounded.
            let _ = output.relieve();
            size = output.size();
        }
    }

    fn last_words(&mut self) -> String {
        let Some(output) = &mut self.output else {
            return "[tandem: its output could not be kept]\n".to_owned();
        };
        let _ = output.finish();
        output.tail()
    }

    /// Waits for the process, so that no zombie stays, and takes back the record.
    fn forget(mut self) {
        let _ = self.child.wait();
        if let Some(record) = &self.record {
            record.remove();
        }
    }
}

fn ended(status: ExitStatus, took: Duration, output: String) -> Outcome {
    let end = match (status.code(), status.signal()) {
        (Some(0), _) => return Outcome::Success { took },
        (Some(code), _) => End::Code(code),
        (None, signal) => End::Signal(signal.unwrap_or(0)),
    };
    Outcome::Failed { end, took, output }
}
