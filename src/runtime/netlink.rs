//! The kernel's links, addresses, routes and neighbours by rtnetlink: [`Netlink`] asks, [`Monitor`] listens.

use crate::base::time::Duration;
use crate::pm::Prefix;
use crate::wire::MacAddr;
use netlink_packet_core::{
    NLM_F_ACK, NLM_F_CREATE, NLM_F_DUMP, NLM_F_REQUEST, NetlinkHeader, NetlinkMessage, NetlinkPayload,
};
use netlink_packet_route::address::{AddressAttribute, AddressFlags, AddressMessage, AddressScope};
use netlink_packet_route::link::{LinkAttribute, LinkFlags, LinkMessage};
use netlink_packet_route::neighbour::{
    NeighbourAddress, NeighbourAttribute, NeighbourFlags, NeighbourMessage, NeighbourState,
};
use netlink_packet_route::route::{
    RouteAddress, RouteAttribute, RouteMessage, RouteMetric, RouteType, RouteVia,
};
use netlink_packet_route::{AddressFamily, RouteNetlinkMessage};
use netlink_sys::{Socket, SocketAddr, protocols::NETLINK_ROUTE};
use rustix::net::{RecvFlags, recv};
use std::io::{self, ErrorKind};
use std::net::IpAddr;
use std::os::fd::{AsFd, BorrowedFd};

/// Room for the longest datagram that the kernel makes of a dump.
const BUFFER: usize = 64 << 10;
/// The kernel answers at once; this only keeps a bug from becoming a hang.
const ANSWER_TIMEOUT: Duration = Duration::from_secs(2);
/// RTNLGRP_LINK, _NEIGH, _IPV4_IFADDR, _IPV4_ROUTE, _IPV6_IFADDR, _IPV6_ROUTE.
const GROUPS: [u32; 6] = [1, 3, 5, 7, 9, 11];

/// A network interface.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Link {
    pub(super) ifindex: u32,
    pub(super) name: String,
    /// `None`: not Ethernet.
    pub(super) mac: Option<MacAddr>,
    /// Bytes of IP packet.
    pub(super) mtu: u32,
    /// Set up by the administrator.
    pub(super) enabled: bool,
    /// There is a carrier, too: packets can pass.
    pub(super) up: bool,
    pub(super) loopback: bool,
}

/// An address of the host.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Address {
    pub(super) ifindex: u32,
    pub(super) addr: IpAddr,
    /// Of global scope, neither tentative nor a duplicate: connections can be made from it.
    pub(super) usable: bool,
}

/// A unicast route of any table.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct KernelRoute {
    pub(super) ifindex: u32,
    pub(super) prefix: Prefix,
    pub(super) via: Option<IpAddr>,
}

/// The kernel's choice for one destination.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct RouteAnswer {
    pub(super) ifindex: u32,
    /// The next hop; `None`: the destination itself.
    pub(super) via: Option<IpAddr>,
    /// The source address that the kernel would use.
    pub(super) source: Option<IpAddr>,
    /// The MTU of the route, where it has one of its own.
    pub(super) mtu: Option<u32>,
    /// The destination is an address of this host.
    pub(super) local: bool,
}

/// An entry of the neighbour table.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Neighbour {
    pub(super) ifindex: u32,
    pub(super) addr: IpAddr,
    /// `None`: not resolved, or no longer.
    pub(super) mac: Option<MacAddr>,
}

/// Something has changed.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) enum Event {
    Link(Link),
    LinkGone(u32),
    Address(Address),
    AddressGone(Address),
    /// Some route: look at all of them again.
    Routes,
    Neighbour(Neighbour),
    NeighbourGone(Neighbour),
    /// The kernel had more to tell than the socket could hold: look at everything again.
    Lost,
}

/// The addresses that connections can be made from, each with the kernel's number of its NIC.
///
/// # Errors
/// The kernel does not answer.
pub fn usable_addresses() -> io::Result<Vec<(u32, IpAddr)>> {
    let addresses = Netlink::new()?.addresses()?;
    Ok(addresses.iter().filter(|one| one.usable).map(|one| (one.ifindex, one.addr)).collect())
}

/// Asks the kernel, and waits for the answer.
#[derive(Debug)]
pub(super) struct Netlink {
    socket: Socket,
    sequence: u32,
    buffer: Vec<u8>,
}

impl Netlink {
    pub(super) fn new() -> io::Result<Self> {
        let mut socket = Socket::new(NETLINK_ROUTE)?;
        socket.bind_auto()?;
        socket.connect(&SocketAddr::new(0, 0))?;
        Ok(Self { socket, sequence: 0, buffer: vec![0; BUFFER] })
    }

    pub(super) fn links(&mut self) -> io::Result<Vec<Link>> {
        self.dump(RouteNetlinkMessage::GetLink(LinkMessage::default()), |message| match message {
            RouteNetlinkMessage::NewLink(link) => read_link(&link),
            _ => None,
        })
    }

    pub(super) fn addresses(&mut self) -> io::Result<Vec<Address>> {
        self.dump(RouteNetlinkMessage::GetAddress(AddressMessage::default()), |message| match message {
            RouteNetlinkMessage::NewAddress(address) => read_address(&address),
            _ => None,
        })
    }

    /// Unicast routes of both families and all tables.
    pub(super) fn routes(&mut self) -> io::Result<Vec<KernelRoute>> {
        let mut routes = Vec::new();
        for family in [AddressFamily::Inet, AddressFamily::Inet6] {
            let mut request = RouteMessage::default();
            request.header.address_family = family;
            let read = |message| match message {
                RouteNetlinkMessage::NewRoute(route) => Some(read_route(&route)),
                _ => None,
            };
            // A kernel without IPv6 has no such routes.
            match self.dump(RouteNetlinkMessage::GetRoute(request), read) {
                Ok(found) => routes.extend(found.into_iter().flatten()),
                Err(_) if family == AddressFamily::Inet6 => {}
                Err(error) => return Err(error),
            }
        }
        Ok(routes)
    }

    pub(super) fn neighbours(&mut self) -> io::Result<Vec<Neighbour>> {
        self.dump(RouteNetlinkMessage::GetNeighbour(NeighbourMessage::default()), |message| match message {
            RouteNetlinkMessage::NewNeighbour(neighbour) => read_neighbour(&neighbour),
            _ => None,
        })
    }

    /// The route that a packet to `remote` takes, from `source` and out of the interface `ifindex` where they are
    /// given. All rules and tables count.
    ///
    /// # Errors
    /// The kernel's: [`ErrorKind::NetworkUnreachable`] where there is none.
    pub(super) fn route_to(
        &mut self,
        remote: IpAddr,
        source: Option<IpAddr>,
        ifindex: Option<u32>,
    ) -> io::Result<RouteAnswer> {
        let mut request = RouteMessage::default();
        let bits = if remote.is_ipv4() { 32 } else { 128 };
        request.header.address_family = family(remote);
        request.header.destination_prefix_length = bits;
        request.attributes.push(RouteAttribute::Destination(RouteAddress::from(remote)));
        if let Some(source) = source {
            request.header.source_prefix_length = bits;
            request.attributes.push(RouteAttribute::Source(RouteAddress::from(source)));
        }
        request.attributes.extend(ifindex.map(RouteAttribute::Oif));
        let mut answers = self.ask(RouteNetlinkMessage::GetRoute(request), 0, |message| match message {
            RouteNetlinkMessage::NewRoute(route) => read_answer(&route),
            _ => None,
        })?;
        let answer = answers.pop().ok_or(ErrorKind::NetworkUnreachable)?;
        // The kernel doesn't repeat a source that it was given.
        Ok(RouteAnswer { source: answer.source.or(source), ..answer })
    }

    /// Makes the kernel resolve a neighbour, or check that it is still there: as if it had a packet for it
    /// (what `ip neighbour add ... use` does). The result comes as an [`Event::Neighbour`].
    pub(super) fn use_neighbour(&mut self, ifindex: u32, addr: IpAddr) -> io::Result<()> {
        let mut request = NeighbourMessage::default();
        request.header.family = family(addr);
        request.header.ifindex = ifindex;
        request.header.flags = NeighbourFlags::Use;
        request.attributes.push(NeighbourAttribute::Destination(NeighbourAddress::from(addr)));
        let flags = NLM_F_ACK | NLM_F_CREATE;
        self.ask(RouteNetlinkMessage::NewNeighbour(request), flags, |_| None::<()>).map(drop)
    }

    fn dump<T>(
        &mut self,
        request: RouteNetlinkMessage,
        read: impl FnMut(RouteNetlinkMessage) -> Option<T>,
    ) -> io::Result<Vec<T>> {
        self.ask(request, NLM_F_DUMP, read)
    }

    /// Sends one request and collects what `read` makes of the answers.
    fn ask<T>(
        &mut self,
        request: RouteNetlinkMessage,
        flags: u16,
        mut read: impl FnMut(RouteNetlinkMessage) -> Option<T>,
    ) -> io::Result<Vec<T>> {
        self.sequence = self.sequence.wrapping_add(1);
        let mut header = NetlinkHeader::default();
        header.flags = NLM_F_REQUEST | flags;
        header.sequence_number = self.sequence;
        let mut message = NetlinkMessage::new(header, NetlinkPayload::from(request));
        message.finalize();
        let mut bytes = vec![0; message.buffer_len()];
        message.serialize(&mut bytes);
        self.socket.send(&bytes, 0)?;

        let mut found = Vec::new();
        loop {
            super::wake::sleep(&mut [super::wake::readable(&self.socket)], Some(ANSWER_TIMEOUT));
            let (len, _) = recv(&self.socket, &mut *self.buffer, RecvFlags::DONTWAIT)?;
            for message in messages(&self.buffer[..len]).filter(|m| m.header.sequence_number == self.sequence)
            {
                match message.payload {
                    NetlinkPayload::InnerMessage(inner) => found.extend(read(inner)),
                    NetlinkPayload::Done(_) => return Ok(found),
                    NetlinkPayload::Error(error) if error.code.is_none() => return Ok(found),
                    NetlinkPayload::Error(error) => return Err(error.to_io()),
                    NetlinkPayload::Overrun(_) => return Err(ErrorKind::OutOfMemory.into()),
                    _ => {}
                }
                if flags == 0 {
                    return Ok(found);
                }
            }
        }
    }
}

/// Hears of changes.
#[derive(Debug)]
pub(super) struct Monitor {
    socket: Socket,
    buffer: Vec<u8>,
}

impl Monitor {
    pub(super) fn new() -> io::Result<Self> {
        let mut socket = Socket::new(NETLINK_ROUTE)?;
        socket.bind_auto()?;
        for group in GROUPS {
            socket.add_membership(group)?;
        }
        // A burst of changes (hundreds of routes) fits; what doesn't is heard of as `Lost`. Best effort: the limit
        // of the system may be lower.
        let _ = socket.set_rx_buf_sz(1 << 20);
        Ok(Self { socket, buffer: vec![0; BUFFER] })
    }

    /// What has changed since it was last asked. Never waits.
    pub(super) fn poll_events(&mut self) -> Vec<Event> {
        let mut events = Vec::new();
        loop {
            match recv(&self.socket, &mut *self.buffer, RecvFlags::DONTWAIT) {
                Ok((len, _)) => events
                    .extend(messages(&self.buffer[..len]).filter_map(|message| read_event(message.payload))),
                Err(rustix::io::Errno::NOBUFS) => events.push(Event::Lost),
                Err(_) => return events,
            }
        }
    }
}

impl AsFd for Monitor {
    fn as_fd(&self) -> BorrowedFd<'_> {
        self.socket.as_fd()
    }
}

/// The messages of a datagram. One that this version of the netlink crates can't read is left out.
fn messages(mut bytes: &[u8]) -> impl Iterator<Item = NetlinkMessage<RouteNetlinkMessage>> + '_ {
    std::iter::from_fn(move || {
        loop {
            let len = u32::from_ne_bytes(bytes.get(..4)?.try_into().ok()?) as usize;
            // Every message is longer than its own header of 16 bytes.
            let message = bytes.get(..len).filter(|_| len >= 16)?;
            bytes = bytes.get(len.next_multiple_of(4)..).unwrap_or(&[]);
            if let Ok(message) = NetlinkMessage::deserialize(message) {
                return Some(message);
            }
        }
    })
}

fn read_event(payload: NetlinkPayload<RouteNetlinkMessage>) -> Option<Event> {
    let NetlinkPayload::InnerMessage(message) = payload else { return None };
    match message {
        RouteNetlinkMessage::NewLink(link) => read_link(&link).map(Event::Link),
        RouteNetlinkMessage::DelLink(link) => Some(Event::LinkGone(link.header.index)),
        RouteNetlinkMessage::NewAddress(address) => read_address(&address).map(Event::Address),
        RouteNetlinkMessage::DelAddress(address) => read_address(&address).map(Event::AddressGone),
        RouteNetlinkMessage::NewRoute(_) | RouteNetlinkMessage::DelRoute(_) => Some(Event::Routes),
        RouteNetlinkMessage::NewNeighbour(neighbour) => read_neighbour(&neighbour).map(Event::Neighbour),
        RouteNetlinkMessage::DelNeighbour(neighbour) => read_neighbour(&neighbour).map(Event::NeighbourGone),
        _ => None,
    }
}

fn family(addr: IpAddr) -> AddressFamily {
    if addr.is_ipv4() { AddressFamily::Inet } else { AddressFamily::Inet6 }
}

fn read_mac(bytes: &[u8]) -> Option<MacAddr> {
    bytes.try_into().ok().map(MacAddr)
}

fn read_link(message: &LinkMessage) -> Option<Link> {
    let flags = message.header.flags;
    // Bridges report their ports in messages of their own family; those tell nothing of the link's state.
    if message.header.interface_family != AddressFamily::Unspec {
        return None;
    }
    let mut link = Link {
        ifindex: message.header.index,
        name: String::new(),
        mac: None,
        mtu: 0,
        enabled: flags.contains(LinkFlags::Up),
        up: flags.contains(LinkFlags::Up | LinkFlags::LowerUp),
        loopback: flags.contains(LinkFlags::Loopback),
    };
    for attribute in &message.attributes {
        match attribute {
            LinkAttribute::IfName(name) => link.name.clone_from(name),
            LinkAttribute::Address(bytes) => link.mac = read_mac(bytes).filter(|_| !link.loopback),
            LinkAttribute::Mtu(mtu) => link.mtu = *mtu,
            _ => {}
        }
    }
    Some(link)
}

fn read_address(message: &AddressMessage) -> Option<Address> {
    let (mut local, mut remote) = (None, None);
    let mut flags = AddressFlags::from_bits_retain(u32::from(message.header.flags.bits()));
    for attribute in &message.attributes {
        match attribute {
            AddressAttribute::Local(addr) => local = Some(*addr),
            AddressAttribute::Address(addr) => remote = Some(*addr),
            AddressAttribute::Flags(all) => flags = *all,
            _ => {}
        }
    }
    let unfit = AddressFlags::Tentative | AddressFlags::Dadfailed | AddressFlags::Deprecated;
    let usable = message.header.scope == AddressScope::Universe && !flags.intersects(unfit);
    // On a point-to-point link IFA_ADDRESS is the other end.
    Some(Address { ifindex: message.header.index, addr: local.or(remote)?, usable })
}

fn read_addr(addr: &RouteAddress) -> Option<IpAddr> {
    match addr {
        RouteAddress::Inet(v4) => Some(IpAddr::V4(*v4)),
        RouteAddress::Inet6(v6) => Some(IpAddr::V6(*v6)),
        _ => None,
    }
}

/// The next hop, from either of the attributes that may hold it.
fn read_gateway(attribute: &RouteAttribute) -> Option<IpAddr> {
    match attribute {
        RouteAttribute::Gateway(addr) => read_addr(addr),
        RouteAttribute::Via(RouteVia::Inet(v4)) => Some(IpAddr::V4(*v4)),
        RouteAttribute::Via(RouteVia::Inet6(v6)) => Some(IpAddr::V6(*v6)),
        _ => None,
    }
}

/// One route for each next hop; none unless it is unicast.
fn read_route(message: &RouteMessage) -> Vec<KernelRoute> {
    let unspecified = match message.header.address_family {
        AddressFamily::Inet => IpAddr::from([0; 4]),
        AddressFamily::Inet6 => IpAddr::from([0; 16]),
        _ => return Vec::new(),
    };
    if message.header.kind != RouteType::Unicast {
        return Vec::new();
    }
    let (mut destination, mut ifindex, mut via, mut hops) = (unspecified, None, None, Vec::new());
    for attribute in &message.attributes {
        match attribute {
            RouteAttribute::Destination(addr) => destination = read_addr(addr).unwrap_or(unspecified),
            RouteAttribute::Oif(index) => ifindex = Some(*index),
            RouteAttribute::MultiPath(all) => {
                let hop = |hop: &netlink_packet_route::route::RouteNextHop| {
                    (hop.interface_index, hop.attributes.iter().find_map(read_gateway))
                };
                hops.extend(all.iter().map(hop));
            }
            other => via = via.or(read_gateway(other)),
        }
    }
    hops.extend(ifindex.map(|ifindex| (ifindex, via)));
    let prefix = Prefix::new(destination, message.header.destination_prefix_length);
    hops.into_iter().map(|(ifindex, via)| KernelRoute { ifindex, prefix, via }).collect()
}

fn read_answer(message: &RouteMessage) -> Option<RouteAnswer> {
    let mut answer = RouteAnswer {
        ifindex: 0,
        via: None,
        source: None,
        mtu: None,
        local: message.header.kind == RouteType::Local,
    };
    for attribute in &message.attributes {
        match attribute {
            RouteAttribute::Oif(index) => answer.ifindex = *index,
            RouteAttribute::PrefSource(addr) => answer.source = read_addr(addr),
            RouteAttribute::Metrics(metrics) => {
                answer.mtu = metrics.iter().find_map(|metric| match metric {
                    RouteMetric::Mtu(mtu) => Some(*mtu),
                    _ => None,
                });
            }
            other => answer.via = answer.via.or(read_gateway(other)),
        }
    }
    let usable = matches!(message.header.kind, RouteType::Unicast | RouteType::Local);
    (usable && answer.ifindex != 0).then_some(answer)
}

fn read_neighbour(message: &NeighbourMessage) -> Option<Neighbour> {
    let (mut addr, mut mac) = (None, None);
    for attribute in &message.attributes {
        match attribute {
            NeighbourAttribute::Destination(NeighbourAddress::Inet(v4)) => addr = Some(IpAddr::V4(*v4)),
            NeighbourAttribute::Destination(NeighbourAddress::Inet6(v6)) => addr = Some(IpAddr::V6(*v6)),
            NeighbourAttribute::LinkLayerAddress(bytes) => mac = read_mac(bytes),
            _ => {}
        }
    }
    let resolved = match message.header.state {
        NeighbourState::Reachable
        | NeighbourState::Stale
        | NeighbourState::Delay
        | NeighbourState::Probe
        | NeighbourState::Permanent
        | NeighbourState::Noarp => true,
        NeighbourState::Incomplete | NeighbourState::Failed | NeighbourState::None => false,
        _ => false,
    };
    Some(Neighbour { ifindex: message.header.ifindex, addr: addr?, mac: mac.filter(|_| resolved) })
}

#[cfg(test)]
mod tests;
