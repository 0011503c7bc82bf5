//! The module's file system daemon: started, watched, asked, killed.
//!
//! It is a process of its own that outlives the manager. So nothing here depends on being its
//! parent: what is known of it comes from its control socket.

use crate::client::{ACTION_LIMIT, ClientError, ControlClient};
use crate::logic::api::{Ask, Daemon, View};
use std::os::unix::process::CommandExt;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::thread;
use std::time::{Duration, Instant};
use tandem_repl::control::{Answer, Refusal, Request, Status};
use tandem_repl::io::clock;

/// How long a daemon may take to answer for the first time: it reads its journal before.
const START_LIMIT: Duration = Duration::from_secs(60);
/// Between two looks at a socket nobody answers on.
const PAUSE: Duration = Duration::from_millis(50);
/// A watched daemon answers after this long even if nothing changed; a sixth of the stall limit
/// where that is less, so that its silence is noticed in time.
const WATCH: Duration = Duration::from_millis(500);

/// How to start a daemon, and where it answers.
#[derive(Clone, Debug)]
pub struct Place {
    pub module: String,
    pub socket: PathBuf,
    /// The program and the arguments that name its directories.
    pub program: Vec<String>,
}

/// Starts the daemon and waits until it answers. Returns when it does, or says why not.
///
/// # Errors
/// In words, for the operator.
pub fn start(place: &Place) -> Result<(), String> {
    if ask_status(&place.socket).is_ok() {
        return Ok(());
    }
    let Some((program, arguments)) = place.program.split_first() else {
        return Err("no program is known to start it with".into());
    };
    let mut command = Command::new(program);
    command
        .args(arguments)
        .args(["fs", &place.module, "--managed"])
        .stdin(Stdio::null())
        // It must not get the signals of the manager's terminal or group.
        .process_group(0);
    let mut child = command.spawn().map_err(|e| format!("{program}: {e}"))?;
    let started = Instant::now();
    let answered = loop {
        if ask_status(&place.socket).is_ok() {
            break Ok(());
        }
        match child.try_wait() {
            Ok(Some(status)) => return Err(format!("it ended at once ({status}); see its log")),
            Ok(None) => {}
            Err(e) => break Err(e.to_string()),
        }
        if started.elapsed() > START_LIMIT {
            let _ = child.kill();
            let _ = child.wait();
            return Err(format!(
                "it did not answer within {} s",
                START_LIMIT.as_secs()
            ));
        }
        thread::sleep(PAUSE);
    };
    // Reaped whenever it ends.
    let reap = move || child.wait().map(|_| ());
    let spawned = thread::Builder::new().name("reap".into()).spawn(reap);
    spawned.map_err(|e| e.to_string())?;
    answered
}

fn ask_status(socket: &Path) -> Result<Status, ClientError> {
    let mut client = ControlClient::connect(socket)?;
    match client.request(&Request::Status)? {
        Answer::Status(status) | Answer::Done(status) => Ok(*status),
        _ => Err(ClientError::Closed {
            socket: socket.into(),
        }),
    }
}

/// What of a status matters to the module's machine.
pub fn view(status: &Status) -> View {
    View {
        state: status.state,
        readiness: status.readiness,
        reason: status.reason.clone(),
        has_epoch: status.epoch.is_some(),
        served: status.served,
        until: status.serves_until_ms.map(clock::at_boot_ms),
        peer_connected: status.peer.connected,
        peer_state: status.peer.state,
    }
}

/// Watches the daemon in a thread of its own until dropped. `tell` is called at every change, at
/// least every half a second while it answers, and when it is gone. One that hangs says nothing.
pub struct Watch(Arc<AtomicBool>);

impl Watch {
    /// # Errors
    /// No thread can be had.
    pub fn start(
        socket: PathBuf,
        stall_limit: Duration,
        tell: impl Fn(Daemon, Option<Status>) + Send + 'static,
    ) -> std::io::Result<Self> {
        let ended = Arc::new(AtomicBool::new(false));
        let watch = Self(ended.clone());
        let pace = WATCH.min(stall_limit / 6);
        let run = move || {
            let mut is_gone = false;
            while !ended.load(Ordering::Relaxed) {
                let found = match ControlClient::connect(&socket) {
                    Ok(client) => watch_one(client, pace, &ended, &tell),
                    Err(error) => error,
                };
                let gone = !matches!(found, ClientError::TimedOut { .. });
                if gone && !is_gone {
                    tell(Daemon::Gone, None);
                }
                is_gone = gone && matches!(found, ClientError::NotRunning { .. });
                thread::sleep(PAUSE);
            }
        };
        thread::Builder::new().name("watch".into()).spawn(run)?;
        Ok(watch)
    }
}

impl Drop for Watch {
    fn drop(&mut self) {
        self.0.store(true, Ordering::Relaxed);
    }
}

/// Until the connection ends, which the end of the daemon does at once, or it hangs.
fn watch_one(
    mut client: ControlClient,
    pace: Duration,
    ended: &AtomicBool,
    tell: &impl Fn(Daemon, Option<Status>),
) -> ClientError {
    let mut after = 0;
    loop {
        match client.watch(after, pace) {
            Ok(Answer::Status(status) | Answer::Done(status)) => {
                after = status.version;
                tell(Daemon::Up(view(&status)), Some(*status));
            }
            Ok(Answer::Refused(refusal)) => {
                tracing::warn!("the file system daemon refuses to be watched: {refusal}");
                thread::sleep(pace);
            }
            Ok(_) => thread::sleep(pace),
            Err(error) => return error,
        }
        if ended.load(Ordering::Relaxed) {
            return ClientError::Closed {
                socket: PathBuf::new(),
            };
        }
    }
}

/// Puts a question to the daemon.
pub fn ask(socket: &Path, ask: Ask) -> Result<(), Refusal> {
    let request = match ask {
        Ask::Prim { force } => Request::Prim { force },
        Ask::Second => Request::Second,
        Ask::Resync { everything } => Request::Resync { everything },
        Ask::Swap => Request::Swap,
        Ask::Stop => Request::Stop,
        Ask::Fenced => Request::Fenced,
    };
    let answer = ControlClient::connect(socket)
        .and_then(|mut client| client.request_within(&request, ACTION_LIMIT));
    match answer {
        Ok(Answer::Refused(refusal)) => Err(refusal),
        Ok(_) => Ok(()),
        Err(e) => Err(Refusal::new(
            "no-answer",
            e.to_string(),
            "see the log of the file system daemon",
        )),
    }
}
