//! Verifications: those asked for, and the background's, which also finds what was changed in the
//! underlying directory while the module was stopped.

use super::service::Service;
use std::io;
use std::sync::Arc;
use std::time::{Duration, Instant};
use tandem_repl::control::Refusal;
use tandem_repl::io::driver::Driver;

/// Bytes a second the background compares; a tenth of what a slow disk gives.
const PACE: u64 = 16 * 1024 * 1024;
/// The first begins so long after both nodes are in sync.
const FIRST: Duration = Duration::from_secs(600);
const LOOK: Duration = Duration::from_secs(5);

/// Runs one every `interval`, for ever.
///
/// # Errors
/// No thread can be had.
pub(crate) fn in_background(
    service: &Arc<Service>,
    driver: &Driver,
    interval: Duration,
) -> io::Result<()> {
    let (service, driver) = (service.clone(), driver.clone());
    let run = move || {
        let mut due = FIRST.min(interval);
        let mut since: Option<Instant> = None;
        loop {
            std::thread::sleep(LOOK);
            if !service.replicates() {
                since = None;
                continue;
            }
            let since = since.get_or_insert_with(Instant::now);
            if since.elapsed() < due {
                continue;
            }
            end(&driver, service.run_verify(false, Some(PACE)));
            *since = Instant::now();
            due = interval;
        }
    };
    let spawned = std::thread::Builder::new().name("scrub".into()).spawn(run);
    spawned.map(|_| ())
}

/// Starts one that somebody asked for.
///
/// # Errors
/// There is nothing to compare with, or one runs.
pub(crate) fn ask(service: &Arc<Service>, driver: &Driver) -> Result<(), Refusal> {
    if !service.replicates() {
        return Err(Refusal::new(
            "not-replicated",
            "this node does not serve with its peer in the set: there is nothing to compare",
            "ask the serving node, when both are in sync",
        ));
    }
    if service.verify_is_asked() {
        return Err(Refusal::new(
            "verifying",
            "a verification is running",
            "`tandem status` shows it; repeat the command when it has ended",
        ));
    }
    let (own, driver) = (service.clone(), driver.clone());
    let run = move || end(&driver, own.run_verify(true, None));
    let spawned = std::thread::Builder::new().name("verify".into()).spawn(run);
    spawned.map_err(|e| Refusal::new("thread", format!("no thread: {e}"), "free some memory"))?;
    // Who asks for the status next sees this one, not the one before.
    let start = Instant::now();
    while !service.verify_is_asked() && start.elapsed() < Duration::from_millis(300) {
        std::thread::sleep(Duration::from_millis(2));
    }
    Ok(())
}

/// What differed is marked: the follower is brought up there.
fn end(driver: &Driver, differs: Option<bool>) {
    if differs == Some(true) {
        driver.peer_differs();
    }
}
