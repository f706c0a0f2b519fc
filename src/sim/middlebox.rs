//! Middleboxes: what stands on a path and changes packets on purpose. Only what hosts must survive, and each keeps
//! the checksum right, as real ones do.

/// TCP option kind of MPTCP (RFC 8684), as a middlebox knows it: a number to remove.
const MPTCP_KIND: u8 = 30;
const NOP: u8 = 1;

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
    /// Only in SYN/ACKs.
    StripSynAck,
    /// Only in segments without SYN.
    StripNonSyn,
    /// Discards segments with SYN and an MPTCP option: only a SYN without one gets an answer.
    DropSynWithMptcp,
}

impl Middlebox {
    /// Lets a packet through, perhaps changed. False: it is discarded.
    #[must_use]
    pub fn pass(self, packet: &mut [u8]) -> bool {
        if self == Middlebox::None {
            return true;
        }
        let Some((tcp, options)) = find_options(packet) else { return true };
        let flags = packet[tcp + 13];
        let (syn, ack) = (flags & 0x02 != 0, flags & 0x10 != 0);
        let acts = match self {
            Middlebox::None => false,
            Middlebox::StripAll => true,
            Middlebox::StripSyn | Middlebox::DropSynWithMptcp => syn,
            Middlebox::StripSynAck => syn && ack,
            Middlebox::StripNonSyn => !syn,
        };
        let stripped = acts && strip_options(packet, tcp, options);
        !(stripped && self == Middlebox::DropSynWithMptcp)
    }
}

/// Where the TCP header begins and where its options lie.
fn find_options(packet: &[u8]) -> Option<(usize, std::ops::Range<usize>)> {
    let tagged = packet.get(12..14)? == [0x81, 0x00];
    let ip = if tagged { 18 } else { 14 };
    let first = *packet.get(ip)?;
    let (tcp, protocol) = match first >> 4 {
        4 => (ip + usize::from(first & 15) * 4, *packet.get(ip + 9)?),
        6 => (ip + 40, *packet.get(ip + 6)?),
        _ => return None,
    };
    if protocol != 6 {
        return None;
    }
    let end = tcp + usize::from(*packet.get(tcp + 12)? >> 4) * 4;
    (end <= packet.len() && end >= tcp + 20).then_some((tcp, tcp + 20..end))
}

/// Overwrites the MPTCP options by NOPs and keeps the checksum right. True if there was one.
fn strip_options(packet: &mut [u8], tcp: usize, options: std::ops::Range<usize>) -> bool {
    let mut at = options.start;
    let mut changed = false;
    while at < options.end {
        let len = match packet[at] {
            0 => break,
            NOP => 1,
            _ if at + 1 < options.end && packet[at + 1] >= 2 => usize::from(packet[at + 1]),
            _ => break,
        };
        if packet[at] == MPTCP_KIND {
            for byte in at..(at + len).min(options.end) {
                replace(packet, tcp, byte, NOP);
            }
            changed = true;
        }
        at += len;
    }
    changed
}

/// Sets a byte and updates the TCP checksum for it (RFC 1624, equation 3).
fn replace(packet: &mut [u8], tcp: usize, at: usize, value: u8) {
    let shift = if (at - tcp).is_multiple_of(2) { 8 } else { 0 };
    let old = u32::from(packet[at]) << shift;
    let new = u32::from(value) << shift;
    packet[at] = value;
    let checksum = u32::from(u16::from_be_bytes([packet[tcp + 16], packet[tcp + 17]]));
    let mut sum = (!checksum & 0xffff) + (!old & 0xffff) + new;
    while sum > 0xffff {
        sum = (sum & 0xffff) + (sum >> 16);
    }
    let checksum = !(sum as u16);
    packet[tcp + 16..tcp + 18].copy_from_slice(&checksum.to_be_bytes());
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::base::SeqNum;
    use crate::wire::mptcp::{CapableFlags, MpCapable, MptcpOption, VERSION};
    use crate::wire::{
        ChecksumMode, Endpoint, FourTuple, LinkHeader, Packet, Parsed, SegmentRepr, TcpFlags, TcpOptions,
        TcpRepr, emit, parse,
    };
    use std::net::IpAddr;

    const MIDDLEBOXES: [Middlebox; 6] = [
        Middlebox::None,
        Middlebox::StripAll,
        Middlebox::StripSyn,
        Middlebox::StripSynAck,
        Middlebox::StripNonSyn,
        Middlebox::DropSynWithMptcp,
    ];

    fn frame(addr: IpAddr, vlan: Option<u16>, flags: TcpFlags) -> Vec<u8> {
        let capable = MpCapable::Syn { version: VERSION, flags: CapableFlags(CapableFlags::HMAC_SHA256) };
        let mut options = TcpOptions { window_scale: Some(7), ..Default::default() };
        options.mptcp.push(MptcpOption::Capable(capable));
        let link = LinkHeader { vlan, ..Default::default() };
        let tcp = TcpRepr { seq: SeqNum::new(1), ack: SeqNum::new(2), flags, window: 3, urgent: 0 };
        let tuple = FourTuple { local: Endpoint::new(addr, 1), remote: Endpoint::new(addr, 2) };
        let segment = SegmentRepr { link: &link, tuple, ecn: 0, tcp, options: &options };
        let mut frame = vec![9; 133];
        let start = emit(&segment, &mut frame, 128..133, ChecksumMode::Software);
        frame.split_off(start)
    }

    fn passed(middlebox: Middlebox, mut frame: Vec<u8>) -> Option<Packet> {
        if !middlebox.pass(&mut frame) {
            return None;
        }
        match parse(&frame, ChecksumMode::Software) {
            Ok(Parsed::Tcp(packet)) => Some(packet),
            other => panic!("{middlebox:?} broke the packet: {other:?}"),
        }
    }

    #[test]
    fn each_removes_what_it_says_and_keeps_the_checksum_right() {
        let (syn, ack) = (TcpFlags::SYN, TcpFlags::ACK);
        let addrs: [IpAddr; 2] = [[10, 0, 0, 1].into(), std::net::Ipv6Addr::LOCALHOST.into()];
        for (addr, vlan) in [(addrs[0], None), (addrs[0], Some(5)), (addrs[1], None), (addrs[1], Some(5))] {
            let stripped = |middlebox, flags| {
                let packet = passed(middlebox, frame(addr, vlan, flags))?;
                assert_eq!(packet.options.window_scale, Some(7), "other options stay");
                Some(packet.options.mptcp.is_empty())
            };
            let by_flags = |flags| MIDDLEBOXES.map(|middlebox| stripped(middlebox, flags));
            let (no, yes) = (Some(false), Some(true));
            assert_eq!(by_flags(syn), [no, yes, yes, no, no, None]);
            assert_eq!(by_flags(syn | ack), [no, yes, yes, yes, no, None]);
        }
        let strip = passed(Middlebox::StripNonSyn, frame(addrs[0], None, ack));
        assert!(strip.is_some_and(|packet| packet.options.mptcp.is_empty()));
    }

    #[test]
    fn what_is_no_tcp_passes_as_it_is() {
        for len in 0..60 {
            let mut packet = vec![0x45; len];
            assert!(Middlebox::StripAll.pass(&mut packet));
            assert_eq!(packet, vec![0x45; len]);
        }
    }
}
