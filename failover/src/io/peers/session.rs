//! One connection between two managers: lines of JSON, both ways.

use super::{BEAT, Ends, SILENT};
use crate::control::{Answer, Brief, Envelope};
use crate::logic::change::keys::Facts;
use serde::{Deserialize, Serialize};
use std::collections::BTreeMap;
use std::io;
use std::time::{Duration, Instant};
use tandem_repl::control::MAX_LINE;
use tokio::io::{AsyncBufReadExt, AsyncReadExt, AsyncWriteExt, BufReader, ReadHalf, WriteHalf};
use tokio::net::TcpStream;
use tokio::sync::mpsc;
use tokio::time::timeout;
use tokio_rustls::TlsStream;

/// Nothing is read for so long: the connection is given up.
const DEAD: Duration = Duration::from_millis(SILENT.as_millis() as u64 * 2);

/// What travels.
#[derive(Clone, Debug, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub(super) enum Frame {
    /// Facts come with the first beat of a connection, and when they changed.
    Beat {
        modules: BTreeMap<String, Brief>,
        #[serde(default, skip_serializing_if = "Option::is_none")]
        facts: Option<Facts>,
    },
    Request {
        id: u64,
        envelope: Envelope,
    },
    Answer {
        id: u64,
        answer: Answer,
    },
}

/// A connection whose other end is known.
pub(super) struct Link {
    reader: BufReader<ReadHalf<TlsStream<TcpStream>>>,
    writer: WriteHalf<TlsStream<TcpStream>>,
}

impl Link {
    pub(super) fn new(stream: TlsStream<TcpStream>) -> Self {
        let (reader, writer) = tokio::io::split(stream);
        Self {
            reader: BufReader::new(reader),
            writer,
        }
    }
}

/// Talks until the connection ends, and says why it did.
pub(super) async fn run(
    ends: &Ends,
    path: &(String, usize),
    link: Link,
    sender: mpsc::UnboundedSender<Frame>,
    queue: mpsc::UnboundedReceiver<Frame>,
) -> String {
    let Link {
        mut reader,
        mut writer,
    } = link;
    let ended = tokio::select! {
        ended = read(ends, path, &mut reader, &sender) => ended,
        ended = write(ends, &mut writer, queue) => ended,
    };
    match ended {
        Ok(()) => "closed".into(),
        Err(e) => e.to_string(),
    }
}

async fn read(
    ends: &Ends,
    path: &(String, usize),
    reader: &mut (impl AsyncBufReadExt + Unpin),
    sender: &mpsc::UnboundedSender<Frame>,
) -> io::Result<()> {
    loop {
        let mut line = Vec::new();
        let mut bounded = reader.take(MAX_LINE as u64);
        let count = timeout(DEAD, bounded.read_until(b'\n', &mut line)).await??;
        if count == 0 || line.last() != Some(&b'\n') {
            return Ok(());
        }
        let frame: Frame = serde_json::from_slice(&line)?;
        heard(ends, path);
        match frame {
            Frame::Beat { modules, facts } => {
                let mut state = ends.shared.state();
                state.modules.insert(path.0.clone(), modules);
                if let Some(facts) = facts {
                    state.facts.insert(path.0.clone(), facts);
                }
            }
            Frame::Request { id, envelope } => {
                let sender = sender.clone();
                let reply = move |answer| {
                    // The connection may have ended meanwhile.
                    let _ = sender.send(Frame::Answer { id, answer });
                };
                (ends.shared.serve)(path.0.clone(), envelope, Box::new(reply));
            }
            Frame::Answer { id, answer } => {
                let pending = ends.shared.state().pending.remove(&id);
                if let Some((_, reply)) = pending {
                    reply(answer);
                }
            }
        }
    }
}

fn heard(ends: &Ends, path: &(String, usize)) {
    let mut state = ends.shared.state();
    if let Some(entry) = state.paths.get_mut(path) {
        entry.heard = Some(Instant::now());
    }
}

async fn write(
    ends: &Ends,
    writer: &mut (impl AsyncWriteExt + Unpin),
    mut queue: mpsc::UnboundedReceiver<Frame>,
) -> io::Result<()> {
    let mut briefs = ends.briefs.subscribe();
    let mut facts = ends.facts.subscribe();
    facts.mark_changed();
    let mut pace = tokio::time::interval(BEAT);
    loop {
        let frame = tokio::select! {
            frame = queue.recv() => match frame {
                Some(frame) => frame,
                None => return Ok(()),
            },
            _ = pace.tick() => beat(&briefs.borrow_and_update()),
            changed = briefs.changed() => match changed {
                Ok(()) => beat(&briefs.borrow_and_update()),
                Err(_) => return Ok(()),
            },
            changed = facts.changed() => match changed {
                Ok(()) => Frame::Beat {
                    modules: briefs.borrow_and_update().clone(),
                    facts: Some(facts.borrow_and_update().clone()),
                },
                Err(_) => return Ok(()),
            },
        };
        let mut line = serde_json::to_vec(&frame)?;
        line.push(b'\n');
        // A peer that takes nothing any more is not waited for.
        timeout(DEAD, writer.write_all(&line)).await??;
        timeout(DEAD, writer.flush()).await??;
    }
}

fn beat(briefs: &BTreeMap<String, Brief>) -> Frame {
    Frame::Beat {
        modules: briefs.clone(),
        facts: None,
    }
}
