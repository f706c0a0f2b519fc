//! The Internet checksum (RFC 1071).

use std::net::IpAddr;

/// Who makes and checks the TCP checksum of a port's packets.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum ChecksumMode {
    /// We do, in software: the default.
    #[default]
    Software,
    /// Nobody does: for measuring what it costs, between two Braid hosts that agree.
    Off,
}

/// The one's complement sum of `bytes` as big-endian 16-bit words (a last odd byte counts as the high half), folded
/// to 16 bits and not yet inverted, added to `initial`.
#[inline]
pub fn sum(initial: u16, bytes: &[u8]) -> u16 {
    // RFC 1071 §2 (B): the sum of words in the machine's order is the sum in network order with its bytes swapped.
    add(initial, u16::from_be(fold(portable(bytes))))
}

/// The sum of 32-bit words: short headers of a length that the compiler knows.
#[inline]
pub(super) fn sum_words(words: &[[u8; 4]]) -> u16 {
    fold(words.iter().map(|word| u64::from(u32::from_be_bytes(*word))).sum())
}

/// The one's complement sum of two sums.
#[inline]
pub const fn add(a: u16, b: u16) -> u16 {
    let (total, carry) = a.overflowing_add(b);
    total + carry as u16
}

/// The sum of two pieces that follow each other, from the sum of each alone: `first` is that of `first_len` bytes.
/// So the sum of a payload is made once and used by every header in front of it.
#[inline]
pub const fn append(first: u16, first_len: usize, second: u16) -> u16 {
    // RFC 1071 §2 (B): behind an odd number of bytes, high and low halves change places.
    add(first, if first_len % 2 == 0 { second } else { second.swap_bytes() })
}

/// The sum of the pseudo-header (RFC 9293 §3.1, RFC 8200 §8.1) in front of `len` bytes of `protocol`.
///
/// # Panics
/// When the addresses are of different families: our own bug.
#[inline]
pub fn pseudo_header_sum(src: &IpAddr, dst: &IpAddr, protocol: u8, len: usize) -> u16 {
    let addresses = match (src, dst) {
        (IpAddr::V4(src), IpAddr::V4(dst)) => u64::from(src.to_bits()) + u64::from(dst.to_bits()),
        (IpAddr::V6(src), IpAddr::V6(dst)) => words(src.to_bits()) + words(dst.to_bits()),
        _ => panic!("{src} and {dst} are of different families"),
    };
    fold(addresses + u64::from(protocol) + len as u64)
}

/// Whether a checksum field holds no checksum but the bare sum of the pseudo-header: what a sender leaves there whose
/// network interface was to finish the checksum (Linux: CHECKSUM_PARTIAL), and which arrives unfinished over a
/// virtual link.
#[inline]
pub const fn is_partial(field: u16, pseudo_header_sum: u16) -> bool {
    field == pseudo_header_sum
}

/// The sum of the 32-bit words of an IPv6 address.
const fn words(bits: u128) -> u64 {
    (bits as u32 as u64)
        + ((bits >> 32) as u32 as u64)
        + ((bits >> 64) as u32 as u64)
        + ((bits >> 96) as u32 as u64)
}

/// Folds a sum of words of any width to 16 bits, end-around carry included.
const fn fold(sum: u64) -> u16 {
    let sum = (sum >> 32) + (sum & 0xffff_ffff);
    let sum = (sum >> 32) + (sum & 0xffff_ffff);
    let sum = (sum >> 16) + (sum & 0xffff);
    ((sum >> 16) + (sum & 0xffff)) as u16
}

/// The sum of `bytes` as 32-bit words in the machine's order, zeros added to the last.
fn portable(bytes: &[u8]) -> u64 {
    let (quads, rest) = bytes.as_chunks::<16>();
    let mut lanes = [0u64; 4];
    for quad in quads {
        let (words, _) = quad.as_chunks::<4>();
        for (lane, word) in lanes.iter_mut().zip(words) {
            *lane += u64::from(u32::from_ne_bytes(*word));
        }
    }
    let (words, rest) = rest.as_chunks::<4>();
    let mut last = [0; 4];
    last[..rest.len()].copy_from_slice(rest);
    let tail = words.iter().chain([&last]).map(|word| u64::from(u32::from_ne_bytes(*word))).sum::<u64>();
    lanes.iter().sum::<u64>() + tail
}
