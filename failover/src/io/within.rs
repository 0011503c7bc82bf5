//! Work that may block for longer than anybody wants to wait: name resolution, files of a stuck
//! process, a program on a file system that does not answer.

use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::mpsc::{self, RecvTimeoutError};
use std::thread;
use std::time::Duration;

/// Threads that may be stuck at the same time. Beyond that nothing new is tried: what blocks them
/// would block the next one too.
const MOST_STUCK: usize = 64;

static RUNNING: AtomicUsize = AtomicUsize::new(0);

/// Counts a thread for as long as it runs, also when its work panics.
struct Counted;

impl Drop for Counted {
    fn drop(&mut self) {
        RUNNING.fetch_sub(1, Ordering::SeqCst);
    }
}

/// The result of `work`, or why there is none: in plain words, `what` being the subject. What
/// takes longer goes on in its thread, unheard.
pub(crate) fn within<T: Send + 'static>(
    limit: Duration,
    what: &str,
    work: impl FnOnce() -> T + Send + 'static,
) -> Result<T, String> {
    if RUNNING.fetch_add(1, Ordering::SeqCst) >= MOST_STUCK {
        drop(Counted);
        return Err(format!(
            "{what}: not tried, {MOST_STUCK} earlier tries hang"
        ));
    }
    let counted = Counted;
    let (send, receive) = mpsc::sync_channel(1);
    let thread = thread::Builder::new().name("within".into());
    let started = thread.spawn(move || {
        let _counted = counted;
        // Nobody may be listening any more, and then nobody minds.
        let _ = send.send(work());
    });
    if let Err(error) = started {
        return Err(format!("{what}: no thread: {error}"));
    }
    receive.recv_timeout(limit).map_err(|error| match error {
        RecvTimeoutError::Timeout => format!("{what}: no answer within {} ms", limit.as_millis()),
        RecvTimeoutError::Disconnected => format!("{what}: ended without a result"),
    })
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::time::Instant;

    #[test]
    fn a_result_in_time_is_given_and_a_late_one_is_not_waited_for() {
        assert_eq!(within(Duration::from_secs(5), "a", || 7), Ok(7));
        let begin = Instant::now();
        let late = within(Duration::from_millis(30), "the file", || {
            thread::sleep(Duration::from_secs(2));
        });
        assert_eq!(late, Err("the file: no answer within 30 ms".into()));
        assert!(begin.elapsed() < Duration::from_secs(1));
    }
}
