//! The lab's networks: a bridge for each in one network namespace, and a cable from each node.
//!
//! Nothing is made in the host's namespace, so labs side by side all use 10.77.0.0/24 (the second
//! network 10.78.0.0/24 and so on). A cable is a pair of virtual interfaces: `eth0` in the node
//! (`eth1` …), and a bridge port with the node's name (and the number of the network).
//!
//! Cutting: with two nodes the port of one goes down, as when a cable is pulled. With more nodes
//! that would cut a node from all, so a pair is cut by telling each a wrong hardware address of the
//! other: what they send is lost silently, as in a broken switch.

use std::fs::File;
use std::os::fd::AsRawFd;

use anyhow::{Context, Result, anyhow};
use futures_util::TryStreamExt;
use rtnetlink::packet_route::link::{InfoData, InfoVeth};
use rtnetlink::packet_route::neighbour::{NeighbourAddress, NeighbourAttribute, NeighbourMessage};
use rtnetlink::{Handle, LinkBridge, LinkMessageBuilder, LinkUnspec, LinkVeth};

use super::state::{Init, NodeState, State};
use super::sys;

const PREFIX: u8 = 24;
/// Locally administered, and nobody's.
const NOBODY: [u8; 6] = [0x02, 0xde, 0xad, 0, 0, 1];

/// A network namespace, kept while this is.
struct Namespace(File);

impl Namespace {
    fn of(init: &Init) -> Result<Self> {
        init.pidfd().context("its init process has ended")?;
        let path = format!("/proc/{}/ns/net", init.pid);
        Ok(Self(
            File::open(&path).with_context(|| format!("open {path}"))?,
        ))
    }

    /// Runs `work` with a netlink handle of this namespace. Only a thread of its own enters it.
    fn run<F, T>(&self, work: F) -> Result<T>
    where
        F: AsyncFnOnce(Handle) -> Result<T> + Send,
        T: Send,
    {
        let inside = || {
            sys::setns(&self.0, libc::CLONE_NEWNET).context("enter a network namespace")?;
            let runtime = tokio::runtime::Builder::new_current_thread()
                .enable_io()
                .build()?;
            runtime.block_on(async {
                let (connection, handle, _) = rtnetlink::new_connection()?;
                tokio::spawn(connection);
                work(handle).await
            })
        };
        std::thread::scope(|scope| scope.spawn(inside).join())
            .map_err(|_| anyhow!("the netlink thread panicked"))?
    }
}

/// The name of what there is once in each network, counted from 0.
fn numbered(name: &str, network: u8) -> String {
    match network {
        0 => name.into(),
        _ => format!("{name}-{}", network + 1),
    }
}

fn bridge(network: u8) -> String {
    numbered("lan", network)
}

/// A node's interface.
fn interface(network: u8) -> String {
    format!("eth{network}")
}

/// Makes the bridge of a network in the hub's namespace.
pub(crate) fn make_bridge(hub: &Init, network: u8, mtu: u32) -> Result<()> {
    let name = bridge(network);
    Namespace::of(hub)?
        .run(async |net| {
            net.link()
                .add(LinkBridge::new(&name).mtu(mtu).build())
                .execute()
                .await?;
            // A switch has no firewall. Where the kernel has bridge filtering built in, each frame
            // would pass the host's tables three times. Absent elsewhere, so no error.
            for table in ["iptables", "ip6tables", "arptables"] {
                let _ = std::fs::write(format!("/proc/sys/net/bridge/bridge-nf-call-{table}"), "0");
            }
            Ok(())
        })
        .with_context(|| format!("make the bridge (MTU {mtu})"))
}

/// Lays a cable between the bridge and a node, and gives the node its address.
pub(crate) fn connect(
    hub: &Init,
    node: &NodeState,
    init: &Init,
    (network, mtu): (u8, u32),
) -> Result<()> {
    let inside = Namespace::of(init)?;
    let port = &numbered(&node.name, network);
    let (card, bridge) = (&interface(network), &bridge(network));
    let work = Namespace::of(hub)?.run(async |net| {
        // A port of the node's former life; the kernel removes it some time after the node died.
        if let Ok(index) = find(&net, port).await {
            let _ = net.link().del(index).execute().await;
        }
        let peer = LinkUnspec::new_with_name(card)
            .mtu(mtu)
            // As a network card keeps its address when the node starts again: the others would
            // not find it for half a minute.
            .address([0x02, 0x54, 0x4e, 0, network, node.number].to_vec())
            .setns_by_fd(inside.0.as_raw_fd());
        let cable = LinkVeth::new(port, card).mtu(mtu);
        let cable = cable.set_info_data(InfoData::Veth(InfoVeth::Peer(peer.build())));
        net.link().add(cable.build()).execute().await?;
        let bridge = find(&net, bridge).await?;
        let port = find(&net, port).await?;
        set(
            &net,
            LinkUnspec::new_with_index(port).controller(bridge).up(),
        )
        .await
    });
    work.with_context(|| format!("connect {port} to the bridge"))?;
    let address = node.address(network);
    let work = inside.run(async |net| {
        let loopback = find(&net, "lo").await?;
        set(&net, LinkUnspec::new_with_index(loopback).up()).await?;
        let index = find(&net, card).await?;
        net.address()
            .add(index, address.into(), PREFIX)
            .execute()
            .await?;
        set(&net, LinkUnspec::new_with_index(index).up()).await
    });
    work.with_context(|| format!("give {port} the address {address}"))
}

async fn find(net: &Handle, name: &str) -> Result<u32> {
    let link = net.link().get().match_name(name).execute().try_next().await;
    let link = link.with_context(|| format!("interface {name}"))?;
    Ok(link
        .with_context(|| format!("interface {name} does not exist"))?
        .header
        .index)
}

async fn set(net: &Handle, link: LinkMessageBuilder<LinkUnspec>) -> Result<()> {
    Ok(net.link().set(link.build()).execute().await?)
}

/// Cuts (or heals) what lies between two nodes in a network, or between a node and all others.
pub(crate) fn set_cut(
    state: &State,
    network: u8,
    (node, peer): (&str, Option<&str>),
    cut: bool,
) -> Result<()> {
    let one = state.node(node)?;
    let other = peer.map(|peer| state.node(peer)).transpose()?;
    let verb = if cut { "cut" } else { "heal" };
    match other {
        Some(other) if state.nodes.len() > 2 => {
            set_stranger(one, other, network, cut)
                .and_then(|()| set_stranger(other, one, network, cut))
                .with_context(|| format!("{verb} {node} from {}", other.name))?;
            if !cut {
                set_port(state, network, one, true)
            } else {
                Ok(())
            }
        }
        _ => set_port(state, network, one, !cut),
    }
    .with_context(|| format!("{verb} {node}"))
}

/// Heals everything in a network.
pub(crate) fn heal_all(state: &State, network: u8) -> Result<()> {
    for node in state.nodes.iter().filter(|node| node.alive().is_ok()) {
        set_port(state, network, node, true).with_context(|| format!("heal {}", node.name))?;
        for other in state.nodes.iter().filter(|other| other.name != node.name) {
            set_stranger(node, other, network, false)?;
        }
    }
    Ok(())
}

fn set_port(state: &State, network: u8, node: &NodeState, up: bool) -> Result<()> {
    node.alive()?;
    let port = numbered(&node.name, network);
    let hub = state.hub.as_ref().context("the lab has no bridge")?;
    Namespace::of(hub)?.run(async |net| {
        let port = LinkUnspec::new_with_index(find(&net, &port).await?);
        set(&net, if up { port.up() } else { port.down() }).await
    })
}

/// Makes `node` send what is meant for `other` to nobody, or forget that.
fn set_stranger(node: &NodeState, other: &NodeState, network: u8, cut: bool) -> Result<()> {
    let (card, address) = (interface(network), other.address(network));
    Namespace::of(node.alive()?)?.run(async |net| {
        let index = find(&net, &card).await?;
        if cut {
            let wrong = net
                .neighbours()
                .add(index, address.into())
                .link_layer_address(&NOBODY);
            return Ok(wrong.replace().execute().await?);
        }
        let mut entry = NeighbourMessage::default();
        entry.header.family = rtnetlink::packet_route::AddressFamily::Inet;
        entry.header.ifindex = index;
        let address = NeighbourAttribute::Destination(NeighbourAddress::Inet(address));
        entry.attributes.push(address);
        // There is none if the pair was not cut and never spoke.
        let _ = net.neighbours().del(entry).execute().await;
        Ok(())
    })
}
