//! Asking a node's daemon over its control socket, from outside the node: the socket is a file in
//! the lab's directory, and namespaces do not matter to files.

use std::io::{BufRead, BufReader, Read, Write};
use std::os::unix::net::UnixStream;
use std::path::Path;
use std::time::Duration;

use anyhow::{Context, Result, bail};
use tandem_repl::control::{Answer, CONTROL_VERSION, Envelope, MAX_LINE, Request, Status};

/// One exchange. The outer error means that nobody answered, or not in our language; a refusal is
/// an error too, of type [`tandem_repl::control::Refusal`].
pub(crate) fn ask(socket: &Path, request: Request, limit: Duration) -> Result<Status> {
    let subject = || format!("control socket {}", socket.display());
    let mut stream = UnixStream::connect(socket).with_context(subject)?;
    stream.set_read_timeout(Some(limit))?;
    stream.set_write_timeout(Some(limit))?;
    let mut line = serde_json::to_vec(&Envelope { version: CONTROL_VERSION, request })?;
    line.push(b'\n');
    stream.write_all(&line).with_context(subject)?;
    let mut answer = String::new();
    BufReader::new(stream.take(MAX_LINE as u64)).read_line(&mut answer).with_context(subject)?;
    match serde_json::from_str(&answer).with_context(subject)? {
        Answer::Status(status) | Answer::Done(status) => Ok(*status),
        Answer::Refused(refusal) => bail!(refusal),
    }
}
