//! Loss timers and keep-alives of the link.
//!
//! Sending threads never wake this one: it looks by itself, often while there is traffic, seldom
//! otherwise. A packet lost after a pause is thus noticed at most [`IDLE`] late.

use super::{Core, Shared};
use crate::limits::DIAL_INTERVAL;
use std::io;
use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::time::{Duration, Instant};

const BUSY: Duration = Duration::from_millis(3);
const IDLE: Duration = Duration::from_millis(25);
/// Looks without traffic before the pace slows down.
const CALM: u32 = 8;

pub(super) fn spawn(shared: &Arc<Shared>) -> io::Result<()> {
    let shared = shared.clone();
    let run = move || {
        let mut calm = 0;
        while !shared.exit.load(Ordering::Relaxed) {
            calm = if shared.busy.swap(false, Ordering::Relaxed) {
                0
            } else {
                calm + 1
            };
            let now = Instant::now();
            let mut events = Vec::new();
            let deadline = {
                let mut core = shared.lock();
                let Core { link, rx, .. } = &mut *core;
                link.on_timeout(now, &mut events, rx);
                core.link.dial(now, DIAL_INTERVAL);
                core.link.flush(now);
                if !core.link.is_full() {
                    shared.room.notify_all();
                }
                for event in shared.absorb(&mut core, events) {
                    shared.tell(event);
                }
                core.link.next_timeout()
            };
            let pace = if calm < CALM { BUSY } else { IDLE };
            let wait = deadline.map_or(pace, |at| at.saturating_duration_since(now).min(pace));
            std::thread::sleep(wait.max(Duration::from_micros(500)));
        }
    };
    std::thread::Builder::new()
        .name("link-timer".into())
        .spawn(run)?;
    Ok(())
}
