//! Tells the neighbours where an address is: in a burst, and from time to time.

use std::net::IpAddr;
use std::rc::Rc;
use std::time::Duration;

use tokio::time::{Instant, sleep, sleep_until};

use super::worker::{Ears, State, Task, Worker};
use super::{Mac, frames};

/// A frame may get lost, and a switch forwards nothing for a while after its port came up.
const BURST: [Duration; 6] = [
    Duration::ZERO,
    Duration::from_millis(100),
    Duration::from_millis(500),
    Duration::from_secs(1),
    Duration::from_secs(2),
    Duration::from_secs(5),
];

impl Worker {
    /// Begins the burst for a held address, from its first step.
    pub(super) fn announce(self: &Rc<Self>, address: IpAddr) {
        // The first one goes before the caller is answered.
        self.send_announcement(address);
        let worker = Rc::downgrade(self);
        let refresh = self.options.refresh;
        let task = Task::spawn(async move {
            let begin = Instant::now();
            for step in &BURST[1..] {
                sleep_until(begin + *step).await;
                let Some(worker) = worker.upgrade() else {
                    return;
                };
                worker.send_announcement(address);
            }
            loop {
                sleep(refresh).await;
                let Some(worker) = worker.upgrade() else {
                    return;
                };
                worker.send_announcement(address);
            }
        });
        let mut state = self.state.borrow_mut();
        let told = way_of(&state, address).map(|(_, mac)| mac);
        if let Some(held) = state.held.get_mut(&address) {
            held.announcer = Some(task);
            held.told = told;
        }
    }

    fn send_announcement(&self, address: IpAddr) {
        let state = self.state.borrow();
        let Some((ears, mac)) = way_of(&state, address) else {
            return;
        };
        for frame in frames::announcements(mac, address) {
            ears.port.send(&frame);
        }
    }
}

/// Where an announcement goes out, if it can: only an address that is here may be announced.
fn way_of(state: &State, address: IpAddr) -> Option<(&Ears, Mac)> {
    let held = state.held.get(&address)?;
    let index = held.place.link.index;
    // Its hardware address may have changed since the address was taken.
    let mac = state.links.get(&index)?.mac?;
    let ears = state.ears.get(&(index, address.is_ipv6()))?;
    (held.settled && !held.lost).then_some((ears, mac))
}
