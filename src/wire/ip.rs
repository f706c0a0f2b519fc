//! What IPv4 and IPv6 have in common.

use super::{ipv4, ipv6};
use std::net::IpAddr;
use std::ops::Range;

/// Protocol number of ICMP.
pub const PROTOCOL_ICMP: u8 = 1;
/// Protocol number of TCP.
pub const PROTOCOL_TCP: u8 = 6;
/// Protocol number of ICMPv6.
pub const PROTOCOL_ICMPV6: u8 = 58;

/// RFC 3168 §5: the two ECN bits of a packet that met congestion.
pub const CONGESTION_EXPERIENCED: u8 = 3;

/// Bytes of a header without options that has addresses like this one.
pub(super) const fn header_len(addr: &IpAddr) -> usize {
    match addr {
        IpAddr::V4(_) => ipv4::HEADER_LEN,
        IpAddr::V6(_) => ipv6::HEADER_LEN,
    }
}

/// RFC 1122 §3.2.1.7: how far what we send may travel.
pub(super) const HOP_LIMIT: u8 = 64;

/// An IP header that was checked, of either version.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct IpHeader {
    /// The sender.
    pub src: IpAddr,
    /// The receiver; of the same version.
    pub dst: IpAddr,
    /// What the packet carries.
    pub protocol: u8,
    /// The two ECN bits.
    pub ecn: u8,
    /// Where in the packet that lies, padding cut off.
    pub payload: Range<usize>,
}
