//! Whole packets: [`parse`] for what arrives, [`emit`] for what leaves.

use crate::base::pool::PACKET_FRAMES;
use crate::wire::ethernet::{self, EtherType};
use crate::wire::ip::{IpHeader, PROTOCOL_ICMP, PROTOCOL_ICMPV6, PROTOCOL_TCP};
use crate::wire::{
    ChecksumMode, Endpoint, FourTuple, IcmpError, LinkHeader, TcpOptions, TcpRepr, checksum, icmp, ipv4,
    ipv6, tcp,
};
use arrayvec::ArrayVec;
use std::net::IpAddr;
use std::ops::Range;

/// A TCP segment that passed every check of form.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Packet {
    /// Its link header, as received.
    pub link: LinkHeader,
    /// From our side: local is the packet's destination.
    pub tuple: FourTuple,
    /// The two ECN bits of the IP header (RFC 3168): 0 not capable, 1 and 2 capable, 3 congestion experienced.
    pub ecn: u8,
    /// The TCP header.
    pub tcp: TcpRepr,
    /// Its options.
    pub options: TcpOptions,
    /// Where in the frame the payload lies.
    pub payload: Range<usize>,
    /// The payload's one's complement sum, where the TCP checksum was looked at: MPTCP's own checksum is made of it.
    pub payload_sum: Option<u16>,
}

/// What a frame turned out to be.
#[derive(Debug, Clone, PartialEq, Eq)]
#[expect(clippy::large_enum_variant, reason = "a box would be an allocation for each packet")]
pub enum Parsed {
    /// A TCP segment.
    Tcp(Packet),
    /// An ICMP error that quotes TCP.
    Icmp(IcmpError),
}

/// Why a frame was dropped. Each is counted.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub enum Malformed {
    /// Shorter than its headers say.
    Truncated,
    /// Neither IPv4 nor IPv6, or neither TCP nor an ICMP error.
    NotOurs,
    /// An IP version, header length, total length or source address that can't be.
    BadIp,
    /// A fragment.
    Fragment,
    /// The IPv4 header checksum is wrong.
    IpChecksum,
    /// A TCP data offset that can't be.
    BadTcp,
    /// The TCP (or ICMP) checksum is wrong.
    Checksum,
    /// The TCP checksum is that of the pseudo-header alone: a sender on the other end of a virtual link left it to
    /// an interface that doesn't exist (`ethtool -K DEV tx off` there makes it whole).
    PartialChecksum,
    /// An ICMP message that is no error about TCP, or that quotes too little.
    BadIcmp,
}

/// A segment to write. Its payload is in the frame already.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct SegmentRepr<'a> {
    /// The link header to write.
    pub link: &'a LinkHeader,
    /// From our side: local is the source.
    pub tuple: FourTuple,
    /// The two ECN bits.
    pub ecn: u8,
    /// The TCP header.
    pub tcp: TcpRepr,
    /// Its options; they must fit ([`TcpOptions::wire_len`] at most 40).
    pub options: &'a TcpOptions,
}

/// Checks `frame` (an Ethernet frame without FCS; padding behind the IP packet is allowed) and takes it apart.
///
/// # Errors
/// A [`Malformed`] reason to count. TCP options that are malformed end the option list, as RFC 9293 allows; a
/// malformed MPTCP option is left out, and the segment is still good.
pub fn parse(frame: &[u8], checksum: ChecksumMode) -> Result<Parsed, Malformed> {
    let (link, ether_type, ip_start) = ethernet::parse(frame)?;
    let packet = &frame[ip_start..];
    let (ip, icmp) = match ether_type {
        EtherType::Ipv4 => (ipv4::parse(packet, 0)?, PROTOCOL_ICMP),
        EtherType::Ipv6 => (ipv6::parse(packet, 0)?, PROTOCOL_ICMPV6),
    };
    if ip.protocol == icmp {
        return icmp::parse(&ip, &packet[ip.payload.clone()]).map(Parsed::Icmp);
    }
    if ip.protocol != PROTOCOL_TCP {
        return Err(Malformed::NotOurs);
    }
    let segment = ip_start + ip.payload.start..ip_start + ip.payload.end;
    let (header_len, payload_sum) = check_tcp(&ip, &frame[segment.clone()], Rest::NONE, checksum)?;
    Ok(Parsed::Tcp(read_tcp(link, &ip, frame, segment, header_len, payload_sum)))
}

/// As [`parse`], for a TCP segment that begins in `head`, where all of its headers are, and goes on in `tails`. The packet's
/// payload is the part of it in `head`; what of each tail belongs to it, a range from its start, and its sum, is put into
/// `parts`.
///
/// # Errors
/// A [`Malformed`] reason to count; [`Malformed::NotOurs`] also for an ICMP error, which is never so long.
#[cold]
pub fn parse_scattered(
    head: &[u8],
    tails: &[&[u8]],
    checksum: ChecksumMode,
    parts: &mut ArrayVec<(usize, Option<u16>), PACKET_FRAMES>,
) -> Result<Packet, Malformed> {
    let (link, ether_type, ip_start) = ethernet::parse(head)?;
    let packet = &head[ip_start..];
    let behind: usize = tails.iter().map(|tail| tail.len()).sum();
    let ip = match ether_type {
        EtherType::Ipv4 => ipv4::parse(packet, behind)?,
        EtherType::Ipv6 => ipv6::parse(packet, behind)?,
    };
    if ip.protocol != PROTOCOL_TCP {
        return Err(Malformed::NotOurs);
    }
    let end = ip.payload.end.min(packet.len());
    let mut rest = Rest::NONE;
    let mut left = ip.payload.end - end;
    for tail in tails {
        let len = left.min(tail.len());
        left -= len;
        let sum = (checksum == ChecksumMode::Software).then(|| checksum::sum(0, &tail[..len]));
        rest = rest.and(len, sum.unwrap_or_default());
        parts.push((len, sum));
    }
    let segment = ip_start + ip.payload.start..ip_start + end;
    let (header_len, payload_sum) = check_tcp(&ip, &head[segment.clone()], rest, checksum)?;
    Ok(read_tcp(link, &ip, head, segment, header_len, payload_sum))
}

/// What of a payload lies in other frames than its headers do.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Rest {
    /// Bytes.
    pub len: usize,
    /// Their one's complement sum, as if they began at an even place; of no meaning where nobody makes checksums.
    pub sum: u16,
}

impl Rest {
    /// All is in one frame.
    pub const NONE: Self = Self { len: 0, sum: 0 };

    /// With `len` more bytes behind it that have the sum `sum`.
    #[must_use]
    pub const fn and(self, len: usize, sum: u16) -> Self {
        Self { len: self.len + len, sum: checksum::append(self.sum, self.len, sum) }
    }
}

/// Checks the fixed part of the TCP header and the checksum; gives the length of the header with its options, and the
/// sum of the payload if it had to be made.
#[inline(always)]
fn check_tcp(
    ip: &IpHeader,
    segment: &[u8],
    rest: Rest,
    checksum: ChecksumMode,
) -> Result<(usize, Option<u16>), Malformed> {
    let Some(header) = segment.first_chunk::<{ tcp::HEADER_LEN }>() else {
        return Err(Malformed::Truncated);
    };
    let header_len = usize::from(header[12] >> 4) * 4;
    let is_possible = (tcp::HEADER_LEN..=segment.len()).contains(&header_len);
    let headers = segment.split_at(if is_possible { header_len } else { tcp::HEADER_LEN });
    let payload_sum = match checksum {
        ChecksumMode::Software => Some(verify(ip, header, headers, rest)?),
        ChecksumMode::Off => None,
    };
    match is_possible {
        true => Ok((header_len, payload_sum)),
        false => Err(Malformed::BadTcp),
    }
}

/// Reads a segment that [`check_tcp`] found good.
#[inline(always)]
fn read_tcp(
    link: LinkHeader,
    ip: &IpHeader,
    frame: &[u8],
    segment: Range<usize>,
    header_len: usize,
    payload_sum: Option<u16>,
) -> Packet {
    let (header, options) = frame[segment.start..segment.start + header_len]
        .split_first_chunk()
        .expect("check_tcp saw a whole header");
    let (src_port, dst_port, tcp) = TcpRepr::parse(header);
    let mut packet = Packet {
        link,
        tuple: FourTuple { local: Endpoint::new(ip.dst, dst_port), remote: Endpoint::new(ip.src, src_port) },
        ecn: ip.ecn,
        tcp,
        options: TcpOptions::default(),
        payload: segment.start + header_len..segment.end,
        payload_sum,
    };
    packet.options.parse(options, tcp.flags);
    packet
}

/// Checks the TCP checksum (RFC 9293 §3.1, MUST-3) of a header with options, and the payload behind it. Gives the sum of
/// the payload, without the `rest` that is in other frames.
#[inline(always)]
fn verify(
    ip: &IpHeader,
    header: &[u8; tcp::HEADER_LEN],
    (headers, payload): (&[u8], &[u8]),
    rest: Rest,
) -> Result<u16, Malformed> {
    let len = headers.len() + payload.len() + rest.len;
    let pseudo_header = checksum::pseudo_header_sum(&ip.src, &ip.dst, PROTOCOL_TCP, len);
    let payload_sum = checksum::sum(0, payload);
    let whole_sum = checksum::append(payload_sum, payload.len(), rest.sum);
    if checksum::add(checksum::sum(pseudo_header, headers), whole_sum) == 0xffff {
        return Ok(payload_sum);
    }
    match checksum::is_partial(tcp::checksum_of(header), pseudo_header) {
        true => Err(Malformed::PartialChecksum),
        false => Err(Malformed::Checksum),
    }
}

/// The most bytes of headers: Ethernet with a tag, IPv6, TCP with all of its options.
pub(super) const HEADERS_MAX: usize =
    ethernet::HEADER_MAX + ipv6::HEADER_LEN + tcp::HEADER_LEN + tcp::OPTIONS_MAX;

/// Writes the headers of a segment so that they end where its payload begins: `frame[payload]`. Returns where the
/// Ethernet header begins. An empty payload is a range of no bytes at the place where headers should end.
///
/// # Panics
/// When the options take over 40 bytes or the headers have no room in front of the payload: our own bug.
pub fn emit(
    segment: &SegmentRepr<'_>,
    frame: &mut [u8],
    payload: Range<usize>,
    checksum: ChecksumMode,
) -> usize {
    emit_summed(segment, frame, payload, checksum, None)
}

/// As [`emit`]; `payload_sum` is the payload's sum, where the caller has made it already.
///
/// # Panics
/// As [`emit`].
pub fn emit_summed(
    segment: &SegmentRepr<'_>,
    frame: &mut [u8],
    payload: Range<usize>,
    checksum: ChecksumMode,
    payload_sum: Option<u16>,
) -> usize {
    emit_scattered(segment, frame, payload, Rest::NONE, checksum, payload_sum)
}

/// As [`emit_summed`], in front of a payload that goes on in other frames.
///
/// # Panics
/// As [`emit`].
pub fn emit_scattered(
    segment: &SegmentRepr<'_>,
    frame: &mut [u8],
    payload: Range<usize>,
    rest: Rest,
    checksum: ChecksumMode,
    payload_sum: Option<u16>,
) -> usize {
    let options_len = segment.options.wire_len();
    assert!(options_len <= tcp::OPTIONS_MAX, "TCP options of {options_len} bytes");
    let FourTuple { local, remote } = segment.tuple;
    let (ether_type, ip_header_len) = match local.addr {
        IpAddr::V4(_) => (EtherType::Ipv4, ipv4::HEADER_LEN),
        IpAddr::V6(_) => (EtherType::Ipv6, ipv6::HEADER_LEN),
    };
    let link_len = ethernet::header_len(segment.link);
    let tcp_header_len = tcp::HEADER_LEN + options_len;
    let headers_len = link_len + ip_header_len + tcp_header_len;
    assert!(headers_len <= payload.start, "{headers_len} bytes of headers at {}", payload.start);
    let start = payload.start - headers_len;
    let segment_len = tcp_header_len + payload.len() + rest.len;

    if checksum == ChecksumMode::Off {
        // Nothing is read back.
        write_headers(segment, ether_type, segment_len, &mut frame[start..payload.start]);
        return start;
    }
    // Made here and copied at the end: the frame's lines are seldom in the cache, and to read back for the checksum what
    // was just written there would wait for them. Stores alone wait for nothing.
    let mut image = [0; HEADERS_MAX];
    write_headers(segment, ether_type, segment_len, &mut image[..headers_len]);
    let tcp_header = &mut image[link_len + ip_header_len..headers_len];
    if checksum == ChecksumMode::Software {
        let pseudo_header = checksum::pseudo_header_sum(&local.addr, &remote.addr, PROTOCOL_TCP, segment_len);
        // The header's length is even, so both sums simply add up.
        let payload_sum = payload_sum.unwrap_or_else(|| checksum::sum(0, &frame[payload.clone()]));
        let whole_sum = checksum::append(payload_sum, payload.len(), rest.sum);
        let sum = checksum::add(checksum::sum(pseudo_header, tcp_header), whole_sum);
        tcp::set_checksum(tcp_header, !sum);
    }
    frame[start..payload.start].copy_from_slice(&image[..headers_len]);
    start
}

/// Writes all headers of a segment of `segment_len` bytes into `out`, which they fill; the TCP checksum is 0.
#[inline(always)]
fn write_headers(segment: &SegmentRepr<'_>, ether_type: EtherType, segment_len: usize, out: &mut [u8]) {
    let (link_header, out) = out.split_at_mut(ethernet::header_len(segment.link));
    let ip_header_len = match ether_type {
        EtherType::Ipv4 => ipv4::HEADER_LEN,
        EtherType::Ipv6 => ipv6::HEADER_LEN,
    };
    let (ip_header, tcp_header) = out.split_at_mut(ip_header_len);
    ethernet::emit(segment.link, ether_type, link_header);
    emit_ip(segment, segment_len, ip_header);
    let FourTuple { local, remote } = segment.tuple;
    segment.tcp.emit(local.port, remote.port, tcp_header, segment.options);
}

/// Writes the IP header of a segment of `payload_len` bytes.
#[inline(always)]
fn emit_ip(segment: &SegmentRepr<'_>, payload_len: usize, out: &mut [u8]) {
    let FourTuple { local, remote } = segment.tuple;
    let (protocol, ecn) = (PROTOCOL_TCP, segment.ecn);
    match (local.addr, remote.addr) {
        (IpAddr::V4(src), IpAddr::V4(dst)) => {
            ipv4::Ipv4Repr { src, dst, protocol, ecn, payload_len }.emit(out);
        }
        (IpAddr::V6(src), IpAddr::V6(dst)) => {
            ipv6::Ipv6Repr { src, dst, protocol, ecn, payload_len }.emit(out);
        }
        _ => panic!("{} has ends of different families", segment.tuple),
    }
}
