//! IPv4 headers (RFC 791), without options in what we send.

use crate::wire::ip::{HOP_LIMIT, IpHeader};
use crate::wire::{Malformed, checksum};
use std::net::{IpAddr, Ipv4Addr};

/// A header without options.
pub const HEADER_LEN: usize = 20;

/// Don't fragment.
const DONT_FRAGMENT: u16 = 0x4000;
/// More fragments, and the fragment's offset.
const FRAGMENT_MASK: u16 = 0x3fff;

/// The fields of a header that we write.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Ipv4Repr {
    /// The sender.
    pub src: Ipv4Addr,
    /// The receiver.
    pub dst: Ipv4Addr,
    /// What the packet carries.
    pub protocol: u8,
    /// The two ECN bits.
    pub ecn: u8,
    /// Bytes behind the header.
    pub payload_len: usize,
}

/// Checks the header at the front of `packet`, which may have padding behind it. `behind` bytes of it are elsewhere.
///
/// # Errors
/// The reason to drop it.
#[inline(always)]
pub fn parse(packet: &[u8], behind: usize) -> Result<IpHeader, Malformed> {
    let Some(header) = packet.first_chunk::<HEADER_LEN>() else {
        return Err(Malformed::Truncated);
    };
    let header_len = usize::from(header[0] & 0x0f) * 4;
    let total_len = usize::from(u16::from_be_bytes([header[2], header[3]]));
    if header[0] >> 4 != 4 || header_len < HEADER_LEN || total_len < header_len {
        return Err(Malformed::BadIp);
    }
    if header_len > packet.len() || total_len > packet.len() + behind {
        return Err(Malformed::Truncated);
    }
    let header_sum = match header_len {
        HEADER_LEN => header_sum(header),
        _ => checksum::sum(0, &packet[..header_len]),
    };
    // RFC 1122 §3.2.1.2: a datagram with a bad header checksum is silently discarded.
    if header_sum != 0xffff {
        return Err(Malformed::IpChecksum);
    }
    if u16::from_be_bytes([header[6], header[7]]) & FRAGMENT_MASK != 0 {
        return Err(Malformed::Fragment);
    }
    let (src, dst) = addresses(header);
    // RFC 1122 §3.2.1.3: no host has a multicast, broadcast or unspecified address as its source.
    if src.is_multicast() || src.is_broadcast() || src.is_unspecified() {
        return Err(Malformed::BadIp);
    }
    Ok(IpHeader {
        src: IpAddr::V4(src),
        dst: IpAddr::V4(dst),
        protocol: header[9],
        ecn: header[1] & 0x03,
        payload: header_len..total_len,
    })
}

/// Source and destination of a header.
#[inline]
pub(super) fn addresses(header: &[u8; HEADER_LEN]) -> (Ipv4Addr, Ipv4Addr) {
    let [.., s0, s1, s2, s3, d0, d1, d2, d3] = *header;
    (Ipv4Addr::new(s0, s1, s2, s3), Ipv4Addr::new(d0, d1, d2, d3))
}

impl Ipv4Repr {
    /// Writes the header. RFC 6864 §4.1: an atomic datagram (DF set, no fragment) needs no identification.
    ///
    /// # Panics
    /// When the packet is longer than 65535 bytes, or `out` is not [`HEADER_LEN`] long: our own bug.
    #[inline]
    pub fn emit(&self, out: &mut [u8]) {
        let total_len =
            u16::try_from(HEADER_LEN + self.payload_len).expect("an IPv4 packet has at most 65535 bytes");
        let [len_high, len_low] = total_len.to_be_bytes();
        let mut header = [0; HEADER_LEN];
        header[..4].copy_from_slice(&[0x45, self.ecn & 0x03, len_high, len_low]);
        header[6..8].copy_from_slice(&DONT_FRAGMENT.to_be_bytes());
        header[8..10].copy_from_slice(&[HOP_LIMIT, self.protocol]);
        header[12..16].copy_from_slice(&self.src.octets());
        header[16..].copy_from_slice(&self.dst.octets());
        let checksum = !header_sum(&header);
        header[10..12].copy_from_slice(&checksum.to_be_bytes());
        out.copy_from_slice(&header);
    }
}

/// Whether the checksum of a header without options, at the front of `packet`, is right.
#[inline]
pub fn is_intact(packet: &[u8]) -> bool {
    packet.first_chunk().is_some_and(|header| header_sum(header) == 0xffff)
}

/// The sum over a header without options.
#[inline]
fn header_sum(header: &[u8; HEADER_LEN]) -> u16 {
    checksum::sum_words(header.as_chunks::<4>().0)
}
