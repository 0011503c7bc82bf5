//! Watches held addresses: whether they are still there, their interfaces up, and nobody else has
//! them.
//!
//! News from the kernel only say when to look; what counts is what is there then. It is also looked
//! at from time to time, so nothing depends on news that may be lost.

use std::collections::BTreeMap;
use std::net::IpAddr;
use std::rc::Rc;
use std::time::{Duration, Instant};

use tokio::time::{sleep, timeout};

use super::VipEvent;
use super::frames::Claim;
use super::kernel::{self, Assigned, Change, Snapshot};
use super::packet::Port;
use super::place::Link;
use super::worker::{Ears, State, Task, Worker};

/// How often it is looked at when there are no news.
const LOOK: Duration = Duration::from_secs(2);
/// Between two socket errors.
const PAUSE: Duration = Duration::from_millis(500);
/// At least between two answers to somebody else's claims: two nodes that answer each other must
/// not flood the network.
const DISPUTE: Duration = Duration::from_secs(1);

impl Worker {
    /// For ever.
    pub(super) async fn watch(self: Rc<Self>) {
        loop {
            match kernel::changes() {
                Ok(mut changes) => {
                    self.look().await;
                    loop {
                        match timeout(LOOK, changes.recv()).await {
                            Ok(Some(change)) => {
                                let mut concerns = self.changed(&change);
                                while let Ok(change) = changes.try_recv() {
                                    concerns |= self.changed(&change);
                                }
                                if concerns {
                                    self.look().await;
                                }
                            }
                            Ok(None) => break,
                            Err(_) => self.look().await,
                        }
                    }
                }
                Err(error) => tracing::warn!("no news of interfaces and addresses: {error}"),
            }
            sleep(PAUSE).await;
            self.look().await;
        }
    }

    /// Whether a change makes it necessary to look.
    fn changed(self: &Rc<Self>, change: &Change) -> bool {
        match change {
            // Both ends of a short outage count, though the interface is up when it is looked at.
            Change::Link(index, up) => {
                let link = self.state.borrow().held_on(*index);
                let Some(link) = link else { return false };
                self.link_is(&link, *up);
                true
            }
            Change::Gone(address) => self.state.borrow().held.contains_key(address),
            Change::Unknown => true,
        }
    }

    /// Compares what is held with what is there.
    async fn look(self: &Rc<Self>) {
        // Only what was settled before the question can be missing in the answer.
        let judged: BTreeMap<IpAddr, u64> = {
            let state = self.state.borrow();
            let settled = state.held.iter().filter(|(_, held)| held.settled);
            settled
                .map(|(address, held)| (*address, held.ticket))
                .collect()
        };
        if judged.is_empty() {
            return;
        }
        let snapshot = match self.snapshot().await {
            Ok(snapshot) => snapshot,
            Err(error) => {
                tracing::warn!("{error}");
                return;
            }
        };
        for (address, ticket) in judged {
            self.judge(address, ticket, &snapshot);
        }
    }

    /// Compares one address that was taken by the call `ticket`, and its interface.
    fn judge(self: &Rc<Self>, address: IpAddr, ticket: u64, snapshot: &Snapshot) {
        let (link, was_lost, lost, told, now) = {
            let mut state = self.state.borrow_mut();
            let State { held, links, .. } = &mut *state;
            let Some(held) = held.get_mut(&address).filter(|held| held.ticket == ticket) else {
                return;
            };
            let link = held.place.link.clone();
            let here = |there: &Assigned| {
                there.own.index == link.index && there.own.address == address && !there.failed
            };
            let lost = !snapshot.addresses.iter().any(here);
            let was_lost = std::mem::replace(&mut held.lost, lost);
            let now = links.get(&link.index).cloned();
            (link, was_lost, lost, held.told, now)
        };
        if lost && !was_lost {
            self.tell(VipEvent::Lost { address });
        }
        self.link_is(&link, now.as_ref().is_some_and(|now| now.up));
        self.listen(link.index, address.is_ipv6());
        // It came back, or its interface has another hardware address now.
        let mac = now.and_then(|now| now.mac);
        if !lost && (was_lost || (mac.is_some() && mac != told)) {
            self.announce(address);
        }
    }

    /// Tells if that is new.
    pub(super) fn link_is(self: &Rc<Self>, link: &Link, up: bool) {
        // An interface is taken for up until it is known not to be.
        let before = self.state.borrow_mut().up.insert(link.index, up);
        let interface = link.name.clone();
        match (before.unwrap_or(true), up) {
            (true, false) => self.tell(VipEvent::LinkDown { interface }),
            (false, true) => {
                self.announce_all(link.index);
                self.tell(VipEvent::LinkUp { interface });
            }
            _ => {}
        }
    }

    fn announce_all(self: &Rc<Self>, index: u32) {
        let on = self.state.borrow().held_at(index);
        for address in on {
            self.announce(address);
        }
    }

    /// Opens the ears on an interface, if they are not.
    pub(super) fn listen(self: &Rc<Self>, index: u32, v6: bool) {
        let mut state = self.state.borrow_mut();
        let link = state.links.get(&index);
        let open = state.ears.get(&(index, v6));
        if link.is_none_or(|link| link.mac.is_none())
            || open.is_some_and(|ears| !ears.task.is_finished())
        {
            return;
        }
        match Port::open(index, v6) {
            Ok(port) => {
                let port = Rc::new(port);
                let task = Task::spawn(hear(Rc::downgrade(self), Rc::clone(&port), index));
                state.ears.insert((index, v6), Ears { port, task });
            }
            Err(error) => tracing::warn!("interface {index}: open a packet socket: {error}"),
        }
    }

    /// Somebody says an address is theirs.
    fn claimed(self: &Rc<Self>, index: u32, claim: Claim) {
        let Claim { address, mac } = claim;
        {
            let mut state = self.state.borrow_mut();
            // Also from another interface of this node in the same network.
            if state.links.values().any(|link| link.mac == Some(mac)) {
                return;
            }
            let Some(held) = state.held.get_mut(&address) else {
                return;
            };
            let fresh = held.disputed.is_some_and(|told| told.elapsed() < DISPUTE);
            if held.place.link.index != index || !held.settled || held.lost || fresh {
                return;
            }
            held.disputed = Some(Instant::now());
        }
        self.announce(address);
        self.tell(VipEvent::Conflict { address, mac });
    }
}

async fn hear(worker: std::rc::Weak<Worker>, port: Rc<Port>, index: u32) {
    loop {
        match port.hear().await {
            Ok(claim) => {
                let Some(worker) = worker.upgrade() else {
                    return;
                };
                worker.claimed(index, claim);
            }
            Err(error) => {
                // Opened again when it is looked at next.
                tracing::warn!("interface {index}: hear of its addresses: {error}");
                return;
            }
        }
    }
}
