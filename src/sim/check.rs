//! The checkers that look at every packet a host transmits: it is well-formed, fits its link, comes from the right
//! address, and acknowledgments, of TCP and of data, never move back nor acknowledge what was never sent.

use crate::base::{DataSeq, SeqNum};
use crate::sim::middlebox::{before_nat, behind_nat};
use crate::wire::mptcp::{Dss, Key, MpCapable, MpJoin, MptcpOption, Token};
use crate::wire::{ChecksumMode, FourTuple, Packet, Parsed, TcpFlags, parse};
use sha2::{Digest, Sha256};
use std::collections::HashMap;
use std::net::IpAddr;

/// What a host's packets on one NIC must be like.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct NicRules {
    /// Its address.
    pub addr: IpAddr,
    /// One of the other family.
    pub other: Option<IpAddr>,
    /// Bytes of an IP packet at most.
    pub mtu: u16,
}

/// What one direction of a subflow has shown.
#[derive(Debug, Clone, Copy)]
struct Flow {
    /// Which connection, and which side of it sends; `None` for plain TCP.
    owner: Option<(usize, usize)>,
    initial_seq: SeqNum,
    ack: Option<SeqNum>,
    data_ack: Option<DataSeq>,
}

/// What one side of an MPTCP connection has shown.
#[derive(Debug, Clone, Copy, Default)]
struct Side {
    key: Option<Key>,
    /// The highest data acknowledgment it has sent.
    data_ack: Option<DataSeq>,
    /// The same before the turn that is being looked at: within a turn, packets of several NICs have no order.
    data_ack_floor: Option<DataSeq>,
    /// The end of the furthest mapping it has sent.
    mapped: Option<DataSeq>,
    /// It has sent an infinite mapping: data acknowledgments mean nothing any more.
    fell_back: bool,
}

/// The checkers of one run.
#[derive(Debug, Default)]
pub struct WireCheck {
    flows: HashMap<FourTuple, Flow>,
    connections: Vec<[Side; 2]>,
    tokens: HashMap<Token, (usize, usize)>,
    data_acks: u64,
}

/// RFC 8684 §3.2: the most significant 32 bits of the key's SHA-256. Worked out here and not by the code under test.
fn token_of(key: Key) -> Token {
    let hash = Sha256::digest(key.0.to_be_bytes());
    Token(u32::from_be_bytes([hash[0], hash[1], hash[2], hash[3]]))
}

/// RFC 8684 §3.3: the least significant 64 bits. The first data byte has the number after it.
fn first_data_seq(key: Key) -> DataSeq {
    let hash = Sha256::digest(key.0.to_be_bytes());
    let low = hash[24..].iter().fold(0u64, |value, byte| value << 8 | u64::from(*byte));
    DataSeq::new(low) + 1
}

impl WireCheck {
    /// A host's turn begins.
    pub fn begin_turn(&mut self) {
        for side in self.connections.iter_mut().flatten() {
            side.data_ack_floor = side.data_ack;
        }
    }

    /// How many data acknowledgments were looked at.
    pub fn data_acks(&self) -> u64 {
        self.data_acks
    }

    /// How many MPTCP connections were seen.
    pub fn connections(&self) -> usize {
        self.connections.len()
    }

    /// A host has transmitted a packet.
    ///
    /// # Errors
    /// What is wrong with it.
    pub fn handle_transmitted(&mut self, rules: &NicRules, frame: &[u8]) -> Result<(), String> {
        let packet = match parse(frame, ChecksumMode::Software) {
            Ok(Parsed::Tcp(packet)) => packet,
            other => return Err(format!("transmitted a packet that is no TCP segment: {other:?}")),
        };
        let link_len = if packet.link.vlan.is_some() { 18 } else { 14 };
        if frame.len() > link_len + usize::from(rules.mtu) {
            return Err(format!("transmitted {} bytes at an MTU of {}", frame.len(), rules.mtu));
        }
        let tuple = packet.tuple.reversed();
        if tuple.local.addr != rules.addr && Some(tuple.local.addr) != rules.other {
            return Err(format!("transmitted from {} on the NIC of {}", tuple.local, rules.addr));
        }
        self.learn(tuple, &packet);
        self.check_ack(tuple, &packet)
            .and_then(|()| self.check_mptcp(tuple, &packet))
            .map_err(|wrong| format!("{wrong}, in {}", describe(&packet)))
    }

    /// Which connection a flow belongs to, from its SYN.
    fn learn(&mut self, tuple: FourTuple, packet: &Packet) {
        let (syn, ack) = (TcpFlags::SYN, TcpFlags::ACK);
        if packet.tcp.flags.contains(syn) {
            let known = self.flows.get(&tuple).is_some_and(|flow| flow.initial_seq == packet.tcp.seq);
            if !known {
                let owner = match first_of(packet) {
                    Some(MptcpOption::Capable(MpCapable::Syn { .. })) => {
                        self.connections.push([Side::default(); 2]);
                        Some((self.connections.len() - 1, 0))
                    }
                    Some(MptcpOption::Join(MpJoin::Syn { token, .. })) => {
                        self.tokens.get(token).map(|(connection, side)| (*connection, 1 - side))
                    }
                    _ if packet.tcp.flags.contains(ack) => {
                        // A NAT on the way shows the server another client than there is: when it answers that, and
                        // when it is the one that asks, and the client behind the NAT answers.
                        let FourTuple { local, remote } = tuple;
                        let inner = FourTuple { local: before_nat(remote).unwrap_or(remote), remote: local };
                        let outer = FourTuple { local: remote, remote: behind_nat(local) };
                        let asked = [tuple.reversed(), inner, outer].iter().find_map(|it| self.flows.get(it));
                        let other = asked.and_then(|flow| flow.owner);
                        other.map(|(connection, side)| (connection, 1 - side))
                    }
                    _ => None,
                };
                let flow = Flow { owner, initial_seq: packet.tcp.seq, ack: None, data_ack: None };
                self.flows.insert(tuple, flow);
            }
        }
        let Some((connection, side)) = self.flows.get(&tuple).and_then(|flow| flow.owner) else { return };
        let key = match first_of(packet) {
            Some(MptcpOption::Capable(
                MpCapable::SynAck { sender_key, .. }
                | MpCapable::Ack { sender_key, .. }
                | MpCapable::Data { sender_key, .. },
            )) => *sender_key,
            _ => return,
        };
        self.connections[connection][side].key = Some(key);
        self.tokens.insert(token_of(key), (connection, side));
    }

    fn check_ack(&mut self, tuple: FourTuple, packet: &Packet) -> Result<(), String> {
        if packet.tcp.flags.contains(TcpFlags::RST) || !packet.tcp.flags.contains(TcpFlags::ACK) {
            return Ok(());
        }
        let Some(flow) = self.flows.get_mut(&tuple) else { return Ok(()) };
        if flow.ack.is_some_and(|before| packet.tcp.ack.before(before)) {
            return Err(format!("the acknowledgment moved back from {:?}", flow.ack));
        }
        flow.ack = Some(packet.tcp.ack);
        Ok(())
    }

    fn check_mptcp(&mut self, tuple: FourTuple, packet: &Packet) -> Result<(), String> {
        let Some(flow) = self.flows.get_mut(&tuple) else { return Ok(()) };
        let Some((connection, side)) = flow.owner else { return Ok(()) };
        let sides = &mut self.connections[connection];
        if let Some(MptcpOption::Capable(MpCapable::Data { data_len, .. })) = first_of(packet)
            && let Some(key) = sides[side].key
        {
            let end = first_data_seq(key) + u64::from(*data_len);
            sides[side].mapped = Some(sides[side].mapped.map_or(end, |before| before.max(end)));
        }
        let Some(dss) = packet.options.dss() else { return Ok(()) };
        check_mapping(&mut sides[side], dss, packet.payload.len())?;
        let Some(data_ack) = dss.data_ack else { return Ok(()) };
        if sides[side].fell_back || sides[1 - side].fell_back {
            return Ok(());
        }
        let Some(peer_first) = sides[1 - side].key.map(first_data_seq) else { return Ok(()) };
        let data_ack = data_ack.resolve(sides[side].data_ack.unwrap_or(peer_first));
        let sent = sides[1 - side].mapped.unwrap_or(peer_first);
        if data_ack.before(peer_first) || data_ack.after(sent) {
            return Err(format!("the data ACK {data_ack:?} lies outside of {peer_first:?}..={sent:?}"));
        }
        let floor = [flow.data_ack, sides[side].data_ack_floor].into_iter().flatten();
        for before in floor {
            if data_ack.before(before) {
                return Err(format!("the data ACK moved back from {before:?} to {data_ack:?}"));
            }
        }
        flow.data_ack = Some(data_ack);
        let highest = sides[side].data_ack.map_or(data_ack, |before| before.max(data_ack));
        sides[side].data_ack = Some(highest);
        self.data_acks += 1;
        Ok(())
    }
}

fn check_mapping(side: &mut Side, dss: &Dss, payload: usize) -> Result<(), String> {
    let Some(mapping) = dss.mapping else { return Ok(()) };
    let Some(first) = side.key.map(first_data_seq) else { return Ok(()) };
    if mapping.len == 0 {
        side.fell_back = true;
        return Ok(());
    }
    let start = mapping.data_seq.resolve(side.mapped.unwrap_or(first));
    let end = start + u64::from(mapping.len);
    // RFC 8684 §3.3.3: a DATA_FIN without data has subflow sequence 0 and is a mapping of one byte.
    if mapping.subflow_seq == 0 && !(dss.data_fin && mapping.len == 1 && payload == 0) {
        return Err(String::from("a mapping at subflow sequence 0 that is no bare DATA_FIN"));
    }
    if start.before(first) {
        return Err(format!("a mapping at {start:?}, before the first byte {first:?}"));
    }
    side.mapped = Some(side.mapped.map_or(end, |before| before.max(end)));
    Ok(())
}

fn first_of(packet: &Packet) -> Option<&MptcpOption> {
    packet
        .options
        .mptcp
        .iter()
        .find(|option| matches!(option, MptcpOption::Capable(_) | MptcpOption::Join(_)))
}

/// A segment in one line, for failures and packet logs.
pub fn describe(packet: &Packet) -> String {
    let FourTuple { local, remote } = packet.tuple;
    let tcp = &packet.tcp;
    let mut line = format!(
        "{remote} > {local} {:?} {} +{} ack {} win {}",
        tcp.flags,
        tcp.seq.raw(),
        packet.payload.len(),
        tcp.ack.raw(),
        tcp.window
    );
    for (from, to) in &packet.options.sack {
        line += &format!(" sack {}-{}", from.raw(), to.raw());
    }
    for option in &packet.options.mptcp {
        line += &format!(" {option:?}");
    }
    line
}

/// Any frame in one line.
pub fn describe_frame(frame: &[u8]) -> String {
    match parse(frame, ChecksumMode::Software) {
        Ok(Parsed::Tcp(packet)) => describe(&packet),
        other => format!("{} bytes: {other:?}", frame.len()),
    }
}

#[cfg(test)]
mod tests;
