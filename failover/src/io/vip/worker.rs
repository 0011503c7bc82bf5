//! Takes and releases, and what is held meanwhile.
//!
//! Commands run side by side in one thread: taking one address (which waits for the answers to its
//! probe) does not hold up the release of another. Nothing that is borrowed from the state lives
//! across a wait.

use std::cell::RefCell;
use std::collections::{BTreeMap, BTreeSet};
use std::io;
use std::net::IpAddr;
use std::rc::Rc;
use std::sync::mpsc::Sender;
use std::time::{Duration, Instant};

use tokio::sync::mpsc::UnboundedReceiver;
use tokio::task::{JoinHandle, spawn_local};

use crate::config::VirtualIp;

use super::connections;
use super::kernel::{Assigned, Kernel, Snapshot};
use super::packet::Port;
use super::place::{self, Link, Own, Place};
use super::setting::keep_secondaries;
use super::{Command, Mac, Options, VipError, VipEvent};

/// How long connections are reset before their address is removed. Only then does the other end
/// hear of it (without its address a node sends nothing for it), but the address must go at once.
const TELL_LIMIT: Duration = Duration::from_millis(5);
/// How long the rest of them is reset.
const RESET_LIMIT: Duration = Duration::from_secs(1);

/// A task that ends with what it is for.
pub(super) struct Task(JoinHandle<()>);

impl Task {
    pub(super) fn spawn(work: impl Future<Output = ()> + 'static) -> Self {
        Self(spawn_local(work))
    }

    pub(super) fn is_finished(&self) -> bool {
        self.0.is_finished()
    }
}

impl Drop for Task {
    fn drop(&mut self) {
        self.0.abort();
    }
}

/// An address that was taken.
pub(super) struct Held {
    pub(super) place: Place,
    /// By which call.
    pub(super) ticket: u64,
    /// The kernel has it; before that its absence means nothing.
    pub(super) settled: bool,
    /// Somebody removed it, and that was told.
    pub(super) lost: bool,
    pub(super) announcer: Option<Task>,
    /// The hardware address that the neighbours were told.
    pub(super) told: Option<Mac>,
    /// When somebody else's claim was last told.
    pub(super) disputed: Option<Instant>,
}

/// Ears on an interface for one address family.
pub(super) struct Ears {
    pub(super) port: Rc<Port>,
    pub(super) task: Task,
}

#[derive(Default)]
pub(super) struct State {
    pub(super) held: BTreeMap<IpAddr, Held>,
    /// The last call that wants each address here; a release takes it away.
    tickets: BTreeMap<IpAddr, u64>,
    next_ticket: u64,
    /// Interfaces as last seen.
    pub(super) links: BTreeMap<u32, Link>,
    /// Whether an interface with held addresses is up, as last told.
    pub(super) up: BTreeMap<u32, bool>,
    pub(super) ears: BTreeMap<(u32, bool), Ears>,
}

impl State {
    /// Held addresses on an interface.
    pub(super) fn held_at(&self, index: u32) -> Vec<IpAddr> {
        let on = self.held.values().map(|held| &held.place);
        on.filter(|place| place.link.index == index)
            .map(|place| place.address)
            .collect()
    }

    /// The interface, if an address is held on it.
    pub(super) fn held_on(&self, index: u32) -> Option<Link> {
        let mut on = self.held.values().filter(|held| held.settled);
        on.find(|held| held.place.link.index == index)
            .map(|held| held.place.link.clone())
    }
}

pub(super) struct Worker {
    pub(super) kernel: Kernel,
    pub(super) options: Options,
    events: Sender<VipEvent>,
    pub(super) state: RefCell<State>,
}

impl Worker {
    /// Inside a runtime with local tasks.
    pub(super) fn open(events: Sender<VipEvent>, options: Options) -> io::Result<Rc<Self>> {
        Ok(Rc::new(Self {
            kernel: Kernel::open()?,
            options,
            events,
            state: RefCell::default(),
        }))
    }

    pub(super) async fn run(self: Rc<Self>, mut commands: UnboundedReceiver<Command>) {
        let _watch = Task::spawn(Rc::clone(&self).watch());
        while let Some(command) = commands.recv().await {
            let worker = Rc::clone(&self);
            // Tasks begin in this order, and each begins by what it wants of the addresses, so a
            // later command is not undone by an earlier one that takes longer.
            spawn_local(async move {
                match command {
                    Command::Take {
                        addresses,
                        probe,
                        answer,
                    } => {
                        let _ = answer.send(worker.take(&addresses, probe).await);
                    }
                    Command::Release { addresses, answer } => {
                        let _ = answer.send(worker.release(&addresses).await);
                    }
                    Command::Present { addresses, answer } => {
                        let _ = answer.send(worker.present(&addresses).await);
                    }
                }
            });
        }
    }

    pub(super) fn tell(&self, event: VipEvent) {
        tracing::info!("{event:?}");
        // Whoever does not listen any more does not want to know.
        let _ = self.events.send(event);
    }

    async fn take(self: &Rc<Self>, wanted: &[VirtualIp], probe: bool) -> Result<(), VipError> {
        let ticket = self.ticket(wanted);
        let snapshot = self.snapshot().await?;
        let places = self.places(wanted, &snapshot)?;
        if probe {
            let absent = places
                .iter()
                .filter(|place| !snapshot.addresses.iter().any(|there| is_at(there, place)));
            self.probe(absent).await?;
        }
        for place in &places {
            self.bring(place, ticket, &snapshot).await?;
        }
        Ok(())
    }

    /// Notes that the addresses are wanted here.
    fn ticket(&self, wanted: &[VirtualIp]) -> u64 {
        let mut state = self.state.borrow_mut();
        state.next_ticket += 1;
        let ticket = state.next_ticket;
        let addresses = wanted.iter().map(|wanted| (wanted.address, ticket));
        state.tickets.extend(addresses);
        ticket
    }

    pub(super) async fn snapshot(&self) -> Result<Snapshot, VipError> {
        let snapshot = self.kernel.snapshot().await;
        let snapshot = snapshot.map_err(|source| VipError::Kernel {
            action: "read interfaces and addresses",
            source,
        })?;
        let links = snapshot.links.iter().map(|link| (link.index, link.clone()));
        self.state.borrow_mut().links = links.collect();
        Ok(snapshot)
    }

    fn places(&self, wanted: &[VirtualIp], snapshot: &Snapshot) -> Result<Vec<Place>, VipError> {
        let state = self.state.borrow();
        let mut virtuals: BTreeSet<IpAddr> = state.held.keys().copied().collect();
        virtuals.extend(wanted.iter().map(|wanted| wanted.address));
        let owns = snapshot.addresses.iter().map(|there| there.own.clone());
        let owns: Vec<Own> = owns.collect();
        let find = |wanted| place::find(wanted, &snapshot.links, &owns, &virtuals);
        wanted.iter().map(find).collect()
    }

    /// Adds one address and begins to announce it.
    async fn bring(
        self: &Rc<Self>,
        place: &Place,
        ticket: u64,
        snapshot: &Snapshot,
    ) -> Result<(), VipError> {
        let address = place.address;
        let interface = || place.link.name.clone();
        let mine = |there: &&Assigned| there.own.address == address;
        for there in snapshot.addresses.iter().filter(mine) {
            if !is_at(there, place) {
                let removed = self.kernel.remove(there).await;
                removed.map_err(|source| VipError::Address {
                    address,
                    interface: interface(),
                    action: "remove the address from where it does not belong",
                    source,
                })?;
            }
        }
        self.hold(place, ticket)?;
        // Nothing is waited for between that check and the request.
        if let Err(source) = self.kernel.add(place).await {
            self.let_go(address, ticket);
            return Err(VipError::Address {
                address,
                interface: interface(),
                action: "add the address",
                source,
            });
        }
        if !self.settle(address, ticket) {
            return Err(VipError::Overtaken { address });
        }
        self.announce(address);
        Ok(())
    }

    fn hold(&self, place: &Place, ticket: u64) -> Result<(), VipError> {
        let address = place.address;
        let mut state = self.state.borrow_mut();
        if state.tickets.get(&address) != Some(&ticket) {
            return Err(VipError::Overtaken { address });
        }
        let held = Held {
            place: place.clone(),
            ticket,
            settled: false,
            lost: false,
            announcer: None,
            told: None,
            disputed: None,
        };
        state.held.insert(address, held);
        Ok(())
    }

    fn let_go(&self, address: IpAddr, ticket: u64) {
        let mut state = self.state.borrow_mut();
        state
            .held
            .retain(|held, by| *held != address || by.ticket != ticket);
    }

    fn settle(self: &Rc<Self>, address: IpAddr, ticket: u64) -> bool {
        let link = {
            let mut state = self.state.borrow_mut();
            let Some(held) = state.held.get_mut(&address) else {
                return false;
            };
            if held.ticket != ticket {
                return false;
            }
            held.settled = true;
            held.place.link.clone()
        };
        self.listen(link.index, address.is_ipv6());
        self.link_is(&link, link.up);
        true
    }

    async fn release(self: &Rc<Self>, released: &[VirtualIp]) -> Result<(), VipError> {
        let addresses: BTreeSet<IpAddr> = released.iter().map(|one| one.address).collect();
        {
            let mut state = self.state.borrow_mut();
            for address in &addresses {
                state.tickets.remove(address);
                state.held.remove(address);
            }
        }
        let all = self.kernel.addresses().await;
        let all = all.map_err(|source| VipError::Kernel {
            action: "read the addresses",
            source,
        })?;
        let is_one = |there: &&Assigned| addresses.contains(&there.own.address);
        let there: Vec<&Assigned> = all.iter().filter(is_one).collect();
        if !there.is_empty() {
            connections::reset(&addresses, TELL_LIMIT);
        }
        let mut failed = None;
        for address in &there {
            if let Err(error) = self.remove(address, &all).await {
                failed.get_or_insert(error);
            }
        }
        self.forget_unused();
        // What came between the two, and what there was no time for. Nobody waits for it: the
        // addresses are gone.
        let reset = move || connections::reset(&addresses, RESET_LIMIT);
        spawn_local(async move {
            if let Ok(false) = tokio::task::spawn_blocking(reset).await {
                tracing::warn!("not all connections of virtual addresses could be reset in time");
            }
        });
        failed.map_or(Ok(()), Err)
    }

    async fn remove(&self, address: &Assigned, all: &[Assigned]) -> Result<(), VipError> {
        let own = &address.own;
        let interface = self.name_of(own.index);
        // The kernel would take the others of its network with it.
        let follows = |other: &&Assigned| {
            other.secondary
                && other.own.index == own.index
                && other.own.prefix == own.prefix
                && place::same_network(other.own.address, own.address, own.prefix)
        };
        let kept = (!address.secondary && all.iter().any(|other| follows(&other)))
            .then(|| keep_secondaries(&interface))
            .flatten();
        let removed = self.kernel.remove(address).await;
        if let Some(kept) = kept {
            kept.restore();
        }
        removed.map_err(|source| VipError::Address {
            address: own.address,
            interface,
            action: "remove the address",
            source,
        })
    }

    fn name_of(&self, index: u32) -> String {
        let state = self.state.borrow();
        let known = state.links.get(&index).map(|link| link.name.clone());
        known.unwrap_or_else(|| format!("interface {index}"))
    }

    /// Closes the ears of interfaces without held addresses.
    fn forget_unused(&self) {
        let mut state = self.state.borrow_mut();
        let used = |held: &Held| (held.place.link.index, held.place.address.is_ipv6());
        let used: BTreeSet<_> = state.held.values().map(used).collect();
        state.ears.retain(|key, _| used.contains(key));
        let is_used = |index: &u32| used.iter().any(|(used, _)| used == index);
        state.up.retain(|index, _| is_used(index));
    }

    async fn present(&self, asked: &[VirtualIp]) -> Result<Vec<bool>, VipError> {
        let snapshot = self.snapshot().await?;
        let is_there = |asked: &VirtualIp| {
            snapshot.addresses.iter().any(|there| {
                let name = self.name_of(there.own.index);
                let right = asked.interface.as_ref().is_none_or(|asked| *asked == name);
                there.own.address == asked.address && !there.failed && right
            })
        };
        Ok(asked.iter().map(is_there).collect())
    }
}

fn is_at(there: &Assigned, place: &Place) -> bool {
    let wanted = Own {
        index: place.link.index,
        address: place.address,
        prefix: place.prefix,
    };
    there.own == wanted && !there.failed
}
