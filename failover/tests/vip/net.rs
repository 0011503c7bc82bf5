//! Nodes in network namespaces of their own, and cables between them and a switch.
//!
//! A node is a thread that left the namespace of the others. Nothing has a name outside, so all of
//! it goes with its threads, also when a test fails.

use std::fs::File;
use std::net::IpAddr;
use std::os::fd::AsRawFd;
use std::panic::{AssertUnwindSafe, catch_unwind, resume_unwind};
use std::sync::mpsc::{Receiver, Sender, channel};
use std::thread::JoinHandle;
use std::time::{Duration, Instant};

use futures_util::TryStreamExt;
use nix::sched::{CloneFlags, unshare};
use rtnetlink::packet_route::address::{AddressAttribute, AddressFlags};
use rtnetlink::packet_route::link::{InfoData, InfoVeth, LinkAttribute};
use rtnetlink::packet_route::neighbour::{NeighbourAddress, NeighbourAttribute};
use rtnetlink::{Handle, LinkBridge, LinkUnspec, LinkVeth};
use tandem_failover::io::vip::{Addresses, Mac, VipEvent};

type Work = Box<dyn FnOnce() + Send>;

/// A thread in a network namespace of its own.
pub(crate) struct Node {
    work: Option<Sender<Work>>,
    thread: Option<JoinHandle<()>>,
}

impl Node {
    fn bare() -> Self {
        let (work, received) = channel::<Work>();
        let thread = std::thread::spawn(move || {
            unshare(CloneFlags::CLONE_NEWNET).unwrap();
            received.into_iter().for_each(|work| work());
        });
        let node = Self {
            work: Some(work),
            thread: Some(thread),
        };
        node.net(async |net| up(&net, "lo", true).await);
        node
    }

    /// Does something inside the node.
    pub(crate) fn run<T: Send + 'static>(&self, work: impl FnOnce() -> T + Send + 'static) -> T {
        let (done, result) = channel();
        let work = move || {
            let _ = done.send(catch_unwind(AssertUnwindSafe(work)));
        };
        self.work.as_ref().unwrap().send(Box::new(work)).unwrap();
        match result.recv().unwrap() {
            Ok(value) => value,
            Err(panic) => resume_unwind(panic),
        }
    }

    /// Does something with the node's netlink.
    pub(crate) fn net<T, F>(&self, work: F) -> T
    where
        T: Send + 'static,
        F: AsyncFnOnce(Handle) -> T + Send + 'static,
    {
        self.run(move || {
            let runtime = tokio::runtime::Builder::new_current_thread()
                .enable_all()
                .build()
                .unwrap();
            runtime.block_on(async {
                let (connection, handle, _) = rtnetlink::new_connection().unwrap();
                tokio::spawn(connection);
                work(handle).await
            })
        })
    }

    pub(crate) fn manager(&self) -> (Addresses, Receiver<VipEvent>) {
        let (sender, events) = channel();
        (self.run(|| Addresses::start(sender)).unwrap(), events)
    }

    /// Gives an interface an address, as an administrator does.
    pub(crate) fn give(&self, interface: &'static str, address: &str, prefix: u8) {
        let address: IpAddr = address.parse().unwrap();
        self.net(async move |net| {
            let index = index(&net, interface).await;
            let mut request = net.address().add(index, address, prefix);
            if address.is_ipv6() {
                let now = AddressAttribute::Flags(AddressFlags::Nodad);
                request.message_mut().attributes.push(now);
            }
            request.execute().await.unwrap();
        });
    }

    /// Gives an interface addresses beside the network of the others.
    pub(crate) fn give_many(&self, interface: &'static str, number: u32) {
        self.net(async move |net| {
            let index = index(&net, interface).await;
            for host in 0..number {
                let address = std::net::Ipv4Addr::from_bits(0x0a63_0000 + host);
                let request = net.address().add(index, address.into(), 32);
                request.execute().await.unwrap();
            }
        });
    }

    /// Takes an address away behind the manager's back.
    pub(crate) fn strip(&self, address: &str) {
        let address: IpAddr = address.parse().unwrap();
        self.net(async move |net| {
            let found = net.address().get().set_address_filter(address);
            let found: Vec<_> = found.execute().try_collect().await.unwrap();
            for message in found {
                net.address().del(message).execute().await.unwrap();
            }
        });
    }

    /// `INTERFACE ADDRESS/PREFIX` of all addresses of a node but those it always has.
    pub(crate) fn addresses(&self) -> Vec<String> {
        let mut found: Vec<String> = self.net(async |net| {
            let mut names = std::collections::BTreeMap::new();
            let mut links = net.link().get().execute();
            while let Some(link) = links.try_next().await.unwrap() {
                for attribute in link.attributes {
                    if let LinkAttribute::IfName(name) = attribute {
                        names.insert(link.header.index, name);
                    }
                }
            }
            let all = net.address().get().execute();
            let all: Vec<_> = all.try_collect().await.unwrap();
            let mut found = Vec::new();
            for message in all {
                for attribute in &message.attributes {
                    if let AddressAttribute::Address(address) = attribute {
                        let name = &names[&message.header.index];
                        let prefix = message.header.prefix_len;
                        found.push(format!("{name} {address}/{prefix}"));
                    }
                }
            }
            found
        });
        found.retain(|line| !line.starts_with("lo ") && !line.contains(" fe80:"));
        found.sort();
        found
    }

    pub(crate) fn has(&self, address: &str) -> bool {
        let needle = format!(" {address}/");
        self.addresses().iter().any(|line| line.contains(&needle))
    }

    pub(crate) fn set_up(&self, interface: &'static str, on: bool) {
        self.net(async move |net| up(&net, interface, on).await);
    }

    pub(crate) fn set_mac(&self, interface: &'static str, mac: Mac) {
        self.net(async move |net| {
            let link = LinkUnspec::new_with_index(index(&net, interface).await);
            let link = link.address(mac.0.to_vec()).build();
            net.link().set(link).execute().await.unwrap();
        });
    }

    pub(crate) fn mac(&self, interface: &'static str) -> Mac {
        self.net(async move |net| {
            let name = interface.to_string();
            let mut link = net.link().get().match_name(name).execute();
            let link = link.try_next().await.unwrap().unwrap();
            let mac = link
                .attributes
                .iter()
                .find_map(|attribute| match attribute {
                    LinkAttribute::Address(bytes) => Some(Mac(bytes[..].try_into().unwrap())),
                    _ => None,
                });
            mac.unwrap()
        })
    }

    /// The hardware address this node remembers for an address.
    pub(crate) fn neighbour(&self, address: &str) -> Option<Mac> {
        let wanted: IpAddr = address.parse().unwrap();
        self.net(async move |net| {
            let all = net.neighbours().get().execute();
            let all: Vec<_> = all.try_collect().await.unwrap();
            all.into_iter().find_map(|entry| {
                let mut mac = None;
                let mut address = None;
                for attribute in entry.attributes {
                    match attribute {
                        NeighbourAttribute::Destination(NeighbourAddress::Inet(found)) => {
                            address = Some(IpAddr::from(found));
                        }
                        NeighbourAttribute::Destination(NeighbourAddress::Inet6(found)) => {
                            address = Some(IpAddr::from(found));
                        }
                        NeighbourAttribute::LinkLayerAddress(bytes) => {
                            mac = <[u8; 6]>::try_from(&bytes[..]).ok().map(Mac);
                        }
                        _ => {}
                    }
                }
                mac.filter(|_| address == Some(wanted))
            })
        })
    }

    /// Makes this node remember a wrong hardware address, as after news that got lost.
    pub(crate) fn mislead(&self, interface: &'static str, address: &str) {
        let address: IpAddr = address.parse().unwrap();
        self.net(async move |net| {
            let index = index(&net, interface).await;
            let wrong = net.neighbours().add(index, address);
            let state = rtnetlink::packet_route::neighbour::NeighbourState::Stale;
            let wrong = wrong
                .state(state)
                .link_layer_address(&[2, 0xde, 0xad, 0, 0, 1]);
            wrong.replace().execute().await.unwrap();
        });
    }
}

impl Drop for Node {
    fn drop(&mut self) {
        drop(self.work.take());
        if let Some(thread) = self.thread.take() {
            let _ = thread.join();
        }
    }
}

async fn index(net: &Handle, name: &str) -> u32 {
    let name = name.to_string();
    let mut link = net.link().get().match_name(name).execute();
    link.try_next().await.unwrap().unwrap().header.index
}

async fn up(net: &Handle, interface: &str, on: bool) {
    let link = LinkUnspec::new_with_index(index(net, interface).await);
    let link = if on { link.up() } else { link.down() };
    net.link().set(link.build()).execute().await.unwrap();
}

/// A switch, with nodes at its ports.
pub(crate) struct Switch(Node);

impl Switch {
    pub(crate) fn new() -> Self {
        let node = Node::bare();
        node.net(async |net| {
            net.link()
                .add(LinkBridge::new("lan").up().build())
                .execute()
                .await
                .unwrap();
        });
        Self(node)
    }

    /// A node with `eth0` at the switch, and these addresses on it.
    pub(crate) fn node(&self, port: &'static str, addresses: &[(&str, u8)]) -> Node {
        let node = Node::bare();
        self.cable(&node, port, "eth0");
        for (address, prefix) in addresses {
            node.give("eth0", address, *prefix);
        }
        node
    }

    /// Lays a cable from a port of the switch to an interface of the node.
    pub(crate) fn cable(&self, node: &Node, port: &'static str, interface: &'static str) {
        let inside = node.run(|| File::open("/proc/thread-self/ns/net").unwrap());
        self.0.net(async move |net| {
            let peer = LinkUnspec::new_with_name(interface).setns_by_fd(inside.as_raw_fd());
            let peer = InfoData::Veth(InfoVeth::Peer(peer.build()));
            let cable = LinkVeth::new(port, interface).set_info_data(peer);
            net.link().add(cable.build()).execute().await.unwrap();
            let lan = index(&net, "lan").await;
            let end = LinkUnspec::new_with_index(index(&net, port).await);
            let end = end.controller(lan).up().build();
            net.link().set(end).execute().await.unwrap();
        });
        node.run(move || {
            // Its own addresses are unique; a test does not wait for the kernel to find that out.
            let path = format!("/proc/sys/net/ipv6/conf/{interface}/accept_dad");
            std::fs::write(path, "0").unwrap();
        });
        node.set_up(interface, true);
    }

    /// Pulls the cable at the switch, or puts it in again.
    pub(crate) fn plug(&self, port: &'static str, on: bool) {
        self.0.set_up(port, on);
    }
}

/// Whether something comes true in time.
pub(crate) fn within(limit: Duration, mut check: impl FnMut() -> bool) -> bool {
    let end = Instant::now() + limit;
    while Instant::now() < end {
        if check() {
            return true;
        }
        std::thread::sleep(Duration::from_millis(5));
    }
    check()
}
