//! The kernel's interfaces and addresses, by rtnetlink: read, add, remove, and hear of changes.

use std::cell::RefCell;
use std::future::Future;
use std::io;
use std::net::IpAddr;
use std::time::Duration;

use futures_util::TryStreamExt;
use rtnetlink::packet_route::RouteNetlinkMessage;
use rtnetlink::packet_route::address::{
    AddressAttribute, AddressFlags, AddressHeaderFlags, AddressMessage, AddressProtocol, CacheInfo,
};
use rtnetlink::packet_route::link::{LinkAttribute, LinkFlags, LinkLayerType, LinkMessage};
use rtnetlink::{Handle, MulticastGroup};
use tokio::sync::Mutex;
use tokio::sync::mpsc::{UnboundedReceiver, unbounded_channel};
use tokio::task::JoinHandle;

use super::Mac;
use super::place::{Link, Own, Place};

/// The kernel answers at once; a socket that does not is broken.
const LIMIT: Duration = Duration::from_secs(2);
/// Marks addresses of ours in the kernel (`IFA_PROTO`, kernel 5.18 and later), so that `ip address`
/// shows whose they are.
const OURS: u8 = 0x54;
/// How an IPv6 address never ends.
const FOREVER: u32 = u32::MAX;

/// An address in the kernel.
#[derive(Clone, Debug)]
pub(super) struct Assigned {
    pub(super) own: Own,
    /// It was given up by the kernel because somebody else has it.
    pub(super) failed: bool,
    /// It goes when the first one of its network goes.
    pub(super) secondary: bool,
    message: AddressMessage,
}

/// Everything there is.
#[derive(Clone, Debug)]
pub(super) struct Snapshot {
    pub(super) links: Vec<Link>,
    pub(super) addresses: Vec<Assigned>,
}

/// Something that the kernel told by itself.
#[derive(Debug)]
pub(super) enum Change {
    /// An interface, and whether it is up.
    Link(u32, bool),
    /// An address went.
    Gone(IpAddr),
    /// Some news was lost: everything must be looked at.
    Unknown,
}

/// Requests, in their order. One socket carries them all, so that a removal asked after an
/// addition is also done after it.
pub(super) struct Kernel {
    connected: RefCell<Option<(Handle, JoinHandle<()>)>>,
    /// The kernel makes one list at a time for a socket; another would be refused (EBUSY).
    listing: Mutex<()>,
}

impl Kernel {
    pub(super) fn open() -> io::Result<Self> {
        let kernel = Self {
            connected: RefCell::new(None),
            listing: Mutex::new(()),
        };
        kernel.handle()?;
        Ok(kernel)
    }

    /// The connection, a new one if it broke.
    fn handle(&self) -> io::Result<Handle> {
        let mut connected = self.connected.borrow_mut();
        if let Some((handle, task)) = &*connected
            && !task.is_finished()
        {
            return Ok(handle.clone());
        }
        let (connection, handle, _) = rtnetlink::new_connection()?;
        let task = tokio::task::spawn_local(connection);
        *connected = Some((handle.clone(), task));
        Ok(handle)
    }

    /// Interfaces and addresses.
    pub(super) async fn snapshot(&self) -> io::Result<Snapshot> {
        Ok(Snapshot {
            links: self.links().await?,
            addresses: self.addresses().await?,
        })
    }

    async fn links(&self) -> io::Result<Vec<Link>> {
        let _alone = self.listing.lock().await;
        let links = self.handle()?.link().get().execute();
        let links: Vec<LinkMessage> = self.limited(links.try_collect()).await?;
        Ok(links.iter().filter_map(link).collect())
    }

    pub(super) async fn addresses(&self) -> io::Result<Vec<Assigned>> {
        let _alone = self.listing.lock().await;
        let addresses = self.handle()?.address().get().execute();
        let addresses: Vec<AddressMessage> = self.limited(addresses.try_collect()).await?;
        Ok(addresses.into_iter().filter_map(assigned).collect())
    }

    /// Adds an address; one that is there is kept.
    pub(super) async fn add(&self, place: &Place) -> io::Result<()> {
        let handle = self.handle()?.address();
        let mut request = handle.add(place.link.index, place.address, place.prefix);
        let message = request.message_mut();
        let ours = AddressProtocol::Other(OURS);
        message.attributes.push(AddressAttribute::Protocol(ours));
        if place.address.is_ipv6() {
            // The probe was ours, and a tentative address would answer nobody for a second.
            message.header.flags |= AddressHeaderFlags::Nodad;
            let flags = AddressFlags::Nodad;
            message.attributes.push(AddressAttribute::Flags(flags));
            // Deprecated: it answers, but nothing that this node begins by itself comes from an
            // address that may be elsewhere tomorrow. With IPv4 a second address is like that.
            let mut lasting = CacheInfo::default();
            lasting.ifa_valid = FOREVER;
            message
                .attributes
                .push(AddressAttribute::CacheInfo(lasting));
        }
        self.limited(request.replace().execute()).await
    }

    /// Removes an address; one that is not there is fine.
    pub(super) async fn remove(&self, address: &Assigned) -> io::Result<()> {
        let request = self.handle()?.address().del(address.message.clone());
        match self.limited(request.execute()).await {
            Err(error) if gone(&error) => Ok(()),
            done => done,
        }
    }

    async fn limited<T>(
        &self,
        request: impl Future<Output = Result<T, rtnetlink::Error>>,
    ) -> io::Result<T> {
        match tokio::time::timeout(LIMIT, request).await {
            Ok(Ok(done)) => Ok(done),
            Ok(Err(rtnetlink::Error::NetlinkError(error))) => Err(error.to_io()),
            Ok(Err(error)) => Err(io::Error::other(error)),
            Err(_) => {
                // Whatever it waits for does not come; the next request gets a new socket.
                *self.connected.borrow_mut() = None;
                Err(io::ErrorKind::TimedOut.into())
            }
        }
    }
}

/// The address, or its interface, is not there.
fn gone(error: &io::Error) -> bool {
    let absent = [libc::EADDRNOTAVAIL, libc::ENODEV, libc::ENXIO];
    error
        .raw_os_error()
        .is_some_and(|code| absent.contains(&code))
}

/// News of interfaces and addresses, from a socket of its own: a flood of them must not cost an
/// answer. It ends if the socket breaks.
pub(super) fn changes() -> io::Result<UnboundedReceiver<Change>> {
    let groups = [
        MulticastGroup::Link,
        MulticastGroup::Ipv4Ifaddr,
        MulticastGroup::Ipv6Ifaddr,
    ];
    let (connection, _, mut messages) = rtnetlink::new_multicast_connection(&groups)?;
    tokio::task::spawn_local(connection);
    let (sender, changes) = unbounded_channel();
    tokio::task::spawn_local(async move {
        use futures_util::StreamExt;
        use rtnetlink::packet_core::NetlinkPayload;
        while let Some((message, _)) = messages.next().await {
            let change = match message.payload {
                NetlinkPayload::InnerMessage(message) => change(&message),
                NetlinkPayload::Overrun(_) => Some(Change::Unknown),
                _ => None,
            };
            if change.is_some_and(|change| sender.send(change).is_err()) {
                break;
            }
        }
    });
    Ok(changes)
}

fn change(message: &RouteNetlinkMessage) -> Option<Change> {
    match message {
        RouteNetlinkMessage::NewLink(message) => {
            let link = link(message)?;
            Some(Change::Link(link.index, link.up))
        }
        RouteNetlinkMessage::DelLink(message) => Some(Change::Link(link(message)?.index, false)),
        RouteNetlinkMessage::DelAddress(message) => Some(Change::Gone(address(message)?)),
        _ => None,
    }
}

fn link(message: &LinkMessage) -> Option<Link> {
    let header = &message.header;
    // Bridges tell about their ports in the same way, without saying all.
    if u8::from(header.interface_family) != libc::AF_UNSPEC as u8 {
        return None;
    }
    let name = message
        .attributes
        .iter()
        .find_map(|attribute| match attribute {
            LinkAttribute::IfName(name) => Some(name.clone()),
            _ => None,
        });
    let mac = message
        .attributes
        .iter()
        .find_map(|attribute| match attribute {
            LinkAttribute::Address(bytes) => <[u8; 6]>::try_from(&bytes[..]).ok(),
            _ => None,
        });
    let ethernet = header.link_layer_type == LinkLayerType::Ether
        && !header
            .flags
            .intersects(LinkFlags::Noarp | LinkFlags::Loopback);
    Some(Link {
        index: header.index,
        name: name?,
        mac: mac.filter(|_| ethernet).map(Mac),
        up: header
            .flags
            .contains(LinkFlags::Up | LinkFlags::Running | LinkFlags::LowerUp),
        loopback: header.flags.contains(LinkFlags::Loopback),
    })
}

/// The own address: on a link between two points the other one is also named.
fn address(message: &AddressMessage) -> Option<IpAddr> {
    let local = message
        .attributes
        .iter()
        .find_map(|attribute| match attribute {
            AddressAttribute::Local(address) => Some(*address),
            _ => None,
        });
    local.or_else(|| {
        message
            .attributes
            .iter()
            .find_map(|attribute| match attribute {
                AddressAttribute::Address(address) => Some(*address),
                _ => None,
            })
    })
}

fn assigned(message: AddressMessage) -> Option<Assigned> {
    let flags = message.header.flags;
    let own = Own {
        index: message.header.index,
        address: address(&message)?,
        prefix: message.header.prefix_len,
    };
    Some(Assigned {
        // For IPv6 the same bit says "temporary".
        secondary: own.address.is_ipv4() && flags.contains(AddressHeaderFlags::Secondary),
        failed: flags.contains(AddressHeaderFlags::Dadfailed),
        own,
        message,
    })
}
