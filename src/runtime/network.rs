//! The kernel's view of the network, kept up to date: links, addresses and routes of the attached NICs for the path
//! manager, and the way to a destination for a new flow.

use super::error::StartError;
use super::netlink::{Event, Link, Monitor, Neighbour, Netlink};
use crate::base::PortId;
use crate::mptcp::Path;
use crate::pm::{AddressEvent, LinkEvent, Route, Routes};
use crate::wire::{LinkHeader, MacAddr};
use std::collections::{BTreeMap, BTreeSet, HashMap};
use std::io;
use std::net::IpAddr;
use std::os::fd::{AsFd, BorrowedFd};

/// What has changed at the attached NICs.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) enum Change {
    Link(LinkEvent),
    Address(AddressEvent),
    Routes(Routes),
    /// A next hop has another link address.
    Neighbour {
        port: PortId,
        before: MacAddr,
        after: MacAddr,
    },
}

/// A way out: the path but for the link address of the next hop.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Way {
    pub(super) port: PortId,
    ifindex: u32,
    mtu: u16,
    /// The source address that the kernel chose, or that was asked for.
    pub(super) source: IpAddr,
    pub(super) next_hop: IpAddr,
}

/// Why there is no way.
#[derive(Debug)]
pub(super) enum NoWay {
    NoRoute,
    /// The destination is an address of this host.
    Local,
    /// The route leaves through a NIC that is not attached.
    OtherNic(String),
}

/// Neighbours that are remembered although the kernel has forgotten them.
const FORGOTTEN_MAX: usize = 1024;

/// A neighbour's link address.
#[derive(Debug, Clone, Copy)]
struct Known {
    mac: MacAddr,
    /// The kernel vouches for it. If not, it is only there to notice a change.
    resolved: bool,
}

/// Usable addresses with their interfaces.
type Addresses = BTreeSet<(u32, IpAddr)>;

/// The network as the kernel sees it.
#[derive(Debug)]
pub(super) struct Network {
    netlink: Netlink,
    monitor: Monitor,
    /// Interface of each attached NIC, by [`PortId`].
    ports: Vec<u32>,
    /// The longest IP packet that NICs take of us.
    mtu_most: u32,
    links: BTreeMap<u32, Link>,
    addresses: Addresses,
    routes: Routes,
    /// Neighbours of attached NICs, as many as the kernel keeps, and what it knew of those that it forgot.
    neighbours: HashMap<(u32, IpAddr), Known>,
    /// The kernel has told something: ways may be others.
    has_news: bool,
}

impl Network {
    /// Reads links and addresses, and listens for changes from now on. No NIC is attached yet.
    pub(super) fn new() -> io::Result<Self> {
        let mut network = Self {
            monitor: Monitor::new()?,
            netlink: Netlink::new()?,
            ports: Vec::new(),
            mtu_most: u32::MAX,
            links: BTreeMap::new(),
            addresses: BTreeSet::new(),
            routes: Routes::default(),
            neighbours: HashMap::new(),
            has_news: false,
        };
        network.links = network.read_links()?;
        network.addresses = network.read_addresses()?;
        Ok(network)
    }

    /// The NICs to attach to: those that are named, or all that can be used.
    pub(super) fn choose(&self, names: &[String]) -> Result<Vec<String>, StartError> {
        let has_address = |link: &Link| self.addresses.iter().any(|(ifindex, _)| *ifindex == link.ifindex);
        let usable = |link: &&Link| link.up && link.mac.is_some() && has_address(link);
        if names.is_empty() {
            let chosen: Vec<String> =
                self.links.values().filter(usable).map(|link| link.name.clone()).collect();
            return if chosen.is_empty() { Err(StartError::NoNic) } else { Ok(chosen) };
        }
        for name in names {
            let Some(link) = self.links.values().find(|link| link.name == *name) else {
                let others = self.links.values().map(|link| link.name.clone()).collect();
                return Err(StartError::NoSuchNic { name: name.clone(), others });
            };
            if !link.enabled {
                return Err(StartError::NicDown { name: name.clone() });
            }
            if link.mac.is_none() {
                return Err(StartError::NotEthernet { name: name.clone() });
            }
        }
        Ok(names.to_vec())
    }

    /// The NICs are attached: `ifindexes` in order of [`PortId`], which take IP packets of up to `mtu_most` bytes whatever their
    /// MTU is. What there is comes as changes from nothing.
    pub(super) fn attach(&mut self, ifindexes: Vec<u32>, mtu_most: u32) -> io::Result<Vec<Change>> {
        self.ports = ifindexes;
        self.mtu_most = mtu_most;
        self.links.clear();
        self.addresses.clear();
        let mut changes = self.refresh(true)?;
        // Down is no change from nothing, but it isn't what a worker takes for granted either.
        let down = self.ports.iter().filter(|ifindex| !self.links.get(ifindex).is_some_and(|link| link.up));
        let down = down.filter_map(|ifindex| self.port(*ifindex));
        changes.extend(down.map(|port| Change::Link(LinkEvent { port, up: false })));
        Ok(changes)
    }

    /// What has changed since the last call.
    pub(super) fn poll_changes(&mut self) -> io::Result<Vec<Change>> {
        let mut changes = Vec::new();
        let (mut stale, mut lost) = (false, false);
        for event in self.monitor.poll_events() {
            self.has_news = true;
            match event {
                Event::Neighbour(neighbour) => changes.extend(self.handle_neighbour(neighbour)),
                Event::NeighbourGone(gone) => {
                    changes.extend(self.handle_neighbour(Neighbour { mac: None, ..gone }));
                }
                Event::Lost => (stale, lost) = (true, true),
                // The kernel drops IPv4 routes of a link that is set down without a word: look at routes, too.
                Event::Link(_)
                | Event::LinkGone(_)
                | Event::Address(_)
                | Event::AddressGone(_)
                | Event::Routes => {
                    stale = true;
                }
            }
        }
        if stale {
            changes.extend(self.refresh(lost)?);
        }
        Ok(changes)
    }

    /// Whether the kernel has told anything since the last call, be it a change or not: what [`Network::path`] said may not hold.
    pub(super) fn take_news(&mut self) -> bool {
        std::mem::take(&mut self.has_news)
    }

    /// The way that a packet to `remote` takes; from an address of ours out of its NIC, where those are given.
    pub(super) fn way_to(&mut self, remote: IpAddr, from: Option<(IpAddr, PortId)>) -> Result<Way, NoWay> {
        let ifindex = from.and_then(|(_, port)| self.ports.get(port.index()).copied());
        let answer = self
            .netlink
            .route_to(remote, from.map(|(source, _)| source), ifindex)
            .map_err(|_| NoWay::NoRoute)?;
        if answer.local {
            return Err(NoWay::Local);
        }
        let link = self.links.get(&answer.ifindex).ok_or(NoWay::NoRoute)?;
        let port = self.port(answer.ifindex).ok_or_else(|| NoWay::OtherNic(link.name.clone()))?;
        let source =
            answer.source.filter(|source| source.is_ipv4() == remote.is_ipv4()).ok_or(NoWay::NoRoute)?;
        let mtu = answer.mtu.map_or(link.mtu, |mtu| mtu.min(link.mtu)).min(self.mtu_most);
        Ok(Way {
            port,
            ifindex: answer.ifindex,
            mtu: u16::try_from(mtu).unwrap_or(u16::MAX),
            source,
            next_hop: answer.via.unwrap_or(remote),
        })
    }

    /// The path of a way, once its next hop is resolved.
    pub(super) fn path(&self, way: &Way) -> Option<Path> {
        let neighbour = self.neighbours.get(&(way.ifindex, way.next_hop))?;
        let dst = neighbour.resolved.then_some(neighbour.mac)?;
        let src = self.links.get(&way.ifindex)?.mac?;
        Some(Path { port: way.port, link: LinkHeader { src, dst, vlan: None }, mtu: way.mtu })
    }

    /// Makes the kernel resolve the next hop, or check that it is still where it was: packets of ours don't tell it.
    pub(super) fn use_next_hop(&mut self, way: &Way) {
        // A failure shows as a next hop that isn't resolved in time.
        let _ = self.netlink.use_neighbour(way.ifindex, way.next_hop);
    }

    /// The name of a port's NIC.
    pub(super) fn name(&self, port: PortId) -> String {
        let link = self.ports.get(port.index()).and_then(|ifindex| self.links.get(ifindex));
        link.map_or_else(|| port.to_string(), |link| link.name.clone())
    }

    /// The port of an attached NIC.
    pub(super) fn port_named(&self, name: &str) -> Option<PortId> {
        let link = self.links.values().find(|link| link.name == name)?;
        self.port(link.ifindex)
    }

    /// The names of all attached NICs.
    pub(super) fn names(&self) -> Vec<String> {
        (0..self.ports.len()).map(|place| self.name(PortId(place as u16))).collect()
    }

    /// Whether `addr` is an address of an attached NIC.
    pub(super) fn is_ours(&self, addr: IpAddr) -> bool {
        self.addresses.iter().any(|(ifindex, own)| *own == addr && self.port(*ifindex).is_some())
    }

    fn port(&self, ifindex: u32) -> Option<PortId> {
        self.ports.iter().position(|own| *own == ifindex).map(|place| PortId(place as u16))
    }

    fn handle_neighbour(&mut self, neighbour: Neighbour) -> Option<Change> {
        let Neighbour { ifindex, addr, mac } = neighbour;
        let port = self.port(ifindex)?;
        let key = (ifindex, addr);
        let Some(after) = mac else {
            // The kernel's search failed, or it forgot. Flows that use the link address find out by themselves.
            if let Some(known) = self.neighbours.get_mut(&key) {
                known.resolved = false;
            }
            self.forget();
            return None;
        };
        let before = self.neighbours.insert(key, Known { mac: after, resolved: true })?.mac;
        (before != after).then_some(Change::Neighbour { port, before, after })
    }

    /// Keeps the memory of neighbours that the kernel has forgotten within its limit.
    fn forget(&mut self) {
        if self.neighbours.values().filter(|known| !known.resolved).count() > FORGOTTEN_MAX {
            self.neighbours.retain(|_, known| known.resolved);
        }
    }

    fn read_links(&mut self) -> io::Result<BTreeMap<u32, Link>> {
        Ok(self.netlink.links()?.into_iter().map(|link| (link.ifindex, link)).collect())
    }

    fn read_addresses(&mut self) -> io::Result<Addresses> {
        let addresses = self.netlink.addresses()?.into_iter().filter(|address| address.usable);
        Ok(addresses.map(|address| (address.ifindex, address.addr)).collect())
    }

    /// Reads everything (neighbours only where asked to: they are many, and come as events) and tells what is new.
    /// Links that went down come first, then addresses that went, routes, addresses that came, links that came up:
    /// so nothing is tried on what is not there.
    fn refresh(&mut self, neighbours: bool) -> io::Result<Vec<Change>> {
        let (links, addresses) = (self.read_links()?, self.read_addresses()?);
        let mut changes = self.link_changes(&links, false);
        changes.extend(self.address_changes(&addresses, &self.addresses, false));
        let came = self.address_changes(&self.addresses, &addresses, true);
        let back = self.link_changes(&links, true);
        (self.links, self.addresses) = (links, addresses);

        let routes = self.netlink.routes()?.into_iter().map(|route| Route {
            port: self.port(route.ifindex),
            prefix: route.prefix,
            via: route.via,
        });
        let routes = Routes::new(routes.collect());
        if routes != self.routes {
            self.routes = routes.clone();
            changes.push(Change::Routes(routes));
        }
        changes.extend(came);
        changes.extend(back);
        if neighbours {
            for neighbour in self.netlink.neighbours()? {
                changes.extend(self.handle_neighbour(neighbour));
            }
        }
        Ok(changes)
    }

    /// The ports that are up in `links` (or down) and were not before.
    fn link_changes(&self, links: &BTreeMap<u32, Link>, up: bool) -> Vec<Change> {
        let is_up =
            |links: &BTreeMap<u32, Link>, ifindex: u32| links.get(&ifindex).is_some_and(|link| link.up);
        let turned = |ifindex: &&u32| is_up(links, **ifindex) == up && is_up(&self.links, **ifindex) != up;
        let ports = self.ports.iter().filter(turned).filter_map(|ifindex| self.port(*ifindex));
        ports.map(|port| Change::Link(LinkEvent { port, up })).collect()
    }

    /// The addresses of attached NICs that are in `to` and not in `from`.
    fn address_changes(&self, from: &Addresses, to: &Addresses, added: bool) -> Vec<Change> {
        let different = to.difference(from).filter_map(|(ifindex, addr)| {
            let port = self.port(*ifindex)?;
            Some(Change::Address(AddressEvent { port, addr: *addr, added }))
        });
        different.collect()
    }
}

impl AsFd for Network {
    fn as_fd(&self) -> BorrowedFd<'_> {
        self.monitor.as_fd()
    }
}

#[cfg(test)]
mod tests;
