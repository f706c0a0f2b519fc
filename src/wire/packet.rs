//! Whole packets: [`parse`] for what arrives, [`emit`] for what leaves.

use crate::wire::{ChecksumMode, FourTuple, IcmpError, LinkHeader, TcpOptions, TcpRepr};
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
}

/// What a frame turned out to be.
#[derive(Debug, Clone, PartialEq, Eq)]
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
    /// An IP version, header length or total length that can't be.
    BadIp,
    /// A fragment.
    Fragment,
    /// The IPv4 header checksum is wrong.
    IpChecksum,
    /// A TCP data offset that can't be.
    BadTcp,
    /// The TCP (or ICMP) checksum is wrong.
    Checksum,
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
/// malformed MPTCP option is left out (RFC 8684 §3: ignored), and the segment is still good.
pub fn parse(frame: &[u8], checksum: ChecksumMode) -> Result<Parsed, Malformed> {
    let _ = (frame, checksum);
    todo!("wire helper")
}

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
    let _ = (segment, frame, payload, checksum);
    todo!("wire helper")
}
