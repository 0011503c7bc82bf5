//! Large writes in pieces.

use super::{Done, Service, Volume};
use std::collections::HashMap;
use std::sync::{Arc, Mutex, PoisonError};
use tandem_repl::limits::MAX_DATA;
use tandem_repl::op::{Durability, Op};

impl Service {
    /// Splits a write into pieces of at most [`MAX_DATA`], so that one piece is applied on the peer
    /// while the next is applied here, and one large write does not hold the stream.
    pub(crate) fn write(
        self: &Arc<Self>,
        volume: &Arc<Volume>,
        op: Op<'_>,
        finish: Box<dyn FnOnce(Result<usize, i32>) + Send>,
    ) {
        let Op::Write {
            id,
            offset,
            data,
            durability,
            cred,
        } = op
        else {
            return;
        };
        let one = |data, at, durability, finish| {
            let op = Op::Write {
                id,
                offset: at,
                data,
                durability,
                cred,
            };
            if durability == Durability::Memory {
                self.change(volume, &op, finish);
            } else {
                self.change_synced(volume, &op, finish);
            }
        };
        if data.len() <= MAX_DATA {
            return one(
                data,
                offset,
                durability,
                Box::new(|r| finish(r.map(|d| d.written))),
            );
        }
        let pieces = data.len().div_ceil(MAX_DATA);
        let gathered = Arc::new(Gathered::new(pieces, data.len(), finish));
        for (n, piece) in data.chunks(MAX_DATA).enumerate() {
            let gathered = gathered.clone();
            let at = offset + (n * MAX_DATA) as u64;
            let want = piece.len();
            // Only the last piece syncs: it covers the others.
            let last = n + 1 == pieces;
            let durability = if last { durability } else { Durability::Memory };
            let finish = Box::new(move |r: Result<Done, i32>| {
                gathered.piece(n, want, r.map(|d| d.written));
            });
            one(piece, at, durability, finish);
        }
    }
}

/// How a write is answered: bytes written, or an errno.
type Written = Result<usize, i32>;
type Answer = Box<dyn FnOnce(Written) + Send>;

/// A piece that ended: bytes wanted, and its outcome.
type Piece = (usize, Written);

/// The outcome of a write in pieces: what was written up to the first piece that fell short.
struct Gathered {
    /// How many pieces there are, and those that ended by their number.
    inner: Mutex<(usize, HashMap<usize, Piece>)>,
    len: usize,
    finish: Mutex<Option<Answer>>,
}

impl Gathered {
    fn new(pieces: usize, len: usize, finish: Box<dyn FnOnce(Result<usize, i32>) + Send>) -> Self {
        let inner = Mutex::new((pieces, HashMap::new()));
        Self {
            inner,
            len,
            finish: Mutex::new(Some(finish)),
        }
    }

    fn piece(&self, n: usize, want: usize, result: Result<usize, i32>) {
        let mut inner = self.inner.lock().unwrap_or_else(PoisonError::into_inner);
        inner.1.insert(n, (want, result));
        if inner.1.len() < inner.0 {
            return;
        }
        let mut total = 0;
        let mut outcome = Ok(self.len);
        for n in 0..inner.0 {
            match inner.1.get(&n) {
                Some((want, Ok(written))) if want == written => total += written,
                Some((_, Ok(written))) => {
                    outcome = Ok(total + written);
                    break;
                }
                Some((_, Err(errno))) => {
                    outcome = if total > 0 { Ok(total) } else { Err(*errno) };
                    break;
                }
                None => {}
            }
        }
        drop(inner);
        let finish = self
            .finish
            .lock()
            .unwrap_or_else(PoisonError::into_inner)
            .take();
        if let Some(finish) = finish {
            finish(outcome);
        }
    }
}
