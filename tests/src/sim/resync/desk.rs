//! Between the engine, which waits, and its node, which acts: what each has put down for the other.

use std::cell::RefCell;
use std::collections::BTreeMap;
use std::future::poll_fn;
use std::rc::Rc;
use std::task::Poll;
use tandem_repl::logic::dirty::Marks;
use tandem_repl::logic::resync::messages::{Reply, Request};
use tandem_repl::logic::resync::{Feed, Gone, Next, PassReport, Pipe, Since, Stop, Ticket};

/// Requests without a reply, at most.
const WINDOW: usize = 16;

/// What the engine and its node say to each other.
#[derive(Default)]
pub(super) struct Desk {
    pub(super) next: u64,
    pub(super) outbox: Vec<(u64, Request)>,
    pub(super) open: usize,
    pub(super) replies: BTreeMap<u64, Reply>,
    pub(super) gone: bool,
    pub(super) wants: Option<Since>,
    pub(super) marks: Option<Marks>,
    pub(super) passed: Option<PassReport>,
    pub(super) next_pass: Option<Next>,
}

#[derive(Clone)]
pub(super) struct Shared(pub(super) Rc<RefCell<Desk>>);

impl Shared {
    /// Ready when `take` gives something.
    async fn until<T>(&self, mut take: impl FnMut(&mut Desk) -> Option<T>) -> T {
        poll_fn(|_| match take(&mut self.0.borrow_mut()) {
            Some(found) => Poll::Ready(found),
            None => Poll::Pending,
        })
        .await
    }
}

impl Pipe for Shared {
    async fn send(&self, request: Request) -> Result<Ticket, Gone> {
        let mut request = Some(request);
        self.until(|desk| {
            if desk.gone {
                return Some(Err(Gone));
            }
            if desk.open >= WINDOW {
                return None;
            }
            desk.open += 1;
            desk.next += 1;
            let number = desk.next;
            desk.outbox.push((number, request.take()?));
            Some(Ok(Ticket(number)))
        })
        .await
    }

    async fn reply(&self, ticket: Ticket) -> Result<Reply, Gone> {
        self.until(|desk| match desk.replies.remove(&ticket.0) {
            Some(reply) => Some(Ok(reply)),
            None if desk.gone => Some(Err(Gone)),
            None => None,
        })
        .await
    }
}

impl Feed for Shared {
    async fn next_marks(&self, since: Since) -> Result<Marks, Stop> {
        self.0.borrow_mut().wants = Some(since);
        Ok(self.until(|desk| desk.marks.take()).await)
    }

    async fn permit(&self, _bytes: u64) -> Result<(), Stop> {
        Ok(())
    }

    async fn passed(&self, report: PassReport) -> Result<Next, Stop> {
        self.0.borrow_mut().passed = Some(report);
        Ok(self.until(|desk| desk.next_pass.take()).await)
    }
}
