//! Writes that are large, in pieces, and writes that must reach the disk.

use super::{Done, Finish, Service, Volume};
use crate::logic::join::Join;
use std::collections::HashMap;
use std::sync::{Arc, Mutex, PoisonError};
use tandem_repl::limits::MAX_DATA;
use tandem_repl::logic::member::Gate;
use tandem_repl::op::{Cred, Durability, Op};

/// A write as it was asked for.
#[derive(Clone, Copy)]
pub(crate) struct Write<'a> {
    pub(crate) id: tandem_repl::ids::FileId,
    pub(crate) offset: u64,
    pub(crate) data: &'a [u8],
    pub(crate) durability: Durability,
    pub(crate) cred: Cred,
}

impl Service {
    /// Writes. What is larger than [`MAX_DATA`] goes in pieces, so that one is applied on the
    /// peer while the next is applied here, and no write holds the stream for long.
    pub(crate) fn write(self: &Arc<Self>, volume: &Arc<Volume>, write: Write<'_>, finish: Answer) {
        let Write {
            id,
            offset,
            data,
            durability,
            cred,
        } = write;
        if data.len() <= MAX_DATA && durability == Durability::Memory {
            let op = Op::Write {
                id,
                offset,
                data,
                durability,
                cred,
            };
            return self.change(volume, &op, Box::new(|r| finish(r.map(|d| d.written))));
        }
        let gate = self.gate();
        match *gate {
            Gate::ReadOnly => {
                drop(gate);
                finish(Err(libc::EROFS));
            }
            held if self.holds(held, data.len()) && self.may_park(data.len()) => {
                let (service, volume, data) = (self.clone(), volume.clone(), data.to_vec());
                self.park(held, data.len(), move || {
                    let data = &data;
                    service.write(
                        &volume,
                        Write {
                            id,
                            offset,
                            data,
                            durability,
                            cred,
                        },
                        finish,
                    );
                });
            }
            Gate::Frozen => {
                drop(gate);
                finish(Err(libc::EAGAIN));
            }
            _ => {
                // Marked as one, so that there is one flush to wait for.
                let whole = Op::Write {
                    id,
                    offset,
                    data,
                    durability,
                    cred,
                };
                if let Err(errno) = self.marks.mark(volume, &whole) {
                    drop(gate);
                    return finish(Err(errno));
                }
                // The gate is held for all pieces: none may be parked while others are done.
                let join = self.write_pieces(volume, write, *gate == Gate::Replicated, finish);
                drop(gate);
                let sync = Op::Write {
                    id,
                    offset,
                    data: &[],
                    durability,
                    cred,
                }
                .sync_part();
                match sync {
                    // Here while the peer does the same.
                    Some(sync) => self.sync_then(volume, sync, Box::new(move |r| join.part(r))),
                    None => join.part(Ok(())),
                }
            }
        }
    }

    /// Does the pieces; the write is answered when they are done everywhere and the returned part
    /// too.
    fn write_pieces(
        self: &Arc<Self>,
        volume: &Arc<Volume>,
        write: Write<'_>,
        replicated: bool,
        finish: Answer,
    ) -> Arc<Join> {
        let outcome = Arc::new(Mutex::new(Ok(0)));
        let total = outcome.clone();
        let join = Arc::new(Join::new(
            2,
            Box::new(move |result| {
                let total = *total.lock().unwrap_or_else(PoisonError::into_inner);
                finish(result.and(total));
            }),
        ));
        let part = join.clone();
        let gathered = Arc::new(Gathered::new(Box::new(move |written| {
            *outcome.lock().unwrap_or_else(PoisonError::into_inner) = written;
            part.part(Ok(()));
        })));
        let pieces = write.data.len().div_ceil(MAX_DATA).max(1);
        let mut issued = 0;
        for n in 0..pieces {
            let start = n * MAX_DATA;
            let piece = &write.data[start..write.data.len().min(start + MAX_DATA)];
            // The last piece's sync covers the others: all are applied before it, on both nodes.
            let durability = if n + 1 == pieces {
                write.durability
            } else {
                Durability::Memory
            };
            let op = Op::Write {
                id: write.id,
                offset: write.offset + start as u64,
                data: piece,
                durability,
                cred: write.cred,
            };
            issued += 1;
            let want = piece.len();
            let own = gathered.clone();
            let answer: Finish =
                Box::new(move |r: Result<Done, i32>| own.piece(n, want, r.map(|d| d.written)));
            let written = if replicated {
                self.do_replicated(volume, &op, answer)
            } else {
                let result = self.do_alone(volume, &op);
                let written = result.as_ref().map_or(0, |d| d.written);
                answer(result);
                Ok(written)
            };
            match written {
                Ok(written) if written == want => {}
                // What comes after a short piece is not written: the application repeats it.
                Ok(_) => break,
                Err((answer, errno)) => {
                    answer(Err(errno));
                    break;
                }
            }
        }
        gathered.close(issued);
        join
    }
}

/// How a write is answered: bytes written, or an errno.
pub(crate) type Written = Result<usize, i32>;
pub(crate) type Answer = Box<dyn FnOnce(Written) + Send>;

/// A piece that ended: bytes wanted, and its outcome.
type Piece = (usize, Written);

/// The outcome of a write in pieces: what was written up to the first piece that fell short.
struct Gathered {
    inner: Mutex<Pieces>,
}

struct Pieces {
    /// How many there are, once the last is issued.
    issued: Option<usize>,
    ended: HashMap<usize, Piece>,
    finish: Option<Answer>,
}

impl Gathered {
    fn new(finish: Answer) -> Self {
        let pieces = Pieces {
            issued: None,
            ended: HashMap::new(),
            finish: Some(finish),
        };
        Self {
            inner: Mutex::new(pieces),
        }
    }

    /// Piece `n`, of `want` bytes, is done.
    fn piece(&self, n: usize, want: usize, result: Written) {
        let mut inner = self.inner.lock().unwrap_or_else(PoisonError::into_inner);
        inner.ended.insert(n, (want, result));
        Self::end(inner);
    }

    /// No more pieces will come.
    fn close(&self, issued: usize) {
        let mut inner = self.inner.lock().unwrap_or_else(PoisonError::into_inner);
        inner.issued = Some(issued);
        Self::end(inner);
    }

    fn end(mut inner: std::sync::MutexGuard<'_, Pieces>) {
        if inner.issued != Some(inner.ended.len()) {
            return;
        }
        let Some(finish) = inner.finish.take() else {
            return;
        };
        let mut total = 0;
        let mut outcome = None;
        for n in 0..inner.ended.len() {
            match inner.ended.get(&n) {
                Some((want, Ok(written))) => {
                    total += written;
                    if written < want {
                        break;
                    }
                }
                Some((_, Err(errno))) => {
                    outcome = Some(*errno).filter(|_| total == 0);
                    break;
                }
                None => break,
            }
        }
        drop(inner);
        finish(outcome.map_or(Ok(total), Err));
    }
}
