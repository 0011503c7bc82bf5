//! The asking side of a module's control socket ([`tandem_repl::control`]).
//!
//! A daemon may be gone, stopped, or stuck in a kernel call. The caller must learn which, and in
//! bounded time: connecting, writing and reading all share the deadline of their exchange, and no
//! answer is read past [`MAX_LINE`].

use std::io::{self, Read, Write};
use std::os::fd::OwnedFd;
use std::os::unix::net::UnixStream;
use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};

use serde::Serialize;
use serde::de::DeserializeOwned;
use socket2::{Domain, SockAddr, Socket, Type};
use tandem_repl::control::{Answer, CONTROL_VERSION, Envelope, MAX_LINE, Request, WATCH_LIMIT_MS};

/// How long connecting may take. A daemon accepts at once; a full queue means it hangs.
pub const CONNECT_LIMIT: Duration = Duration::from_secs(3);

/// How long [`Request::Status`] may take; the daemon answers it without waiting for anything.
pub const STATUS_LIMIT: Duration = Duration::from_secs(5);

/// How long an action may take unless the caller says otherwise: a stop drains, flushes both nodes
/// and unmounts.
pub const ACTION_LIMIT: Duration = Duration::from_secs(120);

/// Why an exchange with a daemon gave no answer.
#[derive(Debug, thiserror::Error)]
pub enum ClientError {
    /// No daemon listens: the socket is missing, or left over from one that died.
    #[error("no daemon is running at {}", socket.display())]
    NotRunning { socket: PathBuf },
    /// The socket exists and this user may not use it.
    #[error("not allowed to use {}; run the command as root", socket.display())]
    Forbidden { socket: PathBuf },
    /// The time for connecting or for the whole exchange is over. The daemon may still carry out
    /// what it was asked; ask for its status before asking again.
    #[error("{}: no answer within {} ms; the daemon is busy or stuck", socket.display(),
        limit.as_millis())]
    TimedOut { socket: PathBuf, limit: Duration },
    /// The daemon closed the connection before a whole answer: it ended or crashed.
    #[error("{}: the daemon closed the connection without an answer; see its log",
        socket.display())]
    Closed { socket: PathBuf },
    /// More than [`MAX_LINE`] bytes without an end of line: this is not a Tandem daemon.
    #[error("{}: the answer is longer than {MAX_LINE} bytes; is this a Tandem daemon?",
        socket.display())]
    TooLong { socket: PathBuf },
    /// A line that is no [`Answer`]: most likely a daemon of another version.
    #[error("{}: the answer cannot be understood ({source}); are the daemon and this program of \
        the same version?", socket.display())]
    NotAnAnswer {
        socket: PathBuf,
        source: serde_json::Error,
    },
    /// Any other failure of the socket.
    #[error("{}: {action}: {source}", socket.display())]
    Io {
        socket: PathBuf,
        action: &'static str,
        source: io::Error,
    },
}

/// One connection to a daemon. After an error, discard it: an answer may still be under way and
/// would be taken for the answer to the next request.
#[derive(Debug)]
pub struct ControlClient {
    stream: UnixStream,
    socket: PathBuf,
    /// Received, not yet part of a whole line.
    buffer: Vec<u8>,
}

impl ControlClient {
    /// Connects to the daemon that listens on `socket`; waits [`CONNECT_LIMIT`] at most.
    ///
    /// # Errors
    /// [`ClientError::NotRunning`] when nothing listens there; otherwise what prevented it.
    pub fn connect(socket: impl AsRef<Path>) -> Result<Self, ClientError> {
        Self::connect_within(socket.as_ref(), CONNECT_LIMIT)
    }

    fn connect_within(path: &Path, limit: Duration) -> Result<Self, ClientError> {
        let error = |source: io::Error| match source.kind() {
            io::ErrorKind::NotFound | io::ErrorKind::ConnectionRefused => ClientError::NotRunning {
                socket: path.into(),
            },
            io::ErrorKind::PermissionDenied => ClientError::Forbidden {
                socket: path.into(),
            },
            io::ErrorKind::WouldBlock | io::ErrorKind::TimedOut => ClientError::TimedOut {
                socket: path.into(),
                limit,
            },
            _ => ClientError::Io {
                socket: path.into(),
                action: "connecting",
                source,
            },
        };
        // Not `UnixStream::connect`, which waits without limit when the daemon's queue is full;
        // the send timeout of the socket bounds that wait.
        let socket = Socket::new(Domain::UNIX, Type::STREAM, None).map_err(error)?;
        socket.set_write_timeout(Some(limit)).map_err(error)?;
        let address = SockAddr::unix(path).map_err(error)?;
        socket.connect(&address).map_err(error)?;
        let stream = UnixStream::from(OwnedFd::from(socket));
        Ok(Self {
            stream,
            socket: path.into(),
            buffer: Vec::new(),
        })
    }

    /// Sends `request` and waits for its answer: [`STATUS_LIMIT`] for a status, so much more than
    /// its own limit for a watch, else [`ACTION_LIMIT`].
    ///
    /// # Errors
    /// When no answer arrived. A refusal is an answer.
    pub fn request(&mut self, request: &Request) -> Result<Answer, ClientError> {
        let limit = match request {
            Request::Status | Request::Fenced => STATUS_LIMIT,
            Request::Watch { limit_ms, .. } => {
                STATUS_LIMIT + Duration::from_millis((*limit_ms).min(WATCH_LIMIT_MS))
            }
            _ => ACTION_LIMIT,
        };
        self.request_within(request, limit)
    }

    /// The status as soon as its version is another one than `after`, or when `limit` is over.
    ///
    /// # Errors
    /// When no answer arrived.
    pub fn watch(&mut self, after: u64, limit: Duration) -> Result<Answer, ClientError> {
        let limit_ms = u64::try_from(limit.as_millis()).unwrap_or(WATCH_LIMIT_MS);
        self.request(&Request::Watch { after, limit_ms })
    }

    /// As [`Self::request`], with the caller's limit for the whole exchange.
    ///
    /// # Errors
    /// When no answer arrived. A refusal is an answer.
    pub fn request_within(
        &mut self,
        request: &Request,
        limit: Duration,
    ) -> Result<Answer, ClientError> {
        let envelope = Envelope {
            version: CONTROL_VERSION,
            request: request.clone(),
        };
        self.exchange(&envelope, limit)
    }

    /// Asks a failover manager ([`crate::control`]).
    ///
    /// # Errors
    /// When no answer arrived. A refusal is an answer.
    pub fn ask_manager(
        &mut self,
        envelope: &crate::control::Envelope,
        limit: Duration,
    ) -> Result<crate::control::Answer, ClientError> {
        self.exchange(envelope, limit)
    }

    fn exchange<A: DeserializeOwned>(
        &mut self,
        envelope: &impl Serialize,
        limit: Duration,
    ) -> Result<A, ClientError> {
        let deadline = Deadline {
            end: Instant::now() + limit,
            limit,
        };
        let mut line = serde_json::to_vec(envelope).expect("a request has no unserialisable part");
        line.push(b'\n');
        self.send(&line, &deadline)?;
        let line = self.receive_line(&deadline)?;
        serde_json::from_slice(&line).map_err(|source| ClientError::NotAnAnswer {
            socket: self.socket.clone(),
            source,
        })
    }

    fn send(&mut self, mut line: &[u8], deadline: &Deadline) -> Result<(), ClientError> {
        while !line.is_empty() {
            let rest = self.rest(deadline)?;
            self.stream
                .set_write_timeout(Some(rest))
                .map_err(|e| self.failed("sending", deadline, e))?;
            match self.stream.write(line) {
                Ok(count) => line = &line[count..],
                Err(e) if e.kind() == io::ErrorKind::Interrupted => {}
                Err(e) => return Err(self.failed("sending", deadline, e)),
            }
        }
        Ok(())
    }

    fn receive_line(&mut self, deadline: &Deadline) -> Result<Vec<u8>, ClientError> {
        let mut chunk = [0; 16 * 1024];
        let mut searched = 0;
        loop {
            if let Some(end) = self.buffer[searched..].iter().position(|&b| b == b'\n') {
                let rest = self.buffer.split_off(searched + end + 1);
                return Ok(std::mem::replace(&mut self.buffer, rest));
            }
            searched = self.buffer.len();
            if searched > MAX_LINE {
                return Err(ClientError::TooLong {
                    socket: self.socket.clone(),
                });
            }
            let rest = self.rest(deadline)?;
            self.stream
                .set_read_timeout(Some(rest))
                .map_err(|e| self.failed("reading", deadline, e))?;
            match self.stream.read(&mut chunk) {
                Ok(0) => {
                    return Err(ClientError::Closed {
                        socket: self.socket.clone(),
                    });
                }
                Ok(count) => self.buffer.extend_from_slice(&chunk[..count]),
                Err(e) if e.kind() == io::ErrorKind::Interrupted => {}
                Err(e) => return Err(self.failed("reading", deadline, e)),
            }
        }
    }

    /// Time left, never zero: a zero timeout would mean none.
    fn rest(&self, deadline: &Deadline) -> Result<Duration, ClientError> {
        let rest = deadline.end.saturating_duration_since(Instant::now());
        if rest.is_zero() {
            return Err(self.timed_out(deadline));
        }
        Ok(rest)
    }

    fn timed_out(&self, deadline: &Deadline) -> ClientError {
        ClientError::TimedOut {
            socket: self.socket.clone(),
            limit: deadline.limit,
        }
    }

    fn failed(&self, action: &'static str, deadline: &Deadline, source: io::Error) -> ClientError {
        let socket = self.socket.clone();
        match source.kind() {
            io::ErrorKind::WouldBlock | io::ErrorKind::TimedOut => self.timed_out(deadline),
            io::ErrorKind::BrokenPipe | io::ErrorKind::ConnectionReset => {
                ClientError::Closed { socket }
            }
            _ => ClientError::Io {
                socket,
                action,
                source,
            },
        }
    }
}

/// When an exchange ends, and the limit it was given, for the message.
struct Deadline {
    end: Instant,
    limit: Duration,
}

#[cfg(test)]
#[path = "client_tests.rs"]
mod tests;
