//! ICMP and ICMPv6 errors that quote a TCP segment of ours.

use crate::base::SeqNum;
use crate::wire::ip::{IpHeader, PROTOCOL_ICMPV6, PROTOCOL_TCP};
use crate::wire::{Endpoint, FourTuple, Malformed, checksum, ipv4, ipv6};
use std::net::IpAddr;

/// An ICMP error about a segment that we sent.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct IcmpError {
    /// The quoted segment's connection, from our side: local is the quoted source.
    pub tuple: FourTuple,
    /// The quoted segment's sequence number. RFC 5927: believed only if it lies in the window.
    pub seq: SeqNum,
    /// What is wrong.
    pub kind: IcmpErrorKind,
}

/// Which error.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum IcmpErrorKind {
    /// The packet was too long for a link: ICMP type 3 code 4 (RFC 1191), ICMPv6 type 2 (RFC 8201).
    TooBig {
        /// The MTU of that link; 0 where an old router doesn't tell.
        mtu: u32,
    },
    /// Net, host, protocol or port unreachable, or prohibited.
    Unreachable {
        /// The ICMP code.
        code: u8,
    },
}

/// What stands in front of the quoted packet, in both versions of ICMP.
const HEADER_LEN: usize = 8;
/// Ports and sequence number: what RFC 792 promises of the quoted TCP header.
const QUOTED_TCP_LEN: usize = 8;

/// ICMP: destination unreachable.
const UNREACHABLE: u8 = 3;
/// Its code for a packet that was too long and must not be fragmented.
const FRAGMENTATION_NEEDED: u8 = 4;
/// ICMPv6: destination unreachable.
const V6_UNREACHABLE: u8 = 1;
/// ICMPv6: packet too big.
const V6_TOO_BIG: u8 = 2;

/// Reads an ICMP or ICMPv6 message, which `ip` carried.
///
/// # Errors
/// [`Malformed::Checksum`], or [`Malformed::BadIcmp`] for what is no error about a TCP segment from the host that the
/// message went to, or quotes too little.
#[cold]
pub(super) fn parse(ip: &IpHeader, message: &[u8]) -> Result<IcmpError, Malformed> {
    let pseudo_header = match ip.dst {
        IpAddr::V4(_) => 0,
        // RFC 4443 §2.3.
        IpAddr::V6(_) => checksum::pseudo_header_sum(&ip.src, &ip.dst, PROTOCOL_ICMPV6, message.len()),
    };
    if checksum::sum(pseudo_header, message) != 0xffff {
        return Err(Malformed::Checksum);
    }
    let Some((&[kind, code, _, _, m0, m1, m2, m3], quoted)) = message.split_first_chunk::<HEADER_LEN>()
    else {
        return Err(Malformed::BadIcmp);
    };
    let (kind, quoted) = match ip.dst {
        IpAddr::V4(_) => {
            let kind = match (kind, code) {
                // RFC 1191 §4: the MTU is in the low half of what RFC 792 left unused.
                (UNREACHABLE, FRAGMENTATION_NEEDED) => {
                    IcmpErrorKind::TooBig { mtu: u16::from_be_bytes([m2, m3]).into() }
                }
                (UNREACHABLE, code) => IcmpErrorKind::Unreachable { code },
                _ => return Err(Malformed::BadIcmp),
            };
            (kind, quoted_v4(quoted))
        }
        IpAddr::V6(_) => {
            let kind = match kind {
                V6_TOO_BIG => IcmpErrorKind::TooBig { mtu: u32::from_be_bytes([m0, m1, m2, m3]) },
                V6_UNREACHABLE => IcmpErrorKind::Unreachable { code },
                _ => return Err(Malformed::BadIcmp),
            };
            (kind, quoted_v6(quoted))
        }
    };
    let (src, dst, tcp) = quoted.ok_or(Malformed::BadIcmp)?;
    // RFC 5927 §4: what we didn't send can't have failed.
    if src != ip.dst {
        return Err(Malformed::BadIcmp);
    }
    let [p0, p1, p2, p3, s0, s1, s2, s3] = tcp;
    let tuple = FourTuple {
        local: Endpoint::new(src, u16::from_be_bytes([p0, p1])),
        remote: Endpoint::new(dst, u16::from_be_bytes([p2, p3])),
    };
    Ok(IcmpError { tuple, seq: SeqNum::new(u32::from_be_bytes([s0, s1, s2, s3])), kind })
}

/// Source, destination, and the beginning of the TCP header of a quoted packet.
type Quoted = (IpAddr, IpAddr, [u8; QUOTED_TCP_LEN]);

/// A quoted IPv4 packet. Its checksum, TTL and length are not believed: routers change them.
fn quoted_v4(quoted: &[u8]) -> Option<Quoted> {
    let header = quoted.first_chunk::<{ ipv4::HEADER_LEN }>()?;
    let header_len = usize::from(header[0] & 0x0f) * 4;
    let first_fragment = u16::from_be_bytes([header[6], header[7]]) & 0x1fff == 0;
    if header[0] >> 4 != 4 || header_len < ipv4::HEADER_LEN || header[9] != PROTOCOL_TCP || !first_fragment {
        return None;
    }
    let (src, dst) = ipv4::addresses(header);
    Some((src.into(), dst.into(), *quoted.get(header_len..)?.first_chunk()?))
}

/// A quoted IPv6 packet; we send no extension headers.
fn quoted_v6(quoted: &[u8]) -> Option<Quoted> {
    let (header, rest) = quoted.split_first_chunk::<{ ipv6::HEADER_LEN }>()?;
    if header[0] >> 4 != 6 || header[6] != PROTOCOL_TCP {
        return None;
    }
    let (src, dst) = ipv6::addresses(header);
    Some((src.into(), dst.into(), *rest.first_chunk()?))
}
