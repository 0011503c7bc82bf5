//! An answer that waits for several parts: this node's disk and the peer.

use std::sync::{Mutex, PoisonError};

type Finish = Box<dyn FnOnce(Result<(), i32>) + Send>;

/// Calls its function once all parts have ended, with the first error if there was one.
pub struct Join {
    inner: Mutex<(u32, Result<(), i32>, Option<Finish>)>,
}

impl Join {
    pub fn new(parts: u32, finish: Finish) -> Self {
        assert!(parts > 0, "something is waited for");
        Self {
            inner: Mutex::new((parts, Ok(()), Some(finish))),
        }
    }

    /// One part ended.
    pub fn part(&self, result: Result<(), i32>) {
        let mut inner = self.inner.lock().unwrap_or_else(PoisonError::into_inner);
        inner.0 = inner.0.saturating_sub(1);
        if inner.1.is_ok() {
            inner.1 = result;
        }
        let last = if inner.0 == 0 { inner.2.take() } else { None };
        let outcome = inner.1;
        drop(inner);
        if let Some(finish) = last {
            finish(outcome);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::Join;
    use std::sync::mpsc::channel;

    #[test]
    fn the_last_part_answers_with_the_first_error() {
        let (tx, rx) = channel();
        let join = Join::new(3, Box::new(move |r| tx.send(r).unwrap()));
        join.part(Ok(()));
        join.part(Err(5));
        assert!(rx.try_recv().is_err(), "one part is missing");
        join.part(Err(28));
        assert_eq!(rx.try_recv(), Ok(Err(5)));
        join.part(Ok(()));
        assert!(rx.try_recv().is_err(), "answered once");
    }
}
