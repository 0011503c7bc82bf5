//! The manager's control socket: root's word, and the answers.

use super::{Event, ManagerError};
use crate::control::{Answer, Envelope, MANAGER_VERSION, socket};
use std::io::{self, BufRead, BufReader, Read, Write};
use std::os::unix::fs::{DirBuilderExt, PermissionsExt};
use std::os::unix::net::{UnixListener, UnixStream};
use std::path::Path;
use std::sync::Arc;
use std::sync::mpsc::{Sender, channel};
use std::time::Duration;
use tandem_repl::control::{MAX_LINE, Refusal};

/// A client that says nothing for so long is let go.
const IDLE: Duration = Duration::from_secs(600);
/// Clients at once; more wait in the socket's queue.
const MAX_CLIENTS: usize = 64;
/// No order takes longer: every script of it has a limit. The client may give up before.
const ANSWER_LIMIT: Duration = Duration::from_secs(3600);

/// Listens; a socket that a dead manager left behind is replaced. Nobody but root gets as far as
/// the socket.
///
/// # Errors
/// Another manager lives, or the socket cannot be made.
pub(super) fn listen(run_dir: &Path) -> Result<UnixListener, ManagerError> {
    let path = socket(run_dir);
    let work = || {
        std::fs::DirBuilder::new()
            .recursive(true)
            .mode(0o700)
            .create(run_dir)?;
        if UnixStream::connect(&path).is_ok() {
            return Err(io::Error::new(
                io::ErrorKind::AddrInUse,
                "a failover manager runs already",
            ));
        }
        let _ = std::fs::remove_file(&path);
        let listener = UnixListener::bind(&path)?;
        std::fs::set_permissions(&path, std::fs::Permissions::from_mode(0o600))?;
        Ok(listener)
    };
    work().map_err(|source| ManagerError::Socket {
        path: path.clone(),
        source,
    })
}

/// Serves clients, each in a thread of its own.
pub(super) fn serve(listener: UnixListener, events: Sender<Event>) -> io::Result<()> {
    let run = move || {
        let clients = Arc::new(());
        for stream in listener.incoming().flatten() {
            while Arc::strong_count(&clients) > MAX_CLIENTS {
                std::thread::sleep(Duration::from_millis(20));
            }
            let (events, held) = (events.clone(), clients.clone());
            let talk = move || {
                let _held = held;
                if let Err(e) = converse(&events, &stream) {
                    tracing::debug!("control client: {e}");
                }
            };
            let _ = std::thread::Builder::new()
                .name("control".into())
                .spawn(talk);
        }
    };
    let spawned = std::thread::Builder::new()
        .name("control".into())
        .spawn(run);
    spawned.map(|_| ())
}

fn converse(events: &Sender<Event>, stream: &UnixStream) -> io::Result<()> {
    stream.set_read_timeout(Some(IDLE))?;
    stream.set_write_timeout(Some(Duration::from_secs(10)))?;
    let mut reader = BufReader::new(stream);
    loop {
        let mut line = Vec::new();
        let count = (&mut reader)
            .take(MAX_LINE as u64)
            .read_until(b'\n', &mut line)?;
        if count == 0 {
            return Ok(());
        }
        let mut answer = serde_json::to_vec(&respond(events, &line))?;
        answer.push(b'\n');
        let mut to = stream;
        to.write_all(&answer)?;
    }
}

fn respond(events: &Sender<Event>, line: &[u8]) -> Answer {
    let remedy = format!("speak version {MANAGER_VERSION} of the manager's messages");
    let envelope: Envelope = match serde_json::from_slice(line) {
        Ok(envelope) => envelope,
        Err(e) => {
            let reason = format!("the request is not understood: {e}");
            return Answer::Refused(Refusal::new("version", reason, remedy));
        }
    };
    if envelope.version != MANAGER_VERSION {
        let reason = format!("version {} is not spoken here", envelope.version);
        return Answer::Refused(Refusal::new("version", reason, remedy));
    }
    let (reply, answer) = channel();
    let ended = || {
        let remedy = "see its log; ask for the status before asking again";
        Answer::Refused(Refusal::new("ended", "the manager gave no answer", remedy))
    };
    let reply = Box::new(move |answer| {
        // The client's thread may have given up.
        let _ = reply.send(answer);
    });
    let client = Event::Client(None, Box::new(envelope), reply);
    if events.send(client).is_err() {
        return ended();
    }
    answer
        .recv_timeout(ANSWER_LIMIT)
        .unwrap_or_else(|_| ended())
}
