//! IPv6 headers (RFC 8200), without extension headers in what we send.

use crate::wire::Malformed;
use crate::wire::ip::{HOP_LIMIT, IpHeader};
use std::net::{IpAddr, Ipv6Addr};

/// The fixed header.
pub const HEADER_LEN: usize = 40;

/// Next header: hop-by-hop options.
const HOP_BY_HOP: u8 = 0;
/// Next header: a fragment.
const FRAGMENT: u8 = 44;
/// Next header: options for the destination.
const DESTINATION_OPTIONS: u8 = 60;

/// The fields of a header that we write.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Ipv6Repr {
    /// The sender.
    pub src: Ipv6Addr,
    /// The receiver.
    pub dst: Ipv6Addr,
    /// What the packet carries.
    pub protocol: u8,
    /// The two ECN bits.
    pub ecn: u8,
    /// Bytes behind the header.
    pub payload_len: usize,
}

/// Checks the header at the front of `packet`, which may have padding behind it. `behind` bytes of it are elsewhere. Hop-by-hop
/// and destination options are skipped; any other extension header is given as the protocol.
///
/// # Errors
/// The reason to drop it.
#[inline(always)]
pub fn parse(packet: &[u8], behind: usize) -> Result<IpHeader, Malformed> {
    let Some((header, body)) = packet.split_first_chunk::<HEADER_LEN>() else {
        return Err(Malformed::Truncated);
    };
    if header[0] >> 4 != 6 {
        return Err(Malformed::BadIp);
    }
    let payload_len = usize::from(u16::from_be_bytes([header[4], header[5]]));
    if payload_len > body.len() + behind {
        return Err(Malformed::Truncated);
    }
    let body = &body[..payload_len.min(body.len())];
    let (protocol, skipped) = match header[6] {
        next @ (HOP_BY_HOP | DESTINATION_OPTIONS | FRAGMENT) => skip_extensions(next, body)?,
        next => (next, 0),
    };
    let (src, dst) = addresses(header);
    // RFC 4291 §2.5.2, §2.7: neither a multicast nor the unspecified address is a source of TCP or ICMP errors.
    if src.is_multicast() || src.is_unspecified() {
        return Err(Malformed::BadIp);
    }
    Ok(IpHeader {
        src: IpAddr::V6(src),
        dst: IpAddr::V6(dst),
        protocol,
        ecn: (header[1] >> 4) & 0x03,
        payload: HEADER_LEN + skipped..HEADER_LEN + payload_len,
    })
}

/// Source and destination of a header.
#[inline]
pub(super) fn addresses(header: &[u8; HEADER_LEN]) -> (Ipv6Addr, Ipv6Addr) {
    let mut src = [0; 16];
    let mut dst = [0; 16];
    src.copy_from_slice(&header[8..24]);
    dst.copy_from_slice(&header[24..40]);
    (Ipv6Addr::from(src), Ipv6Addr::from(dst))
}

/// The first header that is none we skip, and where it begins.
#[cold]
fn skip_extensions(mut next: u8, body: &[u8]) -> Result<(u8, usize), Malformed> {
    let mut at = 0;
    loop {
        match next {
            FRAGMENT => return Err(Malformed::Fragment),
            HOP_BY_HOP | DESTINATION_OPTIONS => {
                let Some(&[following, length]) = body.get(at..at + 2).and_then(|head| head.first_chunk())
                else {
                    return Err(Malformed::Truncated);
                };
                // RFC 8200 §4.3: in units of 8 bytes, the first not counted.
                at += 8 * (usize::from(length) + 1);
                if at > body.len() {
                    return Err(Malformed::Truncated);
                }
                next = following;
            }
            _ => return Ok((next, at)),
        }
    }
}

impl Ipv6Repr {
    /// Writes the header.
    ///
    /// # Panics
    /// When the payload is longer than 65535 bytes, or `out` is not [`HEADER_LEN`] long: our own bug.
    #[inline]
    pub fn emit(&self, out: &mut [u8]) {
        let payload_len =
            u16::try_from(self.payload_len).expect("an IPv6 packet carries at most 65535 bytes");
        out[..4].copy_from_slice(&[0x60, (self.ecn & 0x03) << 4, 0, 0]);
        out[4..6].copy_from_slice(&payload_len.to_be_bytes());
        out[6] = self.protocol;
        out[7] = HOP_LIMIT;
        out[8..24].copy_from_slice(&self.src.octets());
        out[24..].copy_from_slice(&self.dst.octets());
    }
}
