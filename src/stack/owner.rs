//! [`owner`]: which worker a packet belongs to. The steering program in `bpf/` answers the same question in the kernel;
//! this is the same function in Rust, for the simulator, and for a test that compares the two packet by packet. It
//! walks the headers by itself, as lightly as the program does: what it lets through, [`crate::wire::parse`] checks.

use crate::base::WorkerId;
use crate::wire::mptcp::{KIND, Token};
use crate::wire::{Endpoint, FourTuple, TcpFlags};
use std::collections::HashMap;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};

/// Why a packet went where it went. The numbers are those of `enum reason` in `bpf/maps.h`.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
#[repr(u32)]
pub enum Reason {
    /// Passed: neither IPv4 nor IPv6.
    NotIp,
    /// Passed: headers that are cut off or contradict each other.
    Malformed,
    /// Passed: a fragment; the kernel reassembles.
    Fragment,
    /// Passed: neither TCP nor an ICMP error about TCP.
    NotTcp,
    /// Passed: to an address and port that are not ours.
    NotLocal,
    /// Passed: plain TCP to a port where we take MPTCP only.
    PlainTcp,
    /// To the worker that the token of an MP_JOIN names.
    Join,
    /// To the worker that the flow is pinned to.
    Flow,
    /// To the home worker of the queue.
    Home,
    /// An ICMP error, to the worker of the flow that it quotes.
    Icmp,
    /// Dropped: ours, but the worker has no socket there.
    NoSocket,
}

impl Reason {
    /// All of them, in the order of their numbers.
    pub const ALL: [Reason; 11] = [
        Reason::NotIp,
        Reason::Malformed,
        Reason::Fragment,
        Reason::NotTcp,
        Reason::NotLocal,
        Reason::PlainTcp,
        Reason::Join,
        Reason::Flow,
        Reason::Home,
        Reason::Icmp,
        Reason::NoSocket,
    ];

    /// The counter's name.
    pub const fn name(self) -> &'static str {
        match self {
            Reason::NotIp => "passed-not-ip",
            Reason::Malformed => "passed-malformed",
            Reason::Fragment => "passed-fragment",
            Reason::NotTcp => "passed-not-tcp",
            Reason::NotLocal => "passed-not-local",
            Reason::PlainTcp => "passed-plain-tcp",
            Reason::Join => "redirected-join",
            Reason::Flow => "redirected-flow",
            Reason::Home => "redirected-home",
            Reason::Icmp => "redirected-icmp",
            Reason::NoSocket => "dropped-no-socket",
        }
    }
}

/// The answer.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Verdict {
    /// Not ours: the kernel's.
    Pass(Reason),
    /// Ours: this worker's, by this rule.
    Worker(WorkerId, Reason),
    /// Ours, but nobody is there to take it. The kernel knows no such connection and would reset it, so it is dropped.
    Drop(Reason),
}

impl Verdict {
    /// Why.
    pub fn reason(self) -> Reason {
        match self {
            Verdict::Pass(reason) | Verdict::Worker(_, reason) | Verdict::Drop(reason) => reason,
        }
    }
}

/// The worker that owns the rings of a queue. NICs with few queues have their homes at different workers.
pub fn home(port: usize, queue: usize, workers: usize) -> WorkerId {
    WorkerId(((port + queue) % workers) as u16)
}

/// The worker that owns the connection of a token.
pub fn token_owner(token: Token, workers: u32) -> WorkerId {
    WorkerId((token.0 % workers) as u16)
}

/// [`Tables::pin`] found no room.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[error("{0} flows are pinned, which is the most")]
pub struct FlowsFull(pub usize);

/// What steering decides by: the program's `local_ports`, `local_map` and `flow_map`.
#[derive(Debug, Clone)]
pub struct Tables {
    workers: u32,
    flows_max: usize,
    locals: Locals,
    flows: HashMap<FlowKey, WorkerId>,
}

/// `LOCAL_MPTCP_ONLY` of `bpf/maps.h`: of a port or an end that is ours only MPTCP is.
pub const LOCAL_MPTCP_ONLY: u32 = 1;
/// `LOCAL_ANYWHERE` of `bpf/maps.h`: a port is ours at any address.
pub const LOCAL_ANYWHERE: u32 = 2;
/// `LOCAL_SOMEWHERE` of `bpf/maps.h`: a port is ours at some address, and `local_map` knows at which.
pub const LOCAL_SOMEWHERE: u32 = 4;

/// The local ends that are ours, in the form in which the program looks for them: first by port alone, which settles it
/// for all that is not ours and for ports that are ours at any address; then by address and port.
#[derive(Debug, Clone, Default)]
pub struct Locals {
    /// Ports that are ours at any address, with their flags.
    anywhere: HashMap<u16, u32>,
    /// Ends that are ours, with their flags.
    at_one_address: HashMap<LocalKey, u32>,
    /// How many of those have this port.
    somewhere: HashMap<u16, usize>,
}

impl Locals {
    /// TCP to `local` is ours; an unspecified address means any, of either version.
    pub fn steer(&mut self, local: Endpoint, mptcp_only: bool) {
        let flags = if mptcp_only { LOCAL_MPTCP_ONLY } else { 0 };
        if local.addr.is_unspecified() {
            self.anywhere.insert(local.port, flags);
        } else if self.at_one_address.insert(local_key(local), flags).is_none() {
            *self.somewhere.entry(local.port).or_default() += 1;
        }
    }

    /// Forgets [`Locals::steer`].
    pub fn unsteer(&mut self, local: Endpoint) {
        if local.addr.is_unspecified() {
            self.anywhere.remove(&local.port);
        } else if self.at_one_address.remove(&local_key(local)).is_some()
            && let Some(count) = self.somewhere.get_mut(&local.port)
        {
            *count -= 1;
            if *count == 0 {
                self.somewhere.remove(&local.port);
            }
        }
    }

    /// What `local_ports` says of a port.
    pub fn kinds(&self, port: u16) -> u32 {
        let anywhere = self.anywhere.get(&port).map_or(0, |flags| LOCAL_ANYWHERE | flags);
        anywhere | if self.somewhere.contains_key(&port) { LOCAL_SOMEWHERE } else { 0 }
    }

    /// What `local_map` says of an end that is ours at its own address.
    pub fn at_one_address(&self, local: Endpoint) -> Option<u32> {
        self.at_one_address.get(&local_key(local)).copied()
    }

    /// The flags of a local end; `None` when it is not ours.
    fn find(&self, local: Endpoint) -> Option<u32> {
        self.at_one_address(local).or_else(|| self.anywhere.get(&local.port).copied())
    }
}

/// The tables' keys are bytes, as in the program: so one function makes them for both.
pub type LocalKey = [u8; 20];
/// Both ends of a flow.
pub type FlowKey = [u8; 36];

/// A local end as `struct local` of `bpf/maps.h`. IPv4 addresses are v4-mapped.
pub fn local_key(local: Endpoint) -> LocalKey {
    let mut key = LocalKey::default();
    key[..16].copy_from_slice(&mapped(local.addr));
    key[16..18].copy_from_slice(&local.port.to_be_bytes());
    key
}

/// Both ends as `struct flow` of `bpf/maps.h`.
pub fn flow_key(tuple: FourTuple) -> FlowKey {
    let mut key = [0; 36];
    key[..16].copy_from_slice(&mapped(tuple.local.addr));
    key[16..32].copy_from_slice(&mapped(tuple.remote.addr));
    key[32..34].copy_from_slice(&tuple.local.port.to_be_bytes());
    key[34..].copy_from_slice(&tuple.remote.port.to_be_bytes());
    key
}

fn mapped(addr: IpAddr) -> [u8; 16] {
    match addr {
        IpAddr::V4(addr) => addr.to_ipv6_mapped().octets(),
        IpAddr::V6(addr) => addr.octets(),
    }
}

impl Tables {
    /// Empty tables for so many workers and, at most, so many pinned flows.
    pub fn new(workers: usize, flows_max: usize) -> Self {
        assert!(workers > 0 && workers <= usize::from(u16::MAX), "there is at least one worker");
        Self { workers: workers as u32, flows_max, locals: Locals::default(), flows: HashMap::new() }
    }

    /// TCP to `local` is ours; an unspecified address means any, of either version.
    pub fn steer_local(&mut self, local: Endpoint, mptcp_only: bool) {
        self.locals.steer(local, mptcp_only);
    }

    /// Forgets [`Tables::steer_local`].
    pub fn unsteer_local(&mut self, local: Endpoint) {
        self.locals.unsteer(local);
    }

    /// Packets of `tuple` go to `worker`.
    ///
    /// # Errors
    /// When the table is full and `tuple` is not in it.
    pub fn pin(&mut self, tuple: FourTuple, worker: WorkerId) -> Result<(), FlowsFull> {
        let key = flow_key(tuple);
        if self.flows.len() >= self.flows_max && !self.flows.contains_key(&key) {
            return Err(FlowsFull(self.flows_max));
        }
        self.flows.insert(key, worker);
        Ok(())
    }

    /// Forgets [`Tables::pin`].
    pub fn unpin(&mut self, tuple: FourTuple) {
        self.flows.remove(&flow_key(tuple));
    }
}

/// Which worker `packet` (an Ethernet frame) belongs to, when it arrives at a queue whose home is `home`; `None` is a
/// queue that we have no sockets on.
pub fn owner(packet: &[u8], tables: &Tables, home: Option<WorkerId>) -> Verdict {
    let segment = match find_segment(packet) {
        Ok(segment) => segment,
        Err(reason) => return Verdict::Pass(reason),
    };
    let Some(flags) = tables.locals.find(segment.tuple.local) else {
        return Verdict::Pass(Reason::NotLocal);
    };
    let mptcp_only = flags & LOCAL_MPTCP_ONLY != 0;
    let (worker, reason) = match segment.mptcp {
        Mptcp::Join(token) => (Some(token_owner(token, tables.workers)), Reason::Join),
        Mptcp::None | Mptcp::Capable => match tables.flows.get(&flow_key(segment.tuple)) {
            Some(pinned) => (Some(*pinned), Reason::Flow),
            None if mptcp_only && segment.mptcp == Mptcp::None => return Verdict::Pass(Reason::PlainTcp),
            None => (home, Reason::Home),
        },
    };
    match worker {
        Some(worker) if home.is_some() && u32::from(worker.0) < tables.workers => {
            Verdict::Worker(worker, if segment.quoted { Reason::Icmp } else { reason })
        }
        _ => Verdict::Drop(Reason::NoSocket),
    }
}

/// The MPTCP option of a SYN.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Mptcp {
    None,
    Capable,
    Join(Token),
}

/// A segment that arrived, or one of ours that an ICMP error quotes.
struct Segment {
    /// From our side.
    tuple: FourTuple,
    mptcp: Mptcp,
    quoted: bool,
}

const ETHERTYPE_IPV4: u16 = 0x0800;
const ETHERTYPE_IPV6: u16 = 0x86dd;
const ETHERTYPE_VLAN: u16 = 0x8100;
const PROTOCOL_ICMPV4: u8 = 1;
const PROTOCOL_TCP: u8 = 6;
const PROTOCOL_FRAGMENT: u8 = 44;
const PROTOCOL_ICMPV6: u8 = 58;
const IPV4_HEADER: usize = 20;
const IPV6_HEADER: usize = 40;
const TCP_HEADER: usize = 20;
const ICMP_HEADER: usize = 8;
/// What an ICMP error quotes at least: the ports and the sequence number.
const QUOTED_TCP: usize = 8;

/// What lies behind an IP header: the bytes that are there, and how many there should be.
struct Payload<'a> {
    bytes: &'a [u8],
    len: usize,
}

fn find_segment(packet: &[u8]) -> Result<Segment, Reason> {
    let mut protocol = u16_at(packet, 12)?;
    let mut ip = 14;
    if protocol == ETHERTYPE_VLAN {
        protocol = u16_at(packet, 16)?;
        ip = 18;
    }
    match protocol {
        ETHERTYPE_IPV4 => find_in_ipv4(&packet[ip..]),
        ETHERTYPE_IPV6 => find_in_ipv6(&packet[ip..]),
        _ => Err(Reason::NotIp),
    }
}

/// The header's length, when it and the packet's length can be.
fn ipv4_header(bytes: &[u8]) -> Result<usize, Reason> {
    let fixed = bytes.get(..IPV4_HEADER).ok_or(Reason::Malformed)?;
    let header = usize::from(fixed[0] & 0x0f) * 4;
    if fixed[0] >> 4 != 4 || header < IPV4_HEADER { Err(Reason::Malformed) } else { Ok(header) }
}

fn is_ipv4_fragment(bytes: &[u8]) -> Result<bool, Reason> {
    Ok(u16_at(bytes, 6)? & 0x3fff != 0)
}

fn find_in_ipv4(bytes: &[u8]) -> Result<Segment, Reason> {
    let header = ipv4_header(bytes)?;
    let total = usize::from(u16_at(bytes, 2)?);
    if total < header {
        return Err(Reason::Malformed);
    }
    if is_ipv4_fragment(bytes)? {
        return Err(Reason::Fragment);
    }
    let payload = Payload { bytes: bytes.get(header..).unwrap_or(&[]), len: total - header };
    match bytes[9] {
        PROTOCOL_TCP => find_in_tcp(&payload, ipv4_at(bytes, 16)?, ipv4_at(bytes, 12)?),
        PROTOCOL_ICMPV4 => find_in_icmpv4(&payload),
        _ => Err(Reason::NotTcp),
    }
}

fn find_in_ipv6(bytes: &[u8]) -> Result<Segment, Reason> {
    let fixed = bytes.get(..IPV6_HEADER).ok_or(Reason::Malformed)?;
    if fixed[0] >> 4 != 6 {
        return Err(Reason::Malformed);
    }
    let payload = Payload { bytes: &bytes[IPV6_HEADER..], len: usize::from(u16_at(bytes, 4)?) };
    match fixed[6] {
        PROTOCOL_TCP => find_in_tcp(&payload, ipv6_at(bytes, 24)?, ipv6_at(bytes, 8)?),
        PROTOCOL_ICMPV6 => find_in_icmpv6(&payload),
        PROTOCOL_FRAGMENT => Err(Reason::Fragment),
        // RFC 8200 §4: extension headers are the kernel's, so a segment behind one is not ours.
        _ => Err(Reason::NotTcp),
    }
}

fn find_in_tcp(payload: &Payload<'_>, local: IpAddr, remote: IpAddr) -> Result<Segment, Reason> {
    let fixed = payload.bytes.get(..TCP_HEADER).ok_or(Reason::Malformed)?;
    let header = usize::from(fixed[12] >> 4) * 4;
    if header < TCP_HEADER || header > payload.len || header > payload.bytes.len() {
        return Err(Reason::Malformed);
    }
    let tuple = FourTuple {
        local: Endpoint::new(local, u16_at(fixed, 2)?),
        remote: Endpoint::new(remote, u16_at(fixed, 0)?),
    };
    let flags = TcpFlags::from_bits(fixed[13]);
    let is_first =
        flags.contains(TcpFlags::SYN) && !flags.intersects(TcpFlags::ACK | TcpFlags::RST | TcpFlags::FIN);
    let mptcp = if is_first { find_mptcp(&payload.bytes[TCP_HEADER..header]) } else { Mptcp::None };
    Ok(Segment { tuple, mptcp, quoted: false })
}

/// Looks for MP_CAPABLE or MP_JOIN; whichever comes first counts.
fn find_mptcp(mut options: &[u8]) -> Mptcp {
    loop {
        let len = match options {
            [] | [0, ..] | [_] => return Mptcp::None,
            [1, rest @ ..] => {
                options = rest;
                continue;
            }
            [_, len, ..] => usize::from(*len),
        };
        if len < 2 || len > options.len() {
            return Mptcp::None;
        }
        let (option, rest) = options.split_at(len);
        match option {
            [KIND, _, subtype, _, ..] if subtype >> 4 == 0 => return Mptcp::Capable,
            // RFC 8684 §3.2: only the SYN's form has 12 bytes.
            [KIND, 12, subtype, _, a, b, c, d, ..] if subtype >> 4 == 1 => {
                return Mptcp::Join(Token(u32::from_be_bytes([*a, *b, *c, *d])));
            }
            _ => options = rest,
        }
    }
}

fn find_in_icmpv4(payload: &Payload<'_>) -> Result<Segment, Reason> {
    /// RFC 792: destination unreachable, with "fragmentation needed" among its codes.
    const UNREACHABLE: u8 = 3;
    if payload.len < ICMP_HEADER || payload.bytes.len() < ICMP_HEADER {
        return Err(Reason::Malformed);
    }
    if payload.bytes[0] != UNREACHABLE {
        return Err(Reason::NotTcp);
    }
    let quote = &payload.bytes[ICMP_HEADER..];
    let header = ipv4_header(quote)?;
    if payload.len < ICMP_HEADER + header {
        return Err(Reason::Malformed);
    }
    if is_ipv4_fragment(quote)? {
        return Err(Reason::Fragment);
    }
    if quote[9] != PROTOCOL_TCP {
        return Err(Reason::NotTcp);
    }
    find_in_quote(payload, ICMP_HEADER + header, ipv4_at(quote, 12)?, ipv4_at(quote, 16)?)
}

fn find_in_icmpv6(payload: &Payload<'_>) -> Result<Segment, Reason> {
    /// RFC 4443 §3.1 and §3.2: destination unreachable, packet too big.
    const UNREACHABLE: u8 = 1;
    const TOO_BIG: u8 = 2;
    if payload.len < ICMP_HEADER || payload.bytes.len() < ICMP_HEADER {
        return Err(Reason::Malformed);
    }
    if !matches!(payload.bytes[0], UNREACHABLE | TOO_BIG) {
        return Err(Reason::NotTcp);
    }
    let quote = &payload.bytes[ICMP_HEADER..];
    let header = ICMP_HEADER + IPV6_HEADER;
    if quote.len() < IPV6_HEADER || quote[0] >> 4 != 6 || payload.len < header {
        return Err(Reason::Malformed);
    }
    match quote[6] {
        PROTOCOL_TCP => find_in_quote(payload, header, ipv6_at(quote, 8)?, ipv6_at(quote, 24)?),
        PROTOCOL_FRAGMENT => Err(Reason::Fragment),
        _ => Err(Reason::NotTcp),
    }
}

/// The quoted TCP header begins at `tcp`. We were its source.
fn find_in_quote(
    payload: &Payload<'_>,
    tcp: usize,
    local: IpAddr,
    remote: IpAddr,
) -> Result<Segment, Reason> {
    let quoted = payload.bytes.get(tcp..tcp + QUOTED_TCP).ok_or(Reason::Malformed)?;
    if payload.len - tcp < QUOTED_TCP {
        return Err(Reason::Malformed);
    }
    let tuple = FourTuple {
        local: Endpoint::new(local, u16_at(quoted, 0)?),
        remote: Endpoint::new(remote, u16_at(quoted, 2)?),
    };
    Ok(Segment { tuple, mptcp: Mptcp::None, quoted: true })
}

fn u16_at(bytes: &[u8], at: usize) -> Result<u16, Reason> {
    let field = bytes.get(at..).and_then(<[u8]>::first_chunk).ok_or(Reason::Malformed)?;
    Ok(u16::from_be_bytes(*field))
}

fn ipv4_at(bytes: &[u8], at: usize) -> Result<IpAddr, Reason> {
    let field: &[u8; 4] = bytes.get(at..).and_then(<[u8]>::first_chunk).ok_or(Reason::Malformed)?;
    Ok(Ipv4Addr::from(*field).into())
}

fn ipv6_at(bytes: &[u8], at: usize) -> Result<IpAddr, Reason> {
    let field: &[u8; 16] = bytes.get(at..).and_then(<[u8]>::first_chunk).ok_or(Reason::Malformed)?;
    Ok(Ipv6Addr::from(*field).into())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_full_flow_table_refuses_new_flows_and_still_moves_old_ones() {
        let local = Endpoint::new(Ipv4Addr::new(10, 0, 0, 1).into(), 80);
        let tuple =
            |port| FourTuple { local, remote: Endpoint::new(Ipv4Addr::new(10, 0, 0, 2).into(), port) };
        let mut tables = Tables::new(2, 2);
        assert_eq!(tables.pin(tuple(1), WorkerId(0)), Ok(()));
        assert_eq!(tables.pin(tuple(2), WorkerId(0)), Ok(()));
        assert_eq!(tables.pin(tuple(3), WorkerId(0)), Err(FlowsFull(2)));
        assert_eq!(tables.pin(tuple(2), WorkerId(1)), Ok(()));
        tables.unpin(tuple(1));
        assert_eq!(tables.pin(tuple(3), WorkerId(0)), Ok(()));
    }

    #[test]
    fn reasons_are_numbered_in_order() {
        for (number, reason) in Reason::ALL.into_iter().enumerate() {
            assert_eq!(reason as usize, number, "{}", reason.name());
        }
    }
}
