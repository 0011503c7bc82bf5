//! What systemd is told (`sd_notify`): ready, alive, what the modules are, stopping.
//!
//! The loop says that it is alive, and nobody else does: a loop that is stuck falls silent, and
//! systemd starts the manager anew, which touches no module. The words are handed to a thread,
//! because systemd may not take them and the loop waits for nothing; one that finds no room is
//! left out.

use sd_notify::NotifyState;
use std::sync::mpsc::{Receiver, Sender, SyncSender, channel, sync_channel};
use std::time::{Duration, Instant};

/// Words that may wait for systemd. Should it not take any, the watchdog is its affair.
const ROOM: usize = 8;
/// How long the last words may take when the loop has ended and nothing waits for it any more.
const LAST_WORDS: Duration = Duration::from_millis(500);
/// How often the line about the modules may change.
const STATUS_PACE: Duration = Duration::from_secs(1);

enum Word {
    Ready,
    Alive,
    Status(String),
    Stopping,
}

/// To systemd, where it asks to be told.
pub(super) struct Notifier {
    words: Option<SyncSender<Word>>,
    /// Closed when everything was said.
    ended: Receiver<()>,
    /// A third of the time after which systemd thinks that the loop is stuck.
    pace: Option<Duration>,
    next_alive: Option<Instant>,
    next_status: Option<Instant>,
    status: String,
}

impl Notifier {
    /// By the environment that systemd gave.
    pub(super) fn start() -> Self {
        let asked = std::env::var_os("NOTIFY_SOCKET").is_some();
        let (end, ended) = channel();
        let words = asked.then(|| {
            let (send, words) = sync_channel(ROOM);
            let thread = std::thread::Builder::new().name("notify".into());
            if let Err(e) = thread.spawn(move || speak(&words, end)) {
                tracing::warn!("systemd cannot be told anything: {e}");
            }
            send
        });
        Self {
            words,
            ended,
            pace: sd_notify::watchdog_enabled().map(|limit| limit / 3),
            next_alive: None,
            next_status: None,
            status: String::new(),
        }
    }

    pub(super) fn ready(&self) {
        self.say(Word::Ready);
    }

    pub(super) fn stopping(&self) {
        self.say(Word::Stopping);
    }

    /// The loop has ended: what was said last is still sent, or the process's end would swallow it.
    pub(super) fn finish(&mut self) {
        if self.words.take().is_some() {
            // An error: the thread has ended, which is what is waited for; or it is stuck.
            let _ = self.ended.recv_timeout(LAST_WORDS);
        }
    }

    /// The loop goes round; `status` is made when it is its time.
    pub(super) fn turn(&mut self, now: Instant, status: impl FnOnce() -> String) {
        if self.words.is_none() {
            return;
        }
        if let Some(pace) = self.pace
            && self.next_alive.is_none_or(|next| now >= next)
        {
            self.next_alive = Some(now + pace);
            self.say(Word::Alive);
        }
        if self.next_status.is_none_or(|next| now >= next) {
            self.next_status = Some(now + STATUS_PACE);
            let status = status();
            if status != self.status {
                self.status.clone_from(&status);
                self.say(Word::Status(status));
            }
        }
    }

    fn say(&self, word: Word) {
        if let Some(words) = &self.words {
            // Full: systemd does not listen, and nothing is gained by waiting.
            let _ = words.try_send(word);
        }
    }
}

/// `_end` is held until the last word.
fn speak(words: &Receiver<Word>, _end: Sender<()>) {
    let mut said = false;
    for word in words {
        let state = match &word {
            Word::Ready => NotifyState::Ready,
            Word::Alive => NotifyState::Watchdog,
            Word::Status(line) => NotifyState::Status(line),
            Word::Stopping => NotifyState::Stopping,
        };
        if let Err(e) = sd_notify::notify(&[state])
            && !said
        {
            tracing::warn!("systemd cannot be told anything: {e}");
            said = true;
        }
    }
}
