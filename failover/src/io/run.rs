//! Runs the programs of a module: scripts, commands of checkers, fences.
//!
//! A program is started as a daemon's child would be: own session and process group, nothing to
//! read, `/` as its directory, a clean environment, no descriptor of ours, its output in a file.
//! So it outlives a manager that dies, and the next manager can recognise it ([`leftovers`]).
//!
//! Processes that a successful program leaves behind are the application and are left alone. When
//! a program takes too long or is killed, its process group ends with it, and so does every process
//! that left the group and still carries the run's mark, the environment variable `TANDEM_RUN`.

mod family;
mod output;
mod program;
mod record;
mod supervise;
mod sys;

use std::fmt;
use std::os::fd::{AsFd, OwnedFd};
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex, mpsc};
use std::thread;
use std::time::Duration;

pub use record::{Leftover, leftovers};

/// How long a program may take to end after it was asked to, before it is killed.
pub const GRACE: Duration = Duration::from_secs(2);

/// Where programs are looked for that a script names without a path.
const PATH: &str = "/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin";

/// Runs programs, and keeps their outputs and records in one directory.
#[derive(Clone, Debug)]
pub struct Runner {
    dir: PathBuf,
}

/// A program to be run.
pub struct Job {
    /// What it is for, unique among those of its runner that run at the same time: names the file
    /// of its output.
    pub name: String,
    /// The program, an absolute path, and its arguments.
    pub command: Vec<String>,
    /// How long it may take.
    pub limit: Duration,
    /// How long it may take to end once it was asked to; [`GRACE`] unless there is a reason.
    pub grace: Duration,
    /// The environment, besides `PATH`, `LANG` and the run's mark.
    pub env: Vec<(String, String)>,
    /// Called once, from another thread, as soon as the program has ended or has been given up.
    pub done: Box<dyn FnOnce(Outcome) + Send>,
}

/// How a program ended.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Outcome {
    Success {
        took: Duration,
    },
    /// It reports a failure, or was killed by somebody else.
    Failed {
        end: End,
        took: Duration,
        /// The last 4 KiB of what it said.
        output: String,
    },
    /// It was ended because its time was over.
    TimedOut {
        limit: Duration,
        output: String,
        /// False: a process of it is stuck in the kernel and still there.
        gone: bool,
    },
    /// It was ended because [`JobHandle::kill`] was called.
    Killed {
        output: String,
        gone: bool,
    },
    /// It was never started.
    CannotRun {
        reason: String,
        remedy: String,
    },
}

/// What a program leaves behind as its result.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum End {
    Code(i32),
    Signal(i32),
}

impl Outcome {
    pub fn is_success(&self) -> bool {
        matches!(self, Self::Success { .. })
    }

    /// The last of what a program said that did not succeed.
    pub fn output(&self) -> &str {
        match self {
            Self::Failed { output, .. }
            | Self::TimedOut { output, .. }
            | Self::Killed { output, .. } => output,
            Self::Success { .. } | Self::CannotRun { .. } => "",
        }
    }

    fn unusable(program: program::Unusable) -> Self {
        Self::CannotRun {
            reason: program.reason,
            remedy: program.remedy,
        }
    }
}

impl fmt::Display for Outcome {
    fn fmt(&self, out: &mut fmt::Formatter<'_>) -> fmt::Result {
        let gone = |gone: &bool| match gone {
            true => "",
            false => "; a process of it is stuck in the kernel and could not be ended",
        };
        match self {
            Self::Success { took } => write!(out, "succeeded after {} ms", took.as_millis()),
            Self::Failed { end, took, .. } => {
                write!(out, "{end} after {} ms", took.as_millis())
            }
            Self::TimedOut {
                limit, gone: is, ..
            } => {
                let limit = limit.as_millis();
                write!(
                    out,
                    "did not end within {limit} ms and was killed{}",
                    gone(is)
                )
            }
            Self::Killed { gone: is, .. } => write!(out, "was killed on request{}", gone(is)),
            Self::CannotRun { reason, remedy } => write!(out, "cannot be run: {reason}; {remedy}"),
        }
    }
}

impl fmt::Display for End {
    fn fmt(&self, out: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Code(code) => write!(out, "ended with exit code {code}"),
            Self::Signal(signal) => write!(out, "was ended by signal {signal}"),
        }
    }
}

/// A running program. Dropping the handle changes nothing.
#[derive(Clone, Debug)]
pub struct JobHandle {
    /// `None` when there is no program to kill.
    kill: Option<Arc<OwnedFd>>,
}

impl JobHandle {
    /// Asks for the end of the program and of all its processes; the outcome tells when it is
    /// done. Does nothing when it has ended.
    pub fn kill(&self) {
        if let Some(kill) = &self.kill {
            sys::raise(kill.as_fd());
        }
    }
}

/// `done`, to be called by whoever is first to know.
type Done = Arc<Mutex<Option<Box<dyn FnOnce(Outcome) + Send>>>>;

fn tell(done: &Done, outcome: Outcome) {
    let done = done
        .lock()
        .unwrap_or_else(|error| error.into_inner())
        .take();
    if let Some(done) = done {
        done(outcome);
    }
}

impl Runner {
    /// `dir` is made when it is first needed.
    pub fn new(dir: PathBuf) -> Self {
        Self { dir }
    }

    pub fn dir(&self) -> &Path {
        &self.dir
    }

    /// Where the output of the last run of a job is.
    pub fn output_of(&self, name: &str) -> PathBuf {
        self.dir.join(format!("{}.log", file_name(name)))
    }

    /// Starts a program. Never waits; also what is wrong with the program is told by `done`.
    pub fn start(&self, job: Job) -> JobHandle {
        let done: Done = Arc::new(Mutex::new(Some(job.done)));
        let told = done.clone();
        let cannot = |what: &str, error: std::io::Error| {
            let reason = format!("{}: {what}: {error}", job.name);
            let remedy = "this node is out of memory, threads or descriptors".to_owned();
            tell(&done, Outcome::CannotRun { reason, remedy });
            JobHandle { kill: None }
        };
        let kill = match sys::event() {
            Ok(event) => Arc::new(event),
            Err(error) => return cannot("no event", error),
        };
        let run = supervise::Run {
            dir: self.dir.clone(),
            name: file_name(&job.name),
            command: job.command,
            env: job.env,
            limit: job.limit,
            grace: job.grace,
            kill: kill.clone(),
        };
        let thread = thread::Builder::new().name("run".into());
        match thread.spawn(move || run.supervise(|outcome| tell(&told, outcome))) {
            Ok(_) => JobHandle { kill: Some(kill) },
            Err(error) => cannot("no thread", error),
        }
    }

    /// Runs a program and waits for it: as long as [`Job::limit`] and [`Job::grace`] say, and
    /// little more.
    pub fn run(
        &self,
        name: &str,
        command: &[String],
        limit: Duration,
        env: &[(String, String)],
    ) -> Outcome {
        let (send, receive) = mpsc::channel();
        self.start(Job {
            name: name.to_owned(),
            command: command.to_vec(),
            limit,
            grace: GRACE,
            env: env.to_vec(),
            done: Box::new(move |outcome| {
                // The receiver is waiting below.
                let _ = send.send(outcome);
            }),
        });
        receive.recv().unwrap_or_else(|_| Outcome::CannotRun {
            reason: format!("{name}: the thread that ran it ended early"),
            remedy: "see the manager's log".to_owned(),
        })
    }

    /// Cuts down outputs that have grown too long since their run ended: daemons that a script
    /// left running write on. To be called now and then.
    ///
    /// # Errors
    /// When a file cannot be read or cut.
    pub fn trim(&self) -> std::io::Result<()> {
        output::trim_all(&self.dir)
    }
}

/// A name as part of a file's name: whatever it holds, it stays in its directory, and two names
/// are never one.
fn file_name(name: &str) -> String {
    let mut file = String::new();
    for byte in name.bytes() {
        let plain = byte.is_ascii_alphanumeric() || byte == b'_' || byte == b'-';
        match plain {
            true => file.push(char::from(byte)),
            false => file.push_str(&format!("%{byte:02x}")),
        }
    }
    file
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_stay_in_their_directory() {
        assert_eq!(file_name("stop_prim"), "stop_prim");
        assert_eq!(file_name("../a b.log"), "%2e%2e%2fa%20b%2elog");
    }

    #[test]
    fn outcomes_say_what_happened() {
        let failed = Outcome::Failed {
            end: End::Code(3),
            took: Duration::from_millis(20),
            output: "no\n".into(),
        };
        assert_eq!(failed.to_string(), "ended with exit code 3 after 20 ms");
        assert_eq!(failed.output(), "no\n");
        let stuck = Outcome::Killed {
            output: String::new(),
            gone: false,
        };
        assert!(stuck.to_string().contains("stuck in the kernel"));
    }
}
