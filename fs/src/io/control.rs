//! The control socket: root's word to this daemon, and its answers.

use crate::daemon::Daemon;
use std::io::{self, BufRead, BufReader, Read, Write};
use std::os::fd::AsRawFd;
use std::os::unix::fs::PermissionsExt;
use std::os::unix::net::{UnixListener, UnixStream};
use std::path::Path;
use std::sync::Arc;
use std::time::Duration;
use tandem_repl::control::{Answer, CONTROL_VERSION, Envelope, MAX_LINE, Refusal, Request};

/// A client that says nothing for so long is let go.
const IDLE: Duration = Duration::from_secs(600);
/// Clients at once; more are refused by waiting in the socket's queue.
const MAX_CLIENTS: usize = 32;

/// Listens at `path`; a socket that a dead daemon left behind is replaced.
///
/// # Errors
/// The path is taken by a living daemon, or cannot be made.
pub(crate) fn listen(path: &Path) -> io::Result<UnixListener> {
    if UnixStream::connect(path).is_ok() {
        return Err(io::Error::new(
            io::ErrorKind::AddrInUse,
            "the module runs already",
        ));
    }
    let _ = std::fs::remove_file(path);
    let listener = UnixListener::bind(path)?;
    std::fs::set_permissions(path, std::fs::Permissions::from_mode(0o600))?;
    Ok(listener)
}

/// Serves clients until the daemon ends.
pub(crate) fn serve(daemon: &Arc<Daemon>, listener: UnixListener) -> io::Result<()> {
    let daemon = daemon.clone();
    let run = move || {
        let clients = Arc::new(());
        for stream in listener.incoming().flatten() {
            while Arc::strong_count(&clients) > MAX_CLIENTS {
                std::thread::sleep(Duration::from_millis(20));
            }
            let (daemon, held) = (daemon.clone(), clients.clone());
            let talk = move || {
                let _held = held;
                if let Err(e) = converse(&daemon, &stream) {
                    tracing::debug!("control client: {e}");
                }
            };
            let _ = std::thread::Builder::new()
                .name("control".into())
                .spawn(talk);
        }
    };
    std::thread::Builder::new()
        .name("control".into())
        .spawn(run)
        .map(|_| ())
}

fn converse(daemon: &Daemon, stream: &UnixStream) -> io::Result<()> {
    if peer_uid(stream)? != 0 {
        // What was asked is taken off the socket first: closing with it unread would discard the
        // answer too.
        stream.set_read_timeout(Some(Duration::from_secs(1)))?;
        let mut line = Vec::new();
        let _ = BufReader::new(stream)
            .take(MAX_LINE as u64)
            .read_until(b'\n', &mut line);
        let refusal = Refusal::new("root-only", "only root may control a module", "use sudo");
        return answer(stream, &Answer::Refused(refusal));
    }
    stream.set_read_timeout(Some(IDLE))?;
    stream.set_write_timeout(Some(Duration::from_secs(10)))?;
    let mut reader = BufReader::new(stream);
    loop {
        let mut line = Vec::new();
        let n = (&mut reader)
            .take(MAX_LINE as u64)
            .read_until(b'\n', &mut line)?;
        if n == 0 {
            return Ok(());
        }
        if is_gone(stream) {
            // It came while this daemon stood still. Who gave it up, or died, may have done
            // something else since.
            return Err(io::Error::other("the client did not wait for its order"));
        }
        answer(stream, &respond(daemon, &line))?;
    }
}

fn respond(daemon: &Daemon, line: &[u8]) -> Answer {
    let envelope: Envelope = match serde_json::from_slice(line) {
        Ok(envelope) => envelope,
        Err(e) => {
            let remedy = format!("speak version {CONTROL_VERSION} of the control messages");
            return Answer::Refused(Refusal::new(
                "version",
                format!("the request is not understood: {e}"),
                remedy,
            ));
        }
    };
    if envelope.version != CONTROL_VERSION {
        return Answer::Refused(Refusal::new(
            "version",
            format!("control version {} is not spoken here", envelope.version),
            format!("use version {CONTROL_VERSION}"),
        ));
    }
    match envelope.request {
        Request::Status => Answer::Status(Box::new(daemon.status())),
        Request::Watch { after, limit_ms } => {
            daemon.watch(after, limit_ms);
            Answer::Status(Box::new(daemon.status()))
        }
        Request::Divergence(what) => daemon.divergence(&what),
        request => match daemon.command(&request) {
            Ok(()) => Answer::Done(Box::new(daemon.status())),
            Err(refusal) => Answer::Refused(refusal),
        },
    }
}

fn answer(mut stream: &UnixStream, answer: &Answer) -> io::Result<()> {
    let mut line = serde_json::to_vec(answer)?;
    line.push(b'\n');
    stream.write_all(&line)
}

/// Nobody is at the other end any more.
fn is_gone(stream: &UnixStream) -> bool {
    let mut poll = libc::pollfd {
        fd: stream.as_raw_fd(),
        events: 0,
        revents: 0,
    };
    // SAFETY: one structure, valid for reads and writes.
    let ready = unsafe { libc::poll(&raw mut poll, 1, 0) };
    ready > 0 && poll.revents & libc::POLLHUP != 0
}

/// Who is at the other end, from the kernel.
fn peer_uid(stream: &UnixStream) -> io::Result<u32> {
    let mut cred = libc::ucred {
        pid: 0,
        uid: u32::MAX,
        gid: u32::MAX,
    };
    let mut len = size_of::<libc::ucred>() as libc::socklen_t;
    // SAFETY: the structure is valid for writes and its size is passed.
    let result = unsafe {
        libc::getsockopt(
            stream.as_raw_fd(),
            libc::SOL_SOCKET,
            libc::SO_PEERCRED,
            (&raw mut cred).cast(),
            &raw mut len,
        )
    };
    if result == 0 {
        Ok(cred.uid)
    } else {
        Err(io::Error::last_os_error())
    }
}
