//! The target's end of a resync: requests of the source wait here for a thread, in an order that
//! keeps their lanes ([`Request::lane`]).

use super::Shared;
use crate::ids::Uid;
use crate::logic::resync::messages::{Lane, Reply, Request};
use crate::wire::encode_reply;
use bytes::Bytes;
use std::collections::{HashSet, VecDeque};
use std::io;
use std::sync::atomic::Ordering;
use std::sync::{Arc, Condvar, Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

/// Threads that work for a source; two disks' worth of waiting.
const WORKERS: usize = 4;
/// Requests that may wait; a source within its window sends far fewer.
const MAX_WAITING: usize = 64 * 1024;
/// How often an idle thread looks whether the daemon ends.
const LOOK: Duration = Duration::from_millis(500);

/// What does the requests of one session.
pub trait Requests: Send + Sync {
    fn handle(&self, request: &Request) -> Reply;
}

/// A request under way.
struct Running {
    seq: u64,
    lane: Lane,
    files: Vec<Uid>,
}

#[derive(Default)]
struct State {
    /// Session of the link, and who does its requests.
    open: Option<(u64, Arc<dyn Requests>)>,
    waiting: VecDeque<(u64, Box<Request>)>,
    running: Vec<Running>,
}

/// See the module's opening.
#[derive(Default)]
pub(super) struct Desk {
    state: Mutex<State>,
    changed: Condvar,
}

impl Desk {
    fn lock(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    pub(super) fn open(&self, session: u64, requests: Arc<dyn Requests>) {
        self.close();
        self.lock().open = Some((session, requests));
    }

    /// Drops what waits, and returns when nothing is under way any more.
    pub(super) fn close(&self) {
        let mut state = self.lock();
        state.open = None;
        state.waiting.clear();
        while !state.running.is_empty() {
            let waited = self.changed.wait(state);
            state = waited.unwrap_or_else(PoisonError::into_inner);
        }
    }

    /// A request arrived. False: nobody asked for it, or there are too many.
    pub(super) fn push(&self, session: u64, seq: u64, request: Box<Request>) -> bool {
        let mut state = self.lock();
        let wanted = state.open.as_ref().is_some_and(|(s, _)| *s == session);
        if !wanted || state.waiting.len() >= MAX_WAITING {
            return false;
        }
        state.waiting.push_back((seq, request));
        drop(state);
        self.changed.notify_one();
        true
    }
}

impl State {
    /// Takes the first request that may run beside what runs, and before what waits ahead of it.
    fn next(&mut self) -> Option<(u64, Box<Request>)> {
        let names_run = self.running.iter().any(|r| r.lane == Lane::Names);
        let mut names_ahead = names_run || self.running.iter().any(|r| r.lane == Lane::Alone);
        let mut busy: HashSet<Uid> = self.running.iter().flat_map(|r| r.files.clone()).collect();
        let idle = self.running.is_empty();
        let mut chosen = None;
        for (n, (_, request)) in self.waiting.iter().enumerate() {
            let may = match request.lane() {
                Lane::Alone => {
                    if n == 0 && idle {
                        chosen = Some(n);
                    }
                    break;
                }
                Lane::Names => !std::mem::replace(&mut names_ahead, true),
                Lane::Files => {
                    let files = request.files();
                    let free = !files.iter().any(|uid| busy.contains(uid));
                    busy.extend(files);
                    free && !names_ahead
                }
            };
            if may {
                chosen = Some(n);
                break;
            }
        }
        let (seq, request) = self.waiting.remove(chosen?)?;
        self.running.push(Running {
            seq,
            lane: request.lane(),
            files: request.files(),
        });
        Some((seq, request))
    }
}

pub(super) fn spawn(shared: &Arc<Shared>) -> io::Result<()> {
    for n in 0..WORKERS {
        let shared = shared.clone();
        std::thread::Builder::new()
            .name(format!("target-{n}"))
            .spawn(move || shared.work_for_source())?;
    }
    Ok(())
}

impl Shared {
    fn work_for_source(&self) {
        let desk = &self.desk;
        while !self.exit.load(Ordering::Relaxed) {
            let mut state = desk.lock();
            let Some((seq, request)) = state.next() else {
                let waited = desk.changed.wait_timeout(state, LOOK);
                drop(waited.unwrap_or_else(PoisonError::into_inner));
                continue;
            };
            let Some((session, requests)) = state.open.clone() else {
                state.running.retain(|r| r.seq != seq);
                continue;
            };
            drop(state);
            let reply = requests.handle(&request);
            let mut out = Vec::new();
            encode_reply(&mut out, seq, &reply);
            {
                let mut core = self.lock();
                if core.session == session {
                    core.link.write(Bytes::from(out));
                    core.link.flush(Instant::now());
                }
            }
            desk.lock().running.retain(|r| r.seq != seq);
            desk.changed.notify_all();
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::ids::DirId;
    use crate::logic::resync::bounded::Blob;
    use crate::logic::resync::messages::At;

    fn data(file: u64) -> Box<Request> {
        let uid = Uid {
            origin: 2,
            number: file,
        };
        Box::new(Request::Data {
            dir: DirId(0),
            at: At {
                uid,
                places: Vec::new(),
            },
            offset: 0,
            data: Blob::default(),
        })
    }

    fn names() -> Box<Request> {
        Box::new(Request::List {
            dir: DirId(0),
            parent: Uid::ROOT,
            cookie: 0,
        })
    }

    fn take(state: &mut State) -> Option<u64> {
        state.next().map(|(seq, _)| seq)
    }

    fn end(state: &mut State, seq: u64) {
        state.running.retain(|r| r.seq != seq);
    }

    #[test]
    fn lanes_are_kept() {
        let mut state = State::default();
        let requests = [data(1), data(1), data(2), names(), data(3), names()];
        state.waiting.extend((1..).zip(requests));
        state.waiting.push_back((7, Box::new(Request::Flush)));
        state.waiting.push_back((8, data(4)));
        assert_eq!(take(&mut state), Some(1));
        assert_eq!(take(&mut state), Some(3), "another file");
        assert_eq!(take(&mut state), Some(4), "names beside files sent before");
        assert_eq!(
            take(&mut state),
            None,
            "not files sent after, nor other names"
        );
        end(&mut state, 1);
        end(&mut state, 4);
        assert_eq!(take(&mut state), Some(2));
        assert_eq!(take(&mut state), Some(5));
        assert_eq!(take(&mut state), Some(6));
        assert_eq!(take(&mut state), None, "alone");
        for seq in [2, 3, 5] {
            end(&mut state, seq);
        }
        assert_eq!(take(&mut state), None, "still one runs");
        end(&mut state, 6);
        assert_eq!(take(&mut state), Some(7));
        assert_eq!(take(&mut state), None, "nothing beside it");
        end(&mut state, 7);
        assert_eq!(take(&mut state), Some(8));
    }
}
