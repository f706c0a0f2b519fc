//! Middleboxes: what stands on a path and changes packets on purpose. Only what hosts must survive; each keeps lengths
//! and checksums right, as real ones do. A [`Middlebox`] says what one does, a [`Station`] is one at work, on both
//! directions of a link; a [`Segment`] is what it works on.

pub mod segment;

use crate::base::Instant;
use crate::base::time::Duration;
use crate::wire::Endpoint;
use segment::Segment;
use std::collections::BTreeMap;
use std::net::IpAddr;

/// Kinds of TCP options, as a middlebox knows them: numbers.
const MSS: u8 = 2;
const SACK: u8 = 5;
const TIMESTAMPS: u8 = 8;
const MPTCP: u8 = 30;
/// Subtypes of MPTCP options: the upper half of the third byte.
const JOIN: u8 = 1;
const DSS: u8 = 2;
const ADD_ADDR: u8 = 3;
/// Flags of a DSS, in its fourth byte.
const DATA_FIN: u8 = 0x10;
const MAPPING: u8 = 0x04;
/// A NAT adds this to the port of what comes from inside.
pub const NAT_PORTS: u16 = 5_000;
/// And gives it the address of this host of the network.
const NAT_HOST: u8 = 101;
/// How long a middlebox that coalesces waits for more.
const COALESCE_WAIT: Duration = Duration::from_millis(2);
/// Payload of a coalesced segment at most: what fits into a receive buffer.
const COALESCED_MAX: usize = 2_800;

/// What a middlebox does.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum Middlebox {
    /// Nothing.
    #[default]
    None,
    /// Overwrites MPTCP options by NOPs in every segment.
    StripAll,
    /// Only in segments with SYN.
    StripSyn,
    /// Only in SYNs without ACK.
    StripFirstSyn,
    /// Only in SYN/ACKs.
    StripSynAck,
    /// Only in what a client sends before any payload: its third ACK.
    StripThirdAck,
    /// Only in segments without SYN.
    StripNonSyn,
    /// Only in segments without SYN that the server sends.
    StripToClient,
    /// Only from the n-th segment with payload of a flow on.
    StripFrom(u32),
    /// Only ADD_ADDR.
    StripAddAddr,
    /// Only MP_JOIN.
    StripJoin,
    /// Only the DATA_FIN, the first n times; a mapping that it is part of keeps its data.
    StripDataFin(u32),
    /// Discards segments with SYN and an MPTCP option: only a SYN without one gets an answer.
    DropSynWithMptcp,
    /// Discards them the first n times.
    DropSynTimes(u32),
    /// Leaves of the options on a SYN only MSS and those of MPTCP: no timestamps, no SACK, no window scale.
    OnlyMss,
    /// Lowers the MSS on SYNs to this.
    ClampMss(u16),
    /// Never lets a window field say more than this, SYNs aside.
    ClampWindow(u16),
    /// Takes NOPs out, and turns the order of the options round.
    Normalise,
    /// Repeats an MPTCP option where there is room.
    DuplicateOptions,
    /// Changes the byte with this offset in the stream of every flow, both ways, each time that it passes.
    ChangePayload(u32),
    /// Changes the address that an ADD_ADDR announces.
    RewriteAddAddr,
    /// Changes address and port of whoever is at the first end of the link; nobody can connect to them.
    Nat,
    /// Other sequence numbers on each side, as firewalls that do not trust the hosts' own make them.
    RewriteSequence,
    /// Splits payloads that are longer, and repeats the options on each part, as segmentation offload does.
    Split(u16),
    /// The same, with the options on the first part only.
    SplitOptionsOnce(u16),
    /// Makes one segment of two that follow each other with the same options (but for timestamps), as receive offload does.
    CoalesceAlike,
    /// Whatever their options, of which it keeps those of the first.
    Coalesce,
    /// A proxy that acknowledges data as it passes, from the n-th segment with payload of a flow on.
    EarlyAck(u32),
}

/// Which end of the link a packet comes from.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub enum End {
    /// The first: the client's.
    A,
    /// The second: the server's.
    B,
}

impl End {
    /// The other end.
    pub fn other(self) -> End {
        match self {
            End::A => End::B,
            End::B => End::A,
        }
    }

    /// 0 or 1.
    pub fn index(self) -> usize {
        match self {
            End::A => 0,
            End::B => 1,
        }
    }
}

/// What comes of a packet: packets that go on, and such that go back to where it came from.
#[derive(Debug, Default, PartialEq, Eq)]
pub struct Passed {
    /// On the way that it went.
    pub forward: Vec<Vec<u8>>,
    /// Back.
    pub back: Vec<Vec<u8>>,
    /// Something is held back: it is to be asked for then.
    pub release_at: Option<Instant>,
}

/// The two ends of a flow: first the one at end A of the link.
type FlowKey = [(IpAddr, u16); 2];

/// What one direction of a flow has shown.
#[derive(Debug, Clone, Copy, Default)]
struct Side {
    /// Sequence number of the first byte of payload, once a SYN was seen.
    first: Option<u32>,
    /// Segments with payload.
    data_segments: u32,
    /// The latest acknowledgment from this side.
    latest_ack: Option<u32>,
    /// What a proxy has acknowledged of it, once it has.
    acked: Option<u32>,
    /// Its latest timestamp.
    timestamp: [u8; 4],
}

/// A middlebox at work.
#[derive(Debug)]
pub struct Station {
    kind: Middlebox,
    flows: BTreeMap<FlowKey, [Side; 2]>,
    /// How often it has done what it does a number of times only.
    done: u32,
    /// What it holds back, and until when.
    held: [Option<(Instant, Segment)>; 2],
    /// Addresses and ports of a NAT: outer, inner.
    mapped: BTreeMap<(IpAddr, u16), (IpAddr, u16)>,
}

impl Station {
    /// One that has seen nothing yet.
    pub fn new(kind: Middlebox) -> Self {
        Self { kind, flows: BTreeMap::new(), done: 0, held: [None, None], mapped: BTreeMap::new() }
    }

    /// A packet comes.
    pub fn pass(&mut self, now: Instant, from: End, packet: Vec<u8>) -> Passed {
        let mut passed = Passed::default();
        match self.kind {
            Middlebox::None => passed.forward.push(packet),
            _ => match Segment::parse(&packet) {
                None => passed.forward.push(packet),
                Some(segment) => self.pass_segment(now, from, segment, packet, &mut passed),
            },
        }
        passed
    }

    /// What was held back for long enough.
    pub fn release(&mut self, now: Instant, from: End) -> Option<Vec<u8>> {
        let held = self.held[from.index()].take_if(|(until, _)| *until <= now);
        held.map(|(_, segment)| segment.to_frame())
    }

    fn pass_segment(
        &mut self,
        now: Instant,
        from: End,
        mut segment: Segment,
        packet: Vec<u8>,
        passed: &mut Passed,
    ) {
        let original = segment.clone();
        let flow = self.note(from, &segment);
        let goes_on = match self.kind {
            Middlebox::Nat => self.translate(from, &mut segment),
            Middlebox::DropSynWithMptcp => !(segment.is_syn() && segment.option(MPTCP).is_some()),
            Middlebox::DropSynTimes(times) => {
                let drop = segment.is_syn() && segment.option(MPTCP).is_some() && self.done < times;
                self.done += u32::from(drop);
                !drop
            }
            Middlebox::CoalesceAlike | Middlebox::Coalesce => {
                self.coalesce(now, from, segment, passed);
                return;
            }
            Middlebox::Split(most) | Middlebox::SplitOptionsOnce(most) => {
                let repeat = matches!(self.kind, Middlebox::Split(_));
                split(segment, usize::from(most), repeat, &mut passed.forward);
                return;
            }
            Middlebox::EarlyAck(segments) => {
                let begins = self.flows[&flow].iter().any(|side| side.data_segments >= segments);
                if begins {
                    self.acknowledge(from, flow, &mut segment, passed);
                }
                true
            }
            _ => {
                self.change(from, flow, &mut segment);
                true
            }
        };
        if goes_on {
            passed.forward.push(if segment == original { packet } else { segment.to_frame() });
        }
    }

    /// Remembers what a segment shows. Gives the name of its flow.
    fn note(&mut self, from: End, segment: &Segment) -> FlowKey {
        let (source, destination) = (segment.source(), segment.destination());
        let flow = if from == End::A { [source, destination] } else { [destination, source] };
        let side = &mut self.flows.entry(flow).or_default()[from.index()];
        if segment.is_syn() {
            *side = Side { first: Some(segment.seq().wrapping_add(1)), ..Side::default() };
        }
        if let Some(timestamps) = segment.option(TIMESTAMPS) {
            side.timestamp.copy_from_slice(&timestamps[2..6]);
        }
        if segment.is_ack() {
            side.latest_ack = Some(segment.ack());
        }
        side.data_segments += u32::from(!segment.payload.is_empty());
        flow
    }

    /// What changes a segment alone.
    fn change(&mut self, from: End, flow: FlowKey, segment: &mut Segment) {
        let sides = &self.flows[&flow];
        let side = &sides[from.index()];
        let (syn, ack) = (segment.is_syn(), segment.is_ack());
        let mptcp = |option: &[u8]| option[0] == MPTCP;
        let subtype = |wanted: u8| move |option: &[u8]| option[0] == MPTCP && option[2] >> 4 == wanted;
        let strips = match self.kind {
            Middlebox::StripAll => true,
            Middlebox::StripSyn => syn,
            Middlebox::StripFirstSyn => syn && !ack,
            Middlebox::StripSynAck => syn && ack,
            Middlebox::StripThirdAck => !syn && from == End::A && side.data_segments == 0,
            Middlebox::StripNonSyn => !syn,
            Middlebox::StripToClient => !syn && from == End::B,
            Middlebox::StripFrom(segments) => sides.iter().any(|side| side.data_segments >= segments),
            _ => false,
        };
        if strips {
            segment.strip(mptcp);
        }
        match self.kind {
            Middlebox::StripAddAddr => _ = segment.strip(subtype(ADD_ADDR)),
            Middlebox::StripJoin => _ = segment.strip(subtype(JOIN)),
            Middlebox::StripDataFin(times) if self.done < times => {
                self.done += u32::from(strip_data_fin(segment));
            }
            Middlebox::OnlyMss if syn => _ = segment.strip(|option| !matches!(option[0], MSS | MPTCP)),
            Middlebox::ClampMss(most) => {
                if let Some(option) = segment.option_mut(MSS).filter(|_| syn) {
                    let mss = u16::from_be_bytes([option[2], option[3]]).min(most);
                    option[2..4].copy_from_slice(&mss.to_be_bytes());
                }
            }
            Middlebox::ClampWindow(most) if !syn => segment.set_window(segment.window().min(most)),
            Middlebox::Normalise => {
                segment.drop_padding();
                segment.options.reverse();
            }
            Middlebox::DuplicateOptions => {
                segment.drop_padding();
                if let Some(option) = segment.option(MPTCP).map(<[u8]>::to_vec)
                    && segment.has_room(option.len())
                {
                    segment.options.push(option);
                }
            }
            Middlebox::ChangePayload(offset) => {
                let at = side.first.map(|first| first.wrapping_add(offset).wrapping_sub(segment.seq()));
                let byte = at.and_then(|at| segment.payload.get_mut(at as usize));
                byte.into_iter().for_each(|byte| *byte ^= CHANGE);
            }
            Middlebox::RewriteAddAddr => {
                let announces = |option: &&mut Vec<u8>| subtype(ADD_ADDR)(option) && option[2] & 1 == 0;
                segment.options.iter_mut().filter(announces).for_each(|option| option[5] ^= CHANGE);
            }
            Middlebox::RewriteSequence => {
                let [own, other] = [from, from.other()].map(|end| sequence_offset(&flow, end));
                segment.set_seq(segment.seq().wrapping_add(own));
                if segment.is_ack() {
                    segment.set_ack(segment.ack().wrapping_sub(other));
                }
                if let Some(blocks) = segment.option_mut(SACK) {
                    for edge in blocks[2..].chunks_exact_mut(4) {
                        let seq = u32::from_be_bytes([edge[0], edge[1], edge[2], edge[3]]);
                        edge.copy_from_slice(&seq.wrapping_sub(other).to_be_bytes());
                    }
                }
            }
            _ => {}
        }
    }

    /// Other address and port outside. False: the packet is for nobody.
    fn translate(&mut self, from: End, segment: &mut Segment) -> bool {
        match from {
            End::A => {
                let inner = segment.source();
                let Endpoint { addr, port } = behind_nat(Endpoint::new(inner.0, inner.1));
                self.mapped.insert((addr, port), inner);
                segment.set_source((addr, port));
                true
            }
            End::B => {
                let inner = self.mapped.get(&segment.destination());
                inner.map(|inner| segment.set_destination(*inner)).is_some()
            }
        }
    }

    /// Puts a segment to the one that is held back, if it follows it, or holds it back in its place.
    fn coalesce(&mut self, now: Instant, from: End, segment: Segment, passed: &mut Passed) {
        let whatever = self.kind == Middlebox::Coalesce;
        let held = &mut self.held[from.index()];
        let can_wait = |segment: &Segment| {
            !segment.payload.is_empty() && !segment.is_syn() && !segment.is_reset() && !segment.is_fin()
        };
        if let Some((_, first)) = held {
            let follows = first.source() == segment.source()
                && first.destination() == segment.destination()
                && first.seq().wrapping_add(first.payload.len() as u32) == segment.seq()
                && first.payload.len() + segment.payload.len() <= COALESCED_MAX
                && !segment.payload.is_empty()
                && !segment.is_reset()
                && (whatever || mptcp_options(first) == mptcp_options(&segment));
            let (_, mut first) = held.take().expect("it is there");
            if follows {
                first.payload.extend_from_slice(&segment.payload);
                first.add_flags(&segment);
                first.set_ack(segment.ack());
                first.set_window(segment.window());
                passed.forward.push(first.to_frame());
                return;
            }
            passed.forward.push(first.to_frame());
        }
        if can_wait(&segment) {
            let until = now + COALESCE_WAIT;
            *held = Some((until, segment));
            passed.release_at = Some(until);
        } else {
            passed.forward.push(segment.to_frame());
        }
    }

    /// Acknowledges payload on behalf of who will get it. What that acknowledges itself says no less then.
    fn acknowledge(&mut self, from: End, flow: FlowKey, segment: &mut Segment, passed: &mut Passed) {
        let Some([a, b]) = self.flows.get_mut(&flow) else { return };
        let (own, other) = if from == End::A { (a, b) } else { (b, a) };
        if segment.is_ack()
            && !segment.is_reset()
            && let Some(acked) = other.acked
            && (acked.wrapping_sub(segment.ack()) as i32) > 0
        {
            segment.set_ack(acked);
        }
        if segment.is_syn() || segment.is_reset() || segment.payload.is_empty() {
            return;
        }
        let (Some(first), Some(peer_first)) = (own.first, other.first) else { return };
        let expected = own.acked.or(other.latest_ack).unwrap_or(first);
        let end = segment.seq().wrapping_add(segment.payload.len() as u32);
        let contiguous = (segment.seq().wrapping_sub(expected) as i32) <= 0;
        if !contiguous || (end.wrapping_sub(expected) as i32) <= 0 {
            return;
        }
        own.acked = Some(end);
        let mut ack = segment.clone();
        ack.set_source(segment.destination());
        ack.set_destination(segment.source());
        ack.clear_end();
        // Of what the other side has sent, the sender has said how much it has: it is not told anything new.
        let seq = if segment.is_ack() { segment.ack() } else { peer_first };
        ack.set_seq(seq);
        ack.set_ack(end);
        ack.payload.clear();
        ack.options.retain(|option| option[0] == TIMESTAMPS);
        if let Some(timestamps) = ack.option_mut(TIMESTAMPS) {
            let echo: [u8; 4] = timestamps[2..6].try_into().expect("four bytes");
            timestamps[2..6].copy_from_slice(&other.timestamp);
            timestamps[6..10].copy_from_slice(&echo);
        }
        passed.back.push(ack.to_frame());
    }
}

/// What a changed byte is exclusive-ored with.
const CHANGE: u8 = 0x20;

/// The outer address of a NAT: another host of the inner one's network.
fn nat_address(inner: IpAddr) -> IpAddr {
    match inner {
        IpAddr::V4(v4) => {
            let [a, b, c, _] = v4.octets();
            IpAddr::from([a, b, c, NAT_HOST])
        }
        IpAddr::V6(v6) => {
            let mut octets = v6.octets();
            octets[15] = NAT_HOST;
            IpAddr::from(octets)
        }
    }
}

/// The end that a NAT makes of `inner`, as the world outside sees it.
pub fn behind_nat(inner: Endpoint) -> Endpoint {
    Endpoint::new(nat_address(inner.addr), inner.port.wrapping_add(NAT_PORTS))
}

/// The end that a NAT has made `outer` of, if it looks like that. The clients are the first hosts of their networks.
pub fn before_nat(outer: Endpoint) -> Option<Endpoint> {
    let inner = match outer.addr {
        IpAddr::V4(v4) => {
            let [a, b, c, host] = v4.octets();
            (host == NAT_HOST).then(|| IpAddr::from([a, b, c, 1]))
        }
        IpAddr::V6(v6) => {
            let mut octets = v6.octets();
            let host = std::mem::replace(&mut octets[15], 1);
            (host == NAT_HOST).then(|| IpAddr::from(octets))
        }
    };
    inner.map(|addr| Endpoint::new(addr, outer.port.wrapping_sub(NAT_PORTS)))
}

/// How much a firewall adds to the sequence numbers from one end of a flow.
fn sequence_offset(flow: &FlowKey, end: End) -> u32 {
    let [(_, a), (_, b)] = flow;
    let ports = u32::from(*a) << 16 | u32::from(*b);
    (ports ^ (end.index() as u32 + 1)).wrapping_mul(0x9e37_79b9)
}

fn mptcp_options(segment: &Segment) -> Vec<&[u8]> {
    segment.options.iter().map(Vec::as_slice).filter(|option| option[0] == MPTCP).collect()
}

/// Takes the DATA_FIN out of a DSS. True if there was one.
fn strip_data_fin(segment: &mut Segment) -> bool {
    let alone = segment.payload.is_empty();
    let has_fin = |option: &[u8]| option[0] == MPTCP && option[2] >> 4 == DSS && option[3] & DATA_FIN != 0;
    if alone {
        return segment.strip(has_fin);
    }
    let Some(option) = segment.options.iter_mut().find(|option| has_fin(option)) else { return false };
    option[3] &= !DATA_FIN;
    if option[3] & MAPPING != 0 {
        // The DATA_FIN was the last number of the mapping, whose length lies behind its sequence numbers.
        let ack = match option[3] & 3 {
            1 => 4,
            3 => 8,
            _ => 0,
        };
        let seq = if option[3] & 8 != 0 { 8 } else { 4 };
        let at = 4 + ack + seq + 4;
        let len = u16::from_be_bytes([option[at], option[at + 1]]) - 1;
        option[at..at + 2].copy_from_slice(&len.to_be_bytes());
    }
    true
}

/// Parts of at most `most` bytes; the options on each of them, or on the first.
fn split(segment: Segment, most: usize, repeat: bool, into: &mut Vec<Vec<u8>>) {
    if segment.payload.len() <= most || segment.is_syn() {
        into.push(segment.to_frame());
        return;
    }
    let parts = segment.payload.len().div_ceil(most);
    for (number, bytes) in segment.payload.chunks(most).enumerate() {
        let mut part = segment.clone();
        part.payload = bytes.to_vec();
        part.set_seq(segment.seq().wrapping_add((number * most) as u32));
        if number + 1 < parts {
            part.clear_end();
        }
        if number > 0 && !repeat {
            part.options.retain(|option| option[0] == TIMESTAMPS);
        }
        into.push(part.to_frame());
    }
}

#[cfg(test)]
mod tests;
